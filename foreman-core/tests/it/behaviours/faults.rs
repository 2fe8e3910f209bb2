//! Behaviours 69 to 73: a workload whose control loops, store, Agents or children fail it.

use std::time::Duration;

use foreman_core::model::{Agent, Workload};
use foreman_core::ports::StoreError;
use foreman_core::testkit::fault::{Fault, Operation};
use serde_json::{Value, json};

use super::Stage;
use super::batches::{batch, crew, pipeline};
use super::on_memory;
use super::played::plain_agent;

async fn uids(stage: &Stage) -> Vec<String> {
    let mut uids = Vec::new();
    for name in stage.task_names().await {
        uids.push(stage.see_task(&name).await.text("/metadata/uid"));
    }
    uids
}

/// A workload that is deleted takes its children along, and none is made again.
pub(crate) async fn b069_a_deleted_workloads_children_stay_deleted(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", pipeline()).await;
    stage.claim("w-code").await;
    stage.delete::<Workload>(&*stage.stores.workloads, "w").await;
    let none = async || stage.task_names().await.is_empty();
    stage.throughout(Duration::from_mins(2), "no children", none).await;
}

/// Control loops that die after each few steps of theirs: no duplicate children, the same end.
pub(crate) async fn b070_loops_that_die_anywhere_change_nothing(stage: &Stage) {
    crew(stage).await;
    stage.kill_loops().await;
    stage.workload("w", pipeline()).await;
    // Each life gets one turn more than the one before, so that the deaths fall everywhere.
    let dies_often = async |lives: usize| {
        for turns in 1..lives {
            stage.start_loops();
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            stage.kill_loops().await;
            stage.clock.advance(Duration::from_millis(100));
        }
    };
    let order = [("w-code", "GO"), ("w-verify", "GATE-PASS"), ("w-review", "GO")];
    let mut first = Vec::new();
    for (name, verdict) in order {
        dies_often(40).await;
        stage.start_loops();
        stage.claim(name).await;
        stage.kill_loops().await;
        if first.is_empty() {
            first = uids(stage).await;
        }
        dies_often(20).await;
        stage.ends(name, super::played::succeeded(verdict, json!({}))).await;
    }
    dies_often(40).await;
    stage.start_loops();
    let workload = stage.workload_is("w", "Completed", 10).await;
    assert_eq!(workload.text("/status/succeededTasks"), "3");
    assert_eq!(stage.task_names().await, ["w-code", "w-review", "w-verify"]);
    assert_eq!(uids(stage).await, first, "the same tasks from the first to the last");
}

/// A create that fails in the middle of a plan: the missing steps come later, and the workload cannot
/// complete before they ran.
pub(crate) async fn b071_a_failed_create_is_made_up_for(stage: &Stage) {
    crew(stage).await;
    let away = || Fault::Fail(StoreError::Unavailable { reason: "busy".into(), retry_after: None });
    let faults = [None, Some(away()), Some(away()), Some(Fault::uncertain()), Some(away())];
    stage.seen.tasks.script(Operation::Create, faults);
    stage.workload("w", batch(&[1])).await;
    let some = async || !stage.task_names().await.is_empty();
    stage.eventually(Duration::from_secs(5), "the first step is there", some).await;
    stage.restart_loops().await;
    stage.workload_is("w", "Dispatched", 60).await;
    assert_eq!(stage.task_names().await.len(), 4);
    stage.runs_to("w-code-1", "GO", json!({})).await;
    stage.runs_to("w-verify-1", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review-1-0", "GO", json!({})).await;
    stage.advance(Duration::from_secs(10)).await;
    assert_eq!(stage.see_workload("w").await.phase(), "Dispatched", "one has not run");
    stage.runs_to("w-review-1-1", "GO", json!({})).await;
    let workload = stage.workload_is("w", "Completed", 10).await;
    assert_eq!(workload.text("/status/succeededTasks"), "4");
}

/// A child that the store refuses for good (an admission policy that misses its Agent): Failed in
/// one write and no further, and rendered again when an Agent of the namespace appears.
pub(crate) async fn b072_a_refused_child_fails_without_a_loop(stage: &Stage) {
    crew(stage).await;
    let invalid = StoreError::Invalid { field: "spec.agentRef".into(), rule: "is missing".into() };
    stage.seen.tasks.break_down([Operation::Create], &invalid);
    stage.workload("w", pipeline()).await;
    let workload = stage.workload_is("w", "Failed", 5).await;
    assert_eq!(workload.condition("Planned"), "False/AgentResolveFailed");
    let before = stage.seen.writes().len();
    let quiet = async || stage.seen.writes().len() == before;
    stage.throughout(Duration::from_mins(5), "nothing is written", quiet).await;
    stage.seen.tasks.mend();
    stage.agent("late", plain_agent()).await;
    stage.workload_is("w", "Dispatched", 10).await;
    assert_eq!(stage.task_names().await.len(), 3);
}

/// A step whose Agent is missing when the plan is made: Failed, in one write, with no task made; and
/// planned again when the Agent appears.
pub(crate) async fn b072_a_missing_agent_fails_the_plan_until_it_appears(stage: &Stage) {
    crew(stage).await;
    let mut spec = pipeline();
    spec["pipeline"][1]["agentRef"] = json!({"name": "late"});
    stage.workload("w", spec).await;
    let workload = stage.workload_is("w", "Failed", 15).await;
    assert_eq!(workload.condition("Planned"), "False/AgentResolveFailed");
    assert!(workload.message("Planned").contains("late"), "{workload:?}");
    stage.advance(Duration::from_secs(10)).await;
    let before = stage.seen.writes().len();
    let quiet = async || stage.seen.writes().len() == before;
    stage.throughout(Duration::from_mins(5), "nothing is written", quiet).await;
    assert!(stage.task_names().await.is_empty());
    stage.agent("late", plain_agent()).await;
    stage.runs_to("w-code", "GO", json!({})).await;
    stage.task_is("w-verify", "Scheduled", 10).await;
}

/// An Agent that is deleted once the plan is made: its task fails and says so (api.md, rule 2), the
/// workload ends, and nothing is written again and again.
pub(crate) async fn b072_an_agent_that_vanishes_ends_the_workload(stage: &Stage) {
    crew(stage).await;
    let mut spec = pipeline();
    spec["pipeline"][1]["agentRef"] = json!({"name": "verifier"});
    stage.workload("w", spec).await;
    stage.claim("w-code").await;
    stage.delete::<Agent>(&*stage.stores.agents, "verifier").await;
    stage.ends("w-code", super::played::succeeded("GO", json!({}))).await;
    let task = stage.task_is("w-verify", "Failed", 15).await;
    assert_eq!(task.condition("Failed"), "True/AgentNotFound");
    let workload = stage.workload_is("w", "Failed", 10).await;
    assert_eq!(workload.condition("Completed"), "False/ChildrenFailed");
    stage.advance(Duration::from_secs(10)).await;
    let before = stage.seen.writes().len();
    let quiet = async || stage.seen.writes().len() == before;
    stage.throughout(Duration::from_mins(5), "nothing is written", quiet).await;
}

/// A child that is deleted before it ended is made again; one that ended keeps what it came to.
pub(crate) async fn b073_a_deleted_child_is_never_silently_done(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", pipeline()).await;
    stage.runs_to("w-code", "GO", json!({})).await;
    stage.task_is("w-verify", "Scheduled", 5).await;
    stage.advance(Duration::from_secs(5)).await;
    let first = stage.see_task("w-review").await.text("/metadata/uid");
    stage.delete_task("w-review").await;
    let again = async || {
        let uid = stage.see_task("w-review").await.text("/metadata/uid");
        !uid.is_empty() && uid != first
    };
    stage.eventually(Duration::from_secs(10), "the step is made again", again).await;
    stage.delete_task("w-code").await;
    stage.advance(Duration::from_secs(10)).await;
    assert!(!stage.see_task("w-code").await.is_there(), "it ran already");
    stage.runs_to("w-verify", "GATE-PASS", json!({})).await;
    stage.advance(Duration::from_secs(5)).await;
    assert_eq!(stage.see_workload("w").await.phase(), "Dispatched");
}

/// The children of a workload that has ended are deleted: it does not run again.
pub(crate) async fn b073_a_finished_workload_does_not_run_again(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", pipeline()).await;
    stage.runs_to("w-code", "GO", json!({})).await;
    stage.runs_to("w-verify", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review", "GO", json!({})).await;
    let done = stage.workload_is("w", "Completed", 10).await;
    for name in ["w-code", "w-verify", "w-review"] {
        stage.delete_task(name).await;
    }
    stage.restart_loops().await;
    let same = async || {
        stage.task_names().await.is_empty()
            && stage.see_workload("w").await.at("/status") == done.at("/status")
    };
    stage.throughout(Duration::from_mins(5), "it stays Completed", same).await;
    assert_ne!(done.at("/status"), Value::Null);
}

on_memory!(
    b069_a_deleted_workloads_children_stay_deleted,
    b070_loops_that_die_anywhere_change_nothing,
    b071_a_failed_create_is_made_up_for,
    b072_a_refused_child_fails_without_a_loop,
    b072_a_missing_agent_fails_the_plan_until_it_appears,
    b072_an_agent_that_vanishes_ends_the_workload,
    b073_a_deleted_child_is_never_silently_done,
    b073_a_finished_workload_does_not_run_again,
);
