//! Writes that were decided, and how much each of them hurries.

use super::confirm::Confirm;
use crate::model::Uid;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Key, Revision};
use crate::model::object::{NewObject, Object};
use crate::model::workload::Workload;
use crate::ports::recorder::Event;
use crate::ports::store::Change;

/// Whether a write goes out as soon as it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// At once: placements, claims and take-backs, ends, phases, and whatever a rule waits for.
    Now,
    /// Through the low-priority lane: it may be late and is decided again when it was lost.
    Lane(Rank),
}

/// What a write of the low-priority lane is about. The lane takes them in the order of
/// [`Rank::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// What the children of a workload came to.
    Steps,
    /// A task waits that was not told so yet: its first phase and reason.
    FirstWait,
    /// A task waits for another reason.
    Reason,
    /// A task waits for the same reason with other numbers.
    Counts,
    /// What one of our nodes works on, for people only.
    CurrentTask,
    /// The record of an end, and its mark.
    Audit,
}

impl Rank {
    /// Every rank, the first to go first.
    pub(super) const ALL: [Self; 6] =
        [Self::Steps, Self::FirstWait, Self::Reason, Self::Counts, Self::CurrentTask, Self::Audit];
}

impl Urgency {
    /// Its place in the order in which writes of one pass go out.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Now => 0,
            Self::Lane(rank) => {
                let before = Rank::ALL.iter().take_while(|known| **known != rank);
                1 + before.count()
            }
        }
    }
}

/// A write that was decided.
#[derive(Debug)]
pub(super) enum Write {
    Task {
        key: Key,
        revision: Revision,
        change: Change<AgenticTask>,
        event: Option<Event>,
        urgency: Urgency,
    },
    Workload {
        key: Key,
        revision: Revision,
        change: Change<Workload>,
        events: Vec<Event>,
        urgency: Urgency,
    },
    /// A workload whose time to stay after its end is over, at exactly this version.
    DeleteWorkload { key: Key, uid: Uid, revision: Revision },
    /// A child of the workload `owner`.
    Create { workload: Key, owner: Uid, new: Box<NewObject<AgenticTask>> },
    /// A task that no step of the workload there needs, at exactly this version.
    DeleteStray { workload: Key, task: Box<Object<AgenticTask>> },
    Node {
        key: Key,
        revision: Revision,
        change: Change<FleetNode>,
        event: Option<Event>,
        urgency: Urgency,
    },
    /// A node that nobody will speak for again, at exactly this version.
    DeleteNode { key: Key, uid: Uid, revision: Revision, event: Option<Event> },
    /// `then`, if a fresh read of a node still shows what the decision rests on.
    Confirmed { confirm: Confirm, then: Box<Self> },
}

/// The object that a write is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Task(Key),
    Workload(Key),
    Node(Key),
}

impl Write {
    /// The task whose status it writes or that it makes, if it is about one.
    pub(super) fn task(&self) -> Option<&Key> {
        match self {
            Self::Task { key, .. } => Some(key),
            Self::Create { new, .. } => Some(&new.key),
            Self::Confirmed { then, .. } => then.task(),
            Self::Workload { .. }
            | Self::DeleteStray { .. }
            | Self::DeleteWorkload { .. }
            | Self::Node { .. }
            | Self::DeleteNode { .. } => None,
        }
    }

    /// How much it hurries.
    pub(super) fn urgency(&self) -> Urgency {
        match self {
            Self::Task { urgency, .. }
            | Self::Workload { urgency, .. }
            | Self::Node { urgency, .. } => *urgency,
            Self::Create { .. }
            | Self::DeleteStray { .. }
            | Self::DeleteNode { .. }
            | Self::DeleteWorkload { .. } => Urgency::Now,
            Self::Confirmed { then, .. } => then.urgency(),
        }
    }

    /// Lets a write that rests on a node's silence only look at the node.
    pub(super) fn only_look(&mut self) {
        if let Self::Confirmed { confirm, .. } = self {
            confirm.only_look = true;
        }
    }

    /// The object that it is about.
    pub(super) fn target(&self) -> Target {
        match self {
            Self::Task { key, .. } => Target::Task(key.clone()),
            Self::Create { new, .. } => Target::Task(new.key.clone()),
            Self::DeleteStray { task, .. } => Target::Task(task.key()),
            Self::Workload { key, .. } | Self::DeleteWorkload { key, .. } => {
                Target::Workload(key.clone())
            }
            Self::Node { key, .. } | Self::DeleteNode { key, .. } => Target::Node(key.clone()),
            Self::Confirmed { then, .. } => then.target(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hurries_goes_first_then_the_ranks_in_their_order() {
        let lane = Rank::ALL.into_iter().map(Urgency::Lane);
        let places: Vec<_> =
            std::iter::once(Urgency::Now).chain(lane).map(Urgency::place).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6]);
    }
}
