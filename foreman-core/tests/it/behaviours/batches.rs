//! Behaviours 58 to 63 and 74: from a workload to its tasks, and back to one answer.

use serde_json::{Value, json};

use super::Stage;
use super::on_memory;
use super::played::{Node, plain_agent, succeeded};

const WORKLOAD: &str = "foreman.llmkube.dev/workload";
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

/// Such a workload with one more field.
pub(crate) fn batch_with(issues: &[i32], field: &str, value: Value) -> Value {
    let mut spec = batch(issues);
    spec[field] = value;
    spec
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

/// Issues become code, verify and review tasks with labels, owner, branch and dependencies.
pub(crate) async fn b058_an_issue_batch_becomes_tasks(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch(&[1, 2])).await;
    stage.workload_is("w", "Dispatched", 10).await;
    let wanted = [
        "w-code-1",
        "w-code-2",
        "w-review-1-0",
        "w-review-1-1",
        "w-review-2-0",
        "w-review-2-1",
        "w-verify-1",
        "w-verify-2",
    ];
    assert_eq!(stage.task_names().await, wanted);
    let workload = stage.see_workload("w").await;
    for name in wanted {
        let task = stage.see_task(name).await;
        assert_eq!(task.labelled(WORKLOAD), "w");
        assert_eq!(format!("w-{}", task.labelled(STEP)), name);
        assert_eq!(task.at("/metadata/ownerReferences/0/uid"), workload.at("/metadata/uid"));
        assert_eq!(task.at("/metadata/ownerReferences/0/controller"), json!(true));
        let issue = if name.contains("-1") && !name.contains("-2") { 1 } else { 2 };
        if name.starts_with("w-code") {
            assert_eq!(task.text("/spec/payload/branch"), format!("foreman/w/issue-{issue}"));
            assert_eq!(task.at("/spec/payload/issue"), json!(issue));
            assert_eq!(task.text("/spec/payload/repo"), "acme/app");
        }
    }
    let verify = stage.see_task("w-verify-1").await;
    assert_eq!(
        (verify.text("/spec/kind"), verify.at("/spec/dependsOn")),
        ("verify".into(), json!(["w-code-1"]))
    );
    let review = stage.see_task("w-review-2-1").await;
    assert_eq!(
        (review.text("/spec/kind"), review.at("/spec/dependsOn")),
        ("review".into(), json!(["w-verify-2"]))
    );
    assert_eq!(review.text("/spec/agentRef/name"), "critic-b");
    assert_eq!(review.at("/spec/payload/openPullRequest"), json!(true));
}

/// Without a verifier reviews come after the code.
pub(crate) async fn b058_without_a_gate_reviews_follow_the_code(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch_with(&[7], "verifierAgentRef", Value::Null)).await;
    stage.workload_is("w", "Dispatched", 10).await;
    assert_eq!(stage.task_names().await, ["w-code-7", "w-review-7-0", "w-review-7-1"]);
    assert_eq!(stage.see_task("w-review-7-0").await.at("/spec/dependsOn"), json!(["w-code-7"]));
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

/// Only an intent, or issues without a coder: there is no plan.
pub(crate) async fn b060_without_a_plan_the_workload_fails(stage: &Stage) {
    crew(stage).await;
    stage.workload("intent", json!({"intent": "make it better"})).await;
    stage.workload("coderless", json!({"intent": "fix", "issues": [1]})).await;
    for name in ["intent", "coderless"] {
        let workload = stage.workload_is(name, "Failed", 5).await;
        assert_eq!(workload.condition("Planned"), "False/NoPlannerOrPipeline", "{name}");
    }
    assert!(stage.task_names().await.is_empty());
}

/// `maxTasks` smaller than the steps clips the plan and says so. (Ours keeps whole issues only
/// together with what they need.)
pub(crate) async fn b061_max_tasks_clips_the_plan(stage: &Stage) {
    crew(stage).await;
    let mut spec = batch(&[1, 2]);
    spec["maxTasks"] = json!(4);
    stage.workload("w", spec).await;
    let workload = stage.workload_is("w", "Dispatched", 10).await;
    assert_eq!(workload.condition("Truncated"), "True/MaxTasksCap");
    let names = ["w-code-1", "w-review-1-0", "w-review-1-1", "w-verify-1"];
    assert_eq!(stage.task_names().await, names);
}

/// Everything on target: Completed, with the counts. While something is in flight: Dispatched.
pub(crate) async fn b062_all_on_target_completes_the_workload(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch(&[1])).await;
    stage.runs_to("w-code-1", "GO", json!({})).await;
    stage.runs_to("w-verify-1", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review-1-0", "GO", json!({})).await;
    stage.claim("w-review-1-1").await;
    stage.advance(std::time::Duration::from_secs(5)).await;
    let workload = stage.see_workload("w").await;
    assert_eq!(workload.phase(), "Dispatched");
    assert_eq!(workload.condition("Dispatched"), "True/ChildrenInFlight");
    stage.ends("w-review-1-1", succeeded("GO", json!({}))).await;
    let workload = stage.workload_is("w", "Completed", 5).await;
    assert_eq!(workload.condition("Completed"), "True/AllChildrenSucceeded");
    let counts = ["succeededTasks", "failedTasks", "incompleteTasks"]
        .map(|count| workload.text(&format!("/status/{count}")));
    assert_eq!(counts, ["4", "0", "0"]);
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

/// Every coder found its issue resolved: Completed, and the issues are named.
pub(crate) async fn b063_all_resolved_completes_the_workload(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", batch(&[3, 4])).await;
    for issue in [3, 4] {
        let resolved = json!({"outcome": "ALREADY-RESOLVED", "resolvedBy": "#9"});
        stage.runs_to(&format!("w-code-{issue}"), "NO-GO", resolved).await;
    }
    let workload = stage.workload_is("w", "Completed", 5).await;
    assert_eq!(workload.condition("Completed"), "True/AllAlreadyResolved");
    assert_eq!(workload.condition("CoderAlreadyResolved"), "True/AlreadyResolved");
    let message = workload.message("CoderAlreadyResolved");
    assert!(message.contains("#3") && message.contains("#4"), "{message}");
    assert_eq!(stage.told.of("AlreadyResolved").len(), 2, "{:?}", stage.told.of("AlreadyResolved"));
    stage.restart_loops().await;
    stage.advance(std::time::Duration::from_secs(10)).await;
    assert_eq!(stage.told.of("AlreadyResolved").len(), 2, "said once");
}

/// What a workload says of gates, MCP and verdicts is copied to every child; a step's gate wins.
pub(crate) async fn b074_every_child_carries_the_workloads_rules(stage: &Stage) {
    crew(stage).await;
    let rules = |mut spec: Value| {
        spec["gateProfile"] = json!({"language": "python"});
        spec["mcpEnabled"] = json!(false);
        spec["verdictPolicy"] = json!({"selfGO": ["docs"]});
        spec
    };
    let mut spec = rules(pipeline());
    spec["pipeline"][1]["gateProfile"] = json!({"language": "node"});
    stage.workload("p", spec).await;
    stage.workload("b", rules(batch(&[1]))).await;
    stage.workload_is("p", "Dispatched", 10).await;
    stage.workload_is("b", "Dispatched", 10).await;
    let names = stage.task_names().await;
    assert_eq!(names.len(), 7, "{names:?}");
    for name in names {
        let task = stage.see_task(&name).await;
        let gate = if name == "p-verify" { "node" } else { "python" };
        assert_eq!(task.text("/spec/gateProfile/language"), gate, "{name}");
        assert_eq!(task.at("/spec/mcpEnabled"), json!(false), "{name}");
        assert_eq!(task.at("/spec/verdictPolicy/selfGO"), json!(["docs"]), "{name}");
    }
}

on_memory!(
    b058_an_issue_batch_becomes_tasks,
    b058_without_a_gate_reviews_follow_the_code,
    b059_a_pipeline_becomes_tasks_and_wins_over_issues,
    b060_without_a_plan_the_workload_fails,
    b061_max_tasks_clips_the_plan,
    b062_all_on_target_completes_the_workload,
    b062_off_target_fails_the_workload,
    b063_all_resolved_completes_the_workload,
    b074_every_child_carries_the_workloads_rules,
);
