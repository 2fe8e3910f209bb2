//! `foreman logs`: what a task's agent said and did, from the journal of this machine.

mod range;
mod render;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Object, Workload};
use foreman_core::ports::Clock as _;
use foreman_runner::journal::{JournalError, JournalKey, JournalStore, Record};

use super::completion;
use super::words;
use super::world::{Found, World};
use crate::exit::{Exit, Failure};
use crate::os_clock::SystemClock;
use crate::output;
use crate::settings::Settings;
use crate::target::Target;
use crate::untrusted;

pub use range::Turns;
pub use render::Tools;

/// How often a followed journal is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// Flags of `foreman logs`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show what a task's agent said and did, turn by turn: seconds, tokens, what the cache saved, tool calls and \
their ends. The journal is on the machine that ran the task; a verify task has none, only the report of its gate. Text of \
models and tools is shown without anything that a terminal would obey.",
    after_long_help = "Examples:\n  foreman logs task/fix-login-7f3a-code -f\n  \
foreman logs fix-login-7f3a-code --turn 12..14 --tools full\n  foreman logs fix-login-7f3a-code -p\n  foreman logs workload/@latest --raw"
)]
pub struct LogsArgs {
    /// A task by its name or as task/NAME, or workload/NAME for all its tasks
    #[arg(value_name = "TASK",
        add = clap_complete::engine::ArgValueCompleter::new(completion::names))]
    pub object: String,
    /// Go on until the task ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only what this attempt did [default: the whole conversation]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
    /// Only what the attempt before the last one did
    #[arg(short, long, conflicts_with = "attempt")]
    pub previous: bool,
    /// Only these turns: N, A.., ..B or A..B
    #[arg(long, value_name = "A..B")]
    pub turn: Option<Turns>,
    /// How much of tool calls is shown
    #[arg(long, value_name = "HOW", default_value = "summary")]
    pub tools: Tools,
    /// Print the records as JSON, one a line
    #[arg(long)]
    pub raw: bool,
}

/// Shows logs.
///
/// # Errors
/// A task that there is not, that has not run, or whose journal is elsewhere.
pub async fn logs(args: &LogsArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let target = Target::parse(&args.object, Some(AnyKind::AgenticTask))?;
    let world = World::require(settings)?;
    let found = world.find(&target).await?;
    let journals =
        JournalStore::new(&settings.paths.state_dir, Arc::new(SystemClock::unix_milliseconds));
    let tasks = tasks(&world, &found).await?;
    let only = tasks.len() == 1;
    if args.follow && !only {
        return Err(Failure::new(Exit::Usage, format!("{target} has {} tasks", tasks.len()))
            .next(format!("follow one of: {}", names(&tasks).join(", ")))
            .into());
    }
    for task in &tasks {
        let mut reader = Reader {
            args,
            attempt: args.attempt,
            world: &world,
            journals: &journals,
            task: task.clone(),
            shown: 0,
        };
        if args.previous {
            reader.attempt = Some(reader.before_the_last().await?);
        }
        match reader.read().await? {
            Some(records) => reader.show(&records, true)?,
            None if args.follow => {}
            None if reader.tell_gate()? => {}
            None if only => return Err(reader.nothing().await.into()),
            None => output::note(format!("task/{}: {}", task.meta.name, reader.nothing().await)),
        }
        if args.follow {
            reader.follow().await?;
        }
    }
    Ok(Exit::OnTarget)
}

fn names(tasks: &[Object<AgenticTask>]) -> Vec<String> {
    tasks.iter().map(|task| format!("task/{}", task.meta.name)).collect()
}

/// The tasks that are meant: the one, or all of a workload in the order of its steps.
async fn tasks(world: &World, found: &Found) -> anyhow::Result<Vec<Object<AgenticTask>>> {
    match found.kind {
        AnyKind::AgenticTask => Ok(vec![found.typed()?]),
        AnyKind::Workload => {
            let workload = found.typed::<Workload>()?;
            let mut tasks = Vec::new();
            for name in workload.status.steps.iter().filter_map(|step| step.task.as_ref()) {
                let key = world.key(AnyKind::AgenticTask, name);
                if let Some(task) = world.get(AnyKind::AgenticTask, &key).await? {
                    tasks.push(task.typed()?);
                }
            }
            if tasks.is_empty() {
                let name = found.name();
                return Err(Failure::new(Exit::Error, format!("{name} has no task yet"))
                    .next(world.command(&format!("explain {name}")))
                    .into());
            }
            Ok(tasks)
        }
        AnyKind::FleetNode | AnyKind::Agent | AnyKind::AgentRelease | AnyKind::ModelProfile => {
            let name = found.name();
            Err(Failure::new(Exit::Usage, format!("{name} has no logs"))
                .next(format!("logs are of tasks: {}", world.command("get tasks")))
                .into())
        }
    }
}

struct Reader<'a> {
    args: &'a LogsArgs,
    /// The attempt that is asked for; none = the whole conversation.
    attempt: Option<u32>,
    world: &'a World,
    journals: &'a JournalStore,
    task: Object<AgenticTask>,
    /// Records that were shown already.
    shown: usize,
}

impl Reader<'_> {
    /// The attempt before the last one that has a journal here.
    async fn before_the_last(&self) -> anyhow::Result<u32> {
        let uid = self.task.meta.uid.as_str();
        let last = self.journals.highest_attempt(uid).await;
        let last = last.context("the journals cannot be read")?.unwrap_or(0);
        if last > 1 {
            return Ok(last - 1);
        }
        let name = &self.task.meta.name;
        Err(Failure::new(Exit::Error, format!("task/{name} has no earlier attempt here"))
            .next(self.world.command(&format!("logs task/{name}")))
            .into())
    }

    /// The records of the attempt that is asked for, those of its parents first; absent when there
    /// is no journal of it here.
    async fn read(&self) -> anyhow::Result<Option<Vec<Record>>> {
        let uid = self.task.meta.uid.as_str();
        let last =
            self.journals.highest_attempt(uid).await.context("the journals cannot be read")?;
        // A crash may have left a last one that was made and not begun: the one before counts.
        let newest = || async { self.journals.parent(uid).await.map(|it| it.map(|it| it.attempt)) };
        let attempt = match self.attempt {
            Some(attempt) => Some(attempt),
            None => match newest().await {
                Err(JournalError::Io { path, .. }) if !path.exists() => None,
                found => found.context("the journals cannot be read")?,
            },
        };
        let Some(attempt) = attempt.filter(|it| last.is_some_and(|last| *it <= last)) else {
            return Ok(None);
        };
        let key = JournalKey::new(uid, attempt)?;
        match self.journals.records(key).await {
            Ok(records) => Ok(Some(records)),
            // Made, and not begun yet.
            Err(JournalError::NoHeader { .. }) => Ok(None),
            Err(JournalError::Io { path, .. }) if !path.exists() => Ok(None),
            Err(error) => Err(anyhow::Error::new(error).context("the journal cannot be read")),
        }
    }

    /// A task that only ran a gate has no conversation: what the gate said is its log.
    fn tell_gate(&self) -> anyhow::Result<bool> {
        let gate = words::gate(&self.task);
        if gate.is_empty() || self.args.raw {
            return Ok(false);
        }
        output::line(format!("task/{}: no model, only the gate", self.task.meta.name))?;
        for line in gate {
            output::line(format!("  {line}"))?;
        }
        Ok(true)
    }

    /// Shows the records that were not shown yet. `whole` = a call without an answer is shown as such.
    fn show(&mut self, records: &[Record], whole: bool) -> anyhow::Result<()> {
        if self.args.raw {
            for record in records.iter().skip(self.shown) {
                let json = serde_json::to_string(record)?;
                output::line(untrusted::escape_json(&json))?;
            }
            self.shown = records.len();
            return Ok(());
        }
        let view = render::View {
            task: &self.task.meta.name,
            uid: self.task.meta.uid.as_str(),
            attempt: self.attempt,
            turns: self.args.turn.unwrap_or_default(),
            tools: self.args.tools,
        };
        let (text, shown) = view.render(records, self.shown, whole);
        self.shown = shown;
        output::print(&text)
    }

    async fn follow(&mut self) -> anyhow::Result<()> {
        loop {
            let key = self.task.key();
            let now = self.world.get(AnyKind::AgenticTask, &key).await?;
            let now = now.map(|found| found.typed::<AgenticTask>()).transpose()?;
            // Read after the state: what was written before the end is there then.
            let records = self.read().await?.unwrap_or_default();
            let Some(task) = now.filter(|now| now.meta.uid == self.task.meta.uid) else {
                self.show(&records, true)?;
                output::note(format!("task/{} was deleted", self.task.meta.name));
                return Ok(());
            };
            self.task = task;
            let ended = self.task.status.has_ended();
            self.show(&records, ended)?;
            if ended {
                let (phase, end) = (words::phase(&self.task), words::ended(&self.task));
                output::note(format!("task/{} {phase}: {end}", self.task.meta.name));
                return Ok(());
            }
            self.world.clock.sleep(FOLLOW_EVERY).await;
        }
    }

    /// Why there is nothing to show.
    async fn nothing(&self) -> Failure {
        let name = &self.task.meta.name;
        let last = self.journals.parent(self.task.meta.uid.as_str()).await.ok().flatten();
        if let (Some(asked), Some(last)) = (self.attempt, last.map(|last| last.attempt)) {
            return Failure::new(Exit::Error, format!("task/{name} has no attempt {asked} here"))
                .next(format!("the last one here is {last}: --attempt {last}"));
        }
        match (&self.task.status.assigned_node, self.task.status.attempt.unwrap_or(0)) {
            (_, 0) => Failure::new(Exit::Error, format!("task/{name} has not run yet"))
                .next(self.world.command(&format!("explain task/{name}")))
                .next(self.world.command(&format!("logs -f task/{name}"))),
            (Some(node), _) => {
                let node = words::clean(node);
                Failure::new(
                    Exit::Error,
                    format!("the journal of task/{name} is not on this machine"),
                )
                .next(format!("it ran on {node}: run foreman logs task/{name} there"))
            }
            (None, _) => Failure::new(
                Exit::Error,
                format!("there is no journal of task/{name} on this machine"),
            )
            .next("journals are kept for 7 days on the machine that ran the task"),
        }
    }
}
