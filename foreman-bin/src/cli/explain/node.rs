//! What a node offers, what runs there, and what waits for it.

use foreman_core::model::fleet_node::Capability;
use foreman_core::model::{FleetNode, Object, TaskPhase};
use foreman_core::schedule::explain;

use crate::cli::fleet::Fleet;
use crate::cli::line::{is_waiting, need_of, obstacle};
use crate::cli::words;
use crate::output;

/// How many waiting tasks are listed.
const WAITING_MAX: usize = 20;

/// The whole explanation.
pub(super) fn text(node: &Object<FleetNode>, fleet: &Fleet) -> String {
    let status = &node.status;
    let phase = status
        .phase
        .as_ref()
        .map_or_else(|| "New".to_owned(), |phase| words::clean(&phase.to_string()));
    let beat = match status.last_heartbeat_time {
        Some(at) => format!("last heartbeat {} ago", output::age(at, fleet.now)),
        None => "no heartbeat yet".to_owned(),
    };
    let silent =
        if fleet.is_fresh(&node.meta.name) { "" } else { ", too old to place anything there" };
    let mut text = format!("{}: {beat}{silent}.\n", output::word(&phase));
    let mut rows = vec![["  offers".to_owned(), offers(node), String::new()]];
    rows.push(["  slots".to_owned(), slots(node, fleet), String::new()]);
    if node.spec.unschedulable == Some(true) || node.spec.drain.is_some() {
        let said = node.meta.annotations.get(foreman_core::model::wellknown::ANNOTATION_NOTE);
        let said = said.map_or_else(String::new, |said| format!(" {:?}", words::clean(said)));
        let word = if node.spec.drain.is_some() { "draining" } else { "cordoned" };
        rows.push(["  closed".to_owned(), format!("{word}{said}"), String::new()]);
    }
    for run in &status.runs {
        let name = words::clean(&run.task);
        rows.push(["  runs".to_owned(), name, words::progress(run, fleet.now)]);
    }
    text.push_str(&words::columns(&rows));
    text.push_str(&waiting(node, fleet));
    text
}

fn slots(node: &Object<FleetNode>, fleet: &Fleet) -> String {
    let held = fleet.tasks.values().filter(|task| {
        task.status.assigned_node.as_deref() == Some(node.meta.name.as_str())
            && task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
    });
    let capacity = node.status.capacity.as_ref().and_then(|capacity| capacity.slots);
    let slots = capacity.or(node.spec.slots).unwrap_or(1);
    format!("{} of {slots} in use", held.count())
}

/// What the node can do, in words.
fn offers(node: &Object<FleetNode>) -> String {
    let status = &node.status;
    let mut offers = Vec::new();
    if let (Some(os), Some(arch)) = (&status.os, &status.arch) {
        offers.push(format!("{os}/{arch}"));
    }
    if let Some(capability) = &status.capability {
        offers.extend(capability_words(capability));
    }
    if !node.spec.roles.is_empty() {
        offers.push(format!("roles {}", node.spec.roles.join(" ")));
    }
    if offers.is_empty() { "nothing told yet".to_owned() } else { words::clean(&offers.join(", ")) }
}

/// A capability in words, one a fact.
pub(in crate::cli) fn capability_words(capability: &Capability) -> Vec<String> {
    let mut words = Vec::new();
    let cores = capability.cpu.as_ref().and_then(|cpu| cpu.cores);
    words.extend(cores.map(|cores| format!("{cores} cores")));
    match (capability.available_ram_gb, capability.total_ram_gb) {
        (Some(free), Some(total)) => words.push(format!("{free} of {total} GB memory free")),
        (None, Some(total)) => words.push(format!("{total} GB memory")),
        (Some(free), None) => words.push(format!("{free} GB memory free")),
        (None, None) => {}
    }
    let accelerator = capability.accelerator.as_ref();
    words.extend(accelerator.map(|accelerator| format!("accelerator {accelerator}")));
    words.extend(capability.max_context_tokens.map(|tokens| format!("context {tokens}")));
    for model in &capability.models {
        let mut facts = Vec::new();
        facts.extend(model.server.clone());
        if model.loaded == Some(true) {
            facts.push("loaded".to_owned());
        }
        facts.extend(model.context_tokens.map(|tokens| format!("ctx {tokens}")));
        facts.extend(model.tokens_per_second.map(|speed| format!("{speed} tok/s")));
        facts.extend(model.evidence.as_ref().map(ToString::to_string));
        let name = model.name.as_deref().unwrap_or("(unnamed)");
        words.push(format!("model {name} ({})", facts.join(", ")));
    }
    let disk = capability.disk.as_ref().and_then(|disk| disk.free_gb);
    words.extend(disk.map(|free| format!("{free} GB disk free")));
    let tier = capability.sandbox.as_ref().and_then(|sandbox| sandbox.tier.as_ref());
    words.extend(tier.map(|tier| format!("sandbox {tier}")));
    words
}

/// The waiting tasks and what this node says to each.
fn waiting(node: &Object<FleetNode>, fleet: &Fleet) -> String {
    let snapshot = fleet.snapshot();
    let waiting: Vec<_> = fleet.tasks.values().filter(|task| is_waiting(task)).collect();
    if waiting.is_empty() {
        return "nothing waits\n".to_owned();
    }
    let mut rows = Vec::new();
    for task in waiting.iter().take(WAITING_MAX) {
        let explanation = explain(&snapshot, &need_of(task, fleet));
        let verdict = explanation.nodes.iter().find(|one| one.node.as_str() == node.meta.name);
        let (mut word, mut detail) = verdict.map_or(("unknown", String::new()), |verdict| {
            (verdict.word, words::clean(&verdict.detail))
        });
        if let Some(obstacle) = obstacle(task, fleet) {
            // Nodes are not looked at yet.
            (word, detail) = ("not asked", format!("{}: {}", obstacle.word, obstacle.message));
        }
        rows.push([format!("  {}", task.meta.name), word.to_owned(), detail]);
    }
    let count = waiting.len();
    let more = count.saturating_sub(WAITING_MAX);
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    let tasks = words::plural(i64::try_from(count).unwrap_or(i64::MAX), "task");
    let verb = if count == 1 { "waits" } else { "wait" };
    let nobody = fleet.nobody_works();
    format!("{count} {tasks} {verb}; this node says:\n{}{more}{nobody}", words::columns(&rows))
}
