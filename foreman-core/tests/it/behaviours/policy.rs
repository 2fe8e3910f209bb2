//! Behaviour 67: what must not leave for the cloud does not.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use super::batches::{batch_with, crew};
use super::on_memory;
use super::played::{agent_with, task_of};

/// An Agent whose model is in the cloud.
async fn cloudy(stage: &Stage) {
    stage.agent("cloudy", agent_with("provider", json!("cloud-proxy"))).await;
}

/// `allowCloudReviewers: false`: reviews in the cloud are left out and named; the rest decides.
pub(crate) async fn b067_cloud_reviewers_are_left_out(stage: &Stage) {
    crew(stage).await;
    cloudy(stage).await;
    let mut spec =
        batch_with(&[1], "reviewerAgentRefs", json!([{"name": "critic-a"}, {"name": "cloudy"}]));
    spec["allowCloudReviewers"] = json!(false);
    stage.workload("w", spec).await;
    let workload = stage.workload_is("w", "Dispatched", 10).await;
    assert_eq!(workload.condition("CloudReviewersSuppressed"), "True/SovereigntyGate");
    assert!(workload.message("CloudReviewersSuppressed").contains("cloudy"), "{workload:?}");
    assert_eq!(stage.task_names().await, ["w-code-1", "w-review-1-0", "w-verify-1"]);
    stage.runs_to("w-code-1", "GO", json!({})).await;
    stage.runs_to("w-verify-1", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review-1-0", "GO", json!({})).await;
    stage.workload_is("w", "Completed", 10).await;
}

/// The operator's switch does the same for every workload.
pub(crate) async fn b067_the_operators_switch_leaves_cloud_reviewers_out(stage: &Stage) {
    crew(stage).await;
    cloudy(stage).await;
    stage.forbid_cloud().await;
    let refs = json!([{"name": "cloudy"}, {"name": "critic-a"}]);
    stage.workload("w", batch_with(&[1], "reviewerAgentRefs", refs)).await;
    let workload = stage.workload_is("w", "Dispatched", 10).await;
    assert_eq!(workload.condition("CloudReviewersSuppressed"), "True/SovereigntyGate");
    assert!(workload.message("CloudReviewersSuppressed").contains("cloudy"), "{workload:?}");
    assert_eq!(stage.task_names().await, ["w-code-1", "w-review-1-1", "w-verify-1"]);
}

/// With the switch off neither a task that a person made nor a coder of a workload goes to the cloud:
/// they wait and say so.
pub(crate) async fn b067_nothing_else_leaves_for_the_cloud_either(stage: &Stage) {
    crew(stage).await;
    cloudy(stage).await;
    stage.forbid_cloud().await;
    stage.task("direct", task_of("cloudy")).await;
    let step = json!({"name": "code", "kind": "issue-fix", "agentRef": {"name": "cloudy"},
        "payload": {"repo": "acme/app"}});
    stage.workload("w", json!({"intent": "fix", "pipeline": [step]})).await;
    for name in ["direct", "w-code"] {
        let task = stage.task_waits(name, "PolicyForbids", 10).await;
        assert!(task.text("/status/waiting/message").contains("cloudy"), "{task:?}");
        assert_eq!(task.node(), "");
    }
    stage.advance(Duration::from_mins(2)).await;
    for name in ["direct", "w-code"] {
        assert_eq!(stage.see_task(name).await.phase(), "Pending");
    }
}

on_memory!(
    b067_cloud_reviewers_are_left_out,
    b067_the_operators_switch_leaves_cloud_reviewers_out,
    b067_nothing_else_leaves_for_the_cloud_either,
);
