//! What becomes of claims whose holders die, come back as others, or do nothing.

use foreman_core::model::agentic_task::{
    AgenticTaskStatus, AttemptEnd, AttemptRecord, RetrySpec, WaitingReason,
};
use foreman_core::model::condition::{find_condition, is_true};
use foreman_core::model::fleet_node::RunSummary;
use foreman_core::model::open::Open;
use foreman_core::model::wellknown::{ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_STRUCK};
use foreman_core::model::{AgenticTask, FleetNode, Object, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Store};
use foreman_core::testkit::fault::{Fault, Operation};

use crate::lab::{Lab, freeform, settle};
use crate::liveness::{add_node, beat, beat_of, beside, pass};

/// The strikes of a task and the claim that the last one was for.
pub(crate) fn strikes(task: &Object<AgenticTask>) -> (Option<&str>, Option<&str>) {
    let note = |name: &str| task.meta.annotations.get(name).map(String::as_str);
    (note(ANNOTATION_CLAIM_EXPIRIES), note(ANNOTATION_STRUCK))
}

/// How the first claim of a task ended.
pub(crate) fn first_end(status: &AgenticTaskStatus) -> Option<AttemptEnd> {
    status.attempts[0].ended.as_ref().and_then(Open::known)
}

/// The test's agent on `node` claims a task that is placed there.
pub(crate) async fn claim(lab: &Lab, name: &str, node: &str, session: Option<&str>) {
    let now = lab.clock.wall();
    lab.set_status(name, |status| {
        assert_eq!(status.assigned_node.as_deref(), Some(node), "{name} is placed");
        status.phase = Some(TaskPhase::Running.into());
        status.session = session.map(ToOwned::to_owned);
        status.claimed_at = Some(now);
        status.started_at = Some(now);
        if session.is_some() {
            let attempt = status.attempt.unwrap_or(0) + 1;
            status.attempt = Some(attempt);
            status.attempts.push(AttemptRecord {
                attempt: Some(attempt),
                node: Some(node.into()),
                started_at: Some(now),
                ..AttemptRecord::default()
            });
        }
    })
    .await;
}

/// A heartbeat of an agent of ours with the runs that it shows: uid, attempt, turn.
pub(crate) async fn beat_with(
    lab: &Lab,
    name: &str,
    session: &str,
    runs: &[(&Object<AgenticTask>, i64)],
) {
    let runs: Vec<_> = runs
        .iter()
        .map(|(task, turn)| RunSummary {
            task: task.key().to_string(),
            uid: Some(task.meta.uid.to_string()),
            attempt: task.status.attempt,
            turn: Some(*turn),
            last_progress_time: Some(lab.clock.wall()),
            ..RunSummary::default()
        })
        .collect();
    let beat = Change::<FleetNode>::of(Part::Status)
        .set("session", session)
        .set("phase", "Ready")
        .set("runs", runs)
        .set("lastHeartbeatTime", lab.clock.wall());
    lab.patch_node(name, beat).await;
}

/// Beats for all of these nodes, every 30 s, while time passes.
pub(crate) async fn pass_beating(lab: &Lab, seconds: u64, nodes: &[&str]) {
    for second in 0..seconds {
        if second % 30 == 0 {
            for node in nodes {
                beat_of(lab, node, "s", "Ready").await;
            }
        }
        pass(lab, 1).await;
    }
}

/// The same, of one node that shows these runs each time.
pub(crate) async fn pass_running(
    lab: &Lab,
    seconds: u64,
    node: &str,
    runs: &[(&Object<AgenticTask>, i64)],
) {
    for second in 0..seconds {
        if second % 30 == 0 {
            beat_with(lab, node, "s", runs).await;
        }
        pass(lab, 1).await;
    }
}

#[tokio::test]
async fn a_claim_whose_node_falls_silent_goes_back_with_a_strike() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat(&lab, "n").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", None).await;
        settle().await;
        let current = lab.node_now("n").await.expect("there").status.current_task;
        assert_eq!(current.as_deref(), Some("default/t"));
        pass(&lab, 90).await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
        pass(&lab, 2).await;
        let task = lab.task_now("t").await;
        let status = &task.status;
        assert_eq!(status.known_phase(), Some(TaskPhase::Pending));
        assert_eq!(
            (&status.assigned_node, status.claimed_at, status.started_at),
            (&None, None, None)
        );
        assert!(is_true(&status.conditions, "ClaimExpired"));
        assert_eq!(strikes(&task), (Some("1"), Some("0/n")));
        assert_eq!(lab.node_now("n").await.expect("there").status.current_task, None);
        let waiting = status.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        assert_eq!(waiting.map(|reason| reason.to_string()).as_deref(), Some("NodesStale"));
    })
    .await;
}

#[tokio::test]
async fn the_claims_of_a_foreign_node_go_at_once_when_it_is_deleted_ours_are_given_time() {
    let lab = Lab::new();
    for name in ["foreign", "ours"] {
        add_node(&lab, name).await;
    }
    beat(&lab, "foreign").await;
    beat_of(&lab, "ours", "s", "Ready").await;
    beside(lab.reconciler(), async {
        for name in ["a", "b"] {
            lab.task(name, freeform(None)).await;
            settle().await;
        }
        claim(&lab, "a", "foreign", None).await;
        claim(&lab, "b", "ours", Some("s")).await;
        settle().await;
        for name in ["foreign", "ours"] {
            let node = lab.node_now(name).await.expect("there");
            let store: &dyn Store<FleetNode> = &*lab.store;
            store.delete(&node.key(), node.uid(), Expect::Any).await.expect("deleted");
        }
        settle().await;
        assert_eq!(lab.phase("a").await, Some(TaskPhase::Pending));
        pass(&lab, 60).await;
        assert_eq!(lab.phase("b").await, Some(TaskPhase::Running));
        // It registers again with the same session: nothing happened.
        add_node(&lab, "ours").await;
        settle().await;
        let task = lab.task_now("b").await;
        pass_running(&lab, 60, "ours", &[(&task, 1)]).await;
        let task = lab.task_now("b").await;
        assert_eq!(
            (task.status.known_phase(), strikes(&task)),
            (Some(TaskPhase::Running), (None, None))
        );
    })
    .await;
}

#[tokio::test]
async fn the_third_strike_ends_the_task_and_its_pause_grows_before() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    let mut spec = freeform(None);
    spec.retry = Some(RetrySpec { max_attempts: None, backoff_seconds: Some(100) });
    lab.task("t", spec).await;
    beside(lab.reconciler(), async {
        for strike in 1..=3_i64 {
            beat_of(&lab, "n", "s", "Ready").await;
            settle().await;
            claim(&lab, "t", "n", Some("s")).await;
            pass(&lab, 92).await;
            let task = lab.task_now("t").await;
            let struck = format!("{strike}/n");
            let wanted = strike.to_string();
            assert_eq!(strikes(&task), (Some(wanted.as_str()), Some(struck.as_str())));
            if strike == 2 {
                let waiting = task.status.waiting.expect("said");
                assert!(waiting.reason.is_some_and(|reason| reason.is(WaitingReason::Backoff)));
                pass_beating(&lab, 95, &["n"]).await;
                assert_eq!(lab.phase("t").await, Some(TaskPhase::Pending), "100 s in all");
                pass_beating(&lab, 10, &["n"]).await;
                assert_eq!(lab.phase("t").await, Some(TaskPhase::Scheduled));
            }
        }
        let status = lab.task_now("t").await.status;
        assert_eq!(status.known_phase(), Some(TaskPhase::Failed));
        let failed = find_condition(&status.conditions, "Failed").expect("said");
        assert_eq!(failed.reason, "ClaimExpiryLimitReached");
        assert_eq!(status.failure_reason.expect("said").to_string(), "InfrastructureError");
        assert_eq!(status.verdict.expect("said").to_string(), "INCOMPLETE");
        assert_eq!((status.session, status.claimed_at), (None, None));
    })
    .await;
}

#[tokio::test]
async fn a_strike_that_was_counted_before_a_crash_is_not_counted_again() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        // The strike is written, the take-back is not.
        lab.tasks.on_patch(|_, change| {
            let back = change.to_merge_patch(None)["status"]["phase"] == "Pending";
            back.then(Fault::unavailable)
        });
        pass(&lab, 92).await;
    })
    .await;
    let task = lab.task_now("t").await;
    assert_eq!(strikes(&task), (Some("1"), Some("1/n")));
    assert_eq!(task.status.known_phase(), Some(TaskPhase::Running));
    lab.tasks.mend();
    beside(lab.reconciler(), async {
        pass(&lab, 89).await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running), "a new life hears for itself");
        pass(&lab, 4).await;
        let task = lab.task_now("t").await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Pending));
        assert_eq!(strikes(&task), (Some("1"), Some("1/n")));
    })
    .await;
}

#[tokio::test]
async fn a_claim_of_an_earlier_life_goes_back_when_the_next_one_is_up() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        for _ in 0..4 {
            beat_of(&lab, "n", "next", "Unknown").await;
            pass(&lab, 25).await;
        }
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running), "it recovers");
        beat_of(&lab, "n", "next", "Ready").await;
        pass(&lab, 12).await;
        let task = lab.task_now("t").await;
        assert_eq!(strikes(&task), (Some("1"), Some("1/")));
        assert_eq!(first_end(&task.status), Some(AttemptEnd::SessionLost));
    })
    .await;
}

#[tokio::test]
async fn many_silent_nodes_lose_their_claims_one_by_one() {
    let lab = Lab::new();
    let names: Vec<_> = (0..6).map(|n| format!("n{n}")).collect();
    for name in &names {
        add_node(&lab, name).await;
        beat_of(&lab, name, "s", "Ready").await;
    }
    let taken_back = || async {
        let tasks = lab.tasks().await;
        tasks.iter().filter(|t| t.status.known_phase() == Some(TaskPhase::Pending)).count()
    };
    beside(lab.reconciler(), async {
        for n in 0..6 {
            let name = format!("t{n}");
            lab.task(&name, freeform(None)).await;
            settle().await;
            claim(&lab, &name, &format!("n{n}"), Some("s")).await;
        }
        pass(&lab, 92).await;
        assert_eq!(taken_back().await, 1);
        for more in 2..=6 {
            pass(&lab, 10).await;
            assert_eq!(taken_back().await, more);
        }
    })
    .await;
}

#[tokio::test]
async fn progress_makes_a_strike_the_first_again() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        let task = lab.task_now("t").await;
        let note = Change::<AgenticTask>::of(Part::Meta)
            .annotations([(ANNOTATION_CLAIM_EXPIRIES, Some("2".into()))]);
        Store::patch(&*lab.store, &task.key(), note, Expect::Any).await.expect("patched");
        claim(&lab, "t", "n", Some("s")).await;
        let task = lab.task_now("t").await;
        beat_with(&lab, "n", "s", &[(&task, 5)]).await;
        pass(&lab, 92).await;
        let task = lab.task_now("t").await;
        assert_eq!(strikes(&task), (Some("1"), Some("1/n")));
        assert_eq!(task.status.attempts[0].turn, Some(5));
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Pending));
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_task_whose_node_is_dead_ends_instead_of_going_back() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        pass(&lab, 80).await;
        lab.set_spec("t", "cancel", true).await;
        pass(&lab, 12).await;
        let task = lab.task_now("t").await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Failed));
        assert!(is_true(&task.status.conditions, "Cancelled"));
        assert_eq!(strikes(&task), (None, None));
    })
    .await;
}

#[tokio::test]
async fn a_spec_that_is_edited_too_late_is_said_but_for_what_still_counts() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    let drifted = || async { is_true(&lab.task_now("t").await.status.conditions, "SpecDrift") };
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        settle().await;
        lab.set_spec("t", "priority", 7).await;
        lab.set_spec("t", "timeoutSeconds", 9_000).await;
        settle().await;
        assert!(!drifted().await);
        lab.set_spec("t", "dependsOn", ["x"]).await;
        settle().await;
        assert!(drifted().await);
    })
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_takes_nothing_back() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("t", freeform(None)).await;
        settle().await;
        claim(&lab, "t", "n", Some("s")).await;
        pass(&lab, 60).await;
        // The whole fleet loses its store for a while, we as well.
        lab.nodes
            .break_down([Operation::Get, Operation::Patch, Operation::Watch], &crate::lab::away());
        pass(&lab, 120).await;
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Running));
        lab.nodes.mend();
        pass(&lab, 30).await;
        beat_of(&lab, "n", "s", "Ready").await;
        pass(&lab, 30).await;
        let task = lab.task_now("t").await;
        assert_eq!(
            (task.status.known_phase(), strikes(&task)),
            (Some(TaskPhase::Running), (None, None))
        );
    })
    .await;
}
