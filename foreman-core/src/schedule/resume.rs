//! Where an unfinished run goes on: on the machine that holds its journal, as long as that may come
//! back, else afresh elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fit::{Refusal, Refusals};
use super::need::Need;
use crate::model::NodeName;
use crate::model::agent::Agent;
use crate::model::agentic_task::{AgenticTask, AttemptEnd, TaskPhase, WaitingReason};
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::time::AwakeTime;
use crate::task::intake::agent_of;
use crate::task::retry;
use crate::timing::{JOURNAL_STRIKES, RESUME_WAIT};

/// What an unfinished run left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// The machine that holds its journal and its tree.
    pub(crate) node: NodeName,
    /// The last turn that is in there.
    pub(crate) turn: i64,
}

/// What the task's last run left on one machine only; absent when nothing is lost anywhere else.
/// `shown` is the last turn that a heartbeat of a node showed of it.
pub(crate) fn left_behind(
    task: &Object<AgenticTask>,
    shown: Option<&(NodeName, i64)>,
) -> Option<Left> {
    let status = &task.status;
    let last = status.attempts.last();
    let checkpoint = status.checkpoint.as_ref();
    let newest = match (checkpoint.and_then(|known| known.attempt), last.and_then(|l| l.attempt)) {
        (Some(saved), Some(last)) => saved >= last,
        (Some(_) | None, None) | (None, Some(_)) => true,
    };
    if let Some(checkpoint) = checkpoint.filter(|known| newest && known.node.is_some()) {
        if checkpoint.archived == Some(true) {
            return None;
        }
        let node = NodeName::parse(checkpoint.node.as_deref()?).ok()?;
        return Some(Left { node, turn: checkpoint.turn.unwrap_or(0) });
    }
    let last = last?;
    // Whoever hands it back after a restart has no journal of it.
    if last.ended.as_ref().is_some_and(|ended| ended.is(AttemptEnd::HandedBack)) {
        return None;
    }
    let node = NodeName::parse(last.node.as_deref()?).ok()?;
    let shown = shown.filter(|(on, _)| *on == node).map(|(_, turn)| *turn);
    let turn = last.turn.max(shown).filter(|turn| *turn >= 1)?;
    Some(Left { node, turn })
}

/// What `task` needs of a node, with the node where its run goes on, as the control loops ask for it.
/// Whoever explains a decision asks with this.
///
/// How long a run has waited for its machine is known to the leading control loop only. It has stopped
/// waiting when the task says that it waits for other nodes.
pub fn need_of(
    task: &Object<AgenticTask>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
    agents: &BTreeMap<Key, Object<Agent>>,
) -> Need {
    let mut need = unbound(task, tasks, agents);
    let waits = matches!(task.status.known_phase(), None | Some(TaskPhase::Pending));
    if let Some(left) = left_behind(task, None).filter(|_| waits) {
        if !patience(task).is_zero() && !asks_all_nodes(task) {
            need.only = Some(left.node.clone());
        }
        if failed_too_often(task, &left.node) {
            need.last_resort = Some(left.node.clone());
        }
        need.journal = Some(left.node);
    }
    need
}

/// Whether the task was told what all nodes say.
fn asks_all_nodes(task: &Object<AgenticTask>) -> bool {
    const ABOUT_ALL: [WaitingReason; 4] = [
        WaitingReason::NoNodes,
        WaitingReason::NoMatchingNode,
        WaitingReason::NodesBusy,
        WaitingReason::NodesStale,
    ];
    let told = task.status.waiting.as_ref().and_then(|waiting| waiting.reason.as_ref());
    told.is_some_and(|told| ABOUT_ALL.into_iter().any(|reason| told.is(reason)))
}

/// The need of a task that waits for no machine: the journal of its own run, or of the one that it
/// continues, speaks for a node and against none.
pub(crate) fn unbound(
    task: &Object<AgenticTask>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
    agents: &BTreeMap<Key, Object<Agent>>,
) -> Need {
    let mut need = Need::of(task, agent_of(task, agents).map(|agent| &agent.spec));
    if need.journal.is_none() {
        need.journal = continued_on(task, tasks);
    }
    need
}

/// The machine with the journal of the run that a task continues.
fn continued_on(
    task: &Object<AgenticTask>,
    tasks: &BTreeMap<Key, Object<AgenticTask>>,
) -> Option<NodeName> {
    let continues = task.spec.continues.as_ref()?;
    let name = continues.task.clone()?;
    let parent = tasks.get(&Key { namespace: task.meta.namespace.clone(), name })?;
    let same = continues.uid.as_deref().is_none_or(|uid| uid == parent.meta.uid.as_str());
    let status = Some(&parent.status).filter(|_| same)?;
    let saved = status.checkpoint.as_ref().and_then(|known| known.node.as_deref());
    let ran = || status.attempts.last().and_then(|last| last.node.as_deref());
    NodeName::parse(saved.or_else(ran)?).ok()
}

/// How long the task waits for the machine.
pub(crate) fn patience(task: &Object<AgenticTask>) -> Duration {
    let asked = task.spec.resume_wait_seconds;
    asked.map_or(RESUME_WAIT, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Whether the machine that holds the journal was the last to fail the task, and not for the first
/// time since the run got somewhere: one failure (a crash, a reboot, a lost network) is no reason to
/// begin anew elsewhere, but it must not take every try.
pub(crate) fn failed_too_often(task: &Object<AgenticTask>, node: &NodeName) -> bool {
    let last = retry::struck(task).is_some_and(|struck| struck.node == node.as_str());
    last && retry::strikes(task) >= JOURNAL_STRIKES
}

/// Whether a machine that says so is away for the run: the waiting time runs. One that is only busy,
/// or starting, is not; one that refuses the task is, for nobody knows how long it will.
pub(crate) fn is_away(says: Option<Refusals>) -> bool {
    const AWAY: [Refusal; 12] = [
        Refusal::Role,
        Refusal::Label,
        Refusal::Namespace,
        Refusal::Accelerator,
        Refusal::Model,
        Refusal::Context,
        Refusal::MemoryTooSmall,
        Refusal::NoSlots,
        Refusal::Cordoned,
        Refusal::Draining,
        Refusal::Avoided,
        Refusal::Stale,
    ];
    says.is_none_or(|says| AWAY.into_iter().any(|refusal| says.contains(refusal)))
}

/// Why a run starts afresh without its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    /// The machine did not take the run up as long as it was waited for.
    Away,
    /// The machine failed the task too often.
    Failed,
}

/// What is lost when the run starts afresh, for people.
pub(crate) fn repeats(left: &Left, why: Without, node: &NodeName) -> String {
    let Left { node: there, turn } = left;
    let why = match why {
        Without::Away => "is away or refuses it",
        Without::Failed => "failed it too often",
    };
    let turns = if *turn == 1 { "turn 1 is".to_owned() } else { format!("turns 1 to {turn} are") };
    format!("starts afresh on {node}: its journal is on {there}, which {why}; {turns} repeated")
}

/// How long a run has been waiting for a machine that is away. It adds up over the times away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    node: NodeName,
    spent: Duration,
    since: Option<AwakeTime>,
}

impl Wait {
    pub(crate) fn new(node: &NodeName) -> Self {
        Self { node: node.clone(), spent: Duration::ZERO, since: None }
    }

    /// The machine.
    pub(crate) const fn node(&self) -> &NodeName {
        &self.node
    }

    /// Notes whether the machine is away now. For another machine the time begins anew.
    pub(crate) fn observe(&mut self, node: &NodeName, away: bool, now: AwakeTime) {
        if self.node != *node {
            *self = Self::new(node);
        }
        if let Some(since) = self.since.take() {
            self.spent += now.since(since);
        }
        self.since = away.then_some(now);
    }

    /// What is left of the patience; absent when it is spent.
    pub(crate) fn left(&self, patience: Duration) -> Option<Duration> {
        Some(patience.saturating_sub(self.spent)).filter(|left| !left.is_zero())
    }

    /// Whether the time runs.
    pub(crate) const fn runs(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
