//! `foreman cordon` and `foreman uncordon`.

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::wellknown::ANNOTATION_NOTE;
use foreman_core::model::{FleetNode, Object, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect};

use super::completion;
use super::world::{World, write_failed};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::settings::Settings;
use crate::target::Target;
use crate::untrusted;

/// The longest note, in characters: it stands in one line of others' explanations.
const NOTE_CHARS_MAX: usize = 200;

/// Flags of `foreman cordon`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Place nothing new on a node. What runs there goes on. The note is what others see as the reason. \
To let runs end and then leave the machine alone, drain it.",
    after_long_help = "Examples:\n  foreman cordon studio -m \"on battery\"\n  foreman cordon node/studio node/tower"
)]
pub struct CordonArgs {
    /// Nodes, as node/name or a bare name
    #[arg(value_name = "NODE…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::nodes))]
    pub nodes: Vec<String>,
    /// Why, for whoever wonders
    #[arg(short = 'm', long, value_name = "TEXT", value_parser = note)]
    pub note: Option<String>,
}

/// Flags of `foreman uncordon`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Let tasks be placed on a node again: ends a cordon and a drain, and takes the note away.",
    after_long_help = "Examples:\n  foreman uncordon studio\n  foreman uncordon node/studio node/tower"
)]
pub struct UncordonArgs {
    /// Nodes, as node/name or a bare name
    #[arg(value_name = "NODE…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::nodes))]
    pub nodes: Vec<String>,
}

/// Closes nodes to new tasks.
///
/// # Errors
/// A node that is not there (then nothing was written), or a store that refuses.
pub async fn cordon(args: &CordonArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let (world, nodes) = find(&args.nodes, settings, "cordoned").await?;
    for node in &nodes {
        let closed = node.spec.unschedulable == Some(true);
        let noted = put_note(&world, node, args.note.as_deref()).await?;
        let answer = match (closed, noted) {
            (true, false) => "is cordoned already".to_owned(),
            (true, true) => "is cordoned already; its note is changed".to_owned(),
            (false, _) => {
                let change = Change::of(Part::Spec).set("unschedulable", true);
                patch(&world, node, change).await?;
                format!("cordoned: nothing new is placed there{}", goes_on(&world, node).await?)
            }
        };
        output::line(format!("node/{} {answer}", node.meta.name))?;
    }
    Ok(Exit::OnTarget)
}

/// Opens nodes again.
///
/// # Errors
/// As [`cordon`].
pub async fn uncordon(args: &UncordonArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let (world, nodes) = find(&args.nodes, settings, "uncordoned").await?;
    for node in &nodes {
        let closed = node.spec.unschedulable == Some(true) || node.spec.drain.is_some();
        if closed {
            let change = Change::of(Part::Spec).clear("unschedulable").clear("drain");
            patch(&world, node, change).await?;
        }
        if node.meta.annotations.contains_key(ANNOTATION_NOTE) {
            let change = Change::of(Part::Meta).annotations([(ANNOTATION_NOTE, None)]);
            patch(&world, node, change).await?;
        }
        let answer =
            if closed { "uncordoned: tasks are placed there again" } else { "is not cordoned" };
        output::line(format!("node/{} {answer}", node.meta.name))?;
    }
    Ok(Exit::OnTarget)
}

/// A note that fits into one line.
pub(super) fn note(text: &str) -> Result<String, String> {
    let clean = untrusted::line(text, NOTE_CHARS_MAX + 1);
    let clean = clean.trim();
    match clean.chars().count() {
        0 => Err("the note is empty".to_owned()),
        count if count > NOTE_CHARS_MAX => {
            Err(format!("the note is too long: at most {NOTE_CHARS_MAX} characters"))
        }
        _ => Ok(clean.to_owned()),
    }
}

/// The nodes that a person named.
pub(super) async fn find(
    words: &[String],
    settings: &Settings,
    what: &str,
) -> anyhow::Result<(World, Vec<Object<FleetNode>>)> {
    let targets = Target::parse_all(words, Some(AnyKind::FleetNode))?;
    if let Some(other) = targets.iter().find(|target| target.kind != AnyKind::FleetNode) {
        let failure = Failure::new(Exit::Usage, format!("{other} cannot be {what}"));
        return Err(match other.kind {
            AnyKind::Workload | AnyKind::AgenticTask => {
                failure.next(format!("pause it: foreman suspend {other}"))
            }
            AnyKind::FleetNode | AnyKind::Agent | AnyKind::AgentRelease | AnyKind::ModelProfile => {
                failure.next("nodes can: foreman get nodes")
            }
        }
        .into());
    }
    let world = World::require(settings)?;
    let found = world.find_all(&targets).await?;
    let nodes = found.iter().map(super::world::Found::typed).collect::<Result<_, _>>()?;
    Ok((world, nodes))
}

/// Writes the note, and says whether it is another one.
pub(super) async fn put_note(
    world: &World,
    node: &Object<FleetNode>,
    words: Option<&str>,
) -> anyhow::Result<bool> {
    let Some(words) = words else { return Ok(false) };
    if node.meta.annotations.get(ANNOTATION_NOTE).map(String::as_str) == Some(words) {
        return Ok(false);
    }
    let change = Change::of(Part::Meta).annotations([(ANNOTATION_NOTE, Some(words.to_owned()))]);
    patch(world, node, change).await?;
    Ok(true)
}

/// Writes a change of a node.
pub(super) async fn patch(
    world: &World,
    node: &Object<FleetNode>,
    change: Change<FleetNode>,
) -> anyhow::Result<()> {
    let written = world.stores.nodes.patch(&node.key(), change, Expect::Any).await;
    written.map(drop).map_err(|error| write_failed(&format!("node/{}", node.meta.name), error))
}

/// The tasks that a node has, by name.
pub(super) async fn held(world: &World, node: &Object<FleetNode>) -> anyhow::Result<Vec<String>> {
    let tasks = world.tasks().await?;
    let here = tasks.values().filter(|task| {
        task.status.assigned_node.as_deref() == Some(node.meta.name.as_str())
            && task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
    });
    Ok(here.map(|task| task.meta.name.clone()).collect())
}

async fn goes_on(world: &World, node: &Object<FleetNode>) -> anyhow::Result<String> {
    let held = held(world, node).await?;
    Ok(match held.as_slice() {
        [] => String::new(),
        [one] => format!("; {one} goes on"),
        many => format!("; {} go on", many.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_one_line_of_bounded_length() {
        assert_eq!(note(" on\u{1b}[2J\nbattery ").as_deref(), Ok("on battery"));
        assert!(note(" \u{1b}[2J").is_err(), "nothing to be seen");
        assert!(note(&"x".repeat(NOTE_CHARS_MAX)).is_ok());
        assert!(note(&"x".repeat(NOTE_CHARS_MAX + 1)).is_err());
    }
}
