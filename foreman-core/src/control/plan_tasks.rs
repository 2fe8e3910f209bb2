//! From what is known of tasks and nodes to the writes that are due.

use std::collections::BTreeMap;
use std::time::Duration;

use super::election::Moment;
use super::memory::{Avoid, Avoided, Memory};
use super::reconciler::World;
use super::room::Placing;
use super::strays;
use super::watchlist::{agent_key, workload_key};
use super::write::{Rank, Urgency, Write};
use crate::bugs::{self, Bug};
use crate::fleet::liveness::Seen;
use crate::model::agent::Agent;
use crate::model::agentic_task::{AgenticTask, AttemptEnd, TaskPhase, WaitingReason};
use crate::model::fleet_node::FleetNode;
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::time::{AwakeTime, WallTime};
use crate::model::{NodeName, Uid};
use crate::policy::admit::admit;
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::Change;
use crate::schedule::fleet::Next;
use crate::schedule::queue::Said;
use crate::schedule::resume::Without;
use crate::schedule::snapshot::{NodeRow, Snapshot, reservation_of};
use crate::schedule::{Alike, Need, fit, order, resume};
use crate::task::budget::{self, Ledger};
use crate::task::intake::{self, Facts, Shared, Step};
use crate::task::lifecycle::IllegalMove;
use crate::task::{retry, take_back, writes};
use crate::timing::{REFUSED_AVOID, WAITING_REFRESH};
use crate::workload::children;

/// The fleet at this moment with what tasks in flight hold. `seen` is what this process observed of
/// the nodes' heartbeats; a node that is not in it is seen for the first time.
pub fn snapshot_of<'a>(
    nodes: impl IntoIterator<Item = &'a Object<FleetNode>>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
    agents: &BTreeMap<Key, Object<Agent>>,
    seen: &BTreeMap<Key, Seen>,
    wall: WallTime,
    awake: AwakeTime,
) -> Snapshot {
    let rows = nodes.into_iter().filter_map(|node| {
        let first = Seen::first(node.status.last_heartbeat_time, awake);
        let seen = seen.get(&node.key()).unwrap_or(&first);
        match NodeRow::of(node, seen, wall, awake) {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::warn!(node = node.meta.name, %error, "a FleetNode is left out");
                None
            }
        }
    });
    let mut snapshot = Snapshot::new(rows);
    for task in tasks.values() {
        let agent = intake::agent_of(task, agents).map(|agent| &agent.spec);
        let held = reservation_of(task, Need::ram_gb_of(task, agent));
        if let Some((node, reservation)) = held {
            snapshot.reserve(&node, task.meta.uid.clone(), reservation);
        }
    }
    snapshot
}

/// The writes that tasks need now, and when to look again although nothing changed.
pub(super) fn plan(
    world: &World,
    memory: &mut Memory,
    now: Moment,
) -> (Vec<Write>, Option<AwakeTime>) {
    let Moment { wall, awake, boot: _ } = now;
    let mut planner = Planner { world, wall, awake, writes: Vec::new() };
    for key in memory.room.watchlist.take_due(awake) {
        planner.look_at(memory, &key);
    }
    let round_again = planner.place(memory);
    let again = [round_again, memory.room.next_alarm()];
    (planner.writes, again.into_iter().flatten().min())
}

struct Planner<'a> {
    world: &'a World,
    wall: WallTime,
    awake: AwakeTime,
    writes: Vec<Write>,
}

impl<'a> Planner<'a> {
    fn write(
        &mut self,
        task: &Object<AgenticTask>,
        change: Result<Change<AgenticTask>, IllegalMove>,
        event: Option<Event>,
        urgency: Urgency,
    ) {
        let change = match change {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(task = %task.key(), %error, "nothing is written");
                return;
            }
        };
        self.writes.push(Write::Task {
            key: task.key(),
            revision: task.revision().clone(),
            change,
            event,
            urgency,
        });
    }

    /// The task, if something may be decided about it now.
    fn free(&self, key: &Key) -> Option<&'a Object<AgenticTask>> {
        let task = self.world.tasks.objects.get(key)?;
        let here = task.meta.deletion_timestamp.is_none() && self.world.tasks.is_free(key);
        here.then_some(task)
    }

    fn look_at(&mut self, memory: &mut Memory, key: &Key) {
        memory.room.watchlist.alarms.clear(key);
        if !self.world.tasks.is_writing(key) {
            memory.doubt(key, self.awake);
        }
        let pending = |task: &&Object<AgenticTask>| {
            matches!(task.status.known_phase(), None | Some(TaskPhase::Pending))
        };
        let task = self.free(key);
        if let Some(write) = task.and_then(|task| strays::write_for(self.world, task)) {
            memory.room.fleet.leave(key);
            self.writes.push(write);
            return;
        }
        if let Some(task) = task.filter(pending) {
            if !self.intake(memory, task) {
                memory.room.fleet.leave(key);
            }
            return;
        }
        memory.room.fleet.leave(key);
        let scheduled = task.filter(|task| task.status.known_phase() == Some(TaskPhase::Scheduled));
        if let Some(task) = scheduled.filter(|task| task.spec.cancel == Some(true)) {
            let end = intake::cancelled("cancelled before it was claimed");
            self.write(task, writes::end(task, &end, self.wall), None, Urgency::Now);
        }
    }

    /// Handles everything before placement; true when the task waits for room now.
    fn intake(&mut self, memory: &mut Memory, task: &Object<AgenticTask>) -> bool {
        let owner = workload_key(task);
        let there = children::owner_among(task, &self.world.workloads.objects);
        let ledger = there.and_then(|workload| self.ledger(memory, &workload.key()));
        let shared = owner.as_ref().map(|workload| Shared {
            workload: &workload.name,
            ledger: ledger.as_ref(),
            tried: memory.room.ceilings.get(&task.meta.uid).copied(),
        });
        let facts = Facts {
            tasks: &self.world.tasks.objects,
            agents: &self.world.agents.objects,
            unreadable: [&self.world.tasks.unreadable, &self.world.agents.unreadable],
            now: self.wall,
            shared,
        };
        match intake::next(task, facts) {
            Step::End(end) => {
                let message = end.message.clone();
                let change = writes::end(task, &end, self.wall);
                let event = event(task, EventKind::Warning, "TaskEnded", message);
                self.write(task, change, Some(event), Urgency::Now);
                false
            }
            Step::Wait { reason, message, until } => {
                self.wait(memory, task, reason, &message);
                if let Some(until) = until {
                    // A record's age is in whole seconds, so look a second later.
                    let at = self.awake + until + Duration::from_secs(1);
                    memory.room.watchlist.alarms.set(&task.key(), at);
                }
                false
            }
            Step::Strike(counted) => {
                memory.struck(&task.meta.uid, &counted, self.awake);
                self.write(task, Ok(take_back::strike(&counted)), None, Urgency::Now);
                false
            }
            Step::Place => {
                let unread = |key: &Key| self.world.workloads.unreadable.contains(key);
                if let Some(key) = owner.as_ref().filter(|key| unread(key)) {
                    // Nobody knows what is left of its budget.
                    let message = format!("Workload {} cannot be read", key.name);
                    self.wait(memory, task, WaitingReason::Dependency, &message);
                    return false;
                }
                let agent = intake::agent_of(task, facts.agents);
                if let Err(forbidden) = admit(self.world.policy, task, agent)
                    && !bugs::on(Bug::PolicyNotAsked)
                {
                    let message = forbidden.to_string();
                    self.wait(memory, task, WaitingReason::PolicyForbids, &message);
                    return false;
                }
                if self.place_again(memory, task) {
                    return false;
                }
                let alike = self.alike(memory, task);
                let turn = order::turn(task);
                memory.room.fleet.wait(&task.key(), &task.meta.uid, turn, alike);
                true
            }
        }
    }

    /// Sends a placement again that may still be done, because nobody said what became of it: to the
    /// same node if it still fits, so that only one room is held for the task whichever arrives.
    fn place_again(&mut self, memory: &mut Memory, task: &Object<AgenticTask>) -> bool {
        let doubted = memory.room.placing.get(&task.key());
        let Some(placing) = doubted.filter(|placing| placing.doubted_until.is_some()) else {
            return false;
        };
        let (node, share) = (placing.node.clone(), placing.share);
        let agent = intake::agent_of(task, &self.world.agents.objects);
        let need = Need::of(task, agent.map(|agent| &agent.spec));
        let snapshot = memory.room.fleet.snapshot();
        let fits = snapshot.node(&node).is_some_and(|row| fit(snapshot, row, &need).is_empty());
        if fits {
            self.placed(memory, task, &node, "the first try had no answer", share);
        }
        fits
    }

    fn ledger(&self, memory: &Memory, workload: &Key) -> Option<Ledger> {
        let workload = self.world.workloads.objects.get(workload)?;
        let placing = |key: &Key| memory.room.placing.get(key).and_then(|p| p.allowance);
        budget::ledger(workload, &self.world.tasks.objects, placing)
    }

    /// What the task has in common with others that wait.
    fn alike(&self, memory: &mut Memory, task: &Object<AgenticTask>) -> Alike {
        let agent = intake::agent_of(task, &self.world.agents.objects);
        let mut need = resume::unbound(task, &self.world.tasks.objects, &self.world.agents.objects);
        self.resume(memory, task, &mut need);
        let uid = &task.meta.uid;
        let avoided = memory.room.fleet.snapshot().avoided(uid);
        let until = avoided.filter_map(|(node, _)| {
            memory.avoided.get(&(uid.clone(), node.clone())).map(|avoided| avoided.until)
        });
        match until.min() {
            Some(until) => memory.room.watchlist.alarms.set(&task.key(), until),
            None if budget::has_own_reserve(task, need.only.as_ref()) => {}
            None => need.uid = Uid::new(""),
        }
        let workload = children::owner_among(task, &self.world.workloads.objects)
            .filter(|workload| workload.spec.budget.is_some());
        Alike { need, agent: agent.map(Object::key), workload: workload.map(Object::key) }
    }

    /// Binds an unfinished run to the machine that holds its journal, as long as that is waited for.
    fn resume(&self, memory: &mut Memory, task: &Object<AgenticTask>, need: &mut Need) {
        let uid = &task.meta.uid;
        let Some(left) = resume::left_behind(task, memory.room.shown.get(uid)) else {
            memory.room.resuming.forget(uid);
            return;
        };
        let nothing_but_its_own = budget::has_own_reserve(task, Some(&left.node)) && {
            let ledger = workload_key(task).and_then(|key| self.ledger(memory, &key));
            ledger.is_some_and(|ledger| ledger.share() == Some(0))
        };
        let room = &mut memory.room;
        need.journal = Some(left.node.clone());
        let snapshot = room.fleet.snapshot();
        let failed = resume::failed_too_often(task, &left.node);
        let elsewhere = failed && {
            need.last_resort = Some(left.node.clone());
            let best = room.fleet.decide(need);
            best.node(snapshot).is_some_and(|best| best.name != left.node)
        };
        let says = snapshot.node(&left.node).map(|node| fit(snapshot, node, need));
        let away = elsewhere || resume::is_away(says);
        let wait = room.resuming.observe(uid, &left.node, away, self.awake);
        let Some(patience) = wait.left(resume::patience(task)) else {
            // Elsewhere it has nothing to go on with, so it goes there when the machine is back.
            if nothing_but_its_own {
                room.resuming.waits_for(uid, &left.node);
                need.only = Some(left.node).filter(|_| !away);
            }
            return;
        };
        if wait.runs() {
            room.watchlist.alarms.set(&task.key(), self.awake + patience);
        }
        room.resuming.waits_for(uid, &left.node);
        if !elsewhere {
            // Nobody else would take it either: it may go there.
            need.last_resort = None;
        }
        need.only = Some(left.node);
    }

    /// Says why a task waits. Counts in the message are refreshed at most every 30 s, and so is a
    /// reason that somebody else put over ours: a control loop that sees the fleet otherwise.
    fn wait(
        &mut self,
        memory: &mut Memory,
        task: &Object<AgenticTask>,
        reason: WaitingReason,
        message: &str,
    ) {
        let shown = task.status.waiting.as_ref();
        let same_reason =
            shown.is_some_and(|w| w.reason.as_ref().is_some_and(|known| known.is(reason)));
        let same_words = shown.and_then(|w| w.message.as_deref()) == Some(message);
        let pending = task.status.phase.is_some();
        if pending && same_reason && same_words {
            return;
        }
        let known = shown.and_then(|waiting| waiting.reason.as_ref());
        let told = memory.told.get(&task.meta.uid).copied();
        let told = told.filter(|(_, ours)| {
            pending && known.is_some_and(|known| same_reason || !known.is(*ours))
        });
        if let Some((told, _)) = told {
            let again = told + WAITING_REFRESH;
            if self.awake < again {
                memory.room.watchlist.alarms.set(&task.key(), again);
                return;
            }
        }
        memory.told.insert(task.meta.uid.clone(), (self.awake, reason));
        let message_of_event = format!("{reason}: {message}");
        let event =
            (!same_reason).then(|| event(task, EventKind::Normal, "TaskWaiting", message_of_event));
        let rank = match (pending, same_reason) {
            (false, _) => Rank::FirstWait,
            (true, false) => Rank::Reason,
            (true, true) => Rank::Counts,
        };
        let change = writes::wait(task, reason, message, self.wall);
        self.write(task, change, event, Urgency::Lane(rank));
    }

    /// Gives the waiting tasks their turns, and tells those that find no room why. Answers when there
    /// may be more to tell.
    fn place(&mut self, memory: &mut Memory) -> Option<AwakeTime> {
        let mut round = memory.room.fleet.begin(self.awake);
        while let Some(next) = memory.room.fleet.next(&mut round) {
            let Some(task) = self.free(next.key()) else {
                memory.room.fleet.skip(&mut round, &next);
                continue;
            };
            let ledger = memory.room.fleet.alike(&next).and_then(|a| a.workload.clone());
            let ledger = ledger.and_then(|key| Some((self.ledger(memory, &key)?, key)));
            if let Some(said) = self.held_up(memory, task, &next, ledger.as_ref()) {
                memory.room.fleet.block(&round, &next, said);
                continue;
            }
            if let Some((node, why)) = memory.room.fleet.place(&mut round, &next) {
                let share = ledger.and_then(|(ledger, _)| ledger.share_of(task));
                self.placed(memory, task, &node, &why.join(", "), share);
            }
        }
        let (tellings, again) = memory.room.fleet.end(round);
        for telling in tellings {
            let (reason, message) = telling.said;
            for key in &telling.tasks {
                if let Some(task) = self.free(key) {
                    self.wait(memory, task, reason, &message);
                }
            }
        }
        again
    }

    /// How many tasks an Agent has in flight, with those that are being placed.
    fn running(&self, memory: &Memory, agent: &Key) -> usize {
        let running = memory.room.fleet.running(agent);
        if !bugs::on(Bug::AgentLimitStale) {
            return running;
        }
        let of_agent = |key: &&Key| {
            let task = self.world.tasks.objects.get(*key);
            task.and_then(agent_key).as_ref() == Some(agent)
        };
        running.saturating_sub(memory.room.placing.keys().filter(of_agent).count())
    }

    /// What but room holds up a task whose turn it is.
    fn held_up(
        &self,
        memory: &Memory,
        task: &Object<AgenticTask>,
        next: &Next,
        ledger: Option<&(Ledger, Key)>,
    ) -> Option<Said> {
        let fleet = &memory.room.fleet;
        let alike = fleet.alike(next)?;
        let agent = alike.agent.as_ref();
        if let Some(agent) = agent.and_then(|key| self.world.agents.objects.get(key))
            && let Some(message) = intake::agent_at_limit(agent, self.running(memory, &agent.key()))
        {
            return Some((WaitingReason::AgentAtLimit, message));
        }
        let (ledger, key) = ledger?;
        let said = ledger.holds_up(task, alike.need.only.as_ref(), &key.name)?;
        Some((WaitingReason::BudgetExhausted, said))
    }

    fn placed(
        &mut self,
        memory: &mut Memory,
        task: &Object<AgenticTask>,
        node: &NodeName,
        why: &str,
        share: Option<i64>,
    ) {
        let (uid, room) = (&task.meta.uid, &mut memory.room);
        let allowance = budget::allowance(task, share);
        let before = room.placing.get(&task.key());
        let placing = Placing {
            uid: uid.clone(),
            node: node.clone(),
            share,
            allowance,
            revision: task.revision().clone(),
            doubted_until: before.and_then(|before| before.doubted_until),
        };
        room.placing.insert(task.key(), placing);
        if retry::is_ambiguous(task, node) {
            // Placed once that is written.
            self.write(task, Ok(take_back::rearm(task)), None, Urgency::Now);
            return;
        }
        room.ceilings.insert(uid.clone(), budget::ceiling(task, share));
        memory.told.remove(uid);
        let left = resume::left_behind(task, memory.room.shown.get(uid));
        let lost = left.filter(|left| left.node != *node && left.turn > 0);
        let placed = format!("placed on {node}: {why}");
        let event = match lost {
            None => event(task, EventKind::Normal, "TaskPlaced", placed.clone()),
            Some(left) => {
                let failed = resume::failed_too_often(task, &left.node);
                let why = if failed { Without::Failed } else { Without::Away };
                let message = resume::repeats(&left, why, node);
                event(task, EventKind::Warning, "RestartedWithoutJournal", message)
            }
        };
        let change = writes::place(task, node, allowance, &placed, self.wall);
        self.write(task, change, Some(event), Urgency::Now);
    }
}

fn event(
    task: &Object<AgenticTask>,
    severity: EventKind,
    reason: &'static str,
    message: String,
) -> Event {
    Event { kind: AgenticTask::NAMES.kind, key: task.key(), severity, reason, message }
}

/// Notes what a new version of a task tells about the old one: an agent that gave the task back
/// unclaimed is not asked again for a while, and asked nothing until it is heard of again.
pub(super) fn note_refusal(
    memory: &mut Memory,
    nodes: &BTreeMap<Key, Object<FleetNode>>,
    before: Option<&Object<AgenticTask>>,
    after: &Object<AgenticTask>,
    awake: AwakeTime,
) {
    let Some(before) = before else { return };
    let was = before.status.assigned_node.as_deref().and_then(|node| NodeName::parse(node).ok());
    let scheduled = before.status.known_phase() == Some(TaskPhase::Scheduled);
    let given_back = after.status.known_phase() == Some(TaskPhase::Pending);
    let refused = after
        .status
        .conditions
        .iter()
        .any(|condition| condition.kind == "Running" && condition.reason == REFUSED_REASON);
    if let (Some(node), true, true, true) = (was, scheduled, given_back, refused) {
        let avoided = Avoided { how: Avoid::Hard, until: awake + REFUSED_AVOID };
        let key = Key::cluster(node.as_str());
        if let Some(known) = nodes.get(&key) {
            memory.room.refused(key, known.status.last_heartbeat_time, awake);
        }
        memory.avoid(after.meta.uid.clone(), node, avoided);
    }
}

/// The reason of `Running=False` when an agent refuses a placement.
pub(super) const REFUSED_REASON: &str = AttemptEnd::Refused.as_str();
