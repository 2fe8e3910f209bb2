//! From what is known of the claims and of their holders to the writes that are due: take-backs,
//! strikes, ends.

use std::collections::BTreeMap;

use super::memory::Memory;
use super::reconciler::World;
use super::write::Write;
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::time::{AwakeTime, WallTime};

/// What was seen of the claims.
#[derive(Debug, Default)]
pub(super) struct ClaimsMemory {
    /// The tasks in flight, by the node they are assigned to.
    by_node: BTreeMap<String, Vec<Key>>,
}

impl ClaimsMemory {
    /// Looks at all tasks once.
    pub(super) fn refresh(&mut self, world: &World) {
        self.by_node.clear();
        for (key, task) in &world.tasks.objects {
            let in_flight = task.status.known_phase().is_some_and(TaskPhase::is_in_flight);
            if let Some(node) = task.status.assigned_node.as_ref().filter(|_| in_flight) {
                self.by_node.entry(node.clone()).or_default().push(key.clone());
            }
        }
    }

    /// The tasks in flight that are assigned to a node.
    pub(super) fn on<'w>(&self, world: &'w World, node: &str) -> Vec<&'w Object<AgenticTask>> {
        let keys = self.by_node.get(node).into_iter().flatten();
        keys.filter_map(|key| world.tasks.objects.get(key)).collect()
    }
}

/// The writes that claims need now, and when to look again although nothing changed.
pub(super) fn plan(
    _world: &World,
    _memory: &mut Memory,
    _wall: WallTime,
    _awake: AwakeTime,
) -> (Vec<Write>, Option<AwakeTime>) {
    (Vec::new(), None)
}
