//! Behaviours 64 and 68: what a reviewer finds goes back to the coder; what a gate noticed goes on to
//! the reviewer.

use serde_json::{Value, json};

use super::Stage;
use super::batches::{batch, batch_with, crew};
use super::on_memory;
use super::seen::Shown;

/// Code and gate of issue 1 pass; the reviewers say what they say.
async fn first_round(stage: &Stage, first: &str, second: &str) {
    stage.runs_to("w-code-1", "GO", json!({"branch": "foreman/w/issue-1"})).await;
    stage.runs_to("w-verify-1", "GATE-PASS", json!({})).await;
    let findings = json!({"modelExtra": {"findings": [
        {"file": "lib.rs", "detail": "off by one in the paging"}]}});
    stage.runs_to("w-review-1-0", first, findings).await;
    stage.runs_to("w-review-1-1", second, json!({})).await;
}

async fn second_round(stage: &Stage, verdict: &str) -> Shown {
    stage.runs_to("w-code-1-r1", "GO", json!({})).await;
    stage.runs_to("w-verify-1-r1", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review-1-0-r1", verdict, json!({})).await;
    stage.runs_to("w-review-1-1-r1", "GO", json!({})).await;
    let phase = if verdict == "GO" { "Completed" } else { "Failed" };
    stage.workload_is("w", phase, 10).await
}

/// A NO-GO of a reviewer makes one fix round: the same branch, rebased, with the findings in the
/// prompt; a round that passes completes the workload.
pub(crate) async fn b064_a_reviewers_no_go_goes_back_to_the_coder(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch(&[1])).await;
    first_round(stage, "NO-GO", "GO").await;
    let code = stage.task_is("w-code-1-r1", "Scheduled", 10).await;
    let workload = stage.see_workload("w").await;
    assert_eq!(workload.phase(), "Dispatched");
    assert_eq!(workload.condition("ReviewIterationTriggered"), "True/ReviewerNoGo");
    assert_eq!(workload.text("/status/reviewIterations"), "1");
    let payload = |field: &str| code.at(&format!("/spec/payload/{field}"));
    assert_eq!(payload("branch"), json!("foreman/w/issue-1"));
    assert_eq!(payload("reviseFromBranch"), json!("foreman/w/issue-1"));
    assert_eq!(payload("branchStrategy"), json!("rebase"));
    assert_eq!(payload("allowOverwrite"), json!(true));
    let prompt = code.text("/spec/payload/prompt");
    assert!(prompt.contains("off by one in the paging"), "{prompt}");
    assert!(prompt.contains("it came to NO-GO"), "the reviewer's summary: {prompt}");
    assert_eq!(stage.see_task("w-verify-1-r1").await.at("/spec/dependsOn"), json!(["w-code-1-r1"]));
    assert_eq!(
        stage.see_task("w-review-1-1-r1").await.at("/spec/dependsOn"),
        json!(["w-verify-1-r1"])
    );
    let workload = second_round(stage, "GO").await;
    assert_eq!(workload.condition("Completed"), "True/AllChildrenSucceeded");
    assert_eq!(workload.text("/status/succeededTasks"), "4", "the first round does not count");
}

/// A second NO-GO is the end: one round is what is allowed where nothing is said.
pub(crate) async fn b064_a_second_no_go_fails_the_workload(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch(&[1])).await;
    first_round(stage, "NO-GO", "NO-GO").await;
    let workload = second_round(stage, "NO-GO").await;
    assert_eq!(workload.condition("Completed"), "False/ChildrenIncomplete");
    stage.advance(std::time::Duration::from_secs(30)).await;
    assert!(!stage.see_task("w-code-1-r2").await.is_there());
}

/// `maxReviewIterations: 0`: no round at all.
pub(crate) async fn b064_without_rounds_a_no_go_fails_at_once(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch_with(&[1], "maxReviewIterations", json!(0))).await;
    first_round(stage, "GO", "NO-GO").await;
    let workload = stage.workload_is("w", "Failed", 10).await;
    assert_eq!(workload.condition("Completed"), "False/ChildrenIncomplete");
    assert_eq!(stage.task_names().await.len(), 4);
}

/// What the gate of the coder noticed is written into reviews that still wait, and not into others.
pub(crate) async fn b068_waiting_reviews_are_told_what_the_gate_noticed(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch_with(&[1], "verifierAgentRef", Value::Null)).await;
    let noticed = json!([{"check": "lint", "detail": "two warnings"}]);
    stage.claim("w-code-1").await;
    // One review is placed by hand before the code ends: it is not waiting any more.
    let placed =
        [("phase", json!("Scheduled")), ("assignedNode", json!("n")), ("waiting", Value::Null)];
    stage.task_status("w-review-1-1", placed).await;
    let end = super::played::succeeded("GO", json!({"gateAdvisories": noticed}));
    stage.ends("w-code-1", end).await;
    let told =
        async || stage.see_task("w-review-1-0").await.at("/spec/payload/gateAdvisories") == noticed;
    stage.eventually(std::time::Duration::from_secs(5), "the review is told", told).await;
    let other = stage.see_task("w-review-1-1").await;
    assert_eq!(other.at("/spec/payload/gateAdvisories"), Value::Null);
}

on_memory!(
    b064_a_reviewers_no_go_goes_back_to_the_coder,
    b064_a_second_no_go_fails_the_workload,
    b064_without_rounds_a_no_go_fails_at_once,
    b068_waiting_reviews_are_told_what_the_gate_noticed,
);
