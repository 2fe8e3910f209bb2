//! The scheduler without a store: one decision, a drain, an idle heartbeat. Prints a table.
//! `cargo bench -p foreman-core --bench decide`; an argument picks the rows whose name has it, so
//! that one of them can be counted by valgrind.
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::expect_used, reason = "names and manifests of a bench are valid")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the machine's clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

use foreman_core::model::{AgenticTask, AwakeTime, Key, NodeName, NodePhase, Object, Uid};
use foreman_core::schedule::fleet::Fleet;
use foreman_core::schedule::order::{Turn, turn};
use foreman_core::schedule::scheduler::decide_with;
use foreman_core::schedule::{Alike, Need, NodeRow, Refusals, Reservation};

/// Samples of one decision.
const SAMPLES: usize = 400;

fn row(number: usize, slots: usize) -> NodeRow {
    NodeRow {
        name: NodeName::parse(&format!("node-{number:05}")).expect("valid"),
        labels: BTreeMap::from([("zone".into(), format!("z{}", number % 4))]),
        roles: vec!["coder".into(), "reviewer".into()],
        phase: Some(NodePhase::Ready),
        fresh: true,
        cordoned: number % 16 == 15,
        refusing: false,
        note: None,
        slots,
        accelerator: Some(if number.is_multiple_of(2) { "cuda" } else { "metal" }.to_owned()),
        capacity_ram_gb: Some(64),
        available_ram_gb: Some(60),
        context_tokens: 32_768,
        models: BTreeSet::from(["qwen".to_owned()]),
        loaded: BTreeSet::new(),
        tokens_per_second: 0,
        namespaces: BTreeSet::new(),
        running: BTreeSet::new(),
    }
}

fn need() -> Need {
    Need {
        uid: Uid::new(""),
        namespace: "default".into(),
        accelerator: Some("cuda".into()),
        ram_gb: 4,
        context_tokens: 16_384,
        model: Some("qwen".into()),
        model_installed: false,
        labels: BTreeMap::from([("zone".into(), "z0".into())]),
        roles: vec!["coder".into()],
        journal: None,
        only: None,
        last_resort: None,
    }
}

fn anywhere() -> Need {
    Need { accelerator: None, labels: BTreeMap::new(), ram_gb: 0, ..need() }
}

fn turns(count: usize) -> Vec<Turn> {
    let mut task: Object<AgenticTask> = Object::from_json(&serde_json::json!({
        "metadata": {"name": "t", "namespace": "default", "uid": "t", "resourceVersion": "1"},
        "spec": {"kind": "issue-fix", "payload": {}}}))
    .expect("valid");
    let make = |number| {
        task.meta.name = format!("task-{number:06}");
        turn(&task)
    };
    (0..count).map(make).collect()
}

fn fleet(nodes: usize, slots: usize) -> Fleet {
    let mut fleet = Fleet::default();
    for number in 0..nodes {
        fleet.node_changed(row(number, slots));
    }
    fleet
}

fn wait(fleet: &mut Fleet, turns: &[Turn], need: &Need) {
    for turn in turns {
        let alike = Alike { need: need.clone(), agent: None, workload: None };
        fleet.wait(turn.key(), &Uid::new(turn.key().name.as_str()), turn.clone(), alike);
    }
}

/// One pass of the scheduler; answers with whom it placed.
fn pass(fleet: &mut Fleet) -> Vec<Uid> {
    let mut placed = Vec::new();
    let mut round = fleet.begin(AwakeTime::default());
    while let Some(next) = fleet.next(&mut round) {
        if fleet.place(&mut round, &next).is_some() {
            placed.push(next.uid);
        }
    }
    black_box(fleet.end(round));
    placed
}

fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

/// Every node is full or does not match, so every one of them refuses.
fn one_decision(nodes: usize) {
    let mut fleet = fleet(nodes, 1);
    let names: Vec<_> = fleet.snapshot().nodes().map(|node| node.name.clone()).collect();
    for (number, node) in names.into_iter().enumerate() {
        let held = Reservation { task: Key::cluster("held"), ram_gb: 8 };
        fleet.hold(&Uid::new(format!("held-{number}")), None, Some((node, held)));
    }
    wait(&mut fleet, &turns(1), &need());
    let mut refusals: Vec<Refusals> = Vec::with_capacity(nodes);
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        refusals.clear();
        let began = Instant::now();
        black_box(decide_with(fleet.snapshot(), &need(), |one| refusals.push(one)));
        samples.push(began.elapsed());
        assert!(refusals.iter().all(|one| !one.is_empty()));
    }
    let (half, most) = (percentile(&mut samples, 50), percentile(&mut samples, 99));
    println!("one decision, {nodes} nodes, all refusals: p50 {half:?}, p99 {most:?}");
}

/// All find room in one pass.
fn drain_at_once(tasks: usize, nodes: usize) {
    let mut fleet = fleet(nodes, tasks.div_ceil(nodes) * 2);
    wait(&mut fleet, &turns(tasks), &anywhere());
    let began = Instant::now();
    let placed = pass(&mut fleet).len();
    let took = began.elapsed();
    assert_eq!(placed, tasks);
    per_second(&format!("{tasks} tasks wait, {nodes} nodes, room for all"), tasks, took);
}

/// One slot a node, and every run ends before the next pass.
fn drain_in_rounds(tasks: usize, nodes: usize) {
    let mut fleet = fleet(nodes, 1);
    wait(&mut fleet, &turns(tasks), &anywhere());
    let began = Instant::now();
    let mut placed = 0;
    while placed < tasks {
        let ended = pass(&mut fleet);
        placed += ended.len();
        for uid in &ended {
            fleet.let_go(uid);
        }
    }
    per_second(
        &format!("{tasks} tasks wait, {nodes} nodes, one slot each"),
        tasks,
        began.elapsed(),
    );
}

/// One run ends at a time while many wait: one node is tried, not the fleet.
fn one_ends(tasks: usize, nodes: usize) {
    let mut fleet = fleet(nodes, 1);
    wait(&mut fleet, &turns(tasks + nodes), &anywhere());
    let mut running = pass(&mut fleet);
    let began = Instant::now();
    for _ in 0..SAMPLES {
        let uid = running.pop().expect("runs");
        fleet.let_go(&uid);
        running.splice(0..0, pass(&mut fleet));
    }
    let each = began.elapsed() / u32::try_from(SAMPLES).unwrap_or(1);
    println!("one of {nodes} runs ends while {tasks} wait: {each:?} to the next placement");
}

fn idle_heartbeat(nodes: usize, tasks: usize) {
    let mut fleet = fleet(nodes, 1);
    wait(&mut fleet, &turns(tasks), &need());
    pass(&mut fleet);
    let began = Instant::now();
    for number in 0..SAMPLES {
        assert!(!fleet.node_changed(row(number % nodes, 1)));
        assert!(pass(&mut fleet).is_empty());
    }
    let each = began.elapsed() / u32::try_from(SAMPLES).unwrap_or(1);
    println!("a heartbeat that changes nothing, {nodes} nodes, {tasks} wait: {each:?}");
}

fn per_second(what: &str, count: usize, took: Duration) {
    let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64();
    println!("{what}: {rate:.0} placements/s ({took:?})");
}

fn main() {
    let only: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part));
    if wanted("decision") {
        for nodes in [10, 100, 1_000, 10_000] {
            one_decision(nodes);
        }
    }
    if wanted("drain") {
        for tasks in [10, 1_000, 10_000, 100_000] {
            drain_at_once(tasks, 1_000);
        }
        for tasks in [1_000, 10_000, 100_000] {
            drain_in_rounds(tasks, 1_000);
        }
    }
    if wanted("ends") {
        for tasks in [10, 10_000, 100_000] {
            one_ends(tasks, 1_000);
        }
    }
    if wanted("heartbeat") {
        for nodes in [10, 1_000, 10_000] {
            idle_heartbeat(nodes, 10_000);
        }
    }
}
