//! The one place that asks the scheduler: what the control loops write about each task of a scenario,
//! and what each node says to those that wait.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use foreman_core::control::{Reconciler, snapshot_of};
use foreman_core::model::condition::find_condition;
use foreman_core::model::{Agent, AgenticTask, FleetNode, Key, NodeName, Object};
use foreman_core::policy::admit::Policy;
use foreman_core::ports::recorder::LogRecorder;
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Query, Store, Stores};
use foreman_core::schedule::order::turn;
use foreman_core::schedule::{
    Avoid, NodeVerdict, Placement, Scheduler, Snapshot, explain, need_of,
};

use tokio::sync::watch;

use super::world::World;
use crate::lab::{in_time, settle};

/// Everything of a kind, by key.
async fn all<K: foreman_core::model::object::Kind>(world: &World) -> BTreeMap<Key, Object<K>> {
    let store: &dyn Store<K> = &*world.store;
    let listing = store.list(&Query::all()).await.expect("listed");
    listing.objects.into_iter().map(|object| (object.key(), object)).collect()
}

fn snapshot_now(
    world: &World,
    nodes: &BTreeMap<Key, Object<FleetNode>>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
    agents: &BTreeMap<Key, Object<Agent>>,
) -> Snapshot {
    let (wall, awake) = (world.clock.wall(), world.clock.awake());
    snapshot_of(nodes.values(), tasks, agents, &BTreeMap::new(), wall, awake)
}

/// The decision about each task, in the order of the file.
pub(crate) async fn decide(world: &World) -> String {
    let before = all::<AgenticTask>(world).await;
    let agents = all::<Agent>(world).await;
    if !world.avoided.is_empty() {
        let nodes = all::<FleetNode>(world).await;
        let snapshot = snapshot_now(world, &nodes, &before, &agents);
        return by_snapshot(world, snapshot, &before, &agents);
    }
    let stores = Stores::of(&world.store);
    let reconciler = Reconciler::new(stores, world.clock.clone(), Arc::new(LogRecorder))
        .with_policy(Policy { allow_cloud: world.cloud });
    if world.passes == 0 {
        reconciler.reconcile_once().await.expect("reconciled");
    } else {
        run_for(world, &reconciler).await;
    }
    let after = all::<AgenticTask>(world).await;
    let nodes = all::<FleetNode>(world).await;
    let snapshot = snapshot_now(world, &nodes, &after, &agents);
    let mut decided = String::new();
    for key in &world.tasks {
        let task = after.get(key).expect("it is still there");
        line(&mut decided, &name(task), &outcome(task));
        if is_about_nodes(task) {
            verdicts(&mut decided, &explain(&snapshot, &need_of(task, &after, &agents)).nodes);
        }
    }
    decided
}

/// Runs the control loop while that time passes, in steps of a second; who is there beats.
async fn run_for(world: &World, reconciler: &Reconciler) {
    let (stop, stopped) = watch::channel(false);
    let story = async {
        settle().await;
        for second in 1..=world.passes {
            world.clock.advance(Duration::from_secs(1));
            for node in world.beating.iter().filter(|_| second % 30 == 0) {
                let beat = Change::of(Part::Status).set("lastHeartbeatTime", world.clock.wall());
                let store: &dyn Store<FleetNode> = &*world.store;
                store.patch(&Key::cluster(node), beat, Expect::Any).await.expect("beats");
            }
            settle().await;
        }
        stop.send_replace(true);
    };
    in_time(async { tokio::join!(reconciler.run(stopped), story) }).await;
}

/// What keeps a task from a node for a while is known to the leading control loop only, so such a
/// scenario is decided on a snapshot, in the order of the queue.
fn by_snapshot(
    world: &World,
    mut snapshot: Snapshot,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
    agents: &BTreeMap<Key, Object<Agent>>,
) -> String {
    for (key, node, hard) in &world.avoided {
        let node = NodeName::parse(node).expect("a node's name");
        let avoid = if *hard { Avoid::Hard } else { Avoid::Soft };
        snapshot.avoid(tasks.get(key).expect("a task").meta.uid.clone(), node, avoid);
    }
    let mut queue: Vec<_> = world.tasks.iter().filter_map(|key| tasks.get(key)).collect();
    queue.sort_by_key(|task| turn(task));
    let mut scheduler = Scheduler::new(snapshot);
    let mut lines = BTreeMap::new();
    for task in queue {
        let need = need_of(task, tasks, agents);
        let mut decided = String::new();
        let explained = explain(scheduler.snapshot(), &need);
        match scheduler.place(task.key(), &need) {
            Placement::On { node, why } => {
                line(&mut decided, &name(task), &format!("on {node}: {}", why.join(", ")));
            }
            Placement::Nowhere(_) => {
                let (reason, message) = explained.waiting.expect("no node fits");
                line(&mut decided, &name(task), &format!("waits {reason}: {message}"));
                verdicts(&mut decided, &explained.nodes);
            }
        }
        lines.insert(task.key(), decided);
    }
    world.tasks.iter().filter_map(|key| lines.remove(key)).collect()
}

fn name(task: &Object<AgenticTask>) -> String {
    match task.meta.namespace.as_deref() {
        Some(namespace) if namespace != "default" => format!("{namespace}/{}", task.meta.name),
        _ => task.meta.name.clone(),
    }
}

fn line(decided: &mut String, name: &str, outcome: &str) {
    writeln!(decided, "{name} {outcome}").expect("a text takes it");
}

/// What was written about a task.
fn outcome(task: &Object<AgenticTask>) -> String {
    let status = &task.status;
    let message = |kind: &str| {
        find_condition(&status.conditions, kind)
            .map(|found| found.message.clone())
            .unwrap_or_default()
    };
    if let Some(verdict) = &status.verdict {
        let phase = status.phase.as_ref().map(ToString::to_string).unwrap_or_default();
        return format!("ends {phase}/{verdict}: {}", message("Finished"));
    }
    match (&status.assigned_node, &status.waiting) {
        (Some(node), _) => {
            let placed = message("Scheduled");
            let placed = placed.strip_prefix(&format!("placed on {node}: ")).unwrap_or(&placed);
            format!("on {node}: {placed}")
        }
        (None, Some(waiting)) => {
            let reason = waiting.reason.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("waits {reason}: {}", waiting.message.as_deref().unwrap_or_default())
        }
        (None, None) => "says nothing".to_owned(),
    }
}

/// Whether a task waits for what nodes say.
fn is_about_nodes(task: &Object<AgenticTask>) -> bool {
    let reason = task.status.waiting.as_ref().and_then(|waiting| waiting.reason.as_ref());
    let reason = reason.map(ToString::to_string).unwrap_or_default();
    reason.starts_with("Node") || reason == "NoMatchingNode"
}

fn verdicts(decided: &mut String, nodes: &[NodeVerdict]) {
    let width = nodes.iter().map(|node| node.node.as_str().len()).max().unwrap_or(0);
    for NodeVerdict { node, word, detail, remedy, .. } in nodes {
        let remedy = remedy.as_ref().map_or(String::new(), |one| format!(" (fits with {one})"));
        let line = format!("  {node:width$} {word}: {detail}{remedy}", node = node.as_str());
        writeln!(decided, "{}", line.trim_end()).expect("a text takes it");
    }
}
