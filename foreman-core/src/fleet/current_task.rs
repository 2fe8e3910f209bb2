//! `status.currentTask`: what a node works on, for people and for agents that are not ours. No rule of
//! ours reads it.

use crate::model::agentic_task::AgenticTask;
use crate::model::object::Object;

/// What `currentTask` of a node should say, given what it says now and the tasks in flight that are
/// assigned to it: the same as long as that task is among them, else the oldest.
pub(crate) fn current_task<'a>(
    shown: Option<&str>,
    here: impl IntoIterator<Item = &'a Object<AgenticTask>>,
) -> Option<String> {
    let mut oldest: Option<&Object<AgenticTask>> = None;
    for task in here {
        if shown.is_some_and(|shown| shown == task.key().to_string()) {
            return shown.map(ToOwned::to_owned);
        }
        let age = |task: &Object<AgenticTask>| (task.meta.creation_timestamp, task.key());
        if oldest.is_none_or(|known| age(task) < age(known)) {
            oldest = Some(task);
        }
    }
    oldest.map(|task| task.key().to_string())
}
