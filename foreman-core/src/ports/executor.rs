//! The executor: does a run.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::agentic_task::{Checkpoint, Usage};
use crate::model::fleet_node::RunStage;
use crate::model::ids::Fence;
use crate::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, Verdict, Verification,
};
use crate::model::shared::FreeObject;
use crate::model::time::{BootTime, WallTime};
use crate::model::{Agent, AgenticTask, Object};
use crate::task::authority::Authority;

/// A task that was claimed and is to be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The task, as the claim's answer showed it.
    pub task: Object<AgenticTask>,
    /// Who does it; absent for tasks without an Agent.
    pub agent: Option<Object<Agent>>,
    /// What the claim is known by.
    pub fence: Fence,
}

/// What a run is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The stage.
    pub stage: Option<RunStage>,
    /// The turn, from 1.
    pub turn: i64,
    /// Tokens so far, over this claim.
    pub tokens: i64,
    /// When it last moved.
    pub last_progress: Option<WallTime>,
}

/// What a run is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Go on.
    Continue,
    /// Pause at the next turn boundary.
    Suspend,
    /// Hand over until then.
    Drain {
        /// The last moment.
        by: BootTime,
    },
    /// End now, keep the work.
    Cancel,
    /// The task's time is up: end now, keep the work.
    TimedOut,
    /// The claim is lost: stop, with no effect and no write.
    Lost,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one a run, moved twice")]
pub enum RunEnd {
    /// It came to something: the task ends.
    Finished(Box<Finish>),
    /// It goes on later: the claim is given back.
    Released {
        /// Where the unfinished work lies.
        checkpoint: Option<Checkpoint>,
        /// What was spent in this claim, and in earlier ones that this machine's journal tells of and
        /// that were never charged. See [`Finish::usage`].
        usage: Usage,
        /// Why.
        why: ReleaseWhy,
    },
    /// The claim was lost: somebody else owns the task.
    Lost,
}

/// Why a run gave its claim back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReleaseWhy {
    /// The task is suspended.
    Suspended,
    /// The node drains.
    Drained,
    /// A budget is spent; raising it resumes the run.
    BudgetExhausted {
        /// Which one, with numbers.
        message: String,
    },
    /// The machinery failed; another try may do.
    Infrastructure {
        /// What failed, and what the model had decided and the gate had said by then: should it be the
        /// last try, that is what the task came to.
        outcome: Outcome,
        /// What happened, to what.
        message: String,
    },
}

impl ReleaseWhy {
    /// The machinery failed before anything was decided or verified.
    pub fn infrastructure(kind: Infrastructure, message: impl Into<String>) -> Self {
        let outcome = Outcome {
            decision: Decision::None,
            verification: Verification::NotVerified,
            infrastructure: kind,
            reason: None,
        };
        Self::Infrastructure { outcome, message: message.into() }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Whether the task counts as Succeeded (it ran to its own end) or Failed.
    pub succeeded: bool,
    /// The one old word.
    pub verdict: Verdict,
    /// The old failure reason.
    pub failure_reason: Option<FailureReason>,
    /// What is behind the verdict.
    pub outcome: Outcome,
    /// The envelope `foreman.v1`.
    pub result: FreeObject,
    /// The branch that holds the result.
    pub branch: Option<String>,
    /// The commit that holds the result.
    pub commit_sha: Option<String>,
    /// What was spent in this claim, and in earlier ones that this machine's journal tells of and that
    /// were never charged. `estimated: false` says more: it holds also what claims spent that were
    /// charged by an estimate ([`AgenticTaskStatus::estimated_on`]), and takes the place of those.
    ///
    /// [`AgenticTaskStatus::estimated_on`]: crate::model::agentic_task::AgenticTaskStatus::estimated_on
    pub usage: Usage,
    /// Where the work lies when it is not on a branch.
    pub checkpoint: Option<Checkpoint>,
    /// One sentence for the condition.
    pub message: String,
}

impl RunEnd {
    /// The end of a run that did what was asked and that no gate judged: GO, not verified.
    pub fn go(message: impl Into<String>) -> Self {
        Self::Finished(Box::new(Finish {
            succeeded: true,
            verdict: Verdict::Go,
            failure_reason: None,
            outcome: Outcome {
                decision: Decision::Go,
                verification: Verification::NotVerified,
                infrastructure: Infrastructure::Ok,
                reason: None,
            },
            result: FreeObject::default(),
            branch: None,
            commit_sha: None,
            usage: Usage::default(),
            checkpoint: None,
            message: message.into(),
        }))
    }
}

/// Runs claimed tasks.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Runs `job` to its end. Effects on the outside world need a permit of `authority`, each a
    /// fresh one. Progress goes to `progress`; `stop` may change at any time and must be obeyed.
    async fn run(
        &self,
        job: Job,
        authority: Arc<Authority>,
        progress: watch::Sender<Progress>,
        stop: watch::Receiver<Stop>,
    ) -> RunEnd;

    /// The highest attempt of which this machine holds a journal for that task; 0 = none.
    async fn highest_attempt(&self, uid: &crate::model::Uid) -> i64 {
        let _ = uid;
        0
    }
}
