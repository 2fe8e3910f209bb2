//! What the reconciler remembers so that tasks find room: the fleet, fed by what changed, and which
//! tasks are to be looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use super::election::Moment;
use super::memory::Memory;
use super::reconciler::World;
use super::resuming::Resuming;
use super::watchlist::{Alarms, Watchlist, agent_key, workload_key};
use super::write::Write;
use crate::fleet::liveness::Seen;
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::ids::{Key, Revision};
use crate::model::object::Object;
use crate::model::time::{AwakeTime, WallTime};
use crate::model::{NodeName, Uid};
use crate::schedule::fleet::Fleet;
use crate::schedule::need::Need;
use crate::schedule::snapshot::{NodeRow, Reservation, Snapshot, reservation_of};
use crate::task::intake;
use crate::timing::LATE_WRITE;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) fleet: Fleet,
    pub(super) watchlist: Watchlist,
    /// Placements whose write is under way.
    pub(super) placing: BTreeMap<Key, Placing>,
    /// When nodes stop being fresh if nothing more is heard of them.
    node_alarms: Alarms,
    /// Every node's freshness is to be looked at again.
    pub(super) recheck_nodes: bool,
    /// Nodes that refused a placement, and their last heartbeat then.
    refusing: BTreeMap<Key, Option<WallTime>>,
    /// Runs that wait for the machine that holds their journal.
    pub(super) resuming: Resuming,
    /// The last turn that a heartbeat showed of a run that has not ended, and where.
    pub(super) shown: BTreeMap<Uid, (NodeName, i64)>,
    /// Tokens that a task's last placement might bring it to.
    pub(super) ceilings: BTreeMap<Uid, i64>,
}

impl Room {
    /// A node refused a placement: it gets no other until it is heard of again.
    pub(super) fn refused(&mut self, node: Key, heartbeat: Option<WallTime>, now: AwakeTime) {
        self.node_alarms.set(&node, now);
        self.refusing.insert(node, heartbeat);
    }

    /// Whether a node refused a placement and was not asked again since.
    pub(super) fn is_refusing(&self, node: &Key) -> bool {
        self.refusing.contains_key(node)
    }

    /// When something is to be looked at although nothing changed.
    pub(super) fn next_alarm(&self) -> Option<AwakeTime> {
        [self.node_alarms.next(), self.watchlist.alarms.next()].into_iter().flatten().min()
    }
}

/// A placement whose write is under way, or was and may still be done.
#[derive(Debug)]
pub(super) struct Placing {
    pub(super) uid: Uid,
    pub(super) node: NodeName,
    /// What its Workload left it, and what it may spend of that.
    pub(super) share: Option<i64>,
    pub(super) allowance: Option<i64>,
    /// The version of the task that the write was for: once that moved, the write can do nothing.
    pub(super) revision: Revision,
    /// Nobody said what became of the write: until when it may still be done.
    pub(super) doubted_until: Option<AwakeTime>,
}

impl Memory {
    /// Takes what changed since the last time.
    pub(super) fn follow(&mut self, world: &mut World, now: Moment) {
        let agents = world.agents.take_changed();
        let workloads = world.workloads.take_changed();
        let mut tasks = world.tasks.take_changed();
        let nodes = world.nodes.take_changed();
        let world = &*world;
        for agent in agents {
            tasks.extend(self.room.watchlist.of_agent(&agent));
            self.room.fleet.agent_changed(&agent);
        }
        for workload in workloads {
            self.workload_changed(&workload);
        }
        for key in tasks {
            self.task_changed(world, &key);
        }
        for key in nodes {
            self.node_changed(world, &key, now);
        }
        if std::mem::take(&mut self.room.recheck_nodes) {
            for key in world.nodes.objects.keys() {
                self.look_at_node(world, key, now);
            }
        }
        while let Some(key) = self.room.node_alarms.pop(now.awake) {
            self.look_at_node(world, &key, now);
        }
    }

    fn node_changed(&mut self, world: &World, key: &Key, now: Moment) {
        let Some(node) = world.nodes.objects.get(key) else {
            self.seen.remove(key);
            self.room.node_alarms.clear(key);
            self.room.refusing.remove(key);
            if let Ok(name) = NodeName::parse(&key.name)
                && self.room.fleet.node_gone(&name)
            {
                self.node_differs(&name);
            }
            return;
        };
        let first = Seen::first(node.status.last_heartbeat_time, now.awake);
        self.seen.entry(key.clone()).or_insert(first).look(node, now.wall, now.awake);
        if let Ok(name) = NodeName::parse(&key.name) {
            for run in &node.status.runs {
                let (Some(uid), Some(turn)) = (run.uid.as_deref(), run.turn) else { continue };
                let uid = Uid::new(uid);
                if turn >= 1 && self.room.watchlist.key_of(&uid).is_some() {
                    self.room.shown.insert(uid, (name.clone(), turn));
                }
            }
        }
        self.look_at_node(world, key, now);
    }

    fn look_at_node(&mut self, world: &World, key: &Key, now: Moment) {
        let Some(node) = world.nodes.objects.get(key) else { return };
        let first = Seen::first(node.status.last_heartbeat_time, now.awake);
        let seen = self.seen.get(key).unwrap_or(&first);
        let fresh_until = seen.fresh_until(now.wall, now.awake);
        self.room.node_alarms.clear(key);
        if let Some(at) = fresh_until {
            // A record's age is in whole seconds, so look a second later.
            self.room.node_alarms.set(key, at + Duration::from_secs(1));
        }
        match NodeRow::of(node, seen, now.wall, now.awake) {
            Ok(mut row) => {
                let then = self.room.refusing.get(key);
                row.refusing = then == Some(&node.status.last_heartbeat_time);
                if !row.refusing {
                    self.room.refusing.remove(key);
                }
                let name = row.name.clone();
                if self.room.fleet.node_changed(row) {
                    self.node_differs(&name);
                }
            }
            Err(error) => {
                tracing::warn!(node = node.meta.name, %error, "a FleetNode is left out");
            }
        }
    }

    fn node_differs(&mut self, node: &NodeName) {
        for uid in self.room.resuming.take_waiting_for(node) {
            if let Some(key) = self.room.watchlist.key_of(&uid).cloned() {
                self.room.watchlist.touch(&key);
            }
        }
    }

    /// What a Workload may spend changed, or what its tasks spent.
    fn workload_changed(&mut self, workload: &Key) {
        self.room.fleet.workload_changed(workload);
        for key in self.room.watchlist.of_workload(workload) {
            self.room.watchlist.touch(&key);
        }
    }

    fn task_changed(&mut self, world: &World, key: &Key) {
        let task = world.tasks.objects.get(key);
        self.claims.task_changed(key, task);
        if task.is_none() && world.tasks.unreadable.contains(key) {
            // Nothing is known of it; whoever runs it runs it still, so it keeps its room.
            self.room.fleet.leave(key);
            return;
        }
        let room = &mut self.room;
        if let Some(gone) = room.watchlist.task_changed(key, task) {
            room.fleet.let_go(&gone);
            room.resuming.forget(&gone);
            room.shown.remove(&gone);
            room.ceilings.remove(&gone);
            room.placing.remove(key);
            self.told.remove(&gone);
        }
        let Some(task) = task else {
            self.room.fleet.leave(key);
            return;
        };
        let phase = task.status.known_phase();
        let uid = &task.meta.uid;
        if !matches!(phase, None | Some(TaskPhase::Pending)) {
            self.room.fleet.leave(key);
        }
        if phase.is_some_and(TaskPhase::is_in_flight) {
            if self.room.placing.get(key).is_some_and(|placing| placing.doubted_until.is_some()) {
                self.room.placing.remove(key);
            }
            let agent = agent_key(task);
            let held = held(world, task, self.room.fleet.snapshot());
            self.room.fleet.hold(uid, agent.as_ref(), held);
        } else {
            let moved = |placing: &Placing| placing.revision != *task.revision();
            let doubted = |placing: &Placing| placing.doubted_until.is_some();
            if self.room.placing.get(key).is_none_or(|known| doubted(known) && moved(known)) {
                self.room.placing.remove(key);
                self.room.fleet.let_go(uid);
            }
        }
        if let Some(workload) = workload_key(task) {
            self.budget_moved(world, &workload);
        }
    }

    /// A task of a Workload changed, and with it perhaps what the Workload has left.
    fn budget_moved(&mut self, world: &World, workload: &Key) {
        let budget = world.workloads.objects.get(workload).map(|known| &known.spec.budget);
        if budget.is_some_and(Option::is_some) {
            self.workload_changed(workload);
        }
    }

    /// The answer to a write of a task came. A placement of which nobody said what became keeps its
    /// room: the store may do it yet, as long as nobody else wrote the task.
    pub(super) fn task_answered(&mut self, task: &Key, unanswered: bool, now: AwakeTime) {
        let Some(placing) = self.room.placing.get_mut(task) else { return };
        if unanswered {
            placing.doubted_until = Some(now + LATE_WRITE);
        } else if placing.doubted_until.is_none() {
            self.room.placing.remove(task);
        }
    }

    /// Lets the room of a placement go that can not be done any more; tells when that will be.
    pub(super) fn doubt(&mut self, task: &Key, now: AwakeTime) {
        let Some(until) = self.room.placing.get(task).and_then(|it| it.doubted_until) else {
            return;
        };
        if until > now {
            self.room.watchlist.alarms.set(task, until);
        } else if let Some(placing) = self.room.placing.remove(task) {
            self.room.fleet.let_go(&placing.uid);
        }
    }

    /// A write was decided and is not sent: it is decided again.
    pub(super) fn not_sent(&mut self, write: &Write) {
        let Some(task) = write.task() else { return };
        let in_doubt = |placing: &Placing| placing.doubted_until.is_some();
        if !self.room.placing.get(task).is_some_and(in_doubt)
            && let Some(placing) = self.room.placing.remove(task)
        {
            self.room.fleet.let_go(&placing.uid);
        }
        if let Some(uid) = self.room.watchlist.uid_of(task) {
            self.told.remove(uid);
        }
        self.room.watchlist.touch(task);
    }
}

/// The room that a task in flight holds: what it was placed with or what it would ask for now, whichever
/// is more, until it leaves the node. An Agent that is edited or deleted after the placement makes no run
/// smaller. Nobody writes the number down: a new leader knows only the Agent as it is, and beside that
/// what the node says is free.
fn held(
    world: &World,
    task: &Object<AgenticTask>,
    known: &Snapshot,
) -> Option<(NodeName, Reservation)> {
    let agent = intake::agent_of(task, &world.agents.objects);
    let now = Need::ram_gb_of(task, agent.map(|agent| &agent.spec));
    let (node, mut reservation) = reservation_of(task, now)?;
    if let Some((home, before)) = known.home(&task.meta.uid)
        && *home == node
    {
        reservation.ram_gb = reservation.ram_gb.max(before.ram_gb);
    }
    Some((node, reservation))
}
