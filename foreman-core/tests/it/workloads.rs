//! Workloads: children, what is copied to them, and what ends a workload that cannot go on.

use std::time::Duration;

use foreman_core::model::condition::{ConditionStatus, find_condition, is_true};
use foreman_core::model::{
    AgenticTask, AgenticTaskPayload, Key, TaskKind, TaskPhase, Workload, WorkloadSpec,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Stop, Store, StoreError};
use foreman_core::testkit::fault::{Fault, Operation};
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};

use crate::lab::{Lab, add_workload, pipeline, settle, step};

async fn phase(lab: &Lab, name: &str) -> String {
    let phase = lab.workload_now(name).await.status.phase;
    phase.map(|phase| phase.to_string()).unwrap_or_default()
}

fn reason(workload: &foreman_core::model::Object<Workload>, kind: &str) -> Option<String> {
    find_condition(&workload.status.conditions, kind).map(|found| found.reason.clone())
}

#[tokio::test]
async fn cancel_reaches_every_child_and_the_workload_ends_as_cancelled() {
    let lab = Lab::new();
    add_workload(&lab, "w", pipeline()).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    lab.set_workload("w", "cancel", true).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    for name in ["w-code", "w-verify", "w-review"] {
        let task = lab.task_now(name).await;
        assert_eq!(task.spec.cancel, Some(true), "{name}");
        assert!(is_true(&task.status.conditions, "Cancelled"), "{name}");
    }
    let workload = lab.workload_now("w").await;
    assert_eq!(reason(&workload, "Finished").as_deref(), Some("Cancelled"));
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0);
}

#[tokio::test]
async fn suspend_is_copied_and_taken_back() {
    let lab = Lab::new();
    add_workload(&lab, "w", WorkloadSpec { suspend: Some(true), ..pipeline() }).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let waiting = lab.task_now("w-code").await.status.waiting.and_then(|waiting| waiting.reason);
    assert_eq!(waiting.map(|reason| reason.to_string()).as_deref(), Some("Suspended"));
    lab.set_workload("w", "suspend", false).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    for name in ["w-code", "w-verify", "w-review"] {
        assert_eq!(lab.task_now(name).await.spec.suspend, Some(false), "{name}");
    }
    let waiting = lab.task_now("w-code").await.status.waiting.and_then(|waiting| waiting.reason);
    assert_eq!(waiting.map(|reason| reason.to_string()).as_deref(), Some("NoNodes"));
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0);
}

#[tokio::test]
async fn a_child_that_the_store_refuses_for_good_ends_the_workload_in_one_write() {
    let lab = Lab::new();
    let invalid = StoreError::Invalid { field: "spec.payload".into(), rule: "is odd".into() };
    lab.tasks.script(Operation::Create, vec![Fault::Fail(invalid); 1000]);
    let foreman = lab.one_node(1, &ScriptedExecutor::on_target());
    add_workload(&lab, "w", pipeline()).await;
    lab.run(&foreman, async {
        lab.until(|| async { phase(&lab, "w").await == "Failed" }).await;
        settle().await;
    })
    .await;
    let workload = lab.workload_now("w").await;
    let planned = find_condition(&workload.status.conditions, "Planned").expect("said");
    assert_eq!(
        (planned.reason.as_str(), planned.message.as_str()),
        ("AgentResolveFailed", "a task of the plan was refused: spec.payload: is odd")
    );
    assert!(is_true(&workload.status.conditions, "Finished"));
    let tries = lab.tasks.calls_of(Operation::Create).len();
    assert!(tries <= 3, "{tries} creates");
}

#[tokio::test]
async fn a_child_that_is_denied_is_tried_again_with_growing_pauses() {
    let lab = Lab::new();
    let denied = StoreError::Denied { reason: "quota".into() };
    lab.tasks.break_down([Operation::Create], &denied);
    lab.agent_with("coder", |_| {}).await;
    let foreman = lab.one_node(1, &ScriptedExecutor::on_target());
    add_workload(&lab, "w", pipeline()).await;
    lab.run(&foreman, async {
        for _ in 0..600 {
            settle().await;
            lab.clock.advance(Duration::from_millis(100));
        }
        let tries = lab.tasks.calls_of(Operation::Create).len();
        assert!((3..=9 * 3).contains(&tries), "{tries} creates in a minute");
        assert_eq!(phase(&lab, "w").await, "Planning");
        lab.tasks.mend();
        lab.advance_until(Duration::from_secs(1), || async {
            phase(&lab, "w").await == "Completed"
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_step_whose_name_is_no_objects_name_gets_one_that_is() {
    let lab = Lab::new();
    lab.agent_with("coder", |_| {}).await;
    let odd = WorkloadSpec { pipeline: vec![step("code-", TaskKind::Freeform, &[])], ..pipeline() };
    add_workload(&lab, "w", odd).await;
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(1, &executor);
    lab.run(&foreman, async {
        lab.until(|| async { phase(&lab, "w").await == "Completed" }).await;
    })
    .await;
    assert_eq!(executor.ran().len(), 1);
}

#[tokio::test]
async fn a_step_that_is_taken_out_of_the_spec_holds_nothing_up() {
    let lab = Lab::new();
    lab.agent_with("coder", |_| {}).await;
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let mut stop = run.stop.clone();
            if run.job.task.meta.name == "w-code" {
                drop(stop.wait_for(|stop| *stop != Stop::Continue).await);
            }
            on_target(&run.job)
        })
    });
    let foreman = lab.one_node(1, &executor);
    add_workload(&lab, "w", pipeline()).await;
    lab.run(&foreman, async {
        lab.until_phase("w-code", TaskPhase::Running).await;
        // The review's task is deleted and its step taken out; the verification's only taken out.
        lab.delete_task("w-review").await;
        lab.set_workload("w", "pipeline", [step("code", TaskKind::IssueFix, &[])]).await;
        lab.advance_until(Duration::from_millis(100), || async {
            lab.phase("w-verify").await == Some(TaskPhase::Failed)
        })
        .await;
        lab.set_spec("w-code", "cancel", true).await;
        lab.advance_until(Duration::from_millis(100), || async {
            !matches!(phase(&lab, "w").await.as_str(), "Dispatched" | "Planning" | "Planned")
        })
        .await;
    })
    .await;
    assert_eq!(executor.ran(), ["w-code"]);
    let steps: Vec<_> =
        lab.workload_now("w").await.status.steps.into_iter().map(|s| s.name).collect();
    assert!(!steps.contains(&"review".to_owned()), "{steps:?}");
}

#[tokio::test]
async fn only_the_first_steps_are_made_where_the_workload_says_so() {
    let lab = Lab::new();
    add_workload(&lab, "w", WorkloadSpec { max_tasks: Some(2), ..pipeline() }).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let names: Vec<_> = lab.tasks().await.into_iter().map(|task| task.meta.name).collect();
    assert_eq!(names, ["w-code", "w-verify"]);
    assert_eq!(lab.workload_now("w").await.status.desired_tasks, Some(2));
}

#[tokio::test]
async fn two_workloads_that_want_one_name_both_get_their_tasks() {
    let lab = Lab::new();
    let one = |name: &str| WorkloadSpec {
        intent: "x".into(),
        pipeline: vec![foreman_core::model::workload::PipelineStep {
            payload: AgenticTaskPayload::default(),
            ..step(name, TaskKind::Freeform, &[])
        }],
        ..WorkloadSpec::default()
    };
    lab.agent_with("coder", |_| {}).await;
    add_workload(&lab, "a", one("b-c")).await;
    add_workload(&lab, "a-b", one("c")).await;
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(1, &executor);
    lab.run(&foreman, async {
        for name in ["a", "a-b"] {
            lab.advance_until(Duration::from_millis(100), || async {
                phase(&lab, name).await == "Completed"
            })
            .await;
        }
    })
    .await;
    assert_eq!(executor.ran().len(), 2);
}

#[tokio::test]
async fn a_slip_in_the_spec_of_begun_work_is_said_and_costs_none_of_it() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    add_workload(&lab, "w", pipeline()).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let twice = [step("code", TaskKind::IssueFix, &[]), step("code", TaskKind::IssueFix, &[])];
    lab.set_workload("w", "pipeline", twice).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let spoiled = lab.workload_now("w").await;
    let planned = find_condition(&spoiled.status.conditions, "Planned").expect("said");
    assert_eq!(planned.reason, "InvalidPipeline");
    assert!(planned.status.is(ConditionStatus::False));
    assert!(planned.message.contains("two steps named \"code\""), "{}", planned.message);
    assert!(!is_true(&spoiled.status.conditions, "Finished"));
    for name in ["w-code", "w-verify", "w-review"] {
        assert_eq!(lab.task_now(name).await.spec.cancel, None, "{name}");
    }
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0, "said once");
    let foreman = lab.one_node(1, &executor);
    lab.run(&foreman, async {
        lab.until_phase("w-code", TaskPhase::Succeeded).await;
        lab.set_workload("w", "pipeline", pipeline().pipeline).await;
        lab.until(|| async { phase(&lab, "w").await == "Completed" }).await;
    })
    .await;
    assert!(is_true(&lab.workload_now("w").await.status.conditions, "Planned"));
    assert_eq!(executor.ran().len(), 3, "each step ran once");
}

#[tokio::test]
async fn begun_work_whose_spec_stays_spoiled_ends_when_its_tasks_have_and_is_cancelled_with_it() {
    let lab = Lab::new();
    for (name, cancel) in [("a", false), ("b", true)] {
        add_workload(&lab, name, pipeline()).await;
        lab.reconciler().reconcile_once().await.expect("settled");
        lab.set_workload(name, "pipeline", [step("code", TaskKind::IssueFix, &["code"])]).await;
        lab.reconciler().reconcile_once().await.expect("settled");
        lab.set_workload(name, "cancel", cancel).await;
    }
    lab.reconciler().reconcile_once().await.expect("settled");
    assert_eq!(
        (phase(&lab, "a").await, phase(&lab, "b").await),
        ("Dispatched".into(), "Failed".into())
    );
    for name in ["code", "verify", "review"] {
        assert_eq!(lab.phase(&format!("a-{name}")).await, Some(TaskPhase::Pending), "{name}");
        assert_eq!(lab.phase(&format!("b-{name}")).await, Some(TaskPhase::Failed), "{name}");
    }
    for name in ["a-code", "a-verify", "a-review"] {
        lab.set_spec(name, "cancel", true).await;
    }
    lab.reconciler().reconcile_once().await.expect("settled");
    let ended = lab.workload_now("a").await;
    assert_eq!(phase(&lab, "a").await, "Failed");
    assert!(ended.status.steps.iter().all(|step| step.settled == Some(true)));
    assert_eq!(reason(&ended, "Planned").as_deref(), Some("InvalidPipeline"));
    assert_eq!(lab.reconciler().reconcile_once().await.expect("settled"), 0);
}

#[tokio::test]
async fn a_child_that_was_made_a_strangers_is_not_created_for_ever() {
    let lab = Lab::new();
    add_workload(&lab, "w", pipeline()).await;
    lab.reconciler().reconcile_once().await.expect("settled");
    let before = lab.workload_now("w").await;
    for _ in 0..2 {
        // Somebody takes the label off that says which step the task stands for.
        let steps = lab.workload_now("w").await.status.steps;
        let name = steps.first().and_then(|step| step.task.clone()).expect("named");
        let change =
            Change::<AgenticTask>::of(Part::Meta).labels([("foreman.llmkube.dev/step", None)]);
        let key = Key::namespaced("default", &name);
        Store::patch(&*lab.store, &key, change, Expect::Any).await.expect("patched");
        lab.reconciler().reconcile_once().await.expect("settled");
    }
    let after = lab.workload_now("w").await;
    assert_ne!(before.status.steps[0].task, after.status.steps[0].task, "a name of its own");
    assert_eq!(reason(&after, "Planned").as_deref(), Some("NameTaken"));
    assert_eq!(phase(&lab, "w").await, "Failed");
}
