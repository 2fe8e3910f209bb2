//! The scheduler: places waiting tasks on a snapshot, and reserves as it goes.

use super::fit::{Refusal, Refusals, Wanted, refusals_at};
use super::need::Need;
use super::score::Score;
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

impl Placement {
    /// The node, if there is one.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::On { node, .. } => Some(node),
            Self::Nowhere(_) => None,
        }
    }
}

/// How many nodes refuse a task, each under its first refusal; and how many fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u32; Refusal::ALL.len() + 1]);

impl Counts {
    /// Counts one node.
    #[inline]
    pub(super) fn add(&mut self, refusals: Refusals) {
        if let Some(count) = self.0.get_mut(refusals.rank()) {
            *count += 1;
        }
    }

    /// All nodes.
    pub fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// The nodes that fit.
    pub const fn fitting(&self) -> u32 {
        self.0[Refusal::ALL.len()]
    }

    /// The refusals that nodes count under, in the order of the table, with how many.
    pub fn refused(&self) -> impl Iterator<Item = (Refusal, u32)> {
        Refusal::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// The decision for one task, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decision {
    best: Option<(usize, Score)>,
    counts: Counts,
}

impl Decision {
    /// The best node that fits.
    pub fn node<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s NodeRow> {
        snapshot.row(self.best?.0)
    }

    /// What the nodes said that were asked.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The terms of the score that have something to say, each on its own.
    pub fn why(&self, snapshot: &Snapshot, need: &Need) -> Vec<String> {
        let mut why = Vec::new();
        let Some((node, score)) =
            self.best.and_then(|(at, score)| Some((snapshot.row(at)?, score)))
        else {
            return why;
        };
        if score.last_resort() {
            why.push("no other node fits".to_owned());
        }
        if need.model.is_some() {
            let loaded = score.model_loaded();
            why.push(if loaded { "model loaded" } else { "model not loaded" }.to_owned());
        }
        if need.journal.is_some() {
            let here = score.journal_here();
            why.push(if here { "journal here" } else { "journal elsewhere" }.to_owned());
        }
        if node.tokens_per_second > 0 {
            why.push(format!("{} tok/s", node.tokens_per_second));
        }
        let used = snapshot.slots_used(&node.name, &need.uid);
        why.push(format!("{used}/{} slots used", node.slots));
        why
    }
}

/// The decision for one task on a snapshot: the best node that fits, and what all others say. Every
/// node is evaluated. This is the function that `foreman explain` calls.
pub fn decide(snapshot: &Snapshot, need: &Need) -> Decision {
    decide_with(snapshot, need, |_| {})
}

/// The same; `each` hears every node's refusals, in the order of names.
pub fn decide_with(snapshot: &Snapshot, need: &Need, mut each: impl FnMut(Refusals)) -> Decision {
    let wanted = Wanted::of(snapshot, need);
    let mut decision = Decision::default();
    for (at, (hot, bits)) in snapshot.columns.iter().enumerate() {
        let mut refusals = wanted.refusals(hot, bits);
        if !wanted.is_plain {
            refusals = wanted.with_exceptions(snapshot, at, refusals);
        }
        decision.counts.add(refusals);
        each(refusals);
        if refusals.is_empty() {
            let score = Score::of(snapshot, &wanted, at, hot, bits);
            if decision.best.is_none_or(|(_, best)| score > best) {
                decision.best = Some((at, score));
            }
        }
    }
    decision
}

/// The same among some nodes only: what there is to decide when no other node changed since none
/// fitted.
pub fn decide_among(snapshot: &Snapshot, need: &Need, nodes: &[usize]) -> Decision {
    let wanted = Wanted::of(snapshot, need);
    let mut decision = Decision::default();
    for at in nodes {
        let refusals = refusals_at(snapshot, &wanted, *at);
        decision.counts.add(refusals);
        let Some((hot, bits)) = snapshot.columns.get(*at).filter(|_| refusals.is_empty()) else {
            continue;
        };
        let score = Score::of(snapshot, &wanted, *at, hot, bits);
        if decision.best.is_none_or(|(_, best)| score > best) {
            decision.best = Some((*at, score));
        }
    }
    decision
}

/// The decision in words.
pub fn placement(snapshot: &Snapshot, need: &Need) -> Placement {
    let mut all = Vec::with_capacity(snapshot.len());
    let decision = decide_with(snapshot, need, |refusals| all.push(refusals));
    if let Some(node) = decision.node(snapshot) {
        return Placement::On { node: node.name.clone(), why: decision.why(snapshot, need) };
    }
    let names = snapshot.nodes().map(|node| node.name.clone());
    Placement::Nowhere(names.zip(all).collect())
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

    /// Decides where one task runs and reserves its room there at once.
    pub fn place(&mut self, task: Key, need: &Need) -> Placement {
        let placement = placement(&self.snapshot, need);
        if let Some(node) = placement.node() {
            let reservation = Reservation { task, ram_gb: need.ram_gb };
            self.snapshot.reserve(node, need.uid.clone(), reservation);
        }
        placement
    }
}
