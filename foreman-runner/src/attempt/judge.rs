//! Judging a tree by the repository's own gate.

use foreman_core::model::fleet_node::RunStage;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Attempt;
use super::place::Place;
use crate::gate::{GateError, GateOutcome, GateReport, run_gate};
use crate::observe::RunEvent;
use crate::sandbox::Exit;

impl Attempt<'_> {
    /// Runs the gate on the tree as it is and tells what it found.
    pub(super) async fn gate(
        &self,
        place: &Place,
        cancel: &CancellationToken,
    ) -> Result<GateReport, GateError> {
        self.moved(|progress| progress.stage = Some(RunStage::Gate));
        for step in &place.gate.steps {
            self.tell(RunEvent::GateStarted { command: step.command.clone() });
        }
        let report = run_gate(&place.gate, &*place.sandbox, &place.workspace, cancel).await?;
        for step in &report.steps {
            self.tell(RunEvent::GateCompleted {
                command: step.step.command.clone(),
                exit: match step.exit {
                    Some(Exit::Code(code)) => Some(code),
                    Some(Exit::Signal(_) | Exit::TimedOut | Exit::Cancelled) | None => None,
                },
                tree: report.tree.clone(),
                output: step.output.clone(),
                took: step.duration,
            });
        }
        Ok(report)
    }
}

/// The report as the result envelope holds it.
pub(super) fn gate_json(report: &GateReport) -> Value {
    let steps = report.steps.iter().map(|step| {
        json!({
            "name": step.step.name,
            "command": step.step.command,
            "exit": match step.exit {
                Some(Exit::Code(code)) => json!(code),
                Some(Exit::Signal(signal)) => json!(format!("signal {signal}")),
                Some(Exit::TimedOut) => json!("timed out"),
                Some(Exit::Cancelled) => json!("cancelled"),
                None => Value::Null,
            },
            "seconds": step.duration.as_secs(),
            "outcome": word(step.outcome),
        })
    });
    json!({
        "outcome": word(report.outcome),
        "source": report.source.to_string(),
        "tree": report.tree,
        "steps": steps.collect::<Vec<_>>(),
    })
}

const fn word(outcome: GateOutcome) -> &'static str {
    match outcome {
        GateOutcome::Passed => "Passed",
        GateOutcome::Failed => "Failed",
        GateOutcome::Error => "Error",
        GateOutcome::NotConfigured => "NotConfigured",
    }
}

/// What failed, for the model: each command that did not pass with the end of its output.
pub(super) fn gate_findings(report: &GateReport) -> String {
    let failed = report.steps.iter().filter(|step| step.outcome != GateOutcome::Passed);
    let parts = failed.map(|step| {
        let how = match (&step.reason, step.exit) {
            (Some(reason), _) => reason.clone(),
            (None, Some(Exit::Code(code))) => format!("exit {code}"),
            (None, Some(Exit::Signal(signal))) => format!("ended by signal {signal}"),
            (None, Some(Exit::TimedOut)) => "timed out".to_owned(),
            (None, Some(Exit::Cancelled) | None) => "not run".to_owned(),
        };
        format!("$ {}\n{how}\n{}", step.step.command, step.output.trim_end())
    });
    parts.collect::<Vec<_>>().join("\n\n")
}

/// The gate on one line: what ran, and how it ended.
pub(super) fn gate_line(report: &GateReport) -> String {
    let commands = report.steps.iter().map(|step| format!("`{}`", step.step.command));
    let commands = commands.collect::<Vec<_>>().join(", ");
    match report.outcome {
        GateOutcome::Passed => format!("gate passed: {commands}"),
        GateOutcome::Failed => format!("gate failed: {commands}"),
        GateOutcome::Error => {
            let why = report.steps.iter().find_map(|step| step.reason.clone());
            format!("gate could not judge: {}", why.unwrap_or(commands))
        }
        GateOutcome::NotConfigured => "no gate is configured".to_owned(),
    }
}
