use std::time::Duration;

use super::*;
use crate::model::meta::OwnerReference;
use crate::model::time::{BootTime, WallTime};

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

fn after_sleep(seconds: u64, slept: u64) -> Moment {
    Moment { awake: at(seconds - slept).awake, ..at(seconds) }
}

#[test]
fn our_own_sleep_is_noticed_before_anything_is_judged_and_a_full_silence_counts_from_then() {
    let mut view = at_rest();
    let silent_since = |view: &View| view.memory.seen[&Key::cluster("one")].silence(at(70).awake);
    assert_eq!(view.look_again(at(60).awake), Some(at(70).awake), "the alarm is not far away");
    assert_eq!(view.decide(at(60)).len(), 0);
    // An hour of sleep; awake, less than a silence has passed.
    let now = after_sleep(3670, 3600);
    assert_eq!(now.awake, at(70).awake);
    view.wakes(now);
    assert_eq!(silent_since(&view), Duration::ZERO);
    assert_eq!(view.decide(now).len(), 0, "its last value is old, and its silence is not known");
    assert_eq!(view.due[0], Some(at(70 + 91).awake), "the alarm counts anew");
    for awake in 71..=160 {
        assert_eq!(view.decide(after_sleep(3600 + awake, 3600)).len(), 0, "at {awake}");
    }
    let writes = view.decide(after_sleep(3600 + 161, 3600));
    assert!(matches!(writes.as_slice(), [(_, Write::Confirmed { .. })]), "NotReady, asked first");
}

#[test]
fn a_sleep_before_everything_was_read_is_noticed_too() {
    let mut view = View::new(&ControlSettings::default());
    view.wakes(at(0));
    view.hear(Fed::Node(StoreEvent::SyncStart), at(0));
    upsert(&mut view, node(1, at(0), 8), at(0));
    view.hear(Fed::Node(StoreEvent::SyncEnd), at(0));
    assert_eq!(view.look_again(at(0).awake), None, "nothing is known of any node yet");
    let now = after_sleep(3680, 3600);
    view.wakes(now);
    view.hear(Fed::Task(StoreEvent::SyncEnd), now);
    view.hear(Fed::Workload(StoreEvent::SyncEnd), now);
    view.hear(Fed::Agent(StoreEvent::SyncEnd), now);
    assert_eq!(view.decide(after_sleep(3691, 3600)).len(), 1, "old at first sight");
    assert_eq!(view.memory.seen[&Key::cluster("one")].silence(now.awake), Duration::ZERO);
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

fn task(name: &str, revision: u64, status: &serde_json::Value) -> Object<AgenticTask> {
    let json = serde_json::json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "generation": 1,
            "resourceVersion": revision.to_string()},
        "spec": {"kind": "freeform", "payload": {}}, "status": status
    });
    Object::from_json(&json).expect("a task")
}

fn tell(view: &mut View, task: Object<AgenticTask>) {
    view.hear(Fed::Task(StoreEvent::Upsert(Box::new(task))), at(1));
}

fn running_on_one() -> serde_json::Value {
    serde_json::json!({"phase": "Running", "assignedNode": "one", "attempt": 1, "session": "s",
        "claimedAt": at(0).wall})
}

/// The tasks that are placed now.
fn placed(view: &mut View) -> Vec<String> {
    let writes = view.decide(at(1));
    let now = writes.iter().filter(|(urgency, _)| *urgency == Urgency::Now);
    now.filter_map(|(_, write)| write.task().map(|key| key.name.clone())).collect()
}

#[test]
fn the_watch_that_shows_our_own_older_answer_tells_of_no_refusal() {
    let refused = serde_json::json!({"phase": "Pending", "conditions": [{"type": "Running",
        "status": "False", "reason": "Refused", "message": "", "lastTransitionTime": at(0).wall}]});
    let scheduled = serde_json::json!({"phase": "Scheduled", "assignedNode": "one",
        "conditions": refused["conditions"]});
    let mut view = at_rest();
    tell(&mut view, task("t", 1, &refused));
    let key = Key::namespaced("default", "t");
    for (revision, status) in [(2, &refused), (3, &scheduled)] {
        view.world.tasks.write_begins(key.clone());
        view.world.tasks.write_done(task("t", revision, status));
    }
    tell(&mut view, task("t", 2, &refused));
    assert_eq!(view.memory.avoided.len(), 0);
    tell(&mut view, task("t", 3, &scheduled));
    tell(&mut view, task("t", 4, &refused));
    assert_eq!(view.memory.avoided.len(), 1, "this one is a refusal");
}

#[test]
fn a_refusal_that_is_learnt_by_a_lost_write_counts_like_one_that_the_watch_shows() {
    let scheduled = serde_json::json!({"phase": "Scheduled", "assignedNode": "one"});
    let refused = serde_json::json!({"phase": "Pending", "conditions": [{"type": "Running",
        "status": "False", "reason": "Refused", "message": "", "lastTransitionTime": at(0).wall}]});
    let mut view = at_rest();
    tell(&mut view, task("t", 1, &scheduled));
    assert!(view.decide(at(1)).iter().all(|(urgency, _)| *urgency != Urgency::Now));
    let key = Key::namespaced("default", "t");
    view.world.tasks.write_begins(key.clone());
    let found = Reread::There(Box::new(task("t", 2, &refused)));
    view.take(Urgency::Now, Done::Task(key, Answer::Lost(found)), at(1).awake);
    assert_eq!(view.memory.avoided.len(), 1);
    assert_eq!(
        placed(&mut view),
        [""; 0],
        "the node that refused it a moment ago is not asked again"
    );
}

fn unreadable(name: &str) -> (Key, String) {
    (Key::namespaced("default", name), "odd".to_owned())
}

#[test]
fn a_task_that_cannot_be_read_any_more_holds_its_room_until_it_is_gone() {
    for is_gone in [false, true] {
        let mut view = at_rest();
        tell(&mut view, task("a", 1, &running_on_one()));
        assert_eq!(placed(&mut view), [""; 0]);
        let (key, reason) = unreadable("a");
        view.hear(Fed::Task(StoreEvent::Unreadable { key: key.clone(), reason }), at(1));
        assert_eq!(placed(&mut view), [""; 0]);
        if is_gone {
            view.hear(Fed::Task(StoreEvent::Gone { key, uid: Uid::new("a") }), at(1));
        }
        tell(&mut view, task("b", 2, &serde_json::json!({"phase": "Pending"})));
        let expected: &[&str] = if is_gone { &["b"] } else { &[] };
        assert_eq!(placed(&mut view), expected, "whoever runs it runs it still");
    }
}

#[test]
fn a_task_whose_workload_cannot_be_read_waits_until_its_budget_is_known() {
    for is_gone in [false, true] {
        let mut view = at_rest();
        let (key, reason) = unreadable("w");
        view.hear(Fed::Workload(StoreEvent::Unreadable { key: key.clone(), reason }), at(1));
        if is_gone {
            view.hear(Fed::Workload(StoreEvent::Gone { key, uid: Uid::new("w") }), at(1));
        }
        let mut owned = task("b", 2, &serde_json::json!({"phase": "Pending"}));
        owned.meta.owner_references.push(OwnerReference {
            api_version: crate::model::API_VERSION.to_owned(),
            kind: "Workload".to_owned(),
            name: "w".to_owned(),
            uid: Uid::new("w"),
            controller: Some(true),
            block_owner_deletion: None,
        });
        tell(&mut view, owned);
        let writes = view.decide(at(1));
        let deleted = |write: &Write| matches!(write, Write::DeleteStray { .. });
        let urgent: Vec<_> =
            writes.iter().filter(|(urgency, _)| *urgency == Urgency::Now).collect();
        if is_gone {
            assert!(matches!(&*urgent, [(_, write)] if deleted(write)), "{urgent:?}");
        } else {
            assert!(urgent.is_empty(), "{urgent:?}");
        }
    }
}

/// The names of the tasks that are placed by these writes.
fn sent(writes: &[(Urgency, Write)]) -> Vec<String> {
    let urgent = writes.iter().filter(|(urgency, _)| *urgency == Urgency::Now);
    urgent.filter_map(|(_, write)| Some(write.task()?.name.clone())).collect()
}

/// Two tasks for a node that takes one, and the first placement is on its way.
fn one_of_two_is_placed() -> View {
    let mut view = at_rest();
    for name in ["a", "b"] {
        tell(&mut view, task(name, 1, &serde_json::json!({})));
    }
    let writes = view.decide(at(1));
    assert_eq!(sent(&writes), ["a"]);
    let lane = writes.iter().find(|(urgency, _)| *urgency != Urgency::Now);
    let (urgency, _) = lane.expect("the other is told why it waits");
    let told = serde_json::json!({"phase": "Pending",
        "waiting": {"reason": "NodesBusy", "message": "0/1 nodes fit"}});
    let answer = Answer::Written(Box::new(task("b", 2, &told)));
    view.take(*urgency, Done::Task(Key::namespaced("default", "b"), answer), at(1).awake);
    view
}

#[test]
fn a_placement_without_an_answer_keeps_its_room_and_is_sent_again() {
    let mut view = one_of_two_is_placed();
    let key = Key::namespaced("default", "a");
    let unmoved = Box::new(task("a", 1, &serde_json::json!({})));
    let lost = Answer::Lost(Reread::There(unmoved));
    view.take(Urgency::Now, Done::Task(key.clone(), lost), at(2).awake);
    assert!(sent(&view.decide(at(2))).is_empty(), "the store may still place the first");
    assert_eq!(sent(&view.decide(at(3))), ["a"]);
    view.take(Urgency::Now, Done::Task(key, Answer::Later(None)), at(4).awake);
    // Somebody else's write makes that the late placement can do nothing.
    let mut held = task("a", 2, &serde_json::json!({"phase": "Pending"}));
    held.spec.suspend = Some(true);
    view.hear(Fed::Task(StoreEvent::Upsert(Box::new(held))), at(5));
    assert_eq!(sent(&view.decide(at(5))), ["b"]);
}

#[test]
fn a_placement_that_can_not_be_done_any_more_lets_its_room_go() {
    let mut view = one_of_two_is_placed();
    let key = Key::namespaced("default", "a");
    view.take(Urgency::Now, Done::Task(key, Answer::Later(None)), at(2).awake);
    let mut cordoned = node(2, at(3), 8);
    cordoned.spec.unschedulable = Some(true);
    upsert(&mut view, cordoned, at(3));
    let held = |view: &View| view.memory.room.fleet.snapshot().home(&Uid::new("a")).is_some();
    for (second, holds) in [(3, true), (16, true), (18, false)] {
        let writes = view.decide(at(second));
        assert!(sent(&writes).is_empty());
        assert_eq!(held(&view), holds, "it may be done until 17 s");
        for (urgency, write) in writes {
            let Some(key) = write.task().cloned() else { continue };
            let refused = Answer::Refused(crate::ports::store::StoreError::NotFound);
            view.take(urgency, Done::Task(key, refused), at(second).awake);
        }
    }
}
