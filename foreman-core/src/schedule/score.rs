//! Score: which of the nodes that fit is best.

use super::columns::Hot;
use super::fit::Wanted;
use super::snapshot::Snapshot;

/// How good a node is for a task; greater is better. The terms, in order: it is no last resort, the
/// model is loaded, the run's journal is there, measured speed, least loaded; then the name, the
/// smaller the better, so that an idle fleet of equal machines is filled in the order of names.
///
/// The terms stand in one number, from high bits to low.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score(u128);

const NAME_BITS: u32 = 32;
const LOAD_BITS: u32 = 32;
const SPEED_BITS: u32 = 32;
const JOURNAL_AT: u32 = NAME_BITS + LOAD_BITS + SPEED_BITS;
const LOADED_AT: u32 = JOURNAL_AT + 1;
const WILLING_AT: u32 = LOADED_AT + 1;

impl Score {
    /// The score of the node in that place of the snapshot, which fits.
    pub(super) fn of(
        snapshot: &Snapshot,
        wanted: &Wanted<'_>,
        at: usize,
        hot: &Hot,
        bits: &[u64],
    ) -> Self {
        let hot = wanted.hot(snapshot, at, hot);
        // Rows are in the order of names.
        let place = u32::try_from(at).unwrap_or(u32::MAX);
        Self(
            u128::from(!wanted.is_soft(at)) << WILLING_AT
                | u128::from(wanted.is_loaded(snapshot, at, bits)) << LOADED_AT
                | u128::from(wanted.journal == Some(at)) << JOURNAL_AT
                | u128::from(hot.speed) << (NAME_BITS + LOAD_BITS)
                | u128::from(u32::MAX - hot.load_permille) << NAME_BITS
                | u128::from(u32::MAX - place),
        )
    }

    /// Whether the model is in memory there.
    pub(super) const fn model_loaded(self) -> bool {
        self.0 >> LOADED_AT & 1 == 1
    }

    /// Whether the run's journal is there.
    pub(super) const fn journal_here(self) -> bool {
        self.0 >> JOURNAL_AT & 1 == 1
    }

    /// Whether it is a last resort: it struck or refused the task lately.
    pub(super) const fn last_resort(self) -> bool {
        self.0 >> WILLING_AT & 1 == 0
    }
}
