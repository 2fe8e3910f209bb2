//! Behaviours 58 to 63 and 74: from a workload to its tasks, and back to one answer.

use serde_json::{Value, json};

use super::Stage;
use super::on_memory;
use super::played::{Node, plain_agent};
const STEP: &str = "foreman.llmkube.dev/step";

/// Agents and a node with room for everything.
pub(crate) async fn crew(stage: &Stage) {
    for name in ["coder", "bigger", "verifier", "critic-a", "critic-b", "senior"] {
        stage.agent(name, plain_agent()).await;
    }
    stage.node(Node::ours("n", 40)).await;
}

/// Issues with a coder, a verifier and two reviewers.
pub(crate) fn batch(issues: &[i32]) -> Value {
    json!({"intent": "fix what is reported", "repo": "acme/app", "issues": issues,
        "coderAgentRef": {"name": "coder"}, "verifierAgentRef": {"name": "verifier"},
        "reviewerAgentRefs": [{"name": "critic-a"}, {"name": "critic-b"}]})
}

/// A pipeline of three steps, one after the other.
pub(crate) fn pipeline() -> Value {
    let step = |name: &str, kind: &str, after: &[&str]| {
        json!({"name": name, "kind": kind, "agentRef": {"name": "coder"},
            "payload": {"repo": "acme/app"}, "dependsOn": after})
    };
    json!({"intent": "make it so", "pipeline": [step("code", "issue-fix", &[]),
        step("verify", "verify", &["code"]), step("review", "review", &["verify"])]})
}

/// Pipeline steps become one task each, with what a step says; a pipeline wins over issues.
pub(crate) async fn b059_a_pipeline_becomes_tasks_and_wins_over_issues(stage: &Stage) {
    crew(stage).await;
    let mut spec = batch(&[1]);
    spec["pipeline"] = json!([
        {"name": "build", "kind": "freeform", "agentRef": {"name": "coder"}, "payload": {},
            "timeoutSeconds": 90, "priority": 7, "gateProfile": {"language": "rust"}},
        {"name": "w-check", "kind": "verify", "agentRef": {"name": "verifier"}, "payload": {},
            "dependsOn": ["build"]}]);
    stage.workload("w", spec).await;
    stage.workload_is("w", "Dispatched", 10).await;
    let build = stage.see_task("w-build").await;
    assert_eq!(build.at("/spec/timeoutSeconds"), json!(90));
    assert_eq!(build.at("/spec/priority"), json!(7));
    assert_eq!(build.text("/spec/gateProfile/language"), "rust");
    let names = stage.task_names().await;
    assert_eq!(names.len(), 2, "{names:?}");
    let check = names.iter().find(|name| *name != "w-build").expect("two tasks");
    let check = stage.see_task(check).await;
    assert_eq!(check.labelled(STEP), "w-check");
    assert_eq!(check.at("/spec/dependsOn"), json!(["w-build"]));
}

/// Off target fails the workload: `ChildrenIncomplete`, or `ChildrenFailed` once one failed.
pub(crate) async fn b062_off_target_fails_the_workload(stage: &Stage) {
    crew(stage).await;
    for verdict in ["NO-GO", "GATE-FAIL", "INCOMPLETE"] {
        let name = verdict.to_lowercase();
        let step = json!({"name": "only", "kind": "freeform", "agentRef": {"name": "coder"},
            "payload": {}});
        stage.workload(&name, json!({"intent": "x", "pipeline": [step]})).await;
        stage.runs_to(&format!("{name}-only"), verdict, json!({})).await;
        let workload = stage.workload_is(&name, "Failed", 5).await;
        assert_eq!(workload.condition("Completed"), "False/ChildrenIncomplete", "{verdict}");
    }
    stage.workload("p", pipeline()).await;
    stage.runs_to("p-code", "GO", json!({})).await;
    stage.runs_to("p-verify", "GATE-FAIL", json!({})).await;
    let workload = stage.workload_is("p", "Failed", 5).await;
    assert_eq!(
        workload.condition("Completed"),
        "False/ChildrenFailed",
        "the review failed upstream"
    );
    let counts = ["succeededTasks", "failedTasks", "incompleteTasks"]
        .map(|count| workload.text(&format!("/status/{count}")));
    assert_eq!(counts, ["1", "1", "1"]);
}

on_memory!(b059_a_pipeline_becomes_tasks_and_wins_over_issues, b062_off_target_fails_the_workload,);
