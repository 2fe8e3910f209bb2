//! What the reconciler saw of the claims: ages on its own awake clock. All of it can be lost; then it
//! is seen anew, and only time is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::confirm::shows_run;
use super::election::Moment;
use super::reconciler::World;
use crate::bugs::{self, Bug};
use crate::fleet::liveness::{Assessment, Seen, assess};
use crate::model::Uid;
use crate::model::agentic_task::{AgenticTask, AgenticTaskSpec, TaskPhase};
use crate::model::fleet_node::{FleetNode, RunSummary};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::time::{AwakeTime, WallTime};
use crate::task::hanging::{Holder, Observed, is_healthy};
use crate::timing::{MISSING_BEATS, SILENT_NODES_MANY, SLOW_TAKE_BACK};

/// What was seen of the claims.
#[derive(Debug, Default)]
pub(super) struct ClaimsMemory {
    /// The tasks in flight, by the node they are assigned to.
    by_node: BTreeMap<String, BTreeSet<Key>>,
    node_of: BTreeMap<Key, String>,
    /// Tasks in flight that are assigned to no node.
    homeless: BTreeSet<Key>,
    /// Nodes that hold tasks: whether they had a session, and since when they are gone.
    holders: BTreeMap<String, Known>,
    watched: BTreeMap<Uid, Watched>,
    /// Tasks whose spec was edited while they were in flight.
    drifted: BTreeSet<Uid>,
    pub(super) slow: Slow,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Whether it was there while we looked.
    seen: bool,
    ours: bool,
    gone_since: Option<AwakeTime>,
}

/// One claim or placement.
#[derive(Debug, Clone, PartialEq)]
struct Watched {
    which: Which,
    since: AwakeTime,
    healthy_since: Option<AwakeTime>,
    other_session_since: Option<AwakeTime>,
    cancelled_since: Option<AwakeTime>,
    /// The last heartbeat that was looked at for the run.
    beat: Option<WallTime>,
    missing_beats: u32,
    progress: Option<WallTime>,
    moved_at: AwakeTime,
}

/// What tells one claim or placement from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Which {
    node: String,
    attempt: Option<i64>,
    claimed_at: Option<WallTime>,
    phase: Option<TaskPhase>,
}

impl Which {
    fn of(task: &Object<AgenticTask>) -> Self {
        let status = &task.status;
        Self {
            node: status.assigned_node.clone().unwrap_or_default(),
            attempt: status.attempt,
            claimed_at: status.claimed_at,
            phase: status.known_phase(),
        }
    }
}

/// While many nodes are silent, the claims of one are taken back at a time. A silent node counts whether
/// it holds claims or not: what is suspected is that we hear nothing, and of that a node without claims
/// tells as much as one with them. Where machines are only off, it costs their neighbours some seconds.
#[derive(Debug, Default)]
pub(super) struct Slow {
    last: Option<(String, AwakeTime)>,
    said: bool,
}

/// Which nodes' claims may be taken back now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    All,
    /// This one's only, and whether it is the first time that somebody has to wait.
    One {
        node: String,
        first: bool,
    },
    None,
}

impl Slow {
    /// Which of the `waiting` silent nodes may lose its claims now, while so many are `silent`; and
    /// when to ask again.
    pub(super) fn admit(
        &mut self,
        silent: usize,
        waiting: &BTreeSet<String>,
        now: AwakeTime,
    ) -> (Admitted, Option<AwakeTime>) {
        let Some(first) = waiting.first() else { return (Admitted::None, None) };
        if silent < SILENT_NODES_MANY || bugs::on(Bug::MassTakeBack) {
            self.said = false;
            self.last = Some((first.clone(), now));
            return (Admitted::All, None);
        }
        let next_at = |since: AwakeTime| Some(since + SLOW_TAKE_BACK);
        let node = match &self.last {
            Some((node, since)) if now.since(*since) < SLOW_TAKE_BACK => {
                if !waiting.contains(node) {
                    return (Admitted::None, next_at(*since));
                }
                node.clone()
            }
            last => {
                // In the order of names, so that one whose writes fail keeps no other waiting.
                let after = last.as_ref().map(|(node, _)| node.as_str()).unwrap_or_default();
                let next = waiting.iter().find(|name| name.as_str() > after).unwrap_or(first);
                self.last = Some((next.clone(), now));
                next.clone()
            }
        };
        let since = self.last.as_ref().map_or(now, |(_, since)| *since);
        let first = waiting.len() > 1 && !std::mem::replace(&mut self.said, true);
        (Admitted::One { node, first }, next_at(since))
    }
}

impl ClaimsMemory {
    /// Takes what is known of a task now; absent = it is gone or cannot be read.
    pub(super) fn task_changed(&mut self, key: &Key, task: Option<&Object<AgenticTask>>) {
        let in_flight = |task: &&Object<AgenticTask>| {
            task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
        };
        let task = task.filter(in_flight);
        let node = task.and_then(|task| task.status.assigned_node.as_ref());
        if task.is_some() && node.is_none() {
            self.homeless.insert(key.clone());
        } else {
            self.homeless.remove(key);
        }
        if self.node_of.get(key) == node {
            return;
        }
        if let Some(before) = self.node_of.remove(key)
            && let Some(keys) = self.by_node.get_mut(&before)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(&before);
            }
        }
        if let Some(node) = node {
            self.node_of.insert(key.clone(), node.clone());
            self.by_node.entry(node.clone()).or_default().insert(key.clone());
        }
    }

    /// Looks at the tasks in flight.
    pub(super) fn refresh(&mut self, world: &World, seen: &BTreeMap<Key, Seen>, now: Moment) {
        self.holders.retain(|node, _| self.by_node.contains_key(node));
        let mut watched = std::mem::take(&mut self.watched);
        for (name, keys) in &self.by_node {
            let node = world.nodes.objects.get(&Key::cluster(name.as_str()));
            let holder = self.holders.entry(name.clone()).or_default();
            match node {
                Some(node) => {
                    let ours = node.status.session.is_some();
                    *holder = Known { seen: true, ours, gone_since: None };
                }
                None => holder.gone_since = holder.gone_since.or(Some(now.awake)),
            }
            let says = node.and_then(|node| {
                let seen = seen.get(&node.key())?;
                Some((node, assess(node, seen, now.wall, now.awake)))
            });
            for task in keys.iter().filter_map(|key| world.tasks.objects.get(key)) {
                let uid = &task.meta.uid;
                let before = watched.remove(uid).filter(|known| known.which == Which::of(task));
                let mut claim = before.unwrap_or_else(|| Watched::new(task, now.awake));
                claim.look(task, says, now.awake);
                self.watched.insert(uid.clone(), claim);
            }
        }
        self.drifted.retain(|uid| self.watched.contains_key(uid));
    }

    /// One node was heard of: whether it leaves out a run for good.
    pub(super) fn look(
        &mut self,
        world: &World,
        node: &Object<FleetNode>,
        seen: &Seen,
        now: Moment,
    ) -> bool {
        let Some(keys) = self.by_node.get(&node.meta.name) else { return false };
        let says = Some((node, assess(node, seen, now.wall, now.awake)));
        let mut missing = false;
        for task in keys.iter().filter_map(|key| world.tasks.objects.get(key)) {
            let watched = self.watched.get_mut(&task.meta.uid);
            if let Some(claim) = watched.filter(|claim| claim.which == Which::of(task)) {
                claim.look(task, says, now.awake);
                missing |= claim.missing_beats >= MISSING_BEATS;
            }
        }
        missing
    }

    /// The tasks in flight that are assigned to a node.
    pub(super) fn on<'w>(&self, world: &'w World, node: &str) -> Vec<&'w Object<AgenticTask>> {
        let keys = self.by_node.get(node).into_iter().flatten();
        keys.filter_map(|key| world.tasks.objects.get(key)).collect()
    }

    /// The names of the nodes that hold tasks.
    pub(super) fn holding(&self) -> Vec<String> {
        self.by_node.keys().cloned().collect()
    }

    /// The tasks in flight that are assigned to no node.
    pub(super) fn homeless<'w>(&self, world: &'w World) -> Vec<&'w Object<AgenticTask>> {
        self.homeless.iter().filter_map(|key| world.tasks.objects.get(key)).collect()
    }

    /// What is known of a node that does not exist.
    pub(super) fn absent(
        &self,
        name: &str,
        task: &Object<AgenticTask>,
        now: AwakeTime,
    ) -> Holder<'static> {
        let known = self.holders.get(name).copied().unwrap_or_default();
        let silence = known.gone_since.map(|since| now.since(since)).unwrap_or_default();
        // Whose a placement on a node was that we never saw is not known: it is given time.
        let unclaimed = task.status.known_phase() == Some(TaskPhase::Scheduled);
        let ours = known.ours || task.status.session.is_some() || (unclaimed && !known.seen);
        Holder::Absent { silence, ours }
    }

    /// What was observed of a claim.
    pub(super) fn observed(&self, uid: &Uid, now: AwakeTime) -> Observed {
        let Some(watched) = self.watched.get(uid) else { return Observed::default() };
        let age = |since: AwakeTime| now.since(since);
        Observed {
            known_for: age(watched.since),
            healthy_for: watched.healthy_since.map(age).unwrap_or_default(),
            other_session_for: watched.other_session_since.map(age),
            missing_beats: watched.missing_beats,
            still_for: age(watched.moved_at),
            cancelled_for: watched.cancelled_since.map(age),
        }
    }

    /// When a run last moved, as its node says.
    pub(super) fn progress(&self, uid: &Uid) -> Option<WallTime> {
        self.watched.get(uid)?.progress
    }

    /// Every silence begins now.
    pub(super) fn restart_silences(&mut self, now: AwakeTime) {
        for known in self.holders.values_mut() {
            known.gone_since = known.gone_since.map(|_| now);
        }
        for watched in self.watched.values_mut() {
            watched.missing_beats = 0;
            watched.other_session_since = watched.other_session_since.map(|_| now);
            watched.healthy_since = watched.healthy_since.map(|_| now);
        }
    }

    /// Notes a new version of a task whose spec was edited after its placement, in a field that does
    /// not count any more.
    pub(super) fn note_drift(
        &mut self,
        before: Option<&Object<AgenticTask>>,
        after: &Object<AgenticTask>,
    ) {
        let Some(before) = before.filter(|before| before.meta.uid == after.meta.uid) else {
            return;
        };
        let in_flight = |task: &Object<AgenticTask>| {
            task.status.known_phase().is_some_and(TaskPhase::is_in_flight)
        };
        let edited = before.meta.generation != after.meta.generation;
        if edited && in_flight(before) && in_flight(after) && differ(&before.spec, &after.spec) {
            self.drifted.insert(after.meta.uid.clone());
        }
    }

    /// Whether a task's spec was edited after its placement.
    pub(super) fn has_drifted(&self, uid: &Uid) -> bool {
        self.drifted.contains(uid)
    }
}

/// Whether two specs differ in a field that does not count after placement.
fn differ(before: &AgenticTaskSpec, after: &AgenticTaskSpec) -> bool {
    let fixed = |spec: &AgenticTaskSpec| AgenticTaskSpec {
        suspend: None,
        cancel: None,
        priority: None,
        timeout_seconds: None,
        budget: None,
        // Read by the operator whenever it decides.
        retry: None,
        resume_wait_seconds: None,
        ..spec.clone()
    };
    fixed(before) != fixed(after)
}

impl Watched {
    fn new(task: &Object<AgenticTask>, now: AwakeTime) -> Self {
        Self {
            which: Which::of(task),
            since: now,
            healthy_since: None,
            other_session_since: None,
            cancelled_since: None,
            beat: None,
            missing_beats: 0,
            progress: None,
            moved_at: now,
        }
    }

    fn look(
        &mut self,
        task: &Object<AgenticTask>,
        says: Option<(&Object<FleetNode>, Assessment)>,
        now: AwakeTime,
    ) {
        let hold = |known: Option<AwakeTime>, holds: bool| holds.then(|| known.unwrap_or(now));
        let cancelled = task.spec.cancel == Some(true);
        self.cancelled_since = hold(self.cancelled_since, cancelled);
        let healthy = says.is_some_and(|(node, says)| is_healthy(node, says));
        self.healthy_since = hold(self.healthy_since, healthy);
        let node = says.map(|(node, _)| node);
        let other = node.is_some_and(|node| speaks_otherwise(task, node));
        let recovering = says.is_some_and(|(_, says)| says.recovering);
        self.other_session_since = hold(self.other_session_since, other && !recovering);
        let Some(node) = node else { return };
        let run = run_of(task, node);
        let progress = run.and_then(|run| run.last_progress_time);
        if progress != self.progress {
            self.progress = progress;
            self.moved_at = now;
        }
        let heartbeat = node.status.last_heartbeat_time;
        let after_claim = heartbeat > task.status.claimed_at;
        let same = task.status.session.is_some() && task.status.session == node.status.session;
        let attempt = task.status.attempt.unwrap_or(0);
        if !same || shows_run(node, &task.meta.uid, attempt) {
            self.missing_beats = 0;
        } else if after_claim && self.beat.is_some() && heartbeat != self.beat {
            self.missing_beats = self.missing_beats.saturating_add(1);
        }
        self.beat = heartbeat;
    }
}

/// Whether another life than the claim's speaks for the node. One that never beat is only on its way
/// to being registered again.
fn speaks_otherwise(task: &Object<AgenticTask>, node: &Object<FleetNode>) -> bool {
    let running = task.status.known_phase() != Some(TaskPhase::Scheduled);
    let Some(session) = task.status.session.as_ref().filter(|_| running) else { return false };
    match &node.status.session {
        Some(now) => now != session,
        None => node.status.last_heartbeat_time.is_some(),
    }
}

/// The run of a task's present claim, as its node shows it.
pub(super) fn run_of<'n>(
    task: &Object<AgenticTask>,
    node: &'n Object<FleetNode>,
) -> Option<&'n RunSummary> {
    let attempt = task.status.attempt;
    node.status.runs.iter().find(|run| {
        run.uid.as_deref() == Some(task.meta.uid.as_str())
            && (run.attempt.is_none() || run.attempt == attempt)
    })
}

#[cfg(test)]
#[path = "claims_memory_tests.rs"]
mod tests;
