//! From an accepted tree to a branch at the remote, exactly once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::fleet_node::RunStage;
use foreman_core::model::outcome::Infrastructure;
use serde_json::{Value, json};

use super::place::Place;
use super::{Attempt, Fault};
use crate::git::GitError;
use crate::journal::{EffectState, Entry, Journal, JournalError, Replay};
use crate::observe::RunEvent;
use crate::publish::{PublishError, PushRequest, Pushed, push};
use crate::workspace::{Commit, CommitRequest, WorkspaceError};

/// How long an effect waits before it asks again for leave.
const PERMIT_PAUSE: Duration = Duration::from_secs(2);

/// Why nothing was published.
pub(super) enum NotPublished {
    /// The run was told to stop, or the claim is lost; the journal knows how far it came.
    Stopped,
    /// Nothing differs from where the work began.
    NoChanges,
    /// The machinery failed, or the remote refused.
    Fault(Fault),
}

impl From<JournalError> for NotPublished {
    fn from(error: JournalError) -> Self {
        Self::Fault(Fault::new(Infrastructure::Error, &error))
    }
}

impl From<WorkspaceError> for NotPublished {
    fn from(error: WorkspaceError) -> Self {
        match &error {
            WorkspaceError::NoChanges { .. } => Self::NoChanges,
            WorkspaceError::Git {
                source: GitError::Cancelled { .. },
                ..
            } => Self::Stopped,
            _ => Self::Fault(Fault::new(Infrastructure::GitUnavailable, &error)),
        }
    }
}

/// What a commit of ours says.
pub(super) struct Words {
    pub(super) message: String,
    pub(super) assisted_by: Option<String>,
}

impl Attempt<'_> {
    fn push_key(&self) -> String {
        format!("{}/push", self.job.fence.uid)
    }

    /// Commits the tree and pushes the branch. A push that an earlier attempt began is found out
    /// first: if its commit is at the remote it is done, else that very commit is pushed.
    pub(super) async fn publish(
        &self,
        place: &Place,
        words: &Words,
        journal: &mut Journal,
        state: &mut Replay,
    ) -> Result<Commit, NotPublished> {
        self.moved(|progress| progress.stage = Some(RunStage::Publishing));
        let key = self.push_key();
        let commit = match state.effects.get(&key) {
            Some(EffectState::Done { result }) => return commit_of(result),
            Some(EffectState::Intended { detail }) => commit_of(detail)?,
            None => {
                let request = CommitRequest {
                    message: words.message.clone(),
                    author: self.runner.settings.author.clone(),
                    date_seconds: self.job.fence.claimed_at.unix_seconds(),
                    attempt: self.job.fence.attempt,
                    sign_off: true,
                    assisted_by: words.assisted_by.clone(),
                };
                let commit = place
                    .workspace
                    .commit(&request, &self.cancel_publishing)
                    .await?;
                let detail = serde_json::to_value(&commit).unwrap_or(Value::Null);
                self.write(
                    journal,
                    state,
                    Entry::EffectIntent {
                        key: key.clone(),
                        detail,
                    },
                )?;
                journal.sync().await?;
                commit
            }
        };
        let pushed = self.push_until_done(place, &commit).await?;
        let result = serde_json::to_value(&commit).unwrap_or(Value::Null);
        self.write(
            journal,
            state,
            Entry::EffectDone {
                key: key.clone(),
                result,
            },
        )?;
        journal.sync().await?;
        let branch = place
            .workspace
            .branch()
            .map(|branch| branch.to_string())
            .unwrap_or_default();
        if pushed == Pushed::Already {
            self.notice(format!("branch {branch} was pushed before"));
        }
        self.tell(RunEvent::EffectDone {
            kind: "push",
            target: branch,
            key,
        });
        Ok(commit)
    }

    pub(super) fn write(
        &self,
        journal: &mut Journal,
        state: &mut Replay,
        entry: Entry,
    ) -> Result<(), JournalError> {
        let written = journal.append(entry)?;
        state.apply(&written);
        Ok(())
    }

    /// Pushes as soon as there is leave. Without leave the effect waits; it never goes ahead.
    async fn push_until_done(
        &self,
        place: &Place,
        commit: &Commit,
    ) -> Result<Pushed, NotPublished> {
        let branch = place.workspace.branch().map_err(|error| {
            NotPublished::Fault(Fault::new(Infrastructure::GitUnavailable, &error))
        })?;
        let request = PushRequest {
            workspace: &place.workspace,
            repository: &place.target,
            branch: &branch,
            commit,
            expected: place.workspace.branch_at_start(),
        };
        loop {
            if self.cancel_publishing.is_cancelled() {
                return Err(NotPublished::Stopped);
            }
            let permit = match self.authority.permit("push").await {
                Ok(permit) => permit,
                Err(refused) if refused.may_pass() => {
                    tracing::warn!(task = %self.job.task.key(), %refused, "the push waits");
                    self.pause().await;
                    continue;
                }
                Err(refused) => {
                    tracing::info!(task = %self.job.task.key(), %refused, "nothing is pushed");
                    return Err(NotPublished::Stopped);
                }
            };
            match push(&request, &permit, &self.cancel_publishing).await {
                Ok(pushed) => return Ok(pushed),
                Err(PublishError::Git {
                    source: GitError::NotAllowed { .. },
                    ..
                }) => self.pause().await,
                Err(PublishError::Git {
                    source: GitError::Cancelled { .. },
                    ..
                }) => {
                    return Err(NotPublished::Stopped);
                }
                Err(error @ PublishError::Git { .. }) => {
                    let fault = Fault::new(Infrastructure::GitUnavailable, &error);
                    return Err(NotPublished::Fault(fault));
                }
                Err(error) => {
                    let fault = Fault::new(Infrastructure::PushRefused, &error);
                    return Err(NotPublished::Fault(fault));
                }
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.runner.clock.sleep(PERMIT_PAUSE) => {}
            () = self.cancel_publishing.cancelled() => {}
        }
    }

    /// Saves everything that differs from where the work began, for a person. Says where.
    pub(super) async fn keep_patch(&self, place: &Place) -> Option<String> {
        let task = &self.job.task.meta;
        let name = format!(
            "{}-{}-{}.patch",
            task.namespace.as_deref().unwrap_or_default(),
            task.name,
            self.job.fence.attempt
        );
        let path: PathBuf = self.runner.settings.data_dir.join("patches").join(name);
        let token = tokio_util::sync::CancellationToken::new();
        match place.workspace.has_changes(&token).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::warn!(%error, "the work could not be compared");
                return None;
            }
        }
        if let Some(folder) = path.parent()
            && let Err(error) = tokio::fs::create_dir_all(folder).await
        {
            tracing::warn!(%error, folder = %folder.display(), "no patch is saved");
            return None;
        }
        match place.workspace.patch(&path, &token).await {
            Ok(()) => Some(path.display().to_string()),
            Err(error) => {
                tracing::warn!(%error, "no patch is saved");
                None
            }
        }
    }
}

fn commit_of(value: &Value) -> Result<Commit, NotPublished> {
    serde_json::from_value(value.clone()).map_err(|error| {
        NotPublished::Fault(Fault {
            kind: Infrastructure::Error,
            message: format!("the journal's record of the push cannot be read: {error}"),
        })
    })
}

/// Removes tree and git dir of a run whose work is at the remote, or which made none.
pub(super) fn reap(place: Place, attempt: &Attempt<'_>) {
    let Place {
        workspace,
        layout,
        sandbox,
        ..
    } = place;
    drop(sandbox);
    if let Err(error) = std::fs::remove_dir_all(&layout.private)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, folder = %layout.private.display(), "a private folder stays");
    }
    match Arc::try_unwrap(workspace) {
        Ok(workspace) => {
            if let Err(error) = workspace.reap() {
                attempt.notice(format!("a workspace stays behind: {error}"));
            }
        }
        Err(_) => tracing::debug!("a workspace is still in use and stays"),
    }
}

/// The envelope's part about the push.
pub(super) fn push_json(commit: &Commit, branch: &str) -> Value {
    json!({ "branch": branch, "commit": commit.sha, "tree": commit.tree, "parent": commit.parent })
}
