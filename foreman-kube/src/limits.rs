//! Every duration and limit of this adapter, in one place.

use std::time::Duration;

/// How long a connection may take to be made.
pub const CONNECT: Duration = Duration::from_secs(3);
/// How long a read of one object or one page may take, with every try of it.
pub const READ: Duration = Duration::from_secs(10);
/// How long a write may take, with every try of it; told to the server too, so that nothing is
/// written later. The writes of a leader must end so soon.
pub const WRITE: Duration = Duration::from_secs(4);
/// Objects in one page of a list.
pub const PAGE_OBJECTS: usize = 100;
/// How long the server keeps a watch open; then it is opened again where it ended.
pub const WATCH: Duration = Duration::from_secs(200);
/// A watch that is silent for so long is broken: the server sends a bookmark each minute.
pub const WATCH_SILENCE: Duration = Duration::from_secs(75);
/// A watch that ends sooner than this is opened again only after a pause.
pub(crate) const WATCH_HEALTHY: Duration = Duration::from_secs(1);
/// How often a call is tried that was certainly not carried out.
pub(crate) const TRIES_MAX: u32 = 4;
/// The pause before the second try is drawn between half of this and this; it doubles each time.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(200);
/// The longest such pause, e.g. before a watch that broke again and again is opened.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(5);
/// The longest `Retry-After` that is waited for within a call; a longer one is the caller's.
pub(crate) const RETRY_AFTER_WAITED: Duration = Duration::from_secs(2);
/// How often a list begins again because its pages expired under it.
pub(crate) const LIST_TRIES_MAX: usize = 3;
/// How often the server's own lost races are tried again where no revision was expected.
pub(crate) const RACES_MAX: usize = 5;
/// The largest answer with one object, in bytes: the largest object, and its managed fields.
pub(crate) const OBJECT_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest answer with one page, in bytes.
pub(crate) const PAGE_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Characters of an answer that is no JSON which are shown.
pub(crate) const SHOWN_CHARS_MAX: usize = 200;

/// The times that a program chooses; the default is what this module says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`READ`].
    pub read: Duration,
    /// See [`WRITE`].
    pub write: Duration,
    /// See [`WATCH`].
    pub watch: Duration,
    /// See [`WATCH_SILENCE`].
    pub watch_silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { read: READ, write: WRITE, watch: WATCH, watch_silence: WATCH_SILENCE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_fit_each_other() {
        // A connection that cannot be made is told from a write without an answer.
        assert!(CONNECT < WRITE);
        // Every try of a call fits into the time of a write.
        let pauses: u32 = (1..TRIES_MAX).map(|again| 1 << (again - 1)).sum();
        assert!(RETRY_MIN * pauses < WRITE);
        assert!(RETRY_AFTER_WAITED < WRITE);
        // The server's bookmarks come each minute.
        assert!(WATCH_SILENCE > Duration::from_mins(1) && WATCH_SILENCE < WATCH);
    }
}
