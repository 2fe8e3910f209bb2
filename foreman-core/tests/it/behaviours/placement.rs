//! Behaviours 21 to 30: which node a task meets.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;
use super::on_memory;
use super::played::{Node, agent_with, freeform, freeform_with, plain_agent, task_of};

/// A new task becomes Pending. One that is placed at once skips the phase (api.md, rule 2), so the
/// case has no node.
pub(crate) async fn b021_a_new_task_that_no_node_takes_becomes_pending(stage: &Stage) {
    stage.task("t", freeform()).await;
    let task = stage.task_waits("t", "NoNodes", 2).await;
    assert_eq!(task.node(), "");
}

/// One Ready node that fits: Scheduled there with the condition, and the node names the task.
pub(crate) async fn b022_a_task_is_placed_and_the_node_names_it(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("t", freeform()).await;
    let task = stage.task_is("t", "Scheduled", 2).await;
    assert_eq!(
        (task.node(), task.condition("Scheduled")),
        ("a".into(), "True/FleetNodeAssigned".into())
    );
    let named = async || stage.see_node("a").await.text("/status/currentTask") == "default/t";
    stage.eventually(Duration::from_secs(2), "currentTask is default/t", named).await;
}

/// The same of a node of ours, with one write of the task; the node names it within the rate of the
/// low-priority lane.
pub(crate) async fn b022_a_node_of_ours_names_its_oldest_task(stage: &Stage) {
    stage.node(Node::ours("a", 2)).await;
    stage.task("t", freeform()).await;
    stage.task_is("t", "Scheduled", 2).await;
    stage.advance(Duration::from_secs(1)).await;
    stage.task("u", freeform()).await;
    stage.task_is("u", "Scheduled", 2).await;
    let named = async || stage.see_node("a").await.text("/status/currentTask") == "default/t";
    stage.eventually(Duration::from_secs(10), "currentTask is default/t", named).await;
}

/// Two nodes that are equal and idle: the first by name. (Ours scores; the name decides last.)
pub(crate) async fn b023_of_two_equal_nodes_the_first_by_name(stage: &Stage) {
    stage.node(Node::go("b")).await;
    stage.node(Node::go("a")).await;
    stage.task("t", freeform()).await;
    assert_eq!(stage.task_is("t", "Scheduled", 2).await.node(), "a");
}

/// Two tasks land on two nodes; a third waits until one ends, and is then placed at once.
pub(crate) async fn b024_two_tasks_on_two_nodes_and_a_third_when_one_ends(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.node(Node::go("b")).await;
    for name in ["t1", "t2"] {
        stage.task(name, freeform()).await;
        stage.claim(name).await;
    }
    let nodes = (stage.see_task("t1").await.node(), stage.see_task("t2").await.node());
    assert_eq!(nodes, ("a".into(), "b".into()));
    stage.task("t3", freeform()).await;
    stage.task_waits("t3", "NodesBusy", 2).await;
    stage.task_stays("t3", "Pending", 60).await;
    stage.ends("t2", super::played::succeeded("GO", json!({}))).await;
    let placed = async || stage.see_task("t3").await.phase() == "Scheduled";
    let took = stage.eventually(Duration::from_secs(9), "t3 is placed", placed).await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
    assert_eq!(stage.see_task("t3").await.node(), "b");
}

/// Accelerators match exactly; `any` and nothing match every node.
pub(crate) async fn b025_accelerators_match_exactly(stage: &Stage) {
    let with =
        |name: &str, kind: &str| Node::ours(name, 9).capability(json!({"accelerator": kind}));
    stage.node(with("m", "metal")).await;
    stage.node(with("v", "vulkan")).await;
    stage.node(Node::ours("z", 9)).await;
    let wants = |kind: &str| freeform_with("requiredCapability", json!({ "accelerator": kind }));
    stage.task("cuda", wants("cuda")).await;
    stage.task_waits("cuda", "NoMatchingNode", 2).await;
    stage.task("vulkan", wants("vulkan")).await;
    assert_eq!(stage.task_is("vulkan", "Scheduled", 2).await.node(), "v");
    stage.node(with("c", "cuda")).await;
    assert_eq!(stage.task_is("cuda", "Scheduled", 2).await.node(), "c");
    for name in ["c", "m", "v"] {
        let cordon = [("unschedulable", json!(true))];
        stage.node_spec(name, cordon).await;
    }
    stage.task("any", wants("any")).await;
    assert_eq!(stage.task_is("any", "Scheduled", 2).await.node(), "z", "it has no accelerator");
    stage.task("unsaid", freeform_with("requiredCapability", json!({}))).await;
    assert_eq!(stage.task_is("unsaid", "Scheduled", 2).await.node(), "z");
}

/// A need beyond what a node advertises waits, and is placed once the node's status rises.
pub(crate) async fn b026_memory_and_context_are_compared_and_rise(stage: &Stage) {
    let small = json!({"totalRAMGB": 32, "availableRAMGB": 16, "maxContextTokens": 8192});
    for (field, need, rises) in [
        ("minRAMGB", 24, json!({"totalRAMGB": 32, "availableRAMGB": 24, "maxContextTokens": 8192})),
        (
            "minContextTokens",
            32_768,
            json!({"totalRAMGB": 32, "availableRAMGB": 16, "maxContextTokens": 32_768}),
        ),
    ] {
        let node = field.to_lowercase();
        stage.node(Node::go(&node).capability(small.clone())).await;
        stage.task(&node, freeform_with("requiredCapability", json!({ field: need }))).await;
        stage.task_waits(&node, "NoMatchingNode", 2).await;
        stage.task_stays(&node, "Pending", 40).await;
        stage.beats_say(&node, "capability", rises).await;
        assert_eq!(stage.task_is(&node, "Scheduled", 2).await.node(), node);
        stage.runs_to(&node, "GO", json!({})).await;
        stage.node_spec(&node, [("unschedulable", json!(true))]).await;
    }
}

/// `requiresModelInstalled`: only nodes that list the Agent's model, and memory does not count. The
/// model is `spec.model`, else the model server's name; an Agent that names none fits nowhere.
pub(crate) async fn b027_a_model_that_must_be_installed(stage: &Stage) {
    stage.node(Node::go("a").capability(json!({"availableRAMGB": 64}))).await;
    let models = json!({"availableRAMGB": 1, "installedModels": ["qwen"]});
    stage.node(Node::go("b").capability(models)).await;
    let warm = json!({"requiresModelInstalled": true, "minRAMGB": 500});
    let agent = |model: Value| {
        let mut agent = agent_with("requiredCapability", warm.clone());
        agent["model"] = model;
        agent
    };
    stage.agent("by-model", agent(json!("qwen"))).await;
    let mut by_server = agent(Value::Null);
    by_server["inferenceServiceRef"] = json!({"name": "qwen"});
    by_server["systemPrompt"] = json!("you fix things");
    stage.agent("by-server", by_server).await;
    stage.agent("nameless", agent(Value::Null)).await;
    for name in ["by-model", "by-server"] {
        stage.task(name, task_of(name)).await;
        assert_eq!(stage.task_is(name, "Scheduled", 2).await.node(), "b", "{name}");
        stage.runs_to(name, "GO", json!({})).await;
    }
    stage.task("nameless", task_of("nameless")).await;
    stage.task_waits("nameless", "NoMatchingNode", 2).await;
}

/// Every label of the selector and every role must match.
pub(crate) async fn b028_labels_and_roles_must_all_match(stage: &Stage) {
    let zone = |zone: &str| json!({"zone": zone, "disk": "fast"});
    stage.node(Node::go("a").labels(zone("attic")).roles(&["coder"])).await;
    stage.node(Node::go("b").labels(zone("cellar")).roles(&["coder"])).await;
    stage.node(Node::go("c").labels(zone("cellar")).roles(&["worker", "coder", "verifier"])).await;
    let need = json!({"nodeSelector": {"zone": "cellar", "disk": "fast"},
        "roles": ["coder", "verifier"]});
    stage.task("t", freeform_with("requiredCapability", need)).await;
    assert_eq!(stage.task_is("t", "Scheduled", 2).await.node(), "c");
    let need = json!({"nodeSelector": {"zone": "cellar", "disk": "slow"}});
    stage.task("u", freeform_with("requiredCapability", need)).await;
    stage.task_waits("u", "NoMatchingNode", 2).await;
}

/// With an Agent its capability counts and the task's is ignored.
pub(crate) async fn b029_the_agents_capability_counts(stage: &Stage) {
    stage.node(Node::go("a").roles(&["coder"])).await;
    stage.node(Node::go("b").roles(&["reviewer"])).await;
    stage.agent("critic", agent_with("requiredCapability", json!({"roles": ["reviewer"]}))).await;
    let mut spec = task_of("critic");
    spec["requiredCapability"] = json!({"roles": ["coder"], "minRAMGB": 500});
    stage.task("t", spec).await;
    assert_eq!(stage.task_is("t", "Scheduled", 2).await.node(), "b");
    stage.agent("anybody", plain_agent()).await;
    let mut spec = task_of("anybody");
    spec["requiredCapability"] = json!({"accelerator": "cuda"});
    stage.task("u", spec).await;
    assert_eq!(stage.task_is("u", "Scheduled", 2).await.node(), "a", "it requires nothing");
}

/// A missing Agent: there is no webhook (api.md, rule 2), so the task is admitted, waits 5 s because
/// manifests may come in any order, and fails.
pub(crate) async fn b030_a_missing_agent_fails_the_task(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("t", task_of("nobody")).await;
    stage.task_waits("t", "AgentMissing", 1).await;
    let task = stage.task_is("t", "Failed", 10).await;
    assert_eq!(task.end(), "Failed/INCOMPLETE/AgentNotFound");
    assert_eq!(task.condition("Failed"), "True/AgentNotFound");
    assert!(!task.text("/status/finishedAt").is_empty());
    stage.task("u", task_of("late")).await;
    stage.task_waits("u", "AgentMissing", 1).await;
    stage.advance(Duration::from_secs(3)).await;
    stage.agent("late", plain_agent()).await;
    stage.task_is("u", "Scheduled", 2).await;
}

on_memory!(
    b021_a_new_task_that_no_node_takes_becomes_pending,
    b022_a_task_is_placed_and_the_node_names_it,
    b022_a_node_of_ours_names_its_oldest_task,
    b023_of_two_equal_nodes_the_first_by_name,
    b024_two_tasks_on_two_nodes_and_a_third_when_one_ends,
    b025_accelerators_match_exactly,
    b026_memory_and_context_are_compared_and_rise,
    b027_a_model_that_must_be_installed,
    b028_labels_and_roles_must_all_match,
    b029_the_agents_capability_counts,
    b030_a_missing_agent_fails_the_task,
);
