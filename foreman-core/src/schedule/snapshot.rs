//! One view of the fleet: rows of what the rules need, and what is reserved on each.

use std::collections::{BTreeMap, BTreeSet};

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
}

/// What one task in flight holds on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The task.
    pub task: Key,
    /// Memory, in GiB.
    pub ram_gb: i32,
}

/// The fleet at one moment. Sorted, so that equal inputs give equal decisions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    nodes: BTreeMap<NodeName, NodeRow>,
    reserved: BTreeMap<NodeName, BTreeMap<Uid, Reservation>>,
    avoided: BTreeSet<(Uid, NodeName)>,
}

impl Snapshot {
    /// A snapshot of these nodes, with nothing reserved.
    pub fn new(nodes: impl IntoIterator<Item = NodeRow>) -> Self {
        Self {
            nodes: nodes.into_iter().map(|row| (row.name.clone(), row)).collect(),
            ..Self::default()
        }
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.nodes.values()
    }

    /// Takes room on a node for a task.
    pub fn reserve(&mut self, node: &NodeName, uid: Uid, reservation: Reservation) {
        self.reserved.entry(node.clone()).or_default().insert(uid, reservation);
    }

    /// Gives a task's room back.
    pub fn release(&mut self, node: &NodeName, uid: &Uid) {
        if let Some(reserved) = self.reserved.get_mut(node) {
            reserved.remove(uid);
        }
    }

    /// Keeps a task away from a node.
    pub fn avoid(&mut self, uid: Uid, node: NodeName) {
        self.avoided.insert((uid, node));
    }

    /// Whether a task is kept away from a node.
    pub fn is_avoided(&self, uid: &Uid, node: &NodeName) -> bool {
        !self.avoided.is_empty() && self.avoided.contains(&(uid.clone(), node.clone()))
    }

    /// What is reserved on a node, by task uid.
    pub fn reservations(&self, node: &NodeName) -> impl Iterator<Item = (&Uid, &Reservation)> {
        self.reserved.get(node).into_iter().flatten()
    }

    /// Slots in use on a node, without the task `but`.
    pub fn slots_used(&self, node: &NodeName, but: &Uid) -> usize {
        self.reservations(node).filter(|(uid, _)| *uid != but).count()
    }
}

/// The reservation that a task in flight holds, with the memory that it needs.
pub fn reservation_of(task: &Object<AgenticTask>, ram_gb: i32) -> Option<(NodeName, Reservation)> {
    let in_flight = task.status.known_phase().is_some_and(crate::model::TaskPhase::is_in_flight);
    let node = task.status.assigned_node.as_deref().filter(|_| in_flight)?;
    let node = NodeName::parse(node).ok()?;
    Some((node, Reservation { task: task.key(), ram_gb }))
}
