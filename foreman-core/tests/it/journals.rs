//! Where an unfinished run goes on when the machine that holds its journal refuses it, or fails it
//! again and again.

use std::sync::Mutex;

use foreman_core::control::Reconciler;
use foreman_core::model::agentic_task::{Checkpoint, RetrySpec};
use foreman_core::model::condition::find_condition;
use foreman_core::model::shared::Budget;
use foreman_core::model::{AgenticTask, AgenticTaskSpec, TaskKind, TaskPhase, WorkloadSpec};
use foreman_core::ports::recorder::{Event, Recorder};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Store};

use crate::claims::{beat_with, claim};
use crate::lab::{Lab, add_workload, freeform, pipeline, settle, step};
use crate::liveness::{add_node, beat_of, beside, pass};

/// The Warnings that were given.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Recorder for Warnings {
    fn record(&self, event: Event) {
        if event.reason == "RestartedWithoutJournal" {
            self.0.lock().expect("no panic").push(event.message);
        }
    }
}

impl Warnings {
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

fn watched(lab: &Lab) -> (Reconciler, std::sync::Arc<Warnings>) {
    let warnings = std::sync::Arc::new(Warnings::default());
    let stores = lab.stores.clone();
    (Reconciler::new(stores, lab.clock.clone(), warnings.clone()), warnings)
}

fn without_a_pause() -> AgenticTaskSpec {
    let mut spec = freeform(None);
    spec.retry = Some(RetrySpec { max_attempts: None, backoff_seconds: Some(0) });
    spec
}

/// A task with a run of three turns on `node`, and the two nodes of the test.
async fn with_a_run_on(lab: &Lab, node: &str) {
    for name in ["home", "other"] {
        add_node(lab, name).await;
        beat_of(lab, name, "s", "Ready").await;
    }
    lab.task("t", without_a_pause()).await;
    lab.set_status("t", |status| {
        status.phase = Some(TaskPhase::Pending.into());
        status.checkpoint = Some(Checkpoint {
            node: Some(node.into()),
            attempt: Some(1),
            turn: Some(3),
            ..Checkpoint::default()
        });
    })
    .await;
}

/// Where the task is placed now.
async fn home_of(lab: &Lab) -> Option<String> {
    lab.task_now("t").await.status.assigned_node
}

/// The agent of the node gives the placement back unclaimed.
async fn refuse(lab: &Lab) {
    let task = lab.task_now("t").await;
    let refused = serde_json::json!([{"type": "Running", "status": "False",
        "reason": "Refused", "message": "1 GB of disk is left", "lastTransitionTime": lab.clock.wall()}]);
    let back = Change::<AgenticTask>::of(Part::Status)
        .set("phase", "Pending")
        .set("conditions", refused)
        .clear("assignedNode");
    Store::patch(&*lab.store, &task.key(), back, Expect::Any).await.expect("patched");
}

async fn waits(lab: &Lab) -> String {
    lab.task_now("t").await.status.waiting.and_then(|it| it.message).unwrap_or_default()
}

#[tokio::test]
async fn a_machine_that_refuses_its_run_is_waited_for_as_long_as_one_that_is_away() {
    let lab = Lab::new();
    with_a_run_on(&lab, "home").await;
    let (reconciler, warnings) = watched(&lab);
    beside(reconciler, async {
        let (mut seconds, mut refusals) = (0, 0);
        while home_of(&lab).await.as_deref() != Some("other") {
            if home_of(&lab).await.as_deref() == Some("home") {
                refuse(&lab).await;
                refusals += 1;
                pass(&lab, 2).await;
                seconds += 2;
                if home_of(&lab).await.is_none() {
                    let said = "waits for home, where its run can be resumed \
                                (home is not asked again just now)";
                    assert_eq!(waits(&lab).await, said, "after {refusals} refusals");
                }
            }
            pass(&lab, 1).await;
            seconds += 1;
            if seconds % 30 <= 2 {
                for name in ["home", "other"] {
                    beat_of(&lab, name, "s", "Ready").await;
                }
            }
            assert!(seconds < 700, "after {refusals} refusals: {}", waits(&lab).await);
        }
        assert!(seconds >= 600, "{seconds}");
        assert!((6..=11).contains(&refusals), "{refusals}");
    })
    .await;
    assert_eq!(
        warnings.all(),
        ["starts afresh on other: its journal is on home, which is away or refuses it; \
          turns 1 to 3 are repeated"]
    );
}

/// The run is claimed on `home`, shown, and then missing from its heartbeats: a strike.
async fn struck_by_home(lab: &Lab) {
    assert_eq!(home_of(lab).await.as_deref(), Some("home"));
    claim(lab, "t", "home", Some("s")).await;
    settle().await;
    let task = lab.task_now("t").await;
    beat_with(lab, "home", "s", &[(&task, 4)]).await;
    beat_of(lab, "other", "s", "Ready").await;
    while lab.phase("t").await == Some(TaskPhase::Running) {
        pass(lab, 30).await;
        beat_with(lab, "home", "s", &[]).await;
        beat_of(lab, "other", "s", "Ready").await;
        settle().await;
    }
    settle().await;
}

#[tokio::test]
async fn a_machine_that_fails_its_run_twice_does_not_get_the_third_try() {
    let lab = Lab::new();
    with_a_run_on(&lab, "home").await;
    let (reconciler, warnings) = watched(&lab);
    beside(reconciler, async {
        struck_by_home(&lab).await;
        assert_eq!(home_of(&lab).await.as_deref(), Some("home"), "once is no reason to begin anew");
        struck_by_home(&lab).await;
        let mut seconds = 0;
        let said = "waits for home, where its run can be resumed \
                    (home failed it too often and is not tried again)";
        while home_of(&lab).await.is_none() {
            assert_eq!(waits(&lab).await, said);
            pass(&lab, 10).await;
            seconds += 10;
            for name in ["home", "other"] {
                beat_of(&lab, name, "s", "Ready").await;
            }
            assert!(seconds < 700, "{}", waits(&lab).await);
        }
        assert_eq!(home_of(&lab).await.as_deref(), Some("other"));
        assert!(seconds >= 590, "{seconds}");
    })
    .await;
    assert_eq!(
        warnings.all(),
        ["starts afresh on other: its journal is on home, which failed it too often; \
          turns 1 to 4 are repeated"]
    );
}

#[tokio::test]
async fn a_machine_that_failed_its_run_twice_gets_it_again_where_no_other_fits() {
    let lab = Lab::new();
    with_a_run_on(&lab, "home").await;
    lab.patch_node("other", Change::of(Part::Spec).set("unschedulable", true)).await;
    beside(lab.reconciler(), async {
        struck_by_home(&lab).await;
        struck_by_home(&lab).await;
        assert_eq!(home_of(&lab).await.as_deref(), Some("home"));
        let task = lab.task_now("t").await;
        let placed = find_condition(&task.status.conditions, "Scheduled").expect("said");
        assert!(placed.message.contains("journal here"), "{}", placed.message);
    })
    .await;
}

/// The whole budget of a Workload was reserved for a run whose machine died: all of it counts as spent
/// until the journal tells how much it was, and for that the run must get back to its machine.
#[tokio::test]
async fn a_run_whose_machine_died_with_the_whole_budget_goes_on_when_that_is_back() {
    for minutes_away in [3, 30] {
        let lab = Lab::new();
        for name in ["home", "other"] {
            add_node(&lab, name).await;
        }
        beat_of(&lab, "home", "s", "Ready").await;
        let budget = Some(Budget { tokens: Some(100), ..Budget::default() });
        let one = step("a", TaskKind::Freeform, &[]);
        let spec = WorkloadSpec { pipeline: vec![one], budget, ..pipeline() };
        add_workload(&lab, "w", spec).await;
        beside(lab.reconciler(), async {
            pass(&lab, 2).await;
            let name = lab.tasks().await.first().expect("made").meta.name.clone();
            let now = || async { lab.task_now(&name).await.status };
            assert_eq!(
                (now().await.assigned_node.as_deref(), now().await.allowance),
                (Some("home"), Some(100))
            );
            claim(&lab, &name, "home", Some("s")).await;
            settle().await;
            beat_with(&lab, "home", "s", &[(&lab.task_now(&name).await, 3)]).await;
            for _ in 0..minutes_away * 2 {
                pass(&lab, 30).await;
                beat_of(&lab, "other", "s", "Ready").await;
            }
            let charged = now().await;
            assert_eq!(charged.usage.and_then(|usage| usage.prompt_tokens), Some(100));
            assert_eq!(charged.attempts.first().and_then(|it| it.estimated_tokens), Some(100));
            assert_eq!(charged.assigned_node, None, "nothing is left to begin anew with");
            beat_with(&lab, "home", "s", &[]).await;
            pass(&lab, 2).await;
            let back = now().await;
            assert_eq!(
                (back.assigned_node.as_deref(), back.allowance),
                (Some("home"), Some(0)),
                "after {minutes_away} minutes: {:?}",
                back.waiting
            );
        })
        .await;
    }
}
