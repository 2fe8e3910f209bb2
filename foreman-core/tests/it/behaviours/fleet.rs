//! Behaviours 11 to 15 and 19: who is alive, who is removed.

use std::time::Duration;

use foreman_core::testkit::fault::Operation;
use serde_json::{Value, json};

use super::Stage;
use super::on_memory;
use super::played::{Node, freeform};

/// A node with a fresh heartbeat and no phase becomes Ready, with the condition that says so. (A
/// node of our agent says its phase itself.)
pub(crate) async fn b011_a_node_that_beats_becomes_ready(stage: &Stage) {
    stage.node(Node::go("a").phase(Value::Null)).await;
    let node = stage.node_is("a", "Ready", 5).await;
    assert_eq!(node.condition("Ready"), "True/HeartbeatFresh");
}

/// A node that never beat is NotReady and receives nothing.
pub(crate) async fn b013_a_node_that_never_beat_receives_nothing(stage: &Stage) {
    stage.silent_node(Node::go("a")).await;
    stage.task("t", freeform()).await;
    let node = stage.node_is("a", "NotReady", 95).await;
    assert_eq!(node.condition("Ready"), "False/HeartbeatStale");
    stage.task_stays("t", "Pending", 120).await;
}

/// A draining node that beats is left alone, and nothing is placed there.
pub(crate) async fn b014_a_draining_node_is_left_alone(stage: &Stage) {
    stage.node(Node::go("a").phase(json!("Draining"))).await;
    stage.task("t", freeform()).await;
    let alone = async || {
        let (node, task) = (stage.see_node("a").await, stage.see_task("t").await);
        node.phase() == "Draining" && task.node().is_empty()
    };
    stage.throughout(Duration::from_mins(12), "left alone", alone).await;
}

/// A draining node that is silent for more than ten minutes is deleted, and not earlier. Ours
/// deletes only nodes of other agents and pods: a person's machine that is off keeps its object.
pub(crate) async fn b015_a_drained_node_is_deleted_after_ten_minutes(stage: &Stage) {
    let pod = json!({"foreman.llmkube.dev/in-cluster": "true"});
    stage.node(Node::go("theirs").phase(json!("Draining"))).await;
    stage.node(Node::ours("pod", 1).labels(pod).phase(json!("Draining"))).await;
    stage.node(Node::ours("laptop", 1).phase(json!("Draining"))).await;
    let names = ["theirs", "pod", "laptop"];
    for name in names {
        stage.silence(name);
    }
    stage.advance(Duration::from_secs(595)).await;
    for name in names {
        assert!(stage.see_node(name).await.is_there(), "{name}: not ten minutes yet");
    }
    let gone = async || {
        !stage.see_node("theirs").await.is_there() && !stage.see_node("pod").await.is_there()
    };
    stage.eventually(Duration::from_secs(60), "both are deleted", gone).await;
    stage.advance(Duration::from_hours(2)).await;
    assert!(stage.see_node("laptop").await.is_there(), "a person's machine");
}

/// The same of a draining node that never beat.
pub(crate) async fn b015_a_draining_node_that_never_beat_is_deleted_too(stage: &Stage) {
    stage.silent_node(Node::go("a")).await;
    stage.node_status("a", [("phase", json!("Draining"))]).await;
    stage.advance(Duration::from_secs(580)).await;
    assert!(stage.see_node("a").await.is_there());
    let gone = async || !stage.see_node("a").await.is_there();
    stage.eventually(Duration::from_mins(2), "deleted", gone).await;
}

/// A node that comes back while it is being deleted stays.
pub(crate) async fn b015_a_node_that_comes_back_meanwhile_is_not_deleted(stage: &Stage) {
    stage.node(Node::go("a").phase(json!("Draining"))).await;
    stage.silence("a");
    stage.seen.nodes.hold(Operation::Delete);
    stage.advance(Duration::from_mins(11)).await;
    let now = json!(stage.now());
    stage.node_status("a", [("lastHeartbeatTime", now)]).await;
    stage.seen.nodes.let_go(Operation::Delete);
    stage.advance(Duration::from_secs(30)).await;
    let tried = stage.seen.nodes.calls_of(Operation::Delete);
    assert_eq!(tried.len(), 1, "it was about to be deleted");
    assert!(stage.see_node("a").await.is_there());
}

on_memory!(
    b011_a_node_that_beats_becomes_ready,
    b013_a_node_that_never_beat_receives_nothing,
    b014_a_draining_node_is_left_alone,
    b015_a_drained_node_is_deleted_after_ten_minutes,
    b015_a_draining_node_that_never_beat_is_deleted_too,
    b015_a_node_that_comes_back_meanwhile_is_not_deleted,
);
