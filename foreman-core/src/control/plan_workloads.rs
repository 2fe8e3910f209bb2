//! From what is known of workloads and their tasks to the writes that are due.

use std::time::Duration;

use super::memory::{Memory, RefusedChild};
use super::reconciler::World;
use super::write::{Rank, Urgency, Write};
use crate::model::agentic_task::{AgenticTask, TaskPhase};
use crate::model::condition::{ConditionStatus, set_condition};
use crate::model::ids::Key;
use crate::model::object::{API_VERSION, Kind, Object};
use crate::model::open::Open;
use crate::model::shared::ObjectReference;
use crate::model::time::{AwakeTime, WallTime};
use crate::model::workload::{StepRecord, Workload, WorkloadPhase, WorkloadStatus};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Change, Part};
use crate::timing::STEPS_FOLD;
use crate::workload::children;
use crate::workload::expand::{self, DesiredStep, PlanError};
use crate::workload::rollup::{self, RollUp};

/// The writes that workloads need now, and when to look again although nothing changed.
pub(super) fn plan(
    world: &World,
    memory: &mut Memory,
    wall: WallTime,
    awake: AwakeTime,
) -> (Vec<Write>, Option<AwakeTime>) {
    let mut writes = Vec::new();
    let mut look_again: Option<AwakeTime> = None;
    for workload in world.workloads.objects.values() {
        let phase = workload.status.phase.as_ref().and_then(Open::known);
        let ended = phase.is_some_and(WorkloadPhase::is_terminal);
        let busy = !world.workloads.is_free(&workload.key());
        if workload.meta.deletion_timestamp.is_some() || ended || busy {
            continue;
        }
        let planner = Planner { world, workload, wall };
        match memory.refused.get(&workload.meta.uid) {
            Some(RefusedChild::ForGood(why)) => {
                writes.extend(planner.give_up(planner.child_refused(why)));
                continue;
            }
            Some(RefusedChild::ForNow(backoff)) => {
                if let Some(at) = backoff.until(awake) {
                    look_again = Some(look_again.map_or(at, |known| known.min(at)));
                    continue;
                }
            }
            None => {}
        }
        match expand::desired(&workload.spec) {
            Err(error) => writes.extend(planner.give_up(planner.no_plan(&error))),
            Ok(desired) => {
                let due = memory.folded.get(&workload.meta.uid).copied();
                let due = due.map_or(awake, |last| last + STEPS_FOLD);
                let step = planner.next(&desired, awake >= due);
                if step.folded {
                    memory.folded.insert(workload.meta.uid.clone(), awake);
                }
                if step.fold_later {
                    let at = due.max(awake + Duration::from_millis(1));
                    look_again = Some(look_again.map_or(at, |known| known.min(at)));
                }
                writes.extend(step.writes);
            }
        }
    }
    (writes, look_again)
}

#[derive(Default)]
struct Next {
    writes: Vec<Write>,
    folded: bool,
    fold_later: bool,
}

struct Planner<'a> {
    world: &'a World,
    workload: &'a Object<Workload>,
    wall: WallTime,
}

impl Planner<'_> {
    fn write(&self, change: Change<Workload>, event: Option<Event>) -> Write {
        self.write_with(Urgency::Now, change, event)
    }

    fn write_with(
        &self,
        urgency: Urgency,
        change: Change<Workload>,
        event: Option<Event>,
    ) -> Write {
        Write::Workload {
            key: self.workload.key(),
            revision: self.workload.revision().clone(),
            change,
            event,
            urgency,
        }
    }

    fn event(&self, severity: EventKind, reason: &'static str, message: String) -> Event {
        Event { kind: Workload::NAMES.kind, key: self.workload.key(), severity, reason, message }
    }

    fn child(&self, record: &StepRecord) -> Option<&Object<AgenticTask>> {
        let task = self.world.tasks.objects.get(&self.task_key(record)?)?;
        children::is_child(task, self.workload, &record.name).then_some(task)
    }

    fn task_key(&self, record: &StepRecord) -> Option<Key> {
        let name = record.task.clone()?;
        Some(Key { namespace: self.workload.meta.namespace.clone(), name })
    }

    /// No plan is possible: the workload ends and says why.
    fn no_plan(&self, error: &PlanError) -> Write {
        self.failed_plan(error.reason(), error.to_string())
    }

    /// The store will never take a child of this plan.
    fn child_refused(&self, why: &str) -> Write {
        self.failed_plan("AgentResolveFailed", format!("a task of the plan was refused: {why}"))
    }

    /// Ends the workload, once no child is left that nobody would look after: each is cancelled
    /// before, and what is being created is waited for.
    fn give_up(&self, failed: Write) -> Vec<Write> {
        let records = &self.workload.status.steps;
        let tasks = &self.world.tasks;
        let creating = |record| self.task_key(record).is_some_and(|key| tasks.is_writing(&key));
        if records.iter().any(creating) {
            return Vec::new();
        }
        let left: Vec<_> = records
            .iter()
            .filter_map(|record| self.child(record))
            .filter(|child| !has_ended(child) && child.spec.cancel != Some(true))
            .collect();
        if left.is_empty() {
            return vec![failed];
        }
        let free = left.into_iter().filter(|child| tasks.is_free(&child.key()));
        free.map(|child| copy(child, Change::of(Part::Spec).set("cancel", true))).collect()
    }

    fn failed_plan(&self, reason: &'static str, message: String) -> Write {
        let mut next = self.workload.status.clone();
        let set = |next: &mut WorkloadStatus, kind: &str, status, reason: &str| {
            set_condition(&mut next.conditions, kind, status, reason, &message, self.wall);
        };
        set(&mut next, "Planned", ConditionStatus::False, reason);
        set(&mut next, "Finished", ConditionStatus::True, "NotOnTarget");
        let change = Change::of(Part::Status)
            .set("phase", WorkloadPhase::Failed)
            .set("observedGeneration", self.workload.meta.generation)
            .set("conditions", &next.conditions);
        let event = self.event(EventKind::Warning, "PlanFailed", message);
        self.write(change, Some(event))
    }

    /// The next writes, in the order of the protocol: names, children, facts.
    fn next(&self, desired: &[DesiredStep], fold_due: bool) -> Next {
        let records = self.records(desired);
        if records != self.workload.status.steps {
            let change = Change::of(Part::Status)
                .set("phase", WorkloadPhase::Planning)
                .set("desiredTasks", i64::try_from(records.len()).unwrap_or(i64::MAX))
                .set("observedGeneration", self.workload.meta.generation)
                .set("steps", &records);
            return Next { writes: vec![self.write(change, None)], ..Next::default() };
        }
        let mut creates = Vec::new();
        let mut creating = false;
        for step in desired {
            let Some(record) = records.iter().find(|record| record.name == step.name) else {
                continue;
            };
            if record.settled == Some(true) || self.child(record).is_some() {
                continue;
            }
            creating = true;
            let Some(new) = children::render(self.workload, step, &records) else {
                continue;
            };
            // The record names the last name there is, and it is somebody else's.
            if self.world.tasks.objects.contains_key(&new.key) {
                let name = &new.key.name;
                let message = format!("task {name} of step {} belongs to somebody else", step.name);
                let failed = self.failed_plan("NameTaken", message);
                return Next { writes: self.give_up(failed), ..Next::default() };
            }
            if self.world.tasks.is_free(&new.key) {
                let (workload, owner) = (self.workload.key(), self.workload.meta.uid.clone());
                creates.push(Write::Create { workload, owner, new: Box::new(new) });
            }
        }
        if creating {
            return Next { writes: creates, ..Next::default() };
        }
        let mut next = self.fold(desired, &records, fold_due);
        next.writes.extend(self.copies(desired, &records));
        next
    }

    /// The records that should stand in the status: those there are, and new ones with a name that
    /// is chosen once. A name that somebody else's task took meanwhile is changed to a hashed one.
    fn records(&self, desired: &[DesiredStep]) -> Vec<StepRecord> {
        let tasks = &self.world.tasks.objects;
        let mut records = self.workload.status.steps.clone();
        records.retain(|record| !self.is_dropped(desired, record));
        for record in records.iter_mut().filter(|record| record.settled != Some(true)) {
            let taken = self.task_key(record).and_then(|key| tasks.get(&key));
            if taken.is_some_and(|task| !children::is_child(task, self.workload, &record.name)) {
                record.task = Some(children::hashed_name(self.workload, &record.name));
            }
        }
        for step in desired {
            if records.iter().all(|record| record.name != step.name) {
                let ours = |task| children::is_child(task, self.workload, &step.name);
                let free =
                    |key: &Key| !self.world.tasks.is_taken(key) || tasks.get(key).is_some_and(ours);
                records.push(StepRecord {
                    name: step.name.clone(),
                    task: Some(children::choose_name(self.workload, &step.name, free)),
                    ..StepRecord::default()
                });
            }
        }
        records
    }

    /// A step that the spec no longer has and that never came to anything: without it the workload
    /// would wait for ever for a task that nobody makes.
    fn is_dropped(&self, desired: &[DesiredStep], record: &StepRecord) -> bool {
        let wanted = desired.iter().any(|step| step.name == record.name);
        let busy = self.task_key(record).is_some_and(|key| !self.world.tasks.is_free(&key));
        !wanted && !busy && record.settled != Some(true) && self.child(record).is_none()
    }

    /// Folds what the children show into the status. What settles a step or moves the phase is
    /// written at once, the rest at most every two seconds.
    fn fold(&self, desired: &[DesiredStep], records: &[StepRecord], due: bool) -> Next {
        let folded: Vec<_> =
            records.iter().map(|record| rollup::fold(record, self.child(record))).collect();
        let roll_up = rollup::roll_up(&folded, desired);
        let next = self.status(&folded, &roll_up);
        let now = &self.workload.status;
        if next == *now {
            return Next::default();
        }
        let settled =
            |steps: &[StepRecord]| steps.iter().filter(|s| s.settled == Some(true)).count();
        let urgent = next.phase != now.phase || settled(&folded) != settled(records);
        if !urgent && !due {
            return Next { fold_later: true, ..Next::default() };
        }
        let event = roll_up.finished.map(|reason| {
            let severity =
                if reason == "Succeeded" { EventKind::Normal } else { EventKind::Warning };
            let message = format!(
                "{} succeeded, {} failed, {} incomplete",
                roll_up.succeeded, roll_up.failed, roll_up.incomplete
            );
            self.event(severity, "WorkloadFinished", message)
        });
        let change = Change::of(Part::Status)
            .set("phase", &next.phase)
            .set("observedGeneration", next.observed_generation)
            .set("steps", &next.steps)
            .set("tasks", &next.tasks)
            .set("succeededTasks", next.succeeded_tasks)
            .set("failedTasks", next.failed_tasks)
            .set("incompleteTasks", next.incomplete_tasks)
            .set("conditions", &next.conditions);
        let phase = next.phase != now.phase || next.conditions != now.conditions;
        let urgency = if phase { Urgency::Now } else { Urgency::Lane(Rank::Steps) };
        let writes = vec![self.write_with(urgency, change, event)];
        Next { writes, folded: true, fold_later: false }
    }

    fn status(&self, steps: &[StepRecord], roll_up: &RollUp) -> WorkloadStatus {
        let mut next = self.workload.status.clone();
        next.phase = Some(roll_up.phase.into());
        next.observed_generation = Some(self.workload.meta.generation);
        next.steps = steps.to_vec();
        next.succeeded_tasks = Some(roll_up.succeeded);
        next.failed_tasks = Some(roll_up.failed);
        next.incomplete_tasks = Some(roll_up.incomplete);
        for name in steps.iter().filter_map(|step| step.task.as_ref()) {
            if next.tasks.iter().all(|task| task.name.as_ref() != Some(name)) {
                next.tasks.push(ObjectReference {
                    api_version: Some(API_VERSION.to_owned()),
                    kind: Some(AgenticTask::NAMES.kind.to_owned()),
                    namespace: self.workload.meta.namespace.clone(),
                    name: Some(name.clone()),
                    ..ObjectReference::default()
                });
            }
        }
        self.conditions(&mut next, roll_up);
        next
    }

    fn conditions(&self, next: &mut WorkloadStatus, roll_up: &RollUp) {
        let yes = ConditionStatus::True;
        let list = &mut next.conditions;
        let mut set = |kind: &str, status, reason: &str, message: &str| {
            set_condition(list, kind, status, reason, message, self.wall);
        };
        set("Planned", yes, "PlannerSucceeded", "every step has its task");
        if roll_up.phase != WorkloadPhase::Planned {
            set("Dispatched", yes, "ChildrenInFlight", "tasks were placed");
        }
        if let Some((good, reason)) = roll_up.completed {
            let status = if good { yes } else { ConditionStatus::False };
            let message = format!(
                "{} succeeded, {} failed, {} incomplete",
                roll_up.succeeded, roll_up.failed, roll_up.incomplete
            );
            set("Completed", status, reason, &message);
            if let Some(finished) = roll_up.finished {
                set("Finished", yes, finished, &message);
            }
            if roll_up.unverified.is_empty() {
                set("Unverified", ConditionStatus::False, "Verified", "nothing went unverified");
            } else {
                let message = format!("no gate passed for {}", roll_up.unverified.join(", "));
                set("Unverified", yes, "NotVerified", &message);
            }
        }
    }

    /// Copies cancel and suspend to the children that have not ended. A child whose step the spec no
    /// longer has is cancelled.
    fn copies(&self, desired: &[DesiredStep], records: &[StepRecord]) -> Vec<Write> {
        let spec = &self.workload.spec;
        let children = records.iter().filter_map(|record| {
            let wanted = desired.iter().any(|step| step.name == record.name);
            Some((self.child(record)?, wanted))
        });
        children
            .filter(|(child, _)| !has_ended(child) && self.world.tasks.is_free(&child.key()))
            .filter_map(|(child, wanted)| {
                let mut change = Change::of(Part::Spec);
                let cancel = spec.cancel == Some(true) || !wanted;
                if cancel && child.spec.cancel != Some(true) {
                    change = change.set("cancel", true);
                }
                if let Some(suspend) = spec.suspend
                    && child.spec.suspend.unwrap_or(false) != suspend
                {
                    change = change.set("suspend", suspend);
                }
                (!change.is_empty()).then(|| copy(child, change))
            })
            .collect()
    }
}

fn has_ended(child: &Object<AgenticTask>) -> bool {
    child.status.known_phase().is_some_and(TaskPhase::is_terminal)
}

fn copy(child: &Object<AgenticTask>, change: Change<AgenticTask>) -> Write {
    Write::Task {
        key: child.key(),
        revision: child.revision().clone(),
        change,
        event: None,
        urgency: Urgency::Now,
    }
}
