//! The push itself, independent of where the leave for it comes from.

use tokio_util::sync::CancellationToken;

use crate::git::{BranchName, Git, GitError, Repository};
use crate::workspace::{Commit, TASK_TRAILER, Workspace, WorkspaceError, remote_state};

/// How often a branch may move under our hands before we give up.
const ROUNDS_MAX: u32 = 3;
/// Commits that a mover may have put on the branch and still be recognised.
const MOVED_COMMITS_MAX: usize = 20;

/// What to push where.
#[derive(Debug)]
pub struct PushRequest<'a> {
    /// The workspace that made the commit.
    pub workspace: &'a Workspace,
    /// The repository to push to.
    pub repository: &'a Repository,
    /// The branch.
    pub branch: &'a BranchName,
    /// The commit.
    pub commit: &'a Commit,
    /// Where the branch was at the start; none = it was not there.
    pub expected: Option<&'a str>,
}

/// A push that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// By this call.
    Now,
    /// By an earlier one: the branch was at our commit already.
    Already,
}

/// A push that is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The branch is not ours to move, or the server said no.
    #[error("{repository} did not take branch {branch}: {reason}")]
    Refused {
        /// Which branch.
        branch: String,
        /// Where.
        repository: String,
        /// Who moved it, or what the server said.
        reason: String,
    },
    /// The permit is for another claim than the commit.
    #[error("the permit is for task {permitted}, the workspace belongs to task {workspace}")]
    NotOurs {
        /// The permit's task.
        permitted: String,
        /// The workspace's task.
        workspace: String,
    },
    /// Git failed; its error says what to do.
    #[error("push branch {branch}")]
    Git {
        /// Which branch.
        branch: String,
        /// What went wrong.
        source: GitError,
    },
    /// The workspace failed.
    #[error("push branch {branch}")]
    Workspace {
        /// Which branch.
        branch: String,
        /// What went wrong.
        source: WorkspaceError,
    },
}

/// Where a branch is at its remote: what a resumed run asks before it does
/// anything again.
///
/// # Errors
/// Those of git.
pub async fn look_up(
    git: &Git,
    repository: &Repository,
    branch: &BranchName,
    cancel: &CancellationToken,
) -> Result<Option<String>, GitError> {
    Ok(remote_state(git, repository, cancel).await?.branches.remove(branch.as_str()))
}

/// Finds out, before any work is done, whether a new branch could be pushed. A
/// dry run: the server checks the credential, and nothing is written.
///
/// # Errors
/// `Denied`, `NotFound`, `Unreachable` or `Rejected`, each naming the repository.
pub async fn check_push_right(
    workspace: &Workspace,
    repository: &Repository,
    cancel: &CancellationToken,
) -> Result<(), GitError> {
    if let Some(folder) = repository.local() {
        writable(folder, repository)?;
    }
    let update =
        format!("{}:refs/heads/foreman/push-check-{}", workspace.parent(), workspace.uid());
    workspace
        .call("try a push")
        .with_remote(repository)
        .args(["push", "--dry-run", "--no-verify", "--porcelain", "--", repository.url(), &update])
        .run(cancel)
        .await
        .map(drop)
}

/// A dry run on a folder does not try to write it.
fn writable(folder: &std::path::Path, repository: &Repository) -> Result<(), GitError> {
    let inner = folder.join(".git");
    let git_dir = if inner.is_dir() { inner } else { folder.to_owned() };
    let objects = git_dir.join("objects");
    match rustix::fs::access(&objects, rustix::fs::Access::WRITE_OK) {
        Err(error) if objects.exists() => Err(GitError::Denied {
            repository: repository.to_string(),
            said: format!("{}: {error}", objects.display()),
        }),
        // That it is no repository is said better by git.
        _ => Ok(()),
    }
}

/// See [`super::push`].
pub(crate) async fn push_as(
    request: &PushRequest<'_>,
    uid: &str,
    attempt: i64,
    still_allowed: impl Fn() -> bool,
    cancel: &CancellationToken,
) -> Result<Pushed, PublishError> {
    let PushRequest { workspace, repository, branch, commit, expected } = request;
    if workspace.uid() != uid {
        return Err(PublishError::NotOurs {
            permitted: uid.to_owned(),
            workspace: workspace.uid().to_owned(),
        });
    }
    let failed = |source| PublishError::Git { branch: branch.to_string(), source };
    let mut refusal = String::new();
    for _ in 0..ROUNDS_MAX {
        let found = look_up(workspace.git(), repository, branch, cancel).await.map_err(failed)?;
        if found.as_deref() == Some(commit.sha.as_str()) {
            return Ok(Pushed::Already);
        }
        if found.as_deref() != *expected {
            may_replace(request, found.as_deref(), uid, attempt, cancel).await?;
        }
        match push_once(request, found.as_deref(), &still_allowed, cancel).await {
            Ok(()) => return Ok(Pushed::Now),
            // Somebody was faster, or the connection broke after the server took
            // it: look again.
            Err(GitError::Rejected { said, .. }) => refusal = said,
            Err(error @ GitError::Unreachable { .. }) => {
                let now = look_up(workspace.git(), repository, branch, cancel).await;
                return if now.is_ok_and(|now| now.as_deref() == Some(commit.sha.as_str())) {
                    Ok(Pushed::Now)
                } else {
                    Err(failed(error))
                };
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(refused(request, refusal))
}

fn refused(request: &PushRequest<'_>, reason: String) -> PublishError {
    PublishError::Refused {
        branch: request.branch.to_string(),
        repository: request.repository.to_string(),
        reason,
    }
}

async fn push_once(
    request: &PushRequest<'_>,
    lease: Option<&str>,
    still_allowed: impl Fn() -> bool,
    cancel: &CancellationToken,
) -> Result<(), GitError> {
    let reference = request.branch.reference();
    let lease = format!("--force-with-lease={reference}:{}", lease.unwrap_or_default());
    let update = format!("{}:{reference}", request.commit.sha);
    request
        .workspace
        .call("push")
        .with_remote(request.repository)
        .args([
            "push",
            "--no-verify",
            "--porcelain",
            &lease,
            "--",
            request.repository.url(),
            &update,
        ])
        .run_while(cancel, still_allowed)
        .await
        .map(drop)
}

/// Whether the branch may be replaced although it is not where it was: only if
/// every commit since is this task's own, from a lower attempt.
async fn may_replace(
    request: &PushRequest<'_>,
    found: Option<&str>,
    uid: &str,
    attempt: i64,
    cancel: &CancellationToken,
) -> Result<(), PublishError> {
    let Some(found) = found else {
        return Err(refused(request, "it was deleted while the task ran".to_owned()));
    };
    let doing = |source| PublishError::Git { branch: request.branch.to_string(), source };
    let workspace = request.workspace;
    workspace
        .call("fetch the moved branch")
        .with_remote(request.repository)
        .args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--",
            request.repository.url(),
        ])
        .args([format!("+{}:refs/foreman/moved", request.branch.reference())])
        .run(cancel)
        .await
        .map_err(doing)?;
    let range = match request.expected {
        Some(expected) => format!("{expected}..{found}"),
        None => format!("{}..{found}", request.commit.parent),
    };
    let format = format!("--format=%H %(trailers:key={TASK_TRAILER},valueonly,separator=%x2C)");
    let count = format!("--max-count={}", MOVED_COMMITS_MAX + 1);
    let call =
        workspace.call("read who moved the branch").args(["log", &count, &format, &range, "--"]);
    let log = call.run(cancel).await.map_err(doing)?.text();
    let lines: Vec<&str> = log.lines().collect();
    let ours = |line: &&str| {
        let trailer = line.split_once(' ').map_or("", |(_, trailer)| trailer.trim());
        let lower = |(owner, number): (&str, &str)| {
            owner == uid && number.parse::<i64>().is_ok_and(|number| number < attempt)
        };
        trailer.rsplit_once('/').is_some_and(lower)
    };
    match lines.iter().find(|line| !ours(line)) {
        None if !lines.is_empty() && lines.len() <= MOVED_COMMITS_MAX => Ok(()),
        None => {
            Err(refused(request, format!("it moved to {found}, away from where the task began")))
        }
        Some(line) => {
            let commit = line.split(' ').next().unwrap_or_default();
            let reason = format!("somebody else moved it: commit {commit} is not of this task");
            Err(refused(request, reason))
        }
    }
}

#[cfg(test)]
mod tests;
