//! What the store's answer to a write means for what the loop knows.

use std::time::Duration;

use super::backoff::Backoff;
use super::mirror::{Mirror, Reread};
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::time::AwakeTime;
use crate::ports::store::StoreError;

/// What the store said to a write.
pub(super) enum Answer<K: Kind> {
    /// The object as it is now.
    Written(Box<Object<K>>),
    /// Somebody was faster, or nobody knows: what a fresh read shows.
    Lost(Reread<K>),
    /// The store does not take it, and will not soon.
    Refused(StoreError),
    /// Try again later, not before the store asked to be left alone for so long.
    Later(Option<Duration>),
}

impl<K: Kind> Answer<K> {
    /// Whether the store asked to be left alone for a while: it has too much to do.
    pub(super) fn asks_for_time(&self) -> bool {
        matches!(self, Self::Later(Some(_)))
    }
}

/// After a lost race the object could not be read either.
pub(super) fn not_read<K: Kind>(key: &Key, error: StoreError) -> Answer<K> {
    tracing::warn!(kind = K::NAMES.kind, %key, %error, "an object could not be read after a write");
    match error {
        StoreError::Unreadable { .. } | StoreError::Denied { .. } => Answer::Refused(error),
        StoreError::Unavailable { retry_after, .. } => Answer::Later(retry_after),
        StoreError::Conflict
        | StoreError::NotFound
        | StoreError::AlreadyExists { .. }
        | StoreError::Invalid { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Uncertain { .. } => Answer::Later(None),
    }
}

/// Folds an answer into what the loop knows.
pub(super) fn settle<K: Kind>(
    mirror: &mut Mirror<K>,
    key: &Key,
    away: &mut Backoff,
    now: AwakeTime,
    answer: Answer<K>,
) {
    match answer {
        Answer::Written(object) => {
            away.reset();
            mirror.write_done(*object);
        }
        // Nobody was faster: a store that goes on like this is not asked in a hot loop.
        Answer::Lost(found) if mirror.is_unmoved(key, &found) => mirror.write_missed(key, now),
        Answer::Lost(found) => mirror.write_failed(key, found),
        Answer::Refused(_) => mirror.write_refused(key, now),
        Answer::Later(asked) => {
            away.failed(now, asked);
            mirror.write_failed(key, Reread::Unknown);
        }
    }
}
