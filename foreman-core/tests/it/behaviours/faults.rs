//! Behaviours 69 to 73: a workload whose control loops, store, Agents or children fail it.

use std::time::Duration;

use foreman_core::model::Workload;
use serde_json::{Value, json};

use super::Stage;
use super::batches::{crew, pipeline};
use super::on_memory;

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

/// A step whose Agent is missing, before anything was made: the workload ends and says so, nothing
/// is written again and again, and it starts by itself when the Agent is there.
pub(crate) async fn b072_a_missing_agent_ends_the_workload(stage: &Stage) {
    crew(stage).await;
    let mut spec = pipeline();
    spec["pipeline"][1]["agentRef"] = json!({"name": "nobody"});
    stage.workload("w", spec).await;
    let workload = stage.workload_is("w", "Failed", 15).await;
    assert_eq!(workload.condition("Planned"), "False/AgentResolveFailed");
    assert_eq!(workload.message("Planned"), "there is no Agent nobody");
    assert!(!stage.see_task("w-code").await.is_there(), "half a plan is none");
    let before = stage.seen.writes().len();
    let quiet = async || stage.seen.writes().len() == before;
    stage.throughout(Duration::from_mins(5), "nothing is written", quiet).await;
    stage.agent("nobody", json!({"role": "verifier", "tools": ["run_gate_job"]})).await;
    stage.runs_to("w-code", "GO", json!({})).await;
    stage.runs_to("w-verify", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review", "GO", json!({})).await;
    let workload = stage.workload_is("w", "Completed", 10).await;
    assert_eq!(workload.condition("Planned"), "True/PlannerSucceeded");
    assert_eq!(workload.condition("Finished"), "True/Succeeded");
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
    b072_a_missing_agent_ends_the_workload,
    b073_a_deleted_child_is_never_silently_done,
    b073_a_finished_workload_does_not_run_again,
);
