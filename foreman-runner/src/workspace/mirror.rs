//! The mirror of a repository, and the repository's state at its own place.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Doing, WorkspaceError, cannot};
use crate::git::{Git, GitError, Repository};

/// How long to wait for another process that fetches into the same mirror.
const LOCK_LIMIT: Duration = Duration::from_mins(30);
/// How often the lock is tried.
const LOCK_EVERY: Duration = Duration::from_millis(100);
/// Digits of a URL's hash that name its mirror.
const MIRROR_NAME_CHARS: usize = 32;
/// Branches of a repository that are looked at, as bytes of their listing.
const LISTING_BYTES_MAX: usize = 64 << 20;

/// What a repository's own place said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteState {
    /// The commit of its HEAD.
    pub head: Option<String>,
    /// The branch that its HEAD is on.
    pub head_branch: Option<String>,
    /// Its branches and their commits.
    pub branches: BTreeMap<String, String>,
}

/// Asks a repository for its branches.
///
/// # Errors
/// Those of git: not found, denied, unreachable.
pub async fn remote_state(
    git: &Git,
    repository: &Repository,
    cancel: &CancellationToken,
) -> Result<RemoteState, GitError> {
    let output = git
        .call("list the branches")
        .with_remote(repository)
        .args(["ls-remote", "--symref", "--", repository.url(), "HEAD", "refs/heads/*"])
        .output_bytes_max(LISTING_BYTES_MAX)
        .run(cancel)
        .await?;
    let mut state = RemoteState::default();
    for line in output.text().lines() {
        match line.split_once('\t') {
            Some((target, "HEAD")) => match target.strip_prefix("ref: refs/heads/") {
                Some(branch) => state.head_branch = Some(branch.to_owned()),
                None if !target.starts_with("ref: ") => state.head = Some(target.to_owned()),
                None => {}
            },
            Some((commit, name)) => {
                if let Some(branch) = name.strip_prefix("refs/heads/") {
                    state.branches.insert(branch.to_owned(), commit.to_owned());
                }
            }
            None => {}
        }
    }
    Ok(state)
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The folder of a repository's mirror.
pub(super) fn place(cache: &Path, repository: &Repository) -> PathBuf {
    let digest = Sha256::digest(repository.url().as_bytes());
    let mut name = hex(&digest);
    name.truncate(MIRROR_NAME_CHARS);
    cache.join("mirrors").join(format!("{name}.git"))
}

/// Brings the mirror up to date, alone.
pub(super) async fn refresh(
    git: &Git,
    repository: &Repository,
    mirror: &Path,
    state: &RemoteState,
    cancel: &CancellationToken,
) -> Result<(), WorkspaceError> {
    let parent = mirror.parent().unwrap_or(mirror);
    std::fs::create_dir_all(parent).map_err(|source| cannot("create", parent, source))?;
    let _lock = lock(mirror, cancel).await?;
    if !mirror.join("HEAD").exists() {
        git.call("create the mirror")
            .args(["init", "--quiet", "--bare", "--template="])
            .args([mirror.as_os_str()])
            .run(cancel)
            .await
            .doing("create the mirror")?;
    }
    let mut fetch = git.call("fetch").at(mirror, None).with_remote(repository).args([
        "fetch",
        "--quiet",
        "--prune",
        "--force",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-gc",
        "--",
        repository.url(),
        "+refs/heads/*:refs/heads/*",
        "+refs/tags/*:refs/tags/*",
    ]);
    if state.head.is_some() {
        fetch = fetch.args(["+HEAD:refs/foreman/head"]);
    }
    fetch.run(cancel).await.doing("fetch the repository")?;
    Ok(())
}

/// The mirror's lock, held until the file is dropped.
async fn lock(mirror: &Path, cancel: &CancellationToken) -> Result<File, WorkspaceError> {
    let path = mirror.with_extension("lock");
    let file = File::create(&path).map_err(|source| cannot("open", &path, source))?;
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(WorkspaceError::MirrorBusy {
                    mirror: mirror.display().to_string(),
                    seconds: LOCK_LIMIT.as_secs(),
                });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(cannot("lock", &path, source)),
        }
        tokio::select! {
            () = tokio::time::sleep(LOCK_EVERY) => {}
            () = cancel.cancelled() => {
                let action = "wait for the mirror".to_owned();
                return Err(GitError::Cancelled { action }).doing("fetch the repository");
            }
        }
    }
}
