//! The loop of turns: ask the model, write down what it said, run what it called, write down what
//! came of it, keep the tree, and again.
//!
//! The journal leads: nothing is done before it is written that it begins, and the state of the loop
//! is nothing but the replay of what was written. So a run that was killed anywhere goes on as if it
//! had only paused. The loop makes no effect in the world outside.

mod calls;
mod run;
mod stuck;
mod words;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::time::Duration;

use async_trait::async_trait;
use foreman_core::ports::executor::Stop;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

pub use run::TurnLoop;
pub use stuck::{Detector, Signal, StuckSettings};

use crate::budget::{Budget, Exhausted, Spent};
use crate::journal::{CheckpointMark, JournalError};
use crate::model_client::{CallMode, CallUsage, Delta, ModelError};
use crate::tool::Submission;

/// How a loop runs. The values come from the Agent's snapshot in the journal's header, but for the
/// budget, which may be raised while the task is paused.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopSettings {
    /// Name of the model.
    pub model: String,
    /// How calls are asked for.
    pub mode: CallMode,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Tokens of one answer.
    pub output_tokens_max: u32,
    /// Passed on verbatim.
    pub chat_template_kwargs: Map<String, Value>,
    /// Turns of the whole task; reaching it ends the run.
    pub turns_max: u32,
    /// What pauses the task.
    pub budget: Budget,
    /// What earlier attempts spent that this journal does not show: running time, and what was done on
    /// other machines.
    pub elsewhere: Spent,
    /// What counts as going in circles.
    pub stuck: StuckSettings,
}

/// The first two messages of a conversation; used only when nothing was said yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The standing orders; may be empty.
    pub system: String,
    /// The task.
    pub user: String,
}

/// How a loop ended. Every end leaves a journal that can go on.
#[derive(Debug)]
pub enum LoopEnd {
    /// The submission was accepted.
    Submitted(Submission),
    /// All turns are used.
    TurnLimit {
        /// How many.
        turns: u32,
    },
    /// The model went in circles and did not stop when told.
    Stuck {
        /// How.
        why: String,
    },
    /// The model does not use its tools in a way that can be understood.
    Misunderstood {
        /// What it does.
        why: String,
    },
    /// The conversation no longer fits into the model's context.
    ContextFull {
        /// What the server said.
        message: String,
    },
    /// A budget does not allow the next model call.
    BudgetPaused(Exhausted),
    /// It was told to stop.
    Stopped(Stop),
    /// Something other than the model failed.
    Infrastructure(LoopFault),
}

/// What failed other than the model.
#[derive(Debug, thiserror::Error)]
pub enum LoopFault {
    /// The model server.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The sandbox.
    #[error("the sandbox cannot run commands: {why}")]
    Sandbox {
        /// What it said.
        why: String,
    },
    /// The journal: without it nothing may go on.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Keeping the tree.
    #[error("the tree could not be kept after turn {turn}: {why}")]
    Checkpoint {
        /// The turn.
        turn: u32,
        /// What git said.
        why: String,
    },
    /// Judging a submission.
    #[error("the submission could not be judged: {why}")]
    Judgement {
        /// What failed.
        why: String,
    },
}

/// What becomes of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// It ends the loop.
    Accept,
    /// It comes back to the model with this text (findings of the gate, a question).
    Continue {
        /// A user message.
        feedback: String,
    },
}

/// What the loop tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum ProgressEvent {
    /// The model is asked. `turn` counts from 1.
    ModelStarted {
        /// The turn.
        turn: u32,
    },
    /// A piece of its answer.
    Delta(Delta),
    /// A call begins.
    ToolStarted {
        /// The turn.
        turn: u32,
        /// The tool.
        name: String,
        /// The call in one short line; the model's text, not to be trusted.
        summary: String,
    },
    /// A call ended.
    ToolEnded {
        /// The turn.
        turn: u32,
        /// The tool.
        name: String,
        /// Whether it ended in an error.
        error: bool,
        /// How long it took.
        duration: Duration,
        /// First line of the result; not to be trusted.
        summary: String,
    },
    /// The loop said something to the model.
    Notice {
        /// What.
        text: String,
    },
    /// A submission is being judged.
    Judging,
    /// The turn is over and on the disk.
    TurnEnded {
        /// The turn.
        turn: u32,
        /// Its tokens.
        usage: CallUsage,
        /// How long it took.
        duration: Duration,
        /// Whether the tree changed and was kept.
        changed: bool,
    },
}

/// What the loop needs from the run around it.
#[async_trait]
pub trait RunHooks: Send {
    /// Keeps the tree as it is after `turn`, if it differs from the last checkpoint; returns the mark
    /// of the new one. Called after a turn in which a tool changed or may have changed the tree.
    ///
    /// # Errors
    /// Why the tree cannot be kept; ends the loop.
    async fn checkpoint(&mut self, turn: u32) -> Result<Option<CheckpointMark>, String>;

    /// Judges a submission. May be called again with the same one after a crash in its middle, so it
    /// must do nothing in the world outside.
    ///
    /// # Errors
    /// Why it cannot be judged (the gate cannot run, …); ends the loop. When `cancel` fires an error
    /// is expected and means nothing.
    async fn submit(
        &mut self,
        submission: &Submission,
        cancel: &CancellationToken,
    ) -> Result<SubmitAnswer, String>;

    /// Tells what happens. Must return at once.
    fn progress(&mut self, event: ProgressEvent);
}
