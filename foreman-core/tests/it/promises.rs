//! Promises of the control loops, for whatever may stand in the store: DAG order with a stated
//! outcome for every task (4), capacity over any course of events (7), what has ended stays ended
//! (3), and one decision for one store, however it came to be so (12).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use foreman_core::model::shared::{LocalObjectReference, RequiredCapability};
use foreman_core::model::{
    AgenticTask, AgenticTaskSpec, FleetNode, FleetNodeSpec, Key, NewObject, Object, TaskPhase,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Store};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::lab::{Lab, freeform};

/// Runs a story that waits for nothing outside.
fn run(story: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.map_err(|error| TestCaseError::fail(error.to_string()))?.block_on(story)
}

async fn add_node(lab: &Lab, name: &str, slots: i32, ram: i32) {
    let spec = FleetNodeSpec { node_name: name.into(), ..FleetNodeSpec::default() };
    let store: &dyn Store<FleetNode> = &*lab.store;
    store.create(NewObject::new(Key::cluster(name), spec)).await.expect("created");
    set_room(lab, name, slots, ram).await;
}

/// A beat of the node that says how much room it has.
async fn set_room(lab: &Lab, name: &str, slots: i32, ram: i32) {
    lab.patch_node(name, Change::of(Part::Spec).set("slots", slots)).await;
    let change = Change::of(Part::Status)
        .set("phase", "Ready")
        .set("session", format!("{name}-1"))
        .set("lastHeartbeatTime", lab.clock.wall())
        .set("capacity", json!({"slots": slots, "ramGB": ram}))
        .set("capability", json!({"totalRAMGB": ram, "availableRAMGB": ram}));
    lab.patch_node(name, change).await;
}

async fn beat(lab: &Lab, name: &str) {
    let change =
        Change::of(Part::Status).set("phase", "Ready").set("lastHeartbeatTime", lab.clock.wall());
    lab.patch_node(name, change).await;
}

async fn reconcile(lab: &Lab) -> Result<(), TestCaseError> {
    let done = lab.reconciler().reconcile_once().await;
    done.map(drop).map_err(|error| TestCaseError::fail(format!("{error:?}")))
}

/// The agent of its node ends the task with that verdict; FAILED = the run broke.
async fn end(lab: &Lab, name: &str, verdict: &str) {
    let status = match verdict {
        "FAILED" => json!({"phase": "Failed", "verdict": "INCOMPLETE",
            "failureReason": "InfrastructureError"}),
        "RESOLVED" => json!({"phase": "Succeeded", "verdict": "NO-GO",
            "result": {"extra": {"outcome": "ALREADY-RESOLVED"}}}),
        verdict => json!({"phase": "Succeeded", "verdict": verdict}),
    };
    write(lab, name, &status).await;
}

async fn write(lab: &Lab, name: &str, status: &Value) {
    let mut change = Change::<AgenticTask>::of(Part::Status);
    for field in ["phase", "verdict", "failureReason", "result", "assignedNode", "finishedAt"] {
        if let Some(value) = status.get(field) {
            change = change.set(field, value);
        }
    }
    let key = Key::namespaced("default", name);
    Store::patch(&*lab.store, &key, change, Expect::Any).await.expect("written");
}

fn phase(task: &Object<AgenticTask>) -> Option<TaskPhase> {
    task.status.known_phase()
}

fn in_flight(task: &Object<AgenticTask>) -> bool {
    phase(task).is_some_and(TaskPhase::is_in_flight)
}

fn is_on_target(task: &Object<AgenticTask>) -> bool {
    let verdict = task.status.verdict.as_ref().map(ToString::to_string).unwrap_or_default();
    phase(task) == Some(TaskPhase::Succeeded) && ["GO", "GATE-PASS"].contains(&verdict.as_str())
}

/// A graph: for each task what it depends on (some of it is not there, some in circles) and what its
/// run would come to.
fn some_graph() -> impl Strategy<Value = Vec<(BTreeSet<usize>, &'static str)>> {
    let verdict = prop::sample::select(vec![
        "GO",
        "GO",
        "GO",
        "GATE-PASS",
        "NO-GO",
        "GATE-FAIL",
        "INCOMPLETE",
        "FAILED",
        "RESOLVED",
    ]);
    let task = (prop::collection::btree_set(0_usize..9, 0..3), verdict);
    prop::collection::vec(task, 1..8)
}

async fn plays_out(
    graph: Vec<(BTreeSet<usize>, &'static str)>,
    batch: usize,
) -> Result<(), TestCaseError> {
    let lab = Lab::new();
    add_node(&lab, "n", 3, 64).await;
    let name = |n: usize| format!("t{n}");
    for (n, (after, _)) in graph.iter().enumerate() {
        let mut spec = freeform(None);
        spec.depends_on = after.iter().copied().map(name).collect();
        lab.task(&name(n), spec).await;
        if n % batch == 0 {
            reconcile(&lab).await?;
        }
    }
    let mut rounds = 0;
    loop {
        beat(&lab, "n").await;
        reconcile(&lab).await?;
        let tasks = lab.tasks().await;
        let by_name: BTreeMap<_, _> =
            tasks.iter().map(|task| (task.meta.name.clone(), task)).collect();
        for task in &tasks {
            let ready = task
                .spec
                .depends_on
                .iter()
                .all(|name| by_name.get(name).is_some_and(|upstream| is_on_target(upstream)));
            prop_assert!(
                !in_flight(task) || ready,
                "{} was placed before {:?}",
                task.meta.name,
                task.spec.depends_on
            );
            let said = phase(task) != Some(TaskPhase::Pending) || task.status.waiting.is_some();
            prop_assert!(said, "{} waits and says nothing", task.meta.name);
        }
        if tasks.iter().all(|task| phase(task).is_some_and(TaskPhase::is_terminal)) {
            let stated = |task: &Object<AgenticTask>| task.status.verdict.is_some();
            prop_assert!(tasks.iter().all(stated), "every end has its verdict");
            return Ok(());
        }
        for task in tasks.iter().filter(|task| in_flight(task)) {
            let n: usize = task.meta.name.trim_start_matches('t').parse().expect("our name");
            end(&lab, &task.meta.name, graph.get(n).map_or("GO", |(_, verdict)| verdict)).await;
        }
        // Sixty seconds a round: an hour and a half at most, so that every bounded wait is over.
        lab.clock.advance(Duration::from_mins(1));
        rounds += 1;
        let open: Vec<_> = tasks.iter().filter(|task| !in_flight(task)).collect();
        prop_assert!(rounds < 90, "no end for {:?}", open.last().map(|task| &task.status));
    }
}

/// Something that happens to a fleet.
#[derive(Debug, Clone)]
enum Happens {
    Task { ram: i32, agent: bool },
    Ends(usize),
    Room { node: usize, slots: i32, ram: i32 },
    Time,
}

fn something() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0_i32..40, any::<bool>()).prop_map(|(ram, agent)| Happens::Task { ram, agent }),
        2 => (0_usize..16).prop_map(Happens::Ends),
        1 => (0_usize..3, 0_i32..4, 8_i32..64)
            .prop_map(|(node, slots, ram)| Happens::Room { node, slots, ram }),
        1 => Just(Happens::Time),
    ]
}

/// Names and memory of what each node holds, and how many tasks the Agent has in flight.
async fn held(lab: &Lab) -> (BTreeMap<String, BTreeMap<String, i32>>, usize) {
    let (mut nodes, mut of_agent) = (BTreeMap::<_, BTreeMap<_, _>>::new(), 0);
    for task in lab.tasks().await.iter().filter(|task| in_flight(task)) {
        let node = task.status.assigned_node.clone().unwrap_or_default();
        let required = task.spec.required_capability.as_ref();
        let ram = required.and_then(|required| required.min_ram_gb).unwrap_or(0);
        nodes.entry(node).or_default().insert(task.meta.name.clone(), ram);
        of_agent += usize::from(task.spec.agent_ref.is_some());
    }
    (nodes, of_agent)
}

async fn never_overfull(course: Vec<Happens>) -> Result<(), TestCaseError> {
    let lab = Lab::new();
    lab.agent_with("shy", |spec| spec.max_concurrent_tasks = Some(2)).await;
    let mut rooms = BTreeMap::new();
    for node in 0..3 {
        let (name, slots, ram) = (format!("n{node}"), 2, 32);
        add_node(&lab, &name, slots, ram).await;
        rooms.insert(name, (slots, ram));
    }
    for (step, happens) in course.into_iter().enumerate() {
        let (before, of_agent_before) = held(&lab).await;
        match happens {
            Happens::Task { ram, agent } => {
                let mut spec = freeform(None);
                spec.agent_ref = agent.then(|| LocalObjectReference::to("shy"));
                // With an Agent only the Agent's need counts.
                let min_ram_gb = (!agent).then_some(ram);
                spec.required_capability =
                    Some(RequiredCapability { min_ram_gb, ..RequiredCapability::default() });
                lab.task(&format!("t{step}"), spec).await;
            }
            Happens::Ends(which) => {
                let all: Vec<_> = before.values().flat_map(BTreeMap::keys).collect();
                if let Some(name) = all.get(which) {
                    end(&lab, name, "GO").await;
                }
            }
            Happens::Room { node, slots, ram } => {
                let name = format!("n{node}");
                set_room(&lab, &name, slots, ram).await;
                rooms.insert(name, (slots, ram));
            }
            Happens::Time => lab.clock.advance(Duration::from_secs(20)),
        }
        for name in rooms.keys() {
            beat(&lab, name).await;
        }
        reconcile(&lab).await?;
        let (after, of_agent) = held(&lab).await;
        prop_assert!(of_agent <= of_agent_before.max(2), "{of_agent} of the Agent's 2");
        for (node, holds) in &after {
            let known = before.get(node);
            let more = holds.keys().any(|name| known.is_none_or(|known| !known.contains_key(name)));
            if !more {
                continue;
            }
            let (slots, ram) = rooms.get(node).copied().unwrap_or_default();
            let used: i32 = holds.values().sum();
            let fits = i32::try_from(holds.len()).is_ok_and(|held| held <= slots);
            prop_assert!(fits, "{node} has {slots} slots and holds {holds:?}");
            let placed = holds
                .iter()
                .any(|(name, ram)| *ram > 0 && known.is_none_or(|known| !known.contains_key(name)));
            prop_assert!(!placed || used <= ram, "{node} has {ram} GB and holds {holds:?}");
        }
    }
    Ok(())
}

/// What a task of a random store shows: a phase with what goes with it.
fn some_status() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!({}),
        json!({"phase": "Pending"}),
        json!({"phase": "Scheduled", "assignedNode": "n0"}),
        json!({"phase": "Running", "assignedNode": "gone"}),
        json!({"phase": "Succeeded", "verdict": "GO"}),
        json!({"phase": "Succeeded", "verdict": "NO-GO", "assignedNode": "n0"}),
        json!({"phase": "Succeeded", "verdict": "Skipped"}),
        json!({"phase": "Failed", "verdict": "INCOMPLETE", "assignedNode": "gone"}),
        json!({"phase": "Failed"}),
    ])
}

/// The spec of a task that a person may write at any time.
fn some_spec() -> impl Strategy<Value = AgenticTaskSpec> {
    let flag = prop::option::of(any::<bool>());
    (flag.clone(), flag, 0_i32..3, prop::collection::vec(0_usize..6, 0..2)).prop_map(
        |(cancel, suspend, timeout, after)| {
            let mut spec = freeform(None);
            (spec.cancel, spec.suspend) = (cancel, suspend);
            spec.timeout_seconds = Some(timeout);
            spec.depends_on = after.into_iter().map(|n| format!("t{n}")).collect();
            spec
        },
    )
}

async fn fill(lab: &Lab, tasks: &[(AgenticTaskSpec, Value)], order: &[usize]) {
    for n in order {
        let Some((spec, status)) = tasks.get(*n) else { continue };
        lab.task(&format!("t{n}"), spec.clone()).await;
        write(lab, &format!("t{n}"), status).await;
    }
}

async fn stays_ended(tasks: Vec<(AgenticTaskSpec, Value)>) -> Result<(), TestCaseError> {
    let lab = Lab::new();
    let order: Vec<_> = (0..tasks.len()).collect();
    fill(&lab, &tasks, &order).await;
    let ended: Vec<_> = lab
        .tasks()
        .await
        .into_iter()
        .filter(|task| phase(task).is_some_and(TaskPhase::is_terminal))
        .collect();
    for round in 0..5 {
        if round == 1 {
            add_node(&lab, "n0", 4, 64).await;
        }
        reconcile(&lab).await?;
        for before in &ended {
            let after = lab.task_now(&before.meta.name).await;
            prop_assert_eq!(
                (&after.status.phase, &after.status.verdict, &after.status.finished_at),
                (&before.status.phase, &before.status.verdict, &before.status.finished_at)
            );
        }
        lab.clock.advance(Duration::from_secs(100));
    }
    Ok(())
}

/// What is decided of each task, without what two stores may differ in.
async fn decisions(
    tasks: &[(AgenticTaskSpec, Value)],
    order: &[usize],
) -> Result<String, TestCaseError> {
    let lab = Lab::new();
    let nodes = ["n0", "n1"];
    for n in order.iter().filter_map(|n| nodes.get(*n)) {
        add_node(&lab, n, 2, 64).await;
    }
    fill(&lab, tasks, order).await;
    reconcile(&lab).await?;
    let decided = lab.tasks().await.into_iter().map(|task| (task.meta.name, task.status));
    Ok(format!("{:#?}", decided.collect::<BTreeMap<_, _>>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Promise 4.
    #[test]
    fn no_task_starts_before_its_dependencies_and_every_task_ends_with_a_stated_outcome(
        graph in some_graph(), batch in 1_usize..4,
    ) {
        run(plays_out(graph, batch))?;
    }

    /// Promise 7.
    #[test]
    fn no_course_of_events_overfills_a_node_or_an_agent(
        course in prop::collection::vec(something(), 1..40),
    ) {
        run(never_overfull(course))?;
    }

    /// Promise 3.
    #[test]
    fn what_has_ended_stays_ended(
        tasks in prop::collection::vec((some_spec(), some_status()), 1..6),
    ) {
        run(stays_ended(tasks))?;
    }

    /// Promise 12.
    #[test]
    fn one_store_one_decision_in_whatever_order_it_was_filled(
        tasks in prop::collection::vec((some_spec(), some_status()), 2..6),
        order in Just([0_usize, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        run(async {
            let there = decisions(&tasks, &[0, 1, 2, 3, 4]).await?;
            let again = decisions(&tasks, &[0, 1, 2, 3, 4]).await?;
            let shuffled = decisions(&tasks, &order).await?;
            prop_assert_eq!(&there, &again);
            prop_assert_eq!(&there, &shuffled);
            Ok(())
        })?;
    }
}
