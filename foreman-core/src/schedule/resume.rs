//! Where an unfinished run goes on: on the machine that holds its journal, as long as that may come
//! back, else afresh elsewhere.

use std::time::Duration;

use super::fit::{Refusal, Refusals};
use super::need::Need;
use crate::model::NodeName;
use crate::model::agent::AgentSpec;
use crate::model::agentic_task::{AgenticTask, AttemptEnd};
use crate::model::object::Object;
use crate::model::time::AwakeTime;
use crate::timing::RESUME_WAIT;

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

/// What a waiting task needs, as a control loop that starts now would see it: an unfinished run is
/// bound to the machine that holds its journal, unless it waits for none.
pub fn need_of(task: &Object<AgenticTask>, agent: Option<&AgentSpec>) -> Need {
    let mut need = Need::of(task, agent);
    if let Some(left) = left_behind(task, None).filter(|_| !patience(task).is_zero()) {
        need.journal = Some(left.node.clone());
        need.only = Some(left.node);
    }
    need
}

/// How long the task waits for the machine.
pub(crate) fn patience(task: &Object<AgenticTask>) -> Duration {
    let asked = task.spec.resume_wait_seconds;
    asked.map_or(RESUME_WAIT, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Whether a machine that says so is away for the run: the waiting time runs. One that is only busy,
/// or starting, or that refused just now, is not.
pub(crate) fn is_away(says: Option<Refusals>) -> bool {
    const AWAY: [Refusal; 11] = [
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
        Refusal::Stale,
    ];
    says.is_none_or(|says| AWAY.into_iter().any(|refusal| says.contains(refusal)))
}

/// What is lost when the run starts afresh, for people.
pub(crate) fn repeats(left: &Left, node: &NodeName) -> String {
    let Left { node: there, turn } = left;
    let turns = if *turn == 1 { "turn 1 is".to_owned() } else { format!("turns 1 to {turn} are") };
    format!("starts afresh on {node}: its journal is on {there}, which is away; {turns} repeated")
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn need(spec: &Value, checkpoint: &Value) -> Need {
        let task = json!({
            "metadata": {"name": "t", "namespace": "d", "uid": "t", "resourceVersion": "1"},
            "spec": spec, "status": {"checkpoint": checkpoint}});
        need_of(&Object::from_json(&task).expect("valid"), None)
    }

    #[test]
    fn what_is_explained_is_bound_to_its_journal_as_what_is_decided() {
        let spec = json!({"kind": "freeform", "payload": {}});
        let impatient = json!({"kind": "freeform", "payload": {}, "resumeWaitSeconds": 0});
        let saved = json!({"node": "studio", "attempt": 1, "turn": 3});
        let archived = json!({"node": "studio", "attempt": 1, "turn": 3, "archived": true});
        let studio = NodeName::parse("studio").ok();
        assert_eq!(need(&spec, &saved).only, studio);
        assert_eq!(need(&spec, &json!({})).only, None, "there is nothing to go on with");
        assert_eq!(need(&spec, &archived).only, None, "it goes on anywhere");
        assert_eq!(need(&impatient, &saved).only, None, "it waits for no machine");
    }
}
