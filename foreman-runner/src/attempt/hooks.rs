//! What the loop of turns needs from the attempt around it.

use std::sync::Arc;

use async_trait::async_trait;
use foreman_core::model::agentic_task::TaskKind;
use foreman_core::model::fleet_node::RunStage;
use tokio_util::sync::CancellationToken;

use super::judge::gate_findings;
use super::place::Place;
use super::verify::gate_fault;
use super::{Attempt, Fault, chain};
use crate::gate::{GateOutcome, GateReport};
use crate::journal::{CheckpointMark, Replay};
use crate::model_client::{CallUsage, Message};
use crate::observe::RunEvent;
use crate::prompt;
use crate::tool::{Submission, SubmittedVerdict};
use crate::turn::{ProgressEvent, RunHooks, SubmitAnswer};
use crate::workspace::{Checkpoint, WorkspaceError};

/// How often the gate's findings go back into the conversation before the run ends as it is.
pub(super) const GATE_ROUNDS_MAX: u32 = 3;

/// The attempt, as the loop sees it.
pub(super) struct Hooks<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) place: Arc<Place>,
    /// The tree of the last checkpoint; empty = none yet.
    pub(super) kept: Option<Checkpoint>,
    /// Gate rounds that failed so far, earlier attempts included.
    pub(super) gate_rounds: u32,
    /// Whether an earlier claim passed the gate and began to push: there is nothing left to judge.
    pub(super) publishing: bool,
    /// Whether the model was asked about a GO without a change.
    pub(super) asked_about_nothing: bool,
    /// What the gate said last, about the tree that was submitted.
    pub(super) judged: Option<GateReport>,
    /// A failure of the machinery while judging or keeping the tree.
    pub(super) fault: Option<Fault>,
    /// Tokens of this claim.
    pub(super) tokens: i64,
}

impl<'a> Hooks<'a> {
    /// Hooks of a conversation; what was said in earlier attempts of this task counts.
    pub(super) fn new(attempt: &'a Attempt<'a>, place: Arc<Place>, state: &Replay) -> Self {
        let said = |beginning: &str| {
            let users = state.own_messages().iter().filter(|message| {
                matches!(message, Message::User { content } if content.starts_with(beginning))
            });
            u32::try_from(users.count()).unwrap_or(u32::MAX)
        };
        Self {
            attempt,
            place,
            kept: None,
            gate_rounds: said(prompt::GATE_FAILED_BEGINS),
            publishing: state.effects.contains_key(&attempt.push_key()),
            asked_about_nothing: said(prompt::CONTRADICTION_BEGINS) > 0,
            judged: None,
            fault: None,
            tokens: 0,
        }
    }

    fn is_coder(&self) -> bool {
        self.attempt.job.task.spec.kind.known() != Some(TaskKind::Review)
    }

    async fn judge_coder(
        &mut self,
        submission: &Submission,
        cancel: &CancellationToken,
    ) -> Result<SubmitAnswer, String> {
        if submission.verdict != SubmittedVerdict::Go || self.publishing {
            return Ok(SubmitAnswer::Accept);
        }
        let changed = self.place.workspace.has_changes(cancel).await;
        if !changed.map_err(|error| chain(&error))? {
            let freeform = self.attempt.job.task.spec.kind.known() == Some(TaskKind::Freeform);
            if freeform || self.asked_about_nothing {
                return Ok(SubmitAnswer::Accept);
            }
            self.asked_about_nothing = true;
            return Ok(SubmitAnswer::Continue { feedback: prompt::contradiction(true) });
        }
        let report = match self.attempt.gate(&self.place, cancel).await {
            Ok(report) => report,
            Err(error) => {
                let fault = gate_fault(&error);
                let message = fault.message.clone();
                self.fault = Some(fault);
                return Err(message);
            }
        };
        let failed = report.outcome == GateOutcome::Failed;
        let findings = gate_findings(&report);
        self.judged = Some(report);
        if failed {
            self.gate_rounds += 1;
            if self.gate_rounds < GATE_ROUNDS_MAX {
                let feedback = prompt::gate_failed(self.gate_rounds, GATE_ROUNDS_MAX, &findings);
                return Ok(SubmitAnswer::Continue { feedback });
            }
        }
        Ok(SubmitAnswer::Accept)
    }
}

#[async_trait]
impl RunHooks for Hooks<'_> {
    async fn checkpoint(&mut self, turn: u32) -> Result<Option<CheckpointMark>, String> {
        let kept = match self.keep(turn).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.fault = Some(Fault::from(&error));
                return Err(chain(&error));
            }
        };
        let mark =
            CheckpointMark { turn, reference: kept.tree.clone(), commit: kept.commit.clone() };
        self.attempt
            .tell(RunEvent::CheckpointSaved { turn: i64::from(turn), digest: kept.tree.clone() });
        self.kept = Some(kept);
        Ok(Some(mark))
    }

    async fn submit(
        &mut self,
        submission: &Submission,
        cancel: &CancellationToken,
    ) -> Result<SubmitAnswer, String> {
        if self.is_coder() {
            self.judge_coder(submission, cancel).await
        } else {
            Ok(SubmitAnswer::Accept)
        }
    }

    fn progress(&mut self, event: ProgressEvent) {
        match event {
            ProgressEvent::ModelStarted { turn } => {
                self.attempt.moved(|progress| {
                    progress.stage = Some(RunStage::Model);
                    progress.turn = i64::from(turn);
                });
                self.attempt.tell(RunEvent::TurnStarted { turn: i64::from(turn) });
            }
            ProgressEvent::Delta(_) => self.attempt.moved(|_| {}),
            ProgressEvent::ToolStarted { turn, name, summary } => {
                self.attempt.moved(|progress| progress.stage = Some(RunStage::Tool));
                let turn = i64::from(turn);
                self.attempt.tell(RunEvent::ToolStarted { turn, tool: name, summary });
            }
            ProgressEvent::ToolEnded { turn, name, error, duration, summary } => {
                self.attempt.moved(|_| {});
                self.attempt.tell(RunEvent::ToolCompleted {
                    turn: i64::from(turn),
                    tool: name,
                    ok: !error,
                    summary,
                    took: duration,
                });
            }
            ProgressEvent::Notice { text } => self.attempt.notice(text),
            ProgressEvent::Judging => {
                self.attempt.moved(|progress| progress.stage = Some(RunStage::Gate));
            }
            ProgressEvent::TurnEnded { turn, usage, duration, changed: _ } => {
                self.turn_ended(i64::from(turn), usage, duration);
            }
        }
    }
}

impl Hooks<'_> {
    /// Keeps the tree, if it differs from the last checkpoint.
    async fn keep(&self, turn: u32) -> Result<Option<Checkpoint>, WorkspaceError> {
        // Not the run's own token: what a stopped tool left is worth keeping as well.
        let token = CancellationToken::new();
        let workspace = &self.place.workspace;
        let tree = workspace.tree_hash(&token).await?;
        let same = match &self.kept {
            Some(kept) => kept.tree == tree,
            None => !workspace.has_changes(&token).await?,
        };
        if same {
            return Ok(None);
        }
        let attempt = self.attempt.job.fence.attempt;
        workspace.checkpoint(attempt, u64::from(turn), &token).await.map(Some)
    }

    fn turn_ended(&mut self, turn: i64, usage: CallUsage, took: std::time::Duration) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (prompt, completion) = (count(usage.prompt_tokens), count(usage.completion_tokens));
        self.tokens = self.tokens.saturating_add(prompt).saturating_add(completion);
        let tokens = self.tokens;
        self.attempt.moved(|progress| {
            progress.turn = turn;
            progress.tokens = tokens;
        });
        self.attempt.tell(RunEvent::TurnCompleted {
            turn,
            prompt_tokens: prompt,
            cached_tokens: count(usage.cached_tokens),
            completion_tokens: completion,
            took,
        });
    }
}
