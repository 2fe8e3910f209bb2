//! The rows about the embedded store.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foreman_core::memory::MemoryStore;
use foreman_core::model::{
    AgenticTask, AgenticTaskPayload, AgenticTaskSpec, Key, NewObject, Revision, TaskKind, TaskPhase,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Query, StoreEvent, Stores};
use foreman_sqlite::SqliteStore;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::other_process::OtherProcess;
use super::report::{Row, per_second, percentiles, rate, time};
use super::system::{MachineClock, MachineEntropy};

/// Where the tasks are.
pub(super) const NAMESPACE: &str = "bench";
/// Tasks in the store.
const TASKS: usize = 10_000;
/// Writes at the same time when the number does not matter.
const WRITERS: usize = 256;
/// How long the floor and the slowest contest are measured.
const FEW: usize = 2_000;
/// Samples of a latency.
const SAMPLES: usize = 500;
/// Samples of the latency across processes, each of which waits for a poll.
const SAMPLES_ACROSS: usize = 100;
/// Bytes of one write of the floor: a page and its frame header, the least that a commit writes.
const FLOOR_BYTES: usize = 4_120;

fn name(number: usize) -> String {
    format!("task-{number:05}")
}

fn key(number: usize) -> Key {
    Key::namespaced(NAMESPACE, name(number))
}

/// Everything, in the order of the table.
pub(super) async fn measure() -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::Builder::new()
        .prefix("foreman-bench-")
        .tempdir_in(target_directory())
        .context("cannot make a directory for the bench")?;
    let path = directory.path().join("foreman.db");
    let floor = floor(&directory.path().join("floor"))?;
    let mut rows = vec![Row::new(
        "the floor: one fdatasync after another",
        format!("{floor:.0}/s"),
        "1 ×",
        "",
    )];
    let began = Instant::now();
    let store = open(&path)?;
    rows.push(Row::new("open a new store", time(began.elapsed()), "", ""));
    let stores = Stores::of(&store);
    writes(&stores, floor, &mut rows).await?;
    reads(&stores, &mut rows).await?;
    watches(&stores, &path, &mut rows).await?;
    drop((stores, store));
    let began = Instant::now();
    let store = open(&path)?;
    rows.push(Row::new("open it with 10 000 tasks", time(began.elapsed()), "", ""));
    drop(store);
    Ok(rows)
}

/// The disk that the checkout is on: a temporary directory may be memory.
fn target_directory() -> std::path::PathBuf {
    let target = crate::repo::root().join("target");
    if target.is_dir() { target } else { crate::repo::root() }
}

fn open(path: &Path) -> anyhow::Result<Arc<SqliteStore>> {
    Ok(SqliteStore::open(path, MachineClock::new(), MachineEntropy::new())?)
}

/// Durable writes a second that the disk takes, one after another.
fn floor(path: &Path) -> anyhow::Result<f64> {
    let mut file = std::fs::File::create(path).context("cannot make a file")?;
    let block = vec![0_u8; FLOOR_BYTES];
    let began = Instant::now();
    for _ in 0..FEW {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    Ok(per_second(FEW, began.elapsed()))
}

async fn create_all(stores: &Stores) -> anyhow::Result<Vec<Revision>> {
    let prompt = "Fix the flaky test in the scheduler and say what was wrong with it. ".repeat(6);
    let creates = (0..TASKS).map(|number| {
        let payload = AgenticTaskPayload {
            repo: Some("octo/widgets".to_owned()),
            issue: Some(17),
            prompt: Some(prompt.clone()),
            ..AgenticTaskPayload::default()
        };
        let spec = AgenticTaskSpec::new(TaskKind::IssueFix, payload);
        let new = NewObject::new(key(number), spec).label("foreman.llmkube.dev/workload", "bench");
        let tasks = stores.tasks.clone();
        async move { Ok::<_, anyhow::Error>(tasks.create(new).await?.revision().clone()) }
    });
    let mut revisions = Vec::new();
    let mut creates = stream::iter(creates).buffered(WRITERS);
    while let Some(revision) = creates.next().await {
        revisions.push(revision?);
    }
    Ok(revisions)
}

/// A placement, as the scheduler writes it.
fn placement(round: usize, number: usize) -> Change<AgenticTask> {
    Change::of(Part::Status)
        .set("phase", TaskPhase::Scheduled)
        .set("assignedNode", format!("node-{}-{}", round, number % 100))
        .set("allowance", 100_000)
        .clear("waiting")
}

/// Places `count` tasks, so many at a time, each under compare-and-swap.
async fn place(
    stores: &Stores,
    revisions: &mut [Revision],
    round: usize,
    count: usize,
    at_once: usize,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let writes = revisions.iter_mut().take(count).enumerate().map(|(number, revision)| {
        let tasks = stores.tasks.clone();
        async move {
            let at = Expect::At(revision.clone());
            let placed = tasks.patch(&key(number), placement(round, number), at).await?;
            *revision = placed.revision().clone();
            Ok::<_, anyhow::Error>(())
        }
    });
    let mut writes = stream::iter(writes).buffer_unordered(at_once);
    while let Some(placed) = writes.next().await {
        placed?;
    }
    Ok(began.elapsed())
}

async fn writes(stores: &Stores, floor: f64, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let against = |rate: f64| format!("{:.1} × the floor", rate / floor);
    let began = Instant::now();
    let mut revisions = create_all(stores).await?;
    let took = began.elapsed();
    let ratio = against(per_second(TASKS, took));
    rows.push(Row::new("create 10 000 tasks, 256 at a time", rate(TASKS, took), ratio, ""));
    let contests = [
        (1, FEW, "place, one at a time", ""),
        (64, TASKS, "place, 64 at a time", ""),
        (256, TASKS, "place, 256 at a time", "≥ 20 000/s"),
    ];
    let mut last = 0.0;
    for (round, (writers, count, work, target)) in contests.into_iter().enumerate() {
        let took = place(stores, &mut revisions, round, count, writers).await?;
        last = per_second(count, took);
        rows.push(Row::new(work, rate(count, took), against(last), target));
    }
    let memory = Stores::of(&MemoryStore::new(MachineClock::new()));
    let mut revisions = create_all(&memory).await?;
    let took = place(&memory, &mut revisions, 0, TASKS, WRITERS).await?;
    let ratio = format!("the file is {:.2} × as fast", last / per_second(TASKS, took));
    rows.push(Row::new("the same in memory, not durable", rate(TASKS, took), ratio, ""));
    Ok(())
}

async fn reads(stores: &Stores, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for sample in 0..FEW {
        let began = Instant::now();
        let found = stores.tasks.get(&key(sample * 7_919 % TASKS)).await?;
        samples.push(began.elapsed());
        found.context("a task is missing")?;
    }
    rows.push(Row::new("get", percentiles(samples), "", ""));
    let queries = [
        ("list 10 000 tasks", Query::all(), TASKS),
        ("list the 100 tasks of a node", Query::all().assigned_to("node-2-7"), TASKS / 100),
        (
            "list by label, all match",
            Query::all().label("foreman.llmkube.dev/workload", "bench"),
            TASKS,
        ),
        ("list by label, none matches", Query::all().label("foreman.llmkube.dev/workload", "x"), 0),
    ];
    for (work, query, wanted) in queries {
        let began = Instant::now();
        let found = stores.tasks.list(&query).await?.objects.len();
        rows.push(Row::new(work, time(began.elapsed()), "", ""));
        if found != wanted {
            bail!("{work}: {found} tasks instead of {wanted}");
        }
    }
    Ok(())
}

type Events = BoxStream<'static, Result<StoreEvent<AgenticTask>, foreman_core::ports::StoreError>>;

async fn next(events: &mut Events) -> anyhow::Result<StoreEvent<AgenticTask>> {
    Ok(events.next().await.context("the watch ended")??)
}

async fn watches(stores: &Stores, path: &Path, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut events = stores.tasks.watch(Query::in_namespace(NAMESPACE));
    while next(&mut events).await? != StoreEvent::SyncEnd {}
    rows.push(Row::new("watch: first reading of 10 000", time(began.elapsed()), "", ""));

    let (mut after_order, mut after_ack) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let change = Change::of(Part::Status).set("attempt", sample + 1);
        let tasks = stores.tasks.clone();
        let began = Instant::now();
        let written = tokio::spawn(async move {
            tasks.patch(&key(1), change, Expect::Any).await.map(|_| Instant::now())
        });
        next(&mut events).await?;
        let told = Instant::now();
        after_ack.push(told.saturating_duration_since(written.await??));
        after_order.push(told.saturating_duration_since(began));
    }
    rows.push(Row::new("patch → own watcher", percentiles(after_order), "", ""));
    let target = "< 1 ms";
    rows.push(Row::new("acknowledged → own watcher", percentiles(after_ack), "", target));

    let mut other = OtherProcess::start(path)?;
    let mut samples = Vec::new();
    for sample in 0..SAMPLES_ACROSS {
        other.order(&name(2), i64::try_from(sample)? + 1)?;
        next(&mut events).await?;
        let told = Instant::now();
        samples.push(told.saturating_duration_since(other.acknowledged()?));
    }
    rows.push(Row::new(
        "acknowledged → watcher across processes",
        percentiles(samples),
        "",
        "≤ 100 ms",
    ));
    Ok(())
}
