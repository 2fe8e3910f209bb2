//! What the loops do when the store fails: nothing is done twice, nothing is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use foreman_core::control::AgentEnd;
use foreman_core::model::{AgenticTask, Capability, TaskPhase};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, RunEnd, Stop, Store, StoreError};
use foreman_core::testkit::fault::{Fault, Operation};
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};
use serde_json::json;

use crate::lab::{Lab, add_workload, away, freeform, identity, in_time, pipeline, settle};

const TICK: Duration = Duration::from_millis(100);

/// Fails the patches that set `field`, one after the other, with these.
fn fail_patches(lab: &Lab, field: &'static str, value: &'static str, faults: Vec<Option<Fault>>) {
    let mut faults = faults.into_iter();
    lab.tasks.on_patch(move |_, change| {
        let patch = change.to_merge_patch(None);
        if patch["status"][field] == value { faults.next().flatten() } else { None }
    });
}

async fn runs_to_its_end(lab: &Lab, executor: &Arc<ScriptedExecutor>) {
    let foreman = lab.one_node(1, executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.advance_until(TICK, || async { lab.phase("t").await == Some(TaskPhase::Succeeded) })
            .await;
    })
    .await;
}

/// Writes that took effect and set a verdict, counted by the store's own history of the task.
fn ends_written(lab: &Lab) -> usize {
    let calls = lab.tasks.calls_of(Operation::Patch).into_iter();
    calls
        .filter(|call| call.patch.as_ref().is_some_and(|patch| patch["status"]["verdict"] == "GO"))
        .filter(|call| {
            call.error.is_none() || matches!(call.error, Some(StoreError::Uncertain { .. }))
        })
        .count()
}

#[tokio::test]
async fn the_end_of_a_run_is_delivered_once_whatever_the_store_does() {
    let cases: [(Vec<Option<Fault>>, usize); 5] = [
        (vec![Some(Fault::unavailable()), Some(Fault::unavailable())], 1),
        (vec![Some(Fault::uncertain_but_done())], 1),
        (vec![Some(Fault::Fail(StoreError::Conflict))], 1),
        (vec![Some(Fault::uncertain())], 2),
        (vec![Some(Fault::Fail(StoreError::Denied { reason: "odd".into() })); 3], 1),
    ];
    for (faults, written) in cases {
        let lab = Lab::new();
        let shown = format!("{faults:?}");
        fail_patches(&lab, "verdict", "GO", faults);
        let executor = ScriptedExecutor::on_target();
        runs_to_its_end(&lab, &executor).await;
        let task = lab.task_now("t").await;
        assert_eq!(executor.ran(), ["t"], "{shown}");
        assert_eq!(task.status.usage.and_then(|usage| usage.turns), Some(1), "{shown}");
        assert_eq!(task.status.attempts.len(), 1, "{shown}");
        assert_eq!(ends_written(&lab), written, "{shown}");
    }
}

#[tokio::test]
async fn a_result_that_the_server_refuses_is_left_out_of_one_more_try() {
    let lab = Lab::new();
    let refused = StoreError::Invalid { field: "status.result".into(), rule: "odd".into() };
    fail_patches(&lab, "verdict", "GO", vec![Some(Fault::Fail(refused))]);
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let RunEnd::Finished(mut finish) = on_target(&run.job) else { return RunEnd::Lost };
            finish.result.0.insert("summary".into(), json!("odd"));
            RunEnd::Finished(finish)
        })
    });
    runs_to_its_end(&lab, &executor).await;
    let ends: Vec<_> = lab
        .tasks
        .calls_of(Operation::Patch)
        .into_iter()
        .filter_map(|call| call.patch)
        .filter(|patch| patch["status"]["verdict"] == "GO")
        .map(|patch| patch["status"].get("result").is_some())
        .collect();
    assert_eq!(ends, [true, false]);
}

#[tokio::test]
async fn a_claim_is_known_before_anything_runs() {
    let cases: [(Vec<Option<Fault>>, usize); 4] = [
        (vec![Some(Fault::uncertain_but_done())], 0),
        (vec![Some(Fault::uncertain())], 0),
        (vec![Some(Fault::uncertain_but_done())], 5),
        (vec![Some(Fault::unavailable()), Some(Fault::uncertain_but_done())], 3),
    ];
    for (faults, reads_that_fail) in cases {
        let lab = Lab::new();
        let shown = format!("{faults:?} {reads_that_fail}");
        fail_patches(&lab, "phase", "Running", faults);
        lab.tasks.script(Operation::Get, vec![Fault::unavailable(); reads_that_fail]);
        let executor = ScriptedExecutor::on_target();
        runs_to_its_end(&lab, &executor).await;
        assert_eq!(executor.ran(), ["t"], "{shown}");
        assert_eq!(lab.task_now("t").await.status.attempt, Some(1), "{shown}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_read_now_is_no_fault_of_the_task() {
    let lab = Lab::new();
    lab.agent_with("coder", |_| {}).await;
    lab.agents.script(Operation::Get, vec![Fault::unavailable(); 4]);
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(Some("coder"))).await;
    lab.run(&foreman, async {
        lab.advance_until(TICK, || async { lab.phase("t").await == Some(TaskPhase::Succeeded) })
            .await;
    })
    .await;
    assert_eq!(lab.task_now("t").await.status.attempt, Some(1));
}

#[tokio::test]
async fn a_claim_that_cannot_be_checked_is_checked_again() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            let told = stop.wait_for(|stop| *stop != Stop::Continue).await.map(|stop| *stop);
            assert_eq!(told.ok(), Some(Stop::Lost));
            RunEnd::Lost
        })
    });
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.tasks.script(Operation::Get, vec![Fault::unavailable(); 3]);
        let before = lab.tasks.calls_of(Operation::Get).len();
        lab.delete_task("t").await;
        // No further event comes: only the repeated check can find that the task is gone.
        lab.advance_until(TICK, || async {
            lab.tasks.calls_of(Operation::Get).len() >= before + 4
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_run_goes_on_while_the_store_does_not_say_whether_its_claim_holds() {
    let lab = Lab::new();
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = steps.clone();
    let executor = ScriptedExecutor::new(move |run| {
        let steps = counted.clone();
        Box::pin(async move {
            while *run.stop.borrow() == Stop::Continue {
                steps.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            RunEnd::Lost
        })
    });
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        lab.until_phase("t", TaskPhase::Running).await;
        lab.tasks.hold(Operation::Get);
        lab.delete_task("t").await;
        // The deletion is heard within a few steps, and the question is then without an answer.
        let at_the_deletion = steps.load(Ordering::SeqCst);
        lab.until(|| async { steps.load(Ordering::SeqCst) > at_the_deletion + 10_000 }).await;
        lab.tasks.let_go(Operation::Get);
    })
    .await;
}

#[tokio::test]
async fn the_reconciler_goes_on_after_every_kind_of_failure() {
    let faults = [
        Fault::unavailable(),
        Fault::uncertain(),
        Fault::uncertain_but_done(),
        Fault::Fail(StoreError::Conflict),
        Fault::Fail(StoreError::NotFound),
    ];
    for fault in faults {
        let lab = Lab::new();
        lab.agent_with("coder", |_| {}).await;
        lab.tasks.script(Operation::Create, [fault.clone(), fault.clone()]);
        lab.workloads.script(Operation::Patch, [fault.clone(), fault.clone()]);
        let again = fault.clone();
        let mut left = 2;
        lab.tasks.on_patch(move |_, change| {
            let placing = change.to_merge_patch(None)["status"]["phase"] == "Scheduled";
            (placing && left > 0).then(|| {
                left -= 1;
                again.clone()
            })
        });
        let executor = ScriptedExecutor::on_target();
        let foreman = lab.one_node(1, &executor);
        add_workload(&lab, "w", pipeline()).await;
        lab.run(&foreman, async {
            lab.advance_until(TICK, || async {
                let phase = lab.workload_now("w").await.status.phase;
                phase.is_some_and(|phase| phase.to_string() == "Completed")
            })
            .await;
        })
        .await;
        assert_eq!(executor.ran(), ["w-code", "w-verify", "w-review"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_not_hammered() {
    let lab = Lab::new();
    for n in 0..50 {
        lab.task(&format!("t{n}"), freeform(None)).await;
    }
    lab.tasks.break_down([Operation::Patch], &away());
    let foreman = lab.one_node(1, &ScriptedExecutor::on_target());
    lab.run(&foreman, async {
        for _ in 0..600 {
            settle().await;
            lab.clock.advance(TICK);
        }
        let tries = lab.tasks.calls_of(Operation::Patch).len();
        // 0.2 + 0.4 + … + 25.6 s: at most nine rounds of 50 in a minute, and one more because the
        // node's condition can be written meanwhile.
        assert!((50..=10 * 50).contains(&tries), "{tries} tries in a minute");
        lab.tasks.mend();
        lab.advance_until(Duration::from_secs(1), || async {
            lab.phase("t49").await == Some(TaskPhase::Succeeded)
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_breaks_is_opened_again() {
    let lab = Lab::new();
    lab.tasks.script(Operation::Watch, vec![Fault::unavailable(); 5]);
    lab.nodes.script(Operation::Watch, vec![Fault::unavailable(); 3]);
    let executor = ScriptedExecutor::on_target();
    runs_to_its_end(&lab, &executor).await;
    assert_eq!(executor.ran(), ["t"]);
}

#[tokio::test]
async fn two_reconcilers_at_once_do_no_harm() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(3, &executor);
    let second = lab.reconciler();
    for n in 0..40 {
        lab.task(&format!("t{n:02}"), freeform(None)).await;
    }
    let done = || async {
        lab.tasks().await.iter().all(|task| task.status.known_phase() == Some(TaskPhase::Succeeded))
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let story = async {
        lab.advance_until(TICK, done).await;
        stop.send_replace(true);
    };
    let all = async { tokio::join!(lab.run(&foreman, story), second.run(stopped)) };
    let (end, ()) = in_time(all).await;
    assert_eq!(end, AgentEnd::Drained);
    let mut ran = executor.ran();
    ran.sort();
    let names: Vec<_> = (0..40).map(|n| format!("t{n:02}")).collect();
    assert_eq!(ran, names, "each once");
    for task in lab.tasks().await {
        assert_eq!(task.status.attempt, Some(1), "{}", task.meta.name);
    }
}

#[tokio::test]
async fn three_hundred_tasks_over_five_nodes_all_end() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    let nodes = (0..5).map(|n| {
        let me = foreman_core::fleet::Identity { slots: Some(4), ..identity(&format!("n{n}")) };
        (me, Capability::default())
    });
    let foreman = lab.fleet(nodes, &executor);
    for n in 0..300 {
        lab.task(&format!("t{n}"), freeform(None)).await;
    }
    lab.run(&foreman, async {
        lab.advance_until(TICK, || async {
            let tasks = lab.tasks().await;
            tasks.iter().all(|task| task.status.known_phase() == Some(TaskPhase::Succeeded))
        })
        .await;
    })
    .await;
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for task in lab.tasks().await {
        assert_eq!(task.status.attempt, Some(1), "{}", task.meta.name);
        *on.entry(task.status.assigned_node.unwrap_or_default()).or_default() += 1;
    }
    assert_eq!(executor.ran().len(), 300);
    assert_eq!(on.len(), 5, "work spreads: {on:?}");
}

#[tokio::test]
async fn an_agents_limit_holds_while_placements_are_on_their_way() {
    let lab = Lab::new();
    lab.agent_with("coder", |spec| spec.max_concurrent_tasks = Some(1)).await;
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            drop(stop.wait_for(|stop| *stop != Stop::Continue).await);
            RunEnd::Lost
        })
    });
    let foreman = lab.one_node(5, &executor);
    lab.run(&foreman, async {
        lab.until(|| async {
            let node = lab.node_now("one").await;
            node.and_then(|node| node.status.phase)
                .is_some_and(|phase| phase.to_string() == "Ready")
        })
        .await;
        lab.tasks.hold(Operation::Patch);
        for name in ["a", "b", "c"] {
            lab.task(name, freeform(Some("coder"))).await;
            settle().await;
        }
        lab.tasks.let_go(Operation::Patch);
        settle().await;
        let tasks = lab.tasks().await;
        let placed = tasks.iter().filter(|task| task.status.assigned_node.is_some()).count();
        assert_eq!(placed, 1);
        let waiting = tasks.iter().filter_map(|task| task.status.waiting.clone());
        let reasons: Vec<_> = waiting.filter_map(|w| w.message).collect();
        assert_eq!(reasons, vec!["Agent coder runs 1 of 1 tasks"; 2]);
    })
    .await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_left_alone_by_the_loops() {
    let lab = Lab::new();
    let task = lab.task("w-code", freeform(None)).await;
    let mut odd = task.to_json();
    odd["spec"]["payload"] = json!(7);
    lab.store.put_raw::<AgenticTask>(task.key(), odd);
    lab.agent_with("coder", |_| {}).await;
    add_workload(&lab, "w", pipeline()).await;
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(1, &executor);
    lab.run(&foreman, async {
        lab.until(|| async {
            let phase = lab.workload_now("w").await.status.phase;
            phase.is_some_and(|phase| phase.to_string() == "Completed")
        })
        .await;
    })
    .await;
    let ran = executor.ran();
    assert!(ran[0].starts_with("w-code-"), "the name was taken: {ran:?}");
}

#[tokio::test]
async fn a_foreign_write_to_a_running_task_takes_nothing_from_its_end() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    let store = lab.store.clone();
    let mut once = true;
    lab.tasks.on_patch(move |key, change| {
        let ends = change.to_merge_patch(None)["status"]["verdict"] == "GO";
        if ends && std::mem::take(&mut once) {
            let other =
                Change::<AgenticTask>::of(Part::Meta).annotations([("a", Some("b".into()))]);
            let write = Store::patch(&*store, key, other, Expect::Any);
            assert!(futures::FutureExt::now_or_never(write).is_some_and(|answer| answer.is_ok()));
        }
        None
    });
    runs_to_its_end(&lab, &executor).await;
    assert_eq!(ends_written(&lab), 1);
    let task = lab.task_now("t").await;
    assert_eq!(task.meta.annotations.get("a").map(String::as_str), Some("b"));
}
