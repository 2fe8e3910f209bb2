//! The ends that runs of a simulation come to.

use super::chance::Chance;
use crate::model::TaskKind;
use crate::model::agentic_task::Usage;
use crate::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, OutcomeReason, Verdict, Verification,
};
use crate::model::shared::FreeObject;
use crate::ports::executor::{Finish, ReleaseWhy, RunEnd};

/// What a task's work comes to if nothing goes wrong around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Go,
    NotVerified,
    NoGo,
    Rejected,
    NeverPasses,
    TurnLimit,
    GatePass,
    GateFail,
    GateError,
    Broken,
}

/// Draws the end of a task's work. Where people are stern, coders give up and reviewers say no often,
/// so that work is done over and stronger coders are asked.
pub(super) fn draw(chance: &mut Chance, kind: Option<TaskKind>, stern: bool) -> Wanted {
    let dice = chance.below(100);
    if stern && kind == Some(TaskKind::Review) && dice < 55 {
        return Wanted::Rejected;
    }
    if stern && kind == Some(TaskKind::IssueFix) {
        return match dice {
            0..=59 => Wanted::Go,
            60..=74 => Wanted::NoGo,
            75..=89 => Wanted::NeverPasses,
            90..=95 => Wanted::TurnLimit,
            _ => Wanted::Broken,
        };
    }
    if kind == Some(TaskKind::Verify) {
        return match dice {
            0..=79 => Wanted::GatePass,
            80..=91 => Wanted::GateFail,
            _ => Wanted::GateError,
        };
    }
    match dice {
        0..=69 => Wanted::Go,
        70..=79 => Wanted::NotVerified,
        80..=87 => Wanted::NoGo,
        88..=93 => Wanted::TurnLimit,
        _ => Wanted::Broken,
    }
}

fn end(
    verdict: Verdict,
    failure_reason: Option<FailureReason>,
    decision: Decision,
    verification: Verification,
    infrastructure: Infrastructure,
    reason: Option<OutcomeReason>,
) -> Finish {
    Finish {
        succeeded: infrastructure == Infrastructure::Ok,
        verdict,
        failure_reason,
        outcome: Outcome { decision, verification, infrastructure, reason },
        result: FreeObject::default(),
        branch: None,
        commit_sha: None,
        usage: Usage::default(),
        checkpoint: None,
        message: "simulated".to_owned(),
    }
}

/// The end as a run reports it.
pub(super) fn finish(wanted: Wanted) -> Finish {
    use Infrastructure::Ok;
    let reason = |reason| Some(reason);
    match wanted {
        Wanted::Go => end(Verdict::Go, None, Decision::Go, Verification::Passed, Ok, None),
        Wanted::NotVerified => {
            end(Verdict::Go, None, Decision::Go, Verification::NotVerified, Ok, None)
        }
        Wanted::NoGo => end(
            Verdict::NoGo,
            None,
            Decision::NoGo,
            Verification::NotApplicable,
            Ok,
            reason(OutcomeReason::Declined),
        ),
        Wanted::Rejected => {
            let reason = reason(OutcomeReason::Rejected);
            let verified = Verification::NotApplicable;
            let mut said = end(Verdict::NoGo, None, Decision::NoGo, verified, Ok, reason);
            said.result = FreeObject(rejection());
            said
        }
        Wanted::NeverPasses => end(
            Verdict::Incomplete,
            None,
            Decision::Go,
            Verification::Failed,
            Ok,
            reason(OutcomeReason::GateFailed),
        ),
        Wanted::TurnLimit => end(
            Verdict::Incomplete,
            Some(FailureReason::MaxTurnsExhausted),
            Decision::Incomplete,
            Verification::NotVerified,
            Ok,
            reason(OutcomeReason::TurnLimit),
        ),
        Wanted::GatePass => {
            end(Verdict::GatePass, None, Decision::None, Verification::Passed, Ok, None)
        }
        Wanted::GateFail => {
            end(Verdict::GateFail, None, Decision::None, Verification::Failed, Ok, None)
        }
        Wanted::GateError => {
            end(Verdict::GateError, None, Decision::None, Verification::Error, Ok, None)
        }
        Wanted::Broken => end(
            Verdict::Incomplete,
            Some(FailureReason::InfrastructureError),
            Decision::Incomplete,
            Verification::NotVerified,
            Infrastructure::SandboxUnavailable,
            None,
        ),
    }
}

/// What a reviewer writes who says no.
fn rejection() -> serde_json::Map<String, serde_json::Value> {
    let found =
        serde_json::json!([{"severity": "major", "file": "a.rs", "message": "it is wrong"}]);
    let said = serde_json::json!({
        "summary": "not yet",
        "extra": {"outcome": "MODEL-DECIDED", "modelExtra": {"findings": found}},
    });
    said.as_object().cloned().unwrap_or_default()
}

fn cut_off(failure: Option<FailureReason>, infrastructure: Infrastructure) -> Finish {
    let (decision, verification) = (Decision::None, Verification::NotVerified);
    end(Verdict::Incomplete, failure, decision, verification, infrastructure, None)
}

/// The task was cancelled.
pub(super) fn cancelled() -> Finish {
    cut_off(None, Infrastructure::Cancelled)
}

/// The task's time was up.
pub(super) fn timed_out() -> Finish {
    cut_off(Some(FailureReason::Timeout), Infrastructure::TimedOut)
}

/// Somebody else moved the branch.
pub(super) fn push_refused() -> Finish {
    cut_off(Some(FailureReason::InfrastructureError), Infrastructure::PushRefused)
}

/// The claim is given back because of the machinery.
pub(super) fn infrastructure(message: &str) -> ReleaseWhy {
    ReleaseWhy::infrastructure(Infrastructure::Error, message)
}

/// What a run's end is counted as.
pub(super) fn word(end: &RunEnd) -> &'static str {
    match end {
        RunEnd::Finished(finish) if finish.succeeded => "run ended",
        RunEnd::Finished(_) => "run failed",
        RunEnd::Released { why: ReleaseWhy::Suspended, .. } => "run suspended",
        RunEnd::Released { why: ReleaseWhy::Drained, .. } => "run drained",
        RunEnd::Released { why: ReleaseWhy::BudgetExhausted { .. }, .. } => "run out of budget",
        RunEnd::Released { why: ReleaseWhy::Infrastructure { .. }, .. } => "run given back",
        RunEnd::Lost => "run lost",
    }
}
