//! Behaviours 41 to 45: what a task waits for, and what ends it before it runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use super::on_memory;
use super::played::{Node, freeform, freeform_with, succeeded};

fn after(names: &[&str]) -> Value {
    freeform_with("dependsOn", json!(names))
}

/// A task waits while what it depends on runs, and is placed once that ended on target.
pub(crate) async fn b041_a_dependency_on_target_lets_the_next_one_go(stage: &Stage) {
    stage.node(Node::ours("a", 4)).await;
    for (name, verdict) in [("go", "GO"), ("gate", "GATE-PASS")] {
        stage.task(name, freeform()).await;
        stage.claim(name).await;
        let next = format!("after-{name}");
        stage.task(&next, after(&[name])).await;
        let task = stage.task_waits(&next, "Dependency", 2).await;
        assert!(task.text("/status/waiting/message").contains(name), "{task:?}");
        stage.task_stays(&next, "Pending", 30).await;
        stage.ends(name, succeeded(verdict, json!({}))).await;
        stage.task_is(&next, "Scheduled", 2).await;
    }
}

/// A dependency that ended off target fails what comes after it, which is never placed.
pub(crate) async fn b042_a_dependency_off_target_fails_the_next_one(stage: &Stage) {
    stage.node(Node::ours("a", 9)).await;
    for verdict in ["INCOMPLETE", "NO-GO", "GATE-FAIL", "GATE-ERROR", "FAILED"] {
        let name = verdict.to_lowercase();
        stage.task(&name, freeform()).await;
        stage.claim(&name).await;
        let next = format!("after-{name}");
        stage.task(&next, after(&[&name])).await;
        stage.task_waits(&next, "Dependency", 2).await;
        let end = match verdict {
            "FAILED" => json!({"phase": "Failed", "verdict": "INCOMPLETE",
                "failureReason": "InfrastructureError"}),
            _ => succeeded(verdict, json!({})),
        };
        stage.ends(&name, end).await;
        let task = stage.task_is(&next, "Failed", 2).await;
        assert_eq!(task.end(), "Failed/INCOMPLETE", "{verdict}");
        assert_eq!(task.condition("Failed"), "True/UpstreamFailed", "{verdict}");
        assert_eq!(task.condition("Scheduled"), "", "never placed");
        assert!(!task.text("/status/finishedAt").is_empty());
    }
}

/// A dependency that found its issue already resolved: what comes after it is skipped.
pub(crate) async fn b043_a_resolved_dependency_skips_the_next_one(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("code", freeform()).await;
    stage.task("verify", after(&["code"])).await;
    stage.runs_to("code", "NO-GO", json!({"outcome": "ALREADY-RESOLVED"})).await;
    let task = stage.task_is("verify", "Succeeded", 2).await;
    assert_eq!(task.end(), "Succeeded/Skipped");
    assert_eq!(task.condition("Skipped"), "True/UpstreamAlreadyResolved");
}

/// So is what comes after what was skipped.
pub(crate) async fn b044_what_comes_after_a_skipped_one_is_skipped_too(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("code", freeform()).await;
    stage.task("verify", after(&["code"])).await;
    stage.task("review", after(&["verify"])).await;
    stage.runs_to("code", "NO-GO", json!({"outcome": "ALREADY-RESOLVED"})).await;
    let task = stage.task_is("review", "Succeeded", 2).await;
    assert_eq!(task.end(), "Succeeded/Skipped");
    assert_eq!(task.condition("Skipped"), "True/UpstreamAlreadyResolved");
}

/// A dependency that is not there yet is waited for, with a reason.
pub(crate) async fn b045_a_dependency_may_come_later(stage: &Stage) {
    stage.node(Node::ours("a", 2)).await;
    stage.task("late", after(&["early"])).await;
    let task = stage.task_waits("late", "DependencyMissing", 2).await;
    assert!(task.text("/status/waiting/message").contains("early"), "{task:?}");
    stage.task_stays("late", "Pending", 300).await;
    stage.task("early", freeform()).await;
    stage.task_waits("late", "Dependency", 60).await;
    stage.runs_to("early", "GO", json!({})).await;
    stage.task_is("late", "Scheduled", 2).await;
}

/// The wait for one that never comes ends after an hour.
pub(crate) async fn b045_a_dependency_that_never_comes_is_waited_for_an_hour(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("t", after(&["never"])).await;
    stage.task_waits("t", "DependencyMissing", 2).await;
    stage.advance(Duration::from_mins(59)).await;
    assert_eq!(stage.see_task("t").await.phase(), "Pending");
    let task = stage.task_is("t", "Failed", 120).await;
    assert_eq!(task.condition("Failed"), "True/UpstreamFailed");
    assert!(task.message("Failed").contains("never"), "{task:?}");
}

/// A cycle fails, naming it; so does a task that depends on itself.
pub(crate) async fn b045_a_cycle_fails_and_is_named(stage: &Stage) {
    stage.node(Node::ours("n", 4)).await;
    stage.task("self", after(&["self"])).await;
    let task = stage.task_is("self", "Failed", 2).await;
    assert_eq!(task.condition("Failed"), "True/UpstreamFailed");
    stage.task("a", after(&["c"])).await;
    stage.task("b", after(&["a"])).await;
    stage.task_waits("b", "Dependency", 2).await;
    stage.task("c", after(&["b"])).await;
    for name in ["a", "b", "c"] {
        let task = stage.task_is(name, "Failed", 5).await;
        assert_eq!(task.condition("Failed"), "True/UpstreamFailed", "{name}");
    }
    let named = stage.see_task("c").await.message("Failed");
    assert!(named.contains("cycle") || named.contains("off target"), "{named}");
}

on_memory!(
    b041_a_dependency_on_target_lets_the_next_one_go,
    b042_a_dependency_off_target_fails_the_next_one,
    b043_a_resolved_dependency_skips_the_next_one,
    b044_what_comes_after_a_skipped_one_is_skipped_too,
    b045_a_dependency_may_come_later,
    b045_a_dependency_that_never_comes_is_waited_for_an_hour,
    b045_a_cycle_fails_and_is_named,
);
