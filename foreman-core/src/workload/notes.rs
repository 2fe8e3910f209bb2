//! What later steps need of what a task said, read once when it ends.

use serde_json::Value;

use crate::model::agentic_task::AgenticTaskStatus;
use crate::model::meta::Extra;
use crate::model::outcome::on_target;
use crate::model::shared::GateAdvisory;
use crate::model::workload::StepNotes;
use crate::timing::{STEP_NOTE_CHARS_MAX, STEP_NOTES_MAX, STEP_SUMMARY_CHARS_MAX};

/// The notes of a task that has ended; absent = it said nothing that a later step could need.
pub(crate) fn of(status: &AgenticTaskStatus) -> Option<StepNotes> {
    let result = status.result.as_ref().map(|result| &result.0);
    let extra = result.and_then(|result| result.get("extra"));
    let said = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let off_target = !on_target(status);
    let word = said(extra.and_then(|extra| extra.get("outcome")));
    let summary = said(result.and_then(|result| result.get("summary")));
    let found = extra
        .and_then(|extra| extra.get("modelExtra")?.get("findings")?.as_array())
        .filter(|_| off_target);
    let advised = extra.and_then(|extra| extra.get("gateAdvisories")?.as_array());
    let bounded = |text: String| clip(&text, STEP_NOTE_CHARS_MAX);
    let notes = StepNotes {
        outcome: word.filter(|word| off_target && !word.is_empty()).map(bounded),
        summary: summary
            .filter(|text| off_target && !text.is_empty())
            .map(|text| clip(&text, STEP_SUMMARY_CHARS_MAX)),
        findings: found.into_iter().flatten().take(STEP_NOTES_MAX).map(finding).collect(),
        advisories: advised.into_iter().flatten().take(STEP_NOTES_MAX).map(advisory).collect(),
        branch: status.branch.clone().filter(|branch| !branch.is_empty()).map(bounded),
        extra: Extra::new(),
    };
    (notes != StepNotes::default()).then_some(notes)
}

/// One finding of a reviewer as a line: `major src/a.rs:3: what is wrong`.
fn finding(value: &Value) -> String {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let message = ["message", "detail", "description", "summary"].into_iter().find_map(text);
    let line = match (value, message) {
        (Value::String(text), _) => text.clone(),
        (_, Some(message)) => {
            let severity = text("severity").unwrap_or("finding");
            let number = value.get("line").and_then(Value::as_u64);
            let place = match (text("file"), number) {
                (Some(file), Some(number)) => format!(" {file}:{number}"),
                (Some(file), None) => format!(" {file}"),
                (None, _) => String::new(),
            };
            format!("{severity}{place}: {message}")
        }
        (_, None) => value.to_string(),
    };
    clip(&line, STEP_NOTE_CHARS_MAX)
}

fn advisory(value: &Value) -> GateAdvisory {
    let text = |name: &str| {
        value.get(name).and_then(Value::as_str).map(|text| clip(text, STEP_NOTE_CHARS_MAX))
    };
    match value {
        Value::String(text) => {
            GateAdvisory { check: None, detail: Some(clip(text, STEP_NOTE_CHARS_MAX)) }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            GateAdvisory { check: text("check"), detail: text("detail") }
        }
    }
}

/// The text's beginning, with a mark where it was cut.
fn clip(text: &str, chars_max: usize) -> String {
    if text.chars().nth(chars_max).is_none() {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
