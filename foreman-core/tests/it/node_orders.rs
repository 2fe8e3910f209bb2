//! What people want of a node while it runs: drain, slots; and what happens when it wakes from a sleep
//! or another session takes it over.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::control::AgentEnd;
use foreman_core::model::fleet_node::DrainSpec;
use foreman_core::model::{FleetNode, NodePhase, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Stop};
use foreman_core::testkit::fault::Operation;
use foreman_core::testkit::scripted::ScriptedExecutor;

use crate::lab::{Lab, freeform, settle};
use crate::runs::{noting, obeys, told, until_told};

const STEP: Duration = Duration::from_secs(5);

async fn drain(lab: &Lab, seconds: i64) {
    let drain = DrainSpec { deadline_seconds: Some(seconds) };
    lab.patch_node("one", Change::<FleetNode>::of(Part::Spec).set("drain", drain)).await;
}

async fn undrain(lab: &Lab) {
    lab.patch_node("one", Change::<FleetNode>::of(Part::Spec).clear("drain")).await;
}

async fn slots(lab: &Lab, slots: i32) {
    lab.patch_node("one", Change::<FleetNode>::of(Part::Spec).set("slots", slots)).await;
}

async fn node_phase(lab: &Lab) -> Option<NodePhase> {
    let phase = lab.node_now("one").await.expect("there").status.phase;
    phase.and_then(|phase| phase.known())
}

async fn until_node_phase(lab: &Lab, phase: NodePhase) {
    lab.advance_until(STEP, || async { node_phase(lab).await == Some(phase) }).await;
}

/// Somebody placed it here, whatever the rules say.
pub(crate) async fn placed(lab: &Lab, name: &str) {
    lab.task(name, freeform(None)).await;
    lab.set_status(name, |status| {
        status.phase = Some(TaskPhase::Scheduled.into());
        status.assigned_node = Some("one".into());
    })
    .await;
}

async fn ends(lab: &Lab, name: &str) -> Vec<String> {
    let attempts = lab.task_now(name).await.status.attempts.into_iter();
    attempts.map(|one| one.ended.map(|ended| ended.to_string()).unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_drain_by_spec_lets_runs_finish_until_its_deadline_and_then_hands_over() {
    let lab = Lab::new();
    let executor = until_told();
    let foreman = lab.one_node(2, &executor);
    lab.task("t", freeform(None)).await;
    let end = lab
        .run(&foreman, async {
            lab.until_phase("t", TaskPhase::Running).await;
            drain(&lab, 600).await;
            until_node_phase(&lab, NodePhase::Draining).await;
            let since = lab.node_now("one").await.expect("there").status.drain_since;
            placed(&lab, "late").await;
            lab.until_phase("late", TaskPhase::Pending).await;
            let late = lab.task_now("late").await.status;
            assert_eq!(
                (late.attempt, late.attempts.len()),
                (None, 0),
                "a refusal is no try, so there is no strike to count"
            );
            for _ in 0..116 {
                lab.clock.advance(STEP);
                settle().await;
            }
            assert_eq!(lab.phase("t").await, Some(TaskPhase::Running), "it may still finish");
            lab.advance_until(STEP, || async { lab.phase("t").await == Some(TaskPhase::Pending) })
                .await;
            assert_eq!(ends(&lab, "t").await, ["Drained"]);
            let node = lab.node_now("one").await.expect("there").status;
            assert_eq!(node.drain_since, since, "counted from the first sight");
            lab.advance_until(STEP, || async {
                lab.node_now("one").await.expect("there").status.runs.is_empty()
            })
            .await;
            assert_eq!(node_phase(&lab).await, Some(NodePhase::Draining), "it stays, and beats");
            undrain(&lab).await;
            lab.advance_until(STEP, || async {
                lab.phase("t").await == Some(TaskPhase::Running)
                    && lab.phase("late").await == Some(TaskPhase::Running)
            })
            .await;
            let node = lab.node_now("one").await.expect("there").status;
            assert_eq!(
                (node.phase.and_then(|it| it.known()), node.drain_since),
                (Some(NodePhase::Ready), None)
            );
        })
        .await;
    assert_eq!(end, AgentEnd::Drained);
}

#[tokio::test]
async fn a_drain_that_is_over_is_seen_before_a_placement_is_refused() {
    let lab = Lab::new();
    let foreman = lab.one_node(1, &until_told());
    lab.run(&foreman, async {
        lab.until(|| async { lab.node_now("one").await.is_some() }).await;
        drain(&lab, 600).await;
        until_node_phase(&lab, NodePhase::Draining).await;
        settle().await;
        undrain(&lab).await;
        // No beat in between: the clock stands still.
        placed(&lab, "t").await;
        lab.until_phase("t", TaskPhase::Running).await;
    })
    .await;
}

#[tokio::test]
async fn fewer_slots_end_no_run_and_more_are_used_as_soon_as_they_are_seen() {
    let lab = Lab::new();
    let executor = until_told();
    let foreman = lab.one_node(2, &executor);
    lab.task("a", freeform(None)).await;
    lab.task("b", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("a", TaskPhase::Running).await;
        lab.until_phase("b", TaskPhase::Running).await;
        slots(&lab, 0).await;
        let shown = || async {
            let capacity = lab.node_now("one").await.expect("there").status.capacity;
            capacity.and_then(|capacity| capacity.slots)
        };
        lab.advance_until(STEP, || async { shown().await == Some(0) }).await;
        placed(&lab, "c").await;
        lab.until_phase("c", TaskPhase::Pending).await;
        for name in ["a", "b"] {
            assert_eq!(lab.phase(name).await, Some(TaskPhase::Running), "{name} goes on");
        }
        // The next placement finds out by itself that there is room again.
        slots(&lab, 3).await;
        placed(&lab, "d").await;
        lab.until_phase("d", TaskPhase::Running).await;
        lab.advance_until(STEP, || async { shown().await == Some(3) }).await;
    })
    .await;
}

#[tokio::test]
async fn a_machine_that_wakes_looks_at_its_claims_although_the_watch_is_silent() {
    let lab = Lab::new();
    let (executor, stops) = noting(obeys);
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        settle().await;
        lab.tasks.forget_calls();
        lab.nodes.forget_calls();
        lab.clock.asleep(Duration::from_secs(6));
        lab.advance_until(Duration::from_secs(1), || async {
            !lab.tasks.calls_of(Operation::Get).is_empty()
        })
        .await;
        let beats = lab.nodes.calls_of(Operation::Patch);
        assert!(!beats.is_empty(), "it beat as well, long before the next one was due");
        assert!(stops.lock().expect("no panic").is_empty(), "the claim holds: the run goes on");
    })
    .await;
    assert!(matches!(stops.lock().expect("no panic").as_slice(), [Stop::Drain { .. }]));
}

#[tokio::test]
async fn a_superseded_agent_stops_its_runs_and_writes_nothing_more() {
    struct Gone(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let lab = Lab::new();
    let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dropped = gone.clone();
    let executor = ScriptedExecutor::new(move |run| {
        let gone = Gone(dropped.clone());
        Box::pin(async move {
            let stop = told(&run).await;
            drop(gone);
            obeys(&run, stop)
        })
    });
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    let story = async {
        lab.until_phase("t", TaskPhase::Running).await;
        settle().await;
        let comes_up = Change::of(Part::Status).set("session", "other").set("phase", "Unknown");
        lab.patch_node("one", comes_up).await;
        lab.tasks.forget_calls();
        for _ in 0..7 {
            lab.clock.advance(STEP);
            settle().await;
        }
        assert!(gone.load(std::sync::atomic::Ordering::SeqCst), "the run is stopped");
    };
    let end = lab.run(&foreman, story).await;
    assert_eq!(end, AgentEnd::Left);
    assert!(lab.tasks.calls_of(Operation::Patch).is_empty(), "and nothing is written of its task");
    assert_eq!(lab.phase("t").await, Some(TaskPhase::Running), "the other session adopts it");
    let session = lab.node_now("one").await.expect("there").status.session;
    assert_eq!(session.as_deref(), Some("other"));
}
