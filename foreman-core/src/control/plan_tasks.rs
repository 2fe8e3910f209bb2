//! From what is known of tasks and nodes to the writes that are due.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::{Avoided, Memory};
use super::reconciler::World;
use super::write::{Rank, Urgency, Write};
use crate::fleet::liveness::Seen;
use crate::model::NodeName;
use crate::model::agent::Agent;
use crate::model::agentic_task::{AgenticTask, AttemptEnd, TaskPhase, WaitingReason};
use crate::model::fleet_node::FleetNode;
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::time::{AwakeTime, WallTime};
use crate::policy::admit::admit;
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::Change;
use crate::schedule::explain::waiting;
use crate::schedule::order::{self, Turn};
use crate::schedule::scheduler::{Placement, Scheduler};
use crate::schedule::snapshot::{NodeRow, Reservation, Snapshot, reservation_of};
use crate::schedule::{Avoid, Need};
use crate::task::intake::{self, Facts, Step};
use crate::task::lifecycle::IllegalMove;
use crate::task::writes;
use crate::timing::{REFUSED_AVOID, WAITING_REFRESH};

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
        let need = Need::of(task, intake::agent_of(task, agents).map(|agent| &agent.spec));
        if let Some((node, reservation)) = reservation_of(task, need.ram_gb) {
            snapshot.reserve(&node, task.meta.uid.clone(), reservation);
        }
    }
    snapshot
}

/// The writes that tasks need now, and when to look again although nothing changed.
pub(super) fn plan(
    world: &World,
    memory: &mut Memory,
    wall: WallTime,
    awake: AwakeTime,
) -> (Vec<Write>, Option<AwakeTime>) {
    let mut planner = Planner { world, wall, awake, writes: Vec::new(), look_again: None };
    let mut queue: Vec<(Turn, &Object<AgenticTask>)> = Vec::new();
    for task in world.tasks.objects.values() {
        if task.meta.deletion_timestamp.is_some() || !world.tasks.is_free(&task.key()) {
            continue;
        }
        match task.status.known_phase() {
            None | Some(TaskPhase::Pending) => {
                if planner.intake(memory, task) {
                    queue.push((order::turn(task), task));
                }
            }
            Some(TaskPhase::Scheduled) if task.spec.cancel == Some(true) => {
                let end = intake::cancelled("cancelled before it was claimed");
                planner.write(task, writes::end(task, &end, wall), None);
            }
            Some(
                TaskPhase::Scheduled
                | TaskPhase::Running
                | TaskPhase::Verifying
                | TaskPhase::Succeeded
                | TaskPhase::Failed,
            ) => {}
        }
    }
    if !queue.is_empty() {
        queue.sort_by(|(a, _), (b, _)| a.cmp(b));
        planner.place(memory, queue.into_iter().map(|(_, task)| task));
    }
    (planner.writes, planner.look_again)
}

struct Planner<'a> {
    world: &'a World,
    wall: WallTime,
    awake: AwakeTime,
    writes: Vec<Write>,
    look_again: Option<AwakeTime>,
}

impl Planner<'_> {
    fn write(
        &mut self,
        task: &Object<AgenticTask>,
        change: Result<Change<AgenticTask>, IllegalMove>,
        event: Option<Event>,
    ) {
        self.write_with(Urgency::Now, task, change, event);
    }

    fn write_with(
        &mut self,
        urgency: Urgency,
        task: &Object<AgenticTask>,
        change: Result<Change<AgenticTask>, IllegalMove>,
        event: Option<Event>,
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

    fn wake_in(&mut self, pause: Duration) {
        self.wake_at(self.awake + pause);
    }

    fn wake_at(&mut self, at: AwakeTime) {
        self.look_again = Some(self.look_again.map_or(at, |known| known.min(at)));
    }

    /// Handles everything before placement; true when the task is to be placed.
    fn intake(&mut self, memory: &mut Memory, task: &Object<AgenticTask>) -> bool {
        let facts = Facts {
            tasks: &self.world.tasks.objects,
            agents: &self.world.agents.objects,
            unreadable: [&self.world.tasks.unreadable, &self.world.agents.unreadable],
            now: self.wall,
        };
        match intake::next(task, facts) {
            Step::End(end) => {
                let message = end.message.clone();
                self.write(
                    task,
                    writes::end(task, &end, self.wall),
                    Some(Event {
                        kind: AgenticTask::NAMES.kind,
                        key: task.key(),
                        severity: EventKind::Warning,
                        reason: "TaskEnded",
                        message,
                    }),
                );
                false
            }
            Step::Wait { reason, message, until } => {
                self.wait(memory, task, reason, &message);
                if let Some(until) = until {
                    // A record's age is in whole seconds, so look a second later.
                    self.wake_in(until + Duration::from_secs(1));
                }
                false
            }
            Step::Place => {
                let agent = intake::agent_of(task, facts.agents);
                let admitted = admit(self.world.policy, task, agent);
                if let Err(forbidden) = &admitted {
                    let message = forbidden.to_string();
                    self.wait(memory, task, WaitingReason::PolicyForbids, &message);
                }
                admitted.is_ok()
            }
        }
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
            let age = self.awake.since(told);
            if age < WAITING_REFRESH {
                self.wake_in(WAITING_REFRESH.saturating_sub(age));
                return;
            }
        }
        memory.told.insert(task.meta.uid.clone(), (self.awake, reason));
        let event = (!same_reason).then(|| Event {
            kind: AgenticTask::NAMES.kind,
            key: task.key(),
            severity: EventKind::Normal,
            reason: "TaskWaiting",
            message: format!("{reason}: {message}"),
        });
        let rank = match (pending, same_reason) {
            (false, _) => Rank::FirstWait,
            (true, false) => Rank::Reason,
            (true, true) => Rank::Counts,
        };
        let change = writes::wait(task, reason, message, self.wall);
        self.write_with(Urgency::Lane(rank), task, change, event);
    }

    fn place<'t>(
        &mut self,
        memory: &mut Memory,
        queue: impl Iterator<Item = &'t Object<AgenticTask>>,
    ) {
        let agents = &self.world.agents.objects;
        let mut snapshot = snapshot_of(
            self.world.nodes.objects.values(),
            &self.world.tasks.objects,
            agents,
            &memory.seen,
            self.wall,
            self.awake,
        );
        for (uid, (node, reservation)) in &memory.placing {
            snapshot.reserve(node, uid.clone(), reservation.clone());
        }
        for ((uid, node), avoided) in &memory.avoided {
            snapshot.avoid(uid.clone(), node.clone(), avoided.how);
            self.wake_at(avoided.until);
        }
        let mut scheduler = Scheduler::new(snapshot);
        let mut per_agent = intake::in_flight_by_agent(self.world.tasks.objects.values(), |task| {
            memory.placing.contains_key(&task.meta.uid)
        });
        for task in queue {
            let agent = intake::agent_of(task, agents);
            if let Some(agent) = agent {
                let running = per_agent.get(&agent.key()).copied().unwrap_or(0);
                if let Some(message) = intake::agent_at_limit(agent, running) {
                    self.wait(memory, task, WaitingReason::AgentAtLimit, &message);
                    continue;
                }
            }
            let need = Need::of(task, agent.map(|agent| &agent.spec));
            match scheduler.place(task.key(), &need) {
                Placement::On { node, why } => {
                    let message = format!("placed on {node}: {}", why.join(", "));
                    let reservation = Reservation { task: task.key(), ram_gb: need.ram_gb };
                    memory.placing.insert(task.meta.uid.clone(), (node.clone(), reservation));
                    memory.told.remove(&task.meta.uid);
                    if let Some(agent) = agent {
                        *per_agent.entry(agent.key()).or_default() += 1;
                    }
                    let change = writes::place(task, &node, &message, self.wall);
                    self.write(
                        task,
                        change,
                        Some(Event {
                            kind: AgenticTask::NAMES.kind,
                            key: task.key(),
                            severity: EventKind::Normal,
                            reason: "TaskPlaced",
                            message,
                        }),
                    );
                }
                Placement::Nowhere(refused) => {
                    let (reason, message) = waiting(&refused, &need);
                    self.wait(memory, task, reason, &message);
                }
            }
        }
        self.wake_for_nodes(memory);
    }

    /// A node that falls silent changes decisions without an event.
    fn wake_for_nodes(&mut self, memory: &Memory) {
        let (wall, awake) = (self.wall, self.awake);
        let next = memory.seen.values().filter_map(|seen| seen.fresh_until(wall, awake)).min();
        if let Some(at) = next {
            self.wake_in(at.since(awake) + Duration::from_secs(1));
        }
    }
}

/// Notes what a new version of a task tells about the old one: an agent that gave the task back
/// unclaimed is not asked again for a while.
pub(super) fn note_refusal(
    memory: &mut Memory,
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
        memory.avoid(after.meta.uid.clone(), node, avoided);
    }
}

/// The reason of `Running=False` when an agent refuses a placement.
pub(super) const REFUSED_REASON: &str = AttemptEnd::Refused.as_str();
