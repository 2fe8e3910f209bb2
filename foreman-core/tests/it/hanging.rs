//! Claims that hang although their node lives.

use std::time::Duration;

use foreman_core::model::agentic_task::AttemptEnd;
use foreman_core::model::condition::is_true;
use foreman_core::model::fleet_node::RunSummary;
use foreman_core::model::{FleetNode, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock};

use crate::claims::{beat_with, claim, first_end, pass_beating, pass_running, strikes};
use crate::lab::{Lab, freeform, settle};
use crate::liveness::{add_node, beat_of, beside, pass};

#[tokio::test]
async fn a_healthy_node_that_does_not_claim_loses_the_placement_without_a_strike() {
    let lab = Lab::new();
    for name in ["a", "b"] {
        add_node(&lab, name).await;
        beat_of(&lab, name, "s", "Ready").await;
    }
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        assert_eq!(lab.task_now("t").await.status.assigned_node.as_deref(), Some("a"));
        pass_beating(&lab, 59, &["a", "b"]).await;
        assert_eq!(lab.task_now("t").await.status.assigned_node.as_deref(), Some("a"));
        pass_beating(&lab, 3, &["a", "b"]).await;
        let task = lab.task_now("t").await;
        assert_eq!(task.status.assigned_node.as_deref(), Some("b"), "the other one is tried");
        assert_eq!(strikes(&task), (None, None));
        pass_beating(&lab, 70, &["a", "b"]).await;
        let task = lab.task_now("t").await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Pending), "both for five minutes");
        pass_beating(&lab, 240, &["a", "b"]).await;
        assert_eq!(lab.task_now("t").await.status.assigned_node.as_deref(), Some("a"));
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_from_before_a_clock_was_set_back_is_not_newer_than_a_claim() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    let ahead = lab.clock.wall().plus(Duration::from_secs(20));
    let beat = |at| {
        let runs: [RunSummary; 0] = [];
        Change::<FleetNode>::of(Part::Status)
            .set("session", "s")
            .set("phase", "Ready")
            .set("runs", runs)
            .set("lastHeartbeatTime", at)
    };
    lab.patch_node("n", beat(ahead)).await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        // The clock is right now, so that the claim reads older than the heartbeat before it.
        claim(&lab, "t", "n", Some("s")).await;
        settle().await;
        // These were on their way to us when the claim was made; the next one shows the run.
        for late in 21..24 {
            lab.patch_node("n", beat(lab.clock.wall().plus(Duration::from_secs(late)))).await;
            settle().await;
            let task = lab.task_now("t").await;
            let found = (task.status.known_phase(), strikes(&task));
            assert_eq!(found, (Some(TaskPhase::Running), (None, None)));
        }
        let task = lab.task_now("t").await;
        pass_running(&lab, 90, "n", &[(&task, 1)]).await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
    })
    .await;
}

#[tokio::test]
async fn a_run_that_its_node_no_longer_shows_goes_back_after_two_heartbeats() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        pass(&lab, 10).await;
        let task = lab.task_now("t").await;
        beat_with(&lab, "n", "s", &[(&task, 1)]).await;
        pass(&lab, 30).await;
        beat_with(&lab, "n", "s", &[]).await;
        pass(&lab, 30).await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
        beat_with(&lab, "n", "s", &[]).await;
        settle().await;
        let task = lab.task_now("t").await;
        assert_eq!(strikes(&task), (Some("1"), Some("1/")));
        assert_eq!(first_end(&task.status), Some(AttemptEnd::Missing));
    })
    .await;
}

#[tokio::test]
async fn a_run_that_does_not_move_is_said_to_be_stuck_and_lives() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    let stuck = || async { is_true(&lab.task_now("t").await.status.conditions, "Stuck") };
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        pass(&lab, 1).await;
        let task = lab.task_now("t").await;
        beat_with(&lab, "n", "s", &[(&task, 1)]).await;
        pass_beating(&lab, 1790, &["n"]).await;
        assert!(!stuck().await);
        pass_beating(&lab, 20, &["n"]).await;
        assert!(stuck().await);
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
        let before = lab.task_now("t").await;
        pass_beating(&lab, 60, &["n"]).await;
        assert_eq!(lab.task_now("t").await.revision(), before.revision(), "said once");
        beat_with(&lab, "n", "s", &[(&task, 2)]).await;
        settle().await;
        assert!(!stuck().await);
    })
    .await;
}

#[tokio::test]
async fn the_operator_ends_what_the_holder_does_not() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    let slots = Change::<FleetNode>::of(Part::Spec).set("slots", 2);
    lab.patch_node("n", slots).await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        let mut limited = freeform(None);
        limited.timeout_seconds = Some(60);
        lab.task("late", limited).await;
        lab.task("cancelled", freeform(None)).await;
        settle().await;
        for name in ["late", "cancelled"] {
            claim(&lab, name, "n", Some("s")).await;
        }
        let (late, cancelled) = (lab.task_now("late").await, lab.task_now("cancelled").await);
        let runs = [(&late, 1), (&cancelled, 1)];
        pass(&lab, 1).await;
        beat_with(&lab, "n", "s", &runs).await;
        lab.set_spec("cancelled", "cancel", true).await;
        pass_running(&lab, 58, "n", &runs).await;
        assert_eq!(lab.phase("cancelled").await, Some(TaskPhase::Running), "the agent ends it");
        pass_running(&lab, 5, "n", &runs).await;
        let status = lab.task_now("cancelled").await.status;
        assert_eq!(status.known_phase(), Some(TaskPhase::Failed));
        assert!(is_true(&status.conditions, "Cancelled"));
        pass_running(&lab, 114, "n", &runs).await;
        assert_eq!(lab.phase("late").await, Some(TaskPhase::Running));
        pass_running(&lab, 5, "n", &runs).await;
        let status = lab.task_now("late").await.status;
        assert_eq!(status.known_phase(), Some(TaskPhase::Failed));
        assert_eq!(first_end(&status), Some(AttemptEnd::TimedOut));
        assert_eq!(status.failure_reason.expect("said").to_string(), "Timeout");
    })
    .await;
}
