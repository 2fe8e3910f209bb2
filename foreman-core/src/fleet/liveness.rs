//! Who is alive: other machines' silence, aged on our own awake clock.

use crate::model::time::{AwakeTime, WallTime};
use crate::timing::NODE_DEAD;

/// What this process saw of one node's heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    value: Option<WallTime>,
    changed_at: AwakeTime,
    moved: bool,
}

impl Seen {
    /// The first sight of a node.
    pub fn first(heartbeat: Option<WallTime>, now: AwakeTime) -> Self {
        Self { value: heartbeat, changed_at: now, moved: false }
    }

    /// A further sight of it.
    pub fn observe(&mut self, heartbeat: Option<WallTime>, _wall: WallTime, now: AwakeTime) {
        if heartbeat != self.value {
            *self = Self { value: heartbeat, changed_at: now, moved: true };
        }
    }

    /// Begins the silence anew: nothing could be heard until now. As long as no further value is
    /// seen, the known one's own age decides whether work may be placed.
    pub fn restart(&mut self, now: AwakeTime) {
        self.changed_at = now;
        self.moved = false;
    }

    /// Whether work may be placed there: the heartbeat changed within 90 s on our awake
    /// clock; as long as one value was seen only, its own age decides.
    pub fn is_fresh(&self, wall: WallTime, awake: AwakeTime) -> bool {
        let Some(value) = self.value else {
            return false;
        };
        let silent = awake.since(self.changed_at);
        silent <= NODE_DEAD && (self.moved || wall.since(value) <= NODE_DEAD)
    }

    /// When the node stops being fresh if nothing more is heard; absent when it is stale already.
    pub fn fresh_until(&self, wall: WallTime, awake: AwakeTime) -> Option<AwakeTime> {
        if !self.is_fresh(wall, awake) {
            return None;
        }
        let silence_left = NODE_DEAD.saturating_sub(awake.since(self.changed_at));
        let left = match self.value {
            Some(value) if !self.moved => {
                silence_left.min(NODE_DEAD.saturating_sub(wall.since(value)))
            }
            Some(_) | None => silence_left,
        };
        Some(awake + left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_old_value_is_stale_a_moving_one_is_fresh_whatever_it_says() {
        let wall = WallTime::from_unix_seconds(1_000_000);
        let at = |seconds| AwakeTime::new(Duration::from_secs(seconds));
        let old = Some(wall.minus(Duration::from_secs(91)));
        let mut seen = Seen::first(old, at(0));
        assert!(!seen.is_fresh(wall, at(0)));
        seen.observe(Some(wall.minus(Duration::from_secs(500))), wall, at(1));
        assert!(seen.is_fresh(wall, at(91)));
        assert!(!seen.is_fresh(wall, at(92)));
        assert!(!Seen::first(None, at(0)).is_fresh(wall, at(0)));
    }

    #[test]
    fn freshness_ends_when_it_says() {
        let wall = WallTime::from_unix_seconds(1_000_000);
        let at = |seconds| AwakeTime::new(Duration::from_secs(seconds));
        let seen = Seen::first(Some(wall.minus(Duration::from_secs(30))), at(5));
        assert_eq!(seen.fresh_until(wall, at(5)), Some(at(65)));
    }
}
