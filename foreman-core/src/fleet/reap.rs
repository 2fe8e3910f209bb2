//! Nodes that nobody will speak for again: when their objects are deleted, and when a drain is over.
//!
//! A person's machine that is off overnight keeps its object, labels, slots and cordon. What is
//! deleted is what left on purpose, or what a cluster started and will start anew under another name.

use std::time::Duration;

use super::liveness::Seen;
use crate::model::condition::{ConditionStatus, find_condition};
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::object::Object;
use crate::model::time::{AwakeTime, WallTime};
use crate::model::wellknown::LABEL_IN_CLUSTER;
use crate::timing::{DRAIN_REAP, NOT_READY_REAP};

/// Why a node's object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It drained, and nothing was heard of it since.
    Drained,
    /// Its pod is gone for good.
    PodLost,
}

impl Gone {
    /// Why, for a person.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Drained => {
                let minutes = DRAIN_REAP.as_secs() / 60;
                format!("it was draining, and nothing was heard of it for {minutes} minutes")
            }
            Self::PodLost => {
                let hours = NOT_READY_REAP.as_secs() / 3600;
                format!("nothing was heard of its pod for {hours} hours, and it holds no task")
            }
        }
    }
}

fn is_in_cluster(node: &Object<FleetNode>) -> bool {
    node.meta.labels.get(LABEL_IN_CLUSTER).is_some_and(|value| value == "true")
}

fn shows(node: &Object<FleetNode>, phase: NodePhase) -> bool {
    node.status.phase.as_ref().is_some_and(|shown| shown.is(phase))
}

/// Whether it said goodbye. A node of ours that people drain shows the same phase while it lives, and
/// with its object their order would go.
fn said_goodbye(node: &Object<FleetNode>) -> bool {
    let by_order = node.status.session.is_some() && node.spec.drain.is_some();
    shows(node, NodePhase::Draining) && !by_order
}

/// Whether it left a cluster without a goodbye, once it is silent: it is shown `NotReady`, or still as
/// it was drained.
fn may_be_lost(node: &Object<FleetNode>) -> bool {
    is_in_cluster(node) && (shows(node, NodePhase::NotReady) || shows(node, NodePhase::Draining))
}

/// How long a node that is silent for so long has been `NotReady`, as its condition tells.
fn not_ready_for(node: &Object<FleetNode>, silence: Duration, wall: WallTime) -> Duration {
    let since = find_condition(&node.status.conditions, "Ready")
        .filter(|ready| ready.status.is(ConditionStatus::False))
        .map(|ready| wall.since(ready.last_transition_time));
    silence.min(since.unwrap_or(silence))
}

/// Whether a node's object is to be deleted. `holds_tasks` says whether a task is assigned to it.
pub(crate) fn gone(
    node: &Object<FleetNode>,
    seen: &Seen,
    holds_tasks: bool,
    wall: WallTime,
    awake: AwakeTime,
) -> Option<Gone> {
    let in_cluster = is_in_cluster(node);
    if holds_tasks || node.meta.deletion_timestamp.is_some() {
        return None;
    }
    let created = node.meta.creation_timestamp.map(|at| wall.since(at));
    // One that never beat is as silent as it is old.
    let silence = seen.silence_or_age(wall, awake).or(created)?;
    let leaves = node.status.session.is_none() || in_cluster;
    if leaves && said_goodbye(node) && silence > DRAIN_REAP {
        return Some(Gone::Drained);
    }
    let long = not_ready_for(node, silence, wall) > NOT_READY_REAP;
    let silent = !seen.is_fresh(wall, awake);
    (may_be_lost(node) && long && silent).then_some(Gone::PodLost)
}

/// How long a node that is silent now may stay so before [`gone`] may say something else; absent for
/// nodes that are never deleted.
pub(crate) fn looked_at_again_in(
    node: &Object<FleetNode>,
    seen: &Seen,
    wall: WallTime,
    awake: AwakeTime,
) -> Option<Duration> {
    let created = node.meta.creation_timestamp.map(|at| wall.since(at));
    let silence = seen.silence_or_age(wall, awake).or(created)?;
    let leaves = node.status.session.is_none() || is_in_cluster(node);
    let (passed, limit) = if said_goodbye(node) {
        (silence, leaves.then_some(DRAIN_REAP)?)
    } else {
        (not_ready_for(node, silence, wall), may_be_lost(node).then_some(NOT_READY_REAP)?)
    };
    let left = limit.saturating_sub(passed);
    // "More than", in whole seconds.
    (passed <= limit).then_some(left + Duration::from_secs(1))
}

/// Whether a drain is over: nothing runs there and nothing is assigned to it. A node that is dead runs
/// nothing, whatever its last heartbeat said. Absent = nobody drains it.
pub(crate) fn is_drained(node: &Object<FleetNode>, holds_tasks: bool, dead: bool) -> Option<bool> {
    let asked = node.spec.drain.is_some() || shows(node, NodePhase::Draining);
    let runs = !node.status.runs.is_empty() && !dead;
    asked.then_some(!holds_tasks && !runs)
}

#[cfg(test)]
#[path = "reap_tests.rs"]
mod tests;
