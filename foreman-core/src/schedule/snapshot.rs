//! The fleet at one moment, kept up to date by events: a row for each node with what the rules need,
//! what is reserved on each, and who is kept away. Decisions read the columns, words the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::columns::{Columns, Hot};
use super::fit::{Refusal, Refusals};
use super::need::Need;
use crate::bugs::{self, Bug};
use crate::fleet::liveness::Seen;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::ids::{InvalidName, Key};
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::time::{AwakeTime, WallTime};
use crate::model::{NodeName, Uid};

/// The strict view of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its phase; absent = never beat.
    pub phase: Option<NodePhase>,
    /// Whether its heartbeat is fresh by our own clock.
    pub fresh: bool,
    /// Cordoned, by spec or by a drain.
    pub cordoned: bool,
    /// Whether it refused a placement and was not heard of since: it is asked nothing until then.
    pub refusing: bool,
    /// What people say about the cordon.
    pub note: Option<String>,
    /// Runs at the same time.
    pub slots: usize,
    /// The accelerator.
    pub accelerator: Option<String>,
    /// Memory that all runs together may use, in GiB.
    pub capacity_ram_gb: Option<i32>,
    /// Memory that is free now, in GiB.
    pub available_ram_gb: Option<i32>,
    /// The largest context, in tokens.
    pub context_tokens: i32,
    /// Models that are installed or served there.
    pub models: BTreeSet<String>,
    /// Models that are in memory there.
    pub loaded: BTreeSet<String>,
    /// Speed, in tokens a second.
    pub tokens_per_second: i32,
    /// Namespaces it takes tasks from; empty = all.
    pub namespaces: BTreeSet<String>,
    /// Tasks that its last heartbeat showed.
    pub running: BTreeSet<String>,
}

impl NodeRow {
    /// The row of a node, with what this process saw of its heartbeat.
    ///
    /// # Errors
    /// The object's name is no node name.
    pub fn of(
        node: &Object<FleetNode>,
        seen: &Seen,
        wall: WallTime,
        awake: AwakeTime,
    ) -> Result<Self, InvalidName> {
        let (spec, status) = (&node.spec, &node.status);
        let capability = status.capability.clone().unwrap_or_default();
        let ours = status.session.is_some();
        let declared = if ours { spec.slots.unwrap_or(1) } else { 1 };
        let offered = status.capacity.as_ref().and_then(|capacity| capacity.slots);
        let slots = if ours { offered.map_or(declared, |slots| slots.min(declared)) } else { 1 };
        let served = capability.models.iter();
        let loaded = served.clone().filter(|model| model.loaded == Some(true));
        let largest = served.clone().filter_map(|model| model.context_tokens).max().unwrap_or(0);
        let names = |models: Vec<String>| models.into_iter().collect::<BTreeSet<_>>();
        let mut models = names(served.clone().filter_map(|model| model.name.clone()).collect());
        models.extend(capability.installed_models.iter().cloned());
        Ok(Self {
            name: NodeName::parse(&node.meta.name)?,
            labels: node.meta.labels.clone(),
            roles: spec.roles.clone(),
            phase: status.phase.as_ref().map(|p| p.known().unwrap_or(NodePhase::Unknown)),
            fresh: seen.is_fresh(wall, awake),
            cordoned: spec.unschedulable == Some(true) || spec.drain.is_some(),
            refusing: false,
            note: node.meta.annotations.get(crate::model::wellknown::ANNOTATION_NOTE).cloned(),
            slots: usize::try_from(slots).unwrap_or(0),
            accelerator: capability.accelerator.as_ref().map(Open::to_string),
            capacity_ram_gb: status.capacity.as_ref().and_then(|capacity| capacity.ram_gb),
            available_ram_gb: capability.available_ram_gb,
            context_tokens: capability.max_context_tokens.unwrap_or(0).max(largest),
            loaded: loaded.filter_map(|model| model.name.clone()).collect(),
            models,
            tokens_per_second: capability.tokens_per_second.unwrap_or(0),
            namespaces: names(capability.namespaces),
            running: status.runs.iter().filter_map(|run| run.uid.clone()).collect(),
        })
    }

    /// Whether work could go on there by itself: heard of lately, open and not leaving.
    pub fn is_there(&self) -> bool {
        self.fresh && !self.cordoned && self.phase == Some(NodePhase::Ready)
    }
}

/// What one task in flight holds on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The task.
    pub task: Key,
    /// Memory, in GiB.
    pub ram_gb: i32,
}

/// How far a task is kept away from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Avoid {
    /// It goes there only if no other node fits.
    Soft,
    /// It does not go there.
    Hard,
}

/// The fleet at one moment. Sorted, so that equal inputs give equal decisions. Equal snapshots decide
/// equally; what was asked of them before does not count.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By name.
    rows: Vec<Arc<NodeRow>>,
    pub(super) columns: Columns,
    reserved: BTreeMap<NodeName, BTreeMap<Uid, Reservation>>,
    homes: BTreeMap<Uid, NodeName>,
    avoided: BTreeMap<Uid, BTreeMap<NodeName, Avoid>>,
    version: u64,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
            && self.reserved == other.reserved
            && self.avoided == other.avoided
            && self.columns.hot == other.columns.hot
    }
}

impl Snapshot {
    /// A snapshot of these nodes, with nothing reserved.
    pub fn new(nodes: impl IntoIterator<Item = NodeRow>) -> Self {
        // Sorted first: then each is put in at the end.
        let sorted: BTreeMap<_, _> = nodes.into_iter().map(|row| (row.name.clone(), row)).collect();
        let mut snapshot = Self::default();
        for row in sorted.into_values() {
            snapshot.upsert(row);
        }
        snapshot
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.rows.iter().map(|row| &**row)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The node of that name.
    pub fn node(&self, name: &NodeName) -> Option<&NodeRow> {
        self.rows.get(self.at(name)?).map(|row| &**row)
    }

    pub(super) fn at(&self, name: &NodeName) -> Option<usize> {
        self.place_of(name).ok()
    }

    fn place_of(&self, name: &NodeName) -> Result<usize, usize> {
        // Fleets are mostly read in the order of names.
        match self.rows.last() {
            Some(last) if last.name < *name => Err(self.rows.len()),
            Some(_) | None => self.rows.binary_search_by(|row| row.name.cmp(name)),
        }
    }

    pub(super) fn row(&self, at: usize) -> Option<&NodeRow> {
        self.rows.get(at).map(|row| &**row)
    }

    /// Counts the changes: while it stays, every decision stays.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes a node's row; says whether it differs from what was known.
    pub fn upsert(&mut self, row: NodeRow) -> bool {
        let at = match self.place_of(&row.name) {
            Ok(at) => {
                match self.rows.get_mut(at) {
                    Some(known) if **known != row => *known = Arc::new(row),
                    Some(_) | None => return false,
                }
                if let Some(row) = self.rows.get(at) {
                    self.columns.refresh(at, row);
                }
                at
            }
            Err(at) => {
                self.columns.insert(at, &row);
                self.rows.insert(at, Arc::new(row));
                at
            }
        };
        self.count(at);
        true
    }

    /// The node is gone. What is reserved there stays reserved, should it come back.
    pub fn remove(&mut self, node: &NodeName) -> bool {
        let Some(at) = self.at(node) else { return false };
        self.rows.remove(at);
        self.columns.remove(at);
        self.version += 1;
        true
    }

    /// Takes room on a node for a task; a task has room on one node.
    pub fn reserve(&mut self, node: &NodeName, uid: Uid, reservation: Reservation) {
        if let Some(other) = self.homes.insert(uid.clone(), node.clone())
            && other != *node
        {
            self.free(&other, &uid);
        }
        self.reserved.entry(node.clone()).or_default().insert(uid, reservation);
        self.recount(node);
    }

    /// Gives a task's room back; says where it was.
    pub fn release(&mut self, uid: &Uid) -> Option<NodeName> {
        let node = self.homes.remove(uid)?;
        self.free(&node, uid);
        Some(node)
    }

    fn free(&mut self, node: &NodeName, uid: &Uid) {
        if let Some(reserved) = self.reserved.get_mut(node) {
            reserved.remove(uid);
            if reserved.is_empty() {
                self.reserved.remove(node);
            }
        }
        self.recount(node);
    }

    /// Where a task has room, and how much.
    pub fn home(&self, uid: &Uid) -> Option<(&NodeName, &Reservation)> {
        let node = self.homes.get(uid)?;
        Some((node, self.reserved.get(node)?.get(uid)?))
    }

    /// Keeps a task away from a node.
    pub fn avoid(&mut self, uid: Uid, node: NodeName, avoid: Avoid) {
        self.avoided.entry(uid).or_default().insert(node, avoid);
        self.version += 1;
    }

    /// Lets a task go to a node again.
    pub fn forgive(&mut self, uid: &Uid, node: &NodeName) {
        if let Some(avoided) = self.avoided.get_mut(uid) {
            avoided.remove(node);
            if avoided.is_empty() {
                self.avoided.remove(uid);
            }
            self.version += 1;
        }
    }

    /// Which nodes a task is kept away from, by name.
    pub fn avoided(&self, uid: &Uid) -> impl Iterator<Item = (&NodeName, Avoid)> {
        self.avoided.get(uid).into_iter().flatten().map(|(node, avoid)| (node, *avoid))
    }

    /// What is reserved on a node, by task uid.
    pub fn reservations(&self, node: &NodeName) -> impl Iterator<Item = (&Uid, &Reservation)> {
        self.reserved.get(node).into_iter().flatten()
    }

    /// Slots in use on a node, without the task `but`.
    pub fn slots_used(&self, node: &NodeName, but: &Uid) -> usize {
        self.reservations(node).filter(|(uid, _)| *uid != but).count()
    }

    /// Makes the words of a need into bits, so that no later decision for it compares words.
    pub fn learn(&mut self, need: &Need) {
        let new = need.atoms().filter(|(atom, _)| self.columns.bit(*atom).is_none()).count();
        if new == 0 {
            return;
        }
        // All of a need's atoms stay known together.
        if !self.columns.has_room(new) {
            self.columns.forget_atoms();
        }
        for (atom, _) in need.atoms() {
            self.columns.learn(atom, self.rows.iter().map(|row| &**row));
        }
    }

    fn recount(&mut self, node: &NodeName) {
        if let Some(at) = self.at(node) {
            self.count(at);
        }
    }

    fn count(&mut self, at: usize) {
        self.version += 1;
        if let Some(row) = self.rows.get(at) {
            let hot = self.numbers(row, None);
            if let Some(known) = self.columns.hot.get_mut(at) {
                *known = hot;
            }
        }
    }

    /// A node's numbers; `but` is a task whose own room does not count.
    pub(super) fn numbers(&self, row: &NodeRow, but: Option<&Uid>) -> Hot {
        let (mut used, mut reserved, mut unseen) = (0_usize, 0_i64, 0_i64);
        for (uid, held) in self.reservations(&row.name).filter(|(uid, _)| Some(*uid) != but) {
            used += 1;
            let ram_gb = if bugs::on(Bug::MemoryNotReserved) { 0 } else { held.ram_gb };
            reserved += i64::from(ram_gb);
            if ram_gb > 0 && !row.running.contains(uid.as_str()) {
                unseen += i64::from(ram_gb);
            }
        }
        let mut base = Refusals::default();
        let slots = row.slots + usize::from(bugs::on(Bug::SchedulerSlotOffByOne));
        base.refuse_if(row.slots == 0, Refusal::NoSlots);
        base.refuse_if(row.slots > 0 && used >= slots, Refusal::SlotsFull);
        base.refuse_if(row.refusing, Refusal::Avoided);
        base.refuse_if(row.cordoned, Refusal::Cordoned);
        base.refuse_if(row.phase == Some(NodePhase::Draining), Refusal::Draining);
        base.refuse_if(row.phase == Some(NodePhase::Unknown), Refusal::Recovering);
        let silent = !row.fresh || matches!(row.phase, None | Some(NodePhase::NotReady));
        base.refuse_if(silent, Refusal::Stale);
        let available = row.available_ram_gb.unwrap_or(0);
        let (memory_gb, free_gb) = match row.capacity_ram_gb {
            None => (available, available),
            Some(capacity) => {
                let left = i64::from(capacity) - reserved;
                let left = left.min(i64::from(available) - unseen).max(0);
                (capacity, i32::try_from(left).unwrap_or(i32::MAX))
            }
        };
        let load = used.saturating_mul(1000) / row.slots.max(1);
        Hot {
            base,
            memory_gb,
            free_gb,
            context_tokens: row.context_tokens,
            speed: u32::try_from(row.tokens_per_second).unwrap_or(0),
            load_permille: u32::try_from(load).unwrap_or(u32::MAX),
        }
    }
}

/// The reservation that a task in flight holds, with the memory that it needs.
pub fn reservation_of(task: &Object<AgenticTask>, ram_gb: i32) -> Option<(NodeName, Reservation)> {
    let in_flight = task.status.known_phase().is_some_and(crate::model::TaskPhase::is_in_flight);
    let node = task.status.assigned_node.as_deref().filter(|_| in_flight)?;
    let node = NodeName::parse(node).ok()?;
    Some((node, Reservation { task: task.key(), ram_gb }))
}
