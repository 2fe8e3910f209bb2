use std::time::Duration;

use super::*;
use crate::model::time::BootTime;

fn at(seconds: u64) -> Moment {
    let since = Duration::from_secs(seconds);
    Moment {
        wall: WallTime::from_unix_seconds(1_767_225_600).plus(since),
        awake: AwakeTime::new(since),
        boot: BootTime::new(since),
    }
}

fn node(revision: u64, beat: Moment, ram: i32) -> Object<FleetNode> {
    let json = serde_json::json!({
        "apiVersion": "foreman.llmkube.dev/v1alpha1", "kind": "FleetNode",
        "metadata": {"name": "one", "uid": "n1", "resourceVersion": revision.to_string()},
        "spec": {"nodeName": "one"},
        "status": {"phase": "Ready", "session": "s", "lastHeartbeatTime": beat.wall,
            "capability": {"availableRAMGB": ram},
            "conditions": [{"type": "Ready", "status": "True", "reason": "HeartbeatFresh",
                "message": "it is heard of", "lastTransitionTime": at(0).wall}]}
    });
    Object::from_json(&json).expect("a node")
}

fn upsert(view: &mut View, node: Object<FleetNode>, now: Moment) {
    view.hear(Fed::Node(StoreEvent::Upsert(Box::new(node))), now);
}

/// A view that read everything and has nothing to do.
fn at_rest() -> View {
    let mut view = View::new(&ControlSettings::default());
    view.hear(Fed::Node(StoreEvent::SyncStart), at(0));
    upsert(&mut view, node(1, at(0), 8), at(0));
    view.hear(Fed::Node(StoreEvent::SyncEnd), at(0));
    view.hear(Fed::Task(StoreEvent::SyncEnd), at(0));
    view.hear(Fed::Workload(StoreEvent::SyncEnd), at(0));
    view.hear(Fed::Agent(StoreEvent::SyncEnd), at(0));
    assert!(view.is_synced());
    assert_eq!(view.decide(at(0)).len(), 0);
    assert!(!view.changed);
    view
}

#[test]
fn a_heartbeat_that_says_nothing_new_runs_no_rule_and_is_heard_all_the_same() {
    let mut view = at_rest();
    for n in 1..=20 {
        let now = at(n * 30);
        upsert(&mut view, node(n + 1, now, 8), now);
        assert!(!view.changed, "beat {n}");
        let seen = view.memory.seen.get(&Key::cluster("one")).expect("seen");
        assert!(seen.is_fresh(now.wall, at(n * 30 + 89).awake));
    }
    upsert(&mut view, node(30, at(630), 9), at(630));
    assert!(view.changed, "it has more memory now");
}

#[test]
fn a_heartbeat_after_silence_and_one_of_another_clock_are_news() {
    let mut view = at_rest();
    upsert(&mut view, node(2, at(200), 8), at(200));
    assert!(view.changed, "it was silent for more than 90 s");
    let mut view = at_rest();
    upsert(&mut view, node(2, at(900), 8), at(30));
    assert!(view.changed, "its clock differs");
}
