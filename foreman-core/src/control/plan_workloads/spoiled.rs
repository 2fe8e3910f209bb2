//! A workload that has begun and whose spec no longer makes a plan: its tasks go on as they were made
//! until a person mends the spec. A slip in an edit must not cost work that runs.

use super::super::write::{Rank, Urgency, Write};
use super::Next;
use super::planner::{Planner, change_child};
use crate::model::condition::{ConditionStatus, find_condition};
use crate::model::workload::StepRecord;
use crate::ports::recorder::EventKind;
use crate::ports::store::{Change, Part};
use crate::task::writes::bounded;
use crate::workload::expand::PlanError;
use crate::workload::{conditions, hold, rollup};

impl Planner<'_> {
    /// What such a workload needs: the reason is said once, what its tasks show is recorded, and
    /// suspend and cancel still reach them. What needs a plan (new tasks, counts, an end on target)
    /// waits for the spec. Absent when none of its tasks goes on any more: then it may end.
    pub(super) fn goes_on_as_made(&self, error: &PlanError, due: bool) -> Option<Next> {
        let records = &self.workload.status.steps;
        let folded: Vec<_> =
            records.iter().map(|record| rollup::fold(record, self.child(record))).collect();
        if folded == *records && !records.iter().any(|record| self.goes_on(record)) {
            return None;
        }
        let message = format!("the tasks that were made go on, until the spec is mended: {error}");
        let message = bounded(&message);
        let before = &self.workload.status.conditions;
        let said = find_condition(before, "Planned").is_some_and(|planned| {
            planned.status.is(ConditionStatus::False) && planned.message == message
        });
        let settled =
            |steps: &[StepRecord]| steps.iter().filter(|s| s.settled == Some(true)).count();
        let urgent = !said || settled(&folded) != settled(records);
        let mut next = Next::default();
        if urgent || (due && folded != *records) {
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
            let urgency = if urgent { Urgency::Now } else { Urgency::Lane(Rank::Steps) };
            next.writes.push(self.write(change, events, urgency));
            next.folded = true;
        } else {
            next.fold_later = folded != *records;
        }
        next.writes.extend(self.holds());
        Some(next)
    }

    /// Whether the step's task runs or waits to; one that cannot be read may.
    fn goes_on(&self, record: &StepRecord) -> bool {
        let unread = record.uid.is_some()
            && record.settled != Some(true)
            && self.task_key(record).is_some_and(|key| self.world.tasks.unreadable.contains(&key));
        unread || self.child(record).is_some_and(|child| !child.status.has_ended())
    }

    fn holds(&self) -> Vec<Write> {
        let (name, spec) = (&self.workload.meta.name, &self.workload.spec);
        let children = self.workload.status.steps.iter().filter_map(|record| self.child(record));
        let free = children.filter(|child| self.world.tasks.is_free(&child.key()));
        free.filter_map(|child| Some(change_child(child, hold::next(name, spec, child, true)?)))
            .collect()
    }
}
