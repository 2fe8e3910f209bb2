//! What happened, as data: the one thing that the live view, the plain lines and the event stream
//! are all made of. Texts in it come from models, tools and repositories and are untrusted.

use foreman_core::model::agentic_task::Usage;
use foreman_core::model::outcome::Outcome;
use foreman_runner::observe::RunEvent;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The workload it belongs to.
    pub workload: Option<String>,
    /// The task it is about.
    pub task: Option<String>,
    /// The claim of the task.
    pub attempt: Option<i64>,
    /// The node.
    pub node: Option<String>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Somebody follows a workload from here on.
    Begun(Begun),
    /// The workload has its tasks.
    Planned {
        /// Its steps, in order.
        steps: Vec<PlannedStep>,
    },
    /// A task waits.
    Waiting {
        /// The word.
        reason: String,
        /// The reason in words.
        message: String,
    },
    /// A task was given to a node.
    Placed {
        /// Why that one, a reason each.
        why: Vec<String>,
    },
    /// A node began to run a task.
    Started,
    /// Something in a run.
    Run(RunEvent),
    /// A run of another process moved on, as its node last said.
    Moved {
        /// What it is doing, e.g. `Model`.
        stage: String,
        /// The turn.
        turn: i64,
        /// Tokens of this claim so far.
        tokens: i64,
    },
    /// A run gave its task back; it goes on later.
    Released {
        /// How the claim ended, e.g. `Drained`.
        ended: String,
        /// Why, in words.
        message: String,
        /// The turn after which it goes on, if work was saved.
        turn: Option<i64>,
    },
    /// A task ended.
    Ended(Ended),
    /// The workload ended.
    Finished {
        /// `Succeeded`, `NotOnTarget`, `Infrastructure` or `Cancelled`.
        reason: String,
        /// The same in words.
        message: String,
    },
    /// Something that a person may want to know.
    Notice {
        /// What.
        message: String,
    },
}

/// What is known when the following begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begun {
    /// What is wanted.
    pub intent: String,
    /// The repository.
    pub repo: Option<String>,
    /// The commit that the work starts from, if it was looked up.
    pub base: Option<String>,
    /// The model and where it is, for a person; says so when it is no model.
    pub model: Option<String>,
    /// Whether the model is a script of canned answers.
    pub scripted: bool,
}

/// A step and the task that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// The step.
    pub name: String,
    /// The task.
    pub task: String,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Whether dependents may go on.
    pub on_target: bool,
    /// The one word, e.g. `GO`.
    pub verdict: String,
    /// What is behind it.
    pub outcome: Outcome,
    /// What it says of itself.
    pub message: String,
    /// The branch that holds the result.
    pub branch: Option<String>,
    /// The commit that holds the result.
    pub commit: Option<String>,
    /// What was spent, over all attempts.
    pub usage: Usage,
}

impl Fact {
    /// A fact about no task.
    pub fn of_workload(workload: Option<&str>, what: What) -> Self {
        let workload = workload.map(ToOwned::to_owned);
        Self { workload, task: None, attempt: None, node: None, what }
    }

    /// Something that a person may want to know.
    pub fn notice(workload: Option<&str>, message: impl Into<String>) -> Self {
        Self::of_workload(workload, What::Notice { message: message.into() })
    }
}

/// All tokens of a usage, sent and received.
pub fn tokens(usage: &Usage) -> i64 {
    usage.prompt_tokens.unwrap_or(0).saturating_add(usage.completion_tokens.unwrap_or(0))
}
