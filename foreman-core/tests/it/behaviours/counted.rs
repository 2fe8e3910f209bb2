//! Behaviour 80: each end is counted exactly once, whatever restarts. Core has no registry of metrics;
//! what it counts by are the events, each told when the write that ends an object was taken.

use std::time::Duration;

use foreman_core::testkit::scripted::ScriptedExecutor;
use serde_json::json;

use super::Stage;
use super::batches::{crew, pipeline};
use super::on_memory;
use super::played::{Node, freeform_with, task_of};
use super::real::Setup;

/// How often something ended so far.
fn ends(stage: &Stage, reason: &str) -> Vec<String> {
    let name = |told: &String| told.split(':').next().unwrap_or_default().to_owned();
    let mut names: Vec<_> = stage.told.of(reason).iter().map(name).collect();
    names.sort();
    names
}

/// A workload and the tasks that the control loops end themselves: one event each, and none again
/// after restarts and further changes of the ended objects.
pub(crate) async fn b080_each_end_is_told_once(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", pipeline()).await;
    stage.task("lost", task_of("nobody")).await;
    stage.runs_to("w-code", "GO", json!({})).await;
    stage.restart_loops().await;
    stage.runs_to("w-verify", "GATE-FAIL", json!({})).await;
    stage.workload_is("w", "Failed", 10).await;
    stage.task_is("lost", "Failed", 10).await;
    for round in 0..3 {
        stage.restart_loops().await;
        stage.advance(Duration::from_secs(40)).await;
        for name in ["lost", "w-code", "w-review"] {
            stage.annotate_task(name, &[("example.com/round", &round.to_string())]).await;
        }
        stage.workload_spec("w", [("ttlSecondsAfterFinished", json!(900 + round))]).await;
    }
    assert_eq!(ends(stage, "WorkloadFinished"), ["w"]);
    assert_eq!(ends(stage, "TaskEnded"), ["lost", "w-review"]);
}

/// A task that an agent ends is told of once, by the agent.
pub(crate) async fn b080_a_runs_end_is_told_once(stage: &Stage) {
    let _life = stage.starts(Setup::of("a", 1), ScriptedExecutor::on_target()).await;
    stage.node(Node::ours("other", 0)).await;
    stage.task("t", freeform_with("priority", json!(1))).await;
    stage.task_is("t", "Succeeded", 10).await;
    for _ in 0..3 {
        stage.restart_loops().await;
        stage.advance(Duration::from_secs(40)).await;
    }
    assert_eq!(ends(stage, "AttemptEnded"), ["t"]);
    assert_eq!(ends(stage, "TaskEnded"), [""; 0]);
}

on_memory!(b080_each_end_is_told_once, b080_a_runs_end_is_told_once,);
