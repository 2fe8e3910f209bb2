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

/// Silence of more than 90 s makes a node `NotReady` without any event from outside, and not earlier;
/// the next heartbeat makes it Ready again.
pub(crate) async fn b012_a_silent_node_is_not_ready_until_it_beats_again(stage: &Stage) {
    stage.node(Node::go("theirs")).await;
    stage.node(Node::ours("ours", 1)).await;
    stage.advance(Duration::from_secs(31)).await;
    stage.silence("theirs");
    stage.silence("ours");
    let both = async || {
        let phases = [stage.see_node("theirs").await.phase(), stage.see_node("ours").await.phase()];
        phases == ["Ready", "Ready"]
    };
    // The last beats were a second ago.
    stage.throughout(Duration::from_secs(88), "fresh", both).await;
    for name in ["theirs", "ours"] {
        let node = stage.node_is(name, "NotReady", 5).await;
        assert_eq!(node.condition("Ready"), "False/HeartbeatStale", "{name}");
        let now = json!(stage.now());
        stage.node_status(name, [("lastHeartbeatTime", now), ("phase", json!("Ready"))]).await;
        let fresh = async || stage.see_node(name).await.condition("Ready") == "True/HeartbeatFresh";
        stage.eventually(Duration::from_secs(5), "the condition follows", fresh).await;
        assert_eq!(stage.see_node(name).await.phase(), "Ready", "{name}");
    }
}

/// A node that never beat is `NotReady` and receives nothing.
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
    stage.eventually(Duration::from_mins(1), "both are deleted", gone).await;
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

/// A killed agent of the cluster leaves a node behind, which is removed after a day; a person's
/// machine keeps its object.
pub(crate) async fn b019_a_killed_pods_node_is_removed_after_a_day(stage: &Stage) {
    let pod = json!({"foreman.llmkube.dev/in-cluster": "true"});
    stage.node(Node::ours("pod", 1).labels(pod)).await;
    stage.node(Node::ours("laptop", 1)).await;
    stage.advance(Duration::from_secs(40)).await;
    stage.silence("pod");
    stage.silence("laptop");
    stage.node_is("pod", "NotReady", 120).await;
    stage.advance(Duration::from_hours(23)).await;
    assert!(stage.see_node("pod").await.is_there());
    let gone = async || !stage.see_node("pod").await.is_there();
    stage.eventually(Duration::from_hours(2), "the pod's node is removed", gone).await;
    assert!(stage.see_node("laptop").await.is_there());
}

on_memory!(
    b011_a_node_that_beats_becomes_ready,
    b012_a_silent_node_is_not_ready_until_it_beats_again,
    b013_a_node_that_never_beat_receives_nothing,
    b014_a_draining_node_is_left_alone,
    b015_a_drained_node_is_deleted_after_ten_minutes,
    b015_a_draining_node_that_never_beat_is_deleted_too,
    b015_a_node_that_comes_back_meanwhile_is_not_deleted,
    b019_a_killed_pods_node_is_removed_after_a_day,
);
