//! Who is alive: other machines' silence, aged on our own awake clock.
//!
//! A node **with** a session runs our agent: it is dead after a full timeout of silence that this
//! process observed itself, awake. A node **without** belongs to somebody else's agent, whose own
//! records count too: a heartbeat that is *written* old is as good as silence.

use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::model::condition::ConditionStatus;
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::time::{AwakeTime, WallTime};
use crate::timing::{CLOCK_SKEW, NODE_DEAD, RECOVERY};

/// What this process saw of one node's heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    value: Option<WallTime>,
    changed_at: AwakeTime,
    /// Whether the value changed while we listened.
    moved: bool,
    /// Whether there was a time in which nothing could be heard.
    restarted: bool,
    /// Whether the value was old already when it came.
    written_old: bool,
    /// How the last value that moved compared with our wall clock.
    skewed: Option<bool>,
    /// Since when the node says that it is up and not yet ready.
    recovering: Option<AwakeTime>,
}

impl Seen {
    /// The first sight of a node.
    pub fn first(heartbeat: Option<WallTime>, now: AwakeTime) -> Self {
        Self {
            value: heartbeat,
            changed_at: now,
            moved: false,
            restarted: false,
            written_old: false,
            skewed: None,
            recovering: None,
        }
    }

    /// A further sight of its heartbeat.
    pub fn observe(&mut self, heartbeat: Option<WallTime>, wall: WallTime, now: AwakeTime) {
        if heartbeat == self.value {
            return;
        }
        let ahead_or_behind = |value: WallTime| wall.since(value).max(value.since(wall));
        self.value = heartbeat;
        self.changed_at = now;
        self.moved = true;
        self.written_old = heartbeat.is_some_and(|value| wall.since(value) > NODE_DEAD);
        self.skewed = heartbeat.map(|value| ahead_or_behind(value) > CLOCK_SKEW);
    }

    /// A further sight of the node.
    pub fn look(&mut self, node: &Object<FleetNode>, wall: WallTime, now: AwakeTime) {
        self.observe(node.status.last_heartbeat_time, wall, now);
        let unknown = shows(node, NodePhase::Unknown);
        self.recovering = unknown.then(|| self.recovering.unwrap_or(now));
    }

    /// Begins the silence anew: nothing could be heard until now. As long as no further value is
    /// seen, the known one's own age decides whether work may be placed.
    pub fn restart(&mut self, now: AwakeTime) {
        self.changed_at = now;
        self.moved = false;
        self.restarted = true;
        self.written_old = false;
        self.recovering = self.recovering.map(|_| now);
    }

    /// Takes it that nothing was heard for so long before now, too.
    pub(crate) fn silent_before(&mut self, by: Duration) {
        self.changed_at = AwakeTime::new(self.changed_at.since_origin().saturating_sub(by));
    }

    /// Whether work may be placed there: the heartbeat changed within 90 s on our awake
    /// clock; as long as one value was seen only, its own age decides.
    pub fn is_fresh(&self, wall: WallTime, awake: AwakeTime) -> bool {
        let Some(value) = self.value else {
            return false;
        };
        self.silence(awake) <= NODE_DEAD && (self.moved || wall.since(value) <= NODE_DEAD)
    }

    /// For how long nothing was heard, as this process observed.
    pub fn silence(&self, awake: AwakeTime) -> Duration {
        awake.since(self.changed_at)
    }

    /// For how long nothing was heard, at least: what was written counts until something moves.
    pub(super) fn silence_or_age(&self, wall: WallTime, awake: AwakeTime) -> Option<Duration> {
        let observed = self.silence(awake);
        let value = self.value?;
        Some(if self.moved { observed } else { observed.max(wall.since(value)) })
    }

    /// Whether the node is still coming up and must not be judged yet.
    fn is_recovering(&self, awake: AwakeTime) -> bool {
        self.recovering.is_some_and(|since| awake.since(since) <= RECOVERY)
    }

    /// When the node stops being fresh if nothing more is heard; absent when it is stale already.
    pub fn fresh_until(&self, wall: WallTime, awake: AwakeTime) -> Option<AwakeTime> {
        if !self.is_fresh(wall, awake) {
            return None;
        }
        let silence_left = NODE_DEAD.saturating_sub(self.silence(awake));
        let left = match self.value {
            Some(value) if !self.moved => {
                silence_left.min(NODE_DEAD.saturating_sub(wall.since(value)))
            }
            Some(_) | None => silence_left,
        };
        Some(awake + left)
    }

    /// The next moment at which silence alone may change what [`assess`] says.
    pub fn judged_again_at(&self, wall: WallTime, awake: AwakeTime) -> Option<AwakeTime> {
        let moments = [
            self.fresh_until(wall, awake),
            Some(self.changed_at + NODE_DEAD),
            self.recovering.map(|since| since + RECOVERY),
            self.recovering.map(|_| self.changed_at + RECOVERY),
        ];
        // The rules say "more than", and wall time is in whole seconds.
        let later = moments.into_iter().flatten().map(|at| at + Duration::from_secs(1));
        later.filter(|at| *at > awake).min()
    }
}

fn shows(node: &Object<FleetNode>, phase: NodePhase) -> bool {
    node.status.phase.as_ref().is_some_and(|shown| shown.is(phase))
}

/// What is to be said of a node at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assessment {
    /// Whether work may be placed there, as far as its heartbeat is concerned.
    pub placeable: bool,
    /// Whether the claims of the node may be taken back.
    pub dead: bool,
    /// Whether the agent on it is ours and up, but not ready yet: nothing of it is judged.
    pub recovering: bool,
    /// The phase that the operator writes, if it is to change.
    pub phase: Option<NodePhase>,
    /// What the condition `Ready` says; absent = whatever it says.
    pub ready: Option<ConditionStatus>,
    /// Whether the node's clock differs from ours; absent = not known.
    pub skewed: Option<bool>,
}

/// Says of a node whether it is alive, by what this process saw of it.
pub fn assess(
    node: &Object<FleetNode>,
    seen: &Seen,
    wall: WallTime,
    awake: AwakeTime,
) -> Assessment {
    let ours = node.status.session.is_some();
    let silence = seen.silence(awake);
    let fresh = seen.is_fresh(wall, awake);
    let written_old = !ours && seen.written_old;
    let unknown = shows(node, NodePhase::Unknown);
    let timeout = if unknown { RECOVERY } else { NODE_DEAD };
    let recovering = ours && unknown && seen.is_recovering(awake);
    let first_sight = bugs::on(Bug::NoGraceAtStart) && !seen.moved && !fresh && !unknown;
    let silent = silence > timeout || written_old || first_sight;
    // At first sight what is written is all that is known.
    let old_at_first = !fresh && !seen.moved && !seen.restarted && !unknown;
    let stale = silent || old_at_first;
    let phase = phase_to_write(node.status.phase.as_ref(), ours, fresh && !written_old, stale);
    let will_show = |it: NodePhase| phase.map_or_else(|| shows(node, it), |phase| phase == it);
    let ready = if fresh && !stale && will_show(NodePhase::Ready) {
        Some(ConditionStatus::True)
    } else {
        (stale && will_show(NodePhase::NotReady)).then_some(ConditionStatus::False)
    };
    Assessment {
        placeable: fresh,
        dead: silent && !recovering,
        recovering,
        phase,
        ready,
        skewed: seen.skewed,
    }
}

/// `NotReady` goes over `Ready` or none, and over `Unknown` after a while; nothing goes over
/// `Draining`. `Ready` is written for nodes without a session only: ours say so themselves.
fn phase_to_write(
    shown: Option<&Open<NodePhase>>,
    ours: bool,
    fresh: bool,
    stale: bool,
) -> Option<NodePhase> {
    match shown {
        Some(Open::Known(NodePhase::Draining) | Open::Other(_)) => None,
        Some(Open::Known(NodePhase::NotReady)) => (fresh && !ours).then_some(NodePhase::Ready),
        Some(Open::Known(NodePhase::Ready)) => stale.then_some(NodePhase::NotReady),
        Some(Open::Known(NodePhase::Unknown)) | None if stale => Some(NodePhase::NotReady),
        Some(Open::Known(NodePhase::Unknown)) | None => {
            (fresh && !ours).then_some(NodePhase::Ready)
        }
    }
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "liveness_laws.rs"]
mod laws;
