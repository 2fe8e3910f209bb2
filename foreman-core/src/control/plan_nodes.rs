//! From what is known of the nodes to the writes that are due: who is alive, who is gone, what each
//! works on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::confirm::{Confirm, Shows};
use super::election::Moment;
use super::memory::Memory;
use super::reconciler::World;
use super::write::{Rank, Urgency, Write};
use crate::fleet::current_task::current_task;
use crate::fleet::liveness::{Assessment, Seen, assess};
use crate::fleet::reap;
use crate::model::agentic_task::AgenticTask;
use crate::model::condition::{Condition, ConditionStatus, find_condition, is_true, set_condition};
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::time::{AwakeTime, BootTime, WallTime};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Change, Part};
use crate::timing::{CLOCK_SKEW, SLEPT, STORE_RETRY_MIN};

/// What was seen of the nodes beside their heartbeats.
#[derive(Debug, Default)]
pub(super) struct NodesMemory {
    /// Whether the watch of the nodes is broken or not yet complete.
    deaf: bool,
    /// Whether a node could not be read, and nothing was heard of the store since.
    unread: bool,
    /// How far `boot` was ahead of `awake` when last looked at.
    slept: Option<Duration>,
    /// Nodes of which a fresh read showed something else than the mirror, and until when nothing is
    /// decided about them.
    doubted: BTreeMap<Key, AwakeTime>,
}

impl NodesMemory {
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }

    pub(super) fn set_unread(&mut self, unread: bool) {
        self.unread = unread;
    }

    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// How long the machine slept since this was last asked; absent = not at all.
    pub(super) fn slept(&mut self, awake: AwakeTime, boot: BootTime) -> Option<Duration> {
        let ahead = boot.since_origin().saturating_sub(awake.since_origin());
        let before = self.slept.replace(ahead);
        before.map(|before| ahead.saturating_sub(before)).filter(|slept| *slept > SLEPT)
    }

    /// Forgets doubts that are over.
    pub(super) fn refresh(&mut self, now: AwakeTime) {
        self.doubted.retain(|_, until| *until > now);
    }

    /// A fresh read of that node did not show what a decision rested on.
    pub(super) fn doubts(&mut self, node: Key, now: AwakeTime) {
        self.doubted.insert(node, now + STORE_RETRY_MIN);
    }

    /// Until when nothing is decided about a node.
    pub(super) fn doubted_until(&self, node: &Key) -> Option<AwakeTime> {
        self.doubted.get(node).copied()
    }
}

/// The writes that nodes need now, and when to look again although nothing changed.
pub(super) fn plan(
    world: &World,
    memory: &mut Memory,
    now: Moment,
) -> (Vec<Write>, Option<AwakeTime>) {
    let Moment { wall, awake, boot: _ } = now;
    let mut writes = Vec::new();
    let mut look_again: Vec<AwakeTime> = Vec::new();
    for (key, node) in &world.nodes.objects {
        let Some(seen) = memory.seen.get(key) else { continue };
        look_again.extend(seen.judged_again_at(wall, awake));
        let reaped = reap::looked_at_again_in(node, seen, wall, awake);
        look_again.extend(reaped.map(|pause| awake + pause));
        if let Some(until) = memory.nodes.doubted_until(key) {
            look_again.push(until);
            continue;
        }
        if node.meta.deletion_timestamp.is_some() || !world.nodes.is_free(key) {
            continue;
        }
        let here = memory.claims.on(world, &node.meta.name);
        let judged = Judged { node, seen, here, wall, awake };
        writes.extend(judged.next());
    }
    (writes, look_again.into_iter().min())
}

/// Whether something is to be said of a node, or suspected of its claims, although its heartbeat told
/// nothing new.
pub(super) fn has_news(world: &World, memory: &Memory, key: &Key, now: Moment) -> bool {
    let Moment { wall, awake, boot: _ } = now;
    let (Some(node), Some(seen)) = (world.nodes.objects.get(key), memory.seen.get(key)) else {
        return true;
    };
    if memory.room.is_refusing(key)
        || memory.nodes.is_deaf()
        || memory.nodes.doubted_until(key).is_some()
    {
        return true;
    }
    let here = memory.claims.on(world, &node.meta.name);
    // A claim that its holder does not show: its heartbeats are counted.
    let unshown = here.iter().any(|task| {
        let uid = task.meta.uid.as_str();
        !node.status.runs.iter().any(|run| run.uid.as_deref() == Some(uid))
    });
    let judged = Judged { node, seen, here, wall, awake };
    unshown || judged.next().is_some()
}

/// One node with all that is known of it.
struct Judged<'a> {
    node: &'a Object<FleetNode>,
    seen: &'a Seen,
    /// The tasks in flight that are assigned to it.
    here: Vec<&'a Object<AgenticTask>>,
    wall: WallTime,
    awake: AwakeTime,
}

impl Judged<'_> {
    fn event(&self, severity: EventKind, reason: &'static str, message: String) -> Event {
        Event { kind: FleetNode::NAMES.kind, key: self.node.key(), severity, reason, message }
    }

    /// The one write that is due.
    fn next(&self) -> Option<Write> {
        self.deletion().or_else(|| self.status()).or_else(|| self.current_of_ours())
    }

    /// What a node of ours works on. No rule reads it, so it may be late.
    fn current_of_ours(&self) -> Option<Write> {
        let node = self.node;
        node.status.session.as_ref()?;
        let change = self.current(Change::of(Part::Status));
        (!change.is_empty()).then(|| Write::Node {
            key: node.key(),
            revision: node.revision().clone(),
            change,
            event: None,
            urgency: Urgency::Lane(Rank::CurrentTask),
        })
    }

    fn current(&self, change: Change<FleetNode>) -> Change<FleetNode> {
        let shown = self.node.status.current_task.as_deref();
        let current = current_task(shown, self.here.iter().copied());
        match current {
            Some(current) if Some(&*current) != shown => change.set("currentTask", current),
            None if shown.is_some() => change.clear("currentTask"),
            Some(_) | None => change,
        }
    }

    /// The deletion of a node that nobody will speak for again.
    fn deletion(&self) -> Option<Write> {
        let holds_tasks = !self.here.is_empty();
        let gone = reap::gone(self.node, self.seen, holds_tasks, self.wall, self.awake)?;
        let message = gone.message();
        Some(Write::DeleteNode {
            key: self.node.key(),
            uid: self.node.meta.uid.clone(),
            revision: self.node.revision().clone(),
            event: Some(self.event(EventKind::Normal, "NodeDeleted", message)),
        })
    }

    /// The change of its status.
    fn status(&self) -> Option<Write> {
        let node = self.node;
        let assessment = assess(node, self.seen, self.wall, self.awake);
        let mut change = Change::of(Part::Status);
        if let Some(phase) = assessment.phase {
            change = change.set("phase", phase);
        }
        let conditions = self.conditions(assessment);
        if conditions != node.status.conditions {
            change = change.set("conditions", &conditions);
        }
        if node.status.session.is_none() {
            change = self.current(change);
        }
        if change.is_empty() {
            return None;
        }
        let write = Write::Node {
            key: node.key(),
            revision: node.revision().clone(),
            change,
            event: assessment.phase.map(|phase| self.said(phase)),
            urgency: Urgency::Now,
        };
        // Who is said to be silent is asked once more.
        let silent = assessment.phase == Some(NodePhase::NotReady)
            || (assessment.ready == Some(ConditionStatus::False)
                && is_true(&node.status.conditions, "Ready"));
        if !silent {
            return Some(write);
        }
        let confirm = Confirm::new(node.key(), Shows::silence_of(node));
        Some(Write::Confirmed { confirm, then: Box::new(write) })
    }

    fn said(&self, phase: NodePhase) -> Event {
        if phase == NodePhase::NotReady {
            let message = match self.node.status.last_heartbeat_time {
                Some(last) => format!("no heartbeat since {last}"),
                None => "it never sent a heartbeat".to_owned(),
            };
            return self.event(EventKind::Warning, "NodeNotReady", message);
        }
        self.event(EventKind::Normal, "NodeReady", "its heartbeat is fresh".to_owned())
    }

    fn conditions(&self, assessment: Assessment) -> Vec<Condition> {
        let mut conditions = self.node.status.conditions.clone();
        let mut set = |kind: &str, status: ConditionStatus, reason: &str, message: &str| {
            set_condition(&mut conditions, kind, status, reason, message, self.wall);
        };
        let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
        match assessment.ready {
            Some(ConditionStatus::True) => set("Ready", yes, "HeartbeatFresh", "it is heard of"),
            Some(ConditionStatus::False | ConditionStatus::Unknown) => {
                set("Ready", no, "HeartbeatStale", "nothing is heard of it");
            }
            None => {}
        }
        let before = &self.node.status.conditions;
        let seconds = CLOCK_SKEW.as_secs();
        match assessment.skewed {
            Some(true) => {
                let message = format!("its clock differs from ours by more than {seconds} s");
                set("ClockSkew", yes, "ClockDiffers", &message);
            }
            Some(false) if is_true(before, "ClockSkew") => {
                set("ClockSkew", no, "ClockAgrees", &format!("it differs by {seconds} s at most"));
            }
            Some(false) | None => {}
        }
        match reap::is_drained(self.node, !self.here.is_empty(), assessment.dead) {
            Some(true) => set("Drained", yes, "NothingRuns", "nothing runs or is assigned here"),
            Some(false) if find_condition(before, "Drained").is_some() => {
                set("Drained", no, "TasksLeft", "tasks are still here");
            }
            None if is_true(before, "Drained") => {
                set("Drained", no, "NotDraining", "nobody drains it any more");
            }
            Some(false) | None => {}
        }
        conditions
    }
}
