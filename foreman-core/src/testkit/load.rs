//! Fleets and queues of any size, for benches: the same rows, tasks and words in each of them, so that
//! two figures differ by what was measured only.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::task::ArcWake;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::objects::{ended, node, renumbered, running, task};
use super::sim::SimClock;
use super::told::Told;
use crate::control::Reconciler;
use crate::memory::MemoryStore;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::time::AwakeTime;
use crate::model::{NodeName, Uid};
use crate::ports::clock::Clock;
use crate::ports::recorder::LogRecorder;
use crate::ports::store::Stores;
use crate::schedule::fleet::Fleet;
use crate::schedule::order::{Turn, turn};
use crate::schedule::{Alike, Need, NodeRow, Reservation};

/// Where the tasks are.
pub const NAMESPACE: &str = "bench";
/// Memory that a node of a world says is free, in GiB.
pub const FREE_GB: i32 = 60;
/// How long a loop that writes nothing is taken to have nothing to write.
const QUIET_SECONDS: usize = 3;

/// A node's row: every 16th is cordoned, every other has another accelerator, there are four zones.
///
/// # Panics
/// Never: the name is valid.
#[expect(clippy::expect_used, reason = "the name is valid")]
pub fn row(number: usize, slots: usize) -> NodeRow {
    NodeRow {
        name: NodeName::parse(&node_name(number)).expect("valid"),
        labels: BTreeMap::from([("zone".into(), format!("z{}", number % 4))]),
        roles: vec!["coder".into(), "reviewer".into()],
        phase: Some(NodePhase::Ready),
        fresh: true,
        cordoned: number % 16 == 15,
        refusing: false,
        note: None,
        slots,
        accelerator: Some(if number.is_multiple_of(2) { "cuda" } else { "metal" }.to_owned()),
        capacity_ram_gb: Some(64),
        available_ram_gb: Some(FREE_GB),
        context_tokens: 32_768,
        models: BTreeSet::from(["qwen".to_owned()]),
        loaded: BTreeSet::new(),
        tokens_per_second: 0,
        namespaces: BTreeSet::new(),
        running: BTreeSet::new(),
    }
}

fn node_name(number: usize) -> String {
    format!("node-{number:05}")
}

/// A need that asks for a bit of everything.
pub fn picky() -> Need {
    Need {
        accelerator: Some("cuda".into()),
        ram_gb: 4,
        labels: BTreeMap::from([("zone".into(), "z0".into())]),
        ..modest()
    }
}

/// A need that every node fulfils.
pub fn modest() -> Need {
    Need {
        uid: Uid::new(""),
        namespace: "default".into(),
        accelerator: None,
        ram_gb: 0,
        context_tokens: 16_384,
        model: Some("qwen".into()),
        model_installed: false,
        labels: BTreeMap::new(),
        roles: vec!["coder".into()],
        journal: None,
        only: None,
        last_resort: None,
    }
}

/// The fleet of so many nodes.
pub fn fleet(nodes: usize, slots: usize) -> Fleet {
    let mut fleet = Fleet::default();
    for number in 0..nodes {
        fleet.node_changed(row(number, slots));
    }
    fleet
}

/// A fleet of which every node refuses [`picky`]: it is full or does not match.
pub fn full_fleet(nodes: usize) -> Fleet {
    let mut fleet = fleet(nodes, 1);
    let names: Vec<_> = fleet.snapshot().nodes().map(|node| node.name.clone()).collect();
    for (number, node) in names.into_iter().enumerate() {
        let held = Reservation { task: Key::cluster("held"), ram_gb: 8 };
        fleet.hold(&Uid::new(format!("held-{number}")), None, Some((node, held)));
    }
    wait(&mut fleet, &turns(1), &picky());
    fleet
}

/// The turns of so many tasks, all alike.
pub fn turns(count: usize) -> Vec<Turn> {
    let mut task = task(0, &json!({}));
    let make = |number| {
        task.meta.name = task_name(number);
        turn(&task)
    };
    (0..count).map(make).collect()
}

fn task_name(number: usize) -> String {
    format!("task-{number:06}")
}

/// The number of a task that [`wait`] put into a fleet.
pub fn number_of(uid: &Uid) -> usize {
    uid.as_str().rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// All of them wait in the fleet, with that need.
pub fn wait(fleet: &mut Fleet, turns: &[Turn], need: &Need) {
    for turn in turns {
        let alike = Alike { need: need.clone(), agent: None, workload: None };
        fleet.wait(turn.key(), &Uid::new(turn.key().name.as_str()), turn.clone(), alike);
    }
}

/// One pass of the scheduler; answers with whom it placed.
pub fn pass(fleet: &mut Fleet) -> Vec<Uid> {
    let mut placed = Vec::new();
    let mut round = fleet.begin(AwakeTime::default());
    while let Some(next) = fleet.next(&mut round) {
        if fleet.place(&mut round, &next).is_some() {
            placed.push(next.uid);
        }
    }
    drop(fleet.end(round));
    placed
}

/// Places all that wait, where every run ends before the next pass; answers how many.
pub fn drain(fleet: &mut Fleet) -> usize {
    let mut placed = 0;
    loop {
        let ended = pass(fleet);
        if ended.is_empty() {
            return placed;
        }
        placed += ended.len();
        for uid in &ended {
            fleet.let_go(uid);
        }
    }
}

/// How large a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Nodes, each with one slot and one run.
    pub nodes: usize,
    /// Tasks that have not ended: one runs on each node, the others wait.
    pub live: usize,
    /// Tasks that have ended.
    pub ended: usize,
}

/// What a waiting task is told in a fleet of that size in which all is taken.
fn told(nodes: usize) -> Value {
    let asks = task(nodes, &json!({"phase": "Pending"}));
    let key = asks.key();
    let make = move |number| if number < nodes { running(number) } else { asks.clone() };
    let mut world = World::of(nodes, nodes + 1, make);
    world.rest();
    json!(world.tasks.now(&key).and_then(|task| task.status.waiting))
}

/// The control loops on a store that holds nothing, driven step by step: what they cost and what they
/// keep is theirs alone.
pub struct World {
    nodes: Arc<Told<FleetNode>>,
    tasks: Arc<Told<AgenticTask>>,
    clock: Arc<SimClock>,
    loops: BoxFuture<'static, ()>,
    woken: Arc<Woken>,
    /// Kept: without it the loops would stop.
    _stop: watch::Sender<bool>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.0.store(true, Ordering::SeqCst);
    }
}

impl World {
    /// A world of that size in which all is as it should be: the loops have nothing to write.
    pub fn new(size: Size) -> Self {
        let Size { nodes, live, ended: past } = size;
        let waiting = task(0, &json!({"phase": "Pending", "waiting": told(nodes)}));
        let done = ended(0);
        let make = move |number| {
            if number < nodes {
                running(number)
            } else {
                renumbered(if number < live { &waiting } else { &done }, number)
            }
        };
        Self::of(nodes, live + past, make)
    }

    fn of(
        nodes: usize,
        tasks: usize,
        make: impl Fn(usize) -> Object<AgenticTask> + Send + Sync + 'static,
    ) -> Self {
        let (nodes, tasks) = (Told::new(nodes, node), Told::new(tasks, make));
        let nothing = MemoryStore::new(SimClock::new());
        let stores = Stores { nodes: nodes.clone(), tasks: tasks.clone(), ..Stores::of(&nothing) };
        let clock = SimClock::new();
        let reconciler = Reconciler::new(stores, clock.clone(), Arc::new(LogRecorder));
        let (stop, stopped) = watch::channel(false);
        let loops = async move { reconciler.run(stopped).await }.boxed();
        Self { nodes, tasks, clock, loops, woken: Arc::default(), _stop: stop }
    }

    /// Lets the loops do what they can do at this moment; answers how many writes they made.
    pub fn run(&mut self) -> usize {
        let before = self.writes();
        let waker = futures::task::waker(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        loop {
            self.woken.0.store(false, Ordering::SeqCst);
            let ended = self.loops.poll_unpin(&mut context).is_ready();
            if ended || !self.woken.0.load(Ordering::SeqCst) {
                return self.writes() - before;
            }
        }
    }

    /// Lets the loops go on, also with what waits for its turn, until they have nothing to write for a
    /// few seconds.
    pub fn rest(&mut self) -> usize {
        let mut count = self.run();
        let mut quiet = 0;
        while quiet < QUIET_SECONDS {
            self.clock.advance(Duration::from_secs(1));
            let more = self.run();
            quiet = if more == 0 { quiet + 1 } else { 0 };
            count += more;
        }
        count
    }

    fn writes(&self) -> usize {
        self.nodes.writes() + self.tasks.writes()
    }

    /// The task of that number, as it is now.
    pub fn task(&self, number: usize) -> Option<Object<AgenticTask>> {
        self.tasks.now(&Key::namespaced(NAMESPACE, task_name(number)))
    }

    /// The agent says that the run of that task ended well.
    pub fn run_ends(&self, number: usize) {
        self.tasks.wrote(ended(number));
    }

    /// The agent of that node says that it is there, and so much memory is free.
    pub fn beats(&self, number: usize, free_gb: i32) {
        let key = Key::cluster(node_name(number));
        let Some(mut node) = self.nodes.now(&key) else { return };
        node.status.last_heartbeat_time = Some(self.clock.wall());
        if let Some(capability) = &mut node.status.capability {
            capability.available_ram_gb = Some(free_gb);
        }
        self.nodes.wrote(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { nodes: 3, live: 8, ended: 5 };

    #[test]
    fn a_world_is_at_rest_and_a_run_that_ends_lets_the_next_task_in() {
        let mut world = World::new(SIZE);
        assert_eq!(world.rest(), 0, "nothing is to be done at first");
        world.run_ends(1);
        assert!(world.run() > 0);
        let placed = world.task(3).expect("there").status;
        assert_eq!(placed.assigned_node.as_deref(), Some(node_name(1).as_str()));
        world.rest();
        world.beats(2, FREE_GB);
        assert_eq!(world.run(), 0, "a heartbeat that says nothing new");
        world.beats(2, FREE_GB - 1);
        assert_eq!(world.run(), 0, "less memory free, and no task that asks for any");
    }

    #[test]
    fn a_drain_places_all() {
        let mut some = fleet(4, 1);
        wait(&mut some, &turns(10), &modest());
        assert_eq!(drain(&mut some), 10);
    }
}
