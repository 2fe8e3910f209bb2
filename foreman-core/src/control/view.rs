//! What the reconciler knows and what is due: the part of the loop that waits for nothing.

use std::collections::BTreeSet;

use super::answer::{Answer, settle};
use super::backoff::Backoff;
use super::confirm::Unconfirmed;
use super::election::Moment;
use super::lane::{Lane, split};
use super::memory::Memory;
use super::mirror::{Mirror, Reread};
use super::settings::ControlSettings;
use super::write::{Target, Urgency, Write};
use super::{plan_claims, plan_nodes, plan_tasks, plan_workloads};
use crate::model::Uid;
use crate::model::agent::Agent;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::time::AwakeTime;
use crate::model::workload::Workload;
use crate::policy::admit::Policy;
use crate::ports::store::StoreEvent;
use crate::timing::{LANE_SETTLES, PLAN_AGAIN_MIN, SLEEP_LOOK};

/// What the reconciler knows of the store.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) nodes: Mirror<FleetNode>,
    pub(super) tasks: Mirror<AgenticTask>,
    pub(super) workloads: Mirror<Workload>,
    pub(super) agents: Mirror<Agent>,
    pub(super) policy: Policy,
}

/// What became of a write.
pub(super) enum Done {
    Task(Key, Answer<AgenticTask>),
    Workload(Key, Answer<Workload>),
    Created(Key, Uid, Answer<AgenticTask>),
    Node(Key, Answer<FleetNode>),
    /// A node was read afresh, and what came of the write then.
    Confirmed {
        node: Key,
        then: Box<Self>,
    },
    /// The write was not sent.
    Unconfirmed(Unconfirmed),
}

/// What a watch told.
pub(super) enum Fed {
    Node(StoreEvent<FleetNode>),
    /// Nothing is heard of the nodes until they are read in full again.
    NodesBroken,
    Task(StoreEvent<AgenticTask>),
    Workload(StoreEvent<Workload>),
    Agent(StoreEvent<Agent>),
}

type Planner = fn(&World, &mut Memory, Moment) -> (Vec<Write>, Option<AwakeTime>);

/// The rules, the first to have its say first.
const PLANNERS: [Planner; 4] =
    [plan_nodes::plan, plan_workloads::plan, plan_claims::plan, plan_tasks::plan];

/// See the module.
pub(super) struct View {
    pub(super) world: World,
    pub(super) memory: Memory,
    settings: ControlSettings,
    lane: Lane,
    away: Backoff,
    /// Something changed that a rule may decide on.
    changed: bool,
    /// Something small changed: it waits for a pass that is worth it, but not longer.
    soon: Option<AwakeTime>,
    /// When each rule asked to be run again although nothing changed.
    due: [Option<AwakeTime>; PLANNERS.len()],
    urgent_in_flight: usize,
    lane_in_flight: usize,
    /// More urgent writes were decided than there was room for.
    no_room: bool,
}

impl View {
    pub(super) fn new(settings: &ControlSettings) -> Self {
        Self::of(World { policy: settings.policy, ..World::default() }, settings)
    }

    pub(super) fn of(world: World, settings: &ControlSettings) -> Self {
        Self {
            world,
            memory: Memory::default(),
            settings: settings.clone(),
            lane: Lane::new(settings.rates()),
            away: Backoff::default(),
            changed: true,
            soon: None,
            due: [None; PLANNERS.len()],
            urgent_in_flight: 0,
            lane_in_flight: 0,
            no_room: false,
        }
    }

    /// To be called first whenever the loop wakes: silences begin anew after our own sleep, before
    /// anything is heard or judged.
    pub(super) fn wakes(&mut self, now: Moment) {
        self.changed |= self.memory.notice_sleep(now.awake, now.boot);
    }

    /// Takes what a watch told.
    pub(super) fn hear(&mut self, event: Fed, now: Moment) {
        let (world, memory) = (&mut self.world, &mut self.memory);
        let news = match event {
            Fed::Node(event) => return self.hear_node(event, now),
            Fed::NodesBroken => {
                memory.goes_deaf();
                true
            }
            Fed::Task(event) => {
                // What is known already, or older than our own answer, tells of no change.
                if let StoreEvent::Upsert(after) = &event
                    && !world.tasks.is_known(after)
                {
                    let before = world.tasks.objects.get(&after.key());
                    plan_tasks::note_refusal(
                        memory,
                        &world.nodes.objects,
                        before,
                        after,
                        now.awake,
                    );
                    memory.claims.note_drift(before, after);
                }
                world.tasks.apply(event)
            }
            Fed::Workload(event) => world.workloads.apply(event),
            Fed::Agent(event) => world.agents.apply(event),
        };
        self.changed |= news;
    }

    fn hear_node(&mut self, event: StoreEvent<FleetNode>, now: Moment) {
        let (world, memory) = (&mut self.world, &mut self.memory);
        self.changed |= memory.hears_of_the_store(now.awake);
        let beat = match &event {
            StoreEvent::SyncStart => {
                memory.goes_deaf();
                None
            }
            StoreEvent::SyncEnd => {
                memory.hears_again(now.awake);
                None
            }
            StoreEvent::Upsert(node) => {
                let before = world.nodes.objects.get(&node.key());
                let fresh = memory.seen.get(&node.key());
                let fresh = fresh.is_some_and(|seen| seen.is_fresh(now.wall, now.awake));
                before.is_some_and(|before| fresh && is_beat(before, node)).then(|| node.key())
            }
            StoreEvent::Unreadable { .. } | StoreEvent::Gone { .. } => None,
        };
        let news = world.nodes.apply(event);
        let Some(key) = beat else {
            self.changed |= news;
            return;
        };
        // A heartbeat that says nothing else: only its own node may have something to be said of.
        self.changed |= memory.look(world, &key, now);
        self.changed |= plan_nodes::has_news(world, memory, &key, now);
    }

    /// Whether everything was read once, so that something can be decided.
    pub(super) fn is_synced(&self) -> bool {
        let World { nodes, tasks, workloads, agents, policy: _ } = &self.world;
        nodes.is_synced() && tasks.is_synced() && workloads.is_synced() && agents.is_synced()
    }

    /// Whether the store asked to be left alone, or failed just now: until when.
    pub(super) fn away_until(&self, now: AwakeTime) -> Option<AwakeTime> {
        self.away.until(now)
    }

    /// When to look again although nothing is heard; absent = when something is.
    pub(super) fn look_again(&self, now: AwakeTime) -> Option<AwakeTime> {
        // A sleep of this machine is noticed soon: what is dead is found a full silence after that.
        let sleep = (!self.memory.seen.is_empty()).then(|| now + SLEEP_LOOK);
        [self.acts_again(now), sleep].into_iter().flatten().min()
    }

    fn acts_again(&self, now: AwakeTime) -> Option<AwakeTime> {
        if !self.is_synced() {
            return None;
        }
        if let Some(at) = self.away.until(now) {
            return Some(at);
        }
        let lane =
            if self.lane_room() == 0 { None } else { self.lane.next_due(now, self.is_busy()) };
        let retry = self.world.next_retry();
        let plans = if self.has_room() {
            self.due.into_iter().chain([self.soon, retry]).flatten().min()
        } else {
            None
        };
        [lane, plans].into_iter().flatten().min()
    }

    /// The writes to send now, urgent ones first. Each counts as on its way from now on.
    pub(super) fn decide(&mut self, now: Moment) -> Vec<(Urgency, Write)> {
        self.wakes(now);
        if self.away.until(now.awake).is_some() {
            return Vec::new();
        }
        let mut out = Vec::new();
        if self.has_room() {
            self.changed |= self.world.retry_refused(now.awake);
            let (urgent, lane) = split(self.plan(now));
            for write in lane {
                self.lane.offer(write);
            }
            let room = self.room();
            self.no_room = urgent.len() > room;
            self.changed |= self.no_room;
            for write in urgent {
                if out.len() < room {
                    out.push(write);
                } else {
                    self.memory.not_sent(&write);
                }
            }
            for write in &out {
                self.lane.drop_of(&write.target());
                self.world.begins(write);
            }
            self.urgent_in_flight += out.len();
        }
        let (room, busy) = (self.lane_room(), self.is_busy());
        let world = &self.world;
        let (due, stale) = self.lane.due(now.awake, busy, room, |write| world.is_current(write));
        self.lane_in_flight += due.len();
        for write in &due {
            self.world.begins(write);
        }
        for write in stale {
            self.memory.not_sent(&write);
            // Not at once: what is under way may have to end before it can be decided otherwise.
            self.soon = Some(now.awake + PLAN_AGAIN_MIN);
        }
        out.extend(due);
        out.into_iter().map(|write| (write.urgency(), write)).collect()
    }

    /// Runs the rules that have something to look at.
    fn plan(&mut self, now: Moment) -> Vec<Write> {
        let is_due = |at: &Option<AwakeTime>| at.is_some_and(|at| at <= now.awake);
        let all = std::mem::take(&mut self.changed) || is_due(&self.soon);
        if !all && !self.due.iter().any(is_due) {
            return Vec::new();
        }
        if all {
            self.soon = None;
        }
        self.memory.refresh(&mut self.world, now);
        let mut writes: Vec<Write> = Vec::new();
        for (plan, due) in PLANNERS.iter().zip(&mut self.due) {
            if !all && !is_due(due) {
                continue;
            }
            let (more, at) = plan(&self.world, &mut self.memory, now);
            *due = at.map(|at| at.max(now.awake + PLAN_AGAIN_MIN));
            // One write an object: a child that is told to stop is not placed by the same pass.
            let taken: BTreeSet<_> = writes.iter().map(Write::target).collect();
            for write in more {
                if taken.contains(&write.target()) {
                    self.memory.not_sent(&write);
                } else {
                    writes.push(write);
                }
            }
        }
        if self.memory.nodes.is_unread() {
            writes.iter_mut().for_each(Write::only_look);
        }
        writes.sort_by_key(|write| write.urgency().place());
        writes
    }

    /// Everything that is due, whatever its urgency, for a caller that carries it out one by one.
    pub(super) fn decide_all(&mut self, now: Moment) -> Vec<Write> {
        self.changed = true;
        self.plan(now)
    }

    /// A write goes out for [`Self::decide_all`].
    pub(super) fn begins(&mut self, write: &Write) {
        self.world.begins(write);
        match write.urgency() {
            Urgency::Now => self.urgent_in_flight += 1,
            Urgency::Lane(_) => self.lane_in_flight += 1,
        }
    }

    /// Takes the answer to a write.
    pub(super) fn take(&mut self, urgency: Urgency, done: Done, now: AwakeTime) {
        match urgency {
            Urgency::Now => {
                self.urgent_in_flight = self.urgent_in_flight.saturating_sub(1);
                self.changed = true;
            }
            Urgency::Lane(_) => {
                self.lane_in_flight = self.lane_in_flight.saturating_sub(1);
                // Nothing but what we said ourselves: while more of the kind waits, that is not worth
                // a pass each time.
                if self.lane.len() == 0 {
                    self.changed = true;
                } else {
                    self.soon = Some(self.soon.unwrap_or(now + LANE_SETTLES));
                }
            }
        }
        self.fold(done, now);
    }

    fn fold(&mut self, done: Done, now: AwakeTime) {
        if done.store_is_overloaded() {
            self.lane.slow_down(now);
        }
        let Self { world, memory, away, .. } = self;
        match done {
            Done::Task(key, answer) => {
                let unanswered = match &answer {
                    Answer::Later(_) => true,
                    Answer::Lost(found) => world.tasks.is_unmoved(&key, found),
                    Answer::Written(_) | Answer::Refused(_) => false,
                };
                memory.task_answered(&key, unanswered, now);
                // A refusal may be learnt by a write that lost to it, ahead of the watch.
                if let Answer::Lost(Reread::There(found)) = &answer {
                    let before = world.tasks.objects.get(&key);
                    plan_tasks::note_refusal(memory, &world.nodes.objects, before, found, now);
                }
                if let Some(task) = world.tasks.objects.get(&key)
                    && !matches!(answer, Answer::Written(_))
                {
                    memory.told.remove(&task.meta.uid);
                    self.changed = true;
                }
                settle(&mut world.tasks, &key, away, now, answer);
            }
            Done::Workload(key, answer) => settle(&mut world.workloads, &key, away, now, answer),
            Done::Created(key, owner, answer) => {
                match &answer {
                    Answer::Refused(error) => memory.child_refused(owner, error, now),
                    Answer::Written(_) | Answer::Lost(_) => memory.child_made(&owner),
                    Answer::Later(_) => {}
                }
                settle(&mut world.tasks, &key, away, now, answer);
            }
            Done::Node(key, answer) => settle(&mut world.nodes, &key, away, now, answer),
            Done::Confirmed { node, then } => {
                world.nodes.read_done(&node, Reread::Unknown);
                self.fold(*then, now);
            }
            Done::Unconfirmed(why) => why.settle(world, memory, away, now),
        }
    }

    fn in_flight(&self) -> usize {
        self.urgent_in_flight + self.lane_in_flight
    }

    fn room(&self) -> usize {
        self.settings.writes_at_once.saturating_sub(self.in_flight())
    }

    /// Whether deciding is worth it: once more was decided than could be sent, half of the room must
    /// be free again, so that a long queue is not planned for each answer.
    fn has_room(&self) -> bool {
        let half = self.settings.writes_at_once / 2;
        if self.no_room { self.in_flight() <= half } else { self.room() > 0 }
    }

    fn lane_room(&self) -> usize {
        let lane = self.settings.lane_at_once().saturating_sub(self.lane_in_flight);
        lane.min(self.room())
    }

    fn is_busy(&self) -> bool {
        self.no_room || self.urgent_in_flight > 0
    }
}

/// Whether the second is the first with another heartbeat, and nothing else.
fn is_beat(before: &Object<FleetNode>, after: &Object<FleetNode>) -> bool {
    let mut beaten = before.status.clone();
    beaten.last_heartbeat_time = after.status.last_heartbeat_time;
    before.meta.uid == after.meta.uid
        && before.meta.generation == after.meta.generation
        && before.meta.labels == after.meta.labels
        && before.meta.annotations == after.meta.annotations
        && before.meta.deletion_timestamp == after.meta.deletion_timestamp
        && before.spec == after.spec
        && beaten == after.status
}

impl Done {
    /// The store did not say what became of it.
    pub(super) fn is_unanswered(&self) -> bool {
        match self {
            Self::Task(_, answer) | Self::Created(_, _, answer) => {
                matches!(answer, Answer::Later(_))
            }
            Self::Workload(_, answer) => matches!(answer, Answer::Later(_)),
            Self::Node(_, answer) => matches!(answer, Answer::Later(_)),
            Self::Confirmed { then, .. } => then.is_unanswered(),
            Self::Unconfirmed(_) => true,
        }
    }

    /// The store asked to be left alone.
    fn store_is_overloaded(&self) -> bool {
        match self {
            Self::Task(_, answer) | Self::Created(_, _, answer) => answer.asks_for_time(),
            Self::Workload(_, answer) => answer.asks_for_time(),
            Self::Node(_, answer) => answer.asks_for_time(),
            Self::Confirmed { then, .. } => then.store_is_overloaded(),
            Self::Unconfirmed(why) => why.asks_for_time(),
        }
    }
}

impl World {
    fn begins(&mut self, write: &Write) {
        if let Write::Confirmed { confirm, .. } = write {
            self.nodes.read_begins(confirm.node.clone());
        }
        match write.target() {
            Target::Task(key) => self.tasks.write_begins(key),
            Target::Workload(key) => self.workloads.write_begins(key),
            Target::Node(key) => self.nodes.write_begins(key),
        }
    }

    /// Whether a write is for what is known, and may go out now.
    fn is_current(&self, write: &Write) -> bool {
        fn at<K: Kind>(mirror: &Mirror<K>, key: &Key, revision: &crate::model::Revision) -> bool {
            let known = mirror.objects.get(key).map(Object::revision);
            known == Some(revision) && mirror.is_free(key)
        }
        match write {
            Write::Task { key, revision, .. } => at(&self.tasks, key, revision),
            Write::Workload { key, revision, .. } | Write::DeleteWorkload { key, revision, .. } => {
                at(&self.workloads, key, revision)
            }
            Write::Node { key, revision, .. } | Write::DeleteNode { key, revision, .. } => {
                at(&self.nodes, key, revision)
            }
            Write::DeleteStray { task, .. } => at(&self.tasks, &task.key(), task.revision()),
            Write::Create { new, .. } => self.tasks.is_free(&new.key),
            Write::Confirmed { then, .. } => self.is_current(then),
        }
    }

    /// Lets go of objects whose pause after a refusal is over; whether there were any.
    fn retry_refused(&mut self, now: AwakeTime) -> bool {
        let tasks = self.tasks.retry_refused(now);
        let workloads = self.workloads.retry_refused(now);
        let nodes = self.nodes.retry_refused(now);
        tasks || workloads || nodes
    }

    fn next_retry(&self) -> Option<AwakeTime> {
        let all = [self.tasks.next_retry(), self.workloads.next_retry(), self.nodes.next_retry()];
        all.into_iter().flatten().min()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
