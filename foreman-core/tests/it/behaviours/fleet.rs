//! Behaviours 11 to 15 and 19: who is alive, who is removed.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use super::on_memory;
use super::played::{Node, freeform};

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

on_memory!(b014_a_draining_node_is_left_alone,);
