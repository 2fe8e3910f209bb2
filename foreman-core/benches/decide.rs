//! The scheduler and the control loops, without a store: `cargo bench -p foreman-core --bench decide`.
//! An argument picks the benches whose name has it. The table in docs/benchmarks.md is made by
//! `cargo xtask bench` from the same workloads, with percentiles, memory and instruction counts.
#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use foreman_core::schedule::scheduler::decide_with;
use foreman_core::testkit::load::{self, Size, World, fleet, full_fleet, modest, pass, picky, row};

const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(2);
const SAMPLES: usize = 10;

/// Every node is full or does not match, so every one of them refuses.
fn decision(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision, all refuse");
    for nodes in [10, 100, 1_000, 10_000] {
        let fleet = full_fleet(nodes);
        let need = picky();
        group.bench_function(BenchmarkId::from_parameter(nodes), |bench| {
            bench.iter(|| {
                decide_with(fleet.snapshot(), &need, |one| {
                    black_box(one);
                })
            });
        });
    }
    group.finish();
}

fn drain(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("drain, 1000 nodes with one slot");
    for tasks in [10, 1_000, 10_000, 100_000] {
        group.throughput(Throughput::Elements(u64::try_from(tasks).expect("small")));
        let turns = load::turns(tasks);
        let full = || {
            let mut fleet = fleet(1_000, 1);
            load::wait(&mut fleet, &turns, &modest());
            fleet
        };
        group.bench_function(BenchmarkId::from_parameter(tasks), |bench| {
            bench.iter_batched(full, |mut fleet| load::drain(&mut fleet), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// One run ends while many wait: one node is tried, not the fleet. The run that comes in goes back
/// to the queue, so that each time finds the same.
fn one_ends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one of 1000 runs ends while so many wait");
    for tasks in [10, 1_000, 10_000, 100_000] {
        let mut fleet = fleet(1_000, 1);
        let turns = load::turns(tasks + 1_000);
        load::wait(&mut fleet, &turns, &modest());
        let mut last = pass(&mut fleet).pop().expect("one runs");
        let mut turn = turns.iter().find(|turn| turn.key().name == last.as_str());
        group.bench_function(BenchmarkId::from_parameter(tasks), |bench| {
            bench.iter(|| {
                fleet.let_go(&last);
                let placed = pass(&mut fleet).pop().expect("the next one comes in");
                let back = turn.take().expect("it waited");
                load::wait(&mut fleet, std::slice::from_ref(back), &modest());
                turn = turns.get(load::number_of(&placed));
                last = placed;
            });
        });
    }
    group.finish();
}

fn heartbeat(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a heartbeat that changes nothing, 10000 wait");
    for nodes in [10, 1_000, 10_000] {
        let mut fleet = fleet(nodes, 1);
        load::wait(&mut fleet, &load::turns(10_000), &picky());
        pass(&mut fleet);
        group.bench_function(BenchmarkId::from_parameter(nodes), |bench| {
            bench.iter(|| (fleet.node_changed(row(0, 1)), pass(&mut fleet)));
        });
    }
    group.finish();
}

/// A pass of the control loops in which one node has a little less memory free.
fn whole_pass(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a pass, one node changed, 10 tasks a node");
    for nodes in [10, 100, 1_000, 10_000] {
        let mut world = World::new(Size { nodes, live: nodes * 10, ended: 0 });
        world.rest();
        let mut free_gb = load::FREE_GB;
        group.bench_function(BenchmarkId::from_parameter(nodes), |bench| {
            bench.iter(|| {
                free_gb = if free_gb == load::FREE_GB { free_gb - 1 } else { load::FREE_GB };
                world.beats(0, free_gb);
                world.run()
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(SAMPLES)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURED)
        .configure_from_args();
    for bench in [decision, drain, one_ends, heartbeat, whole_pass] {
        bench(&mut criterion);
    }
    criterion.final_summary();
}
