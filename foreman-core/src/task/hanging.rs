//! Claims that hang: what is to become of a task in flight, by what is known of its holder.
//!
//! A claim is lost when its node is dead or gone, when another life speaks for the node, or when a
//! healthy node of ours no longer runs it. A holder that is alive keeps its claim, however slow it is,
//! until the task's own limits say otherwise.

use std::time::Duration;

use super::attempts;
use super::intake::cancelled;
use super::writes::OperatorEnd;
use crate::fleet::liveness::Assessment;
use crate::model::agentic_task::{AgenticTask, AttemptEnd, TaskPhase};
use crate::model::fleet_node::FleetNode;
use crate::model::object::Object;
use crate::model::outcome::{FailureReason, Infrastructure, Verification};
use crate::model::time::WallTime;
use crate::timing::{
    CANCEL_GRACE, MISSING_BEATS, MISSING_KNOWN, NODE_DEAD, SESSION_GONE, STUCK, TIMEOUT_GRACE,
    UNCLAIMED,
};

/// What is known of the node that a task is assigned to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder<'a> {
    /// It is there.
    There {
        /// The node.
        node: &'a Object<FleetNode>,
        /// What is to be said of it.
        says: Assessment,
    },
    /// There is no such node.
    Absent {
        /// For how long, as this process observed.
        silence: Duration,
        /// Whether it had a session when it was last seen, or the task has.
        ours: bool,
    },
}

/// What this process observed of a claim: ages on its own awake clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// How long the claim or placement is known.
    pub(crate) known_for: Duration,
    /// How long its node has been healthy since it is known.
    pub(crate) healthy_for: Duration,
    /// How long another session than the claim's speaks for the node.
    pub(crate) other_session_for: Option<Duration>,
    /// Heartbeats after the claim that did not show the run, in a row.
    pub(crate) missing_beats: u32,
    /// How long the run did not move.
    pub(crate) still_for: Duration,
    /// How long it is known that the task is to be cancelled.
    pub(crate) cancelled_for: Option<Duration>,
}

/// Why a claim is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    /// How the claim ended.
    pub(crate) ended: AttemptEnd,
    /// What happened, for a person.
    pub(crate) message: String,
}

/// What is to become of a task in flight.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    /// It goes on.
    GoesOn,
    /// Its claim or placement is lost: that is a strike, and it goes back.
    Lost(Loss),
    /// Its holder is lost, and it is not to be tried again.
    LostAndEnds(Loss, OperatorEnd),
    /// Its healthy node does not claim it: it goes back, without a strike.
    Unclaimed(String),
    /// It ends, although its holder may be alive.
    Ends(OperatorEnd),
    /// It goes on and does not move.
    Stuck,
}

/// What is to become of a task in flight.
pub(crate) fn judge(
    task: &Object<AgenticTask>,
    holder: Holder<'_>,
    observed: Observed,
    now: WallTime,
) -> Finding {
    let running = task.status.known_phase() != Some(TaskPhase::Scheduled);
    if let Some(end) = over_its_time(task, holder, observed, now).filter(|_| running) {
        return Finding::Ends(end);
    }
    let loss = lost_node(holder).or_else(|| other_life(holder, observed).filter(|_| running));
    if let Some(loss) = loss {
        return match observed.cancelled_for {
            Some(_) => Finding::LostAndEnds(loss, cancelled("cancelled; its holder is gone")),
            None => Finding::Lost(loss),
        };
    }
    if running && observed.cancelled_for.is_some_and(|age| age >= CANCEL_GRACE) {
        return Finding::Ends(cancelled("cancelled; its holder did not end it"));
    }
    let Holder::There { node, says } = holder else {
        return Finding::GoesOn;
    };
    if !is_healthy(node, says) {
        return Finding::GoesOn;
    }
    let name = &node.meta.name;
    if !running {
        let message = || format!("node {name} did not claim it within {} s", UNCLAIMED.as_secs());
        return if observed.healthy_for >= UNCLAIMED {
            Finding::Unclaimed(message())
        } else {
            Finding::GoesOn
        };
    }
    // Whatever the clocks say: what was heard late, or is read now, may be older than the claim.
    if observed.missing_beats >= MISSING_BEATS && observed.known_for >= MISSING_KNOWN {
        let message = format!("node {name} is alive and no longer runs it");
        let loss = Loss { ended: AttemptEnd::Missing, message };
        return Finding::Lost(loss);
    }
    if observed.still_for >= STUCK { Finding::Stuck } else { Finding::GoesOn }
}

/// Whether a node of ours is up, ready and heard of.
pub(crate) fn is_healthy(node: &Object<FleetNode>, says: Assessment) -> bool {
    node.status.session.is_some() && says.placeable && !says.dead && !says.recovering
}

fn lost_node(holder: Holder<'_>) -> Option<Loss> {
    let message = match holder {
        Holder::There { node, says } => {
            let name = &node.meta.name;
            says.dead.then(|| match node.status.last_heartbeat_time {
                Some(last) => format!("node {name} sent no heartbeat since {last}"),
                None => format!("node {name} never sent a heartbeat"),
            })?
        }
        Holder::Absent { silence, ours } => {
            let gone = !ours || silence > NODE_DEAD;
            gone.then(|| "its node is gone".to_owned())?
        }
    };
    Some(Loss { ended: AttemptEnd::NodeLost, message })
}

fn other_life(holder: Holder<'_>, observed: Observed) -> Option<Loss> {
    let Holder::There { node, says } = holder else { return None };
    let long = observed.other_session_for.is_some_and(|age| age >= SESSION_GONE);
    (long && !says.recovering).then(|| Loss {
        ended: AttemptEnd::SessionLost,
        message: format!("node {} was started anew and did not take it over", node.meta.name),
    })
}

/// The end of a task whose time was up long ago and whose holder did not end it. A clock that is known
/// to be off is not believed: then the time counts in which we saw the claim ourselves.
fn over_its_time(
    task: &Object<AgenticTask>,
    holder: Holder<'_>,
    observed: Observed,
    now: WallTime,
) -> Option<OperatorEnd> {
    let left = time_left(task, holder, observed, now)?;
    left.is_zero().then(|| {
        let limit = task.spec.timeout_seconds.unwrap_or(0);
        let message = format!("it ran for more than {limit} s, and its holder did not end it");
        let (unknown, late) = (Verification::NotVerified, Infrastructure::TimedOut);
        let end = OperatorEnd::failed(unknown, late, "Timeout", message);
        OperatorEnd { failure_reason: Some(FailureReason::Timeout), ..end }
    })
}

/// How long the operator still leaves the end of a task to its holder; absent = no limit.
pub(crate) fn time_left(
    task: &Object<AgenticTask>,
    holder: Holder<'_>,
    observed: Observed,
    now: WallTime,
) -> Option<Duration> {
    let seconds = task.spec.timeout_seconds.filter(|seconds| *seconds > 0)?;
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) + TIMEOUT_GRACE;
    let skewed = matches!(holder, Holder::There { says, .. } if says.skewed == Some(true));
    let began = task.status.started_at.filter(|_| !skewed);
    let current = began.map_or(observed.known_for, |began| now.since(began));
    let ran = attempts::ran_before(&task.status.attempts).saturating_add(current);
    // Whoever claimed it just now is told first.
    Some(limit.saturating_sub(ran).max(TIMEOUT_GRACE.saturating_sub(observed.known_for)))
}

#[cfg(test)]
#[path = "hanging_tests.rs"]
mod tests;
