#![expect(clippy::needless_pass_by_value, reason = "cases read better with values")]

use super::*;
use crate::model::agent::{AgentRole, AgentSpec};
use crate::model::agentic_task::Waiting;
use crate::model::meta::Extra;
use serde_json::{Value, json};

fn task(name: &str, mut spec: Value, status: Value) -> Object<AgenticTask> {
    let map = spec.as_object_mut().expect("an object");
    map.entry("kind").or_insert(json!("freeform"));
    map.entry("payload").or_insert(json!({}));
    let meta = json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"),
        "resourceVersion": "1"});
    Object::from_json(&json!({"metadata": meta, "spec": spec, "status": status})).expect("valid")
}

fn agent(name: &str, edit: impl FnOnce(&mut AgentSpec)) -> Object<Agent> {
    let mut spec = AgentSpec::new(AgentRole::Coder, vec!["bash".into()]);
    edit(&mut spec);
    let meta = json!({"name": name, "namespace": "default", "uid": "a", "resourceVersion": "1"});
    let mut object: Object<Agent> =
        Object::from_json(&json!({"metadata": meta, "spec": {"role": "coder", "tools": ["bash"]}}))
            .expect("valid");
    object.spec = spec;
    object
}

/// What becomes of the first task, in one line.
fn step(tasks: Vec<Object<AgenticTask>>, agents: Vec<Object<Agent>>, now: i64) -> String {
    let first = tasks.first().expect("one").clone();
    let tasks = tasks.into_iter().map(|task| (task.key(), task)).collect();
    let agents = agents.into_iter().map(|agent| (agent.key(), agent)).collect();
    let unreadable = [Key::namespaced("default", "garbled")].into();
    let facts = Facts {
        tasks: &tasks,
        agents: &agents,
        unreadable: [&unreadable, &unreadable],
        now: WallTime::from_unix_seconds(now),
        shared: None,
    };
    match next(&first, facts) {
        Step::Place => "place".to_owned(),
        Step::Wait { reason, message, until } => format!("{reason}: {message} {until:?}"),
        Step::Strike(counted) => format!("strike {}", counted.strikes),
        Step::End(end) => format!("{} {} {}: {}", end.phase, end.verdict, end.reason, end.message),
    }
}

fn ended(name: &str, verdict: &str) -> Object<AgenticTask> {
    task(name, json!({}), json!({"phase": "Succeeded", "verdict": verdict}))
}

#[test]
fn what_stands_between_a_task_and_its_placement() {
    let one = |spec: Value| step(vec![task("t", spec, json!({}))], vec![], 0);
    assert_eq!(one(json!({})), "place");
    assert_eq!(
        one(json!({"cancel": true, "suspend": true})),
        "Failed INCOMPLETE UserRequest: cancelled before it ran"
    );
    assert!(
        one(json!({"kind": "integrate"})).starts_with("Failed INCOMPLETE Unsupported: spec.kind")
    );
    assert!(one(json!({"kind": "dance"})).starts_with("Failed INCOMPLETE Unsupported: spec.kind"));
    assert!(one(json!({"suspend": true})).starts_with("Suspended: "));
    let spent = task(
        "t",
        json!({"budget": {"tokens": 10, "turns": 5}}),
        json!({"phase": "Pending", "usage": {"promptTokens": 8, "completionTokens": 2, "turns": 1}}),
    );
    assert_eq!(
        step(vec![spent], vec![], 0),
        "BudgetExhausted: 10 of 10 tokens are spent: raise spec.budget.tokens to go on None"
    );
}

#[test]
fn dependencies_decide_in_every_combination() {
    let on = |names: Value, others: Vec<Object<AgenticTask>>| {
        let mut tasks = vec![task("t", json!({"dependsOn": names}), json!({}))];
        tasks.extend(others);
        step(tasks, vec![], 0)
    };
    let running = || task("r", json!({}), json!({"phase": "Running"}));
    assert_eq!(on(json!(["a", "b"]), vec![ended("a", "GO"), ended("b", "GATE-PASS")]), "place");
    assert_eq!(on(json!(["r"]), vec![running()]), "Dependency: waits for r None");
    for verdict in ["NO-GO", "GATE-FAIL", "INCOMPLETE", "SOMETHING"] {
        assert_eq!(
            on(json!(["r", "a"]), vec![running(), ended("a", verdict)]),
            format!("Failed INCOMPLETE UpstreamFailed: a ended off target ({verdict})")
        );
    }
    assert_eq!(
        on(json!(["a"]), vec![ended("a", "Skipped")]),
        "Succeeded Skipped UpstreamAlreadyResolved: a found nothing left to do"
    );
    let resolved = task(
        "a",
        json!({}),
        json!({"phase": "Succeeded", "verdict": "NO-GO",
            "result": {"extra": {"outcome": "ALREADY-RESOLVED"}}}),
    );
    assert!(on(json!(["a"]), vec![resolved]).starts_with("Succeeded Skipped"));
    assert_eq!(
        on(json!(["t"]), vec![]),
        "Failed INCOMPLETE UpstreamFailed: dependency cycle: t -> t"
    );
    let back = task("b", json!({"dependsOn": ["t"]}), json!({}));
    assert_eq!(
        on(json!(["b"]), vec![back]),
        "Failed INCOMPLETE UpstreamFailed: dependency cycle: t -> b -> t"
    );
    assert_eq!(
        on(json!(["nobody"]), vec![]),
        "DependencyMissing: there is no task nobody Some(3600s)"
    );
}

#[test]
fn what_is_missing_is_waited_for_from_the_first_time_it_was_said() {
    let waiting = |reason: WaitingReason, spec: Value| {
        let mut task = task("t", spec, json!({"phase": "Pending"}));
        task.status.waiting = Some(Waiting {
            reason: Some(reason.into()),
            message: None,
            since: Some(WallTime::from_unix_seconds(100)),
            extra: Extra::new(),
        });
        task
    };
    let agentless = || waiting(WaitingReason::AgentMissing, json!({"agentRef": {"name": "x"}}));
    assert_eq!(step(vec![agentless()], vec![], 104), "AgentMissing: there is no Agent x Some(1s)");
    assert!(step(vec![agentless()], vec![], 105).starts_with("Failed INCOMPLETE AgentNotFound"));
    let alone = || waiting(WaitingReason::DependencyMissing, json!({"dependsOn": ["x"]}));
    assert!(step(vec![alone()], vec![], 3699).starts_with("DependencyMissing"));
    assert_eq!(
        step(vec![alone()], vec![], 3700),
        "Failed INCOMPLETE UpstreamFailed: x never appeared"
    );
    let other = waiting(WaitingReason::NoNodes, json!({"agentRef": {"name": "x"}}));
    assert!(step(vec![other], vec![], 9_999).starts_with("AgentMissing"), "a new reason");
}

#[test]
fn what_an_agent_asks_for_and_no_runner_does_ends_before_placement() {
    use crate::model::agent::{ExecutionSpec, McpConfig, VisionSpec};
    let with = |spec: Value, edit: fn(&mut AgentSpec)| {
        let mut spec = spec;
        spec["agentRef"] = json!({"name": "x"});
        step(vec![task("t", spec, json!({}))], vec![agent("x", edit)], 0)
    };
    assert_eq!(with(json!({}), |_| {}), "place");
    let job = with(json!({}), |a| {
        a.execution = Some(ExecutionSpec {
            mode: Some(ExecutionMode::Job.into()),
            ..ExecutionSpec::default()
        });
    });
    assert!(job.contains("Agent spec.execution.mode"), "{job}");
    let mcp: fn(&mut AgentSpec) = |a| {
        a.mcp = Some(McpConfig { enabled: Some(true), ..McpConfig::default() });
    };
    assert!(with(json!({}), mcp).contains("Agent spec.mcp.enabled"));
    assert_eq!(with(json!({"mcpEnabled": false}), mcp), "place", "the task does without");
    let vision = with(json!({}), |a| {
        a.vision = Some(VisionSpec { enabled: Some(true), ..VisionSpec::default() });
    });
    assert!(vision.contains("Agent spec.vision.enabled"), "{vision}");
}

#[test]
fn an_agents_limit_counts_tasks_in_flight() {
    let of = |name: &str, phase: Value| {
        task(name, json!({"agentRef": {"name": "x"}}), json!({"phase": phase}))
    };
    let tasks = [
        of("a", json!("Running")),
        of("b", json!("Scheduled")),
        of("c", json!("Succeeded")),
        of("d", json!("Pending")),
        of("e", json!("Pending")),
    ];
    let counts = in_flight_by_agent(&tasks);
    let key = Key::namespaced("default", "x");
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(key, 2)]);
    let bounded = agent("x", |spec| spec.max_concurrent_tasks = Some(3));
    assert_eq!(agent_at_limit(&bounded, 2), None);
    assert_eq!(agent_at_limit(&bounded, 3).as_deref(), Some("Agent x runs 3 of 3 tasks"));
    assert_eq!(agent_at_limit(&agent("x", |_| {}), 999), None);
}

#[test]
fn what_cannot_be_read_is_not_missing() {
    let waiting = json!({"phase": "Pending", "waiting": {"reason": "AgentMissing",
        "since": "1970-01-01T00:00:00Z"}});
    let agentless = task("t", json!({"agentRef": {"name": "garbled"}}), waiting);
    assert_eq!(
        step(vec![agentless], vec![], 9_999),
        "AgentMissing: Agent garbled cannot be read None"
    );
    let waiting = json!({"phase": "Pending", "waiting": {"reason": "DependencyMissing",
        "since": "1970-01-01T00:00:00Z"}});
    let after = task("t", json!({"dependsOn": ["garbled"]}), waiting);
    assert_eq!(step(vec![after], vec![], 9_999), "Dependency: waits for garbled None");
}

#[test]
fn a_run_that_its_holder_paused_waits_for_a_new_spec() {
    let ended = |ended: &str, observed: i64| {
        let status = json!({"phase": "Pending", "observedGeneration": observed,
            "usage": {"promptTokens": 8}, "attempts": [{"attempt": 1, "ended": ended}],
            "waiting": {"reason": "BudgetExhausted", "message": "8 of 10 tokens, 5 more needed"}});
        let mut task = task("t", json!({"budget": {"tokens": 10}}), status);
        task.meta.generation = 3;
        step(vec![task], vec![], 0)
    };
    let paused = |observed| ended("BudgetExhausted", observed);
    assert_eq!(paused(3), "BudgetExhausted: 8 of 10 tokens, 5 more needed None");
    assert_eq!(paused(2), "place");
    // There was nothing left for a while, and the run ended for another reason.
    assert_eq!(ended("Suspended", 3), "place");
}

#[test]
fn strikes_are_counted_first_then_they_end_the_task_or_make_it_wait() {
    let struck = |strikes: &str, ends: &[&str]| {
        let attempts: Vec<_> = ends
            .iter()
            .zip(1..)
            .map(|(end, n)| json!({"attempt": n, "ended": end, "endedAt": "1970-01-01T00:01:40Z"}))
            .collect();
        let status = json!({"phase": "Pending", "attempts": attempts});
        let mut task = task("t", json!({}), status);
        let notes = [("claim-expiries", strikes), ("struck", "2/n")];
        let notes =
            notes.map(|(name, value)| (format!("foreman.llmkube.dev/{name}"), value.to_owned()));
        task.meta.annotations.extend(notes);
        step(vec![task], vec![], 103)
    };
    let two = ["NodeLost", "NodeLost"];
    assert_eq!(struck("1", &two), "place");
    assert_eq!(struck("2", &two), "Backoff: 2 of 3 strikes: 10 s between two tries Some(7s)");
    assert_eq!(struck("2", &["NodeLost", "NodeLost", "Infrastructure"]), "strike 3");
    assert!(struck("3", &two).starts_with("Failed INCOMPLETE ClaimExpiryLimitReached: 3 of 3"));
}

#[test]
fn a_long_chain_is_no_cycle_and_a_cycle_elsewhere_is_not_this_tasks() {
    let name = |n: usize| format!("t{n}");
    let chain: Vec<_> = (0..2_000)
        .map(|n| task(&name(n), json!({"dependsOn": [name(n + 1)]}), json!({})))
        .chain([ended(&name(2_000), "GO")])
        .collect();
    assert_eq!(step(chain, vec![], 0), "Dependency: waits for t1 None");
    let others = vec![
        task("t", json!({"dependsOn": ["a"]}), json!({})),
        task("a", json!({"dependsOn": ["b"]}), json!({})),
        task("b", json!({"dependsOn": ["a"]}), json!({})),
    ];
    assert_eq!(step(others, vec![], 0), "Dependency: waits for a None");
}
