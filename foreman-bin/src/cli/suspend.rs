//! `foreman suspend` and `foreman resume`.

use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Object, TaskPhase, Workload};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect};

use super::completion;
use super::words;
use super::world::{Found, Held, World, write_failed};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::settings::Settings;
use crate::target::{Target, other_than_work};

/// Flags of `foreman suspend`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Pause tasks or workloads. A run that goes on pauses at its next turn: its work is checkpointed and its \
slot is free; a task that waits is not placed. Nothing is lost and no try is counted. A workload's tasks pause with it. \
To go on: foreman resume.",
    after_long_help = "Examples:\n  foreman suspend workload/fix-login-7f3a\n  foreman suspend task/docs-91-code task/docs-92-code"
)]
pub struct SuspendArgs {
    /// Tasks or workloads, as KIND/name; a bare name is a workload
    #[arg(value_name = "KIND/NAME…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::work))]
    pub objects: Vec<String>,
}

/// Flags of `foreman resume`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Let tasks or workloads go on that were paused by foreman suspend. A task goes on after the last turn that \
it finished, on the machine that holds its journal. A task that paused because its budget is spent goes on when the budget \
is raised, not by this.",
    after_long_help = "Examples:\n  foreman resume workload/fix-login-7f3a\n  foreman resume task/docs-91-code"
)]
pub struct ResumeArgs {
    /// Tasks or workloads, as KIND/name; a bare name is a workload
    #[arg(value_name = "KIND/NAME…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::work))]
    pub objects: Vec<String>,
}

/// Pauses tasks and workloads.
///
/// # Errors
/// An object that is not there or cannot be paused (then nothing was written), or a store that
/// refuses.
pub async fn suspend(args: &SuspendArgs, settings: &Settings) -> anyhow::Result<Exit> {
    set_all(&args.objects, settings, true).await
}

/// Lets tasks and workloads go on.
///
/// # Errors
/// As [`suspend`]; and a task whose workload is paused.
pub async fn resume(args: &ResumeArgs, settings: &Settings) -> anyhow::Result<Exit> {
    set_all(&args.objects, settings, false).await
}

/// What is to be done about one object, decided before anything is written.
struct Step {
    answer: String,
    /// Whether its `spec.suspend` is written.
    writes: bool,
    /// The owner whose `spec.suspend: false` would undo it.
    frees: Option<Object<Workload>>,
}

impl Step {
    fn nothing(answer: impl Into<String>) -> Self {
        Self { answer: answer.into(), writes: false, frees: None }
    }

    fn write(answer: impl Into<String>) -> Self {
        Self { answer: answer.into(), writes: true, frees: None }
    }
}

async fn set_all(objects: &[String], settings: &Settings, pause: bool) -> anyhow::Result<Exit> {
    let verb = if pause { "suspended" } else { "resumed" };
    let targets = Target::parse_all(objects, Some(AnyKind::Workload))?;
    if let Some(other) = other_than_work(&targets) {
        let failure = Failure::new(Exit::Usage, format!("{other} cannot be {verb}"));
        return Err(match (other.kind, pause) {
            (AnyKind::FleetNode, true) => failure.next(format!("foreman cordon {other}")),
            (AnyKind::FleetNode, false) => failure.next(format!("foreman uncordon {other}")),
            (
                AnyKind::AgenticTask
                | AnyKind::Workload
                | AnyKind::Agent
                | AnyKind::AgentRelease
                | AnyKind::ModelProfile,
                _,
            ) => failure.next("tasks and workloads can"),
        }
        .into());
    }
    let world = World::require(settings)?;
    let found = world.find_all(&targets).await?;
    let mut steps = Vec::new();
    for one in &found {
        steps.push(if one.kind == AnyKind::Workload {
            of_workload(&one.typed()?, pause)
        } else {
            of_task(&world, &one.typed()?, pause, &found).await?
        });
    }
    let mut wrote = false;
    for (one, step) in found.iter().zip(steps) {
        if let Some(owner) = step.frees {
            // The control loops copy it to the children, this one included.
            let change = Change::<Workload>::of(Part::Spec).clear("suspend");
            patch(&world, &Found { kind: AnyKind::Workload, json: owner.to_json() }, change)
                .await?;
        }
        if step.writes {
            wrote = true;
            if one.kind == AnyKind::Workload {
                set::<Workload>(&world, one, pause).await?;
            } else {
                set::<AgenticTask>(&world, one, pause).await?;
            }
        }
        output::line(format!("{} {}", one.name(), step.answer))?;
    }
    if wrote {
        world.note_if_nobody_works()?;
    }
    Ok(Exit::OnTarget)
}

async fn set<K: Held>(world: &World, one: &Found, pause: bool) -> anyhow::Result<()> {
    // False and not absent: the control loops copy what is said to the children of a workload.
    patch(world, one, Change::<K>::of(Part::Spec).set("suspend", pause)).await
}

async fn patch<K: Held>(world: &World, one: &Found, change: Change<K>) -> anyhow::Result<()> {
    let written = K::store(&world.stores).patch(&one.key(), change, Expect::Any).await;
    written.map(drop).map_err(|error| write_failed(&one.name(), error))
}

fn of_workload(workload: &Object<Workload>, pause: bool) -> Step {
    if workload.status.has_ended() {
        return Step::nothing("has ended already");
    }
    match (pause, workload.spec.suspend == Some(true)) {
        (true, true) => Step::nothing("is suspended already"),
        (true, false) => Step::write("suspended: its runs pause at their next turn"),
        (false, false) => Step::nothing("is not suspended"),
        (false, true) => Step::write("resumed: its tasks go on"),
    }
}

async fn of_task(
    world: &World,
    task: &Object<AgenticTask>,
    pause: bool,
    named: &[Found],
) -> anyhow::Result<Step> {
    if task.status.has_ended() {
        return Ok(Step::nothing("has ended already"));
    }
    let owner = world.owner_of(task).await?.filter(|owner| !owner.status.has_ended());
    let suspended = task.spec.suspend == Some(true);
    if pause {
        if suspended {
            return Ok(Step::nothing(if is_held(task) {
                "is being suspended already: it pauses at its next turn"
            } else {
                "is suspended already"
            }));
        }
        let answer = if is_held(task) {
            "suspended: it pauses at its next turn"
        } else {
            "suspended: it is not placed before it is resumed"
        };
        let frees = owner.filter(|owner| owner.spec.suspend == Some(false));
        return Ok(Step { frees, ..Step::write(answer) });
    }
    let paused = owner.filter(|owner| owner.spec.suspend == Some(true));
    if let Some(owner) = paused {
        let name = format!("workload/{}", owner.meta.name);
        if named.iter().any(|one| one.kind == AnyKind::Workload && one.key() == owner.key()) {
            return Ok(Step::nothing(format!("goes on with {name}")));
        }
        return Err(Failure::new(
            Exit::Usage,
            format!("task/{} is suspended with its {name}", task.meta.name),
        )
        .next(world.command(&format!("resume {name}")))
        .into());
    }
    if suspended {
        return Ok(Step::write("resumed: it goes on where it was"));
    }
    Ok(Step::nothing(match budget_spent(task) {
        Some(message) => format!("is not suspended; it waits: {message}"),
        None => "is not suspended".to_owned(),
    }))
}

/// Whether a node has it.
fn is_held(task: &Object<AgenticTask>) -> bool {
    task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
}

/// What it waits for, when that is more budget.
fn budget_spent(task: &Object<AgenticTask>) -> Option<String> {
    let waiting = task.status.waiting.as_ref()?;
    let spent = waiting.reason.as_ref()?.is(WaitingReason::BudgetExhausted);
    spent.then(|| words::clean(waiting.message.as_deref().unwrap_or_default()))
}
