//! One object that is waited for: what is known of it, and how it ended. Pure: it takes what the store
//! shows and says what it means.

use foreman_core::model::agentic_task::WaitingReason;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::outcome::{Verification, on_target};
use foreman_core::model::{AgenticTask, Key, Object, Outcome, Uid, Workload, WorkloadPhase};

use crate::cli::words;
use crate::cli::world::Found;
use crate::events::UsageTotal;
use crate::exit::Exit;
use crate::follow::{Fact, Story, Tally, finished};

/// How the wait for one object ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The exit code that it alone would give.
    pub(super) exit: Exit,
    /// `Succeeded`, `NotOnTarget`, `Infrastructure` or `Cancelled`; none when it did not finish.
    pub(super) finished: Option<String>,
    /// What a person is told.
    pub(super) words: String,
}

/// One object that is waited for.
#[derive(Debug)]
pub(super) struct Waited {
    pub(super) kind: AnyKind,
    /// `task/name` or `workload/name`.
    pub(super) name: String,
    pub(super) key: Key,
    uid: Uid,
    story: Story,
    tally: Tally,
    /// The newest version of it, where it is a task.
    task: Option<Object<AgenticTask>>,
    /// Where it stands, where it is a workload.
    stands: String,
    /// Whether it was there since the last full reading began.
    seen: bool,
    gone: bool,
    /// How a workload ended.
    over: Option<String>,
}

impl Waited {
    /// Waits for an object that was found.
    pub(super) fn new(found: &Found) -> Self {
        let uid = found.json.pointer("/metadata/uid").and_then(serde_json::Value::as_str);
        Self {
            kind: found.kind,
            name: found.name(),
            key: found.key(),
            uid: Uid::new(uid.unwrap_or_default()),
            story: Story::default(),
            tally: Tally::default(),
            task: None,
            stands: String::new(),
            seen: false,
            gone: false,
            over: None,
        }
    }

    /// A full reading of its kind begins.
    pub(super) fn reading_begins(&mut self) {
        self.seen = false;
    }

    /// A full reading of its kind is over: what was not seen is not there.
    pub(super) fn reading_ends(&mut self) {
        self.gone |= !self.seen;
    }

    /// The object of that uid is gone.
    pub(super) fn is_gone(&mut self, uid: &Uid) {
        self.gone |= self.uid == *uid;
    }

    /// The object of that key cannot be read: it is there, and that is all that is known.
    pub(super) fn is_unreadable(&mut self, key: &Key) {
        self.seen |= self.key == *key;
    }

    /// Takes a task as the store shows it; what is new about this object.
    pub(super) fn task(&mut self, task: &Object<AgenticTask>) -> Vec<Fact> {
        let own = self.kind == AnyKind::AgenticTask && task.meta.uid == self.uid;
        let child = self.kind == AnyKind::Workload && task.is_of(&self.uid);
        if !own && !child {
            return Vec::new();
        }
        let facts = self.story.task(task);
        for fact in &facts {
            self.tally.apply(fact);
        }
        if own {
            self.seen = true;
            self.task = Some(task.clone());
        }
        facts
    }

    /// Takes a workload as the store shows it.
    pub(super) fn workload(&mut self, workload: &Object<Workload>) -> Vec<Fact> {
        if self.kind != AnyKind::Workload || workload.meta.uid != self.uid {
            return Vec::new();
        }
        self.seen = true;
        let status = &workload.status;
        let settled = status.steps.iter().filter(|step| step.settled == Some(true)).count();
        let phase = status.phase.as_ref().map_or_else(|| "New".to_owned(), ToString::to_string);
        self.stands =
            format!("{}, {settled} of {} steps settled", words::clean(&phase), status.steps.len());
        let facts = self.story.workload(workload);
        for fact in &facts {
            self.tally.apply(fact);
        }
        let reason = finished(workload).map(|(reason, _)| reason);
        // An operator that is not ours writes the phase alone.
        let by_phase = || {
            workload.status.has_ended().then(|| {
                let good = status.phase.as_ref().is_some_and(|it| it.is(WorkloadPhase::Completed));
                if good { "Succeeded" } else { "NotOnTarget" }.to_owned()
            })
        };
        self.over = reason.or_else(by_phase);
        facts
    }

    /// How it ended, if it did: it finished, only a person can set it going again, or it is gone.
    pub(super) fn end(&self) -> Option<End> {
        if self.gone {
            let words = "was deleted".to_owned();
            return Some(End { exit: Exit::NotOnTarget, finished: None, words });
        }
        match &self.task {
            Some(task) => task_end(task),
            None => self.workload_end(),
        }
    }

    fn workload_end(&self) -> Option<End> {
        if let Some(reason) = &self.over {
            let verified = match (reason.as_str(), self.tally.verified()) {
                ("Succeeded", true) => " (verified)",
                ("Succeeded", false) => " (not verified)",
                _ => "",
            };
            let words = format!("{}{verified}", words::clean(reason));
            return Some(End { exit: exit_of(reason), finished: Some(reason.clone()), words });
        }
        self.tally.needs_person().map(needs_person)
    }

    /// Whether a gate passed on what it made.
    pub(super) fn verified(&self) -> bool {
        match &self.task {
            Some(task) => {
                on_target(&task.status)
                    && Outcome::of(&task.status).verification == Verification::Passed
            }
            None => self.tally.verified(),
        }
    }

    /// Branch and commit that hold what it made.
    pub(super) fn result(&self) -> (Option<String>, Option<String>) {
        if let Some(task) = &self.task {
            return (task.status.branch.clone(), task.status.commit_sha.clone());
        }
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        (own(self.tally.branch()), own(self.tally.commit()))
    }

    /// What was spent on the tasks that ended.
    pub(super) fn usage(&self) -> UsageTotal {
        self.tally.usage()
    }

    /// The task, where it is one.
    pub(super) fn as_task(&self) -> Option<&Object<AgenticTask>> {
        self.task.as_ref()
    }

    /// Where a workload stands: `Dispatched, 1 of 3 steps settled`.
    pub(super) fn stands(&self) -> &str {
        &self.stands
    }
}

fn task_end(task: &Object<AgenticTask>) -> Option<End> {
    if task.status.has_ended() {
        let finished = words::finished(task);
        let words = format!("{finished}: {}", words::ended(task));
        return Some(End { exit: exit_of(&finished), finished: Some(finished), words });
    }
    let status = &task.status;
    let judged = status.observed_generation.is_none_or(|seen| seen == task.meta.generation);
    let waiting = status.waiting.as_ref().filter(|_| judged)?;
    let reason = waiting.reason.as_ref()?;
    let by_person =
        reason.is(WaitingReason::BudgetExhausted) || reason.is(WaitingReason::AwaitingApproval);
    by_person.then(|| needs_person(waiting.message.as_deref().unwrap_or_default()))
}

fn needs_person(message: &str) -> End {
    let words = format!("waits for you: {}", words::clean(message));
    End { exit: Exit::NeedsPerson, finished: None, words }
}

/// The exit code of a reason of `Finished`.
fn exit_of(reason: &str) -> Exit {
    match reason {
        "Succeeded" => Exit::OnTarget,
        "Infrastructure" => Exit::Infrastructure,
        _ => Exit::NotOnTarget,
    }
}

/// The worse of two ends: a broken machinery hides most, then a missed target, then what a person
/// can still turn to good.
pub(super) fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::OnTarget => 0,
        Exit::NeedsPerson => 1,
        Exit::NotOnTarget => 2,
        Exit::Infrastructure
        | Exit::Error
        | Exit::Usage
        | Exit::StillGoing
        | Exit::Superseded
        | Exit::Interrupted
        | Exit::Terminated => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
#[path = "waited_tests.rs"]
mod tests;
