//! What the control loop writes, when, and that it comes to rest. Writes are counted, never time.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::control::{ControlSettings, Elector, Reconciler};
use foreman_core::memory::MemoryLeases;
use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::shared::RequiredCapability;
use foreman_core::model::{
    AgenticTask, Capability, FleetNode, FleetNodeSpec, Key, NewObject, TaskPhase, WorkloadSpec,
};
use foreman_core::ports::recorder::LogRecorder;
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Store, StoreError};
use foreman_core::testkit::fault::Operation;
use foreman_core::testkit::sim::SimEntropy;
use tokio::sync::watch;

use crate::lab::{Lab, add_workload, away, freeform, in_time, pipeline, settle};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A node of ours with so many slots, which beats when [`beat`] is called.
async fn node(lab: &Lab, name: &str, slots: i32) {
    let spec =
        FleetNodeSpec { node_name: name.into(), slots: Some(slots), ..FleetNodeSpec::default() };
    let new = NewObject::<FleetNode>::new(Key::cluster(name), spec);
    Store::create(&*lab.store, new).await.expect("created");
    let change = Change::<FleetNode>::of(Part::Status)
        .set("phase", "Ready")
        .set("session", "s")
        .set("capability", Capability::default());
    lab.patch_node(name, change).await;
    beat(lab, name).await;
}

async fn beat(lab: &Lab, name: &str) {
    let change = Change::<FleetNode>::of(Part::Status).set("lastHeartbeatTime", lab.clock.wall());
    lab.patch_node(name, change).await;
}

/// Writes that the control loop asked any store for.
fn writes(lab: &Lab) -> usize {
    let count = |operation| {
        lab.tasks.calls_of(operation).len()
            + lab.workloads.calls_of(operation).len()
            + lab.nodes.calls_of(operation).len()
    };
    count(Operation::Patch) + count(Operation::Create) + count(Operation::Delete)
}

fn forget_calls(lab: &Lab) {
    lab.tasks.forget_calls();
    lab.workloads.forget_calls();
    lab.nodes.forget_calls();
}

/// The phases that were written, in order of the calls.
fn phases(lab: &Lab) -> Vec<String> {
    let patches = lab.tasks.calls_of(Operation::Patch).into_iter();
    patches.filter_map(|c| c.patch?["status"]["phase"].as_str().map(str::to_owned)).collect()
}

async fn beside(reconciler: &Reconciler, story: impl Future<Output = ()>) {
    let stop = watch::channel(false).0;
    let story = async {
        story.await;
        stop.send_replace(true);
    };
    in_time(async { tokio::join!(reconciler.run(stop.subscribe()), story) }).await;
}

/// Time passes and the nodes beat.
async fn passes(lab: &Lab, time: Duration, step: Duration, nodes: &[&str]) {
    let (mut passed, mut next) = (Duration::ZERO, HEARTBEAT);
    while passed < time {
        lab.clock.advance(step);
        passed += step;
        if passed >= next {
            next += HEARTBEAT;
            for node in nodes {
                beat(lab, node).await;
            }
        }
        settle().await;
    }
}

fn needs(gigabytes: i32) -> RequiredCapability {
    RequiredCapability { min_ram_gb: Some(gigabytes), ..RequiredCapability::default() }
}

#[tokio::test]
async fn a_time_in_which_nothing_changes_costs_no_write() {
    let lab = Lab::new();
    lab.agent("coder", RequiredCapability::default()).await;
    lab.agent("huge", needs(9999)).await;
    node(&lab, "one", 1).await;
    node(&lab, "two", 2).await;
    for n in 0..6 {
        lab.task(&format!("t{n}"), freeform(Some("coder"))).await;
    }
    lab.task("huge", freeform(Some("huge"))).await;
    lab.task("lost", freeform(Some("nobody"))).await;
    add_workload(&lab, "w", pipeline()).await;
    add_workload(&lab, "intent", WorkloadSpec { intent: "x".into(), ..Default::default() }).await;
    lab.clock.advance(SECOND);
    beside(&lab.reconciler(), async {
        // Unclaimed placements are taken back and placed again, so only those are held by a claim.
        passes(&lab, 10 * SECOND, SECOND, &[]).await;
        for task in lab.tasks().await {
            if task.status.known_phase() == Some(TaskPhase::Scheduled) {
                let name = task.meta.name.clone();
                lab.set_status(&name, |status| {
                    status.phase = Some(TaskPhase::Running.into());
                    status.attempt = Some(1);
                    status.session = Some("s".into());
                })
                .await;
                let node = task.status.assigned_node.clone().expect("placed");
                let runs = serde_json::json!([{"task": task.key().to_string(),
                    "uid": task.meta.uid, "attempt": 1}]);
                let had = lab.node_now(&node).await.expect("there").status.runs;
                let mut all = serde_json::to_value(had).expect("plain");
                if let (Some(all), Some(more)) = (all.as_array_mut(), runs.as_array()) {
                    all.extend(more.iter().cloned());
                }
                let change = Change::<FleetNode>::of(Part::Status).set("runs", all);
                lab.patch_node(&node, change).await;
            }
        }
        passes(&lab, 120 * SECOND, SECOND, &["one", "two"]).await;
        let waiting = lab.task_now("huge").await.status.waiting.expect("it says why");
        assert!(waiting.reason.is_some_and(|r| r.is(WaitingReason::NoMatchingNode)));
        forget_calls(&lab);
        // Not so long that the runs would be said to be stuck.
        passes(&lab, 1500 * SECOND, 10 * SECOND, &["one", "two"]).await;
        assert_eq!(writes(&lab), 0, "{:?} {:?}", lab.tasks.calls(), lab.nodes.calls());
    })
    .await;
}

#[tokio::test]
async fn a_store_that_refuses_every_write_is_asked_ever_more_seldom() {
    let errors = [
        StoreError::Denied { reason: "no".into() },
        StoreError::Invalid { field: "status.waiting".into(), rule: "odd".into() },
        StoreError::Conflict,
        StoreError::Uncertain { reason: "no answer".into() },
        away(),
    ];
    for error in errors {
        let lab = Lab::new();
        let shown = error.to_string();
        node(&lab, "one", 1).await;
        lab.task("t", freeform(None)).await;
        lab.task("lost", freeform(Some("nobody"))).await;
        add_workload(&lab, "w", pipeline()).await;
        lab.tasks.break_down([Operation::Patch, Operation::Create], &error);
        lab.workloads.break_down([Operation::Patch], &error);
        let stop = watch::channel(false).0;
        let reconciler = lab.reconciler();
        let story = async {
            passes(&lab, 3600 * SECOND, 10 * SECOND, &["one"]).await;
            stop.send_replace(true);
        };
        in_time(async { tokio::join!(reconciler.run(stop.subscribe()), story) }).await;
        let tries = writes(&lab);
        assert!(tries > 0 && tries <= 500, "{shown}: {tries} tries in an hour");
    }
}

#[tokio::test]
async fn ten_thousand_tasks_that_arrive_do_not_hold_a_placement_back() {
    const TASKS: usize = 10_000;
    const SLOTS: i32 = 200;
    let lab = Lab::new();
    node(&lab, "one", SLOTS).await;
    lab.agent("huge", needs(9999)).await;
    for n in 0..TASKS {
        let task = NewObject::<AgenticTask>::new(
            Key::namespaced("default", format!("huge-{n:05}")),
            freeform(Some("huge")),
        );
        Store::create(&*lab.store, task).await.expect("created");
    }
    for n in 0..SLOTS {
        lab.task(&format!("small-{n:03}"), freeform(None)).await;
    }
    beside(&lab.reconciler(), async {
        // Not a tick passes: placements do not wait for the lane.
        lab.until(|| async {
            phases(&lab).iter().filter(|phase| *phase == "Scheduled").count() == 200
        })
        .await;
        settle().await;
        let at_once = phases(&lab).iter().filter(|phase| *phase == "Pending").count();
        assert!(at_once <= 50, "{at_once} low-priority writes in no time");
        lab.clock.advance(SECOND);
        settle().await;
        lab.until(|| async { phases(&lab).iter().filter(|p| *p == "Pending").count() > 50 }).await;
        settle().await;
        let then = phases(&lab).iter().filter(|phase| *phase == "Pending").count();
        assert!(then <= 100, "{then} low-priority writes in a second");
    })
    .await;
}

#[tokio::test]
async fn a_changed_reason_is_told_at_once_and_changed_numbers_each_thirty_seconds() {
    let lab = Lab::new();
    node(&lab, "n0", 1).await;
    lab.agent("huge", needs(9999)).await;
    lab.task("t", freeform(Some("huge"))).await;
    let reconciler = lab.reconciler();
    beside(&reconciler, async {
        let waits = |reason| {
            let lab = &lab;
            move || async move {
                let waiting = lab.task_now("t").await.status.waiting;
                waiting.and_then(|w| w.reason).is_some_and(|known| known.is(reason))
            }
        };
        lab.until(waits(WaitingReason::NoMatchingNode)).await;
        settle().await;
        forget_calls(&lab);
        // A node more each second: other numbers, the same reason.
        let names: Vec<String> = (1..=60).map(|n| format!("n{n}")).collect();
        for name in &names {
            node(&lab, name, 1).await;
            passes(&lab, SECOND, TICK, &[]).await;
        }
        let told = lab.tasks.calls_of(Operation::Patch).len();
        assert!((1..=2).contains(&told), "{told} in a minute");
        forget_calls(&lab);
        // Another reason, and not a tick passes.
        lab.set_spec("t", "suspend", true).await;
        lab.until(waits(WaitingReason::Suspended)).await;
        assert_eq!(lab.tasks.calls_of(Operation::Patch).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_that_says_nothing_new_costs_nothing() {
    let lab = Lab::new();
    node(&lab, "one", 1).await;
    beside(&lab.reconciler(), async {
        passes(&lab, 60 * SECOND, SECOND, &["one"]).await;
        forget_calls(&lab);
        passes(&lab, 600 * SECOND, SECOND, &["one"]).await;
        assert_eq!(writes(&lab) + lab.nodes.calls_of(Operation::Get).len(), 0);
    })
    .await;
}

#[tokio::test]
async fn of_several_control_loops_one_acts_and_the_next_goes_on_where_it_left() {
    let lab = Lab::new();
    node(&lab, "one", 8).await;
    let leases = MemoryLeases::new();
    let elector = |seed| {
        let entropy = SimEntropy::new(seed);
        Elector::new(leases.clone(), lab.clock.clone(), &*entropy, "operator")
    };
    let (a, b) = (elector(1), elector(2));
    let reconciler = Reconciler::new(lab.stores.clone(), lab.clock.clone(), Arc::new(LogRecorder))
        .with_settings(ControlSettings { writes_at_once: 4, ..ControlSettings::default() });
    let (stop_a, stop_b) = (watch::channel(false).0, watch::channel(false).0);
    let story = async {
        lab.task("t1", freeform(None)).await;
        lab.until_phase("t1", TaskPhase::Scheduled).await;
        passes(&lab, 20 * SECOND, SECOND, &["one"]).await;
        assert_eq!(phases(&lab), ["Scheduled"], "the other one stands by");
        // Its writes hang: it gives up each within its deadline, and then the lease back.
        lab.tasks.hold(Operation::Patch);
        lab.task("t2", freeform(None)).await;
        settle().await;
        stop_a.send_replace(true);
        passes(&lab, 10 * SECOND, SECOND, &[]).await;
        lab.tasks.let_go(Operation::Patch);
        lab.advance_until(SECOND, || async { lab.phase("t2").await == Some(TaskPhase::Scheduled) })
            .await;
        let record = foreman_core::ports::Leases::read(&*leases).await.expect("read");
        let holder = record.expect("there").record.holder;
        assert_eq!(holder.as_deref(), Some(b.identity()));
        assert_eq!(phases(&lab), ["Scheduled", "Scheduled"]);
        stop_b.send_replace(true);
    };
    let first = reconciler.run_elected(&a, stop_a.subscribe());
    let second = reconciler.run_elected(&b, stop_b.subscribe());
    in_time(async { tokio::join!(first, second, story) }).await;
}
