//! What the reconciler remembers beside the store; all of it can be lost.

use std::collections::{BTreeMap, BTreeSet};

use super::backoff::Backoff;
use super::claims_memory::ClaimsMemory;
use super::election::Moment;
use super::plan_nodes::NodesMemory;
use super::reconciler::World;
use super::room::Room;
use crate::bugs::{self, Bug};
use crate::fleet::liveness::Seen;
use crate::model::agentic_task::WaitingReason;
use crate::model::ids::Key;
use crate::model::time::{AwakeTime, BootTime};
use crate::model::{NodeName, Uid};
use crate::ports::store::StoreError;
pub(super) use crate::schedule::snapshot::Avoid;
use crate::task::retry::Counted;
use crate::timing::{RENDER_RETRY_MIN, STRUCK_AVOID};

/// Entries of dead objects that are tolerated before a sweep.
const FORGET_SLACK: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What was seen of each node's heartbeat.
    pub(super) seen: BTreeMap<Key, Seen>,
    /// What is remembered so that tasks find room.
    pub(super) room: Room,
    /// Nodes that a task is kept away from, and until when.
    pub(super) avoided: BTreeMap<(Uid, NodeName), Avoided>,
    /// What else was seen of the nodes.
    pub(super) nodes: NodesMemory,
    /// What was seen of the claims.
    pub(super) claims: ClaimsMemory,
    /// When each waiting task was last told why it waits, and why.
    pub(super) told: BTreeMap<Uid, (AwakeTime, WaitingReason)>,
    /// When each workload's facts were last folded.
    pub(super) folded: BTreeMap<Uid, AwakeTime>,
    /// Workloads of which the store refused a child.
    pub(super) refused: BTreeMap<Uid, RefusedChild>,
}

/// A node that a task is kept away from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avoided {
    pub(super) how: Avoid,
    pub(super) until: AwakeTime,
}

/// The store refused to create a child.
#[derive(Debug)]
pub(super) enum RefusedChild {
    /// A rule of the schema is broken: a person must change the workload.
    ForGood(String),
    /// The store may change its mind.
    ForNow(Backoff, String),
}

impl Memory {
    pub(super) fn refresh(&mut self, world: &mut World, now: Moment) {
        self.nodes.refresh(now.awake);
        if self.nodes.is_deaf() {
            self.restart_silences(now.awake);
        }
        let room = &mut self.room;
        self.avoided.retain(|(uid, node), avoided| {
            let goes_on = avoided.until > now.awake;
            if !goes_on {
                room.fleet.forgive(uid, node);
            }
            goes_on
        });
        self.follow(world, now);
        let world = &*world;
        self.claims.refresh(world, &self.seen, now);
        if self.told.len() > world.tasks.objects.len() + FORGET_SLACK {
            let alive: BTreeSet<_> =
                world.tasks.objects.values().map(|task| task.meta.uid.clone()).collect();
            self.told.retain(|uid, _| alive.contains(uid));
        }
        let workloads = self.folded.len().max(self.refused.len());
        if workloads > world.workloads.objects.len() + FORGET_SLACK {
            let alive: BTreeSet<_> =
                world.workloads.objects.values().map(|w| w.meta.uid.clone()).collect();
            self.folded.retain(|uid, _| alive.contains(uid));
            self.refused.retain(|uid, _| alive.contains(uid));
        }
    }

    /// One node was heard of, and nothing else is to be refreshed; whether that tells something new
    /// of its claims.
    pub(super) fn look(&mut self, world: &World, node: &Key, now: Moment) -> bool {
        let Some(node) = world.nodes.objects.get(node) else { return false };
        let Some(seen) = self.seen.get_mut(&node.key()) else { return false };
        seen.look(node, now.wall, now.awake);
        self.claims.look(world, node, seen, now)
    }

    /// Every silence begins now: after our own absence nobody else's is known. To be called at the
    /// start, on becoming leader, and after every time in which nothing could be heard.
    pub(super) fn restart_silences(&mut self, now: AwakeTime) {
        for seen in self.seen.values_mut() {
            seen.restart(now);
        }
        self.room.recheck_nodes = true;
        self.claims.restart_silences(now);
    }

    /// Nothing is heard of the nodes from now on.
    pub(super) fn goes_deaf(&mut self) {
        self.nodes.set_deaf(true);
    }

    /// The nodes were read in full.
    pub(super) fn hears_again(&mut self, now: AwakeTime) {
        self.nodes.set_deaf(false);
        self.restart_silences(now);
    }

    /// The store could not be asked about a node: nothing is known of any silence until something is
    /// heard of the store again.
    pub(super) fn cannot_ask(&mut self, now: AwakeTime) {
        self.nodes.set_unread(true);
        self.restart_silences(now);
    }

    /// The store told something of a node; whether that is news.
    pub(super) fn hears_of_the_store(&mut self, now: AwakeTime) -> bool {
        let news = self.nodes.is_unread();
        if news {
            self.nodes.set_unread(false);
            self.restart_silences(now);
        }
        news
    }

    /// Notices that the machine slept, and says whether: who sleeps hears nothing.
    pub(super) fn notice_sleep(&mut self, awake: AwakeTime, boot: BootTime) -> bool {
        let slept = self.nodes.slept(awake, boot);
        if let Some(slept) = slept.filter(|_| bugs::on(Bug::SilenceWhileAsleep)) {
            self.seen.values_mut().for_each(|seen| seen.silent_before(slept));
        } else if slept.is_some() {
            tracing::info!("this machine slept: every node's silence begins anew");
            self.restart_silences(awake);
        }
        slept.is_some()
    }

    /// A fresh read of that node did not show what a decision rested on.
    pub(super) fn doubts(&mut self, node: Key, now: AwakeTime) {
        self.nodes.doubts(node, now);
    }

    /// Keeps a task away from a node, unless it is kept away longer already.
    pub(super) fn avoid(&mut self, uid: Uid, node: NodeName, avoided: Avoided) {
        let known = self.avoided.entry((uid.clone(), node.clone())).or_insert(avoided);
        let weaker = known.how == Avoid::Soft && avoided.how == Avoid::Hard;
        if weaker || (known.how == avoided.how && known.until < avoided.until) {
            *known = avoided;
        }
        let how = known.how;
        if let Some(key) = self.room.watchlist.key_of(&uid).cloned() {
            self.room.watchlist.touch(&key);
        }
        self.room.fleet.avoid(uid, node, how);
    }

    /// Nodes struck a task: it is placed elsewhere for a while, if another fits.
    pub(super) fn struck(&mut self, task: &Uid, counted: &Counted, now: AwakeTime) {
        let avoided = Avoided { how: Avoid::Soft, until: now + STRUCK_AVOID };
        for node in counted.nodes.iter().filter_map(|node| NodeName::parse(node).ok()) {
            self.avoid(task.clone(), node, avoided);
        }
    }

    /// The store refused a child of that workload.
    pub(super) fn child_refused(&mut self, owner: Uid, error: &StoreError, now: AwakeTime) {
        if matches!(error, StoreError::Invalid { .. } | StoreError::TooLarge { .. }) {
            self.refused.insert(owner, RefusedChild::ForGood(error.to_string()));
            return;
        }
        let mut backoff = match self.refused.remove(&owner) {
            Some(RefusedChild::ForNow(backoff, _)) => backoff,
            Some(RefusedChild::ForGood(_)) | None => Backoff::starting_with(RENDER_RETRY_MIN),
        };
        backoff.failed(now, None);
        self.refused.insert(owner, RefusedChild::ForNow(backoff, error.to_string()));
    }

    /// The store took a child of that workload.
    pub(super) fn child_made(&mut self, owner: &Uid) {
        if matches!(self.refused.get(owner), Some(RefusedChild::ForNow(..))) {
            self.refused.remove(owner);
        }
    }
}
