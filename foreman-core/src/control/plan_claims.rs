//! From what is known of the claims and of their holders to the writes that are due: take-backs,
//! strikes, ends.

use std::collections::{BTreeMap, BTreeSet};

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
    by_node: BTreeMap<String, BTreeSet<Key>>,
    node_of: BTreeMap<Key, String>,
}

impl ClaimsMemory {
    /// Takes what is known of a task now; absent = it is gone or cannot be read.
    pub(super) fn task_changed(&mut self, key: &Key, task: Option<&Object<AgenticTask>>) {
        let in_flight = |task: &&Object<AgenticTask>| {
            task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
        };
        let node = task.filter(in_flight).and_then(|task| task.status.assigned_node.as_ref());
        if self.node_of.get(key) == node {
            return;
        }
        if let Some(before) = self.node_of.remove(key)
            && let Some(keys) = self.by_node.get_mut(&before)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(&before);
            }
        }
        if let Some(node) = node {
            self.node_of.insert(key.clone(), node.clone());
            self.by_node.entry(node.clone()).or_default().insert(key.clone());
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
