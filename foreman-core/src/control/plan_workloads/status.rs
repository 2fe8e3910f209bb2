//! What the children show, folded into the workload's status.

use super::super::write::{Rank, Urgency};
use super::Next;
use super::planner::Planner;
use crate::model::agentic_task::AgenticTask;
use crate::model::object::{API_VERSION, Kind};
use crate::model::shared::ObjectReference;
use crate::model::workload::{StepRecord, WorkloadPhase, WorkloadStatus};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Change, Part};
use crate::workload::conditions;
use crate::workload::expand::Plan;
use crate::workload::rollup::{self, RollUp};

/// What `status.plannerModel` says of a plan that no model made, as the existing system does.
const NO_PLANNER: &str = "stub:explicit-pipeline";

impl Planner<'_> {
    /// The records with what the children show now.
    pub(super) fn folded(&self, records: &[StepRecord]) -> Vec<StepRecord> {
        records.iter().map(|record| rollup::fold(record, self.child(record))).collect()
    }

    /// How soon such records are to be written, if they are now: what settles a step is at once, the
    /// rest when it is `due`. `moved` = there is something else that cannot wait.
    pub(super) fn urgency_of(
        &self,
        folded: &[StepRecord],
        moved: bool,
        due: bool,
    ) -> Option<Urgency> {
        let settled =
            |steps: &[StepRecord]| steps.iter().filter(|s| s.settled == Some(true)).count();
        if moved || settled(folded) != settled(&self.workload.status.steps) {
            Some(Urgency::Now)
        } else {
            due.then_some(Urgency::Lane(Rank::Steps))
        }
    }

    /// Writes what the children show into the status. What settles a step or moves the phase is
    /// written at once, the rest at most every two seconds. `missing` = a step has no task yet.
    pub(super) fn fold(
        &self,
        plan: &Plan,
        folded: &[StepRecord],
        missing: bool,
        due: bool,
    ) -> Next {
        let records = &self.workload.status.steps;
        // What just ended may call for more: without that the workload would look finished.
        let next_plan = (folded != *records).then(|| self.expand(folded));
        let plan = next_plan.as_ref().and_then(|plan| plan.as_ref().ok()).unwrap_or(plan);
        let mut roll_up = rollup::roll_up(folded, plan);
        if missing && roll_up.phase == WorkloadPhase::Planned {
            roll_up.phase = WorkloadPhase::Planning;
        }
        let next = self.status(plan, folded, &roll_up, !missing);
        let now = &self.workload.status;
        if next == *now {
            return Next::default();
        }
        let Some(urgency) = self.urgency_of(folded, next.phase != now.phase, due) else {
            return Next { fold_later: true, ..Next::default() };
        };
        let change = Change::of(Part::Status)
            .set("phase", &next.phase)
            .set("observedGeneration", next.observed_generation)
            .set("steps", &next.steps)
            .set("tasks", &next.tasks)
            .set("plannerModel", &next.planner_model)
            .set("reviewIterations", next.review_iterations)
            .set("succeededTasks", next.succeeded_tasks)
            .set("failedTasks", next.failed_tasks)
            .set("incompleteTasks", next.incomplete_tasks)
            .set("conditions", &next.conditions);
        let events = self.events(plan, records, &roll_up);
        Next { writes: vec![self.write(change, events, urgency)], folded: true, ..Next::default() }
    }

    /// What happened with this fold and is not to be told again: the change of the records is what
    /// tells it apart.
    fn events(&self, plan: &Plan, before: &[StepRecord], roll_up: &RollUp) -> Vec<Event> {
        let known = rollup::resolved(before, plan);
        let resolved = roll_up.resolved.iter().filter(|change| !known.contains(change));
        let mut events: Vec<_> = resolved
            .map(|change| {
                let message = format!("{change}: the coder found nothing left to do");
                self.event(EventKind::Normal, "AlreadyResolved", message)
            })
            .collect();
        if let Some(reason) = roll_up.finished {
            let severity =
                if reason == "Succeeded" { EventKind::Normal } else { EventKind::Warning };
            events.push(self.event(severity, "WorkloadFinished", roll_up.counts()));
        }
        events
    }

    fn status(
        &self,
        plan: &Plan,
        steps: &[StepRecord],
        roll_up: &RollUp,
        made: bool,
    ) -> WorkloadStatus {
        let workload = self.workload;
        let mut next = workload.status.clone();
        next.phase = Some(roll_up.phase.into());
        next.observed_generation = Some(workload.meta.generation);
        next.steps = steps.to_vec();
        next.succeeded_tasks = Some(roll_up.succeeded);
        next.failed_tasks = Some(roll_up.failed);
        next.incomplete_tasks = Some(roll_up.incomplete);
        let model = workload.spec.planner_model.clone().filter(|model| !model.is_empty());
        next.planner_model = Some(model.unwrap_or_else(|| NO_PLANNER.to_owned()));
        next.review_iterations = Some(fix_rounds(plan));
        // Never pruned: readers of the existing system find every task that ever was.
        for name in steps.iter().filter_map(|step| step.task.as_ref()) {
            if next.tasks.iter().all(|task| task.name.as_ref() != Some(name)) {
                next.tasks.push(ObjectReference {
                    api_version: Some(API_VERSION.to_owned()),
                    kind: Some(AgenticTask::NAMES.kind.to_owned()),
                    namespace: workload.meta.namespace.clone(),
                    name: Some(name.clone()),
                    ..ObjectReference::default()
                });
            }
        }
        conditions::of_plan(&mut next.conditions, plan, steps, self.wall);
        conditions::of_roll_up(&mut next.conditions, roll_up, made, self.wall);
        next
    }
}

/// The fix rounds so far, over all changes.
fn fix_rounds(plan: &Plan) -> i32 {
    plan.iterations.iter().fold(0, |sum, (_, last)| sum.saturating_add(*last))
}
