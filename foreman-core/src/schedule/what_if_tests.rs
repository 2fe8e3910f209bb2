use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::model::agentic_task::{AgenticTask, WaitingReason};
use crate::model::object::Object;
use crate::model::{NodePhase, Uid};
use crate::schedule::fit::Refusal;
use crate::schedule::order::turn;

fn name(text: &str) -> NodeName {
    NodeName::parse(text).expect("a name")
}

fn row(node: &str, slots: usize, ram: i32) -> NodeRow {
    NodeRow {
        name: name(node),
        labels: BTreeMap::new(),
        roles: Vec::new(),
        phase: Some(NodePhase::Ready),
        fresh: true,
        cordoned: false,
        refusing: false,
        note: None,
        slots,
        accelerator: None,
        capacity_ram_gb: Some(ram),
        available_ram_gb: Some(ram),
        context_tokens: 8192,
        models: BTreeSet::new(),
        loaded: BTreeSet::new(),
        tokens_per_second: 0,
        namespaces: BTreeSet::new(),
        running: BTreeSet::new(),
    }
}

fn waiter(task: &str, priority: i32, ram: i32) -> Waiter {
    let task: Object<AgenticTask> = Object::from_json(&json!({
        "metadata": {"name": task, "namespace": "d", "uid": task, "resourceVersion": "1"},
        "spec": {"kind": "freeform", "payload": {}, "priority": priority,
            "requiredCapability": {"minRAMGB": ram}}}))
    .expect("a task");
    Waiter { turn: turn(&task), need: Need::of(&task, None) }
}

fn key(task: &str) -> Key {
    Key::namespaced("d", task)
}

/// Where each task is in these fates, in their order.
fn places(fates: &[Fate]) -> Vec<(&str, Option<&str>)> {
    fates
        .iter()
        .map(|fate| (fate.task.name.as_str(), fate.node.as_ref().map(NodeName::as_str)))
        .collect()
}

/// One node with one slot and 16 GB, and three tasks that wait: the last one needs more.
fn scene() -> (Snapshot, Vec<Waiter>) {
    let waiting = vec![waiter("a", 0, 0), waiter("b", 0, 0), waiter("big", 0, 24)];
    (Snapshot::new([row("n", 1, 16)]), waiting)
}

#[test]
fn without_a_change_nothing_differs_and_the_turns_are_kept() {
    let (snapshot, waiting) = scene();
    let compared = what_if(&snapshot, &waiting, &[]);
    assert_eq!(compared.before, compared.after);
    assert!(compared.differences().is_empty());
    assert_eq!(places(&compared.before), [("a", Some("n")), ("b", None), ("big", None)]);
    let [a, b, big] = compared.before.as_slice() else { panic!("three") };
    assert_eq!((a.why.is_empty(), &a.said), (false, &None), "it says why");
    let reasons = [b, big].map(|fate| fate.said.as_ref().map(|(reason, _)| *reason));
    assert_eq!(reasons, [Some(WaitingReason::NodesBusy), Some(WaitingReason::NoMatchingNode)]);
    assert_eq!(snapshot.slots_used(&name("n"), &Uid::new("")), 0, "only played");
}

#[test]
fn one_more_node_takes_the_next_in_line_only() {
    let (snapshot, waiting) = scene();
    let more = node_like(&snapshot, &name("n")).expect("there is one");
    assert_eq!(more.name.as_str(), "n-2");
    let compared = what_if(&snapshot, &waiting, &[WhatIf::OneMoreNode(Box::new(more))]);
    assert_eq!(places(&compared.after), [("a", Some("n")), ("b", Some("n-2")), ("big", None)]);
    let differs: Vec<_> =
        compared.differences().iter().map(|(before, _)| before.task.name.clone()).collect();
    assert_eq!(differs, ["b"]);
}

#[test]
fn a_node_like_another_is_idle_open_and_has_a_name_of_its_own() {
    let mut old = row("n", 1, 16);
    old.available_ram_gb = Some(3);
    (old.cordoned, old.note) = (true, Some("being mended".into()));
    (old.fresh, old.phase) = (false, Some(NodePhase::NotReady));
    old.running.insert("x".into());
    let snapshot = Snapshot::new([old, row("n-2", 1, 1)]);
    let like = node_like(&snapshot, &name("n")).expect("there is one");
    assert_eq!(like, row("n-3", 1, 16));
    assert_eq!(node_like(&snapshot, &name("other")), None);
}

#[test]
fn a_smaller_need_and_a_higher_priority_change_who_goes_first() {
    let (snapshot, waiting) = scene();
    let smaller = Need { ram_gb: 8, ..waiter("big", 0, 0).need };
    let priority = WhatIf::Priority { task: key("big"), priority: 5 };
    let compared = what_if(&snapshot, &waiting, std::slice::from_ref(&priority));
    assert_eq!(places(&compared.after), [("big", None), ("a", Some("n")), ("b", None)]);
    assert!(compared.differences().is_empty(), "first in line, and still too big");
    let both = [WhatIf::OtherNeed(Box::new(smaller)), priority];
    let compared = what_if(&snapshot, &waiting, &both);
    assert_eq!(places(&compared.after), [("big", Some("n")), ("a", None), ("b", None)]);
    assert_eq!(compared.differences().len(), 2, "what one wins the other loses");
}

#[test]
fn slots_and_cordons_count_for_the_node_they_name_and_a_node_that_is_not_there_changes_nothing() {
    let (snapshot, waiting) = scene();
    let slots = |node: &str| WhatIf::Slots { node: name(node), slots: 2 };
    let compared = what_if(&snapshot, &waiting, &[slots("n")]);
    assert_eq!(places(&compared.after), [("a", Some("n")), ("b", Some("n")), ("big", None)]);
    let compared = what_if(&snapshot, &waiting, &[slots("other")]);
    assert!(compared.differences().is_empty());
    let mut cordoned = row("m", 1, 32);
    cordoned.cordoned = true;
    let snapshot = Snapshot::new([row("n", 1, 16), cordoned]);
    let compared = what_if(&snapshot, &waiting, &[WhatIf::Uncordon { node: name("m") }]);
    let before = [("a", Some("n")), ("b", None), ("big", None)];
    assert_eq!(places(&compared.before), before);
    assert_eq!(places(&compared.after).iter().filter(|(_, node)| node.is_some()).count(), 2);
}

#[test]
fn why_not_asks_one_node_and_a_place_in_line_counts_from_one() {
    let (snapshot, waiting) = scene();
    let [_, _, big] = waiting.as_slice() else { panic!("three") };
    let verdict = why_not(&snapshot, &big.need, &name("n")).expect("it is there");
    assert!(verdict.refusals.contains(Refusal::MemoryTooSmall), "{verdict:?}");
    assert_eq!(why_not(&snapshot, &big.need, &name("other")), None);
    assert_eq!(place_in_line(&waiting, &key("b")), Some((2, 3)));
    assert_eq!(place_in_line(&waiting, &key("nobody")), None);
    let words = |place| place_in_words((place, 120), 7);
    let ends: Vec<_> = [1, 2, 3, 4, 11, 12, 13, 21, 111, 113]
        .map(words)
        .iter()
        .map(|text| text.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let expected = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th", "113th"];
    assert_eq!(ends, expected);
    assert_eq!(words(3), "3rd in line of 120 (priority 7)");
}
