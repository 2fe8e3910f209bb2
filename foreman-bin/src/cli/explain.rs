//! `foreman explain`: why an object is where it is, by the very function that decides; and what a
//! field means.

mod fields;
mod node;
mod task;
mod workload;

use foreman_core::model::manifest::AnyKind;

use super::completion;
use super::world::World;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::settings::Settings;
use crate::target::Target;

/// Flags of `foreman explain`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Say why.\n\nKIND/name: why a task waits (every node by name, the numbers, and what would make it fit), \
what it does, or why it ended as it did; for a workload each step; for a node what it offers and what waits for it. \
The function that decides is the one that explains.\n\nKIND[.field]: what a field means, as kubectl explain does.",
    after_long_help = "Examples:\n  foreman explain task/docs-91-code\n  foreman explain node/studio\n  \
foreman explain workload.spec.pipeline"
)]
pub struct ExplainArgs {
    /// An object as KIND/name, or a kind with a field's path
    #[arg(value_name = "KIND/NAME | KIND[.FIELD…]", required = true, num_args = 1..=2,
        add = clap_complete::engine::ArgValueCompleter::new(completion::names))]
    pub object: Vec<String>,
}

/// Explains an object or a field.
///
/// # Errors
/// An object, kind or field that there is not, or a store that cannot be read.
pub async fn explain(args: &ExplainArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let text = match args.object.as_slice() {
        [word] if !word.contains('/') => fields::text(word)?,
        words => {
            let targets = Target::parse_all(words, None)?;
            let [target] = targets.as_slice() else {
                return Err(Failure::new(Exit::Usage, "one object at a time").into());
            };
            object(target, settings).await?
        }
    };
    output::print(&text)?;
    Ok(Exit::OnTarget)
}

async fn object(target: &Target, settings: &Settings) -> anyhow::Result<String> {
    let world = World::require(settings)?;
    let found = world.find(target).await?;
    let fleet = world.fleet().await?;
    match target.kind {
        AnyKind::AgenticTask => Ok(task::text(&found.typed()?, &fleet)),
        AnyKind::Workload => Ok(workload::text(&found.typed()?, &fleet)),
        AnyKind::FleetNode => Ok(node::text(&found.typed()?, &fleet)),
        AnyKind::Agent | AnyKind::AgentRelease | AnyKind::ModelProfile => {
            let name = found.name();
            Err(Failure::new(Exit::Usage, format!("nothing decides about {name}"))
                .next(world.command(&format!("describe {name}")))
                .next("explain tasks, workloads and nodes")
                .into())
        }
    }
}
