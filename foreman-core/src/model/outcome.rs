//! What a task came to: the model's decision, the verification and the infrastructure's state are
//! three different things.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agentic_task::{AgenticTaskStatus, TaskPhase};
use super::meta::Extra;
use super::open::{Open, wire_enum};

wire_enum! {
    /// What the work came to, in the one old word.
    Verdict {
        Go = "GO", NoGo = "NO-GO", Incomplete = "INCOMPLETE", GatePass = "GATE-PASS",
        GateFail = "GATE-FAIL", GateError = "GATE-ERROR", Skipped = "Skipped",
    }
}

wire_enum! {
    /// What went wrong, in the old closed set.
    FailureReason {
        AgentNotFound = "AgentNotFound",
        InferenceServiceUnavailable = "InferenceServiceUnavailable",
        AuthUnavailable = "AuthUnavailable",
        GitRemoteNotConfigured = "GitRemoteNotConfigured",
        CloneFailed = "CloneFailed",
        ModelMisunderstood = "ModelMisunderstood",
        ToolFailed = "ToolFailed",
        MaxTurnsExhausted = "MaxTurnsExhausted",
        ConstraintViolated = "ConstraintViolated",
        Timeout = "Timeout",
        InfrastructureError = "InfrastructureError",
        GateFailed = "GateFailed",
        GateError = "GateError",
        ModelReportedError = "ModelReportedError",
    }
}

wire_enum! {
    /// What the model decided.
    Decision { Go = "Go", NoGo = "NoGo", Incomplete = "Incomplete", None = "None" }
}

wire_enum! {
    /// What the repository's own gate said.
    Verification {
        Passed = "Passed", Failed = "Failed", Error = "Error", NotVerified = "NotVerified",
        NotApplicable = "NotApplicable",
    }
}

wire_enum! {
    /// Whether the machinery around the work held.
    Infrastructure {
        Ok = "Ok", NodeLost = "NodeLost", SandboxUnavailable = "SandboxUnavailable",
        ModelUnavailable = "ModelUnavailable", ModelContextTruncated = "ModelContextTruncated",
        GitUnavailable = "GitUnavailable", PushRefused = "PushRefused", TimedOut = "TimedOut",
        Cancelled = "Cancelled", Error = "Error",
    }
}

wire_enum! {
    /// Why it came to this.
    OutcomeReason {
        Declined = "Declined", Rejected = "Rejected", AlreadyResolved = "AlreadyResolved",
        NeedsVerification = "NeedsVerification", NoChanges = "NoChanges",
        CommitRejected = "CommitRejected", GateFailed = "GateFailed", StuckLoop = "StuckLoop",
        TurnLimit = "TurnLimit", Unsupported = "Unsupported",
    }
}

/// `status.outcome` as it stands on the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeRecord {
    /// The model's decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Open<Decision>>,
    /// The gate's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Open<Verification>>,
    /// The infrastructure's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<Open<Infrastructure>>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Open<OutcomeReason>>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// The strict view of what a task came to. Roll-up, cascade and the command line read only this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The model's decision.
    pub decision: Decision,
    /// The gate's word.
    pub verification: Verification,
    /// The infrastructure's state.
    pub infrastructure: Infrastructure,
    /// Why, where there is more to say.
    pub reason: Option<OutcomeReason>,
}

impl Outcome {
    /// The record of this outcome.
    pub fn record(self) -> OutcomeRecord {
        OutcomeRecord {
            decision: Some(self.decision.into()),
            verification: Some(self.verification.into()),
            infrastructure: Some(self.infrastructure.into()),
            reason: self.reason.map(Into::into),
            extra: Extra::new(),
        }
    }

    /// What a status came to. Where `outcome` or a part of it is missing (another agent wrote the
    /// status), it is derived from the verdict, the failure reason and the result envelope. A value
    /// that this version does not know reads as the worst of its kind: work that was not verified
    /// never reads as verified.
    pub fn of(status: &AgenticTaskStatus) -> Self {
        let derived = derive(status);
        let Some(record) = &status.outcome else {
            return derived;
        };
        Self {
            decision: read(record.decision.as_ref(), derived.decision, Decision::None),
            verification: read(
                record.verification.as_ref(),
                derived.verification,
                Verification::NotVerified,
            ),
            infrastructure: read(
                record.infrastructure.as_ref(),
                derived.infrastructure,
                Infrastructure::Error,
            ),
            reason: record.reason.as_ref().map_or(derived.reason, Open::known),
        }
    }
}

fn read<E: Copy>(value: Option<&Open<E>>, absent: E, unknown: E) -> E {
    value.map_or(absent, |value| value.known().unwrap_or(unknown))
}

/// Whether a task ended the way its dependents need: Succeeded with GO or GATE-PASS.
pub fn on_target(status: &AgenticTaskStatus) -> bool {
    status.known_phase() == Some(TaskPhase::Succeeded)
        && matches!(
            status.verdict.as_ref().and_then(Open::known),
            Some(Verdict::Go | Verdict::GatePass)
        )
}

/// The outcome that a status without `outcome` stands for. Words of the old envelope
/// (`result.extra.outcome`, `modelExtra.outcome`) are those of existing-control-plane 1.3.
fn derive(status: &AgenticTaskStatus) -> Outcome {
    let word = envelope_word(status);
    let failure = status.failure_reason.as_ref().and_then(Open::known);
    let (decision, verification) = match status.verdict.as_ref().and_then(Open::known) {
        Some(Verdict::Go) => (Decision::Go, Verification::NotVerified),
        Some(Verdict::NoGo) => (Decision::NoGo, Verification::NotApplicable),
        // The coder said GO and its own gate never agreed.
        Some(Verdict::Incomplete)
            if derive_reason(failure, word.as_deref()) == Some(OutcomeReason::GateFailed) =>
        {
            (Decision::Go, Verification::Failed)
        }
        Some(Verdict::Incomplete) => (Decision::Incomplete, Verification::NotVerified),
        Some(Verdict::GatePass) => (Decision::None, Verification::Passed),
        Some(Verdict::GateFail) => (Decision::None, Verification::Failed),
        Some(Verdict::GateError) => (Decision::None, Verification::Error),
        Some(Verdict::Skipped) | None => (Decision::None, Verification::NotApplicable),
    };
    let failed = status.known_phase() == Some(TaskPhase::Failed);
    Outcome {
        decision,
        verification,
        infrastructure: derive_infrastructure(failure, failed, word.as_deref()),
        reason: derive_reason(failure, word.as_deref()),
    }
}

fn derive_infrastructure(
    failure: Option<FailureReason>,
    failed: bool,
    word: Option<&str>,
) -> Infrastructure {
    match failure {
        Some(FailureReason::Timeout) => Infrastructure::TimedOut,
        Some(FailureReason::InferenceServiceUnavailable) => Infrastructure::ModelUnavailable,
        Some(FailureReason::CloneFailed | FailureReason::GitRemoteNotConfigured) => {
            Infrastructure::GitUnavailable
        }
        Some(FailureReason::InfrastructureError) if word == Some("PUSH-FAILED") => {
            Infrastructure::PushRefused
        }
        Some(FailureReason::InfrastructureError | FailureReason::AuthUnavailable) => {
            Infrastructure::Error
        }
        _ if failed => Infrastructure::Error,
        _ => Infrastructure::Ok,
    }
}

fn derive_reason(failure: Option<FailureReason>, word: Option<&str>) -> Option<OutcomeReason> {
    match word {
        Some("ALREADY-RESOLVED") => Some(OutcomeReason::AlreadyResolved),
        Some("NEEDS-VERIFICATION") => Some(OutcomeReason::NeedsVerification),
        Some("NO-CHANGES") => Some(OutcomeReason::NoChanges),
        Some("COMMIT-REJECTED") => Some(OutcomeReason::CommitRejected),
        Some("CODER-GATE-FAILED" | "ENVTEST-GATE-FAILED") => Some(OutcomeReason::GateFailed),
        Some("STUCK-LOOP-DETECTED") => Some(OutcomeReason::StuckLoop),
        Some("LOOP-BUDGET-EXHAUSTED") => Some(OutcomeReason::TurnLimit),
        _ => match failure {
            Some(FailureReason::GateFailed) => Some(OutcomeReason::GateFailed),
            Some(FailureReason::MaxTurnsExhausted) => Some(OutcomeReason::TurnLimit),
            Some(FailureReason::ConstraintViolated) => Some(OutcomeReason::StuckLoop),
            _ => None,
        },
    }
}

fn envelope_word(status: &AgenticTaskStatus) -> Option<String> {
    let extra = status.result.as_ref()?.0.get("extra")?;
    let nested = extra.get("modelExtra").and_then(|model| model.get("outcome"));
    [extra.get("outcome"), nested]
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|word| !word.is_empty() && *word != "MODEL-DECIDED")
        .map(ToOwned::to_owned)
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
