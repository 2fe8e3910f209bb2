//! What a run tells while it goes on, for a live view or an event stream.

use std::time::Duration;

use foreman_core::model::{Attempt, Key};

/// Something that happened in a run. All text in it comes from models, tools or repositories and is
/// untrusted: whoever shows it strips control sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEvent {
    /// The workspace is ready.
    WorkspaceReady {
        /// The commit the run starts from.
        base: String,
        /// The model and where it is, for a person.
        model: Option<String>,
        /// Instructions of the repository that were read, e.g. `AGENTS.md`.
        instructions: Option<String>,
    },
    /// The run goes on where an earlier claim left it.
    Resumed {
        /// Turns that need not be repeated.
        turns: i64,
    },
    /// A model call is under way.
    TurnStarted {
        /// The turn, from 1.
        turn: i64,
    },
    /// A tool call begins.
    ToolStarted {
        /// The turn.
        turn: i64,
        /// The tool.
        tool: String,
        /// What it is asked, shortened.
        summary: String,
    },
    /// A tool call ended.
    ToolCompleted {
        /// The turn.
        turn: i64,
        /// The tool.
        tool: String,
        /// Whether it did what was asked.
        ok: bool,
        /// What it came to, shortened.
        summary: String,
        /// How long it took.
        took: Duration,
    },
    /// A turn ended.
    TurnCompleted {
        /// The turn.
        turn: i64,
        /// Tokens sent.
        prompt_tokens: i64,
        /// Tokens sent that the server had in its cache.
        cached_tokens: i64,
        /// Tokens received.
        completion_tokens: i64,
        /// How long it took.
        took: Duration,
    },
    /// A command of the gate begins.
    GateStarted {
        /// The command.
        command: String,
    },
    /// A command of the gate ended.
    GateCompleted {
        /// The command.
        command: String,
        /// Its exit code, if it ended by itself.
        exit: Option<i32>,
        /// The hash of the tree it ran on.
        tree: String,
        /// The end of its output.
        output: String,
        /// How long it took.
        took: Duration,
    },
    /// The work so far is safe.
    CheckpointSaved {
        /// The turn.
        turn: i64,
        /// The tree's hash.
        digest: String,
    },
    /// An effect on the outside world was done.
    EffectDone {
        /// `push`.
        kind: &'static str,
        /// What it was done to, e.g. the branch.
        target: String,
        /// The effect's key, unique for the task.
        key: String,
    },
    /// Something that a person may want to know.
    Notice {
        /// What.
        message: String,
    },
}

/// Takes what runs tell. Must not block.
pub trait RunObserver: Send + Sync {
    /// One event of the run of `task`.
    fn event(&self, task: &Key, attempt: Attempt, event: RunEvent);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl RunObserver for Silent {
    fn event(&self, _: &Key, _: Attempt, _: RunEvent) {}
}
