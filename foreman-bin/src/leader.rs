//! Embedded leadership: one process per data directory holds the agent and the control loops.
//!
//! The lock is a `flock` on `<data>/lock`. The system takes it back when its holder ends, however
//! that happens, so nobody ever has to clean up; the text in the file only says who it was.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lock's name in the data directory.
const LOCK_FILE: &str = "lock";
/// How often a follower tries to take the lock over. A holder that exits leaves work behind that
/// somebody waits for, so this is short; a try is one system call.
const TAKE_OVER_POLL: Duration = Duration::from_millis(200);
/// How often, and after which pause each, a lock that is taken is tried again: somebody may only have
/// looked at it.
const CLAIM_TRIES: u32 = 4;
/// See [`CLAIM_TRIES`]. Looking holds the lock for less than this by far.
const CLAIM_AGAIN: Duration = Duration::from_millis(5);
/// How much of the lock file is read to say who holds it, in bytes.
const HOLDER_BYTES_MAX: u64 = 256;

/// Why nobody could say who leads.
#[derive(Debug, thiserror::Error)]
#[error("the lock {} cannot be used: check that the data directory is writable", path.display())]
pub struct LeaderError {
    /// The lock file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The right to run agent and control loops on a data directory, until dropped.
#[derive(Debug)]
pub struct Leadership {
    // Closing the file gives the lock back.
    file: File,
    path: PathBuf,
}

impl Leadership {
    /// Whether the lock file that is held is still the one in the data directory. When it is not,
    /// somebody removed or replaced the directory: others lead there now, and what is written here
    /// nobody will find.
    pub fn is_in_place(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }
}

/// Who has the lock.
#[derive(Debug)]
pub enum Claimed {
    /// This process, now.
    Ours(Leadership),
    /// Another one, as it described itself, e.g. `pid 4711 (foreman up)`.
    Theirs(String),
}

/// Tries to lead on `data_dir`, which must exist. `role` is what others are told, e.g. `foreman up`.
pub fn claim(data_dir: &Path, role: &str) -> Result<Claimed, LeaderError> {
    let mut claimed = claim_once(data_dir, role)?;
    for _ in 1..CLAIM_TRIES {
        match claimed {
            Claimed::Ours(_) => break,
            Claimed::Theirs(_) => std::thread::sleep(CLAIM_AGAIN),
        }
        claimed = claim_once(data_dir, role)?;
    }
    Ok(claimed)
}

/// Who works on `data_dir`, as it described itself; none, when nobody does. Only looks.
///
/// # Errors
/// The lock cannot be read.
pub fn holder(data_dir: &Path) -> Result<Option<String>, LeaderError> {
    let path = data_dir.join(LOCK_FILE);
    let failed = |source| LeaderError { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        // Nobody ever worked here.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Shared, so that two who look see nothing of each other; given back when the file is closed.
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(described(&mut file))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn claim_once(data_dir: &Path, role: &str) -> Result<Claimed, LeaderError> {
    let path = data_dir.join(LOCK_FILE);
    let failed = |source| LeaderError { path: path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            describe(&mut file, role).map_err(failed)?;
            Ok(Claimed::Ours(Leadership { file, path }))
        }
        Err(TryLockError::WouldBlock) => Ok(Claimed::Theirs(described(&mut file))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Waits until this process leads on `data_dir`. Cancelled by dropping.
pub async fn take_over(data_dir: &Path, role: &str) -> Result<Leadership, LeaderError> {
    loop {
        if let Claimed::Ours(leadership) = claim_once(data_dir, role)? {
            return Ok(leadership);
        }
        tokio::time::sleep(TAKE_OVER_POLL).await;
    }
}

/// Writes who we are, for whoever finds the lock taken.
fn describe(file: &mut File, role: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "pid {} ({role})", std::process::id())
}

fn described(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
    match (read, text.lines().next()) {
        (Ok(_), Some(line)) if !line.trim().is_empty() => line.trim().to_owned(),
        // It has the lock and did not get round to writing its name yet.
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_next_one_when_it_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let Claimed::Ours(first) = claim(dir.path(), "foreman up").expect("claimed") else {
            panic!("nobody else is there");
        };
        let Claimed::Theirs(holder) = claim(dir.path(), "foreman run").expect("asked") else {
            panic!("two leaders");
        };
        assert_eq!(holder, format!("pid {} (foreman up)", std::process::id()));
        drop(first);
        assert!(matches!(claim(dir.path(), "foreman run"), Ok(Claimed::Ours(_))));
    }

    #[test]
    fn a_directory_that_was_removed_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("made");
        let Claimed::Ours(first) = claim(&data, "foreman up").expect("claimed") else {
            panic!("nobody else is there");
        };
        assert!(first.is_in_place());
        assert_eq!(first.data_dir(), data);
        std::fs::remove_dir_all(&data).expect("removed");
        assert!(!first.is_in_place());
        std::fs::create_dir(&data).expect("made");
        assert!(matches!(claim(&data, "foreman run"), Ok(Claimed::Ours(_))));
        assert!(!first.is_in_place(), "another one leads there");
    }

    #[test]
    fn who_works_can_be_seen_without_being_in_the_way() {
        let dir = tempfile::tempdir().expect("a folder");
        let seen = || holder(dir.path()).expect("looked");
        assert_eq!(seen(), None, "nobody ever did");
        let Claimed::Ours(first) = claim(dir.path(), "foreman up").expect("claimed") else {
            panic!("nobody else is there");
        };
        assert_eq!(seen(), Some(format!("pid {} (foreman up)", std::process::id())));
        drop(first);
        assert_eq!(seen(), None, "the text stays, the lock does not");
        let looking = File::open(dir.path().join(LOCK_FILE)).expect("there");
        looking.lock_shared().expect("looked at");
        assert_eq!(seen(), None, "somebody who looks does not work");
    }

    #[tokio::test]
    async fn a_follower_takes_over_when_the_holder_leaves() {
        let dir = tempfile::tempdir().expect("a folder");
        let Claimed::Ours(first) = claim(dir.path(), "foreman up").expect("claimed") else {
            panic!("nobody else is there");
        };
        let waiting = take_over(dir.path(), "foreman run");
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        let taken = tokio::time::timeout(Duration::from_secs(5), waiting).await;
        assert!(taken.expect("in time").is_ok());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = claim(Path::new("/nonexistent/foreman"), "x").expect_err("no folder");
        assert!(error.to_string().contains("/nonexistent/foreman/lock"), "{error}");
    }
}
