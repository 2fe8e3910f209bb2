//! Behaviours 47 to 49 and the operator's part of 55 to 57: claims of nodes that are gone.

use std::time::Duration;

use super::Stage;
use super::on_memory;
use super::played::{Node, freeform};

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

on_memory!(b049_a_fresh_nodes_task_is_never_touched,);
