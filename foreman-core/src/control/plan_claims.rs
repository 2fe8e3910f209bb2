//! From what is known of the claims and of their holders to the writes that are due: strikes,
//! take-backs, ends. A strike is written before its claim is taken back, and what a decision rests on
//! is read afresh before each of the two.

use std::collections::BTreeSet;
use std::time::Duration;

use super::claims_memory::{Admitted, run_of};
use super::confirm::{Confirm, Shows};
use super::election::Moment;
use super::memory::{Avoid, Avoided, Memory};
use super::reconciler::World;
use super::write::{Urgency, Write};
use crate::fleet::liveness::assess;
use crate::model::NodeName;
use crate::model::agentic_task::{AgenticTask, AttemptEnd, TaskPhase};
use crate::model::condition::{ConditionStatus, find_condition, is_true};
use crate::model::fleet_node::FleetNode;
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::open::Open;
use crate::model::time::{AwakeTime, WallTime};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::Change;
use crate::task::budget;
use crate::task::hanging::{self, Finding, Holder, Loss, Observed};
use crate::task::lifecycle::IllegalMove;
use crate::task::retry::{self, Counted};
use crate::task::take_back::{self, TakeBack};
use crate::task::writes::{self, LostClaim, OperatorEnd};
use crate::timing::{
    CANCEL_GRACE, NODE_DEAD, SESSION_GONE, SLOW_TAKE_BACK, STUCK, UNCLAIMED, UNCLAIMED_AVOID,
};

/// The writes that claims need now, and when to look again although nothing changed.
pub(super) fn plan(
    world: &World,
    memory: &mut Memory,
    now: Moment,
) -> (Vec<Write>, Option<AwakeTime>) {
    let Moment { wall, awake, boot: _ } = now;
    let mut planner = Planner { world, wall, awake, writes: Vec::new(), look_again: None };
    for task in memory.claims.homeless(world) {
        if planner.is_ours_to_write(task) {
            planner.no_holder(task);
        }
    }
    let mut lost = Vec::new();
    // With claims or without.
    let mut silent = BTreeSet::new();
    for (key, node) in &world.nodes.objects {
        let Some(seen) = memory.seen.get(key) else { continue };
        if assess(node, seen, wall, awake).dead {
            silent.insert(node.meta.name.clone());
        }
    }
    for name in memory.claims.holding() {
        let key = Key::cluster(name.as_str());
        if let Some(until) = memory.nodes.doubted_until(&key) {
            planner.wake_at(until);
            continue;
        }
        if world.nodes.unreadable.contains(&key) {
            continue;
        }
        let judged = memory.seen.get(&key).and_then(|seen| seen.judged_again_at(wall, awake));
        if let Some(at) = judged {
            planner.wake_at(at);
        }
        for task in memory.claims.on(world, &name) {
            let holder = match (world.nodes.objects.get(&key), memory.seen.get(&key)) {
                (Some(node), Some(seen)) => {
                    Holder::There { node, says: assess(node, seen, wall, awake) }
                }
                (_, _) => memory.claims.absent(&name, task, awake),
            };
            if let Some(loss) = planner.claim(memory, task, holder) {
                if loss.loss.ended == AttemptEnd::NodeLost {
                    silent.insert(name.clone());
                }
                lost.push((name.clone(), task, holder, loss));
            }
        }
    }
    planner.take_back(memory, silent.len(), lost);
    (planner.writes, planner.look_again)
}

/// A claim that is lost, and how its task ends where it is not to be tried again.
struct Lost {
    loss: Loss,
    end: Option<OperatorEnd>,
}

struct Planner<'a> {
    world: &'a World,
    wall: WallTime,
    awake: AwakeTime,
    writes: Vec<Write>,
    look_again: Option<AwakeTime>,
}

impl<'a> Planner<'a> {
    fn wake_at(&mut self, at: AwakeTime) {
        self.look_again = Some(self.look_again.map_or(at, |known| known.min(at)));
    }

    /// Wakes when an age that is known now reaches a limit.
    fn wake_for(&mut self, age: Duration, limit: Duration) {
        if age <= limit {
            self.wake_at(self.awake + limit.saturating_sub(age) + Duration::from_secs(1));
        }
    }

    /// Nothing is written of what is on its way out, and of what somebody else's version does.
    fn is_ours_to_write(&self, task: &Object<AgenticTask>) -> bool {
        let known = task.status.phase.as_ref().and_then(Open::known).is_some();
        known && task.meta.deletion_timestamp.is_none() && self.world.tasks.is_free(&task.key())
    }

    fn end(&self, task: &Object<AgenticTask>, end: &OperatorEnd) -> Option<Write> {
        let event = warning(task, "TaskEnded", end.message.clone());
        legal(task, writes::end(task, end, self.wall), event)
    }

    fn end_lost(
        &self,
        task: &Object<AgenticTask>,
        end: &OperatorEnd,
        claim: LostClaim,
    ) -> Option<Write> {
        let event = warning(task, "TaskEnded", end.message.clone());
        legal(task, writes::end_lost(task, end, claim, self.wall), event)
    }

    fn back(
        &self,
        task: &Object<AgenticTask>,
        ended: Option<AttemptEnd>,
        reason: &'static str,
        message: &str,
        turn: Option<i64>,
    ) -> Option<Write> {
        // Nobody knows what a holder that is lost has spent.
        let usage = ended.and_then(|_| budget::charge_dead_holder(&task.status));
        let back = TakeBack { ended, message: message.to_owned(), turn, usage };
        let event = warning(task, reason, message.to_owned());
        legal(task, take_back::take_back(task, &back, self.wall), event)
    }

    /// A task in flight that names no node is nobody's.
    fn no_holder(&mut self, task: &Object<AgenticTask>) {
        let message = "it was in flight and assigned to no node";
        let write = self.back(task, Some(AttemptEnd::NodeLost), "ClaimExpired", message, None);
        self.writes.extend(write);
    }

    /// Decides about one claim; what is lost is given back, because it may have to wait.
    fn claim(
        &mut self,
        memory: &mut Memory,
        task: &'a Object<AgenticTask>,
        holder: Holder<'a>,
    ) -> Option<Lost> {
        if !self.is_ours_to_write(task) {
            return None;
        }
        if let Some(counted) = retry::count_ended(task) {
            let write = strike(self.awake, memory, task, &counted);
            self.writes.push(write);
            return None;
        }
        if let Some(end) = retry::used_up_in_flight(task) {
            self.writes.extend(self.end(task, &end));
            return None;
        }
        let observed = memory.claims.observed(&task.meta.uid, self.awake);
        self.wake_for_ages(task, holder, observed);
        match hanging::judge(task, holder, observed, self.wall) {
            Finding::Lost(loss) => return Some(Lost { loss, end: None }),
            Finding::LostAndEnds(loss, end) => return Some(Lost { loss, end: Some(end) }),
            Finding::Ends(end) => self.writes.extend(self.end(task, &end)),
            Finding::Unclaimed(message) => {
                let node = task.status.assigned_node.as_deref().map(NodeName::parse);
                if let Some(Ok(node)) = node {
                    let until = self.awake + UNCLAIMED_AVOID;
                    let avoided = Avoided { how: Avoid::Hard, until };
                    memory.avoid(task.meta.uid.clone(), node, avoided);
                }
                let write = self.back(task, None, "PlacementUnclaimed", &message, None);
                self.writes.extend(write);
            }
            Finding::Stuck => self.says(memory, task, true),
            Finding::GoesOn => self.says(memory, task, false),
        }
        None
    }

    /// Ages that bring another decision without an event.
    fn wake_for_ages(&mut self, task: &Object<AgenticTask>, holder: Holder<'_>, now: Observed) {
        let limits = [
            (now.cancelled_for, CANCEL_GRACE),
            (now.other_session_for, SESSION_GONE),
            (hanging::time_left(task, holder, now, self.wall), Duration::MAX),
        ];
        for (age, limit) in limits {
            match age {
                // What is left is no age.
                Some(left) if limit == Duration::MAX => self.wake_for(Duration::ZERO, left),
                Some(age) => self.wake_for(age, limit),
                None => {}
            }
        }
        match holder {
            Holder::Absent { silence, .. } => self.wake_for(silence, NODE_DEAD),
            Holder::There { node, says } if hanging::is_healthy(node, says) => {
                if task.status.known_phase() == Some(TaskPhase::Scheduled) {
                    self.wake_for(now.healthy_for, UNCLAIMED);
                } else {
                    self.wake_for(now.still_for, STUCK);
                }
            }
            Holder::There { .. } => {}
        }
    }

    /// Says whether a run moves, and whether its task's spec was edited too late.
    fn says(&mut self, memory: &Memory, task: &Object<AgenticTask>, stuck: bool) {
        let conditions = &task.status.conditions;
        let shown = is_true(conditions, "Stuck");
        if stuck && !shown {
            let minutes = STUCK.as_secs() / 60;
            let message = format!("it did not move for {minutes} minutes; it goes on");
            let yes = ConditionStatus::True;
            let change =
                take_back::condition(task, "Stuck", yes, "NoProgress", &message, self.wall);
            let event = warning(task, "TaskStuck", message);
            self.writes.push(write(task, change, Some(event)));
        } else if !stuck && shown && moved_since_stuck(memory, task) {
            let no = ConditionStatus::False;
            let change = take_back::condition(task, "Stuck", no, "Moves", "it moves", self.wall);
            self.writes.push(write(task, change, None));
        } else if memory.claims.has_drifted(&task.meta.uid) && !is_true(conditions, "SpecDrift") {
            let message = "the spec was edited after the task was placed: only suspend, cancel, \
                           priority, timeoutSeconds and budget count now";
            let yes = ConditionStatus::True;
            let change =
                take_back::condition(task, "SpecDrift", yes, "EditedTooLate", message, self.wall);
            let event = warning(task, "SpecDrift", message.to_owned());
            self.writes.push(write(task, change, Some(event)));
        }
    }

    /// Takes lost claims back, as many as may be now.
    fn take_back(
        &mut self,
        memory: &mut Memory,
        silent: usize,
        lost: Vec<(String, &'a Object<AgenticTask>, Holder<'a>, Lost)>,
    ) {
        let by_silence = |lost: &Lost| lost.loss.ended == AttemptEnd::NodeLost;
        let waiting: BTreeSet<_> = lost
            .iter()
            .filter(|(_, _, _, lost)| by_silence(lost))
            .map(|(name, ..)| name.clone())
            .collect();
        let (admitted, again) = memory.claims.slow.admit(silent, &waiting, self.awake);
        if let Some(again) = again {
            self.wake_at(again);
        }
        for (name, task, holder, lost) in lost {
            let first = match &admitted {
                _ if !by_silence(&lost) => false,
                Admitted::All => false,
                Admitted::One { node, first } if *node == name => *first,
                Admitted::One { .. } | Admitted::None => continue,
            };
            let Some(mut write) = self.lost(memory, task, holder, &lost) else { continue };
            if first {
                slowed(&mut write, &name, silent, waiting.len());
            }
            let shows = confirms(task, holder, &lost.loss);
            let confirm = Confirm::new(Key::cluster(name), shows);
            self.writes.push(Write::Confirmed { confirm, then: Box::new(write) });
        }
    }

    /// The next write for a claim that is lost: first the strike, then the end or the take-back.
    fn lost(
        &self,
        memory: &mut Memory,
        task: &Object<AgenticTask>,
        holder: Holder<'_>,
        lost: &Lost,
    ) -> Option<Write> {
        let run = match holder {
            Holder::There { node, .. } => run_of(task, node),
            Holder::Absent { .. } => None,
        };
        let turn = run.and_then(|run| run.turn);
        let claim = LostClaim { ended: lost.loss.ended, turn };
        if let Some(end) = &lost.end {
            return self.end_lost(task, end, claim);
        }
        if !retry::is_counted(task) {
            let counted = retry::count_present(task, turn)?;
            return Some(strike(self.awake, memory, task, &counted));
        }
        if let Some(end) = retry::end_with_loss(task, lost.loss.ended, &lost.loss.message) {
            return self.end_lost(task, &end, claim);
        }
        self.back(task, Some(lost.loss.ended), "ClaimExpired", &lost.loss.message, turn)
    }
}

/// What a fresh read of the holder must show.
fn confirms(task: &Object<AgenticTask>, holder: Holder<'_>, loss: &Loss) -> Shows {
    let session = task.status.session.clone().unwrap_or_default();
    match holder {
        Holder::Absent { .. } => Shows::Absent,
        Holder::There { .. } if loss.ended == AttemptEnd::SessionLost => {
            Shows::OtherSessionThan(session)
        }
        Holder::There { .. } if loss.ended == AttemptEnd::Missing => {
            let attempt = task.status.attempt.unwrap_or(0);
            Shows::NotRunning { session, uid: task.meta.uid.clone(), attempt }
        }
        Holder::There { node, .. } => Shows::silence_of(node),
    }
}

fn write(task: &Object<AgenticTask>, change: Change<AgenticTask>, event: Option<Event>) -> Write {
    let (key, revision) = (task.key(), task.revision().clone());
    Write::Task { key, revision, change, event, urgency: Urgency::Now }
}

fn legal(
    task: &Object<AgenticTask>,
    change: Result<Change<AgenticTask>, IllegalMove>,
    event: Event,
) -> Option<Write> {
    match change {
        Ok(change) => Some(write(task, change, Some(event))),
        Err(error) => {
            tracing::error!(task = %task.key(), %error, "nothing is written");
            None
        }
    }
}

/// Counts strikes, and keeps the task away from who struck it.
fn strike(
    awake: AwakeTime,
    memory: &mut Memory,
    task: &Object<AgenticTask>,
    counted: &Counted,
) -> Write {
    memory.struck(&task.meta.uid, counted, awake);
    write(task, take_back::strike(counted), None)
}

/// Whether the run moved since it was said to be stuck, also if another control loop said so.
fn moved_since_stuck(memory: &Memory, task: &Object<AgenticTask>) -> bool {
    let said = find_condition(&task.status.conditions, "Stuck");
    let said = said.map(|stuck| stuck.last_transition_time);
    memory.claims.progress(&task.meta.uid) > said
}

fn warning(task: &Object<AgenticTask>, reason: &'static str, message: String) -> Event {
    let kind = AgenticTask::NAMES.kind;
    Event { kind, key: task.key(), severity: EventKind::Warning, reason, message }
}

/// Says that claims are taken back slowly, with the first write that is.
fn slowed(write: &mut Write, node: &str, silent: usize, waiting: usize) {
    if let Write::Task { event, .. } = write {
        let pause = SLOW_TAKE_BACK.as_secs();
        *event = Some(Event {
            kind: FleetNode::NAMES.kind,
            key: Key::cluster(node),
            severity: EventKind::Warning,
            reason: "TakeBacksSlowed",
            message: format!(
                "{silent} nodes are silent and {waiting} of them hold tasks: one node's are taken \
                 back each {pause} s"
            ),
        });
    }
}
