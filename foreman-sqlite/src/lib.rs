//! Foreman's embedded store: objects of every kind in one `SQLite` file.
//!
//! One thread writes, up to 256 changes a transaction, in WAL mode with `synchronous=FULL`: what was
//! acknowledged survives a crash. A few threads read. Watchers are told of this process's commits at
//! once and of other processes' within 50 ms or so. Nothing here blocks an async thread.
//!
//! It never touches anything but its file, SQLite's files beside it, and the backup that is made
//! before a migration.
#![warn(missing_docs)]

mod changes;
mod failure;
mod filesystem;
mod hub;
pub mod limits;
mod open;
mod readers;
mod rows;
mod schema;
mod store;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

pub use open::OpenError;
pub use store::SqliteStore;
pub use writer::Statistics;

/// The version of the `SQLite` that is built in.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
