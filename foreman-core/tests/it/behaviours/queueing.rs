//! Behaviours 31 to 40: limits, what a node names, the order of those who wait.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::Stage;
use super::on_memory;
use super::played::{Node, agent_with, freeform, freeform_with, succeeded, task_of};

/// A node whose phase says Ready and whose heartbeat is old is passed over for a fresh one.
pub(crate) async fn b031_a_stale_node_that_says_ready_is_skipped(stage: &Stage) {
    stage.silent_node(Node::go("a")).await;
    let old = json!(stage.now().minus(Duration::from_secs(91)));
    stage.kill_loops().await;
    stage.node_status("a", [("phase", json!("Ready")), ("lastHeartbeatTime", old)]).await;
    stage.node(Node::go("b")).await;
    stage.task("t", freeform()).await;
    stage.start_loops();
    assert_eq!(stage.task_is("t", "Scheduled", 2).await.node(), "b");
}

/// `maxConcurrentTasks`: what is in flight counts; what ended or waits does not, so that waiting
/// tasks alone never block each other.
pub(crate) async fn b032_an_agents_limit_counts_what_is_in_flight(stage: &Stage) {
    stage.agent("shy", agent_with("maxConcurrentTasks", json!(1))).await;
    for name in ["t1", "t2", "t3"] {
        stage.task(name, task_of("shy")).await;
        stage.task_waits(name, "NoNodes", 2).await;
    }
    stage.node(Node::ours("a", 9)).await;
    stage.claim("t1").await;
    let waiting = stage.task_waits("t2", "AgentAtLimit", 60).await;
    assert_eq!(waiting.node(), "");
    stage.task_stays("t2", "Pending", 60).await;
    stage.ends("t1", succeeded("GO", json!({}))).await;
    stage.runs_to("t2", "GO", json!({})).await;
    stage.runs_to("t3", "GO", json!({})).await;
}

/// Many tasks at once never exceed an Agent's limit, also while its placements are on their way to
/// the store.
pub(crate) async fn b033_an_agents_limit_holds_when_many_come_at_once(stage: &Stage) {
    stage.agent("shy", agent_with("maxConcurrentTasks", json!(3))).await;
    let names: Vec<_> = (0..12).map(|n| format!("t{n:02}")).collect();
    for name in &names {
        stage.task(name, task_of("shy")).await;
    }
    for n in 0..6 {
        stage.node(Node::ours(&format!("n{n}"), 4)).await;
    }
    for _ in 0..names.len() {
        let mut flying = Vec::new();
        for name in &names {
            let phase = stage.see_task(name).await.phase();
            if phase == "Scheduled" || phase == "Running" {
                flying.push(name.as_str());
            }
        }
        assert!(flying.len() <= 3, "{flying:?}");
        stage.advance(Duration::from_secs(1)).await;
        if let Some(first) = flying.first() {
            stage.runs_to(first, "GO", json!({})).await;
        }
    }
    for name in &names {
        if stage.see_task(name).await.phase() != "Succeeded" {
            stage.runs_to(name, "GO", json!({})).await;
        }
    }
}

/// Execution mode Job: not supported yet, which is said before placement (api.md, rule 2); the
/// node's `currentTask` stays empty.
pub(crate) async fn b034_a_job_mode_task_is_refused_before_placement(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.agent("jobs", agent_with("execution", json!({"mode": "Job", "image": "i"}))).await;
    stage.task("t", task_of("jobs")).await;
    let task = stage.task_is("t", "Failed", 5).await;
    assert_eq!(task.end(), "Failed/INCOMPLETE");
    assert_eq!(task.condition("Failed"), "True/Unsupported");
    assert_eq!(task.node(), "");
    assert_eq!(stage.see_node("a").await.text("/status/currentTask"), "");
}

/// Tasks spread over nodes with room. (Job mode is refused, so the case has nodes of ours with many
/// slots, where the first node by name could take everything.)
pub(crate) async fn b035_tasks_spread_over_nodes_with_room(stage: &Stage) {
    for name in ["a", "b", "c", "d"] {
        stage.node(Node::ours(name, 8)).await;
    }
    let mut nodes = BTreeSet::new();
    for n in 0..4 {
        let name = format!("t{n}");
        stage.task(&name, freeform()).await;
        nodes.insert(stage.task_is(&name, "Scheduled", 2).await.node());
    }
    assert_eq!(nodes.len(), 4, "{nodes:?}");
}

/// A node is free when what `currentTask` names is gone, has ended or is placed elsewhere. (Ours
/// reads no rule out of the field at all.)
pub(crate) async fn b036_what_current_task_names_does_not_bind(stage: &Stage) {
    stage.node(Node::go("z")).await;
    stage.task("ended", freeform()).await;
    stage.runs_to("ended", "GO", json!({})).await;
    stage.task("elsewhere", freeform()).await;
    stage.claim("elsewhere").await;
    for (node, names) in [("a", "default/gone"), ("b", "default/ended"), ("c", "default/elsewhere")]
    {
        stage.node(Node::go(node)).await;
        stage.node_status(node, [("currentTask", json!(names))]).await;
        let name = format!("on-{node}");
        stage.task(&name, freeform()).await;
        assert_eq!(stage.task_is(&name, "Scheduled", 2).await.node(), node, "{names}");
    }
}

/// When a task ends its node's `currentTask` is cleared, but not when it names another task by then.
pub(crate) async fn b037_the_end_of_a_task_frees_its_node(stage: &Stage) {
    stage.node(Node::go("a")).await;
    let names = async |wanted: &str| {
        let is = async || stage.see_node("a").await.text("/status/currentTask") == wanted;
        stage.eventually(Duration::from_secs(2), "currentTask follows", is).await;
    };
    stage.task("t1", freeform()).await;
    stage.claim("t1").await;
    names("default/t1").await;
    stage.ends("t1", succeeded("GO", json!({}))).await;
    names("").await;
    stage.task("t2", freeform()).await;
    stage.claim("t2").await;
    stage.task("t3", freeform()).await;
    stage.task_waits("t3", "NodesBusy", 2).await;
    stage.ends("t2", succeeded("GO", json!({}))).await;
    stage.task_is("t3", "Scheduled", 2).await;
    names("default/t3").await;
    // The ended task changes once more: its node stays t3's.
    stage.annotate_task("t2", &[("example.com/note", "looked at")]).await;
    stage.restart_loops().await;
    stage.advance(Duration::from_secs(5)).await;
    names("default/t3").await;
}

/// A task that fits nowhere stays Pending, says why, and is not written again while nothing changes.
pub(crate) async fn b038_a_task_that_fits_nowhere_says_why_once(stage: &Stage) {
    stage.node(Node::go("a").capability(json!({"accelerator": "metal"}))).await;
    stage.node(Node::ours("b", 1)).await;
    stage.task("t", freeform_with("requiredCapability", json!({"accelerator": "cuda"}))).await;
    let task = stage.task_waits("t", "NoMatchingNode", 2).await;
    assert!(task.text("/status/waiting/message").starts_with("0/2 nodes fit: "), "{task:?}");
    assert!(stage.told.of("TaskWaiting").iter().any(|told| told.starts_with("t: ")));
    stage.advance(Duration::from_secs(40)).await;
    let before = stage.see_task("t").await;
    let same = async || stage.see_task("t").await == before;
    stage.throughout(Duration::from_mins(15), "not written", same).await;
}

/// Of two waiting tasks the one of the higher priority goes first when a node becomes free.
pub(crate) async fn b039_the_higher_priority_goes_first(stage: &Stage) {
    stage.node(Node::go("a")).await;
    stage.task("first", freeform()).await;
    stage.claim("first").await;
    for (name, priority) in [("low", 1), ("high", 100)] {
        stage.task(name, freeform_with("priority", json!(priority))).await;
        stage.task_waits(name, "NodesBusy", 2).await;
        stage.advance(Duration::from_secs(2)).await;
    }
    stage.ends("first", succeeded("GO", json!({}))).await;
    stage.task_is("high", "Scheduled", 2).await;
    assert_eq!(stage.see_task("low").await.phase(), "Pending");
    stage.runs_to("high", "GO", json!({})).await;
    stage.task_is("low", "Scheduled", 2).await;
}

/// Two tenants with a backlog: one that keeps adding work cannot keep the other's from running,
/// because age decides between equals.
pub(crate) async fn b040_a_tenant_that_keeps_adding_starves_nobody(stage: &Stage) {
    stage.node(Node::go("a")).await;
    for n in 0..5 {
        stage.task(&format!("greedy/t{n}"), freeform()).await;
    }
    stage.advance(Duration::from_secs(2)).await;
    for n in 0..3 {
        stage.task(&format!("modest/t{n}"), freeform()).await;
    }
    let mut ran = Vec::new();
    for round in 5..13 {
        stage.advance(Duration::from_secs(2)).await;
        stage.task(&format!("greedy/t{round}"), freeform()).await;
        for name in stage.task_names().await {
            if stage.see_task(&name).await.phase() == "Scheduled" {
                stage.runs_to(&name, "GO", json!({})).await;
                ran.push(name);
                break;
            }
        }
    }
    let modest = ran.iter().filter(|name| name.starts_with("modest/")).count();
    assert_eq!(modest, 3, "all three among the first eight: {ran:?}");
}

on_memory!(
    b031_a_stale_node_that_says_ready_is_skipped,
    b032_an_agents_limit_counts_what_is_in_flight,
    b033_an_agents_limit_holds_when_many_come_at_once,
    b034_a_job_mode_task_is_refused_before_placement,
    b035_tasks_spread_over_nodes_with_room,
    b036_what_current_task_names_does_not_bind,
    b037_the_end_of_a_task_frees_its_node,
    b038_a_task_that_fits_nowhere_says_why_once,
    b039_the_higher_priority_goes_first,
    b040_a_tenant_that_keeps_adding_starves_nobody,
);
