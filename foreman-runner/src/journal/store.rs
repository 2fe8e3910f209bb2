//! The journals of a state directory: make, read with parents, list, reap.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::JournalError;
use super::codec::decode;
use super::record::{Entry, Header, JOURNAL_SCHEMA, ParentRef, Record};
use super::replay::{Replay, replay};
use super::writer::{Journal, WallClock};
use crate::limits::{JOURNAL_CHAIN_BYTES_MAX, JOURNAL_CHAIN_MAX};
use crate::redact::Redactor;

/// What names one journal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalKey {
    uid: String,
    attempt: u32,
}

impl JournalKey {
    /// The journal of this attempt of the task with this uid.
    ///
    /// # Errors
    /// [`JournalError::BadKey`] for a uid that is no safe file name.
    pub fn new(uid: &str, attempt: u32) -> Result<Self, JournalError> {
        let safe = (1..=64).contains(&uid.len())
            && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !safe {
            return Err(JournalError::BadKey { given: crate::text::clip(uid, 100) });
        }
        Ok(Self { uid: uid.to_owned(), attempt })
    }

    /// Uid of the task.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Its attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A journal that can be written, and what it (with its parents) says so far.
#[derive(Debug)]
pub struct OpenedJournal {
    /// To append to.
    pub journal: Journal,
    /// What it says; nothing is missing any more.
    pub replay: Replay,
}

/// What a listing knows of a journal without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSummary {
    /// Which.
    pub key: JournalKey,
    /// Its size.
    pub bytes: u64,
    /// When it was written last.
    pub modified: SystemTime,
}

/// The journals under `<state>/journals`. Cheap to clone. Every method does its work on a blocking
/// thread of the runtime.
#[derive(Clone)]
pub struct JournalStore {
    pub(super) dir: PathBuf,
    wall: WallClock,
}

impl std::fmt::Debug for JournalStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl JournalStore {
    /// The journals of a state directory. `wall` tells milliseconds since 1970, for people.
    pub fn new(state_dir: &Path, wall: WallClock) -> Self {
        Self { dir: state_dir.join("journals"), wall }
    }

    /// Begins the journal of a claim: the file with its header, and what its parents lack to be a
    /// valid conversation. All of it is durable on return.
    ///
    /// # Errors
    /// [`JournalError::Exists`] when this attempt was begun before; [`JournalError::Parent`]; the disk.
    pub async fn create(
        &self,
        header: Header,
        redactor: Redactor,
    ) -> Result<OpenedJournal, JournalError> {
        let this = self.clone();
        blocking(move || this.create_now(header, redactor)).await
    }

    /// Opens a journal of this process's own claim again, cut at the first bad record.
    ///
    /// # Errors
    /// No such journal, no header, a newer schema, the disk.
    pub async fn reopen(
        &self,
        key: JournalKey,
        redactor: Redactor,
    ) -> Result<OpenedJournal, JournalError> {
        let this = self.clone();
        blocking(move || this.reopen_now(&key, redactor)).await
    }

    /// Reads a journal with its parents, without touching it; calls without an answer stay open.
    ///
    /// # Errors
    /// As for [`JournalStore::reopen`].
    pub async fn read(&self, key: JournalKey) -> Result<Replay, JournalError> {
        Ok(replay(&self.records(key).await?))
    }

    /// The records of a journal, those of its parents first.
    ///
    /// # Errors
    /// As for [`JournalStore::reopen`].
    pub async fn records(&self, key: JournalKey) -> Result<Vec<Record>, JournalError> {
        let this = self.clone();
        blocking(move || {
            let (own, _) = this.read_file(&key, u64::MAX)?;
            this.chain(&this.path(&key), own)
        })
        .await
    }

    /// What a new journal of a task names as its parent: the newest journal of `uid` that has a header.
    /// None when there is none.
    ///
    /// # Errors
    /// The disk.
    pub async fn parent(&self, uid: &str) -> Result<Option<ParentRef>, JournalError> {
        let (this, uid) = (self.clone(), JournalKey::new(uid, 0)?.uid);
        blocking(move || {
            for attempt in this.attempts(&uid)?.into_iter().rev() {
                match this.read_file(&JournalKey { uid: uid.clone(), attempt }, u64::MAX) {
                    Ok((_, bytes)) => {
                        return Ok(Some(ParentRef { uid, attempt, bytes }));
                    }
                    // A crash between making the file and writing its header: the one before counts.
                    Err(JournalError::NoHeader { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        })
        .await
    }

    /// The highest attempt that has a journal here, readable or not.
    ///
    /// # Errors
    /// The disk.
    pub async fn highest_attempt(&self, uid: &str) -> Result<Option<u32>, JournalError> {
        let (this, uid) = (self.clone(), JournalKey::new(uid, 0)?.uid);
        blocking(move || Ok(this.attempts(&uid)?.last().copied())).await
    }

    /// All journals, by uid and attempt.
    ///
    /// # Errors
    /// The disk.
    pub async fn list(&self) -> Result<Vec<JournalSummary>, JournalError> {
        let this = self.clone();
        blocking(move || this.list_now()).await
    }

    pub(super) fn path(&self, key: &JournalKey) -> PathBuf {
        self.dir.join(&key.uid).join(format!("{}.journal", key.attempt))
    }

    fn create_now(
        &self,
        header: Header,
        redactor: Redactor,
    ) -> Result<OpenedJournal, JournalError> {
        let key = JournalKey::new(&header.fence.uid, header.fence.attempt)?;
        let path = self.path(&key);
        let header_record = Record { at: (self.wall)(), entry: Entry::Header(Box::new(header)) };
        let records = self.chain(&path, vec![header_record.clone()])?;
        let dir = path.parent().unwrap_or(&self.dir);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| io("make the directory of", &path, &e))?;
        let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(JournalError::Exists { path });
            }
            Err(error) => return Err(io("create", &path, &error)),
        };
        let mut journal = Journal::start(file, path.clone(), 0, redactor, self.wall.clone())?;
        journal.append(header_record.entry)?;
        let state = Self::complete(&mut journal, &records)?;
        for dir in [dir, self.dir.as_path()] {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| io("sync the directory of", &path, &e))?;
        }
        Ok(OpenedJournal { journal, replay: state })
    }

    fn reopen_now(
        &self,
        key: &JournalKey,
        redactor: Redactor,
    ) -> Result<OpenedJournal, JournalError> {
        let path = self.path(key);
        let (own, bytes) = self.read_file(key, u64::MAX)?;
        let records = self.chain(&path, own)?;
        let mut file =
            OpenOptions::new().write(true).open(&path).map_err(|e| io("open", &path, &e))?;
        file.set_len(bytes).map_err(|e| io("cut", &path, &e))?;
        file.seek(SeekFrom::Start(bytes)).map_err(|e| io("open", &path, &e))?;
        let mut journal = Journal::start(file, path, bytes, redactor, self.wall.clone())?;
        let state = Self::complete(&mut journal, &records)?;
        Ok(OpenedJournal { journal, replay: state })
    }

    /// Writes what is missing, durably, and says what then stands there.
    fn complete(journal: &mut Journal, records: &[Record]) -> Result<Replay, JournalError> {
        let mut state = replay(records);
        for entry in state.missing() {
            state.apply(&journal.append(entry)?);
        }
        journal.sync_blocking()?;
        Ok(state)
    }

    /// The good records of one file, at most its first `bytes_max` bytes, and how many bytes they take.
    pub(super) fn read_file(
        &self,
        key: &JournalKey,
        bytes_max: u64,
    ) -> Result<(Vec<Record>, u64), JournalError> {
        let path = self.path(key);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| {
                file.take(bytes_max.min(JOURNAL_CHAIN_BYTES_MAX)).read_to_end(&mut bytes)
            })
            .map_err(|e| io("read", &path, &e))?;
        let decoded = decode(&bytes);
        if let Some(Record { entry: Entry::Header(header), .. }) = decoded.records.first() {
            if header.schema > JOURNAL_SCHEMA {
                return Err(JournalError::Newer {
                    path,
                    found: header.schema,
                    known: JOURNAL_SCHEMA,
                });
            }
            return Ok((decoded.records, decoded.valid_bytes));
        }
        Err(JournalError::NoHeader { path })
    }

    /// `own` with the records of all its parents before it.
    fn chain(&self, path: &Path, own: Vec<Record>) -> Result<Vec<Record>, JournalError> {
        let mut files = vec![own];
        let mut seen = BTreeSet::new();
        let mut bytes = 0_u64;
        let fault = |why: String| JournalError::Parent { path: path.to_owned(), why };
        while let Some(parent) = files.last().and_then(|records| parent_in(records)) {
            let key = JournalKey::new(&parent.uid, parent.attempt)?;
            if files.len() >= JOURNAL_CHAIN_MAX || !seen.insert(key.clone()) {
                return Err(fault(format!(
                    "the chain of parents does not end ({} journals)",
                    files.len()
                )));
            }
            let (records, length) =
                self.read_file(&key, parent.bytes).map_err(|error| fault(error.to_string()))?;
            bytes += length;
            if bytes > JOURNAL_CHAIN_BYTES_MAX {
                return Err(fault(format!(
                    "all together they are longer than {JOURNAL_CHAIN_BYTES_MAX} bytes"
                )));
            }
            files.push(records);
        }
        Ok(files.into_iter().rev().flatten().collect())
    }

    fn attempts(&self, uid: &str) -> Result<Vec<u32>, JournalError> {
        let dir = self.dir.join(uid);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("list", &dir, &error)),
        };
        let mut attempts: Vec<u32> = entries
            .filter_map(|entry| {
                entry.ok()?.file_name().to_str()?.strip_suffix(".journal")?.parse().ok()
            })
            .collect();
        attempts.sort_unstable();
        Ok(attempts)
    }

    pub(super) fn list_now(&self) -> Result<Vec<JournalSummary>, JournalError> {
        let dirs = match fs::read_dir(&self.dir) {
            Ok(dirs) => dirs,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("list", &self.dir, &error)),
        };
        let mut out = Vec::new();
        for dir in dirs.filter_map(Result::ok) {
            let Some(uid) = dir.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if JournalKey::new(&uid, 0).is_err() || !dir.path().is_dir() {
                continue;
            }
            for attempt in self.attempts(&uid)? {
                let key = JournalKey { uid: uid.clone(), attempt };
                let path = self.path(&key);
                let meta = fs::metadata(&path).map_err(|e| io("look at", &path, &e))?;
                let modified = meta.modified().map_err(|e| io("look at", &path, &e))?;
                out.push(JournalSummary { key, bytes: meta.len(), modified });
            }
        }
        out.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(out)
    }
}

pub(super) fn parent_in(records: &[Record]) -> Option<&ParentRef> {
    match records.first().map(|record| &record.entry) {
        Some(Entry::Header(header)) => header.parent.as_ref(),
        _ => None,
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(JournalError::Io {
                action: "work on",
                path: PathBuf::from("journals"),
                why: "the runtime is shutting down".into(),
            }),
        },
    }
}

pub(super) fn io(action: &'static str, path: &Path, error: &std::io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), why: error.to_string() }
}
