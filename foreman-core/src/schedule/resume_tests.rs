use serde_json::{Value, json};

use super::*;

fn task(spec: &Value, status: &Value) -> Object<AgenticTask> {
    let mut whole = json!({"kind": "freeform", "payload": {}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    Object::from_json(&json!({
        "metadata": {"name": "t", "namespace": "default", "uid": "t", "resourceVersion": "1"},
        "spec": whole, "status": status}))
    .expect("a task")
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).expect("a name")
}

fn left(status: &Value) -> Option<Left> {
    left_behind(&task(&Value::Null, status), None)
}

#[test]
fn the_newest_checkpoint_says_where_the_journal_lies() {
    let at = |node_name: &str, turn| Some(Left { node: node(node_name), turn });
    assert_eq!(
        left(&json!({"checkpoint": {"node": "a", "attempt": 2, "turn": 5},
        "attempts": [{"attempt": 2, "node": "b", "turn": 9}]})),
        at("a", 5)
    );
    assert_eq!(
        left(&json!({"checkpoint": {"node": "a", "attempt": 1, "turn": 5},
            "attempts": [{"attempt": 2, "node": "b", "turn": 9, "ended": "NodeLost"}]})),
        at("b", 9),
        "the run after it went on elsewhere"
    );
    let archived = json!({"checkpoint": {"node": "a", "attempt": 1, "turn": 5, "archived": true}});
    assert_eq!(left(&archived), None, "anybody can have it");
    assert_eq!(left(&json!({})), None);
}

#[test]
fn a_run_without_a_turn_and_one_handed_back_leave_nothing_behind() {
    let lost = |turn: i64, ended: &str| json!({"attempts": [{"attempt": 1, "node": "a", "turn": turn, "ended": ended}]});
    assert_eq!(left(&lost(0, "NodeLost")), None);
    assert_eq!(left(&lost(3, "HandedBack")), None, "its agent has no journal of it");
    assert_eq!(left(&lost(3, "NodeLost")), Some(Left { node: node("a"), turn: 3 }));
    let task = task(&Value::Null, &lost(3, "NodeLost"));
    let shown = |on: &str| left_behind(&task, Some(&(node(on), 7))).map(|left| left.turn);
    assert_eq!((shown("a"), shown("b")), (Some(7), Some(3)), "a heartbeat of that node counts");
}

#[test]
fn time_runs_only_while_the_machine_is_away_and_adds_up() {
    let at = |seconds| AwakeTime::new(Duration::from_secs(seconds));
    let patience = Duration::from_secs(100);
    let mut wait = Wait::new(&node("a"));
    wait.observe(&node("a"), true, at(0));
    assert!(wait.runs());
    wait.observe(&node("a"), false, at(60));
    assert!(!wait.runs());
    wait.observe(&node("a"), true, at(1_000));
    assert_eq!(wait.left(patience), Some(Duration::from_secs(40)), "it was there for a while");
    wait.observe(&node("a"), true, at(1_039));
    assert_eq!(wait.left(patience), Some(Duration::from_secs(1)));
    wait.observe(&node("a"), true, at(1_040));
    assert_eq!(wait.left(patience), None);
    wait.observe(&node("b"), true, at(1_041));
    assert_eq!(wait.left(patience), Some(patience), "another machine, another time");
}

#[test]
fn patience_is_what_the_task_asks_for() {
    let of = |spec: Value| patience(&task(&spec, &json!({})));
    assert_eq!(of(json!({})), RESUME_WAIT);
    assert_eq!(of(json!({"resumeWaitSeconds": 7})), Duration::from_secs(7));
    assert_eq!(of(json!({"resumeWaitSeconds": 0})), Duration::ZERO);
}

#[test]
fn what_is_repeated_is_said() {
    let says = |turn, why| repeats(&Left { node: node("a"), turn }, why, &node("b"));
    assert_eq!(
        says(1, Without::Away),
        "starts afresh on b: its journal is on a, which is away or refuses it; turn 1 is repeated"
    );
    let failed = says(4, Without::Failed);
    assert!(failed.ends_with("which failed it too often; turns 1 to 4 are repeated"), "{failed}");
}

#[test]
fn a_machine_fails_a_run_too_often_when_it_struck_last_and_not_for_the_first_time() {
    let of = |strikes: &str, struck: &str| {
        let mut task =
            task(&Value::Null, &json!({"attempt": 3, "attempts": [{"attempt": 3, "node": "a"}]}));
        let notes = &mut task.meta.annotations;
        notes.insert("foreman.llmkube.dev/claim-expiries".into(), strikes.into());
        notes.insert("foreman.llmkube.dev/struck".into(), struck.into());
        failed_too_often(&task, &node("a"))
    };
    assert!(!of("1", "3/a"), "a crash, a reboot");
    assert!(of("2", "3/a"));
    assert!(!of("2", "3/b"), "another one failed it since");
    assert!(!of("2", "3/"), "it is about to be placed there");
}

#[test]
fn what_refuses_the_run_is_away_and_what_is_busy_is_not() {
    for refusal in Refusal::ALL {
        let mut says = Refusals::default();
        says.refuse_if(true, refusal);
        let waited_for = matches!(
            refusal,
            Refusal::JournalElsewhere
                | Refusal::Recovering
                | Refusal::SlotsFull
                | Refusal::MemoryInUse
        );
        assert_eq!(is_away(Some(says)), !waited_for, "{refusal:?}");
    }
    assert!(is_away(None), "its object is gone");
    assert!(!is_away(Some(Refusals::default())));
}

#[test]
fn the_need_is_bound_to_the_machine_that_is_waited_for() {
    let none = (BTreeMap::new(), BTreeMap::new());
    let of = |spec: Value, status: Value| {
        let need = need_of(&task(&spec, &status), &none.0, &none.1);
        (need.journal, need.only)
    };
    let saved = |more: Value| {
        let mut status =
            json!({"phase": "Pending", "checkpoint": {"node": "a", "attempt": 1, "turn": 5}});
        for (field, value) in more.as_object().into_iter().flatten() {
            status[field] = value.clone();
        }
        status
    };
    let a = || Some(node("a"));
    assert_eq!(of(json!({}), saved(json!({}))), (a(), a()));
    assert_eq!(of(json!({}), json!({})).1, None, "there is nothing to go on with");
    let archived = json!({"checkpoint": {"node": "a", "attempt": 1, "turn": 3, "archived": true}});
    assert_eq!(of(json!({}), archived).1, None, "it goes on anywhere");
    assert_eq!(of(json!({"resumeWaitSeconds": 0}), saved(json!({}))), (a(), None));
    let recovering = json!({"waiting": {"reason": "NodesRecovering", "message": "waits for a"}});
    assert_eq!(of(json!({}), saved(recovering)), (a(), a()));
    let busy = json!({"waiting": {"reason": "NodesBusy", "message": "2 busy"}});
    assert_eq!(of(json!({}), saved(busy)), (a(), None), "it is not waited for any more");
    assert_eq!(of(json!({}), saved(json!({"phase": "Running"}))).1, None, "it is placed");
}

#[test]
fn a_task_that_continues_another_is_drawn_to_the_journal_of_that() {
    let mut parent = task(
        &json!({}),
        &json!({"phase": "Succeeded",
        "attempts": [{"attempt": 1, "node": "a"}, {"attempt": 2, "node": "b"}]}),
    );
    parent.meta.name = "parent".into();
    parent.meta.uid = crate::model::Uid::new("p");
    let tasks = BTreeMap::from([(parent.key(), parent)]);
    let of = |continues: Value| {
        let task = task(&json!({"continues": continues}), &json!({"phase": "Pending"}));
        let need = need_of(&task, &tasks, &BTreeMap::new());
        assert_eq!(need.only, None, "it goes elsewhere when there is no room");
        need.journal
    };
    assert_eq!(of(json!({"task": "parent"})), Some(node("b")));
    assert_eq!(of(json!({"task": "parent", "uid": "p"})), Some(node("b")));
    assert_eq!(of(json!({"task": "parent", "uid": "other"})), None, "another of that name");
    assert_eq!(of(json!({"task": "nobody"})), None);
}
