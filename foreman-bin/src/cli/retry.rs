//! `foreman retry`.

mod plan;

use std::sync::Arc;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Object};
use foreman_core::ports::StoreError;
use foreman_runner::journal::JournalStore;

use super::completion;
use super::words;
use super::world::{Found, World, write_failed};
use crate::exit::{Exit, Failure};
use crate::os_clock::SystemClock;
use crate::output;
use crate::settings::Settings;
use crate::target::Target;
use plan::How;

/// The most turns that an Agent may have, which is what its schema allows.
const TURNS_MAX: u32 = 500;

/// Flags of `foreman retry`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Try tasks again that have ended. A finished task never runs again, so this makes a new one, TASK-2, with the \
same spec and attempts of its own. With --continue it goes on with the conversation and the work of the old one, as after a \
turn limit; without, it begins afresh. Tasks that are named together depend on each other as before. A workload that has \
ended keeps its result: the new tasks stand alone.",
    after_long_help = "Examples:\n  foreman retry task/docs-91-code\n  foreman retry docs-91-code --continue --turns +40\n  \
foreman retry docs-91-code docs-91-verify docs-91-review"
)]
pub struct RetryArgs {
    /// Tasks, as task/name or a bare name
    #[arg(value_name = "TASK…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::tasks))]
    pub tasks: Vec<String>,
    /// Go on with the conversation and the work of the old task
    #[arg(long = "continue")]
    pub go_on: bool,
    /// How many further turns it may take, e.g. +40 [default: maxTurns of its Agent]
    #[arg(long, value_name = "+N", value_parser = turns, requires = "go_on")]
    pub turns: Option<u32>,
}

/// Makes new tasks of old ones.
///
/// # Errors
/// A task that is not there, has not ended, or depends on what cannot end well (then nothing was
/// made), or a store that refuses.
pub async fn retry(args: &RetryArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let targets = Target::parse_all(&args.tasks, Some(AnyKind::AgenticTask))?;
    let world = World::require(settings)?;
    if let Some(other) = targets.iter().find(|target| target.kind != AnyKind::AgenticTask) {
        return Err(no_task(&world, other).await.into());
    }
    let found = world.find_all(&targets).await?;
    let old: Vec<Object<AgenticTask>> = found.iter().map(Found::typed).collect::<Result<_, _>>()?;
    let all = world.tasks().await?;
    let how = How { continues: args.go_on, turns: args.turns };
    let made = plan::plan(&old.iter().collect::<Vec<_>>(), &all, how)?;
    let mut names = Vec::new();
    for (task, new) in made {
        let name = format!("task/{}", new.key.name);
        let after = match new.spec.depends_on.as_slice() {
            [] => String::new(),
            upstream => format!(", after {}", upstream.join(", ")),
        };
        match world.stores.tasks.create(new).await {
            Ok(_) => {}
            Err(StoreError::AlreadyExists { .. }) => {
                let what = format!("{name} was made by somebody else just now");
                return Err(Failure::new(Exit::Error, what).next("try again").into());
            }
            Err(error) => return Err(write_failed(&name, error)),
        }
        output::line(format!("{name} created: {}{after}", what(task, args)))?;
        remarks(&world, settings, task, args).await?;
        names.push(name);
    }
    output::note(format!("next: {}", world.command(&format!("wait {}", names.join(" ")))));
    world.note_if_nobody_works()?;
    Ok(Exit::OnTarget)
}

fn what(task: &Object<AgenticTask>, args: &RetryArgs) -> String {
    let name = &task.meta.name;
    if !args.go_on {
        return format!("tries {name} again from the start");
    }
    let usage = task.status.usage.as_ref().and_then(|usage| usage.turns);
    let after = usage.map_or_else(String::new, |turns| {
        format!(" after {turns} {}", words::plural(turns, "turn"))
    });
    let more = args.turns.map_or_else(String::new, |turns| {
        format!(", with {turns} more {}", words::plural(turns.into(), "turn"))
    });
    format!("goes on with {name}{after}{more}")
}

/// What a person should know beside it.
async fn remarks(
    world: &World,
    settings: &Settings,
    task: &Object<AgenticTask>,
    args: &RetryArgs,
) -> anyhow::Result<()> {
    if let Some(owner) = world.owner_of(task).await? {
        let name = &owner.meta.name;
        output::note(if owner.status.has_ended() {
            format!("workload/{name} has ended and keeps its result; the new task stands alone")
        } else {
            format!("workload/{name} goes on with the old result; the new task stands alone")
        });
    }
    if args.go_on {
        let wall = Arc::new(SystemClock::unix_milliseconds);
        let journals = JournalStore::new(&settings.paths.state_dir, wall);
        let there = journals.highest_attempt(task.meta.uid.as_str()).await;
        if matches!(there, Ok(None)) {
            output::note(format!(
                "no journal of {} is on this machine: on this one the new task begins afresh",
                task.meta.name
            ));
        }
    }
    Ok(())
}

/// Why an object of another kind is not tried again; of a workload, which tasks can be.
async fn no_task(world: &World, target: &Target) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("{target} is no task: tasks are tried again"));
    if target.kind != AnyKind::Workload {
        return failure.next(world.command("get tasks"));
    }
    let missed = missed(world, target).await.unwrap_or_default();
    if missed.is_empty() {
        return failure.next(world.command(&format!("describe {target}")));
    }
    failure.next(world.command(&format!("retry {}", missed.join(" "))))
}

/// The tasks of a workload that missed the target.
async fn missed(world: &World, target: &Target) -> anyhow::Result<Vec<String>> {
    let workload: Object<foreman_core::model::Workload> = world.find(target).await?.typed()?;
    let tasks = world.tasks().await?;
    Ok(tasks
        .values()
        .filter(|task| task.is_of(&workload.meta.uid))
        .filter(|task| task.status.has_ended() && words::finished(task) != "Succeeded")
        .map(|task| format!("task/{}", task.meta.name))
        .collect())
}

/// Reads `+40` or `40`.
fn turns(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix('+').unwrap_or(text);
    let plain = number.chars().all(|c| c.is_ascii_digit());
    let number = plain.then(|| number.parse().ok()).flatten();
    number
        .filter(|turns| (1..=TURNS_MAX).contains(turns))
        .ok_or_else(|| format!("{text:?} is no number of turns: write +1 to +{TURNS_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_a_number_within_what_an_agent_may_have() {
        assert_eq!((turns("+40"), turns("500")), (Ok(40), Ok(500)));
        for wrong in ["", "+", "0", "+0", "501", "-3", "++4", "4k", "99999999999"] {
            assert!(turns(wrong).is_err(), "{wrong}");
        }
        assert_eq!(i64::from(TURNS_MAX), maximum(), "as the Agent's schema has it");
    }

    fn maximum() -> i64 {
        let turns = AnyKind::Agent.schema().pointer("/properties/spec/properties/maxTurns/maximum");
        turns.and_then(serde_json::Value::as_i64).expect("bounded")
    }
}
