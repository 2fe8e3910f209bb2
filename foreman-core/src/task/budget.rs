//! Budgets: what a task may spend of its own limit and of its Workload's.
//!
//! A Workload's tokens are shared by allowances: each placement reserves a share, so that what was used
//! and what is reserved never exceed the limit together, and any leader can tell so from the objects.
//! An allowance is what *this placement* may spend, on top of `status.usage` as it stood at the
//! placement. Turns and running time are not shared out: a Workload that has spent them places
//! nothing more, and what runs then runs to its end.

use std::collections::BTreeMap;

use crate::bugs::{self, Bug};
use crate::model::NodeName;
use crate::model::agentic_task::{AgenticTask, AgenticTaskStatus, AttemptEnd, TaskPhase, Usage};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::workload::{StepRecord, StepSpent, Workload};

/// Tokens that a usage counts: prompts and answers.
pub(crate) fn tokens(usage: Option<&Usage>) -> i64 {
    let usage = usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens));
    usage.map_or(0, |(prompt, answer)| prompt.unwrap_or(0).saturating_add(answer.unwrap_or(0)))
}

/// Tokens that a task is known to have used. What it was charged for claims that died is for the books of
/// its Workload and counts against no limit of its own.
pub(crate) fn known_tokens(status: &AgenticTaskStatus) -> i64 {
    let records = status.attempts.iter().filter_map(|record| record.estimated_tokens);
    let guessed = records.fold(0, i64::saturating_add);
    tokens(status.usage.as_ref()).saturating_sub(guessed).max(0)
}

/// Whether a run may go on there although its Workload has nothing left: what it was charged for a claim
/// that died there and did not spend is still its own, and the journal there tells how much that is.
pub(crate) fn has_own_reserve(task: &Object<AgenticTask>, node: Option<&NodeName>) -> bool {
    node.is_some_and(|node| task.status.estimated_on(node.as_str()) > 0)
}

/// What became of a Workload's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The Workload's limit of tokens; absent = none.
    pub(crate) limit: Option<i64>,
    /// Tokens that its tasks used.
    pub(crate) used: i64,
    /// Tokens that its tasks in flight may still use.
    pub(crate) reserved: i64,
    /// Steps that are not settled and have nothing reserved: the rest is shared among them.
    pub(crate) open: i64,
    /// The limit of turns or of running time that is spent, in words.
    pub(crate) spent: Option<String>,
}

/// The ledger of a Workload; absent when it has no budget. `placing` tells the allowance of a task
/// whose placement is on its way to the store.
pub(crate) fn ledger(
    workload: &Object<Workload>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
    placing: impl Fn(&Key) -> Option<i64>,
) -> Option<Ledger> {
    let budget = workload.spec.budget.as_ref()?;
    let mut ledger = Ledger { limit: budget.tokens, used: 0, reserved: 0, open: 0, spent: None };
    let (mut turns, mut seconds) = (0_i64, 0_i64);
    for record in &workload.status.steps {
        let name = record.task.as_ref();
        let key =
            name.map(|name| Key { namespace: workload.meta.namespace.clone(), name: name.clone() });
        let task =
            key.and_then(|key| tasks.get(&key)).filter(|task| task.is_of(&workload.meta.uid));
        let reserved = task.and_then(|task| reserved(task, &placing));
        let all = sum([ledger.used, turns, seconds], spent(record, task));
        [ledger.used, turns, seconds] = all;
        match reserved {
            Some(reserved) => ledger.reserved = ledger.reserved.saturating_add(reserved),
            None if record.settled != Some(true) => ledger.open += 1,
            None => {}
        }
    }
    let limits = [("turns", budget.turns, turns), ("wallSeconds", budget.wall_seconds, seconds)];
    ledger.spent = limits.into_iter().find_map(|(name, limit, used)| {
        limit.filter(|limit| used >= *limit).map(|limit| format!("{used} of {limit} {name}"))
    });
    Some(ledger)
}

/// Tokens, turns and seconds that a step spent.
type Spent = [i64; 3];

fn of_record(spent: Option<&StepSpent>) -> Spent {
    let spent = spent.map(|spent| [spent.tokens, spent.turns, spent.wall_seconds]);
    spent.unwrap_or_default().map(Option::unwrap_or_default)
}

fn sum(a: Spent, b: Spent) -> Spent {
    let [(a0, b0), (a1, b1), (a2, b2)] = [(a[0], b[0]), (a[1], b[1]), (a[2], b[2])];
    [a0.saturating_add(b0), a1.saturating_add(b1), a2.saturating_add(b2)]
}

/// What a record says that the step spent, its task and those before that.
pub(crate) fn spent_by_record(record: &StepRecord) -> Spent {
    sum(of_record(record.spent.as_ref()), of_record(record.spent_before.as_ref()))
}

/// What a step spent. Its record keeps what its tasks said when they are gone.
fn spent(record: &StepRecord, task: Option<&Object<AgenticTask>>) -> Spent {
    let Some(task) = task else { return spent_by_record(record) };
    let usage = task.status.usage.as_ref();
    let says = usage.map_or([0; 3], |usage| {
        let (turns, seconds) = (usage.turns.unwrap_or(0), usage.wall_seconds.unwrap_or(0));
        [tokens(Some(usage)), turns, seconds]
    });
    let is_known = record.uid.as_deref().is_none_or(|uid| uid == task.meta.uid.as_str());
    let before =
        if is_known { of_record(record.spent_before.as_ref()) } else { spent_by_record(record) };
    sum(before, says)
}

/// What a task in flight has reserved.
fn reserved(task: &Object<AgenticTask>, placing: impl Fn(&Key) -> Option<i64>) -> Option<i64> {
    if bugs::on(Bug::ReservationForgotten) {
        return None;
    }
    let in_flight = task.status.known_phase().is_some_and(TaskPhase::is_in_flight);
    placing(&task.key()).or(task.status.allowance.filter(|_| in_flight))
}

impl Ledger {
    /// What nobody used or reserved; absent when tokens are not limited.
    fn left(&self) -> Option<i64> {
        Some(self.limit?.saturating_sub(self.used).saturating_sub(self.reserved).max(0))
    }

    /// What one more placement of that task may reserve; absent when tokens are not limited. A task
    /// whose run paused because its share was too small gets all that is left: a share that is too
    /// small for a single model call helps nobody, so that the steps go on one after the other.
    pub(crate) fn share_of(&self, task: &Object<AgenticTask>) -> Option<i64> {
        if has_paused(task) { self.left() } else { self.share() }
    }

    /// What one more placement may reserve; absent when tokens are not limited.
    pub(crate) fn share(&self) -> Option<i64> {
        let left = self.left()?;
        // The last tokens go to whoever comes first, and not to nobody.
        Some((left / self.open.max(1)).max(left.min(1)))
    }

    /// Why that task may not be placed on any node, or on the only one it may go to; in words.
    pub(crate) fn holds_up(
        &self,
        task: &Object<AgenticTask>,
        only: Option<&NodeName>,
        workload: &str,
    ) -> Option<String> {
        let goes_on = self.spent.is_none() && has_own_reserve(task, only);
        self.exhausted(workload).filter(|_| !goes_on)
    }

    /// Why nothing more may be placed, in words.
    pub(crate) fn exhausted(&self, workload: &str) -> Option<String> {
        let raise =
            |name: &str| format!("raise spec.budget.{name} of Workload {workload} to go on");
        if let Some(spent) = &self.spent {
            let name = spent.rsplit(' ').next().unwrap_or("turns");
            return Some(format!("{spent} of the Workload are spent: {}", raise(name)));
        }
        let none = self.share() == Some(0);
        none.then(|| format!("{}: {}", self.in_words(), raise("tokens")))
    }

    /// Why a task that paused is not placed again although some tokens are left, in words.
    pub(crate) fn too_little(&self, workload: &str) -> String {
        let left = match self.left() {
            None | Some(0) => String::new(),
            Some(left) => format!(", {left} are left, too few for the next model call"),
        };
        format!(
            "{}{left}: raise spec.budget.tokens of Workload {workload} to go on",
            self.in_words()
        )
    }

    /// What became of the tokens.
    fn in_words(&self) -> String {
        let (used, reserved, limit) = (self.used, self.reserved, self.limit.unwrap_or(0));
        let held = if reserved > 0 { format!(" and {reserved} reserved") } else { String::new() };
        format!("{used} of {limit} tokens of the Workload are spent{held}")
    }
}

/// The allowance of a placement: the Workload's share, and no more than is left of the task's own
/// limit. Without a share none is written: the task's own limit stands in its spec, where it may be
/// raised while the task runs.
pub(crate) fn allowance(task: &Object<AgenticTask>, share: Option<i64>) -> Option<i64> {
    let own = task.spec.budget.as_ref().and_then(|budget| budget.tokens);
    let own = own.map(|own| own.saturating_sub(known_tokens(&task.status)).max(0));
    share.map(|share| own.map_or(share, |own| own.min(share)))
}

/// Whether the last run of the task paused because it might not spend more.
pub(crate) fn has_paused(task: &Object<AgenticTask>) -> bool {
    let last = task.status.attempts.last().and_then(|last| last.ended.as_ref());
    last.is_some_and(|ended| ended.is(AttemptEnd::BudgetExhausted))
}

/// What a placement with that share may bring the task to, in tokens; no limit is the greatest number.
pub(crate) fn ceiling(task: &Object<AgenticTask>, share: Option<i64>) -> i64 {
    let used = tokens(task.status.usage.as_ref());
    allowance(task, share).map_or(i64::MAX, |allowance| used.saturating_add(allowance))
}

/// The usage to write when a claim is taken from a holder that is dead: nobody knows what it spent, so
/// all that it might have spent counts. Absent when nothing was reserved for it. It is an estimate
/// (`estimated`), for the books of the Workload only.
pub(crate) fn charge_dead_holder(status: &AgenticTaskStatus) -> Option<Usage> {
    let unknown = unknown_usage(status)?;
    let usage = status.usage.clone().unwrap_or_default();
    let before = usage.prompt_tokens.unwrap_or(0);
    let prompt_tokens = unknown.prompt_tokens.map(|more| before.saturating_add(more));
    Some(Usage { prompt_tokens, estimated: unknown.estimated, ..usage })
}

/// What the present claim may have spent, of which nothing else is known; absent when nothing was
/// reserved for it.
pub(crate) fn unknown_usage(status: &AgenticTaskStatus) -> Option<Usage> {
    let allowance = status.allowance.filter(|allowance| *allowance > 0)?;
    // A placement that nobody claimed spent nothing.
    if status.known_phase() == Some(TaskPhase::Scheduled) || bugs::on(Bug::DeadHolderUncharged) {
        return None;
    }
    Some(Usage { prompt_tokens: Some(allowance), estimated: Some(true), ..Usage::default() })
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
