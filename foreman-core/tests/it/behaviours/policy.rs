//! Behaviour 67: what must not leave for the cloud does not.

use std::time::Duration;

use serde_json::json;

use super::Stage;
use super::batches::crew;
use super::on_memory;
use super::played::{agent_with, task_of};

/// An Agent whose model is in the cloud.
async fn cloudy(stage: &Stage) {
    stage.agent("cloudy", agent_with("provider", json!("cloud-proxy"))).await;
}

/// With the switch off neither a task that a person made nor a coder of a workload goes to the cloud:
/// they wait and say so.
pub(crate) async fn b067_nothing_else_leaves_for_the_cloud_either(stage: &Stage) {
    crew(stage).await;
    cloudy(stage).await;
    stage.forbid_cloud().await;
    stage.task("direct", task_of("cloudy")).await;
    let step = json!({"name": "code", "kind": "issue-fix", "agentRef": {"name": "cloudy"},
        "payload": {"repo": "acme/app"}});
    stage.workload("w", json!({"intent": "fix", "pipeline": [step]})).await;
    for name in ["direct", "w-code"] {
        let task = stage.task_waits(name, "PolicyForbids", 10).await;
        assert!(task.text("/status/waiting/message").contains("cloudy"), "{task:?}");
        assert_eq!(task.node(), "");
    }
    stage.advance(Duration::from_mins(2)).await;
    for name in ["direct", "w-code"] {
        assert_eq!(stage.see_task(name).await.phase(), "Pending");
    }
}

on_memory!(b067_nothing_else_leaves_for_the_cloud_either,);
