//! Behaviours 47 to 49 and the operator's part of 55 to 57: claims of nodes that are gone.

use std::time::Duration;

use foreman_core::model::{AgenticTask, Key};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, StoreError};
use serde_json::{Value, json};

use super::Stage;
use super::on_memory;
use super::played::{Node, freeform, freeform_with, succeeded};
use super::seen::Shown;

const EXPIRIES: &str = "foreman.llmkube.dev/claim-expiries";

fn is_taken_back(task: &Shown) {
    assert_eq!(task.phase(), "Pending");
    for field in ["assignedNode", "claimedAt", "startedAt", "session"] {
        assert_eq!(task.at(&format!("/status/{field}")), Value::Null, "{field} is cleared");
    }
    assert_eq!(task.condition("ClaimExpired"), "True/ClaimExpired");
}

/// A Running or Scheduled task whose node is silent for more than 90 s goes back to Pending with a
/// strike, and the node is freed. The node is of the Go system's agent.
pub(crate) async fn b047_a_stale_nodes_claims_are_taken_back(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.node(Node::go("b")).await;
    stage.task("running", freeform()).await;
    stage.claim("running").await;
    stage.task("placed", freeform()).await;
    stage.task_is("placed", "Scheduled", 2).await;
    stage.advance(Duration::from_secs(31)).await;
    stage.silence("a");
    stage.silence("b");
    stage.task_stays("running", "Running", 60).await;
    for name in ["running", "placed"] {
        let task = stage.task_is(name, "Pending", 40).await;
        is_taken_back(&task);
        assert_eq!(task.annotation(EXPIRIES), "1", "{name}");
        let node = if name == "running" { "a" } else { "b" };
        assert!(task.message("ClaimExpired").contains(node), "it names the node: {task:?}");
        let freed = async || stage.see_node(node).await.text("/status/currentTask").is_empty();
        stage.eventually(Duration::from_secs(5), "the node is freed", freed).await;
    }
}

/// The same of a node of ours. The number of the claim stays.
pub(crate) async fn b047_a_stale_node_of_ours_loses_its_claims_too(stage: &Stage) {
    stage.node(Node::ours("a", 1)).await;
    stage.task("t", freeform()).await;
    stage.claim("t").await;
    stage.advance(Duration::from_secs(31)).await;
    stage.silence("a");
    stage.task_stays("t", "Running", 60).await;
    let task = stage.task_is("t", "Pending", 40).await;
    is_taken_back(&task);
    assert_eq!(task.annotation(EXPIRIES), "1");
    assert_eq!(task.text("/status/attempt"), "1", "only a claim raises it");
    assert_eq!(task.text("/status/attempts/0/ended"), "NodeLost");
}

/// A node of the Go system's agent that is deleted loses its claims at once.
pub(crate) async fn b047_a_deleted_nodes_claims_are_taken_back(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("t", freeform()).await;
    stage.claim("t").await;
    stage.delete_node("a").await;
    let task = stage.task_is("t", "Pending", 5).await;
    is_taken_back(&task);
    assert_eq!(task.annotation(EXPIRIES), "1");
}

/// The object of a node of ours that is deleted under its agent: silence starts, and when the agent
/// makes it again with the same session nothing has happened.
pub(crate) async fn b047_a_deleted_node_of_ours_that_comes_back_keeps_its_claims(stage: &Stage) {
    stage.node(Node::ours("a", 1)).await;
    stage.task("t", freeform()).await;
    stage.claim("t").await;
    stage.delete_node("a").await;
    stage.task_stays("t", "Running", 60).await;
    stage.node(Node::ours("a", 1)).await;
    stage.show_run("a", "t").await;
    stage.task_stays("t", "Running", 300).await;
    assert_eq!(stage.see_task("t").await.annotation(EXPIRIES), "");
    stage.delete_node("a").await;
    let task = stage.task_is("t", "Pending", 100).await;
    is_taken_back(&task);
}

/// The third expiry is the last: the task fails.
pub(crate) async fn b048_the_third_expiry_fails_the_task(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("t", freeform()).await;
    stage.claim("t").await;
    stage.annotate_task("t", &[(EXPIRIES, "2")]).await;
    stage.advance(Duration::from_secs(31)).await;
    stage.silence("a");
    let task = stage.task_is("t", "Failed", 100).await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/InfrastructureError");
    assert_eq!(task.condition("Failed"), "True/ClaimExpiryLimitReached");
    assert!(!task.text("/status/finishedAt").is_empty());
    assert_eq!(task.at("/status/claimedAt"), Value::Null, "a late result is refused");
}

/// From the first claim to the end, with nothing written by hand: three nodes lost, one after the
/// other.
pub(crate) async fn b048_three_lost_nodes_end_a_task(stage: &Stage) {
    stage.task("t", freeform()).await;
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        stage.node(Node::ours(name, 1)).await;
        stage.task_is("t", "Scheduled", 700).await;
        stage.claim("t").await;
        stage.advance(Duration::from_secs(31)).await;
        stage.silence(name);
        let lost = async || stage.see_task("t").await.phase() != "Running";
        stage.eventually(Duration::from_mins(2), "the claim is taken back", lost).await;
        assert_eq!(stage.see_task("t").await.annotation(EXPIRIES), (n + 1).to_string());
    }
    let task = stage.see_task("t").await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/InfrastructureError");
    assert_eq!(task.condition("Failed"), "True/ClaimExpiryLimitReached");
}

/// A task of a node that beats is never touched, however long it runs.
pub(crate) async fn b049_a_fresh_nodes_task_is_never_touched(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.node(Node::ours("b", 1)).await;
    for name in ["t1", "t2"] {
        stage.task(name, freeform()).await;
        stage.claim(name).await;
    }
    stage.advance(Duration::from_secs(5)).await;
    let before = (stage.see_task("t1").await, stage.see_task("t2").await);
    let same = async || (stage.see_task("t1").await, stage.see_task("t2").await) == before;
    stage.throughout(Duration::from_mins(18), "untouched", same).await;
    stage.restart_loops().await;
    stage.throughout(Duration::from_mins(5), "untouched after a restart", same).await;
}

/// A claim that races with expiry and reassignment: the late one is refused by the store, because a
/// claim of ours is a compare-and-swap; one owner results, and the task ends.
pub(crate) async fn b055_a_late_claim_is_refused(stage: &Stage) {
    stage.node(Node::ours("a", 1)).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Scheduled", 2).await;
    let key = Key::namespaced("default", "t");
    let old = stage.stores.tasks.get(&key).await.expect("read").expect("there");
    stage.silence("a");
    stage.task_is("t", "Pending", 120).await;
    stage.node(Node::ours("b", 1)).await;
    stage.claim("t").await;
    assert_eq!(stage.see_task("t").await.node(), "b");
    let late = Change::<AgenticTask>::of(Part::Status)
        .set("phase", "Running")
        .set("session", "a-session-1")
        .set("attempt", 1);
    let refused = stage.stores.tasks.patch(&key, late, Expect::At(old.revision().clone())).await;
    assert_eq!(refused.err(), Some(StoreError::Conflict));
    stage.ends("t", succeeded("GO", json!({}))).await;
    let task = stage.task_is("t", "Succeeded", 2).await;
    assert_eq!(task.text("/status/attempt"), "1", "one claim was granted");
}

/// `timeoutSeconds` and an agent that never ends: the operator does, two minutes later.
pub(crate) async fn b056_the_operator_ends_a_run_that_overstays(stage: &Stage) {
    stage.node(Node::ours("a", 1)).await;
    stage.task("t", freeform_with("timeoutSeconds", json!(5))).await;
    stage.claim("t").await;
    stage.task_stays("t", "Running", 115).await;
    let task = stage.task_is("t", "Failed", 30).await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/Timeout");
    assert_eq!(task.text("/status/outcome/infrastructure"), "TimedOut");
}

/// A task that takes its agent down each time: every life hands it back or loses it, each counts,
/// and the third is the last.
pub(crate) async fn b057_a_task_that_kills_its_agent_ends(stage: &Stage) {
    stage.node(Node::ours("a", 1)).await;
    stage.task("t", freeform()).await;
    let mut lives = 1;
    let ended = async || stage.see_task("t").await.phase() == "Failed";
    while !ended().await {
        assert!(lives <= 3, "a life too many");
        stage.task_is("t", "Scheduled", 900).await;
        stage.claim("t").await;
        stage.advance(Duration::from_secs(2)).await;
        lives += 1;
        // The agent is gone; its next life knows nothing of the run.
        stage.new_session("a", &format!("a-session-{lives}")).await;
        let back = async || stage.see_task("t").await.phase() != "Running";
        stage.eventually(Duration::from_secs(130), "the claim is over", back).await;
    }
    let task = stage.see_task("t").await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/InfrastructureError");
    assert_eq!(lives, 4, "three claims were tried");
}

on_memory!(
    b047_a_stale_nodes_claims_are_taken_back,
    b047_a_stale_node_of_ours_loses_its_claims_too,
    b047_a_deleted_nodes_claims_are_taken_back,
    b047_a_deleted_node_of_ours_that_comes_back_keeps_its_claims,
    b048_the_third_expiry_fails_the_task,
    b048_three_lost_nodes_end_a_task,
    b049_a_fresh_nodes_task_is_never_touched,
    b055_a_late_claim_is_refused,
    b056_the_operator_ends_a_run_that_overstays,
    b057_a_task_that_kills_its_agent_ends,
);
