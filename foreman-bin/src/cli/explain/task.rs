//! Why a task is where it is.

use std::fmt::Write as _;

use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::open::Open;
use foreman_core::model::{AgenticTask, Object, TaskPhase};
use foreman_core::schedule::{Explanation, NodeVerdict, Placement, Refusal, explain};

use crate::cli::fleet::Fleet;
use crate::cli::line::{need_of, obstacles, place_in_line};
use crate::cli::words;
use crate::output::{self, Paint, paint};

/// The whole explanation.
pub(super) fn text(task: &Object<AgenticTask>, fleet: &Fleet) -> String {
    match task.status.known_phase() {
        Some(TaskPhase::Succeeded | TaskPhase::Failed) => ended(task, fleet),
        Some(TaskPhase::Scheduled | TaskPhase::Running | TaskPhase::Verifying) => held(task, fleet),
        Some(TaskPhase::Pending) | None => pending(task, fleet),
    }
}

fn ended(task: &Object<AgenticTask>, fleet: &Fleet) -> String {
    let phase = words::phase(task);
    let when = task.status.finished_at.map(|at| format!(" {} ago", output::age(at, fleet.now)));
    let mut text =
        format!("{}{}: {}.\n", output::word(&phase), when.unwrap_or_default(), words::ended(task));
    if let Some(message) = words::end_message(task) {
        line(&mut text, "because", &message);
    }
    if let Some(branch) = &task.status.branch {
        line(&mut text, "branch", &words::clean(branch));
    }
    if let Some(usage) = &task.status.usage {
        line(&mut text, "spent", &words::spent(usage));
    }
    let mut next = fleet.command(&format!("logs task/{}", task.meta.name));
    if words::finished(task) != "Succeeded" {
        next = format!("{next} | {}", fleet.command(&words::retry(task)));
    }
    line(&mut text, "next", &next);
    text
}

fn held(task: &Object<AgenticTask>, fleet: &Fleet) -> String {
    let phase = words::phase(task);
    let node = words::node_of(task).map_or_else(|| "no node".to_owned(), |node| node.to_string());
    let since = task.status.started_at.or(task.status.claimed_at);
    let since = since.map_or_else(String::new, |at| format!(" {}", output::age(at, fleet.now)));
    let attempt = task.status.attempt.map_or_else(String::new, |n| format!(", attempt {n}"));
    let mut text = format!("{}{since} on {node}{attempt}.\n", output::word(&phase));
    match words::run_of(&fleet.nodes, task) {
        Some(run) => line(&mut text, "now", &words::progress(run, fleet.now)),
        None if task.status.known_phase() == Some(TaskPhase::Scheduled) => {
            line(&mut text, "now", "waits to be claimed by the agent there");
        }
        None => line(&mut text, "now", "the last heartbeat of the node shows no run of it"),
    }
    let placed =
        foreman_core::model::condition::find_condition(&task.status.conditions, "Scheduled");
    if let Some(placed) = placed.filter(|placed| !placed.message.is_empty()) {
        line(&mut text, "why", &words::clean(&placed.message));
    }
    if task.spec.cancel == Some(true) {
        line(&mut text, "cancel", "asked for; the agent ends it at once");
    }
    if !fleet.is_fresh(&node) {
        line(
            &mut text,
            "node",
            &format!("{node} has not beaten within 90 s: is its agent running?"),
        );
    }
    text
}

fn pending(task: &Object<AgenticTask>, fleet: &Fleet) -> String {
    let explanation = explain(&fleet.snapshot(), &need_of(task, fleet));
    let obstacles = obstacles(task, fleet);
    let mut text = headline(task, fleet, &explanation, obstacles.first().map(|(what, _)| *what));
    for (what, detail) in &obstacles {
        line(&mut text, what, detail);
    }
    text.push_str(&table(fleet, &explanation));
    match &explanation.placement {
        Placement::On { node, why } => {
            line(&mut text, "fits", &format!("{node} ({})", why.join(", ")));
        }
        Placement::Nowhere(refused) if refused.is_empty() => {
            if fleet.worker.is_some() {
                line(&mut text, "next", "the node of whoever works here is about to appear");
            }
        }
        Placement::Nowhere(_) => {
            let remedies: Vec<_> =
                explanation.nodes.iter().filter_map(|node| remedy(node, fleet)).collect();
            if remedies.is_empty() {
                line(&mut text, "needs more", "no single change would make it fit on any node");
            } else {
                let when = if obstacles.is_empty() { "would run now if" } else { "and then needs" };
                let _infallible = writeln!(text, "{when}: {}", remedies.join(" | "));
            }
        }
    }
    text.push_str(&fleet.nobody_works());
    text
}

/// What would make a node fit: a command where one does it.
fn remedy(node: &NodeVerdict, fleet: &Fleet) -> Option<String> {
    let remedy = node.remedy.clone()?;
    Some(match node.refusals.first() {
        Some(Refusal::Cordoned) => fleet.command(&format!("uncordon node/{}", node.node)),
        _ => remedy,
    })
}

/// `Pending 2h4m: NodesBusy. 0/3 nodes fit … 3rd in line of 5 (priority 0).`
fn headline(
    task: &Object<AgenticTask>,
    fleet: &Fleet,
    explanation: &Explanation,
    obstacle: Option<&str>,
) -> String {
    let stored = task.status.waiting.as_ref();
    let (decided, counts) = match (&explanation.waiting, explanation.placement.node()) {
        (Some((reason, message)), _) => (Some(*reason), message.clone()),
        (None, Some(node)) => (None, format!("{node} fits now")),
        (None, None) => (None, String::new()),
    };
    let said = stored.and_then(|waiting| waiting.reason.as_ref());
    let about_nodes = said.and_then(Open::known).is_none_or(is_about_nodes);
    let reason = match (said, decided) {
        (Some(said), _) if !about_nodes => words::clean(&said.to_string()),
        // The control loops have not looked yet, and will not look at nodes when they do.
        (None, _) if obstacle.is_some() => obstacle.unwrap_or_default().to_owned(),
        (_, Some(decided)) => decided.to_string(),
        (Some(_), None) => "to be placed".to_owned(),
        (None, None) => "nobody has looked at it yet".to_owned(),
    };
    let counts = match stored.and_then(|waiting| waiting.message.as_deref()) {
        Some(message) if !about_nodes => words::clean(message),
        _ => counts,
    };
    let since = stored.and_then(|waiting| waiting.since).or(task.meta.creation_timestamp);
    let since = since.map_or_else(String::new, |at| format!(" {}", output::age(at, fleet.now)));
    format!(
        "{}{since}: {}. {counts} (snapshot rev {}, age {} ms). {}.\n",
        output::word(&words::phase(task)),
        paint(Paint::Strong, &reason),
        fleet.revision,
        fleet.read_at.elapsed().as_millis(),
        place_in_line(task, fleet)
    )
}

/// Whether the reason is one of nodes, which the deciding function tells afresh.
fn is_about_nodes(reason: WaitingReason) -> bool {
    match reason {
        WaitingReason::NoNodes
        | WaitingReason::NoMatchingNode
        | WaitingReason::NodesBusy
        | WaitingReason::NodesStale
        | WaitingReason::NodesRecovering => true,
        WaitingReason::Dependency
        | WaitingReason::DependencyMissing
        | WaitingReason::AgentMissing
        | WaitingReason::AgentAtLimit
        | WaitingReason::BudgetExhausted
        | WaitingReason::Backoff
        | WaitingReason::Suspended
        | WaitingReason::AwaitingApproval
        | WaitingReason::PolicyForbids => false,
    }
}

fn table(fleet: &Fleet, explanation: &Explanation) -> String {
    let mut rows = vec![["  needs".to_owned(), words::clean(&explanation.needs), String::new()]];
    for node in &explanation.nodes {
        let running = if node.refusals.first() == Some(Refusal::SlotsFull) {
            fleet.running_on(node.node.as_str())
        } else {
            String::new()
        };
        rows.push([
            format!("  {}", node.node),
            node.word.to_owned(),
            words::clean(&node.detail) + &running,
        ]);
    }
    words::columns(&rows)
}

fn line(text: &mut String, what: &str, detail: &str) {
    // Writing into a string does not fail.
    let _infallible = writeln!(text, "  {what}: {detail}");
}
