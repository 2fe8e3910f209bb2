use serde_json::{Value, json};

use super::*;

fn wall(seconds: i64) -> WallTime {
    WallTime::from_unix_seconds(1_795_000_000 + seconds)
}

fn at(seconds: u64) -> AwakeTime {
    AwakeTime::new(Duration::from_secs(seconds))
}

const LEFT: i64 = 601;
const DAY: i64 = 24 * 3600 + 1;

/// A node that beat `age` seconds ago and was created `created` seconds ago.
fn node(status: &Value, age: Option<i64>, created: i64, in_cluster: bool) -> Object<FleetNode> {
    let mut status = status.clone();
    if let Some(age) = age {
        status["lastHeartbeatTime"] = json!(wall(-age));
    }
    let labels = if in_cluster { json!({LABEL_IN_CLUSTER: "true"}) } else { json!({}) };
    let meta = json!({"name": "n", "uid": "u", "resourceVersion": "1", "labels": labels,
        "creationTimestamp": wall(-created)});
    let json = json!({"metadata": meta, "spec": {"nodeName": "n"}, "status": status});
    Object::from_json(&json).expect("a node")
}

fn at_first_sight(node: &Object<FleetNode>, holds_tasks: bool) -> Option<Gone> {
    let seen = Seen::first(node.status.last_heartbeat_time, at(0));
    gone(node, &seen, holds_tasks, wall(0), at(0))
}

#[test]
fn a_drained_node_is_deleted_ten_minutes_after_its_last_word() {
    let draining = json!({"phase": "Draining"});
    let ours = json!({"phase": "Draining", "session": "s"});
    let drained = Some(Gone::Drained);
    let cases = [
        ("without a session", &draining, Some(LEFT), DAY, false, drained),
        ("not yet", &draining, Some(LEFT - 1), DAY, false, None),
        ("never beat, old", &draining, None, LEFT, false, drained),
        ("never beat, young", &draining, None, LEFT - 1, false, None),
        ("a person's machine", &ours, Some(DAY), DAY, false, None),
        ("a pod of ours", &ours, Some(LEFT), DAY, true, drained),
    ];
    for (what, status, age, created, in_cluster, wanted) in cases {
        let node = node(status, age, created, in_cluster);
        assert_eq!(at_first_sight(&node, false), wanted, "{what}");
        assert_eq!(at_first_sight(&node, true), None, "{what}, but it holds a task");
        assert_eq!(
            looked_at_again_in(
                &node,
                &Seen::first(node.status.last_heartbeat_time, at(0)),
                wall(0),
                at(0)
            )
            .is_some(),
            wanted.is_none() && what != "a person's machine",
            "{what}"
        );
    }
}

#[test]
fn a_pod_that_was_drained_by_order_and_died_keeps_its_order_for_a_day() {
    let said = |session: bool, age: i64| {
        let mut status = json!({"phase": "Draining"});
        if session {
            status["session"] = json!("s");
        }
        let mut node = node(&status, Some(age), DAY, true);
        node.spec.drain = Some(crate::model::fleet_node::DrainSpec::default());
        let seen = Seen::first(node.status.last_heartbeat_time, at(0));
        let again = looked_at_again_in(&node, &seen, wall(0), at(0));
        (at_first_sight(&node, false), again)
    };
    let in_a_day = |left: i64| Some(Duration::from_secs(u64::try_from(left).expect("left")));
    assert_eq!(said(true, LEFT), (None, in_a_day(DAY - LEFT)), "its next pod drains on");
    assert_eq!(said(true, DAY - 1), (None, in_a_day(1)));
    assert_eq!(said(true, DAY), (Some(Gone::PodLost), None));
    assert_eq!(said(false, LEFT), (Some(Gone::Drained), None), "nobody drains those by order");
}

#[test]
fn a_node_that_moves_is_not_silent_whatever_it_writes() {
    let node = node(&json!({"phase": "Draining"}), Some(DAY), DAY, false);
    let mut seen = Seen::first(Some(wall(-DAY - 30)), at(0));
    seen.observe(node.status.last_heartbeat_time, wall(0), at(10));
    assert_eq!(gone(&node, &seen, false, wall(600), at(610)), None);
    assert_eq!(gone(&node, &seen, false, wall(601), at(611)), Some(Gone::Drained));
}

#[test]
fn a_pods_node_is_deleted_after_a_day_without_a_word_others_never() {
    let since = |seconds: i64| {
        json!({"phase": "NotReady", "session": "s", "conditions": [{"type": "Ready",
            "status": "False", "reason": "HeartbeatStale", "message": "m",
            "lastTransitionTime": wall(-seconds)}]})
    };
    let lost = Some(Gone::PodLost);
    assert_eq!(at_first_sight(&node(&since(DAY), Some(DAY), DAY, true), false), lost);
    assert_eq!(at_first_sight(&node(&since(DAY - 1), Some(DAY), DAY, true), false), None);
    assert_eq!(at_first_sight(&node(&since(DAY), Some(DAY), DAY, false), false), None);
    assert_eq!(at_first_sight(&node(&since(DAY), Some(DAY), DAY, true), true), None);
    assert_eq!(at_first_sight(&node(&since(DAY), Some(10), DAY, true), false), None, "it beats");
    let ready = json!({"phase": "Ready", "session": "s"});
    assert_eq!(at_first_sight(&node(&ready, Some(DAY), DAY, true), false), None);
}

#[test]
fn a_drain_is_over_when_nothing_runs_and_nothing_is_assigned() {
    let with = |drain: bool, runs: usize, phase: &str| {
        let runs: Vec<_> = (0..runs).map(|n| json!({"task": format!("d/t{n}")})).collect();
        let mut node = node(&json!({"phase": phase, "runs": runs}), Some(0), 0, false);
        node.spec.drain = drain.then(Default::default);
        node
    };
    assert_eq!(is_drained(&with(false, 0, "Ready"), false, false), None);
    assert_eq!(is_drained(&with(true, 0, "Ready"), false, false), Some(true));
    assert_eq!(is_drained(&with(false, 0, "Draining"), false, false), Some(true));
    assert_eq!(is_drained(&with(true, 1, "Ready"), false, false), Some(false));
    assert_eq!(is_drained(&with(true, 0, "Ready"), true, false), Some(false));
    assert_eq!(
        is_drained(&with(true, 1, "Draining"), false, true),
        Some(true),
        "dead men do not run"
    );
}
