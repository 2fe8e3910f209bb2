//! A task that goes on with another one's conversation (`spec.continues`): a fix round, or work that a
//! limit had ended.
//!
//! Where the other run's journal is on this machine, the new journal names it as its parent: the model
//! is shown the same messages, byte for byte, and then what is asked of it now. Elsewhere the work
//! begins with a fresh conversation that holds the request, on the branch.

use foreman_core::model::outcome::Infrastructure;

use super::model_run::ModelRun;
use super::place::NoPlace;
use super::{Attempt, Fault};
use crate::journal::{CheckpointMark, Entry, JournalKey, OpenedJournal, ParentRef};
use crate::prompt::{GoOnTree, go_on};
use crate::workspace::Checkpoint;

/// The run that is continued, as far as it is on this machine.
pub(super) struct Continued {
    pub(super) parent: ParentRef,
    /// Where its last tree is kept.
    checkpoint: Option<CheckpointMark>,
}

impl Attempt<'_> {
    /// The uid of the task that this one continues.
    pub(super) fn continues(&self) -> Option<&str> {
        let uid = self.job.task.spec.continues.as_ref()?.uid.as_deref()?;
        (!uid.is_empty() && uid != self.job.fence.uid.as_str()).then_some(uid)
    }

    /// Whether the work begins on a branch that was pushed, so that no tree has to be taken over.
    fn revises(&self) -> bool {
        let from = self.job.task.spec.payload.revise_from_branch.as_deref();
        from.is_some_and(|name| !name.is_empty())
    }

    /// The uid of the task whose unfinished tree this one goes on with, where one was left: a tree that
    /// was pushed is not kept, and one that lies on something else than this workspace does not fit.
    pub(super) fn continues_tree_of(&self) -> Option<&str> {
        self.continues().filter(|_| self.is_coder())
    }

    /// The run that this one continues, if its conversation is here and can be read. That it is not is
    /// no reason not to work.
    pub(super) async fn continued(&self) -> Option<Continued> {
        let uid = self.continues()?;
        let journals = &self.runner.journals;
        let found = async {
            let parent = journals.parent(uid).await?;
            let Some(parent) = parent else { return Ok(None) };
            let replay = journals.read(JournalKey::new(&parent.uid, parent.attempt)?).await?;
            let checkpoint = replay.checkpoint.clone();
            let said = !replay.conversation.is_empty();
            Ok::<_, crate::journal::JournalError>(said.then_some(Continued { parent, checkpoint }))
        };
        let found = found.await.unwrap_or_else(|error| {
            tracing::warn!(%uid, %error, "the conversation to be continued cannot be read");
            None
        });
        if found.is_none() {
            self.notice(
                "the conversation that this task continues is not on this machine: it begins a new \
                 one on what was pushed",
            );
        }
        found
    }
}

impl ModelRun<'_> {
    /// Before the first word of a run that continues another one: takes over the tree that the other
    /// one left unpushed.
    pub(super) async fn take_over(&mut self) -> Result<(), NoPlace> {
        let Some(uid) = self.attempt.continues_tree_of() else { return Ok(()) };
        if self.opened.replay.checkpoint.is_some() {
            return Ok(());
        }
        let Some(mark) = self.attempt.continued().await.and_then(|found| found.checkpoint) else {
            return Ok(());
        };
        let cancel = &self.attempt.cancel;
        let workspace = &self.place.workspace;
        if !workspace.fetch_checkpoint_of(uid, &mark.commit, cancel).await? {
            if !self.attempt.revises() {
                self.attempt
                    .notice("the tree of the task that is continued is gone: it begins anew");
            }
            return Ok(());
        }
        let kept = Checkpoint { commit: mark.commit.clone(), tree: mark.reference.clone() };
        workspace.restore(&kept, cancel).await?;
        let mark = CheckpointMark { turn: 0, ..mark };
        let OpenedJournal { journal, replay } = &mut self.opened;
        let broken = |error| NoPlace::from(Fault::from(&error));
        Attempt::write(journal, replay, Entry::Checkpoint(mark)).map_err(broken)?;
        journal.sync().await.map_err(broken)
    }

    /// Whether nothing was said yet of a conversation that was taken over.
    pub(super) fn goes_on(&self) -> bool {
        self.opened.replay.is_taken_over()
    }

    /// What is asked of a model that goes on with its conversation.
    pub(super) fn request(&self) -> Result<String, Fault> {
        let asked = self.attempt.job.task.spec.payload.prompt.as_deref().unwrap_or_default().trim();
        let told = self.opened.replay.has_said(asked);
        if asked.is_empty() && !self.attempt.is_coder() {
            let message = "the task continues a review and asks for nothing new";
            return Err(Fault::saying(Infrastructure::Error, message).for_good());
        }
        let payload = &self.attempt.job.task.spec.payload;
        let branch = payload.revise_from_branch.as_deref().filter(|name| !name.is_empty());
        let tree = match branch {
            _ if self.opened.replay.checkpoint.is_some() => GoOnTree::Kept,
            Some(branch) => GoOnTree::Branch(branch),
            None if self.attempt.is_coder() => GoOnTree::Base,
            None => GoOnTree::Changed,
        };
        Ok(go_on((!told).then_some(asked), tree))
    }
}
