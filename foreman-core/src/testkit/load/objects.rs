//! The nodes and tasks of a world, as people and agents write them.

use serde_json::{Value, json};

use super::{FREE_GB, NAMESPACE, node_name, task_name};
use crate::model::Uid;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::FleetNode;
use crate::model::object::{Kind, Object};
use crate::model::time::WallTime;

/// When these worlds begin.
const BEGAN_SECONDS: i64 = crate::testkit::sim::SIM_EPOCH_SECONDS;
/// How long the prompt of a task is, in characters.
const PROMPT_CHARS: usize = 600;
fn began() -> WallTime {
    WallTime::from_unix_seconds(BEGAN_SECONDS)
}

#[expect(clippy::expect_used, reason = "the manifests here fit their kind")]
fn object<K: Kind>(name: &str, spec: &Value, status: &Value) -> Object<K> {
    Object::from_json(&json!({
        "metadata": {"name": name, "uid": format!("00000000-0000-4000-8000-{name:0>12}"),
            "resourceVersion": "1", "generation": 1, "creationTimestamp": began()},
        "spec": spec, "status": status}))
    .expect("an object")
}

/// A node of a world, with the run of the task of the same number.
pub(super) fn node(number: usize) -> Object<FleetNode> {
    let name = node_name(number);
    let task = task(number, &json!({}));
    object(
        &name,
        &json!({"nodeName": name, "roles": ["coder"], "slots": 1}),
        &json!({"phase": "Ready", "session": format!("session-{number}"),
            "lastHeartbeatTime": began(), "agentVersion": "0.1.0", "os": "linux",
            "capability": {"accelerator": "cuda", "availableRAMGB": FREE_GB, "totalRAMGB": 64,
                "models": [{"name": "qwen", "contextTokens": 32_768}]},
            "capacity": {"slots": 1, "ramGB": 64},
            "conditions": [{"type": "Ready", "status": "True", "reason": "HeartbeatFresh",
                "message": "it is heard of", "lastTransitionTime": began()}],
            "currentTask": task.key().to_string(),
            "runs": [{"task": task.key().to_string(), "uid": task.uid(), "attempt": 1, "turn": 3}]}),
    )
}

/// A task as people make them, with that status.
pub(super) fn task(number: usize, status: &Value) -> Object<AgenticTask> {
    let name = task_name(number);
    let prompt: String = "fix what the issue says; ".chars().cycle().take(PROMPT_CHARS).collect();
    let spec = json!({"kind": "issue-fix", "priority": 0, "timeoutSeconds": 3600,
        "requiredCapability": {"roles": ["coder"], "minContextTokens": 16_384},
        "payload": {"repo": "acme/tools", "issue": 7, "baseBranch": "main", "prompt": prompt}});
    let mut task: Object<AgenticTask> = object(&name, &spec, status);
    task.meta.namespace = Some(NAMESPACE.to_owned());
    task
}

/// A task that runs on the node of the same number.
pub(super) fn running(number: usize) -> Object<AgenticTask> {
    let session = format!("session-{number}");
    task(
        number,
        &json!({"phase": "Running", "assignedNode": node_name(number), "attempt": 1,
            "session": session, "claimedAt": began(), "startedAt": began(),
            "attempts": [{"attempt": 1, "node": node_name(number), "session": session,
                "startedAt": began()}]}),
    )
}

/// A task that ran and has ended well, as an agent writes it.
pub(super) fn ended(number: usize) -> Object<AgenticTask> {
    let node = node_name(number % 1000);
    task(
        number,
        &json!({"phase": "Succeeded", "verdict": "GO", "finishedAt": began(), "attempt": 1,
            "assignedNode": node, "branch": format!("foreman/{number}"),
            "commitSHA": "0123456789abcdef0123456789abcdef01234567",
            "outcome": {"decision": "Go", "verification": "Passed", "infrastructure": "Ok"},
            "usage": {"turns": 12, "promptTokens": 60_000, "cachedTokens": 55_000,
                "completionTokens": 4_000, "toolCalls": 20, "wallSeconds": 300},
            "attempts": [{"attempt": 1, "node": node, "session": "session", "turn": 12,
                "startedAt": began(), "endedAt": began(), "ended": "Finished"}],
            "conditions": [{"type": "Finished", "status": "True", "reason": "Succeeded",
                "message": "the gate passed on the branch", "lastTransitionTime": began()}],
            "result": {"summary": "the parser takes empty lines now, and a test says so"}}),
    )
}

/// The same object under another number.
pub(super) fn renumbered(like: &Object<AgenticTask>, number: usize) -> Object<AgenticTask> {
    let mut task = like.clone();
    task.meta.name = task_name(number);
    task.meta.uid = Uid::new(format!("00000000-0000-4000-8000-{:0>12}", task.meta.name));
    task
}
