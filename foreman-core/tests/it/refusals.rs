//! What a control loop remembers is lost with it: a node that refuses is asked again by the next one, and
//! not more often than once by each.

use std::collections::BTreeMap;

use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::shared::Budget;
use foreman_core::model::{AgenticTask, TaskKind, TaskPhase, WorkloadSpec};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Store};
use serde_json::json;

use crate::lab::{Lab, add_workload, freeform, settle, step};
use crate::liveness::{add_node, beat_of, beside, pass};

/// Looks in one second of the clock, so that a loop without a pause is seen.
const LOOKS: usize = 4;

/// The node's agent refuses whatever is placed there; counts how often each task was.
async fn refuse(lab: &Lab, count: &mut BTreeMap<String, usize>) {
    for task in lab.tasks().await {
        if task.status.known_phase() != Some(TaskPhase::Scheduled) {
            continue;
        }
        *count.entry(task.meta.name.clone()).or_default() += 1;
        let refused = json!([{"type": "Running", "status": "False", "reason": "Refused",
            "message": "no room", "lastTransitionTime": lab.clock.wall()}]);
        let back = Change::<AgenticTask>::of(Part::Status)
            .set("phase", "Pending")
            .set("conditions", refused)
            .clear("assignedNode");
        Store::patch(&*lab.store, &task.key(), back, Expect::Any).await.expect("patched");
    }
}

#[tokio::test]
async fn a_node_that_refuses_everything_is_asked_once_a_minute_and_once_by_each_new_leader() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    lab.patch_node("n", Change::of(Part::Spec).set("slots", 3)).await;
    for name in ["a", "b", "c"] {
        lab.task(name, freeform(None)).await;
    }
    let mut all = BTreeMap::new();
    // One that leads for five minutes, then ten that lead for twenty seconds each.
    let lives = std::iter::once((300, 6)).chain(std::iter::repeat_n((20, 1), 10));
    for (seconds, asks_max) in lives {
        let mut count = BTreeMap::new();
        beside(lab.reconciler(), async {
            for second in 0..seconds {
                if second % 10 == 0 {
                    beat_of(&lab, "n", "s", "Ready").await;
                }
                for _ in 0..LOOKS {
                    settle().await;
                    refuse(&lab, &mut count).await;
                }
                pass(&lab, 1).await;
            }
        })
        .await;
        let most = count.values().copied().max().unwrap_or(0);
        assert!(most <= asks_max, "in {seconds} s: {count:?}");
        for (name, asked) in count {
            *all.entry(name).or_insert(0) += asked;
        }
    }
    assert_eq!(all.len(), 3, "each was tried");
}

#[tokio::test]
async fn a_task_that_waits_for_its_workloads_budget_is_placed_when_that_is_raised() {
    let lab = Lab::new();
    add_node(&lab, "n").await;
    beat_of(&lab, "n", "s", "Ready").await;
    let tokens = |tokens: i64| Budget { tokens: Some(tokens), ..Budget::default() };
    let spec = WorkloadSpec {
        intent: "x".into(),
        budget: Some(tokens(100)),
        pipeline: vec![step("a", TaskKind::Freeform, &[]), step("b", TaskKind::Freeform, &[])],
        ..WorkloadSpec::default()
    };
    add_workload(&lab, "w", spec).await;
    beside(lab.reconciler(), async {
        let first = lab.task_now("w-a").await;
        assert_eq!(first.status.allowance, Some(50), "the other half is for the other");
        lab.set_status("w-a", |status| {
            status.phase = Some(TaskPhase::Succeeded.into());
            status.verdict = Some(foreman_core::model::Verdict::Go.into());
            status.usage = Some(foreman_core::model::agentic_task::Usage {
                prompt_tokens: Some(100),
                ..Default::default()
            });
            status.allowance = None;
        })
        .await;
        settle().await;
        let waits = || async { lab.task_now("w-b").await.status.waiting };
        let reason = waits().await.and_then(|waiting| waiting.reason);
        assert!(reason.is_some_and(|reason| reason.is(WaitingReason::BudgetExhausted)));
        let before = lab.store.revision();
        settle().await;
        assert_eq!(lab.store.revision(), before, "nothing is written while nothing changes");
        lab.set_workload("w", "budget", tokens(130)).await;
        settle().await;
        let second = lab.task_now("w-b").await;
        assert_eq!(second.status.known_phase(), Some(TaskPhase::Scheduled), "{:?}", waits().await);
        assert_eq!(second.status.allowance, Some(30));
    })
    .await;
}
