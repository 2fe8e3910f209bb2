//! What if: the same decisions on a snapshot that differs in one thing, beside those on the real one.

use std::sync::Arc;

use super::explain::{NodeVerdict, verdict_of};
use super::need::Need;
use super::order::Turn;
use super::queue::Said;
use super::scheduler::{Placement, placement};
use super::snapshot::{NodeRow, Reservation, Snapshot};
use crate::model::NodeName;
use crate::model::ids::Key;

/// A task that waits for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// When it has its turn.
    pub turn: Turn,
    /// What it needs.
    pub need: Need,
}

impl Waiter {
    /// The task.
    pub const fn key(&self) -> &Key {
        self.turn.key()
    }
}

/// One thing that might be otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum WhatIf {
    /// One more node; see [`node_like`] for one that is like another.
    OneMoreNode(Box<NodeRow>),
    /// A task needs something else, for example less memory.
    OtherNeed(Box<Need>),
    /// A task has another priority.
    Priority {
        /// The task.
        task: Key,
        /// Higher goes first.
        priority: i32,
    },
    /// A node takes so many runs at the same time.
    Slots {
        /// The node.
        node: NodeName,
        /// Runs.
        slots: usize,
    },
    /// A node is uncordoned.
    Uncordon {
        /// The node.
        node: NodeName,
    },
}

/// What became of one waiting task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// The task.
    pub task: Key,
    /// Its node, if it has one.
    pub node: Option<NodeName>,
    /// Why that one, a reason each.
    pub why: Vec<String>,
    /// Why it waits, if it does.
    pub said: Option<Said>,
}

/// Who would be placed where, without the change and with it; each in the order of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// As things are.
    pub before: Vec<Fate>,
    /// As they would be.
    pub after: Vec<Fate>,
}

impl Comparison {
    /// The tasks of which something else becomes: before, after.
    pub fn differences(&self) -> Vec<(&Fate, &Fate)> {
        let after = |task: &Key| self.after.iter().find(|fate| fate.task == *task);
        let pairs = self.before.iter().filter_map(|one| Some((one, after(&one.task)?)));
        pairs.filter(|(before, after)| before.node != after.node).collect()
    }
}

/// A node that is like another and idle, under a name that none has yet.
pub fn node_like(snapshot: &Snapshot, like: &NodeName) -> Option<NodeRow> {
    let mut row = snapshot.node(like)?.clone();
    let taken = |name: &NodeName| snapshot.node(name).is_some();
    let names = (2..).filter_map(|n| NodeName::parse(&format!("{like}-{n}")).ok());
    row.name = names.take(snapshot.len() + 1).find(|name| !taken(name))?;
    row.running.clear();
    row.available_ram_gb = row.capacity_ram_gb.or(row.available_ram_gb);
    row.cordoned = false;
    row.note = None;
    row.fresh = true;
    row.phase = Some(crate::model::NodePhase::Ready);
    Some(row)
}

/// Where the waiting tasks would go if all of that were otherwise.
pub fn what_if(snapshot: &Snapshot, waiting: &[Waiter], changes: &[WhatIf]) -> Comparison {
    let before = place_all(snapshot.clone(), waiting);
    let (snapshot, waiting) = changed(snapshot, waiting, changes);
    Comparison { before, after: place_all(snapshot, &waiting) }
}

/// The fleet and the waiting tasks as they would be.
pub fn changed(
    snapshot: &Snapshot,
    waiting: &[Waiter],
    changes: &[WhatIf],
) -> (Snapshot, Vec<Waiter>) {
    let (mut snapshot, mut waiting) = (snapshot.clone(), waiting.to_vec());
    for change in changes {
        match change {
            WhatIf::OneMoreNode(row) => drop(snapshot.upsert((**row).clone())),
            WhatIf::OtherNeed(need) => {
                for waiter in waiting.iter_mut().filter(|waiter| waiter.need.uid == need.uid) {
                    waiter.need = (**need).clone();
                }
            }
            WhatIf::Priority { task, priority } => {
                for waiter in waiting.iter_mut().filter(|waiter| waiter.key() == task) {
                    waiter.turn = waiter.turn.clone().with_priority(*priority);
                }
            }
            WhatIf::Slots { node, slots } => {
                edit(&mut snapshot, node, |row| row.slots = *slots);
            }
            WhatIf::Uncordon { node } => edit(&mut snapshot, node, |row| {
                row.cordoned = false;
                row.note = None;
            }),
        }
    }
    (snapshot, waiting)
}

fn edit(snapshot: &mut Snapshot, node: &NodeName, change: impl FnOnce(&mut NodeRow)) {
    if let Some(mut row) = snapshot.node(node).cloned() {
        change(&mut row);
        snapshot.upsert(row);
    }
}

fn place_all(mut snapshot: Snapshot, waiting: &[Waiter]) -> Vec<Fate> {
    let mut waiting: Vec<Arc<Waiter>> = waiting.iter().cloned().map(Arc::new).collect();
    waiting.sort_by(|a, b| a.turn.cmp(&b.turn));
    let mut fates = Vec::with_capacity(waiting.len());
    for waiter in waiting {
        let need = &waiter.need;
        snapshot.learn(need);
        let (node, why, said) = match placement(&snapshot, need) {
            Placement::On { node, why } => (Some(node), why, None),
            Placement::Nowhere(refused) => {
                (None, Vec::new(), Some(super::explain::waiting(&refused, need)))
            }
        };
        if let Some(node) = &node {
            let reservation = Reservation { task: waiter.key().clone(), ram_gb: need.ram_gb };
            snapshot.reserve(node, need.uid.clone(), reservation);
        }
        fates.push(Fate { task: waiter.key().clone(), node, why, said });
    }
    fates
}

/// What one node says to a task; absent when there is no such node.
pub fn why_not(snapshot: &Snapshot, need: &Need, node: &NodeName) -> Option<NodeVerdict> {
    snapshot.node(node).map(|node| verdict_of(snapshot, node, need))
}

/// A task's place among those that wait: from 1, and how many there are.
pub fn place_in_line(waiting: &[Waiter], task: &Key) -> Option<(usize, usize)> {
    let turn = &waiting.iter().find(|waiter| waiter.key() == task)?.turn;
    let before = waiting.iter().filter(|waiter| waiter.turn < *turn).count();
    Some((before + 1, waiting.len()))
}

/// That place in words: `3rd in line of 5 (priority 0)`.
pub fn place_in_words((place, of): (usize, usize), priority: i32) -> String {
    let ending = match (place % 10, place % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{place}{ending} in line of {of} (priority {priority})")
}

#[cfg(test)]
#[path = "what_if_tests.rs"]
mod tests;
