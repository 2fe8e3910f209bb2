//! Opening the file: is it ours, is it safe where it lies, is it of our version.

use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::limits::{
    BUSY_TIMEOUT, CHECKPOINT_PAGES, LOG_FILE_BYTES_KEPT, STATEMENTS_CACHED, Tuning,
};
use crate::{filesystem, schema};

/// Mode of the directory that is made for a store.
const DIRECTORY_MODE: u32 = 0o700;
/// Mode of the file, and so of SQLite's files beside it.
const FILE_MODE: u32 = 0o600;

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory could not be made or looked at.
    #[error("the directory {} cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be made.
    #[error("the store {} cannot be created", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory is on a network file system, where SQLite's locks do not hold.
    #[error(
        "the store {} is on {filesystem}, where file locks do not hold: choose a directory on a local disk",
        path.display()
    )]
    NetworkFilesystem {
        /// The file.
        path: PathBuf,
        /// The file system.
        filesystem: String,
    },
    /// The file is not an `SQLite` database, or is damaged beyond reading.
    #[error(
        "{} is not a Foreman store or is damaged: choose another path, or restore the file from a copy",
        path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file is an `SQLite` database of another program.
    #[error("{} is a database of another program (application id {found:#x}): choose another path", path.display())]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
        /// The `application_id` in it.
        found: i32,
    },
    /// A newer Foreman wrote the file.
    #[error(
        "the store {} has version {found}, this program knows versions up to {supported}: use a newer foreman",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        supported: i64,
    },
    /// No backup could be made, so the file was left as it was.
    #[error("the store {} was not migrated because its backup {} cannot be made", path.display(), backup.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// The backup.
        backup: PathBuf,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file was not taken to the next version; it is as it was.
    #[error("the store {} was not migrated from version {from}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The version it has.
        from: i64,
        /// What failed.
        source: rusqlite::Error,
    },
    /// SQLite could not be set up on the file.
    #[error("the store {} cannot be opened", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file system does not support the write-ahead log.
    #[error("the store {} cannot use a write-ahead log there (got journal mode {mode:?})", path.display())]
    NoWriteAheadLog {
        /// The file.
        path: PathBuf,
        /// The mode that SQLite fell back to.
        mode: String,
    },
    /// A thread could not be started.
    #[error("a thread of the store {} cannot be started", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the writing connection: the file is made if absent, and migrated if older.
pub(crate) fn writer(path: &Path, tuning: Tuning) -> Result<Connection, OpenError> {
    prepare_place(path)?;
    let sqlite = |source| sqlite_error(path, source);
    let mut connection = connect(path).map_err(sqlite)?;
    check_ours(path, &connection)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(sqlite)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(sqlite)?;
    connection.pragma_update(None, "journal_size_limit", LOG_FILE_BYTES_KEPT).map_err(sqlite)?;
    migrate(path, &mut connection)?;
    // Between two looks at other processes' commits a lock is waited for no longer than this.
    connection.busy_timeout(tuning.poll.min(tuning.busy)).map_err(sqlite)?;
    if let Some(pages) = tuning.pages_max {
        connection.pragma_update(None, "max_page_count", pages).map_err(sqlite)?;
    }
    Ok(connection)
}

/// Opens a reading connection on a file that [`writer`] has opened before.
pub(crate) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let sqlite = |source| sqlite_error(path, source);
    let connection = connect(path).map_err(sqlite)?;
    connection.pragma_update(None, "query_only", true).map_err(sqlite)?;
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

/// Makes directory and file. An existing file is never opened here: closing it again would drop the
/// locks that SQLite holds on it elsewhere in this process.
fn prepare_place(path: &Path) -> Result<(), OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(unusable)?;
    if let Some(filesystem) = filesystem::network(directory).map_err(unusable)? {
        return Err(OpenError::NetworkFilesystem { path: path.to_owned(), filesystem });
    }
    private_file(path).map_err(|source| OpenError::Create { path: path.to_owned(), source })
}

/// Makes an empty file that only its owner may read, unless something of that name is there.
fn private_file(path: &Path) -> io::Result<()> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn sqlite_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::NotADatabase { path, source }
        }
        _ => OpenError::Sqlite { path, source },
    }
}

fn check_ours(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let sqlite = |source| sqlite_error(path, source);
    // In this order: another process may be making the file, and its tables and its mark come in one
    // transaction, so whoever saw the tables sees the mark as well.
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite)?;
    let found: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sqlite)?;
    if found != schema::APPLICATION_ID && tables > 0 {
        return Err(OpenError::ForeignDatabase { path: path.to_owned(), found });
    }
    let version = schema::version(connection).map_err(sqlite)?;
    if version > schema::supported() {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: version,
            supported: schema::supported(),
        });
    }
    Ok(())
}

/// Takes the file up, one version a transaction. Another process may do the same: whoever has the
/// write lock looks again at the version before it acts.
fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let mut from = schema::version(connection).map_err(|source| sqlite_error(path, source))?;
    while from < schema::supported() {
        let failed = |source| OpenError::Migrate { path: path.to_owned(), from, source };
        let step =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        if schema::version(&step).map_err(failed)? == from {
            if from > 0 {
                back_up(path, from)?;
            }
            // A new file holds nothing that a backup could keep: it gets all versions at once.
            let to = if from == 0 { schema::supported() } else { from + 1 };
            for version in from..to {
                schema::step(&step, version).map_err(failed)?;
            }
        }
        step.commit().map_err(failed)?;
        from = schema::version(connection).map_err(failed)?;
        // Another process may have gone further than we can.
        check_ours(path, connection)?;
    }
    Ok(())
}

/// Where the copy of a store goes that is about to be migrated from version `from`.
fn backup_path(path: &Path, from: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".v{from}.backup"));
    name.into()
}

/// Copies the store by a connection of its own, while the caller's transaction keeps writers out.
fn back_up(path: &Path, from: i64) -> Result<(), OpenError> {
    let backup = backup_path(path, from);
    let mut half = backup.clone().into_os_string();
    half.push(".part");
    let half = PathBuf::from(half);
    let copy = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if half.exists() {
            std::fs::remove_file(&half)?;
        }
        private_file(&half)?;
        let target = half.to_str().ok_or("its path is not UTF-8")?;
        connect(path)?.execute("VACUUM INTO ?1", [target])?;
        std::fs::File::open(&half)?.sync_all()?;
        std::fs::rename(&half, &backup)?;
        Ok(())
    };
    copy().map_err(|source| OpenError::Backup {
        path: path.to_owned(),
        backup: backup.clone(),
        source,
    })
}
