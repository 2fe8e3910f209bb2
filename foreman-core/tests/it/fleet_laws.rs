//! The snapshot that events keep up to date is the one that would be built afresh; deciding by numbers
//! is deciding by words; and trying only what changed places what trying everything would.

use std::collections::BTreeMap;

use foreman_core::model::{AgenticTask, AwakeTime, Key, NodeName, NodePhase, Object, Uid};
use foreman_core::schedule::fleet::Fleet;
use foreman_core::schedule::order::{Turn, turn};
use foreman_core::schedule::{
    Alike, Avoid, Need, NodeRow, Refusal, Reservation, Snapshot, decide, fit,
};
use proptest::prelude::*;
use serde_json::json;

use crate::scheduling::{need, row};

const NODES: u8 = 5;
const TASKS: u8 = 12;

#[derive(Debug, Clone, Copy)]
enum Event {
    Node { node: u8, flags: u16, slots: usize, ram: i32 },
    Gone { node: u8 },
    Reserve { task: u8, node: u8, ram: i32 },
    Release { task: u8 },
    Avoid { task: u8, node: u8, hard: bool },
    Forgive { task: u8, node: u8 },
    Learn { task: u8, flags: u16 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let (node, task) = (0..NODES, 0..TASKS);
    let one = prop_oneof![
        3 => (node.clone(), any::<u16>(), 0_usize..3, 0_i32..64)
            .prop_map(|(node, flags, slots, ram)| Event::Node { node, flags, slots, ram }),
        1 => node.clone().prop_map(|node| Event::Gone { node }),
        3 => (task.clone(), node.clone(), 0_i32..40)
            .prop_map(|(task, node, ram)| Event::Reserve { task, node, ram }),
        2 => task.clone().prop_map(|task| Event::Release { task }),
        1 => (task.clone(), node.clone(), any::<bool>())
            .prop_map(|(task, node, hard)| Event::Avoid { task, node, hard }),
        1 => (task.clone(), node).prop_map(|(task, node)| Event::Forgive { task, node }),
        2 => (task, any::<u16>()).prop_map(|(task, flags)| Event::Learn { task, flags }),
    ];
    prop::collection::vec(one, 1..40)
}

fn name(node: u8) -> NodeName {
    NodeName::parse(&format!("n{node}")).expect("valid")
}

fn uid(task: u8) -> Uid {
    Uid::new(format!("t{task}"))
}

fn node_row(node: u8, flags: u16, slots: usize, ram: i32) -> NodeRow {
    let flag = |bit: u16| flags & (1 << bit) != 0;
    let mut row = row(&format!("n{node}"));
    row.slots = slots;
    row.capacity_ram_gb = flag(0).then_some(48);
    row.available_ram_gb = Some(ram);
    row.fresh = !(flag(1) && flag(2));
    row.cordoned = flag(1) && flag(3);
    row.tokens_per_second = i32::from(flags >> 14);
    row.accelerator = flag(4).then(|| "cuda".to_owned());
    if flag(5) {
        row.roles.push("coder".into());
    }
    if flag(6) {
        row.labels.insert("zone".into(), "a".into());
    }
    if flag(7) {
        row.models.insert("m".into());
    }
    if flag(8) {
        row.loaded.insert("m".into());
    }
    if flag(9) && flag(10) {
        row.namespaces.insert("team".into());
    }
    if flag(11) && flag(1) {
        row.phase = Some(NodePhase::Draining);
    }
    if flag(12) {
        row.running.extend((0..TASKS).step_by(2).map(|task| format!("t{task}")));
    }
    row
}

fn some_need(task: u8, flags: u16) -> Need {
    let flag = |bit: u16| flags & (1 << bit) != 0;
    let mut need = need(uid(task).as_str());
    need.ram_gb = if flag(0) { i32::from(flags >> 10) } else { 0 };
    need.accelerator = flag(1).then(|| "cuda".to_owned());
    need.model = flag(2).then(|| "m".to_owned());
    need.model_installed = flag(3) && flag(2);
    if flag(4) {
        need.roles.push("coder".into());
    }
    if flag(5) {
        need.labels.insert("zone".into(), "a".into());
    }
    need.context_tokens = if flag(6) && flag(7) { 40_000 } else { 0 };
    need.journal = flag(8).then(|| name(1));
    need.only = (flag(8) && flag(9)).then(|| name(1));
    need
}

/// What is true, kept in the plainest way.
#[derive(Default)]
struct Truth {
    rows: BTreeMap<NodeName, NodeRow>,
    reserved: BTreeMap<Uid, (NodeName, i32)>,
    avoided: BTreeMap<(Uid, NodeName), Avoid>,
}

fn reservation(task: &Uid, ram_gb: i32) -> Reservation {
    Reservation { task: Key::namespaced("default", task.as_str()), ram_gb }
}

impl Truth {
    fn afresh(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.rows.values().cloned());
        for (uid, (node, ram)) in &self.reserved {
            snapshot.reserve(node, uid.clone(), reservation(uid, *ram));
        }
        for ((uid, node), avoid) in &self.avoided {
            snapshot.avoid(uid.clone(), node.clone(), *avoid);
        }
        snapshot
    }

    fn others_on<'t>(
        &'t self,
        node: &'t NodeName,
        but: &'t Uid,
    ) -> impl Iterator<Item = (&'t Uid, i32)> {
        let there = self.reserved.iter().filter(move |(uid, (on, _))| on == node && *uid != but);
        there.map(|(uid, (_, ram))| (uid, *ram))
    }

    /// The rules, word by word.
    fn refusals(&self, node: &NodeRow, need: &Need) -> Vec<Refusal> {
        let used = self.others_on(&node.name, &need.uid).count();
        let all: i32 = self.others_on(&node.name, &need.uid).map(|(_, ram)| ram).sum();
        let unseen: i32 = self
            .others_on(&node.name, &need.uid)
            .filter(|(uid, _)| !node.running.contains(uid.as_str()))
            .map(|(_, ram)| ram)
            .sum();
        let available = node.available_ram_gb.unwrap_or(0);
        let (has, free) = match node.capacity_ram_gb {
            Some(capacity) => (capacity, (capacity - all).min(available - unseen).max(0)),
            None => (available, available),
        };
        let small = need.ram_gb > 0 && has < need.ram_gb;
        let model = need.model.as_ref();
        let avoid = self.avoided.get(&(need.uid.clone(), node.name.clone()));
        let tests = [
            (Refusal::Role, need.roles.iter().any(|role| !node.roles.contains(role))),
            (Refusal::Label, need.labels.iter().any(|(k, v)| node.labels.get(k) != Some(v))),
            (
                Refusal::Namespace,
                !node.namespaces.is_empty() && !node.namespaces.contains(&need.namespace),
            ),
            (
                Refusal::Accelerator,
                need.accelerator.is_some() && need.accelerator != node.accelerator,
            ),
            (
                Refusal::Model,
                need.model_installed && !model.is_some_and(|model| node.models.contains(model)),
            ),
            (Refusal::Context, need.context_tokens > node.context_tokens),
            (Refusal::MemoryTooSmall, small),
            (Refusal::NoSlots, node.slots == 0),
            (Refusal::Cordoned, node.cordoned),
            (Refusal::Draining, node.phase == Some(NodePhase::Draining)),
            (Refusal::Avoided, avoid == Some(&Avoid::Hard)),
            (Refusal::JournalElsewhere, need.only.as_ref().is_some_and(|only| *only != node.name)),
            (Refusal::Stale, !node.fresh),
            (Refusal::SlotsFull, node.slots > 0 && used >= node.slots),
            (Refusal::MemoryInUse, need.ram_gb > 0 && !small && free < need.ram_gb),
        ];
        tests.into_iter().filter(|(_, refused)| *refused).map(|(refusal, _)| refusal).collect()
    }

    /// The best node that fits, term by term.
    fn best(&self, need: &Need) -> Option<NodeName> {
        let fitting = self.rows.values().filter(|node| self.refusals(node, need).is_empty());
        let better = |node: &&NodeRow| {
            let used = self.others_on(&node.name, &need.uid).count();
            let model = need.model.as_ref();
            let soft = self.avoided.contains_key(&(need.uid.clone(), node.name.clone()));
            (
                !soft,
                model.is_some_and(|model| node.loaded.contains(model)),
                need.journal.as_ref() == Some(&node.name),
                node.tokens_per_second,
                std::cmp::Reverse(used * 1000 / node.slots.max(1)),
                std::cmp::Reverse(node.name.clone()),
            )
        };
        fitting.max_by_key(better).map(|node| node.name.clone())
    }
}

fn apply(event: Event, truth: &mut Truth, snapshot: &mut Snapshot) {
    match event {
        Event::Node { node, flags, slots, ram } => {
            let row = node_row(node, flags, slots, ram);
            truth.rows.insert(row.name.clone(), row.clone());
            snapshot.upsert(row);
        }
        Event::Gone { node } => {
            truth.rows.remove(&name(node));
            snapshot.remove(&name(node));
        }
        Event::Reserve { task, node, ram } => {
            truth.reserved.insert(uid(task), (name(node), ram));
            snapshot.reserve(&name(node), uid(task), reservation(&uid(task), ram));
        }
        Event::Release { task } => {
            truth.reserved.remove(&uid(task));
            snapshot.release(&uid(task));
        }
        Event::Avoid { task, node, hard } => {
            let avoid = if hard { Avoid::Hard } else { Avoid::Soft };
            truth.avoided.insert((uid(task), name(node)), avoid);
            snapshot.avoid(uid(task), name(node), avoid);
        }
        Event::Forgive { task, node } => {
            truth.avoided.remove(&(uid(task), name(node)));
            snapshot.forgive(&uid(task), &name(node));
        }
        Event::Learn { task, flags } => snapshot.learn(&some_need(task, flags)),
    }
}

proptest! {
    #[test]
    fn events_keep_the_snapshot_that_would_be_built_afresh_and_numbers_decide_as_words(
        events in events(), asked in prop::collection::vec((0..TASKS, any::<u16>()), 1..6),
    ) {
        let (mut truth, mut snapshot) = (Truth::default(), Snapshot::default());
        for event in events {
            apply(event, &mut truth, &mut snapshot);
        }
        let afresh = truth.afresh();
        prop_assert_eq!(&snapshot, &afresh);
        for (task, flags) in asked {
            let need = some_need(task, flags);
            for row in truth.rows.values() {
                let said: Vec<_> = fit(&snapshot, row, &need).iter().collect();
                prop_assert_eq!(said, truth.refusals(row, &need), "{}", row.name);
            }
            let best = truth.best(&need);
            for view in [&snapshot, &afresh] {
                let decision = decide(view, &need);
                let node = decision.node(view).map(|node| node.name.clone());
                prop_assert_eq!(&node, &best);
                let total = usize::try_from(decision.counts().total()).expect("few");
                prop_assert_eq!(total, truth.rows.len(), "every node is counted");
            }
        }
    }
}

fn turn_of(task: u8, priority: i32) -> Turn {
    let name = format!("t{task}");
    let task: Object<AgenticTask> = Object::from_json(&json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"},
        "spec": {"kind": "freeform", "priority": priority, "payload": {}}}))
    .expect("valid");
    turn(&task)
}

#[derive(Debug, Clone)]
enum Step {
    Come { task: u8, flags: u16, priority: i32 },
    End { task: u8 },
    Node { node: u8, flags: u16, slots: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        4 => (0..TASKS, 0_u16..64, 0_i32..3)
            .prop_map(|(task, flags, priority)| Step::Come { task, flags, priority }),
        3 => (0..TASKS).prop_map(|task| Step::End { task }),
        3 => (0..NODES, any::<u16>(), 0_usize..3)
            .prop_map(|(node, flags, slots)| Step::Node { node, flags, slots }),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn trying_what_changed_places_what_trying_everything_would(steps in steps()) {
        let mut fleet = Fleet::default();
        let mut plain = Snapshot::default();
        let mut waiting: BTreeMap<Turn, Need> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Come { task, flags, priority } => {
                    let known = waiting.keys().any(|turn| turn.key().name == format!("t{task}"));
                    if known || plain.home(&uid(task)).is_some() {
                        continue;
                    }
                    let turn = turn_of(task, priority);
                    let need = some_need(task, flags & !(1 << 8));
                    let shared = Need { uid: Uid::new(""), ..need.clone() };
                    let alike = Alike { need: shared, agent: None, workload: None };
                    fleet.wait(turn.key(), &uid(task), turn.clone(), alike);
                    waiting.insert(turn, need);
                }
                Step::End { task } => {
                    fleet.let_go(&uid(task));
                    plain.release(&uid(task));
                }
                Step::Node { node, flags, slots } => {
                    let row = node_row(node, flags, slots, 48);
                    plain.upsert(row.clone());
                    fleet.node_changed(row);
                }
            }
            let mut placed = Vec::new();
            let mut round = fleet.begin(AwakeTime::default());
            while let Some(next) = fleet.next(&mut round) {
                if let Some((node, _)) = fleet.place(&mut round, &next) {
                    placed.push((next.key().clone(), node));
                }
            }
            fleet.end(round);
            let mut expected = Vec::new();
            for (turn, need) in waiting.clone() {
                let node = decide(&plain, &need).node(&plain).map(|node| node.name.clone());
                if let Some(node) = node {
                    let held = Reservation { task: turn.key().clone(), ram_gb: need.ram_gb };
                    plain.reserve(&node, need.uid.clone(), held);
                    expected.push((turn.key().clone(), node));
                    waiting.remove(&turn);
                }
            }
            prop_assert_eq!(placed, expected);
            prop_assert_eq!(fleet.snapshot(), &plain);
            prop_assert_eq!(fleet.waiting(), waiting.len());
        }
    }
}
