//! What expansion reads: the workload's own words, what this installation allows, and the records of
//! its steps. Never a live child: a deleted task must re-fire nothing.

use std::collections::BTreeMap;

use crate::model::agentic_task::TaskPhase;
use crate::model::outcome::Verdict;
use crate::model::shared::LocalObjectReference;
use crate::model::workload::{StepRecord, WorkloadSpec};
use crate::policy::admit::{Egress, Policy};

/// A workload as expansion sees it.
#[derive(Clone, Copy)]
pub(crate) struct WorkloadView<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// What a person asked for.
    pub(crate) spec: &'a WorkloadSpec,
    /// What this installation allows.
    pub(crate) policy: Policy,
    /// Where the model of an Agent of the namespace is; absent = there is no such Agent.
    pub(crate) egress_of: &'a dyn Fn(&str) -> Option<Egress>,
}

impl WorkloadView<'_> {
    /// The most tasks; absent = no limit.
    pub(crate) fn tasks_max(&self) -> Option<usize> {
        self.spec.max_tasks.and_then(|max| usize::try_from(max).ok()).filter(|max| *max > 0)
    }
}

/// What is known of a workload's steps, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepFacts<'a>(BTreeMap<&'a str, &'a StepRecord>);

impl<'a> StepFacts<'a> {
    /// The facts in these records. Of two records of one name the first counts.
    pub(crate) fn of(records: &'a [StepRecord]) -> Self {
        let mut facts = BTreeMap::new();
        for record in records {
            facts.entry(record.name.as_str()).or_insert(record);
        }
        Self(facts)
    }

    /// Whether the step was ever to be made.
    pub(crate) fn is_recorded(&self, step: &str) -> bool {
        self.0.contains_key(step)
    }

    /// Whether a task of any step was ever seen.
    pub(crate) fn have_begun(&self) -> bool {
        self.0.values().any(|record| record.uid.is_some())
    }

    /// The names of all recorded steps.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.0.keys().copied()
    }

    /// The record of a step.
    pub(crate) fn record(&self, step: &str) -> Option<&'a StepRecord> {
        self.0.get(step).copied()
    }

    /// The record of a step that has ended.
    pub(crate) fn settled(&self, step: &str) -> Option<&'a StepRecord> {
        self.record(step).filter(|record| record.settled == Some(true))
    }

    /// Whether all these reviews have ended and at least one of them rejected the change.
    pub(crate) fn rejected<'b>(&self, reviews: impl IntoIterator<Item = &'b str>) -> bool {
        let mut rejected = false;
        for review in reviews {
            let Some(record) = self.settled(review) else { return false };
            rejected |= is_no_go(record);
        }
        rejected
    }
}

/// Whether a step's work was to say no, and it did.
pub(crate) fn is_no_go(record: &StepRecord) -> bool {
    record.phase.as_ref().is_some_and(|phase| phase.is(TaskPhase::Succeeded))
        && record.verdict.as_ref().is_some_and(|verdict| verdict.is(Verdict::NoGo))
}

/// The Agent that a reference names; an empty name is none.
pub(crate) fn named(reference: Option<&LocalObjectReference>) -> Option<&str> {
    reference.and_then(LocalObjectReference::named)
}
