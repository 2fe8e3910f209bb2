//! From an accepted tree to a branch at the remote, exactly once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foreman_core::Refused;
use foreman_core::model::fleet_node::RunStage;
use foreman_core::model::outcome::{Infrastructure, Verification};
use foreman_core::ports::executor::Stop;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::refused_or_broken;
use super::place::{Place, is_stopped};
use super::{Attempt, Fault, chain};
use crate::git::GitError;
use crate::journal::{EffectState, Entry, Journal, JournalError, Replay};
use crate::observe::RunEvent;
use crate::publish::{PublishError, PushRequest, Pushed, push};
use crate::workspace::{Commit, CommitRequest, WorkspaceError};

/// How long an effect waits before it asks again for leave, or tries a silent remote again.
const PERMIT_PAUSE: Duration = Duration::from_secs(2);
/// How often a remote that is not reached is tried before the run ends with its work kept.
const PUSH_TRIES_MAX: u32 = 4;

/// Why nothing was published.
pub(super) enum NotPublished {
    /// The run was told to stop; the journal knows how far it came.
    Stopped,
    /// There is no leave and never will be: what the store shows is as if this had been told.
    MustNot(Stop),
    /// Nothing differs from where the work began.
    NoChanges,
    /// The machinery failed, or the remote refused.
    Fault(Fault),
}

impl From<JournalError> for NotPublished {
    fn from(error: JournalError) -> Self {
        Self::Fault(Fault::from(&error))
    }
}

impl From<WorkspaceError> for NotPublished {
    fn from(error: WorkspaceError) -> Self {
        if matches!(error, WorkspaceError::NoChanges { .. }) {
            return Self::NoChanges;
        }
        if is_stopped(&error) {
            return Self::Stopped;
        }
        Self::Fault(Fault::from(&error))
    }
}

/// What became of work that is on no branch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// There is none.
    Nothing,
    /// It is in this file.
    Patch(String),
    /// No patch could be saved: the tree must stay.
    InTheTree,
}

/// What the journal keeps of a push, before it and after: all that its task comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PushRecord {
    pub(super) commit: Commit,
    pub(super) verification: Verification,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gate: Option<Value>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) line: String,
}

/// What is to be pushed, and what was found about it.
pub(super) struct Wanted {
    pub(super) words: Words,
    pub(super) verification: Verification,
    pub(super) gate: Option<Value>,
    /// The gate on one line.
    pub(super) line: String,
    /// The tree that the gate judged.
    pub(super) judged_tree: Option<String>,
}

/// What a commit of ours says.
pub(super) struct Words {
    pub(super) message: String,
    pub(super) assisted_by: Option<String>,
}

impl Attempt<'_> {
    pub(super) fn push_key(&self) -> String {
        format!("{}/push", self.job.fence.uid)
    }

    /// Commits the tree and pushes the branch. A push that an earlier attempt began is found out
    /// first: if its commit is at the remote it is done, else that very commit is pushed.
    pub(super) async fn publish(
        &self,
        place: &Place,
        wanted: Wanted,
        begun: Option<PushRecord>,
        journal: &mut Journal,
        state: &mut Replay,
    ) -> Result<PushRecord, NotPublished> {
        self.moved(|progress| progress.stage = Some(RunStage::Publishing));
        let key = self.push_key();
        let done = matches!(state.effects.get(&key), Some(EffectState::Done { .. }));
        let record = match begun {
            Some(record) if done => return Ok(record),
            Some(record) => record,
            None => {
                let record = self.committed(place, wanted).await?;
                let detail = serde_json::to_value(&record).unwrap_or(Value::Null);
                Self::write(journal, state, Entry::EffectIntent { key: key.clone(), detail })?;
                journal.sync().await?;
                record
            }
        };
        let pushed = self.push_until_done(place, &record.commit).await?;
        let result = serde_json::to_value(&record).unwrap_or(Value::Null);
        Self::write(journal, state, Entry::EffectDone { key: key.clone(), result })?;
        journal.sync().await?;
        let branch = place.workspace.branch().map(|branch| branch.to_string()).unwrap_or_default();
        if pushed == Pushed::Already {
            self.notice(format!("branch {branch} was pushed before"));
        }
        self.tell(RunEvent::EffectDone { kind: "push", target: branch, key });
        Ok(record)
    }

    async fn committed(&self, place: &Place, wanted: Wanted) -> Result<PushRecord, NotPublished> {
        let request = CommitRequest {
            message: wanted.words.message,
            author: self.runner.settings.author.clone(),
            date_seconds: self.job.fence.claimed_at.unix_seconds(),
            attempt: self.job.fence.attempt,
            sign_off: true,
            assisted_by: wanted.words.assisted_by,
        };
        let workspace = &place.workspace;
        let commit = workspace.commit(&request, &self.cancel_publishing).await?;
        if wanted.judged_tree.is_some_and(|judged| judged != commit.tree) {
            let message = "the tree changed after the gate had judged it";
            return Err(NotPublished::Fault(Fault::saying(Infrastructure::Error, message)));
        }
        Ok(PushRecord {
            commit,
            verification: wanted.verification,
            gate: wanted.gate,
            line: wanted.line,
        })
    }

    pub(super) fn write(
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
            NotPublished::Fault(Fault::new(Infrastructure::GitUnavailable, &error).for_good())
        })?;
        let request = PushRequest {
            workspace: &place.workspace,
            repository: &place.target,
            branch: &branch,
            commit,
            expected: place.workspace.branch_at_start(),
        };
        let mut tries_left = PUSH_TRIES_MAX;
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
                    let stop = match refused {
                        Refused::Cancelled { .. } => Stop::Cancel,
                        Refused::Lost { .. }
                        | Refused::Gone { .. }
                        | Refused::NoRecentBeat { .. }
                        | Refused::Store { .. } => Stop::Lost,
                    };
                    return Err(NotPublished::MustNot(stop));
                }
            };
            tries_left -= 1;
            match push(&request, &permit, &self.cancel_publishing).await {
                Ok(pushed) => return Ok(pushed),
                Err(PublishError::Git { source: GitError::NotAllowed { .. }, .. }) => {
                    tries_left = PUSH_TRIES_MAX;
                    self.pause().await;
                }
                Err(PublishError::Git { source: GitError::Cancelled { .. }, .. }) => {
                    return Err(NotPublished::Stopped);
                }
                Err(PublishError::Git {
                    source: GitError::Unreachable { .. } | GitError::TimedOut { .. },
                    ..
                }) if tries_left > 0 => self.pause().await,
                Err(error) => {
                    let kind = match &error {
                        PublishError::Git { source, .. } => refused_or_broken(source),
                        PublishError::Workspace { .. } => Infrastructure::GitUnavailable,
                        PublishError::Refused { .. } | PublishError::NotOurs { .. } => {
                            Infrastructure::PushRefused
                        }
                    };
                    return Err(NotPublished::Fault(Fault::new(kind, &error)));
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

    /// Saves everything that differs from where the work began, for a person.
    pub(super) async fn keep_patch(&self, place: &Place) -> Kept {
        if !self.is_coder() {
            return Kept::Nothing;
        }
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
            Ok(false) => return Kept::Nothing,
            Err(error) => {
                tracing::warn!(%error, "the work could not be compared");
                return Kept::InTheTree;
            }
        }
        if let Some(folder) = path.parent()
            && let Err(error) = tokio::fs::create_dir_all(folder).await
        {
            tracing::warn!(%error, folder = %folder.display(), "no patch is saved");
            return Kept::InTheTree;
        }
        match place.workspace.patch(&path, &token).await {
            Ok(()) => Kept::Patch(path.display().to_string()),
            Err(error) => {
                tracing::warn!(%error, "no patch is saved");
                Kept::InTheTree
            }
        }
    }
}

/// Removes tree and git dir of a run whose work is at the remote, or which made none.
pub(super) async fn reap(place: Place, attempt: &Attempt<'_>) {
    let Place { workspace, sandbox, .. } = place;
    drop(sandbox);
    let Ok(workspace) = Arc::try_unwrap(workspace) else {
        tracing::debug!("a workspace is still in use and stays");
        return;
    };
    // A tree may hold very many files.
    match tokio::task::spawn_blocking(move || workspace.reap()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => attempt.notice(format!("a workspace stays behind: {}", chain(&error))),
        Err(error) => tracing::debug!(%error, "a workspace was not removed"),
    }
}

/// The envelope's part about the push.
pub(super) fn push_json(commit: &Commit, branch: &str) -> Value {
    json!({ "branch": branch, "commit": commit.sha, "tree": commit.tree, "parent": commit.parent })
}
