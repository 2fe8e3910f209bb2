//! The fleet in numbers: what a decision reads of each node, and nothing else. Words become bits here,
//! once, when a need first asks for them; a decision compares numbers only.

use std::collections::BTreeMap;

use super::fit::Refusals;
use super::snapshot::NodeRow;
use crate::timing::ATOMS_MAX;

/// What a decision reads of one node besides its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hot {
    /// The refusals that hold whatever the task is.
    pub(super) base: Refusals,
    /// Memory for work, in GiB.
    pub(super) memory_gb: i32,
    /// What of it is left, in GiB.
    pub(super) free_gb: i32,
    /// The largest context, in tokens.
    pub(super) context_tokens: i32,
    /// Speed, in tokens a second.
    pub(super) speed: u32,
    /// Slots in use, in permille.
    pub(super) load_permille: u32,
}

/// What kind of thing a need asks for, that a node has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// It has that role.
    Role,
    /// It carries that label with that value.
    Label,
    /// It takes tasks of that namespace.
    Namespace,
    /// Its accelerator is that one.
    Accelerator,
    /// That model is installed there.
    Installed,
    /// That model is in memory there.
    Loaded,
}

/// One such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Atom<'a> {
    pub(super) asks: Asks,
    pub(super) word: &'a str,
    /// A label's value; empty for all else.
    pub(super) value: &'a str,
}

impl<'a> Atom<'a> {
    pub(super) const fn new(asks: Asks, word: &'a str) -> Self {
        Self { asks, word, value: "" }
    }

    /// Whether it is so on that node. The only place that compares words.
    pub(super) fn holds(self, node: &NodeRow) -> bool {
        let Self { asks, word, value } = self;
        match asks {
            Asks::Role => node.roles.iter().any(|has| has == word),
            Asks::Label => node.labels.get(word).is_some_and(|has| has == value),
            Asks::Namespace => node.namespaces.is_empty() || node.namespaces.contains(word),
            Asks::Accelerator => node.accelerator.as_deref() == Some(word),
            Asks::Installed => !word.is_empty() && node.models.contains(word),
            Asks::Loaded => node.loaded.contains(word),
        }
    }
}

/// Where the bit of an atom stands in a node's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bit {
    pub(super) word: usize,
    pub(super) mask: u64,
}

impl Bit {
    const fn of(id: usize) -> Self {
        Self { word: id / BITS, mask: 1 << (id % BITS) }
    }
}

const BITS: usize = 64;

/// The columns, in the order of the snapshot's rows.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) hot: Vec<Hot>,
    /// `stride` words for each node.
    bits: Vec<u64>,
    stride: usize,
    atoms: Vec<(Asks, String, String)>,
    ids: [BTreeMap<String, BTreeMap<String, usize>>; 6],
}

impl Default for Columns {
    fn default() -> Self {
        let ids = std::array::from_fn(|_| BTreeMap::new());
        Self { hot: Vec::new(), bits: Vec::new(), stride: 1, atoms: Vec::new(), ids }
    }
}

impl Columns {
    /// The bit of an atom; absent when no need asked for it before.
    pub(super) fn bit(&self, atom: Atom<'_>) -> Option<Bit> {
        let ids = self.ids.get(atom.asks as usize)?;
        ids.get(atom.word)?.get(atom.value).map(|id| Bit::of(*id))
    }

    /// Each node with its bits.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Hot, &[u64])> {
        self.hot.iter().zip(self.bits.chunks_exact(self.stride))
    }

    /// One node with its bits.
    pub(super) fn get(&self, at: usize) -> Option<(&Hot, &[u64])> {
        let from = at * self.stride;
        Some((self.hot.get(at)?, self.bits.get(from..from + self.stride)?))
    }

    /// A node was put in at `at`.
    pub(super) fn insert(&mut self, at: usize, node: &NodeRow) {
        self.hot.insert(at, Hot::default());
        let from = at * self.stride;
        self.bits.splice(from..from, std::iter::repeat_n(0, self.stride));
        self.refresh(at, node);
    }

    /// The node at `at` is gone.
    pub(super) fn remove(&mut self, at: usize) {
        self.hot.remove(at);
        let from = at * self.stride;
        self.bits.drain(from..from + self.stride);
    }

    /// Reads a node's words again.
    pub(super) fn refresh(&mut self, at: usize, node: &NodeRow) {
        let from = at * self.stride;
        let Some(bits) = self.bits.get_mut(from..from + self.stride) else { return };
        bits.fill(0);
        for (id, (asks, word, value)) in self.atoms.iter().enumerate() {
            if (Atom { asks: *asks, word, value }).holds(node) {
                let bit = Bit::of(id);
                if let Some(bits) = bits.get_mut(bit.word) {
                    *bits |= bit.mask;
                }
            }
        }
    }

    /// Gives an atom its bit: from here on no decision compares its words. When there are too many,
    /// all are forgotten and learnt again as they are asked for.
    pub(super) fn learn<'r>(
        &mut self,
        atom: Atom<'_>,
        rows: impl Iterator<Item = &'r NodeRow>,
    ) -> Bit {
        if let Some(bit) = self.bit(atom) {
            return bit;
        }
        if self.atoms.len() >= ATOMS_MAX {
            self.forget_atoms();
        }
        let id = self.atoms.len();
        let bit = Bit::of(id);
        if bit.word >= self.stride {
            self.widen(bit.word + 1);
        }
        for (bits, node) in self.bits.chunks_exact_mut(self.stride).zip(rows) {
            if let Some(bits) = bits.get_mut(bit.word).filter(|_| atom.holds(node)) {
                *bits |= bit.mask;
            }
        }
        self.atoms.push((atom.asks, atom.word.to_owned(), atom.value.to_owned()));
        if let Some(ids) = self.ids.get_mut(atom.asks as usize) {
            let values = ids.entry(atom.word.to_owned()).or_default();
            values.insert(atom.value.to_owned(), id);
        }
        bit
    }

    /// Whether so many new atoms could be learnt without forgetting any.
    pub(super) fn has_room(&self, atoms: usize) -> bool {
        self.atoms.len() + atoms <= ATOMS_MAX
    }

    /// Forgets all atoms.
    pub(super) fn forget_atoms(&mut self) {
        self.atoms.clear();
        self.ids.iter_mut().for_each(BTreeMap::clear);
        self.bits.fill(0);
    }

    fn widen(&mut self, stride: usize) {
        let mut wide = Vec::with_capacity(self.hot.len() * stride);
        for bits in self.bits.chunks_exact(self.stride) {
            wide.extend_from_slice(bits);
            wide.resize(wide.len() + stride - self.stride, 0);
        }
        self.bits = wide;
        self.stride = stride;
    }
}
