//! A workload that has begun and whose spec no longer makes a plan: its tasks go on as they were made
//! until a person mends the spec. A slip in an edit must not cost work that runs.

use super::Next;
use super::planner::Planner;
use crate::model::condition::{ConditionStatus, find_condition};
use crate::model::workload::StepRecord;
use crate::ports::recorder::EventKind;
use crate::ports::store::{Change, Part};
use crate::task::writes::bounded;
use crate::workload::conditions;
use crate::workload::expand::PlanError;

impl Planner<'_> {
    /// What such a workload needs: the reason is said once, what its tasks show is recorded, and
    /// suspend and cancel still reach them. What needs a plan (new tasks, counts, an end on target)
    /// waits for the spec. Absent when none of its tasks goes on any more: then it may end.
    pub(super) fn goes_on_as_made(&self, error: &PlanError, due: bool) -> Option<Next> {
        let records = &self.workload.status.steps;
        let folded = self.folded(records);
        if folded == *records && !records.iter().any(|record| self.goes_on(record)) {
            return None;
        }
        let message = format!("the tasks that were made go on, until the spec is mended: {error}");
        let message = bounded(&message);
        let before = &self.workload.status.conditions;
        let said = find_condition(before, "Planned").is_some_and(|planned| {
            planned.status.is(ConditionStatus::False) && planned.message == message
        });
        let moved = folded != *records;
        let mut next = Next::default();
        if let Some(urgency) = self.urgency_of(&folded, !said, due && moved) {
            let mut list = before.clone();
            let no = ConditionStatus::False;
            conditions::set(&mut list, "Planned", no, error.reason(), &message, self.wall);
            let change = Change::of(Part::Status)
                .set("observedGeneration", self.workload.meta.generation)
                .set("steps", &folded)
                .set("conditions", list);
            let events = if said {
                Vec::new()
            } else {
                vec![self.event(EventKind::Warning, "PlanFailed", message.to_string())]
            };
            next.writes.push(self.write(change, events, urgency));
            next.folded = true;
        } else {
            next.fold_later = moved;
        }
        next.writes.extend(self.copies(None, &folded));
        Some(next)
    }

    /// Whether the step's task runs or waits to; one that cannot be read may.
    fn goes_on(&self, record: &StepRecord) -> bool {
        let unread = record.uid.is_some()
            && record.settled != Some(true)
            && self.task_key(record).is_some_and(|key| self.world.tasks.unreadable.contains(&key));
        unread || self.child(record).is_some_and(|child| !child.status.has_ended())
    }
}
