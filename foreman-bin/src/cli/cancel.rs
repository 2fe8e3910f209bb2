//! `foreman cancel`.

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Workload};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect};

use super::completion;
use super::world::{Found, Held, World, write_failed};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::settings::Settings;
use crate::target::{Target, other_than_work};

/// Flags of `foreman cancel`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "End tasks or workloads and keep their work: a running model call is aborted, children are killed, \
and the result names the branch, checkpoint or patch that holds what was done. A workload's tasks end with it. \
The process that does the work carries it out; when none runs, the next one does.",
    after_long_help = "Examples:\n  foreman cancel workload/fix-login-7f3a\n  foreman cancel task/docs-91-code task/docs-92-code"
)]
pub struct CancelArgs {
    /// Tasks or workloads, as KIND/name; a bare name is a workload
    #[arg(value_name = "KIND/NAME…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::work))]
    pub objects: Vec<String>,
}

/// Asks for the end of tasks and workloads.
///
/// # Errors
/// An object that is not there or cannot be cancelled (then nothing was written), or a store that
/// refuses.
pub async fn cancel(args: &CancelArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let targets = Target::parse_all(&args.objects, Some(AnyKind::Workload))?;
    if let Some(other) = other_than_work(&targets) {
        return Err(Failure::new(Exit::Usage, format!("{other} cannot be cancelled"))
            .next("cancel tasks and workloads; delete other objects")
            .into());
    }
    let world = World::require(settings)?;
    let found = world.find_all(&targets).await?;
    let mut asked = false;
    for one in &found {
        let answer = if one.kind == AnyKind::Workload {
            let workload = one.typed::<Workload>()?;
            let ended = workload.status.has_ended();
            ask::<Workload>(&world, one, ended, workload.spec.cancel).await?
        } else {
            let task = one.typed::<AgenticTask>()?;
            let ended = task.status.has_ended();
            ask::<AgenticTask>(&world, one, ended, task.spec.cancel).await?
        };
        asked |= answer == "cancel requested";
        output::line(format!("{} {answer}", one.name()))?;
    }
    if asked {
        world.note_if_nobody_works()?;
    }
    Ok(Exit::OnTarget)
}

async fn ask<K: Held>(
    world: &World,
    one: &Found,
    ended: bool,
    cancel: Option<bool>,
) -> anyhow::Result<&'static str> {
    match (ended, cancel) {
        (true, _) => Ok("has ended already"),
        (false, Some(true)) => Ok("is being cancelled already"),
        (false, Some(false) | None) => {
            let change = Change::<K>::of(Part::Spec).set("cancel", true);
            K::store(&world.stores)
                .patch(&one.key(), change, Expect::Any)
                .await
                .map_err(|error| write_failed(&one.name(), error))?;
            Ok("cancel requested")
        }
    }
}
