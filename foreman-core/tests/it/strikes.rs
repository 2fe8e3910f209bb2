//! Strikes that only tell apart what is written of them, and what is no strike at all.

use std::time::Duration;

use foreman_core::control::AgentEnd;
use foreman_core::model::TaskPhase;
use foreman_core::model::agentic_task::RetrySpec;
use foreman_core::model::agentic_task::{AttemptEnd, Usage};
use foreman_core::model::condition::find_condition;
use foreman_core::model::fleet_node::FleetNode;
use foreman_core::model::wellknown::{ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_STRUCK};
use foreman_core::ports::RunEnd;
use foreman_core::ports::executor::ReleaseWhy;
use foreman_core::ports::store::Part;
use foreman_core::ports::store::Store;
use foreman_core::ports::{Change, Clock, Expect};
use foreman_core::testkit::fault::Operation;
use foreman_core::testkit::scripted::ScriptedExecutor;

use crate::claims::claim;
use crate::lab::{Lab, away, freeform, settle};
use crate::liveness::{add_node, beat, beat_of, beside, pass};
use crate::runs::told;

async fn notes(lab: &Lab) -> (String, String) {
    let notes = lab.task_now("t").await.meta.annotations;
    let note = |name: &str| notes.get(name).cloned().unwrap_or_default();
    (note(ANNOTATION_CLAIM_EXPIRIES), note(ANNOTATION_STRUCK))
}

async fn node_dies(lab: &Lab) {
    pass(lab, 92).await;
}

fn without_a_pause() -> foreman_core::model::AgenticTaskSpec {
    let mut spec = freeform(None);
    spec.retry = Some(RetrySpec { max_attempts: None, backoff_seconds: Some(0) });
    spec
}

#[tokio::test]
async fn a_foreign_node_that_dies_again_and_again_strikes_each_time() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    lab.task("t", without_a_pause()).await;
    beside(lab.reconciler(), async {
        for strike in 1..=3 {
            beat(&lab, "n").await;
            settle().await;
            // Its agent never raises the attempt.
            claim(&lab, "t", "n", None).await;
            node_dies(&lab).await;
            assert_eq!(notes(&lab).await, (strike.to_string(), "0/n".to_owned()));
        }
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Failed), "three are the limit");
    })
    .await;
}

#[tokio::test]
async fn placements_that_were_never_claimed_count_each_although_no_claim_tells_them_apart() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    lab.task("t", without_a_pause()).await;
    beside(lab.reconciler(), async {
        for strike in 1..=3 {
            beat_of(&lab, "n", "s", "Ready").await;
            settle().await;
            assert_eq!(lab.phase("t").await, Some(TaskPhase::Scheduled));
            let node = lab.node_now("n").await.expect("there");
            let nodes: &dyn Store<FleetNode> = &*lab.store;
            nodes.delete(&node.key(), node.uid(), Expect::Any).await.expect("deleted");
            node_dies(&lab).await;
            assert_eq!(notes(&lab).await, (strike.to_string(), "0/n".to_owned()));
            add_node(&lab, "n").await;
        }
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Failed));
    })
    .await;
}

#[tokio::test]
async fn the_mark_is_taken_off_before_the_placement_whatever_crashes_and_not_without_need() {
    let lab = Lab::new();
    for name in ["n", "other"] {
        add_node(&lab, name).await;
    }
    beat(&lab, "n").await;
    lab.task("t", without_a_pause()).await;
    beside(lab.reconciler(), async {
        claim(&lab, "t", "n", None).await;
        node_dies(&lab).await;
        assert_eq!(notes(&lab).await, ("1".to_owned(), "0/n".to_owned()));
        lab.tasks.forget_calls();
        beat(&lab, "other").await;
        settle().await;
        assert_eq!(lab.task_now("t").await.status.assigned_node.as_deref(), Some("other"));
        assert_eq!(lab.tasks.calls_of(Operation::Patch).len(), 1, "elsewhere: one write");
        node_dies(&lab).await;
        assert_eq!(notes(&lab).await, ("2".to_owned(), "0/other".to_owned()));
        // The placement that follows the mark fails, and so does this control loop.
        lab.tasks.on_patch(|_, change| {
            let placed = change.to_merge_patch(None)["status"]["phase"] == "Scheduled";
            placed.then(foreman_core::testkit::fault::Fault::unavailable)
        });
        beat(&lab, "other").await;
        settle().await;
        assert_eq!(notes(&lab).await, ("2".to_owned(), "0/".to_owned()));
        assert_eq!(lab.phase("t").await, Some(TaskPhase::Pending));
    })
    .await;
    lab.tasks.mend();
    beside(lab.reconciler(), async {
        assert_eq!(lab.task_now("t").await.status.assigned_node.as_deref(), Some("other"));
        node_dies(&lab).await;
        assert_eq!(notes(&lab).await, ("3".to_owned(), "0/other".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn what_is_given_back_or_ended_is_not_stuck_any_more() {
    for cancel in [false, true] {
        let lab = Lab::new();
        add_node(&lab, "n").await;
        beat_of(&lab, "n", "s", "Ready").await;
        lab.task("t", freeform(None)).await;
        let stuck = || async {
            let task = lab.task_now("t").await;
            let stuck = find_condition(&task.status.conditions, "Stuck").cloned();
            stuck.map(|stuck| (stuck.status.to_string(), stuck.reason))
        };
        beside(lab.reconciler(), async {
            claim(&lab, "t", "n", Some("s")).await;
            for _ in 0..62 {
                let task = lab.task_now("t").await;
                crate::claims::beat_with(&lab, "n", "s", &[(&task, 1)]).await;
                let beat = foreman_core::model::fleet_node::RunSummary {
                    uid: Some(task.meta.uid.to_string()),
                    attempt: task.status.attempt,
                    ..Default::default()
                };
                lab.patch_node("n", Change::of(Part::Status).set("runs", vec![beat])).await;
                pass(&lab, 30).await;
            }
            assert_eq!(stuck().await, Some(("True".to_owned(), "NoProgress".to_owned())));
            if cancel {
                lab.set_spec("t", "cancel", true).await;
            }
            node_dies(&lab).await;
            let why = if cancel { "Ended" } else { "TakenBack" };
            assert_eq!(stuck().await, Some(("False".to_owned(), why.to_owned())));
        })
        .await;
    }
}

#[tokio::test]
async fn a_run_is_shown_from_its_claim_on_although_its_agent_cannot_be_read() {
    let lab = Lab::new();
    lab.agent_with("coder", |_| {}).await;
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(Some("coder"))).await;
    lab.agents.break_down([Operation::Get], &away());
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        for _ in 0..200 {
            lab.clock.advance(Duration::from_secs(1));
            settle().await;
        }
        let task = lab.task_now("t").await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Running));
        assert_eq!(notes(&lab).await.0, "", "no beat left it out");
        let shown = lab.node_now("one").await.expect("there").status.runs;
        assert_eq!(shown.first().and_then(|run| run.uid.clone()), Some(task.uid().to_string()));
        lab.agents.mend();
        lab.advance_until(Duration::from_secs(1), || async {
            lab.phase("t").await == Some(TaskPhase::Succeeded)
        })
        .await;
    })
    .await;
    assert!(lab.node_now("one").await.expect("there").status.runs.is_empty());
}

#[tokio::test]
async fn clean_restarts_are_no_strikes_however_many() {
    let lab = Lab::new();
    lab.task("t", freeform(None)).await;
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            told(&run).await;
            let why = ReleaseWhy::Drained;
            RunEnd::Released { checkpoint: None, usage: Usage::default(), why }
        })
    });
    for life in 1..=5 {
        lab.shutdown.send_replace(foreman_core::control::Shutdown::No);
        let foreman = lab.one_node(1, &executor);
        let end = lab
            .run(&foreman, async {
                lab.advance_until(Duration::from_secs(5), || async {
                    lab.phase("t").await == Some(TaskPhase::Running)
                })
                .await;
            })
            .await;
        assert_eq!(end, AgentEnd::Drained);
        let task = lab.task_now("t").await;
        assert_eq!(task.status.known_phase(), Some(TaskPhase::Pending), "life {life}");
        let drained = |end: &AttemptEnd| *end == AttemptEnd::Drained;
        let ends = task.status.attempts.iter();
        assert!(ends.clone().all(|one| {
            one.ended
                .as_ref()
                .and_then(foreman_core::model::Open::known)
                .is_some_and(|e| drained(&e))
        }));
        assert_eq!(ends.count(), life);
        assert_eq!(notes(&lab).await.0, "");
    }
}

#[tokio::test]
async fn a_node_that_refused_one_task_gets_no_other_until_it_beats_again() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    beside(lab.reconciler(), async {
        lab.task("a", freeform(None)).await;
        settle().await;
        let task = lab.task_now("a").await;
        let refused = serde_json::json!([{"type": "Running", "status": "False",
            "reason": "Refused", "message": "no room", "lastTransitionTime": lab.clock.wall()}]);
        let back = Change::<foreman_core::model::AgenticTask>::of(Part::Status)
            .set("phase", "Pending")
            .set("conditions", refused)
            .clear("assignedNode");
        Store::patch(&*lab.store, &task.key(), back, Expect::Any).await.expect("patched");
        settle().await;
        lab.task("b", freeform(None)).await;
        pass(&lab, 29).await;
        let waiting = lab.task_now("b").await.status.waiting.and_then(|waiting| waiting.message);
        assert_eq!(waiting.as_deref(), Some("0/1 nodes fit: 1 refused it just now"));
        beat_of(&lab, "n", "s", "Ready").await;
        settle().await;
        assert_eq!(lab.phase("b").await, Some(TaskPhase::Scheduled), "it was heard of");
        assert_eq!(lab.phase("a").await, Some(TaskPhase::Pending), "not this one for a minute");
    })
    .await;
}

#[tokio::test]
async fn an_end_at_the_limit_says_how_the_claim_was_lost_and_charges_what_was_reserved() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    let mut spec = freeform(None);
    spec.retry = Some(RetrySpec { max_attempts: Some(1), backoff_seconds: None });
    lab.task("t", spec).await;
    beside(lab.reconciler(), async {
        claim(&lab, "t", "n", Some("s")).await;
        let task = lab.task_now("t").await;
        let reserved =
            Change::<foreman_core::model::AgenticTask>::of(Part::Status).set("allowance", 70);
        Store::patch(&*lab.store, &task.key(), reserved, Expect::Any).await.expect("patched");
        crate::claims::beat_with(&lab, "n", "s", &[(&task, 3)]).await;
        for _ in 0..2 {
            pass(&lab, 30).await;
            crate::claims::beat_with(&lab, "n", "s", &[]).await;
        }
        settle().await;
    })
    .await;
    let status = lab.task_now("t").await.status;
    assert_eq!(status.known_phase(), Some(TaskPhase::Failed));
    let record = status.attempts.first().expect("kept");
    assert_eq!(record.ended.as_ref().map(ToString::to_string).as_deref(), Some("Missing"));
    let usage = status.usage.expect("charged");
    assert_eq!((usage.prompt_tokens, usage.estimated), (Some(70), Some(true)));
    let infrastructure = status.outcome.and_then(|outcome| outcome.infrastructure);
    assert_eq!(
        infrastructure.map(|it| it.to_string()).as_deref(),
        Some("Error"),
        "no node is lost"
    );
}
