//! `foreman wait`.

mod waited;

use std::io;
use std::time::Duration;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{AgenticTask, Workload};
use foreman_core::ports::{Clock as _, Query, StoreEvent};
use futures::StreamExt as _;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::completion;
use super::run::quantities::duration;
use super::run::show::RunOutput;
use super::run::signals::{Signals, after};
use super::words;
use super::world::World;
use crate::events::{RunResult, Stream, UsageTotal};
use crate::exit::{Exit, Failure};
use crate::follow::{Fact, steady};
use crate::output::{self, PipeClosed};
use crate::settings::Settings;
use crate::target::{Target, other_than_work};
use crate::untrusted;
use waited::{End, Waited, worse};

/// A wait that is over sooner says nothing but the result.
pub(super) const TELL_AFTER: Duration = Duration::from_secs(1);
/// How often it is said what is still waited for; also the pulse of the event stream.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(30);
/// How many of the objects are named each time.
const NAMED_MAX: usize = 10;

/// Flags of `foreman wait`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Wait until tasks or workloads have finished, whatever came of them. The exit code says what: 0 on target, \
3 not on target, 4 infrastructure, 5 a person is needed before anything goes on, 6 the wait timed out; of several the worst. \
It watches the store and does no work itself: another process must, or the wait says that nobody does.",
    after_long_help = "Examples:\n  foreman wait workload/fix-login-7f3a\n  foreman wait task/docs-91-code task/docs-92-code --any\n  \
foreman wait @latest --timeout 30m -o json"
)]
pub struct WaitArgs {
    /// Tasks or workloads, as KIND/name; a bare name is a workload
    #[arg(value_name = "KIND/NAME…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::work))]
    pub objects: Vec<String>,
    /// End as soon as one of them has finished
    #[arg(long)]
    pub any: bool,
    /// Give up after this long, with exit code 6
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// What stdout carries: a line for each object, one JSON object, or the event stream
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = RunOutput::Text)]
    pub output: RunOutput,
}

/// Waits for tasks and workloads.
///
/// # Errors
/// An object that is not there or never finishes, or a store that cannot be read. With `-o jsonl` an
/// error is told as the stream's result instead, with its exit code.
pub async fn wait(args: &WaitArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let stream = (args.output == RunOutput::Jsonl).then(|| Stream::new(io::stdout()));
    let mut told = Told { output: args.output, stream, broken: None };
    let mut objects = Vec::new();
    let ended = Box::pin(attempt(args, settings, &mut objects, &mut told, &mut signals)).await;
    match ended {
        Ok((why, world)) => told.end(why, &objects, &world),
        Err(error) if args.output != RunOutput::Jsonl => Err(error),
        Err(error) => {
            output::error(&error);
            told.failed(&error)
        }
    }
}

/// Why the waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// What was waited for came about.
    Ended,
    TimedOut,
    Stopped(Exit),
}

async fn attempt(
    args: &WaitArgs,
    settings: &Settings,
    objects: &mut Vec<Waited>,
    told: &mut Told,
    signals: &mut Signals,
) -> anyhow::Result<(Why, World)> {
    let targets = Target::parse_all(&args.objects, Some(AnyKind::Workload))?;
    if let Some(other) = other_than_work(&targets) {
        let failure = Failure::new(Exit::Usage, format!("{other} never finishes"));
        return Err(match other.kind {
            AnyKind::FleetNode => failure.next(format!("foreman drain {other} --wait")),
            AnyKind::AgenticTask
            | AnyKind::Workload
            | AnyKind::Agent
            | AnyKind::AgentRelease
            | AnyKind::ModelProfile => failure.next("tasks and workloads do"),
        }
        .into());
    }
    let world = World::require(settings)?;
    for found in world.find_all(&targets).await? {
        // One that is named twice is waited for once.
        let waited = Waited::new(&found);
        if objects.iter().all(|one| (one.kind, &one.key) != (waited.kind, &waited.key)) {
            objects.push(waited);
        }
    }
    let why = tokio::select! {
        biased;
        exit = signals.next() => Why::Stopped(exit),
        ended = Box::pin(until_ended(args.any, &world, objects, told)) => {
            ended?;
            Why::Ended
        }
        () = after(args.timeout) => Why::TimedOut,
    };
    Ok((why, world))
}

async fn until_ended(
    any: bool,
    world: &World,
    objects: &mut [Waited],
    told: &mut Told,
) -> anyhow::Result<()> {
    let mut tasks = steady(world.stores.tasks.clone(), Query::all());
    let mut workloads = steady(world.stores.workloads.clone(), Query::all());
    let mut read = (false, false);
    let mut ended = 0;
    let mut ticks = interval_at(Instant::now() + TELL_AFTER, TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut order: Vec<usize> = (0..objects.len()).collect();
    loop {
        tokio::select! {
            biased;
            event = tasks.next() => read.0 |= task_event(event.as_ref(), objects, told, world),
            event = workloads.next() => read.1 |= workload_event(event.as_ref(), objects, told, world),
            _ = ticks.tick() => {
                told.pulse(world);
                tell(world, objects).await?;
            }
        }
        // Before everything was read once, nobody can say what has not ended.
        if read != (true, true) {
            continue;
        }
        let before = ended;
        order.retain(|at| match objects.get(*at).and_then(|one| Some((one, one.end()?))) {
            Some((one, end)) => {
                told.line(one, &end);
                ended += 1;
                false
            }
            None => true,
        });
        if order.is_empty() || (any && ended > before) {
            return Ok(());
        }
    }
}

/// Takes an event of the tasks; whether a full reading is over.
fn task_event(
    event: Option<&StoreEvent<AgenticTask>>,
    objects: &mut [Waited],
    told: &mut Told,
    world: &World,
) -> bool {
    for one in objects {
        let own = one.kind == AnyKind::AgenticTask;
        match event {
            Some(StoreEvent::SyncStart) if own => one.reading_begins(),
            Some(StoreEvent::SyncEnd) if own => one.reading_ends(),
            Some(StoreEvent::Upsert(task)) => told.facts(&one.task(task), world),
            Some(StoreEvent::Gone { uid, .. }) if own => one.is_gone(uid),
            Some(StoreEvent::Unreadable { key, .. }) if own => one.is_unreadable(key),
            Some(
                StoreEvent::SyncStart
                | StoreEvent::SyncEnd
                | StoreEvent::Gone { .. }
                | StoreEvent::Unreadable { .. },
            )
            | None => {}
        }
    }
    matches!(event, Some(StoreEvent::SyncEnd))
}

/// The same for workloads.
fn workload_event(
    event: Option<&StoreEvent<Workload>>,
    objects: &mut [Waited],
    told: &mut Told,
    world: &World,
) -> bool {
    for one in objects.iter_mut().filter(|one| one.kind == AnyKind::Workload) {
        match event {
            Some(StoreEvent::SyncStart) => one.reading_begins(),
            Some(StoreEvent::SyncEnd) => one.reading_ends(),
            Some(StoreEvent::Upsert(workload)) => told.facts(&one.workload(workload), world),
            Some(StoreEvent::Gone { uid, .. }) => one.is_gone(uid),
            Some(StoreEvent::Unreadable { key, .. }) => one.is_unreadable(key),
            None => {}
        }
    }
    matches!(event, Some(StoreEvent::SyncEnd))
}

/// Says on stderr what is still waited for, and whether anybody works on it.
async fn tell(world: &World, objects: &[Waited]) -> anyhow::Result<()> {
    let nodes = world.nodes().await?;
    let open: Vec<_> = objects.iter().filter(|one| one.end().is_none()).collect();
    for one in open.iter().take(NAMED_MAX) {
        let stands = match one.as_task() {
            Some(task) => words::stands(task, &nodes, world.now()),
            None => one.stands().to_owned(),
        };
        output::note(format!("waiting for {}: {stands}", one.name));
    }
    if let more @ 1.. = open.len().saturating_sub(NAMED_MAX) {
        output::note(format!("and for {more} more"));
    }
    if world.worker()?.is_none() {
        output::note(format!("nobody works on this store: {}", world.command("up")));
    }
    Ok(())
}

/// What whoever waits is told.
struct Told {
    output: RunOutput,
    stream: Option<Stream<io::Stdout>>,
    /// Why the stream cannot be written any more.
    broken: Option<io::Error>,
}

impl Told {
    fn facts(&mut self, facts: &[Fact], world: &World) {
        for fact in facts {
            self.write(|stream| stream.fact(fact, world.clock.wall()));
        }
    }

    fn pulse(&mut self, world: &World) {
        self.write(|stream| stream.heartbeat(world.clock.wall()));
    }

    fn write(&mut self, write: impl FnOnce(&mut Stream<io::Stdout>) -> io::Result<()>) {
        if self.broken.is_none()
            && let Some(stream) = &mut self.stream
        {
            self.broken = write(stream).err();
        }
    }

    /// An object has ended.
    fn line(&self, one: &Waited, end: &End) {
        if self.output == RunOutput::Text
            && let Err(error) = output::line(format!("{} {}", one.name, end.words))
        {
            // The exit code says it, too.
            tracing::debug!(%error, "stdout is closed");
        }
    }

    /// The last words.
    fn end(self, why: Why, objects: &[Waited], world: &World) -> anyhow::Result<Exit> {
        let result = result(why, objects, world);
        let exit = exit(why, objects);
        match (self.output, self.stream) {
            (RunOutput::Text, _) => {
                if let Some(error) = &result.error {
                    let open = result.unfinished.join(", ");
                    output::note(format!("{error}; still going: {open}"));
                }
                if !result.next.is_empty() {
                    output::note(format!("next: {}", result.next.join("\n      ")));
                }
                Ok(exit)
            }
            (_, Some(stream)) => {
                let ended = if let Some(error) = self.broken {
                    Err(error)
                } else {
                    stream.finish(single_workload(objects), result, world.clock.wall())
                };
                over(output::written(ended), exit)
            }
            (_, None) => {
                let mut whole = serde_json::to_value(&result)?;
                if let Some(map) = whole.as_object_mut() {
                    map.insert("objects".to_owned(), objects.iter().map(object).collect());
                }
                let text = serde_json::to_string_pretty(&whole)?;
                over(output::line(untrusted::escape_json(&text)), exit)
            }
        }
    }

    /// The stream's result for an error.
    fn failed(self, error: &anyhow::Error) -> anyhow::Result<Exit> {
        let exit = Exit::of(error);
        let next = error.downcast_ref::<Failure>().map_or(&[][..], Failure::hints).to_vec();
        let result = RunResult {
            exit_code: exit.code(),
            next,
            error: Some(format!("{error:#}")),
            ..RunResult::default()
        };
        match self.stream {
            Some(stream) => {
                let time = crate::os_clock::SystemClock::new().wall();
                over(output::written(stream.finish(None, result, time)), exit)
            }
            None => Ok(exit),
        }
    }
}

/// The exit code stands although whoever read the output has gone.
fn over(written: anyhow::Result<()>, exit: Exit) -> anyhow::Result<Exit> {
    match written {
        Err(error) if !error.is::<PipeClosed>() => Err(error),
        Ok(()) | Err(_) => Ok(exit),
    }
}

/// How the process ends.
fn exit(why: Why, objects: &[Waited]) -> Exit {
    match why {
        Why::Stopped(exit) => exit,
        Why::TimedOut => Exit::StillGoing,
        Why::Ended => {
            objects.iter().filter_map(Waited::end).map(|end| end.exit).fold(Exit::OnTarget, worse)
        }
    }
}

fn single_workload(objects: &[Waited]) -> Option<String> {
    match objects {
        [one] if one.kind == AnyKind::Workload => Some(one.key.name.clone()),
        _ => None,
    }
}

fn result(why: Why, objects: &[Waited], world: &World) -> RunResult {
    let exit = exit(why, objects);
    let ends: Vec<_> = objects.iter().map(|one| (one, one.end())).collect();
    let worst = ends.iter().filter_map(|(_, end)| end.as_ref()).find(|end| end.exit == exit);
    let (branch, commit) = match objects {
        [one] => one.result(),
        _ => (None, None),
    };
    let mut usage = UsageTotal::default();
    for one in objects {
        let more = one.usage();
        usage.turns += more.turns;
        usage.input += more.input;
        usage.cached += more.cached;
        usage.output += more.output;
    }
    let missed = ends.iter().filter(|(_, end)| {
        end.as_ref().is_some_and(|end| end.exit != Exit::OnTarget && end.words != "was deleted")
    });
    RunResult {
        finished: worst.and_then(|end| end.finished.clone()),
        verified: exit == Exit::OnTarget && objects.iter().all(Waited::verified),
        exit_code: exit.code(),
        branch,
        commit,
        pull_request: None,
        usage,
        unfinished: ends
            .iter()
            .filter(|(_, end)| end.as_ref().is_none_or(|end| end.exit == Exit::NeedsPerson))
            .map(|(one, _)| one.name.clone())
            .collect(),
        next: missed
            .map(|(one, _)| world.command(&format!("explain {}", one.name)))
            .take(3)
            .collect(),
        error: match why {
            Why::Ended => None,
            Why::TimedOut => Some("the wait timed out".to_owned()),
            Why::Stopped(_) => Some("interrupted".to_owned()),
        },
    }
}

/// What became of one object, for machines.
fn object(one: &Waited) -> serde_json::Value {
    let end = one.end();
    json!({
        "object": one.name,
        "namespace": one.key.namespace,
        "finished": end.as_ref().and_then(|end| end.finished.clone()),
        "message": end.as_ref().map(|end| end.words.clone()),
        "exitCode": end.map_or(Exit::StillGoing, |end| end.exit).code(),
    })
}
