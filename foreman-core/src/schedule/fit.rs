//! Fit: which nodes a task may run on, and every reason why not.

use super::columns::{Atom, Bit, Hot};
use super::need::Need;
use super::snapshot::{Avoid, NodeRow, Snapshot};

/// Why a node does not fit. The order is the table's: a node counts under its first refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// It lacks a role.
    Role,
    /// It lacks a label.
    Label,
    /// It takes no tasks from this namespace.
    Namespace,
    /// Its accelerator is another one, or none.
    Accelerator,
    /// The model is not installed there.
    Model,
    /// Its context is too short.
    Context,
    /// It does not have that much memory at all.
    MemoryTooSmall,
    /// It takes no runs at all.
    NoSlots,
    /// Somebody keeps work away from it.
    Cordoned,
    /// It is leaving.
    Draining,
    /// It refused this task just now, or failed it too often.
    Avoided,
    /// The run can be resumed on another node only, and is waited for.
    JournalElsewhere,
    /// Nothing was heard of it for too long.
    Stale,
    /// Its agent is starting.
    Recovering,
    /// All its slots are in use.
    SlotsFull,
    /// Its memory is in use.
    MemoryInUse,
}

impl Refusal {
    /// All refusals, in the order of the table.
    pub const ALL: [Self; 16] = [
        Self::Role,
        Self::Label,
        Self::Namespace,
        Self::Accelerator,
        Self::Model,
        Self::Context,
        Self::MemoryTooSmall,
        Self::NoSlots,
        Self::Cordoned,
        Self::Draining,
        Self::Avoided,
        Self::JournalElsewhere,
        Self::Stale,
        Self::Recovering,
        Self::SlotsFull,
        Self::MemoryInUse,
    ];
}

/// A set of refusals; empty = the node fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Refusals(u16);

impl Refusals {
    pub(super) fn refuse_if(&mut self, refused: bool, refusal: Refusal) {
        self.0 |= u16::from(refused) << (refusal as u8);
    }

    /// Whether the node fits.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is among the reasons.
    pub const fn contains(self, refusal: Refusal) -> bool {
        self.0 & (1 << (refusal as u8)) != 0
    }

    /// The reasons, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Refusal> {
        Refusal::ALL.into_iter().filter(move |refusal| self.contains(*refusal))
    }

    /// The reason that the node counts under.
    pub fn first(self) -> Option<Refusal> {
        Refusal::ALL.get(self.rank()).copied()
    }

    /// The place of the first reason in the table; the table's length when the node fits.
    pub(super) const fn rank(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    const fn and(self, refusal: Refusal) -> Self {
        Self(self.0 | 1 << (refusal as u8))
    }
}

/// Every reason why `node` may not run a task of that need.
pub fn fit(snapshot: &Snapshot, node: &NodeRow, need: &Need) -> Refusals {
    let wanted = Wanted::of(snapshot, need);
    snapshot.at(&node.name).map_or(Refusals::default(), |at| refusals_at(snapshot, &wanted, at))
}

/// The reasons of the node in that place of the snapshot.
pub(super) fn refusals_at(snapshot: &Snapshot, wanted: &Wanted<'_>, at: usize) -> Refusals {
    let Some((hot, bits)) = snapshot.columns.get(at) else { return Refusals::default() };
    let refusals = wanted.refusals(hot, bits);
    if wanted.is_plain { refusals } else { wanted.with_exceptions(snapshot, at, refusals) }
}

/// Bits that a node must have, and the refusal of one that lacks any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Check {
    bit: Bit,
    refusal: Refusal,
}

/// A need in the numbers of one snapshot.
#[derive(Debug, Clone)]
pub(super) struct Wanted<'a> {
    need: &'a Need,
    checks: Vec<Check>,
    loaded: Option<Bit>,
    /// What has no bit yet and is compared word by word.
    unknown: Vec<(Atom<'a>, Option<Refusal>)>,
    /// Nodes that are not as their numbers say: avoided, the task's own.
    hard: Vec<usize>,
    soft: Vec<usize>,
    own: Option<usize>,
    /// The only node that may be; one that is not there has the last place and a further.
    only: Option<usize>,
    /// Nothing of that: the numbers say it all.
    pub(super) is_plain: bool,
    pub(super) journal: Option<usize>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(snapshot: &Snapshot, need: &'a Need) -> Self {
        let mut wanted = Self {
            need,
            checks: Vec::new(),
            loaded: None,
            unknown: Vec::new(),
            hard: Vec::new(),
            soft: Vec::new(),
            own: snapshot.home(&need.uid).and_then(|(node, _)| snapshot.at(node)),
            only: need.only.as_ref().map(|node| snapshot.at(node).unwrap_or(usize::MAX)),
            is_plain: false,
            journal: need.journal.as_ref().and_then(|node| snapshot.at(node)),
        };
        for (atom, refusal) in need.atoms() {
            match (snapshot.columns.bit(atom), refusal) {
                (Some(bit), Some(refusal)) => wanted.check(bit, refusal),
                (Some(bit), None) => wanted.loaded = Some(bit),
                (None, refusal) => wanted.unknown.push((atom, refusal)),
            }
        }
        for (node, avoid) in snapshot.avoided(&need.uid) {
            let list = match avoid {
                Avoid::Hard => &mut wanted.hard,
                Avoid::Soft => &mut wanted.soft,
            };
            list.extend(snapshot.at(node));
        }
        if let Some(node) = &need.last_resort {
            let waits = need.only.as_ref() == Some(node);
            let list = if waits { &mut wanted.hard } else { &mut wanted.soft };
            list.extend(snapshot.at(node));
        }
        wanted.is_plain = wanted.unknown.is_empty()
            && wanted.hard.is_empty()
            && wanted.soft.is_empty()
            && wanted.own.is_none()
            && wanted.only.is_none();
        wanted
    }

    /// Bits in one word that are refused alike are looked at together.
    fn check(&mut self, bit: Bit, refusal: Refusal) {
        let same = |check: &&mut Check| check.bit.word == bit.word && check.refusal == refusal;
        match self.checks.iter_mut().find(same) {
            Some(check) => check.bit.mask |= bit.mask,
            None => self.checks.push(Check { bit, refusal }),
        }
    }

    /// Why the node refuses, by its numbers.
    #[inline]
    pub(super) fn refusals(&self, hot: &Hot, bits: &[u64]) -> Refusals {
        let mut refusals = hot.base;
        for Check { bit, refusal } in &self.checks {
            let has = bits.get(bit.word).copied().unwrap_or(0);
            refusals.refuse_if(has & bit.mask != bit.mask, *refusal);
        }
        let need = self.need;
        refusals.refuse_if(need.context_tokens > hot.context_tokens, Refusal::Context);
        let small = need.ram_gb > 0 && hot.memory_gb < need.ram_gb;
        let short = need.ram_gb > 0 && hot.free_gb < need.ram_gb;
        refusals.refuse_if(small, Refusal::MemoryTooSmall);
        refusals.refuse_if(short && !small, Refusal::MemoryInUse);
        refusals
    }

    /// What the numbers do not say.
    pub(super) fn with_exceptions(
        &self,
        snapshot: &Snapshot,
        at: usize,
        refusals: Refusals,
    ) -> Refusals {
        let mut refusals = refusals;
        let row = snapshot.row(at);
        if let Some(row) = row.filter(|_| self.own == Some(at)) {
            // Its own room is no obstacle to itself.
            let hot = snapshot.numbers(row, Some(&self.need.uid));
            let bits = snapshot.columns.get(at).map_or(&[][..], |(_, bits)| bits);
            refusals = self.refusals(&hot, bits);
        }
        for (atom, refusal) in &self.unknown {
            if let (Some(row), Some(refusal)) = (row, refusal)
                && !atom.holds(row)
            {
                refusals = refusals.and(*refusal);
            }
        }
        if self.hard.contains(&at) {
            refusals = refusals.and(Refusal::Avoided);
        }
        if self.only.is_some_and(|only| only != at) {
            refusals = refusals.and(Refusal::JournalElsewhere);
        }
        refusals
    }

    /// The numbers that the score is made of.
    #[inline]
    pub(super) fn hot(&self, snapshot: &Snapshot, at: usize, hot: &Hot) -> Hot {
        match snapshot.row(at).filter(|_| self.own == Some(at)) {
            Some(row) => snapshot.numbers(row, Some(&self.need.uid)),
            None => *hot,
        }
    }

    /// Whether the model is in memory there.
    pub(super) fn is_loaded(&self, snapshot: &Snapshot, at: usize, bits: &[u64]) -> bool {
        if let Some(bit) = self.loaded {
            return bits.get(bit.word).is_some_and(|has| has & bit.mask != 0);
        }
        let atom = self.unknown.iter().find(|(_, refusal)| refusal.is_none());
        atom.is_some_and(|(atom, _)| snapshot.row(at).is_some_and(|row| atom.holds(row)))
    }

    /// Whether the node is only a last resort.
    pub(super) fn is_soft(&self, at: usize) -> bool {
        self.soft.contains(&at)
    }
}

/// Memory in GiB that the node has for work, and what of it is left for this task. With a capacity:
/// capacity − Σ reserved, and no more than available − Σ reserved of tasks that the last heartbeat
/// did not show yet (their memory is not in the probed figure). Without: the old rule, what is
/// available is all there is.
pub(super) fn memory_gb(snapshot: &Snapshot, node: &NodeRow, need: &Need) -> (i64, i64) {
    let hot = snapshot.numbers(node, Some(&need.uid));
    (i64::from(hot.memory_gb), i64::from(hot.free_gb))
}
