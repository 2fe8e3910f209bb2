//! Runs that wait for the machine that holds their journal, and who is to be looked at when one of these
//! machines changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::time::AwakeTime;
use crate::model::{NodeName, Uid};
use crate::schedule::resume::Wait;

/// See the module. What is known of a run is forgotten with its task, so that there are never more than
/// tasks that have not ended.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    waits: BTreeMap<Uid, Wait>,
    /// Those that wait now, each under the machine that its wait names.
    by_node: BTreeMap<NodeName, BTreeSet<Uid>>,
}

impl Resuming {
    /// Notes of a run whether the machine that holds its journal is away now.
    pub(super) fn observe(
        &mut self,
        uid: &Uid,
        node: &NodeName,
        away: bool,
        now: AwakeTime,
    ) -> &Wait {
        if self.waits.get(uid).is_some_and(|wait| wait.node() != node) {
            self.unlink(uid);
        }
        let wait = self.waits.entry(uid.clone()).or_insert_with(|| Wait::new(node));
        wait.observe(node, away, now);
        wait
    }

    /// The run is to be looked at when that machine changes.
    pub(super) fn waits_for(&mut self, uid: &Uid, node: &NodeName) {
        self.by_node.entry(node.clone()).or_default().insert(uid.clone());
    }

    /// The runs that waited for a machine, each told once.
    pub(super) fn take_waiting_for(&mut self, node: &NodeName) -> BTreeSet<Uid> {
        self.by_node.remove(node).unwrap_or_default()
    }

    /// The task is gone or has ended, or its run lies on no machine.
    pub(super) fn forget(&mut self, uid: &Uid) {
        self.unlink(uid);
        self.waits.remove(uid);
    }

    fn unlink(&mut self, uid: &Uid) {
        let Some(wait) = self.waits.get(uid) else { return };
        if let Some(uids) = self.by_node.get_mut(wait.node()) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_node.remove(wait.node());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_remembered_of_runs_that_are_gone_or_wait_for_another_machine() {
        let node = |name: &str| NodeName::parse(name).expect("a name");
        let (mut known, now) = (Resuming::default(), AwakeTime::default());
        for n in 0..1000 {
            let uid = Uid::new(format!("t{n}"));
            for machine in ["a", "b"] {
                known.observe(&uid, &node(machine), true, now);
                known.waits_for(&uid, &node(machine));
            }
            let waiting: Vec<_> = known.by_node.keys().map(NodeName::as_str).collect();
            assert_eq!(waiting, ["b"], "one machine a run");
            known.forget(&uid);
        }
        assert!(known.waits.is_empty() && known.by_node.is_empty(), "{known:?}");
        let uid = Uid::new("t");
        known.observe(&uid, &node("a"), true, now);
        known.waits_for(&uid, &node("a"));
        assert_eq!(known.take_waiting_for(&node("a")).len(), 1);
        assert_eq!(known.take_waiting_for(&node("a")).len(), 0, "told once");
    }
}
