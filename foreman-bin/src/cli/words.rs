//! Words that several verbs share: what runs, how a task ended, what was spent.

use foreman_core::model::agentic_task::Usage;
use foreman_core::model::condition::{find_condition, is_true};
use foreman_core::model::fleet_node::RunSummary;
use foreman_core::model::outcome::{Infrastructure, OutcomeReason, Verification, on_target};
use foreman_core::model::workload::StepRecord;
use foreman_core::model::{AgenticTask, FleetNode, NodeName, Object, Outcome, WallTime};
use serde_json::Value;
use std::time::Duration;

use super::run::repository::shell_word;

use crate::output;
use crate::untrusted;

/// The longest message in a line, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// How many more turns are proposed to a task that ran out of them.
const TURNS_MORE: u32 = 50;

/// A text of an object on one line, made fit to show.
pub(super) fn clean(text: &str) -> String {
    untrusted::line(text, MESSAGE_CHARS_MAX)
}

/// A number of tokens, e.g. `950`, `182k`, `1.9M`.
pub(super) fn tokens(count: i64) -> String {
    match count {
        ..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

/// The run of a task that a node's last heartbeat showed, for the claim that holds now.
pub(super) fn run_of<'n>(
    nodes: &'n [Object<FleetNode>],
    task: &Object<AgenticTask>,
) -> Option<&'n RunSummary> {
    nodes.iter().flat_map(|node| &node.status.runs).find(|run| {
        run.uid.as_deref() == Some(task.meta.uid.as_str()) && run.attempt == task.status.attempt
    })
}

/// How far a run is: `turn 2, Model, 14k tokens, moved 8s ago`.
pub(super) fn progress(run: &RunSummary, now: WallTime) -> String {
    let mut words = Vec::new();
    words.extend(run.turn.map(|turn| format!("turn {turn}")));
    words.extend(run.stage.as_ref().map(|stage| clean(&stage.to_string())));
    words.extend(
        run.tokens.filter(|count| *count > 0).map(|count| format!("{} tokens", tokens(count))),
    );
    words.extend(run.last_progress_time.map(|at| format!("moved {} ago", output::age(at, now))));
    if words.is_empty() { "no progress told yet".to_owned() } else { words.join(", ") }
}

/// What was spent: `14 turns, 182k tokens (91% cached), 6m2s`.
pub(super) fn spent(usage: &Usage) -> String {
    let mut words = Vec::new();
    words.extend(usage.turns.map(|turns| format!("{turns} {}", plural(turns, "turn"))));
    let sent = usage.prompt_tokens.unwrap_or(0);
    let all = sent.saturating_add(usage.completion_tokens.unwrap_or(0));
    if all > 0 {
        let cached = usage.cached_tokens.unwrap_or(0).saturating_mul(100).checked_div(sent);
        let cached = cached.filter(|percent| *percent > 0);
        let cached = cached.map_or_else(String::new, |percent| format!(" ({percent}% cached)"));
        words.push(format!("{} tokens{cached}", tokens(all)));
    }
    let seconds = usage.wall_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    words.extend(seconds.map(|seconds| output::span(Duration::from_secs(seconds))));
    if usage.estimated == Some(true) {
        words.push("partly estimated".to_owned());
    }
    if words.is_empty() { "nothing yet".to_owned() } else { words.join(", ") }
}

/// The word with an s unless there is one of it.
pub(super) fn plural(count: i64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// How a task ended, in three facts: `GO, verified by its gate`, `NO-GO (Rejected)`, ….
pub(super) fn ended(task: &Object<AgenticTask>) -> String {
    let status = &task.status;
    let outcome = Outcome::of(status);
    let mut words = Vec::new();
    words.extend(status.verdict.as_ref().map(|verdict| clean(&verdict.to_string())));
    words.push(
        match outcome.verification {
            Verification::Passed => "verified by its gate",
            Verification::Failed => "its gate failed",
            Verification::Error => "its gate could not run",
            Verification::NotVerified => "not verified",
            Verification::NotApplicable => "nothing to verify",
        }
        .to_owned(),
    );
    if outcome.infrastructure != Infrastructure::Ok {
        words.push(format!("infrastructure: {}", outcome.infrastructure));
    }
    words.extend(outcome.reason.map(|reason| format!("reason: {reason}")));
    let failure = status.failure_reason.as_ref();
    words.extend(failure.map(|reason| format!("failure: {}", clean(&reason.to_string()))));
    words.join(", ")
}

/// The message of the end, where there is one.
pub(super) fn end_message(task: &Object<AgenticTask>) -> Option<String> {
    let conditions = &task.status.conditions;
    ["Finished", "Failed", "Completed", "Cancelled"]
        .iter()
        .filter_map(|kind| find_condition(conditions, kind))
        .map(|condition| clean(&condition.message))
        .find(|message| !message.is_empty())
}

/// The step of a later fix round that took the place of this one.
pub(super) fn superseded_by<'s>(step: &StepRecord, steps: &'s [StepRecord]) -> Option<&'s str> {
    crate::follow::superseded_by(&step.name, steps.iter().map(|other| other.name.as_str()))
}

/// How a task finished: the reason of its condition, else by the same rule.
pub(super) fn finished(task: &Object<AgenticTask>) -> String {
    let conditions = &task.status.conditions;
    let condition = find_condition(conditions, "Finished");
    if let Some(condition) = condition.filter(|_| is_true(conditions, "Finished")) {
        return clean(&condition.reason);
    }
    let infrastructure = Outcome::of(&task.status).infrastructure;
    let word = if infrastructure == Infrastructure::Cancelled {
        "Cancelled"
    } else if infrastructure != Infrastructure::Ok {
        "Infrastructure"
    } else if on_target(&task.status) {
        "Succeeded"
    } else {
        "NotOnTarget"
    };
    word.to_owned()
}

/// Where a task that has not ended stands: `Running on studio, turn 2, Model`, `Pending: NodesBusy: …`.
pub(super) fn stands(
    task: &Object<AgenticTask>,
    nodes: &[Object<FleetNode>],
    now: WallTime,
) -> String {
    let phase = phase(task);
    if let Some(node) = node_of(task) {
        let run = run_of(nodes, task).map(|run| format!(", {}", progress(run, now)));
        return format!("{phase} on {node}{}", run.unwrap_or_default());
    }
    match waiting(task) {
        Some(waiting) => format!("{phase}: {waiting}"),
        None => phase,
    }
}

/// Why a task waits: `NodesBusy: 0/3 nodes fit: 2 busy, 1 stale`.
pub(super) fn waiting(task: &Object<AgenticTask>) -> Option<String> {
    let waiting = task.status.waiting.as_ref()?;
    let reason = waiting.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    Some(clean(&format!("{reason}: {message}")))
}

/// The command that tries a task again: where it was, if it only ran out of turns.
pub(super) fn retry(task: &Object<AgenticTask>) -> String {
    let name = &task.meta.name;
    let out_of_turns = Outcome::of(&task.status).reason == Some(OutcomeReason::TurnLimit);
    if out_of_turns && task.status.attempt.unwrap_or(0) > 0 {
        format!("retry task/{name} --continue --turns +{TURNS_MORE}")
    } else {
        format!("retry task/{name}")
    }
}

/// The phase as a word; a task that nobody looked at yet is `New`.
pub(super) fn phase(task: &Object<AgenticTask>) -> String {
    task.status.phase.as_ref().map_or_else(|| "New".to_owned(), |phase| clean(&phase.to_string()))
}

/// The node that a task is on, if its name is one.
pub(super) fn node_of(task: &Object<AgenticTask>) -> Option<NodeName> {
    task.status.assigned_node.as_deref().and_then(|name| NodeName::parse(name).ok())
}

/// What the gate said, one command a line, as the result tells it: untrusted text made fit to show.
pub(super) fn gate(task: &Object<AgenticTask>) -> Vec<String> {
    let Some(gate) =
        task.status.result.as_ref().and_then(|result| result.0.get("extra")?.get("gate"))
    else {
        return Vec::new();
    };
    let text = |value: &Value, field: &str| value.get(field).map(output::cell).unwrap_or_default();
    let tree: String = text(gate, "tree").chars().take(7).collect();
    let source = text(gate, "source");
    let steps = gate.get("steps").and_then(Value::as_array);
    steps
        .into_iter()
        .flatten()
        .map(|step| {
            let exit = match step.get("exit").filter(|exit| !exit.is_null()) {
                Some(exit) => format!("exit {}", output::cell(exit)),
                None => text(step, "outcome"),
            };
            let (command, seconds) = (text(step, "command"), text(step, "seconds"));
            clean(&format!("{command}: {exit}, {seconds}s, on tree {tree} ({source})"))
        })
        .collect()
}

/// The model that worked, as the result tells it.
pub(super) fn model(task: &Object<AgenticTask>) -> Option<String> {
    let extra = task.status.result.as_ref()?.0.get("extra")?;
    extra.get("model").and_then(Value::as_str).map(clean)
}

/// The command that shows the change: in the repository itself where it is a folder, else what can
/// be typed in any clone of it.
pub(super) fn diff(repo: Option<&str>, base: Option<&str>, branch: Option<&str>) -> Option<String> {
    let base: String = base?.chars().take(12).collect();
    let (base, branch) = (shell_word(&clean(&base)), shell_word(&clean(branch?)));
    let repo = repo?;
    Some(if repo.starts_with('/') {
        format!("git -C {} diff {base}...{branch}", shell_word(&clean(repo)))
    } else {
        format!("git fetch origin {branch} && git diff {base}...FETCH_HEAD")
    })
}

/// Rows of three cells under each other, without headings.
pub(super) fn columns(rows: &[[String; 3]]) -> String {
    use std::io::Write as _;
    let mut writer = tabwriter::TabWriter::new(Vec::new()).padding(2).minwidth(0).ansi(true);
    for row in rows {
        // Writing into a vector does not fail.
        if writeln!(writer, "{}", row.join("\t").trim_end()).is_err() {
            break;
        }
    }
    String::from_utf8_lossy(&writer.into_inner().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_short() {
        let cases = [(0, "0"), (9_999, "9999"), (182_400, "182k"), (1_960_000, "1.9M")];
        for (count, text) in cases {
            assert_eq!(tokens(count), text);
        }
    }

    #[test]
    fn a_command_that_is_shown_can_be_pasted_whatever_the_names_are() {
        let shown = diff(Some("/src/my shop"), Some("4e1f0c2a9b1c2e"), Some("foreman/$(reboot)"));
        assert_eq!(
            shown.as_deref(),
            Some("git -C '/src/my shop' diff 4e1f0c2a9b1c...'foreman/$(reboot)'")
        );
        let shown = diff(Some("me/shop"), Some("4e1f"), Some("foreman/x"));
        assert_eq!(
            shown.as_deref(),
            Some("git fetch origin foreman/x && git diff 4e1f...FETCH_HEAD")
        );
        assert_eq!(diff(Some("me/shop"), None, Some("foreman/x")), None);
    }

    #[test]
    fn what_was_spent_is_one_line() {
        let usage = Usage {
            turns: Some(1),
            prompt_tokens: Some(180_000),
            cached_tokens: Some(163_800),
            completion_tokens: Some(2_000),
            wall_seconds: Some(362),
            ..Usage::default()
        };
        assert_eq!(spent(&usage), "1 turn, 182k tokens (91% cached), 6m2s");
        assert_eq!(spent(&Usage::default()), "nothing yet");
    }
}
