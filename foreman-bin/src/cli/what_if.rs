//! `foreman what-if`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use foreman_core::model::fleet_node::Capacity;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, FleetNode, Key, Object, Uid};
use foreman_core::schedule::{Need, Placement, explain};

use super::completion;
use super::fleet::Fleet;
use super::line::{is_waiting, need_of, obstacles, place_in_line, play};
use super::words;
use super::world::World;
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint, paint};
use crate::settings::Settings;
use crate::target::{self, Target};

/// How many other tasks are named.
const OTHERS_MAX: usize = 10;
/// The most slots that a node can have in a question.
const SLOTS_MAX: i32 = 1000;

/// Flags of `foreman what-if`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Say where a waiting task would go if something were different: one more node like another, more slots, an \
open node, a smaller need, a higher priority. Several wishes hold together. Nothing is changed. The whole line of waiting \
tasks is played through by the functions that place them, so that you also see who else would gain or lose.",
    after_long_help = "Examples:\n  foreman what-if docs-91-code --slots studio=2\n  foreman what-if task/docs-91-code --node-like tower --priority 10\n  \
foreman what-if docs-91-code --uncordon air --ram-gb 16"
)]
pub struct WhatIfArgs {
    /// The task, as task/name or a bare name
    #[arg(value_name = "TASK",
        add = clap_complete::engine::ArgValueCompleter::new(completion::tasks))]
    pub task: String,
    #[command(flatten)]
    wishes: Wishes,
}

/// What would be different.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(required = true, multiple = true)]
struct Wishes {
    /// One more node, idle, that is otherwise like this one
    #[arg(long, value_name = "NODE")]
    node_like: Vec<String>,
    /// This node had so many slots
    #[arg(long, value_name = "NODE=N", value_parser = slots)]
    slots: Vec<(String, i32)>,
    /// This node were neither cordoned nor drained
    #[arg(long, value_name = "NODE")]
    uncordon: Vec<String>,
    /// The task had this priority
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// The task needed only so much memory, in GiB
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(i32).range(0..))]
    ram_gb: Option<i32>,
    /// The task needed only so much context
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(i32).range(0..))]
    context: Option<i32>,
    /// The task needed this accelerator; any = no matter which
    #[arg(long, value_name = "KIND")]
    accelerator: Option<String>,
}

/// Says what would be if.
///
/// # Errors
/// A task or node that there is not, a task that does not wait, or a store that cannot be read.
pub async fn what_if(args: &WhatIfArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.task, Some(AnyKind::AgenticTask))?;
    if target.kind != AnyKind::AgenticTask {
        return Err(Failure::new(Exit::Usage, format!("{target} is no task")).into());
    }
    let world = World::require(settings)?;
    let task: Object<AgenticTask> = world.find(&target).await?.typed()?;
    let fleet = world.fleet().await?;
    if !is_waiting(&task) {
        let name = &task.meta.name;
        let stands = if words::is_ended(&task) {
            format!("has ended: {}", words::ended(&task))
        } else {
            format!("does not wait: {}", words::stands(&task, &fleet.nodes, fleet.now))
        };
        return Err(Failure::new(Exit::Usage, format!("task/{name} {stands}"))
            .next(world.command(&format!("explain task/{name}")))
            .into());
    }
    let changed = args.wishes.grant(&fleet, &task)?;
    output::print(&text(&task, &fleet, &changed, &args.wishes))?;
    Ok(Exit::OnTarget)
}

impl Wishes {
    /// The fleet as it would be.
    fn grant(&self, fleet: &Fleet, task: &Object<AgenticTask>) -> Result<Fleet, Failure> {
        let mut changed = fleet.clone();
        for (name, slots) in &self.slots {
            let node = node_mut(&mut changed.nodes, name)?;
            node.spec.slots = Some(*slots);
            let capacity = node.status.capacity.get_or_insert_with(Capacity::default);
            capacity.slots = Some(*slots);
        }
        for name in &self.uncordon {
            let node = node_mut(&mut changed.nodes, name)?;
            (node.spec.unschedulable, node.spec.drain) = (None, None);
        }
        for name in &self.node_like {
            let mut another = node_mut(&mut changed.nodes, name)?.clone();
            let taken = |name: &str| changed.nodes.iter().any(|node| node.meta.name == name);
            let bare = another.meta.name.clone();
            let free = (2..=changed.nodes.len() + 2)
                .map(|number| format!("{bare}-{number}"))
                .find(|name| !taken(name));
            another.meta.name = free.unwrap_or_default();
            another.meta.uid = Uid::new(another.meta.name.clone());
            another.status.runs.clear();
            if let Some(capability) = &mut another.status.capability {
                // Idle: nothing of ours takes its memory.
                capability.available_ram_gb =
                    capability.total_ram_gb.or(capability.available_ram_gb);
            }
            changed.nodes.push(another);
        }
        if let (Some(priority), Some(task)) = (self.priority, changed.tasks.get_mut(&task.key())) {
            task.spec.priority = Some(priority);
        }
        Ok(changed)
    }

    /// What the task would need.
    fn need(&self, mut need: Need) -> Need {
        if let Some(ram_gb) = self.ram_gb {
            need.ram_gb = ram_gb;
        }
        if let Some(context) = self.context {
            need.context_tokens = context;
        }
        if let Some(accelerator) = &self.accelerator {
            need.accelerator = Some(accelerator.clone()).filter(|kind| kind != "any");
        }
        need
    }
}

fn node_mut<'n>(
    nodes: &'n mut [Object<FleetNode>],
    name: &str,
) -> Result<&'n mut Object<FleetNode>, Failure> {
    let bare = name.strip_prefix("node/").unwrap_or(name).to_owned();
    let at = nodes.iter().position(|node| node.meta.name == bare);
    let names: Vec<&str> = nodes.iter().map(|node| node.meta.name.as_str()).collect();
    let failure = || {
        let failure = Failure::new(Exit::Error, format!("there is no node {bare:?}"));
        match target::near(&names, &bare).first() {
            Some(near) => failure.next(format!("did you mean node/{near}?")),
            None => failure.next("foreman get nodes"),
        }
    };
    match at {
        Some(at) => nodes.get_mut(at).ok_or_else(|| Failure::new(Exit::Error, "no such node")),
        None => Err(failure()),
    }
}

/// Reads `studio=2`.
fn slots(text: &str) -> Result<(String, i32), String> {
    let parsed = text.split_once('=').and_then(|(node, slots)| {
        let slots = slots.parse().ok().filter(|slots| (0..=SLOTS_MAX).contains(slots))?;
        (!node.is_empty()).then(|| (node.to_owned(), slots))
    });
    parsed.ok_or_else(|| format!("{text:?} is no wish for slots: write e.g. studio=2"))
}

fn text(task: &Object<AgenticTask>, fleet: &Fleet, changed: &Fleet, wishes: &Wishes) -> String {
    let key = task.key();
    let before = play(fleet, |task| need_of(task, fleet));
    let after = play(changed, |other| {
        let need = need_of(other, changed);
        if other.key() == key { wishes.need(need) } else { need }
    });
    let new = changed.tasks.get(&key).unwrap_or(task);
    let mut rows = vec![
        ["  now".to_owned(), standing(task, fleet, &before, &need_of(task, fleet)), String::new()],
        [
            "  then".to_owned(),
            standing(new, changed, &after, &wishes.need(need_of(new, changed))),
            String::new(),
        ],
    ];
    for (what, detail) in obstacles(new, changed) {
        rows.push([format!("  {what}"), detail, String::new()]);
    }
    let runs = |played: &BTreeMap<Key, Placement>, key: &Key| {
        played.get(key).and_then(Placement::node).is_some()
    };
    let helps = runs(&after, &key);
    let headline = match (runs(&before, &key), helps) {
        (true, true) => "would run, as it would without",
        (false, true) => "would run now",
        (true, false) => "would not run any more",
        (false, false) => "would still wait",
    };
    let name = &task.meta.name;
    let mut text =
        format!("task/{name} {}.\n{}", paint(Paint::Strong, headline), words::columns(&rows));
    for (word, gains) in [("also run", true), ("wait instead", false)] {
        let others = after.keys().filter(|other| {
            **other != key && runs(&after, other) == gains && runs(&before, other) != gains
        });
        let others: Vec<_> = others.map(|other| other.name.as_str()).collect();
        if let Some(names) = others.get(..others.len().min(OTHERS_MAX)).filter(|it| !it.is_empty())
        {
            let more = others.len() - names.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let _infallible = writeln!(text, "would {word}: {}{more}", names.join(", "));
        }
    }
    text.push_str(&changed.nobody_works());
    text
}

/// Where a task would go, or why nowhere.
fn standing(
    task: &Object<AgenticTask>,
    fleet: &Fleet,
    played: &BTreeMap<Key, Placement>,
    need: &Need,
) -> String {
    let line = place_in_line(task, fleet);
    match played.get(&task.key()) {
        Some(Placement::On { node, why }) => format!("on {node} ({}); {line}", why.join(", ")),
        Some(Placement::Nowhere(refused)) => {
            let (reason, message) = foreman_core::schedule::waiting(refused, need);
            format!("waits: {reason}: {}; {line}", words::clean(&message))
        }
        None => {
            let alone = explain(&fleet.snapshot(), need);
            let nodes = match alone.waiting {
                Some((reason, message)) => format!("{reason}: {}", words::clean(&message)),
                None => "a node fits".to_owned(),
            };
            format!("no node is looked for yet; {nodes}; {line}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_for_slots_names_the_node() {
        assert_eq!(slots("studio=2"), Ok(("studio".to_owned(), 2)));
        for wrong in ["", "studio", "=2", "studio=", "studio=-1", "studio=1001", "studio=x"] {
            assert!(slots(wrong).is_err(), "{wrong}");
        }
    }
}
