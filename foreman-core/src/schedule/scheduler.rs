//! The scheduler: places waiting tasks on a snapshot, and reserves as it goes.

use super::fit::{Refusals, fit};
use super::need::Need;
use super::score::{Score, score};
use super::snapshot::{NodeRow, Reservation, Snapshot};
use crate::model::NodeName;
use crate::model::ids::Key;

/// What became of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// It runs there; the reasons that spoke for the node.
    On {
        /// The node.
        node: NodeName,
        /// Why it, in words of the score.
        why: Vec<String>,
    },
    /// No node fits; every refusal, by node name.
    Nowhere(Vec<(NodeName, Refusals)>),
}

/// Places tasks, one after the other, on one snapshot.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    snapshot: Snapshot,
}

impl Scheduler {
    /// A scheduler on that snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }

    /// The snapshot with all reservations so far.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Decides where one task runs and reserves its room there at once. Every node is evaluated.
    pub fn place(&mut self, task: Key, need: &Need) -> Placement {
        let placement = decide(&self.snapshot, need);
        if let Placement::On { node, .. } = &placement {
            let reservation = Reservation { task, ram_gb: need.ram_gb };
            self.snapshot.reserve(node, need.uid.clone(), reservation);
        }
        placement
    }
}

/// The decision for one task on a snapshot: the best node that fits, or every refusal. This is the
/// function that `foreman explain` calls.
pub fn decide(snapshot: &Snapshot, need: &Need) -> Placement {
    let mut refused = Vec::new();
    let mut best = None;
    for node in snapshot.nodes() {
        let refusals = fit(snapshot, node, need);
        if !refusals.is_empty() {
            refused.push((node.name.clone(), refusals));
            continue;
        }
        let candidate = score(snapshot, node, need);
        if best.as_ref().is_none_or(|(_, held)| candidate > *held) {
            best = Some((node, candidate));
        }
    }
    let Some((node, score)) = best else {
        return Placement::Nowhere(refused);
    };
    Placement::On { node: node.name.clone(), why: reasons(snapshot, node, need, &score) }
}

/// The terms of the score that have something to say, each on its own.
fn reasons(snapshot: &Snapshot, node: &NodeRow, need: &Need, score: &Score<'_>) -> Vec<String> {
    let mut why = Vec::new();
    if need.model.is_some() {
        why.push(if score.model_loaded() { "model loaded" } else { "model not loaded" }.to_owned());
    }
    if need.journal.is_some() {
        why.push(
            if score.journal_here() { "journal here" } else { "journal elsewhere" }.to_owned(),
        );
    }
    if node.tokens_per_second > 0 {
        why.push(format!("{} tok/s", node.tokens_per_second));
    }
    let used = snapshot.slots_used(&node.name, &need.uid);
    why.push(format!("{used}/{} slots used", node.slots));
    why
}
