//! Why a task is where it is.

use std::fmt::Write as _;

use foreman_core::model::outcome::on_target;
use foreman_core::model::{AgenticTask, Key, Object, TaskPhase};
use foreman_core::schedule::{Explanation, NodeVerdict, Placement, Refusal, explain};

use crate::cli::fleet::Fleet;
use crate::cli::line::{Obstacle, in_line, need_of, obstacle, place_in_line};
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
    let obstacle = obstacle(task, fleet);
    let mut text = headline(task, fleet, &explanation, obstacle.as_ref());
    for before in before(task, fleet) {
        line(&mut text, "waits for", &before);
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
                let when = if obstacle.is_none() { "would run now if" } else { "and then needs" };
                let _infallible = writeln!(text, "{when}: {}", remedies.join(" | "));
            }
        }
    }
    text.push_str(&fleet.nobody_works());
    text
}

/// How the tasks before it stand that have not ended on target.
fn before(task: &Object<AgenticTask>, fleet: &Fleet) -> Vec<String> {
    let stand = |name: &String| {
        let key = Key { namespace: task.meta.namespace.clone(), name: name.clone() };
        let name = words::clean(name);
        Some(match fleet.tasks.get(&key) {
            None => format!("task/{name}, which is not there"),
            Some(upstream) if on_target(&upstream.status) => return None,
            Some(upstream) if upstream.status.has_ended() => {
                let phase = words::phase(upstream);
                format!("task/{name}: ended {phase} ({})", words::ended(upstream))
            }
            Some(upstream) => format!("task/{name}: {}", words::phase(upstream)),
        })
    };
    task.spec.depends_on.iter().filter_map(stand).collect()
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
    obstacle: Option<&Obstacle>,
) -> String {
    let (reason, message) = match (obstacle, &explanation.waiting) {
        (Some(obstacle), _) => (obstacle.word.clone(), obstacle.message.clone()),
        (None, Some((reason, message))) => (reason.to_string(), words::clean(message)),
        (None, None) => {
            let node = explanation.placement.node();
            let fits = node.map_or_else(String::new, |node| format!("{node} fits now"));
            let looked_at = task.status.phase.is_some();
            let told = if looked_at { "to be placed" } else { "nobody has looked at it yet" };
            (told.to_owned(), fits)
        }
    };
    // How long it has been so: as long as the control loops say the same.
    let stored = task.status.waiting.as_ref();
    let same = stored.filter(|it| it.reason.as_ref().is_some_and(|it| it.to_string() == reason));
    let since = same.and_then(|waiting| waiting.since).or(task.meta.creation_timestamp);
    let since = since.map_or_else(String::new, |at| format!(" {}", output::age(at, fleet.now)));
    let priority = task.spec.priority.unwrap_or(0);
    format!(
        "{}{since}: {}. {message} (snapshot rev {}, age {} ms). {}.\n",
        output::word(&words::phase(task)),
        paint(Paint::Strong, &reason),
        fleet.revision,
        fleet.read_at.elapsed().as_millis(),
        place_in_line(&in_line(fleet), &task.key(), priority)
    )
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
