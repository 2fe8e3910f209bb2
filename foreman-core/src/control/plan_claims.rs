//! From what is known of the claims and of their holders to the writes that are due: take-backs,
//! strikes, ends.

use super::memory::Memory;
use super::reconciler::World;
use super::write::Write;
use crate::model::time::{AwakeTime, WallTime};

/// What was seen of the claims.
#[derive(Debug, Default)]
pub(super) struct ClaimsMemory {}

/// The writes that claims need now, and when to look again although nothing changed.
pub(super) fn plan(
    _world: &World,
    _memory: &mut Memory,
    _wall: WallTime,
    _awake: AwakeTime,
) -> (Vec<Write>, Option<AwakeTime>) {
    (Vec::new(), None)
}
