//! From what is known of the nodes to the writes that are due: who is alive, who is gone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::Memory;
use super::reconciler::World;
use super::write::Write;
use crate::model::ids::Key;
use crate::model::time::{AwakeTime, BootTime, WallTime};
use crate::timing::{SLEPT, STORE_RETRY_MIN};

/// What was seen of the nodes beside their heartbeats.
#[derive(Debug, Default)]
pub(super) struct NodesMemory {
    /// Whether the watch of the nodes is broken or not yet complete.
    deaf: bool,
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

    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
    }

    /// Whether the machine slept since this was last asked.
    pub(super) fn slept(&mut self, awake: AwakeTime, boot: BootTime) -> bool {
        let ahead = boot.since_origin().saturating_sub(awake.since_origin());
        let before = self.slept.replace(ahead);
        before.is_some_and(|before| ahead.saturating_sub(before) > SLEPT)
    }

    pub(super) fn refresh(&mut self, _world: &World, now: AwakeTime) {
        self.doubted.retain(|_, until| *until > now);
    }

    /// A fresh read of that node did not show what a decision rested on.
    pub(super) fn doubts(&mut self, node: Key, now: AwakeTime) {
        self.doubted.insert(node, now + STORE_RETRY_MIN);
    }
}

/// The writes that nodes need now, and when to look again although nothing changed.
pub(super) fn plan(
    _world: &World,
    _memory: &mut Memory,
    _wall: WallTime,
    _awake: AwakeTime,
) -> (Vec<Write>, Option<AwakeTime>) {
    (Vec::new(), None)
}
