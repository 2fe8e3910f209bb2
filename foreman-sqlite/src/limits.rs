//! Every limit of this store, in one place.

use std::time::Duration;

/// The most changes in one transaction: one fsync for all of them.
pub const GROUP_CHANGES_MAX: usize = 256;
/// The most writes that wait for the writer; more callers wait before they are queued.
pub const PENDING_WRITES_MAX: usize = 4_096;
/// The most reads that wait for a reader; more callers wait before they are queued.
pub const PENDING_READS_MAX: usize = 1_024;
/// Threads that read, each with a connection of its own.
pub const READER_THREADS: usize = 2;
/// How long another process may hold the write lock before a write is given up.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a store with watchers looks for commits of other processes.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The most rows in the log of changes; a reader that is further behind reads everything again.
pub const CHANGES_KEPT_ROWS: i64 = 100_000;
/// The greatest age of a row in the log of changes, in seconds.
pub const CHANGES_KEPT_SECONDS: i64 = 3_600;
/// The most rows that one transaction takes off the old end of the log.
pub(crate) const CHANGES_TRIMMED_MAX: i64 = 1_024;
/// Changes that are held in memory for watchers; one that is further behind reads everything again.
pub const LOG_ENTRIES_MAX: usize = 16_384;
/// The most JSON that is held in memory for watchers, in bytes.
pub const LOG_BYTES_MAX: usize = 32 * 1024 * 1024;
/// With more unseen changes of other processes than this, watchers read everything again.
pub(crate) const FOREIGN_CHANGES_MAX: i64 = 4_096;
/// Changes that a watcher takes at a time, so that one poll of its stream stays short.
pub(crate) const TAKEN_MAX: usize = 256;
/// Statements that a connection keeps prepared.
pub(crate) const STATEMENTS_CACHED: usize = 64;
/// How long a watcher waits after a failed reading before the next.
pub(crate) const RESYNC_PAUSE: Duration = Duration::from_millis(500);
/// Pages in the write-ahead log at which it is moved into the file (4 KiB each).
pub(crate) const CHECKPOINT_PAGES: i64 = 4_000;

/// The write-ahead log is cut down to this after it was moved into the file, in bytes.
pub(crate) const LOG_FILE_BYTES_KEPT: i64 = 64 * 1024 * 1024;

/// The limits that a test may want smaller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) poll: Duration,
    pub(crate) busy: Duration,
    /// The most pages of the file, as if the disk were so small.
    pub(crate) pages_max: Option<i64>,
    pub(crate) changes_kept_rows: i64,
    pub(crate) log_entries_max: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            poll: POLL_INTERVAL,
            busy: BUSY_TIMEOUT,
            pages_max: None,
            changes_kept_rows: CHANGES_KEPT_ROWS,
            log_entries_max: LOG_ENTRIES_MAX,
        }
    }
}
