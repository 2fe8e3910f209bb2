//! `foreman why-not`.

use std::fmt::Write as _;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Object};
use foreman_core::schedule::explain;

use super::completion;
use super::fleet::Fleet;
use super::line::{is_waiting, need_of, obstacle, play};
use super::words;
use super::world::World;
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint, paint};
use crate::settings::Settings;
use crate::target::Target;

/// Flags of `foreman why-not`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Say why a task is not on one node: every predicate that the node fails, with numbers; or, where it would \
fit, what comes first. The function that places tasks is the one that answers.",
    after_long_help = "Examples:\n  foreman why-not docs-91-code tower\n  foreman why-not task/docs-91-code node/studio"
)]
pub struct WhyNotArgs {
    /// The task, as task/name or a bare name
    #[arg(value_name = "TASK",
        add = clap_complete::engine::ArgValueCompleter::new(completion::tasks))]
    pub task: String,
    /// The node, as node/name or a bare name
    #[arg(value_name = "NODE",
        add = clap_complete::engine::ArgValueCompleter::new(completion::nodes))]
    pub node: String,
}

/// Says why a task is not on a node.
///
/// # Errors
/// A task or node that there is not, or a store that cannot be read.
pub async fn why_not(args: &WhyNotArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let task = Target::parse(&args.task, Some(AnyKind::AgenticTask))?;
    let node = Target::parse(&args.node, Some(AnyKind::FleetNode))?;
    for (target, kind, word) in
        [(&task, AnyKind::AgenticTask, "task"), (&node, AnyKind::FleetNode, "node")]
    {
        if target.kind != kind {
            return Err(Failure::new(Exit::Usage, format!("{target} is no {word}"))
                .next("name a task, then a node: foreman why-not TASK NODE")
                .into());
        }
    }
    let world = World::require(settings)?;
    let task: Object<AgenticTask> = world.find(&task).await?.typed()?;
    let node = world.find(&node).await?.key().name;
    let fleet = world.fleet().await?;
    output::print(&text(&task, &node, &fleet))?;
    Ok(Exit::OnTarget)
}

fn text(task: &Object<AgenticTask>, node: &str, fleet: &Fleet) -> String {
    let name = format!("task/{}", task.meta.name);
    if task.status.has_ended() {
        return format!("{name} has ended: {}\n", words::ended(task));
    }
    let on = task.status.assigned_node.as_deref().filter(|_| !is_waiting(task));
    if on == Some(node) {
        let stands = words::stands(task, &fleet.nodes, fleet.now);
        return format!("{name} is there: {stands}\n");
    }
    let explanation = explain(&fleet.snapshot(), &need_of(task, fleet));
    let Some(verdict) = explanation.nodes.iter().find(|one| one.node.as_str() == node) else {
        return format!(
            "node/{node} is no node that tasks can be placed on: its name cannot be one\n"
        );
    };
    let mut rows = vec![["  needs".to_owned(), words::clean(&explanation.needs), String::new()]];
    let heading = if verdict.refusals.is_empty() {
        rows.push([format!("  {node}"), "fits".to_owned(), words::clean(&verdict.detail)]);
        "fits there"
    } else {
        let word = verdict.word.to_owned();
        rows.push([format!("  {node}"), word, words::clean(&verdict.detail)]);
        "does not fit there"
    };
    if let Some(obstacle) = obstacle(task, fleet) {
        rows.push([format!("  {}", obstacle.word), obstacle.message, String::new()]);
    }
    let mut text = format!("{name} {}.\n{}", paint(Paint::Strong, heading), words::columns(&rows));
    if let Some(on) = on {
        let _infallible = writeln!(text, "it is on {}: what runs stays there", words::clean(on));
    } else if verdict.refusals.is_empty() {
        text.push_str(&instead(task, node, fleet));
    } else if let Some(remedy) = &verdict.remedy {
        let _infallible = writeln!(text, "would fit if: {}", words::clean(remedy));
    } else {
        text.push_str("no single change would make it fit there\n");
    }
    text.push_str(&fleet.nobody_works());
    text
}

/// Why a node that fits is not the one.
fn instead(task: &Object<AgenticTask>, node: &str, fleet: &Fleet) -> String {
    let (played, key) = (play(fleet), task.key());
    let Some(fate) = played.iter().find(|fate| fate.task == key) else {
        return "no node is looked for before what is named above is settled\n".to_owned();
    };
    match &fate.node {
        Some(chosen) if chosen.as_str() == node => {
            format!("it is about to be placed there ({})\n", fate.why.join(", "))
        }
        Some(chosen) => format!("{chosen} is chosen before it ({})\n", fate.why.join(", ")),
        None => {
            let before = played.iter().take_while(|other| other.task != key);
            let there = before
                .filter(|other| other.node.as_ref().is_some_and(|chosen| chosen.as_str() == node));
            let names: Vec<_> = there.map(|other| other.task.name.as_str()).collect();
            format!("the room there goes to what is before it in line: {}\n", names.join(", "))
        }
    }
}
