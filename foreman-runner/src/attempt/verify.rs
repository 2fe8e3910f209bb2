//! A verify task: the gate on a fresh checkout of the pushed commit. No model takes part.

use foreman_core::model::agentic_task::{TaskKind, Usage};
use foreman_core::model::outcome::{
    Decision, FailureReason, Infrastructure, OutcomeReason, Verdict, Verification,
};
use serde_json::json;

use super::end::{Conclusion, Ending};
use super::judge::{gate_findings, gate_json, gate_line};
use super::place::{NoPlace, Place};
use super::{Attempt, Fault};
use crate::gate::{GateError, GateOutcome, GateReport, run_setup};

/// Characters of the findings that the envelope keeps.
const FINDINGS_CHARS_MAX: usize = 8_000;

impl Attempt<'_> {
    pub(super) async fn verify(&self) -> Ending {
        let place = match self.place().await {
            Ok(place) => place,
            Err(no_place) => return self.no_place(no_place),
        };
        self.ready(&place, None, None);
        let ending = match self.setup_and_gate(&place).await {
            Ok(report) => Ending::concluded(concluded(&place, &report), Usage::default()),
            Err(error) => self.no_place(error.into()),
        };
        super::publishing::reap(place, self).await;
        ending
    }

    async fn setup_and_gate(&self, place: &Place) -> Result<GateReport, GateError> {
        self.set_up(place).await?;
        self.gate(place, &self.cancel).await
    }

    /// Runs the setup of the repository, if it has one and it was not run for this lock file yet.
    pub(super) async fn set_up(&self, place: &Place) -> Result<(), GateError> {
        let sandbox = &*place.sandbox;
        let said =
            run_setup(&place.gate, sandbox, &place.workspace, &place.layout, &self.cancel).await?;
        if let Some(said) = said {
            self.notice(said);
        }
        Ok(())
    }

    /// The end of an attempt that had nowhere to work.
    pub(super) fn no_place(&self, no_place: NoPlace) -> Ending {
        match no_place {
            NoPlace::Stopped => Ending::stopped(),
            // What breaks while everything is being killed is not the machinery's fault.
            NoPlace::Fault(fault) if self.cancel.is_cancelled() => {
                tracing::debug!(fault = fault.message, "a fault while stopping");
                Ending::stopped()
            }
            NoPlace::Fault(fault) => Ending::fault(&fault),
            NoPlace::Gate(message) => {
                Ending::concluded(self.unjudgeable(message), Usage::default())
            }
        }
    }

    /// The end of a task whose gate cannot be run as it is configured.
    pub(super) fn unjudgeable(&self, message: String) -> Conclusion {
        let verdict = match self.job.task.spec.kind.known() {
            Some(TaskKind::Verify) => Verdict::GateError,
            Some(
                TaskKind::IssueFix
                | TaskKind::Review
                | TaskKind::Freeform
                | TaskKind::Integrate
                | TaskKind::Reconcile,
            )
            | None => Verdict::Incomplete,
        };
        Conclusion::new(verdict, Decision::None, Verification::Error)
            .failed_as(FailureReason::GateError)
            .saying(message)
    }
}

fn concluded(place: &Place, report: &GateReport) -> Conclusion {
    let mut conclusion = match report.outcome {
        GateOutcome::Passed => {
            Conclusion::new(Verdict::GatePass, Decision::None, Verification::Passed)
        }
        GateOutcome::Failed => {
            Conclusion::new(Verdict::GateFail, Decision::None, Verification::Failed)
                .failed_as(FailureReason::GateFailed)
                .because(OutcomeReason::GateFailed)
        }
        GateOutcome::Error => {
            Conclusion::new(Verdict::GateError, Decision::None, Verification::Error)
                .failed_as(FailureReason::GateError)
        }
        // On target, because nothing speaks against the change, and plainly not verified.
        GateOutcome::NotConfigured => {
            Conclusion::new(Verdict::Go, Decision::None, Verification::NotVerified)
        }
    };
    conclusion.message = gate_line(report);
    conclusion.commit = Some(place.workspace.parent().to_owned());
    conclusion.branch = place.workspace.branch().ok().map(|branch| branch.to_string());
    conclusion.extra.insert("deterministic".to_owned(), json!(true));
    conclusion.extra.insert("gate".to_owned(), gate_json(report));
    if report.outcome != GateOutcome::Passed {
        let findings: String = gate_findings(report).chars().take(FINDINGS_CHARS_MAX).collect();
        conclusion.extra.insert("feedback".to_owned(), json!(findings));
    }
    conclusion
}

/// The fault of a gate that ended a model's run.
pub(super) fn gate_fault(error: &GateError) -> Fault {
    match error {
        GateError::Workspace(error) => Fault::from(error),
        GateError::Sandbox { .. } => Fault::new(Infrastructure::SandboxUnavailable, error),
        GateError::Cancelled | GateError::Setup { .. } | GateError::Record { .. } => {
            Fault::new(Infrastructure::Error, error)
        }
        GateError::InvalidProfile { .. }
        | GateError::UnknownLanguage { .. }
        | GateError::Project(_) => Fault::new(Infrastructure::Error, error).for_good(),
    }
}
