//! The lines of the event stream as they stand on the wire.

use foreman_runner::observe::RunEvent;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::follow::{Begun, Ended, What};

/// The version of the stream. It changes when a field changes its meaning or goes away.
pub(super) const VERSION: u32 = 1;

/// One line: the envelope and what happened.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    /// The version of the stream: 1.
    pub v: u32,
    /// The number of the line, from 1, without gaps.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// The workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The claim of the task, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// The node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub(super) body: Body,
}

/// What happened, by `type`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub(super) enum Body {
    /// The following of a workload began.
    #[serde(rename = "run.started")]
    RunStarted {
        /// What is wanted.
        intent: String,
        /// The repository.
        #[serde(skip_serializing_if = "Option::is_none")]
        repo: Option<String>,
        /// The commit that the work starts from.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<String>,
        /// The model, for a person.
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Whether the model is a script of canned answers.
        scripted: bool,
        /// Where the objects are: `sqlite`.
        store: &'static str,
    },
    /// The workload has its tasks.
    #[serde(rename = "workload.planned")]
    WorkloadPlanned {
        /// Its steps, in order.
        steps: Vec<Step>,
    },
    /// A task waits.
    #[serde(rename = "task.waiting")]
    TaskWaiting {
        /// Why, of a closed set.
        reason: String,
        /// Why, in words.
        message: String,
    },
    /// A task was given to a node.
    #[serde(rename = "task.placed")]
    TaskPlaced {
        /// Why that one, a reason each.
        why: Vec<String>,
    },
    /// A node began to run a task.
    #[serde(rename = "task.started")]
    TaskStarted {},
    /// A run has its workspace.
    #[serde(rename = "workspace.ready")]
    WorkspaceReady {
        /// The commit it starts from.
        base: String,
        /// The model, for a person.
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Instructions of the repository that were read.
        #[serde(skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
    /// A run goes on where an earlier claim left it.
    #[serde(rename = "run.resumed")]
    RunResumed {
        /// Turns that need not be repeated.
        turns: i64,
    },
    /// A run of another process moved on, as its node last said.
    #[serde(rename = "task.progress")]
    TaskProgress {
        /// What it is doing.
        stage: String,
        /// The turn.
        turn: i64,
        /// Tokens of this claim so far.
        tokens: i64,
    },
    /// A tool call begins.
    #[serde(rename = "tool.started")]
    ToolStarted {
        /// The turn.
        turn: i64,
        /// The tool.
        tool: String,
        /// What it is asked, shortened.
        summary: String,
    },
    /// A tool call ended.
    #[serde(rename = "tool.completed")]
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
        seconds: f64,
    },
    /// A turn ended.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// The turn, from 1.
        turn: i64,
        /// Tokens of it.
        usage: TurnUsage,
        /// How long it took.
        seconds: f64,
    },
    /// A command of the gate begins.
    #[serde(rename = "gate.started")]
    GateStarted {
        /// The command.
        command: String,
    },
    /// A command of the gate ended.
    #[serde(rename = "gate.completed")]
    GateCompleted {
        /// The command.
        command: String,
        /// Its exit code; null when it did not end by itself.
        exit: Option<i32>,
        /// The hash of the tree it ran on.
        tree: String,
        /// The end of its output.
        output: String,
        /// How long it took.
        seconds: f64,
    },
    /// The work so far is safe.
    #[serde(rename = "checkpoint.saved")]
    CheckpointSaved {
        /// The turn.
        turn: i64,
        /// The tree's hash.
        digest: String,
    },
    /// The world outside was changed.
    #[serde(rename = "effect.done")]
    EffectDone {
        /// `push`.
        kind: String,
        /// What was changed, e.g. the branch.
        #[serde(rename = "ref")]
        target: String,
        /// The effect's key, unique for the task.
        key: String,
    },
    /// A run gave its task back; it goes on later.
    #[serde(rename = "task.released")]
    TaskReleased {
        /// How the claim ended.
        ended: String,
        /// Why.
        message: String,
        /// The turn after which it goes on, if work was saved.
        #[serde(skip_serializing_if = "Option::is_none")]
        turn: Option<i64>,
    },
    /// A task ended.
    #[serde(rename = "task.ended")]
    TaskEnded {
        /// The one word.
        verdict: String,
        /// What the model decided.
        decision: String,
        /// What the gate said.
        verification: String,
        /// Whether the machinery held.
        infrastructure: String,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What it says of itself.
        message: String,
        /// The branch that holds the result.
        #[serde(skip_serializing_if = "Option::is_none")]
        branch: Option<String>,
        /// The commit that holds the result.
        #[serde(skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// What was spent on the task.
        usage: UsageTotal,
    },
    /// The workload ended; `result` follows.
    #[serde(rename = "workload.finished")]
    WorkloadFinished {
        /// `Succeeded`, `NotOnTarget`, `Infrastructure` or `Cancelled`.
        finished: String,
        /// The same in words.
        message: String,
    },
    /// Something that a person may want to know; nothing failed by it.
    #[serde(rename = "notice")]
    Notice {
        /// What.
        message: String,
    },
    /// Nothing happened, and the stream is alive.
    #[serde(rename = "heartbeat")]
    Heartbeat {},
    /// The end: exactly one, the last line.
    #[serde(rename = "result")]
    Result(Box<RunResult>),
}

/// A step and the task that stands for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Step {
    /// The step.
    name: String,
    /// The task.
    task: String,
}

/// Tokens of one turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct TurnUsage {
    /// Sent.
    input: i64,
    /// Of these, what the server had in its cache.
    cached: i64,
    /// Received.
    output: i64,
}

/// What was spent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageTotal {
    /// Model calls with their tool calls.
    pub turns: i64,
    /// Tokens sent.
    pub input: i64,
    /// Of these, what the server had in its cache.
    pub cached: i64,
    /// Tokens received.
    pub output: i64,
}

/// How it all ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// `Succeeded`, `NotOnTarget`, `Infrastructure` or `Cancelled`; null when it did not end.
    pub finished: Option<String>,
    /// Whether a gate passed on the result.
    pub verified: bool,
    /// The process' exit code.
    pub exit_code: u8,
    /// The branch that holds the result.
    pub branch: Option<String>,
    /// The commit that holds the result.
    pub commit: Option<String>,
    /// The pull request's URL.
    pub pull_request: Option<String>,
    /// What was spent on all tasks.
    pub usage: UsageTotal,
    /// Tasks that did not end; they go on later.
    pub unfinished: Vec<String>,
    /// Commands to type next.
    pub next: Vec<String>,
    /// What went wrong, if Foreman itself failed or was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The schema of a line, as published.
pub fn schema() -> Value {
    schemars::schema_for!(Line).to_value()
}

impl Body {
    /// The line for what happened; none for what the stream has no type for.
    pub(super) fn of(what: &What) -> Option<Self> {
        Some(match what {
            What::Begun(begun) => Self::begun(begun),
            What::Planned { steps } => Self::WorkloadPlanned {
                steps: steps
                    .iter()
                    .map(|step| Step { name: step.name.clone(), task: step.task.clone() })
                    .collect(),
            },
            What::Waiting { reason, message } => {
                Self::TaskWaiting { reason: reason.clone(), message: message.clone() }
            }
            What::Placed { why } => Self::TaskPlaced { why: why.clone() },
            What::Started => Self::TaskStarted {},
            What::Run(event) => return Self::run(event),
            What::Moved { stage, turn, tokens } => {
                Self::TaskProgress { stage: stage.clone(), turn: *turn, tokens: *tokens }
            }
            What::Released { ended, message, turn } => {
                Self::TaskReleased { ended: ended.clone(), message: message.clone(), turn: *turn }
            }
            What::Ended(ended) => Self::ended(ended),
            What::Finished { reason, message } => {
                Self::WorkloadFinished { finished: reason.clone(), message: message.clone() }
            }
            What::Notice { message } => Self::Notice { message: message.clone() },
        })
    }

    fn begun(begun: &Begun) -> Self {
        Self::RunStarted {
            intent: begun.intent.clone(),
            repo: begun.repo.clone(),
            base: begun.base.clone(),
            model: begun.model.clone(),
            scripted: begun.scripted,
            store: "sqlite",
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "not exhaustive: what a later runner tells is not known here"
    )]
    fn run(event: &RunEvent) -> Option<Self> {
        Some(match event.clone() {
            RunEvent::WorkspaceReady { base, model, instructions } => {
                Self::WorkspaceReady { base, model, instructions }
            }
            RunEvent::Resumed { turns } => Self::RunResumed { turns },
            RunEvent::ToolStarted { turn, tool, summary } => {
                Self::ToolStarted { turn, tool, summary }
            }
            RunEvent::ToolCompleted { turn, tool, ok, summary, took } => {
                Self::ToolCompleted { turn, tool, ok, summary, seconds: took.as_secs_f64() }
            }
            RunEvent::TurnCompleted {
                turn,
                prompt_tokens,
                cached_tokens,
                completion_tokens,
                took,
            } => Self::TurnCompleted {
                turn,
                usage: TurnUsage {
                    input: prompt_tokens,
                    cached: cached_tokens,
                    output: completion_tokens,
                },
                seconds: took.as_secs_f64(),
            },
            RunEvent::GateStarted { command } => Self::GateStarted { command },
            RunEvent::GateCompleted { command, exit, tree, output, took } => {
                Self::GateCompleted { command, exit, tree, output, seconds: took.as_secs_f64() }
            }
            RunEvent::CheckpointSaved { turn, digest } => Self::CheckpointSaved { turn, digest },
            RunEvent::EffectDone { kind, target, key } => {
                Self::EffectDone { kind: kind.to_owned(), target, key }
            }
            RunEvent::Notice { message } => Self::Notice { message },
            // A turn that began is seen by its tools; what a later version tells is not known here.
            _ => return None,
        })
    }

    fn ended(ended: &Ended) -> Self {
        let usage = &ended.usage;
        Self::TaskEnded {
            verdict: ended.verdict.clone(),
            decision: ended.outcome.decision.to_string(),
            verification: ended.outcome.verification.to_string(),
            infrastructure: ended.outcome.infrastructure.to_string(),
            reason: ended.outcome.reason.map(|reason| reason.to_string()),
            message: ended.message.clone(),
            branch: ended.branch.clone(),
            commit: ended.commit.clone(),
            usage: UsageTotal {
                turns: usage.turns.unwrap_or(0),
                input: usage.prompt_tokens.unwrap_or(0),
                cached: usage.cached_tokens.unwrap_or(0),
                output: usage.completion_tokens.unwrap_or(0),
            },
        }
    }
}
