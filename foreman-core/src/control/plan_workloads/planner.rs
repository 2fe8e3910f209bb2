//! One workload in its world: what is read of it, and the writes by which it cannot go on.

use std::collections::BTreeSet;

use super::super::reconciler::World;
use super::super::write::{Rank, Urgency, Write};
use super::Next;
use crate::model::agentic_task::AgenticTask;
use crate::model::condition::{Condition, ConditionStatus, find_condition};
use crate::model::ids::Key;
use crate::model::object::{Kind, Object};
use crate::model::time::WallTime;
use crate::model::workload::{StepRecord, Workload, WorkloadPhase};
use crate::policy::admit::{Egress, egress};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Change, Part};
use crate::workload::expand::{Plan, PlanError, hash};
use crate::workload::view::{WorkloadView, named};
use crate::workload::{children, conditions};

/// The reason of `Planned=False` of a workload that starts again when its Agents are there.
pub(super) const AGENT_RESOLVE_FAILED: &str = "AgentResolveFailed";

/// See the module.
pub(super) struct Planner<'a> {
    pub(super) world: &'a World,
    pub(super) workload: &'a Object<Workload>,
    pub(super) wall: WallTime,
}

impl Planner<'_> {
    /// A write of the workload's status. Only facts of steps that neither end one nor move the phase
    /// are not urgent.
    pub(super) fn write(
        &self,
        change: Change<Workload>,
        events: Vec<Event>,
        urgency: Urgency,
    ) -> Write {
        Write::Workload {
            key: self.workload.key(),
            revision: self.workload.revision().clone(),
            change,
            events,
            urgency,
        }
    }

    pub(super) fn event(
        &self,
        severity: EventKind,
        reason: &'static str,
        message: String,
    ) -> Event {
        Event { kind: Workload::NAMES.kind, key: self.workload.key(), severity, reason, message }
    }

    pub(super) fn child(&self, record: &StepRecord) -> Option<&Object<AgenticTask>> {
        let task = self.world.tasks.objects.get(&self.task_key(record)?)?;
        children::is_child(task, self.workload, &record.name).then_some(task)
    }

    pub(super) fn task_key(&self, record: &StepRecord) -> Option<Key> {
        Some(self.key(record.task.as_deref()?))
    }

    pub(super) fn key(&self, name: &str) -> Key {
        Key { namespace: self.workload.meta.namespace.clone(), name: name.to_owned() }
    }

    pub(super) fn view<'v>(
        &'v self,
        egress_of: &'v dyn Fn(&str) -> Option<Egress>,
    ) -> WorkloadView<'v> {
        WorkloadView {
            name: &self.workload.meta.name,
            spec: &self.workload.spec,
            policy: self.world.policy,
            egress_of,
        }
    }

    /// Where the model of an Agent of the namespace is. One that cannot be read is taken to be in the
    /// cloud: nobody can say that it is not.
    pub(super) fn egress_of(&self, agent: &str) -> Option<Egress> {
        let key = self.key(agent);
        if self.world.agents.unreadable.contains(&key) {
            return Some(Egress::Cloud);
        }
        self.world.agents.objects.get(&key).map(|agent| egress(&agent.spec))
    }

    /// The Agents that the plan names and that are not there.
    pub(super) fn missing_agents(&self, plan: &Plan) -> Vec<String> {
        let names: BTreeSet<&str> =
            plan.steps.iter().filter_map(|step| named(Some(&step.agent_ref))).collect();
        let missing = names.into_iter().filter(|name| !self.world.agents.is_taken(&self.key(name)));
        missing.map(ToOwned::to_owned).collect()
    }

    /// The Agents of the namespace, as a hash that moves when one of them comes, goes or changes.
    pub(super) fn agents(&self) -> String {
        let namespace = &self.workload.meta.namespace;
        let here = self.world.agents.objects.values();
        let here = here.filter(|agent| agent.meta.namespace == *namespace);
        let lines: Vec<String> = here
            .map(|agent| &agent.meta)
            .map(|meta| format!("{}/{}/{}", meta.name, meta.uid, meta.generation))
            .collect();
        hash(&lines.join("\n"))
    }

    /// Whether a task of this workload was ever seen.
    pub(super) fn has_begun(&self) -> bool {
        let steps = &self.workload.status.steps;
        steps.iter().any(|record| record.uid.is_some() || self.child(record).is_some())
    }

    /// No plan is possible: the workload ends and says why.
    pub(super) fn no_plan(&self, error: &PlanError) -> Vec<Write> {
        self.give_up(self.failed_plan(error.reason(), error.to_string(), false))
    }

    /// The store will never take a child of this plan, as long as the Agents are what they are.
    pub(super) fn refused_for_good(&self, why: &str) -> Vec<Write> {
        let message = format!("a task of the plan was refused: {why}");
        self.give_up(self.failed_plan(AGENT_RESOLVE_FAILED, message, true))
    }

    /// An Agent is missing, and nothing was made yet.
    pub(super) fn unresolved(&self, message: &str) -> Vec<Write> {
        self.give_up(self.failed_plan(AGENT_RESOLVE_FAILED, message.to_owned(), false))
    }

    /// The record names the last name there is, and it is somebody else's.
    pub(super) fn name_taken(&self, task: &str, step: &str) -> Vec<Write> {
        let message = format!("task {task} of step {step} belongs to somebody else");
        self.give_up(self.failed_plan("NameTaken", message, false))
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
            .filter(|child| !child.status.has_ended() && child.spec.cancel != Some(true))
            .collect();
        if left.is_empty() {
            return vec![failed];
        }
        let free = left.into_iter().filter(|child| tasks.is_free(&child.key()));
        free.map(|child| change_child(child, Change::of(Part::Spec).set("cancel", true))).collect()
    }

    fn failed_plan(&self, reason: &'static str, message: String, by_agents: bool) -> Write {
        let mut list = self.workload.status.conditions.clone();
        let (yes, no) = (ConditionStatus::True, ConditionStatus::False);
        conditions::set(&mut list, "Planned", no, reason, &message, self.wall);
        conditions::set(&mut list, "Finished", yes, "NotOnTarget", &message, self.wall);
        let change = Change::of(Part::Status)
            .set("phase", WorkloadPhase::Failed)
            .set("observedGeneration", self.workload.meta.generation)
            .set("conditions", list);
        let change = if by_agents {
            change.set("agentsSeen", self.agents())
        } else {
            change.clear("agentsSeen")
        };
        let event = self.event(EventKind::Warning, "PlanFailed", message);
        self.write(change, vec![event], Urgency::Now)
    }

    /// The store refused a child for now: said once, while it is tried again with growing pauses.
    pub(super) fn render_error(&self, why: &str) -> Option<Write> {
        let before = &self.workload.status.conditions;
        let message = format!("a task of the plan was refused and is tried again: {why}");
        let said = find_condition(before, "Planned").is_some_and(|planned| {
            planned.status.is(ConditionStatus::False) && planned.message == message
        });
        if said {
            return None;
        }
        let mut list: Vec<Condition> = before.clone();
        let no = ConditionStatus::False;
        conditions::set(&mut list, "Planned", no, "RenderError", &message, self.wall);
        let change = Change::of(Part::Status).set("conditions", list);
        let event = self.event(EventKind::Warning, "RenderError", message);
        Some(self.write(change, vec![event], Urgency::Now))
    }

    /// An ended workload starts again: its settled steps keep their verdicts, the others are made.
    pub(super) fn reopen(&self, plan: &Plan) -> Next {
        let mut list = self.workload.status.conditions.clone();
        let message = "its spec asks for more, or what was missing is there";
        let no = ConditionStatus::False;
        conditions::set(&mut list, "Finished", no, "Reopened", message, self.wall);
        let records = self.records(plan);
        conditions::of_plan(&mut list, plan, &records, self.wall);
        let change = self.names_change(records).set("conditions", list).clear("agentsSeen");
        let event = self.event(EventKind::Normal, "WorkloadReopened", message.to_owned());
        let write = self.write(change, vec![event], Urgency::Now);
        Next { writes: vec![write], afresh: true, ..Next::default() }
    }

    /// The spec of an ended workload changed and asks for nothing new.
    pub(super) fn take_note(&self) -> Write {
        let change =
            Change::of(Part::Status).set("observedGeneration", self.workload.meta.generation);
        self.write(change, Vec::new(), Urgency::Lane(Rank::Steps))
    }
}

/// A change of what a child is to do. It hurries: a task that is to pause or to end must not be
/// placed first.
pub(super) fn change_child(child: &Object<AgenticTask>, change: Change<AgenticTask>) -> Write {
    Write::Task {
        key: child.key(),
        revision: child.revision().clone(),
        change,
        event: None,
        urgency: Urgency::Now,
    }
}
