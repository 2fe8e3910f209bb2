//! The scheduler: places waiting tasks on a snapshot, and reserves as it goes.

use super::fit::{Refusals, fit};
use super::need::Need;
use super::score::score;
use super::snapshot::{Reservation, Snapshot};
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
        why: Vec<&'static str>,
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
            best = Some((&node.name, candidate));
        }
    }
    let Some((name, score)) = best else {
        return Placement::Nowhere(refused);
    };
    let mut why = Vec::new();
    if score.model_loaded() {
        why.push("model loaded");
    }
    if score.journal_here() {
        why.push("journal here");
    }
    if why.is_empty() {
        why.push("fits, least loaded");
    }
    Placement::On { node: name.clone(), why }
}
