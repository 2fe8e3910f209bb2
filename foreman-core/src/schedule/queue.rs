//! The tasks that wait for room, in their order. Tasks that are alike stand in one line: where the
//! first of them finds no room, none of the others does, so a pass asks once a line and not once a
//! task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::need::Need;
use super::order::Turn;
use super::scheduler::Counts;
use crate::model::Uid;
use crate::model::agentic_task::WaitingReason;
use crate::model::ids::Key;
use crate::model::time::AwakeTime;

/// What makes tasks alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alike {
    /// What they need of a node. Its uid is set only for a task that is like no other, because it is
    /// kept away from nodes.
    pub need: Need,
    /// The Agent, which may be at its limit.
    pub agent: Option<Key>,
    /// The Workload whose budget they share, if it has one.
    pub workload: Option<Key>,
}

/// Why a task waits, and in which words.
pub type Said = (WaitingReason, String);

/// What is known of the room for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Room {
    /// Nothing: every node is to be asked.
    #[default]
    Unknown,
    /// No node fitted, and only nodes that changed since can.
    Nowhere,
    /// Something else than room is missing; it is looked at again when that changes.
    Blocked,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) alike: Arc<Alike>,
    pub(super) waiting: BTreeMap<Turn, Uid>,
    pub(super) room: Room,
    /// Why it stands still, as of `counted_at` and that version of the snapshot.
    pub(super) said: Option<Said>,
    pub(super) counted_at: AwakeTime,
    pub(super) counted: Option<u64>,
    /// What all of the line were told, and when.
    pub(super) told: Option<Said>,
    pub(super) told_at: AwakeTime,
    /// Who came since.
    pub(super) untold: BTreeSet<Turn>,
}

impl Line {
    fn new(alike: Arc<Alike>) -> Self {
        Self {
            alike,
            waiting: BTreeMap::new(),
            room: Room::Unknown,
            said: None,
            counted_at: AwakeTime::default(),
            counted: None,
            told: None,
            told_at: AwakeTime::default(),
            untold: BTreeSet::new(),
        }
    }

    /// No node fits; what they said.
    pub(super) fn nowhere(&mut self, counts: &Counts, version: u64, now: AwakeTime) {
        self.room = Room::Nowhere;
        self.said = Some(super::explain::waiting_for(counts, &self.alike.need));
        self.counted = Some(version);
        self.counted_at = now;
    }
}

/// The lines.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) lines: BTreeMap<usize, Line>,
    by_alike: BTreeMap<Arc<Alike>, usize>,
    places: BTreeMap<Key, (usize, Turn)>,
    next: usize,
    /// Lines that something else than room holds up.
    pub(super) blocked: BTreeSet<usize>,
}

impl Queue {
    /// How many tasks wait.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts a task in its line, or leaves it there.
    pub(super) fn enter(&mut self, key: &Key, uid: Uid, turn: Turn, alike: Alike) {
        let id = match self.by_alike.get(&alike) {
            Some(id) => *id,
            None => self.open(alike),
        };
        let place = (id, turn);
        if self.places.get(key) != Some(&place) {
            self.leave(key);
            self.places.insert(key.clone(), place.clone());
        }
        if let Some(line) = self.lines.get_mut(&id) {
            line.untold.insert(place.1.clone());
            line.waiting.insert(place.1, uid);
        }
    }

    fn open(&mut self, alike: Alike) -> usize {
        let (id, alike) = (self.next, Arc::new(alike));
        self.next += 1;
        self.by_alike.insert(alike.clone(), id);
        self.lines.insert(id, Line::new(alike));
        id
    }

    /// Takes a task out.
    pub(super) fn leave(&mut self, key: &Key) {
        let Some((id, turn)) = self.places.remove(key) else { return };
        if let Some(line) = self.lines.get_mut(&id) {
            line.waiting.remove(&turn);
            line.untold.remove(&turn);
        }
    }

    /// Closes lines in which nobody waits.
    pub(super) fn close(&mut self, id: usize) {
        if self.lines.get(&id).is_some_and(|line| line.waiting.is_empty())
            && let Some(line) = self.lines.remove(&id)
        {
            self.by_alike.remove(&line.alike);
            self.blocked.remove(&id);
        }
    }

    /// Where a task stands: its place from 1, and how many wait.
    pub(super) fn place(&self, key: &Key) -> Option<(usize, usize)> {
        let (_, turn) = self.places.get(key)?;
        let before = self.lines.values().map(|line| line.waiting.range(..turn).count());
        Some((before.sum::<usize>() + 1, self.len()))
    }
}
