//! The scheduler: what fits, what is said, what is chosen, in which order.

use std::collections::{BTreeMap, BTreeSet};

use foreman_core::model::agent::{AgentRole, AgentSpec};
use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::shared::RequiredCapability;
use foreman_core::model::{
    AgenticTask, AwakeTime, FleetNode, Key, NodeName, NodePhase, Object, Uid, WallTime,
};
use foreman_core::schedule::order::turn;
use foreman_core::schedule::{
    Avoid, Need, NodeRow, Placement, Refusal, Reservation, Scheduler, Snapshot, explain, waiting,
};
use serde_json::{Value, json};

pub(crate) fn row(name: &str) -> NodeRow {
    NodeRow {
        name: NodeName::parse(name).expect("valid"),
        labels: BTreeMap::new(),
        roles: Vec::new(),
        phase: Some(NodePhase::Ready),
        fresh: true,
        cordoned: false,
        refusing: false,
        note: None,
        slots: 2,
        accelerator: None,
        capacity_ram_gb: Some(64),
        available_ram_gb: Some(64),
        context_tokens: 32_768,
        models: BTreeSet::new(),
        loaded: BTreeSet::new(),
        tokens_per_second: 0,
        namespaces: BTreeSet::new(),
        running: BTreeSet::new(),
    }
}

pub(crate) fn need(uid: &str) -> Need {
    Need {
        uid: Uid::new(uid),
        namespace: "default".into(),
        accelerator: None,
        ram_gb: 0,
        context_tokens: 0,
        model: None,
        model_installed: false,
        labels: BTreeMap::new(),
        roles: Vec::new(),
        journal: None,
        only: None,
        last_resort: None,
    }
}

fn reservation(task: &str, ram_gb: i32) -> Reservation {
    Reservation { task: Key::namespaced("default", task), ram_gb }
}

type EditNode = fn(&mut NodeRow);
type EditNeed = fn(&mut Need);

/// A node, a need and a snapshot that differ from the plain ones in one thing, and what is said.
struct Refused {
    refusal: Refusal,
    node: EditNode,
    need: EditNeed,
    snapshot: fn(&mut Snapshot),
    word: &'static str,
    detail: &'static str,
    remedy: Option<&'static str>,
}

fn busy(snapshot: &mut Snapshot) {
    let node = NodeName::parse("n").expect("valid");
    snapshot.reserve(&node, Uid::new("a"), reservation("first", 40));
    snapshot.reserve(&node, Uid::new("b"), reservation("second", 0));
}

fn plain(refusal: Refusal) -> Refused {
    let (word, detail) = ("refused", "");
    let (node, need, snapshot) = (|_: &mut NodeRow| {}, |_: &mut Need| {}, |_: &mut Snapshot| {});
    Refused { refusal, node, need, snapshot, word, detail, remedy: None }
}

/// What the machine is, and what people say of it.
fn refusals_by_kind() -> Vec<Refused> {
    vec![
        Refused {
            node: |n| n.roles = vec!["coder".into()],
            need: |t| t.roles = vec!["reviewer".into()],
            detail: "lacks role reviewer (has coder)",
            remedy: Some("n with role reviewer"),
            ..plain(Refusal::Role)
        },
        Refused {
            node: |n| n.labels = BTreeMap::from([("zone".into(), "a".into())]),
            need: |t| t.labels = BTreeMap::from([("zone".into(), "b".into())]),
            detail: "label zone is a, not b",
            ..plain(Refusal::Label)
        },
        Refused {
            node: |n| n.namespaces = BTreeSet::from(["team".into()]),
            detail: "takes no tasks of namespace default",
            ..plain(Refusal::Namespace)
        },
        Refused {
            node: |n| n.accelerator = Some("metal".into()),
            need: |t| t.accelerator = Some("cuda".into()),
            detail: "accelerator metal, not cuda",
            ..plain(Refusal::Accelerator)
        },
        Refused {
            need: |t| (t.model_installed, t.model) = (true, Some("qwen".into())),
            detail: "model qwen is not installed",
            remedy: Some("qwen on n"),
            ..plain(Refusal::Model)
        },
        Refused {
            need: |t| t.context_tokens = 65_536,
            word: "too small",
            detail: "context 32768 of 65536 tokens",
            ..plain(Refusal::Context)
        },
        Refused {
            need: |t| t.ram_gb = 65,
            word: "too small",
            detail: "64 of 65 GB",
            remedy: Some("+1 GB free on n"),
            ..plain(Refusal::MemoryTooSmall)
        },
        Refused {
            node: |n| (n.cordoned, n.note) = (true, Some("on battery".into())),
            detail: "cordoned: \"on battery\"",
            remedy: Some("n uncordoned"),
            ..plain(Refusal::Cordoned)
        },
    ]
}

/// What the node does now.
fn refusals_by_state() -> Vec<Refused> {
    vec![
        Refused {
            node: |n| n.slots = 0,
            detail: "takes no runs (0 slots)",
            remedy: Some("n slots 1"),
            ..plain(Refusal::NoSlots)
        },
        Refused {
            node: |n| n.phase = Some(NodePhase::Draining),
            detail: "draining",
            ..plain(Refusal::Draining)
        },
        Refused {
            snapshot: |s| s.avoid(Uid::new("t"), NodeName::parse("n").expect("valid"), Avoid::Hard),
            word: "busy",
            detail: "refused this task just now",
            ..plain(Refusal::Avoided)
        },
        Refused {
            need: |t| t.only = NodeName::parse("other").ok(),
            word: "not asked",
            detail: "the run is on other",
            ..plain(Refusal::JournalElsewhere)
        },
        Refused {
            node: |n| n.fresh = false,
            word: "away",
            detail: "no heartbeat",
            remedy: Some("the agent on n running"),
            ..plain(Refusal::Stale)
        },
        Refused {
            node: |n| n.phase = Some(NodePhase::Unknown),
            word: "away",
            detail: "its agent is starting",
            ..plain(Refusal::Recovering)
        },
        Refused {
            snapshot: busy,
            word: "busy",
            detail: "2/2 slots: first, second",
            remedy: Some("n slots 3"),
            ..plain(Refusal::SlotsFull)
        },
        Refused {
            node: |n| n.slots = 9,
            need: |t| t.ram_gb = 30,
            snapshot: busy,
            word: "busy",
            detail: "24 of 30 GB free",
            remedy: Some("+6 GB free on n"),
            ..plain(Refusal::MemoryInUse)
        },
    ]
}

#[test]
fn every_refusal_is_said_in_its_words() {
    let mut seen = BTreeSet::new();
    for case in refusals_by_kind().into_iter().chain(refusals_by_state()) {
        let (mut node, mut need) = (row("n"), need("t"));
        (case.node)(&mut node);
        (case.need)(&mut need);
        let mut snapshot = Snapshot::new([node]);
        (case.snapshot)(&mut snapshot);
        let explained = explain(&snapshot, &need);
        let verdict = &explained.nodes[0];
        assert_eq!(verdict.refusals.iter().collect::<Vec<_>>(), [case.refusal]);
        assert_eq!(
            (verdict.word, verdict.detail.as_str(), verdict.remedy.as_deref()),
            (case.word, case.detail, case.remedy),
            "{:?}",
            case.refusal
        );
        assert!(matches!(explained.placement, Placement::Nowhere(_)));
        seen.insert(case.refusal);
    }
    assert_eq!(seen.len(), Refusal::ALL.len(), "each predicate has its case");
    let explained = explain(&Snapshot::new([row("n")]), &need("t"));
    let fits = &explained.nodes[0];
    assert_eq!((fits.word, fits.detail.as_str()), ("fits", "0/2 slots in use"));
}

#[test]
fn a_mixed_fleet_waits_for_the_node_that_came_furthest() {
    let no_match: EditNode = |n| n.cordoned = true;
    let stale: EditNode = |n| n.fresh = false;
    let recovering: EditNode = |n| n.phase = Some(NodePhase::Unknown);
    let nothing: EditNode = |_| {};
    let cases: [(Vec<EditNode>, WaitingReason, &str); 5] = [
        (vec![], WaitingReason::NoNodes, "there are no nodes: start one with foreman up"),
        (vec![no_match, no_match], WaitingReason::NoMatchingNode, "0/2 nodes fit: 2 cordoned"),
        (vec![stale, no_match], WaitingReason::NodesStale, "0/2 nodes fit: 1 cordoned, 1 stale"),
        (
            vec![stale, recovering, no_match],
            WaitingReason::NodesRecovering,
            "0/3 nodes fit: 1 cordoned, 1 stale, 1 starting",
        ),
        (
            vec![stale, nothing, recovering, no_match],
            WaitingReason::NodesBusy,
            "0/4 nodes fit: 1 cordoned, 1 stale, 1 starting, 1 busy",
        ),
    ];
    for (edits, reason, message) in cases {
        let rows = edits.iter().enumerate().map(|(index, edit)| {
            let mut node = row(&format!("n{index}"));
            edit(&mut node);
            node
        });
        let mut snapshot = Snapshot::new(rows);
        for node in ["n0", "n1", "n2", "n3"] {
            let node = NodeName::parse(node).expect("valid");
            for uid in [format!("a-{node}"), format!("b-{node}")] {
                snapshot.reserve(&node, Uid::new(&uid), reservation(&uid, 0));
            }
        }
        let placement = Scheduler::new(snapshot).place(Key::namespaced("default", "t"), &need("t"));
        let Placement::Nowhere(refused) = placement else { panic!("placed: {message}") };
        assert_eq!(waiting(&refused, &need("t")), (reason, message.to_owned()));
    }
}

#[test]
fn the_terms_of_the_score_count_in_their_order() {
    let better: [(EditNode, EditNode); 4] = [
        (|n| n.loaded = BTreeSet::from(["m".to_owned()]), |n| n.tokens_per_second = 999),
        (|_| {}, |n| n.tokens_per_second = 999), // the journal is on the first
        (|n| n.tokens_per_second = 5, |n| n.slots = 99),
        (|n| n.slots = 4, |n| n.slots = 2),
    ];
    for (index, (edit_good, edit_other)) in better.into_iter().enumerate() {
        let (mut good, mut other) = (row("z"), row("a"));
        edit_good(&mut good);
        edit_other(&mut other);
        let mut wanted = Need { model: Some("m".into()), ..need("t") };
        if index == 1 {
            wanted.journal = Some(good.name.clone());
        }
        let mut snapshot = Snapshot::new([good, other]);
        for node in ["z", "a"] {
            let node = NodeName::parse(node).expect("valid");
            snapshot.reserve(&node, Uid::new(format!("on-{node}")), reservation("r", 0));
        }
        let Placement::On { node, .. } = Scheduler::new(snapshot).place(Key::cluster("t"), &wanted)
        else {
            panic!("nowhere: {index}")
        };
        assert_eq!(node.as_str(), "z", "term {index}");
    }
    let mut idle = Scheduler::new(Snapshot::new([row("b"), row("a"), row("c")]));
    let order: Vec<_> = (0..6)
        .map(|n| match idle.place(Key::cluster(format!("t{n}")), &need(&n.to_string())) {
            Placement::On { node, .. } => node.to_string(),
            Placement::Nowhere(_) => "nowhere".to_owned(),
        })
        .collect();
    assert_eq!(
        order,
        ["a", "b", "c", "a", "b", "c"],
        "equal nodes are filled in the order of names"
    );
}

fn task(name: &str, spec: Value, created: i64) -> Object<AgenticTask> {
    let mut spec = spec;
    spec["payload"] = json!({});
    let created = WallTime::from_unix_seconds(created);
    Object::from_json(&json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
            "creationTimestamp": created},
        "spec": spec}))
    .expect("valid")
}

#[test]
fn the_queue_goes_by_priority_then_finish_first_then_age() {
    let queue = [
        ("old-code", json!({"kind": "issue-fix"}), 1),
        ("new-review", json!({"kind": "review"}), 9),
        ("verify", json!({"kind": "verify"}), 5),
        ("urgent", json!({"kind": "freeform", "priority": 5}), 9),
        ("low", json!({"kind": "review", "priority": -1}), 0),
        ("newer-code", json!({"kind": "issue-fix"}), 2),
        ("free", json!({"kind": "freeform"}), 0),
        ("free-b", json!({"kind": "freeform"}), 0),
    ];
    let mut queue: Vec<_> =
        queue.into_iter().map(|(name, spec, created)| task(name, spec, created)).collect();
    queue.sort_by_key(turn);
    let names: Vec<_> = queue.iter().map(|task| task.meta.name.as_str()).collect();
    assert_eq!(
        names,
        ["urgent", "new-review", "verify", "old-code", "newer-code", "free", "free-b", "low"]
    );
}

#[test]
fn the_agents_requirement_replaces_the_tasks() {
    let task = task(
        "t",
        json!({"kind": "freeform", "requiredCapability": {"minRAMGB": 9, "roles": ["a"]}}),
        0,
    );
    let alone = Need::of(&task, None);
    assert_eq!((alone.ram_gb, alone.roles), (9, vec!["a".to_owned()]));
    let mut agent = AgentSpec::new(AgentRole::Coder, vec!["bash".into()]);
    assert_eq!(Need::of(&task, Some(&agent)), Need { namespace: "default".into(), ..need("t") });
    agent.model = Some("qwen".into());
    agent.required_capability = Some(RequiredCapability {
        min_ram_gb: Some(40),
        requires_model_installed: Some(true),
        ..RequiredCapability::default()
    });
    let both = Need::of(&task, Some(&agent));
    assert_eq!(
        (both.ram_gb, both.model_installed, both.model.as_deref(), both.roles.len()),
        (0, true, Some("qwen"), 0),
        "where the model must be installed, memory does not count"
    );
}

#[test]
fn a_node_without_a_session_has_one_slot_whatever_its_spec_says() {
    let node = |session: Option<&str>, spec_slots: i32, offered: Option<i32>| {
        let mut status = json!({"phase": "Ready", "capacity": {"slots": offered}});
        if let Some(session) = session {
            status["session"] = json!(session);
        }
        let node: Object<FleetNode> = Object::from_json(&json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"nodeName": "n", "slots": spec_slots}, "status": status}))
        .expect("valid");
        let (wall, awake) = (WallTime::from_unix_seconds(0), AwakeTime::default());
        let seen = foreman_core::fleet::liveness::Seen::first(Some(wall), awake);
        NodeRow::of(&node, &seen, wall, awake).expect("a row").slots
    };
    assert_eq!(node(None, 8, Some(8)), 1);
    assert_eq!(node(Some("s"), 8, Some(8)), 8);
    assert_eq!(node(Some("s"), 8, Some(2)), 2, "what the agent takes");
    assert_eq!(node(Some("s"), 0, Some(2)), 0, "what people allow");
    assert_eq!(node(Some("s"), 3, None), 3);
}
