//! What people and the policy ask of a Workload while it is under way.

use std::time::Duration;

use foreman_core::model::{Agent, Key, Object, Workload};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, Store};
use serde_json::{Value, json};

use crate::workloads_play::{Play, batch, with};

#[tokio::test]
async fn reviewers_in_the_cloud_are_left_out_where_it_is_forbidden() {
    let cloudy = json!({"reviewerAgentRefs": [{"name": "far"}, {"name": "ann"}]});
    for by_operator in [false, true] {
        let mut play = Play::new().await;
        play.policy.allow_cloud = !by_operator;
        let asker = if by_operator { json!({}) } else { json!({"allowCloudReviewers": false}) };
        play.add(with(with(batch(&[1]), &cloudy), &asker)).await;
        assert_eq!(play.names().await, ["w-code-1", "w-review-1-1", "w-verify-1"]);
        assert_eq!(play.condition("CloudReviewersSuppressed").await, "True/SovereigntyGate");
        let gate = if by_operator { "the operator" } else { "spec.allowCloudReviewers" };
        let message = play.message("CloudReviewersSuppressed").await;
        assert!(message.contains("review-1-0 (Agent far:") && message.contains(gate), "{message}");
    }
    // Whatever depends on a review that was left out waits for what that waited for.
    let play = Play::new().await;
    let step = |name: &str, kind: &str, agent: &str, after: &[&str]| {
        json!({"name": name, "kind": kind, "agentRef": {"name": agent}, "payload": {},
            "dependsOn": after})
    };
    play.add(json!({"intent": "x", "allowCloudReviewers": false, "pipeline": [
        step("code", "issue-fix", "coder", &[]), step("look", "review", "far", &["code"]),
        step("say", "freeform", "ann", &["look"])]}))
        .await;
    assert_eq!(play.task("w-say").await["spec"]["dependsOn"], json!(["w-code"]));
}

/// Whose Agent is away for a moment is judged when its task is placed: what runs goes on.
#[tokio::test]
async fn a_reviewer_that_is_deleted_ends_no_workload_that_has_begun() {
    let play = Play::new().await;
    play.add(with(batch(&[1]), &json!({"allowCloudReviewers": false}))).await;
    let key = Key::namespaced("default", "bob");
    let bob = Store::<Agent>::get(&*play.lab.store, &key).await.expect("read").expect("there");
    Store::<Agent>::delete(&*play.lab.store, &key, &bob.meta.uid, Expect::Any)
        .await
        .expect("deleted");
    play.settle().await;
    assert_eq!(play.task("w-code-1").await["spec"]["cancel"], Value::Null);
    assert_ne!(play.phase().await, "Failed");
}

#[tokio::test]
async fn a_coder_in_the_cloud_waits_where_it_is_forbidden() {
    let mut play = Play::new().await;
    play.policy.allow_cloud = false;
    play.add(with(batch(&[1]), &json!({"coderAgentRef": {"name": "far"}}))).await;
    let waiting = play.task("w-code-1").await["status"]["waiting"]["reason"].clone();
    assert_eq!(waiting, "PolicyForbids");
}

#[tokio::test]
async fn what_a_person_suspended_stays_so_when_the_workload_goes_on() {
    let play = Play::new().await;
    play.add(batch(&[1])).await;
    play.lab.set_spec("w-verify-1", "suspend", true).await;
    play.lab.set_workload("w", "suspend", true).await;
    play.settle().await;
    assert_eq!(play.task("w-code-1").await["spec"]["suspend"], true);
    // Taken out, not set to false: that resumes as well.
    let key = Key::namespaced("default", "w");
    let change = Change::<Workload>::of(Part::Spec).clear("suspend");
    Store::patch(&*play.lab.store, &key, change, Expect::Any).await.expect("patched");
    play.settle().await;
    assert_eq!(play.task("w-code-1").await["spec"]["suspend"], false);
    assert_eq!(play.task("w-verify-1").await["spec"]["suspend"], true);
}

#[tokio::test]
async fn a_changed_step_is_named_a_new_one_is_made_and_a_removed_one_cancelled() {
    let play = Play::new().await;
    play.add(batch(&[1, 2])).await;
    play.lab.set_workload("w", "issues", [1, 3]).await;
    play.lab.set_workload("w", "intent", "otherwise").await;
    play.settle().await;
    assert_eq!(play.condition("SpecDrift").await, "True/StepChanged");
    assert!(play.message("SpecDrift").await.ends_with("as they were: code-1"));
    assert_eq!(play.task("w-code-1").await["spec"]["payload"]["promptPrefix"], "make it so");
    assert_eq!(play.task("w-code-3").await["spec"]["payload"]["promptPrefix"], "otherwise");
    assert_eq!(play.task("w-code-2").await["spec"]["cancel"], true);
    for name in ["w-code-1", "w-code-3"] {
        play.said(name, "GO", "MODEL-DECIDED").await;
    }
    for name in ["w-verify-1", "w-verify-3"] {
        play.said(name, "GATE-PASS", "").await;
    }
    for name in ["w-review-1-0", "w-review-1-1", "w-review-3-0", "w-review-3-1"] {
        play.said(name, "GO", "MODEL-DECIDED").await;
    }
    assert_eq!(play.phase().await, "Completed", "what nobody wants any more counts nowhere");
    play.lab.set_workload("w", "issues", [1, 3, 4]).await;
    play.settle().await;
    assert_eq!(play.phase().await, "Dispatched");
    assert!(play.names().await.contains(&"w-code-4".to_owned()));
}

#[tokio::test]
async fn an_ended_workload_goes_when_its_time_is_over_and_not_before() {
    let play = Play::new().await;
    play.add(with(batch(&[1]), &json!({"ttlSecondsAfterFinished": 100}))).await;
    play.said("w-code-1", "NO-GO", "ALREADY-RESOLVED").await;
    assert_eq!(play.phase().await, "Completed");
    play.lab.clock.advance(Duration::from_secs(99));
    play.settle().await;
    assert_eq!(play.phase().await, "Completed");
    play.lab.clock.advance(Duration::from_secs(2));
    play.settle().await;
    let key = Key::namespaced("default", "w");
    let left: Option<Object<Workload>> = Store::get(&*play.lab.store, &key).await.expect("read");
    assert!(left.is_none() && play.names().await.is_empty(), "with all it owns");
}

#[tokio::test]
async fn a_cancelled_workload_starts_nothing_more() {
    let play = Play::new().await;
    play.add(batch(&[3])).await;
    play.said("w-code-3", "GO", "MODEL-DECIDED").await;
    play.said("w-verify-3", "GATE-PASS", "").await;
    play.said("w-review-3-0", "NO-GO", "MODEL-DECIDED").await;
    play.lab.set_workload("w", "cancel", true).await;
    play.settle().await;
    assert_eq!((play.names().await.len(), play.phase().await), (4, "Failed".to_owned()));
    assert_eq!(play.condition("Finished").await, "True/Cancelled");
}
