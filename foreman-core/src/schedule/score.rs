//! Score: which of the nodes that fit is best.

use std::cmp::Reverse;

use super::need::Need;
use super::snapshot::{NodeRow, Snapshot};

/// How good a node is for a task; greater is better. The terms, in order: the model is loaded, the
/// run's journal is there, measured speed, least loaded; then the name, the smaller the better, so
/// that an idle fleet of equal machines is filled in the order of names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score<'a> {
    model_loaded: bool,
    journal_here: bool,
    tokens_per_second: i32,
    load_permille: Reverse<usize>,
    name: Reverse<&'a str>,
}

impl Score<'_> {
    /// Whether the model is in memory there.
    pub fn model_loaded(&self) -> bool {
        self.model_loaded
    }

    /// Whether the run's journal is there.
    pub fn journal_here(&self) -> bool {
        self.journal_here
    }
}

/// The score of a node that fits.
pub fn score<'a>(snapshot: &Snapshot, node: &'a NodeRow, need: &Need) -> Score<'a> {
    let used = snapshot.slots_used(&node.name, &need.uid);
    Score {
        model_loaded: need.model.as_ref().is_some_and(|model| node.loaded.contains(model)),
        journal_here: need.journal.as_ref() == Some(&node.name),
        tokens_per_second: node.tokens_per_second,
        load_permille: Reverse(used * 1000 / node.slots.max(1)),
        name: Reverse(node.name.as_str()),
    }
}
