//! Issue batches from begin to end: rounds, escalation, and what they come to.

use serde_json::{Value, json};

use crate::lab::pipeline;
use crate::workloads_play::{Play, batch, with};

#[tokio::test]
async fn a_batch_becomes_code_verify_and_reviews_of_each_issue() {
    let play = Play::new().await;
    play.add(with(batch(&[1, 2, 1]), &json!({"allowOverwrite": true}))).await;
    assert_eq!(
        play.names().await,
        [
            "w-code-1",
            "w-code-2",
            "w-review-1-0",
            "w-review-1-1",
            "w-review-2-0",
            "w-review-2-1",
            "w-verify-1",
            "w-verify-2"
        ]
    );
    let code = play.task("w-code-2").await;
    assert_eq!(
        code["spec"]["payload"],
        json!({"repo": "o/n", "issue": 2, "branch": "foreman/w/issue-2", "allowOverwrite": true,
            "promptPrefix": "make it so", "branchStrategy": "reset"})
    );
    assert_eq!(code["metadata"]["labels"]["foreman.llmkube.dev/step"], "code-2");
    assert_eq!(play.task("w-verify-2").await["spec"]["dependsOn"], json!(["w-code-2"]));
    let review = play.task("w-review-2-1").await;
    assert_eq!(review["spec"]["dependsOn"], json!(["w-verify-2"]));
    assert_eq!(review["spec"]["agentRef"]["name"], "bob");
    assert_eq!(review["spec"]["payload"]["openPullRequest"], true);
    let status = play.now().await.status;
    assert_eq!(status.planner_model.as_deref(), Some("stub:explicit-pipeline"));
    assert_eq!((status.desired_tasks, status.tasks.len()), (Some(8), 8));

    let gateless = Play::new().await;
    let spec =
        with(batch(&[7]), &json!({"verifierAgentRef": {"name": ""}, "openPullRequest": false}));
    gateless.add(spec).await;
    assert_eq!(gateless.names().await, ["w-code-7", "w-review-7-0", "w-review-7-1"]);
    let review = gateless.task("w-review-7-0").await;
    assert_eq!(review["spec"]["dependsOn"], json!(["w-code-7"]));
    assert_eq!(review["spec"]["payload"]["openPullRequest"], false);
}

#[tokio::test]
async fn max_tasks_leaves_no_step_behind_that_could_never_start() {
    let play = Play::new().await;
    play.add(with(batch(&[1, 2]), &json!({"maxTasks": 6}))).await;
    assert_eq!(play.names().await.len(), 6);
    assert_eq!(play.condition("Truncated").await, "True/MaxTasksCap");
    assert_eq!(play.message("Truncated").await, "spec.maxTasks: left out review-2-0, review-2-1");
}

#[tokio::test]
async fn a_rejected_change_goes_back_to_its_coder_once_by_default() {
    let play = Play::new().await;
    play.add(batch(&[3])).await;
    play.said("w-code-3", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-3", "GATE-PASS", "").await;
    play.said("w-review-3-0", "GO", "MODEL-DECIDED").await;
    assert_eq!(play.names().await.len(), 4, "the other review has not ended");
    let result = json!({"summary": "not yet", "extra": {"outcome": "MODEL-DECIDED",
        "modelExtra": {"findings": [{"severity": "major", "file": "a.rs", "line": 3,
            "message": "it panics"}]}}});
    let no_go = json!({"phase": "Succeeded", "verdict": "NO-GO", "result": result});
    let first_coder = play.task("w-code-3").await["metadata"]["uid"].clone();
    play.ends("w-review-3-1", no_go).await;
    let code = play.task("w-code-3-r1").await;
    assert_eq!(code["spec"]["continues"], json!({"task": "w-code-3", "uid": first_coder}));
    let payload = &code["spec"]["payload"];
    assert_eq!(payload["branchStrategy"], "rebase");
    assert_eq!(payload["reviseFromBranch"], "foreman/w/issue-3");
    assert_eq!(payload["branch"], "foreman/w/issue-3");
    assert_eq!(payload["allowOverwrite"], true);
    assert_eq!(payload["promptPrefix"], "make it so");
    let prompt = payload["prompt"].as_str().expect("a prompt");
    assert!(
        prompt.ends_with("From review-3-1:\nnot yet\n- major a.rs:3: it panics")
            && !prompt.contains("review-3-0"),
        "{prompt}"
    );
    assert_eq!(play.task("w-review-3-1-r1").await["spec"]["dependsOn"], json!(["w-verify-3-r1"]));
    assert_eq!(play.phase().await, "Dispatched");
    assert_eq!(play.condition("ReviewIterationTriggered").await, "True/ReviewerNoGo");
    assert_eq!(play.told("RevisionUnderIssueFixProfile"), 1);
    assert_eq!(play.now().await.status.review_iterations, Some(1));

    // What it rests on stands in the record: tasks that are gone re-fire nothing.
    for name in ["w-review-3-1", "w-review-3-0", "w-code-3"] {
        play.lab.delete_task(name).await;
    }
    play.settle().await;
    assert!(!play.names().await.contains(&"w-code-3".to_owned()));
    assert_eq!(play.task("w-code-3-r1").await["spec"], code["spec"]);

    play.said("w-code-3-r1", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-3-r1", "GATE-PASS", "").await;
    play.said("w-review-3-0-r1", "GO", "MODEL-DECIDED").await;
    play.said("w-review-3-1-r1", "GO", "MODEL-DECIDED").await;
    assert_eq!(play.phase().await, "Completed");
    let status = play.now().await.status;
    assert_eq!((status.succeeded_tasks, status.incomplete_tasks), (Some(4), Some(0)));
    assert_eq!((play.told("WorkloadFinished"), play.told("RevisionUnderIssueFixProfile")), (1, 1));
}

#[tokio::test]
async fn rounds_end_where_the_spec_says_and_a_higher_number_starts_again() {
    let play = Play::new().await;
    play.add(with(
        batch(&[3]),
        &json!({"maxReviewIterations": 0,
        "revisionCoderAgentRef": {"name": "strong"}, "reviewerAgentRefs": [{"name": "ann"}]}),
    ))
    .await;
    play.said("w-code-3", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-3", "GATE-PASS", "").await;
    play.said("w-review-3-0", "NO-GO", "MODEL-DECIDED").await;
    assert_eq!(play.phase().await, "Failed");
    assert_eq!(play.condition("Completed").await, "False/ChildrenIncomplete");
    play.lab.set_workload("w", "maxReviewIterations", 1).await;
    play.settle().await;
    assert_eq!(play.phase().await, "Dispatched");
    assert_eq!(play.condition("Finished").await, "False/Reopened");
    assert_eq!(play.task("w-code-3-r1").await["spec"]["agentRef"]["name"], "strong");
    assert_eq!(play.told("RevisionUnderIssueFixProfile"), 0);
    play.said("w-code-3-r1", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-3-r1", "GATE-PASS", "").await;
    play.said("w-review-3-0-r1", "NO-GO", "MODEL-DECIDED").await;
    assert_eq!(play.phase().await, "Failed");
    assert_eq!(play.condition("Finished").await, "True/NotOnTarget");
    assert_eq!(play.names().await.len(), 6);
}

#[tokio::test]
async fn no_round_fits_in_part() {
    let play = Play::new().await;
    play.add(with(batch(&[3]), &json!({"maxTasks": 7}))).await;
    play.said("w-code-3", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-3", "GATE-PASS", "").await;
    play.said("w-review-3-0", "NO-GO", "MODEL-DECIDED").await;
    play.said("w-review-3-1", "GO", "MODEL-DECIDED").await;
    assert_eq!((play.names().await.len(), play.phase().await), (4, "Failed".to_owned()));
    assert_eq!(play.condition("Truncated").await, "True/MaxTasksIterationCap");
}

#[tokio::test]
async fn a_pipeline_of_one_change_gets_rounds_where_it_asks_for_them() {
    for (asked, rounds) in [(Value::Null, 0), (json!(1), 1)] {
        let play = Play::new().await;
        let mut spec = serde_json::to_value(pipeline()).expect("plain");
        spec["pipeline"][0]["payload"]["prompt"] = json!("do the thing");
        if !asked.is_null() {
            spec["maxReviewIterations"] = asked;
        }
        play.add(spec).await;
        let result = json!({"summary": "done"});
        play.ends(
            "w-code",
            json!({"phase": "Succeeded", "verdict": "GO", "result": result,
            "branch": "foreman/own"}),
        )
        .await;
        play.said("w-verify", "GATE-PASS", "").await;
        play.said("w-review", "NO-GO", "MODEL-DECIDED").await;
        assert_eq!(play.now().await.status.review_iterations, Some(rounds));
        if rounds == 0 {
            assert_eq!(play.phase().await, "Failed");
            continue;
        }
        let payload = play.task("w-code-r1").await["spec"]["payload"].clone();
        assert_eq!(payload["promptPrefix"], "do the thing");
        assert_eq!(payload["reviseFromBranch"], "foreman/own", "the branch that the coder chose");
        assert_eq!(play.task("w-review-r1").await["spec"]["payload"]["branch"], "foreman/own");
        assert_eq!(play.phase().await, "Dispatched");
    }
}

#[tokio::test]
async fn a_stronger_coder_tries_once_what_the_first_could_not_do() {
    // verdict, the machine's word, escalateOnFailure, whether it escalates
    let cases = [
        ("NO-GO", "MODEL-DECIDED", false, true),
        ("INCOMPLETE", "CODER-GATE-FAILED", false, true),
        ("INCOMPLETE", "STUCK-LOOP-DETECTED", false, false),
        ("INCOMPLETE", "STUCK-LOOP-DETECTED", true, true),
        ("INCOMPLETE", "MODEL-DECIDED", false, false),
        ("INCOMPLETE", "MODEL-DECIDED", true, true),
        ("INCOMPLETE", "ERROR", true, true),
        ("NO-GO", "ALREADY-RESOLVED", true, false),
        ("NO-GO", "NEEDS-VERIFICATION", true, false),
        ("GO", "MODEL-DECIDED", true, false),
    ];
    for (verdict, word, on_failure, wanted) in cases {
        let play = Play::new().await;
        let spec = json!({"escalationCoderAgentRef": {"name": "strong"},
            "escalateOnFailure": on_failure});
        play.add(with(batch(&[5]), &spec)).await;
        play.said("w-code-5", verdict, word).await;
        let escalated = play.names().await.contains(&"w-code-5-esc".to_owned());
        assert_eq!(escalated, wanted, "{verdict} {word} {on_failure}");
        if !escalated {
            continue;
        }
        let code = play.task("w-code-5-esc").await;
        assert_eq!(code["spec"]["agentRef"]["name"], "strong");
        assert_eq!(code["spec"]["payload"]["branch"], "foreman/w/issue-5-esc");
        let prefix = code["spec"]["payload"]["promptPrefix"].as_str().expect("a prefix");
        assert!(prefix.contains(&format!("w-code-5 says {verdict}")), "{prefix}");
        for name in ["w-code-5-esc", "w-review-5-esc-0", "w-review-5-esc-1"] {
            play.said(name, "GO", "MODEL-DECIDED").await;
        }
        play.said("w-verify-5-esc", "GATE-PASS", "").await;
        assert_eq!(play.phase().await, "Completed", "the first try counts no more");
        assert_eq!(play.now().await.status.succeeded_tasks, Some(4));
    }
}

#[tokio::test]
async fn further_reviewers_only_advise() {
    let play = Play::new().await;
    let spec = json!({"maxReviewIterations": 0, "reviewerAgentRefs": [{"name": "ann"}],
        "escalationReviewerAgentRefs": [{"name": "eve"}, {"name": "bob"}]});
    play.add(with(batch(&[4]), &spec)).await;
    play.said("w-code-4", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-4", "GATE-PASS", "").await;
    play.said("w-review-4-0", "NO-GO", "MODEL-DECIDED").await;
    assert_eq!(play.condition("EscalationTriggered").await, "True/BaseReviewerNoGo");
    let asked = play.task("w-escalate-4-1").await["spec"].clone();
    assert_eq!(asked["agentRef"]["name"], "bob");
    assert_eq!(asked.get("dependsOn"), None);
    assert_eq!(asked["payload"].get("openPullRequest"), None);
    play.said("w-escalate-4-0", "GO", "MODEL-DECIDED").await;
    play.said("w-escalate-4-1", "GO", "MODEL-DECIDED").await;
    assert_eq!(play.phase().await, "Failed");

    // A gate that failed is no reviewer's NO-GO.
    let play = Play::new().await;
    play.add(with(batch(&[4]), &spec)).await;
    play.said("w-code-4", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-4", "GATE-FAIL", "").await;
    assert_eq!((play.phase().await, play.names().await.len()), ("Failed".to_owned(), 3));

    let play = Play::new().await;
    play.add(with(batch(&[4]), &with(spec, &json!({"reviewerAgentRefs": []})))).await;
    assert_eq!(play.condition("EscalationTriggered").await, "False/NoBaseReviewers");
}

#[tokio::test]
async fn what_the_gate_did_not_block_reaches_reviews_that_wait() {
    let play = Play::new().await;
    play.add(batch(&[6])).await;
    let advisories = json!([{"check": "lint", "detail": "long line"}]);
    play.lab
        .set_status("w-review-6-1", |status| {
            status.phase = Some(foreman_core::model::TaskPhase::Running.into());
            status.assigned_node = Some("n".into());
            status.session = Some("s".into());
        })
        .await;
    let result = json!({"extra": {"outcome": "MODEL-DECIDED", "gateAdvisories": advisories}});
    play.ends("w-code-6", json!({"phase": "Succeeded", "verdict": "GO", "result": result})).await;
    let told = play.task("w-review-6-0").await["spec"]["payload"].clone();
    assert_eq!(told["gateAdvisories"], advisories);
    assert_eq!(told["branch"], "foreman/w/issue-6", "the rest stays");
    let running = play.task("w-review-6-1").await;
    assert_eq!(running["spec"]["payload"].get("gateAdvisories"), None);
    assert_eq!(play.condition("SpecDrift").await, "-");
}

#[tokio::test]
async fn issues_that_need_no_change_are_named_and_told_once() {
    let play = Play::new().await;
    play.add(batch(&[8, 9])).await;
    play.said("w-code-8", "NO-GO", "ALREADY-RESOLVED").await;
    assert_eq!(play.message("CoderAlreadyResolved").await, "#8");
    play.said("w-code-9", "NO-GO", "ALREADY-RESOLVED").await;
    assert_eq!(play.phase().await, "Completed");
    assert_eq!(play.condition("Completed").await, "True/AllAlreadyResolved");
    assert_eq!(play.condition("CoderAlreadyResolved").await, "True/AlreadyResolved");
    assert_eq!(play.message("CoderAlreadyResolved").await, "#8, #9");
    assert_eq!((play.told("AlreadyResolved"), play.told("WorkloadFinished")), (2, 1));
}

#[tokio::test]
async fn work_that_needs_verification_never_reads_as_verified() {
    let play = Play::new().await;
    play.add(with(batch(&[8]), &json!({"verifierAgentRef": {}, "reviewerAgentRefs": []}))).await;
    play.said("w-code-8", "NO-GO", "NEEDS-VERIFICATION").await;
    assert_eq!(play.condition("Completed").await, "False/ChildrenIncomplete");
    assert_eq!(play.condition("Unverified").await, "True/NeedsVerification");
}
