//! The tasks of a workload's steps: their names, those that are missing, and what is copied to them.

use super::super::strays;
use super::super::write::{Urgency, Write};
use super::planner::{Planner, change_child};
use crate::bugs::{self, Bug};
use crate::model::workload::{StepRecord, Workload, WorkloadPhase};
use crate::ports::recorder::EventKind;
use crate::ports::store::{Change, Part};
use crate::workload::expand::{Plan, Role, Round};
use crate::workload::view::{StepFacts, named};
use crate::workload::{advisories, children, conditions, hold};

/// What the children of a workload need.
pub(super) struct Children {
    /// Tasks to be made now.
    pub(super) creates: Vec<Write>,
    /// Whether a step that is not settled has no task.
    pub(super) missing: bool,
}

impl Planner<'_> {
    /// The records that should stand in the status: those there are, and new ones with a name that
    /// is chosen once. A name that somebody else's task took meanwhile is changed to a hashed one.
    pub(super) fn records(&self, plan: &Plan) -> Vec<StepRecord> {
        let tasks = &self.world.tasks;
        let mut records = self.workload.status.steps.clone();
        records.retain(|record| !self.is_dropped(plan, record));
        for record in records.iter_mut().filter(|record| record.settled != Some(true)) {
            let Some(key) = self.task_key(record) else { continue };
            // One that cannot be read is somebody else's, unless it was seen to be ours.
            let strange = match tasks.objects.get(&key) {
                Some(task) => !children::is_child(task, self.workload, &record.name),
                None => tasks.unreadable.contains(&key) && record.uid.is_none(),
            };
            if strange {
                record.task = Some(children::hashed_name(self.workload, &record.name));
            }
        }
        for step in &plan.steps {
            if let Some(record) = records.iter_mut().find(|record| record.name == step.name) {
                let unseen = record.uid.is_none() && record.settled != Some(true);
                if record.task.is_none() && unseen {
                    record.task = Some(self.choose_name(&step.name));
                }
                if unseen && self.child(record).is_none() {
                    record.made_from = Some(step.fingerprint());
                }
            } else {
                records.push(StepRecord {
                    name: step.name.clone(),
                    task: Some(self.choose_name(&step.name)),
                    made_from: Some(step.fingerprint()),
                    ..StepRecord::default()
                });
            }
        }
        records
    }

    fn choose_name(&self, step: &str) -> String {
        let tasks = &self.world.tasks;
        let ours = |task| children::is_child(task, self.workload, step);
        children::choose_name(self.workload, step, |key| {
            !tasks.is_taken(key) || tasks.objects.get(key).is_some_and(ours)
        })
    }

    /// A step that the workload no longer has and that never came to anything: without it the
    /// workload would wait for ever for a task that nobody makes.
    fn is_dropped(&self, plan: &Plan, record: &StepRecord) -> bool {
        let wanted = plan.steps.iter().any(|step| step.name == record.name);
        let busy = self.task_key(record).is_some_and(|key| !self.world.tasks.is_free(&key));
        !wanted && !busy && record.settled != Some(true) && self.child(record).is_none()
    }

    /// The names stand in the status before a task is made, with what is to be said of the plan.
    pub(super) fn write_names(&self, plan: &Plan, records: Vec<StepRecord>) -> Write {
        let mut list = self.workload.status.conditions.clone();
        conditions::of_plan(&mut list, plan, &records, self.wall);
        let events = self.revision_under_the_first_profile(plan).into_iter().collect();
        let change = self.names_change(records).set("conditions", list);
        self.write(change, events, Urgency::Now)
    }

    pub(super) fn names_change(&self, records: Vec<StepRecord>) -> Change<Workload> {
        Change::of(Part::Status)
            .set("phase", WorkloadPhase::Planning)
            .set("desiredTasks", i64::try_from(records.len()).unwrap_or(i64::MAX))
            .set("observedGeneration", self.workload.meta.generation)
            .set("steps", records)
    }

    /// The first fix round of all is done by the coder that is made for fixing issues: told once.
    fn revision_under_the_first_profile(
        &self,
        plan: &Plan,
    ) -> Option<crate::ports::recorder::Event> {
        let facts = StepFacts::of(&self.workload.status.steps);
        let fixes: Vec<_> = plan
            .steps
            .iter()
            .filter(|step| {
                step.strand.as_ref().is_some_and(|strand| {
                    matches!(strand.round, Round::Fix(_)) && strand.role == Role::Coder
                })
            })
            .collect();
        let first = !fixes.is_empty() && fixes.iter().all(|step| !facts.is_recorded(&step.name));
        let own = named(self.workload.spec.revision_coder_agent_ref.as_ref()).is_some();
        (first && !own).then(|| {
            let message = "spec.revisionCoderAgentRef is absent: the coder that made the change \
                           revises it, with the profile of a first try";
            let reason = "RevisionUnderIssueFixProfile";
            self.event(EventKind::Warning, reason, message.to_owned())
        })
    }

    /// The tasks that are missing: one of a settled step is not made again, every other is.
    ///
    /// # Errors
    /// The writes by which the workload ends: a name is taken for good.
    pub(super) fn children(
        &self,
        plan: &Plan,
        records: &[StepRecord],
    ) -> Result<Children, Vec<Write>> {
        let facts = StepFacts::of(records);
        let mut found = Children { creates: Vec::new(), missing: false };
        for step in &plan.steps {
            let Some(record) = facts.record(&step.name) else { continue };
            if record.settled == Some(true) || self.child(record).is_some() {
                continue;
            }
            if bugs::on(Bug::LostStepStaysLost) && record.uid.is_some() {
                continue;
            }
            found.missing = true;
            let Some(mut new) = children::render(self.workload, step, records) else { continue };
            new.spec.payload.gate_advisories.extend(advisories::left_for(step, plan, &facts));
            let tasks = &self.world.tasks;
            let ours = record.uid.is_some() && tasks.unreadable.contains(&new.key);
            if tasks.is_taken(&new.key) && !ours {
                return Err(self.name_taken(&new.key.name, &step.name));
            }
            if tasks.is_free(&new.key) {
                let (workload, owner) = (self.workload.key(), self.workload.meta.uid.clone());
                found.creates.push(Write::Create { workload, owner, new: Box::new(new) });
            }
        }
        Ok(found)
    }

    /// Deletes tasks that were made late, when another one stands for their step: a step's task has the
    /// plain name, or another one where that was taken for a while.
    pub(super) fn second_tasks(&self, records: &[StepRecord]) -> Vec<Write> {
        let second = |record: &StepRecord| {
            let plain = children::plain_name(self.workload, &record.name);
            record.task.as_ref().filter(|task| **task != plain)?;
            let task = self.world.tasks.objects.get(&self.key(&plain))?;
            let ours = children::is_child(task, self.workload, &record.name);
            let live = task.meta.deletion_timestamp.is_none() && !task.status.has_ended();
            let free = self.world.tasks.is_free(&task.key());
            (ours && live && free).then(|| strays::delete(task))?
        };
        records.iter().filter_map(second).collect()
    }

    /// Copies cancel, suspend and advisories to the children that have not ended. A child whose step
    /// the workload no longer has is cancelled; while its spec makes no plan, none is.
    pub(super) fn copies(&self, plan: Option<&Plan>, folded: &[StepRecord]) -> Vec<Write> {
        // What a child just ended with counts at once: a review must not be placed without it.
        let facts = StepFacts::of(folded);
        let (name, spec) = (&self.workload.meta.name, &self.workload.spec);
        let mut writes = Vec::new();
        for record in folded {
            let Some(child) = self.child(record) else { continue };
            if !self.world.tasks.is_free(&child.key()) {
                continue;
            }
            let mut steps = plan.into_iter().flat_map(|plan| &plan.steps);
            let step = steps.find(|step| step.name == record.name);
            let held = hold::next(name, spec, child, step.is_some() || plan.is_none());
            let change = held.or_else(|| {
                let left = advisories::left_for(step?, plan?, &facts);
                let payload = advisories::due(child, left)?;
                Some(Change::of(Part::Spec).set("payload", payload))
            });
            writes.extend(change.map(|change| change_child(child, change)));
        }
        writes
    }
}
