//! How an attempt ended, and what that is on the wire (the table of outcomes).

use std::time::Duration;

use foreman_core::model::agentic_task::{Checkpoint, Usage};
use foreman_core::model::ids::Fence;
use foreman_core::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, OutcomeReason, Verdict, Verification,
};
use foreman_core::model::shared::FreeObject;
use foreman_core::ports::executor::{Finish, ReleaseWhy, RunEnd, Stop};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Fault;

/// How a run came to its own end; what the journal keeps until the terminal write succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conclusion {
    pub(crate) succeeded: bool,
    pub(crate) verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) decision: Decision,
    pub(crate) verification: Verification,
    pub(crate) infrastructure: Infrastructure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<OutcomeReason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// Shown to people: one sentence.
    pub(crate) message: String,
    /// What the model said of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) summary: String,
    /// More of the envelope's `extra`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) extra: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Conclusion {
    /// An end on which everything held.
    pub(crate) fn new(verdict: Verdict, decision: Decision, verification: Verification) -> Self {
        Self {
            succeeded: true,
            verdict,
            failure_reason: None,
            decision,
            verification,
            infrastructure: Infrastructure::Ok,
            reason: None,
            branch: None,
            commit: None,
            message: String::new(),
            summary: String::new(),
            extra: Map::new(),
            checkpoint: None,
        }
    }

    /// An end that the machinery forced.
    pub(crate) fn fault(fault: &Fault) -> Self {
        let reason = match fault.kind {
            Infrastructure::Cancelled => None,
            Infrastructure::TimedOut => Some(FailureReason::Timeout),
            Infrastructure::Ok
            | Infrastructure::NodeLost
            | Infrastructure::SandboxUnavailable
            | Infrastructure::ModelUnavailable
            | Infrastructure::ModelContextTruncated
            | Infrastructure::GitUnavailable
            | Infrastructure::PushRefused
            | Infrastructure::Error => Some(FailureReason::InfrastructureError),
        };
        Self {
            succeeded: false,
            failure_reason: reason,
            infrastructure: fault.kind,
            message: fault.message.clone(),
            ..Self::new(Verdict::Incomplete, Decision::None, Verification::NotVerified)
        }
    }

    #[must_use]
    pub(crate) fn because(mut self, reason: OutcomeReason) -> Self {
        self.reason = Some(reason);
        self
    }

    #[must_use]
    pub(crate) fn failed_as(mut self, reason: FailureReason) -> Self {
        self.failure_reason = Some(reason);
        self
    }

    #[must_use]
    pub(crate) fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The old word of the envelope's `extra.outcome`, which older readers key on.
    fn word(&self) -> &'static str {
        match (self.infrastructure, self.reason, self.verdict) {
            (Infrastructure::PushRefused, _, _) => "PUSH-FAILED",
            (_, Some(OutcomeReason::GateFailed), _) => "CODER-GATE-FAILED",
            (_, Some(OutcomeReason::NoChanges), _) => "NO-CHANGES",
            (_, Some(OutcomeReason::StuckLoop), _) => "STUCK-LOOP-DETECTED",
            (_, Some(OutcomeReason::TurnLimit), _) => "LOOP-BUDGET-EXHAUSTED",
            (_, Some(OutcomeReason::AlreadyResolved), _) => "ALREADY-RESOLVED",
            (_, Some(OutcomeReason::NeedsVerification), _) => "NEEDS-VERIFICATION",
            (_, Some(OutcomeReason::CommitRejected), _) => "COMMIT-REJECTED",
            (_, _, Verdict::NoGo) => "MODEL-DECIDED",
            (Infrastructure::Ok, _, _) => "",
            (_, _, _) => "LOOP-INCOMPLETE",
        }
    }

    fn envelope(&self, seconds: u64) -> FreeObject {
        let mut extra = self.extra.clone();
        extra.insert("outcome".to_owned(), json!(self.word()));
        if let Some(branch) = &self.branch {
            extra.insert("branch".to_owned(), json!(branch));
        }
        if let Some(commit) = &self.commit {
            extra.insert("commitSHA".to_owned(), json!(commit));
        }
        let summary = if self.summary.is_empty() { &self.message } else { &self.summary };
        let mut result = Map::new();
        result.insert("schemaVersion".to_owned(), json!("foreman.v1"));
        result.insert("kind".to_owned(), json!("native-agent-loop"));
        result.insert("verdict".to_owned(), json!(self.verdict));
        if let Some(reason) = self.failure_reason {
            result.insert("failureReason".to_owned(), json!(reason));
        }
        result.insert("summary".to_owned(), json!(summary));
        result.insert("elapsedSec".to_owned(), json!(seconds));
        result.insert("extra".to_owned(), Value::Object(extra));
        FreeObject(result)
    }

    /// What the store is told.
    pub(crate) fn finish(&self, mut usage: Usage, took: Duration) -> Finish {
        let seconds = took.as_secs();
        usage.wall_seconds = Some(whole_seconds(took));
        Finish {
            succeeded: self.succeeded,
            verdict: self.verdict,
            failure_reason: self.failure_reason,
            outcome: self.outcome(),
            result: self.envelope(seconds),
            branch: self.branch.clone(),
            commit_sha: self.commit.clone(),
            usage,
            checkpoint: self.checkpoint.clone(),
            message: self.message.clone(),
        }
    }

    /// The three things behind the verdict.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            decision: self.decision,
            verification: self.verification,
            infrastructure: self.infrastructure,
            reason: self.reason,
        }
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By itself.
    Concluded { conclusion: Box<Conclusion>, usage: Usage },
    /// It gives the claim back by itself.
    Paused { checkpoint: Option<Checkpoint>, usage: Usage, why: ReleaseWhy },
    /// It was told to stop; what that means is for who told it.
    Stopped(Box<Stopped>),
}

/// What a run that was told to stop leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Stopped {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) usage: Usage,
    /// The patch that holds the work.
    pub(crate) kept: Option<String>,
    /// What the run found out by itself, before it was told.
    pub(crate) found: Option<Stop>,
}

impl Ending {
    pub(crate) fn concluded(conclusion: Conclusion, usage: Usage) -> Self {
        Self::Concluded { conclusion: Box::new(conclusion), usage }
    }

    /// Told to stop before anything was done.
    pub(crate) fn stopped() -> Self {
        Self::Stopped(Box::default())
    }

    /// A task that asks for something no runner can do yet.
    pub(crate) fn unsupported(field: &str) -> Self {
        let message = format!("{field} asks for something that this version cannot do");
        let fault = Fault::saying(Infrastructure::Error, message).for_good();
        let conclusion = Conclusion::fault(&fault).because(OutcomeReason::Unsupported);
        Self::concluded(Conclusion { failure_reason: None, ..conclusion }, Usage::default())
    }

    /// A failure of the machinery before anything was spent. An earlier checkpoint stands.
    pub(crate) fn fault(fault: &Fault) -> Self {
        let conclusion = Conclusion::fault(fault);
        match fault.given_back(&conclusion) {
            Some(why) => Self::Paused { checkpoint: None, usage: Usage::default(), why },
            None => Self::concluded(conclusion, Usage::default()),
        }
    }

    /// The end as the agent is told. `told` is what the run was told last.
    pub(crate) fn into_run_end(self, told: Stop, took: Duration, fence: &Fence) -> RunEnd {
        if told == Stop::Lost {
            return RunEnd::Lost;
        }
        match self {
            Self::Concluded { conclusion, usage } => {
                RunEnd::Finished(Box::new(conclusion.finish(usage, took)))
            }
            Self::Paused { checkpoint, mut usage, why } => {
                usage.wall_seconds = Some(whole_seconds(took));
                RunEnd::Released { checkpoint, usage, why }
            }
            Self::Stopped(stopped) => stopped.into_run_end(told, took, fence),
        }
    }
}

fn whole_seconds(took: Duration) -> i64 {
    i64::try_from(took.as_secs()).unwrap_or(i64::MAX)
}

impl Stopped {
    fn into_run_end(self, told: Stop, took: Duration, fence: &Fence) -> RunEnd {
        let Self { checkpoint, mut usage, kept, found } = self;
        usage.wall_seconds = Some(whole_seconds(took));
        let ended = |kind, what: &str| {
            let where_kept =
                kept.as_ref().map_or(String::new(), |kept| format!("; the work is kept in {kept}"));
            let fault = Fault::saying(kind, format!("{what}{where_kept}"));
            let mut conclusion = Conclusion::fault(&fault);
            conclusion.checkpoint.clone_from(&checkpoint);
            if let Some(kept) = &kept {
                conclusion.extra.insert("patch".to_owned(), json!(kept));
            }
            RunEnd::Finished(Box::new(conclusion.finish(usage.clone(), took)))
        };
        match found.unwrap_or(told) {
            Stop::Lost => RunEnd::Lost,
            Stop::Cancel => ended(Infrastructure::Cancelled, "cancelled"),
            Stop::TimedOut => ended(Infrastructure::TimedOut, "timeoutSeconds is over"),
            Stop::Suspend => RunEnd::Released { checkpoint, usage, why: ReleaseWhy::Suspended },
            Stop::Drain { .. } => RunEnd::Released { checkpoint, usage, why: ReleaseWhy::Drained },
            Stop::Continue => {
                tracing::error!(task = %fence.uid, "a run stopped that nobody had told to");
                let message = "the run stopped by itself";
                let why = ReleaseWhy::infrastructure(Infrastructure::Error, message);
                RunEnd::Released { checkpoint, usage, why }
            }
        }
    }
}
