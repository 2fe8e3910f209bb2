//! Behaviours 65 and 66: a stronger coder, a second tier of reviewers.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use super::batches::{batch, batch_with, crew};
use super::on_memory;

fn with_bigger_coder() -> Value {
    batch_with(&[1], "escalationCoderAgentRef", json!({"name": "bigger"}))
}

/// A coder's own NO-GO: the bigger coder tries once, and the first try no longer counts.
pub(crate) async fn b065_a_coders_no_go_goes_to_the_bigger_coder(stage: &Stage) {
    crew(stage).await;
    stage.workload("w", with_bigger_coder()).await;
    stage.runs_to("w-code-1", "NO-GO", json!({"outcome": "MODEL-DECIDED"})).await;
    let code = stage.task_is("w-code-1-esc", "Scheduled", 10).await;
    assert_eq!(code.text("/spec/agentRef/name"), "bigger");
    assert_eq!(code.text("/spec/payload/branch"), "foreman/w/issue-1-esc");
    let prefix = code.text("/spec/payload/promptPrefix");
    assert!(prefix.contains("fix what is reported"), "the intent: {prefix}");
    assert!(prefix.contains("it came to NO-GO"), "what the first try said: {prefix}");
    let workload = stage.see_workload("w").await;
    assert_eq!(workload.condition("CoderEscalationTriggered"), "True/BaseCoderCapabilityFailure");
    stage.runs_to("w-code-1-esc", "GO", json!({})).await;
    stage.runs_to("w-verify-1-esc", "GATE-PASS", json!({})).await;
    stage.run_all(&["w-review-1-esc-0", "w-review-1-esc-1"], "GO").await;
    let workload = stage.workload_is("w", "Completed", 10).await;
    assert_eq!(workload.condition("Completed"), "True/AllChildrenSucceeded");
    assert_eq!(workload.text("/status/succeededTasks"), "4");
}

/// A gate that the coder never passed escalates too; a stuck loop only where it is asked for; what
/// is resolved or needs verification never.
pub(crate) async fn b065_what_escalates_and_what_does_not(stage: &Stage) {
    crew(stage).await;
    let outcome = |word: &str| json!({ "outcome": word });
    let cases = [
        (
            "gate",
            "INCOMPLETE",
            json!({"modelExtra": {"outcome": "CODER-GATE-FAILED"}}),
            false,
            true,
        ),
        ("stuck", "INCOMPLETE", outcome("STUCK-LOOP-DETECTED"), false, false),
        ("stuck-too", "INCOMPLETE", outcome("STUCK-LOOP-DETECTED"), true, true),
        ("resolved", "NO-GO", outcome("ALREADY-RESOLVED"), true, false),
        ("doubtful", "NO-GO", outcome("NEEDS-VERIFICATION"), true, false),
    ];
    for (name, verdict, extra, on_failure, escalates) in cases {
        let mut spec = with_bigger_coder();
        spec["escalateOnFailure"] = json!(on_failure);
        stage.workload(name, spec).await;
        stage.runs_to(&format!("{name}-code-1"), verdict, extra).await;
        stage.advance(Duration::from_secs(10)).await;
        let escalated = stage.see_task(&format!("{name}-code-1-esc")).await.is_there();
        assert_eq!(escalated, escalates, "{name}");
        let workload = stage.see_workload(name).await.phase();
        let ended = ["Completed", "Failed"].contains(&workload.as_str());
        assert_eq!(ended, !escalates, "{name}: {workload}");
        if on_failure && escalates {
            let condition = stage.see_workload(name).await.condition("CoderEscalationTriggered");
            assert_eq!(condition, "True/BaseCoderFailureEscalation");
        }
    }
}

/// A second tier reviews only after all base reviews ended with a NO-GO among them, and advises only.
pub(crate) async fn b066_senior_reviewers_come_after_a_no_go(stage: &Stage) {
    crew(stage).await;
    let mut spec = batch_with(&[1], "escalationReviewerAgentRefs", json!([{"name": "senior"}]));
    spec["maxReviewIterations"] = json!(0);
    stage.workload("w", spec).await;
    stage.runs_to("w-code-1", "GO", json!({})).await;
    stage.runs_to("w-verify-1", "GATE-PASS", json!({})).await;
    stage.runs_to("w-review-1-0", "NO-GO", json!({})).await;
    stage.advance(Duration::from_secs(10)).await;
    assert!(!stage.see_task("w-escalate-1-0").await.is_there(), "a base review runs still");
    stage.runs_to("w-review-1-1", "GO", json!({})).await;
    let senior = stage.task_is("w-escalate-1-0", "Scheduled", 10).await;
    assert_eq!(senior.text("/spec/kind"), "review");
    assert_eq!(senior.text("/spec/agentRef/name"), "senior");
    assert_eq!(senior.at("/spec/dependsOn"), Value::Null);
    assert_ne!(senior.at("/spec/payload/openPullRequest"), json!(true));
    let workload = stage.see_workload("w").await;
    assert_eq!(workload.condition("EscalationTriggered"), "True/BaseReviewerNoGo");
    stage.runs_to("w-escalate-1-0", "GO", json!({})).await;
    let workload = stage.workload_is("w", "Failed", 10).await;
    assert_eq!(workload.condition("Completed"), "False/ChildrenIncomplete", "it only advises");
}

/// A gate that failed does not call the second tier.
pub(crate) async fn b066_a_failed_gate_calls_no_senior(stage: &Stage) {
    crew(stage).await;
    let refs = json!([{"name": "senior"}]);
    stage.workload("w", batch_with(&[1], "escalationReviewerAgentRefs", refs.clone())).await;
    stage.runs_to("w-code-1", "GO", json!({})).await;
    stage.runs_to("w-verify-1", "GATE-FAIL", json!({})).await;
    stage.workload_is("w", "Failed", 10).await;
    assert!(!stage.see_task("w-escalate-1-0").await.is_there());
    let mut spec = batch(&[1]);
    spec["escalationReviewerAgentRefs"] = refs;
    spec["reviewerAgentRefs"] = json!([]);
    stage.workload("none", spec).await;
    let said = async || {
        stage.see_workload("none").await.condition("EscalationTriggered") == "False/NoBaseReviewers"
    };
    stage.eventually(Duration::from_secs(10), "there is nobody to escalate from", said).await;
}

on_memory!(
    b065_a_coders_no_go_goes_to_the_bigger_coder,
    b065_what_escalates_and_what_does_not,
    b066_senior_reviewers_come_after_a_no_go,
    b066_a_failed_gate_calls_no_senior,
);
