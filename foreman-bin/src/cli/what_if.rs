//! `foreman what-if`.

use std::fmt::Write as _;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Key, NodeName, Object};
use foreman_core::schedule::{
    Fate, Need, Snapshot, WhatIf, changed, explain, node_like, what_if as compare,
};

use super::completion;
use super::fleet::Fleet;
use super::line::{in_line, is_waiting, need_of, obstacle, place_in_line};
use super::words;
use super::world::World;
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint, paint};
use crate::settings::Settings;
use crate::target::{self, Target};

/// How many other tasks are named.
const OTHERS_MAX: usize = 10;
/// The most slots that a node can have in a question.
const SLOTS_MAX: usize = 1000;

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
    slots: Vec<(String, usize)>,
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
        let stands = if task.status.has_ended() {
            format!("has ended: {}", words::ended(&task))
        } else {
            format!("does not wait: {}", words::stands(&task, &fleet.nodes, fleet.now))
        };
        return Err(Failure::new(Exit::Usage, format!("task/{name} {stands}"))
            .next(world.command(&format!("explain task/{name}")))
            .into());
    }
    let snapshot = fleet.snapshot();
    let changes = args.wishes.changes(&snapshot, &task, &need_of(&task, &fleet))?;
    output::print(&text(&task, &fleet, &snapshot, &changes, &args.wishes))?;
    Ok(Exit::OnTarget)
}

impl Wishes {
    /// What would be otherwise, as the deciding function takes it.
    fn changes(
        &self,
        snapshot: &Snapshot,
        task: &Object<AgenticTask>,
        need: &Need,
    ) -> Result<Vec<WhatIf>, Failure> {
        let mut changes = Vec::new();
        for (name, slots) in &self.slots {
            changes.push(WhatIf::Slots { node: node(snapshot, name)?, slots: *slots });
        }
        for name in &self.uncordon {
            changes.push(WhatIf::Uncordon { node: node(snapshot, name)? });
        }
        // A second one like the first must have another name.
        let mut grown = snapshot.clone();
        for name in &self.node_like {
            let like = node(snapshot, name)?;
            if let Some(row) = node_like(&grown, &like) {
                grown.upsert(row.clone());
                changes.push(WhatIf::OneMoreNode(Box::new(row)));
            }
        }
        if let Some(priority) = self.priority {
            changes.push(WhatIf::Priority { task: task.key(), priority });
        }
        let other = self.need(need.clone());
        if other != *need {
            changes.push(WhatIf::OtherNeed(Box::new(other)));
        }
        Ok(changes)
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

/// The node that a person named.
fn node(snapshot: &Snapshot, name: &str) -> Result<NodeName, Failure> {
    let bare = name.strip_prefix("node/").unwrap_or(name);
    let names: Vec<&str> = snapshot.nodes().map(|node| node.name.as_str()).collect();
    let found = NodeName::parse(bare).ok().filter(|name| snapshot.node(name).is_some());
    found.ok_or_else(|| {
        let failure = Failure::new(Exit::Error, format!("there is no node {bare:?}"));
        match target::near(&names, bare).first() {
            Some(near) => failure.next(format!("did you mean node/{near}?")),
            None => failure.next("foreman get nodes"),
        }
    })
}

/// Reads `studio=2`.
fn slots(text: &str) -> Result<(String, usize), String> {
    let parsed = text.split_once('=').and_then(|(node, slots)| {
        let slots = slots.parse().ok().filter(|slots| *slots <= SLOTS_MAX)?;
        (!node.is_empty()).then(|| (node.to_owned(), slots))
    });
    parsed.ok_or_else(|| format!("{text:?} is no wish for slots: write e.g. studio=2"))
}

fn text(
    task: &Object<AgenticTask>,
    fleet: &Fleet,
    snapshot: &Snapshot,
    changes: &[WhatIf],
    wishes: &Wishes,
) -> String {
    let (key, line) = (task.key(), in_line(fleet));
    let played = compare(snapshot, &line, changes);
    let (after, line_after) = changed(snapshot, &line, changes);
    let (need, priority) = (need_of(task, fleet), task.spec.priority.unwrap_or(0));
    let now = place_in_line(&line, &key, priority);
    let then = place_in_line(&line_after, &key, wishes.priority.unwrap_or(priority));
    let wanted = wishes.need(need.clone());
    let mut rows = vec![
        ["  now".to_owned(), standing(&played.before, &key, snapshot, &need, &now)],
        ["  then".to_owned(), standing(&played.after, &key, &after, &wanted, &then)],
    ];
    if let Some(obstacle) = obstacle(task, fleet) {
        rows.push([format!("  {}", obstacle.word), obstacle.message]);
    }
    let rows: Vec<_> = rows.into_iter().map(|[what, how]| [what, how, String::new()]).collect();
    let headline = match (runs(&played.before, &key), runs(&played.after, &key)) {
        (true, true) => "would run, as it would without",
        (false, true) => "would run now",
        (true, false) => "would not run any more",
        (false, false) => "would still wait",
    };
    let name = &task.meta.name;
    let mut text =
        format!("task/{name} {}.\n{}", paint(Paint::Strong, headline), words::columns(&rows));
    for (word, gains) in [("also run", true), ("wait instead", false)] {
        let others = played.differences().into_iter().filter(|(before, after)| {
            after.task != key && after.node.is_some() == gains && before.node.is_some() != gains
        });
        let others: Vec<_> = others.map(|(_, after)| after.task.name.as_str()).collect();
        if let Some(names) = others.get(..others.len().min(OTHERS_MAX)).filter(|it| !it.is_empty())
        {
            let more = others.len() - names.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let _infallible = writeln!(text, "would {word}: {}{more}", names.join(", "));
        }
    }
    text.push_str(&fleet.nobody_works());
    text
}

/// Whether the task finds a node.
fn runs(played: &[Fate], key: &Key) -> bool {
    played.iter().any(|fate| fate.task == *key && fate.node.is_some())
}

/// Where a task would go, or why nowhere.
fn standing(played: &[Fate], key: &Key, snapshot: &Snapshot, need: &Need, line: &str) -> String {
    match played.iter().find(|fate| fate.task == *key) {
        Some(Fate { node: Some(node), why, .. }) => {
            format!("on {node} ({}); {line}", why.join(", "))
        }
        Some(Fate { said: Some((reason, message)), .. }) => {
            format!("waits: {reason}: {}; {line}", words::clean(message))
        }
        Some(_) | None => {
            let nodes = match explain(snapshot, need).waiting {
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
