//! Fit: which nodes a task may run on, and every reason why not.

use crate::model::fleet_node::NodePhase;

use super::need::Need;
use super::snapshot::{NodeRow, Snapshot};

/// Why a node does not fit. The order is the table's: a node counts under its first refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Refusal {
    /// It lacks a role.
    Role,
    /// It lacks a label.
    Label,
    /// It takes no tasks from this namespace.
    Namespace,
    /// Its accelerator is another one, or none.
    Accelerator,
    /// The model is not installed there.
    Model,
    /// Its context is too short.
    Context,
    /// It does not have that much memory at all.
    MemoryTooSmall,
    /// It takes no runs at all.
    NoSlots,
    /// Somebody keeps work away from it.
    Cordoned,
    /// It is leaving.
    Draining,
    /// It refused or failed this task just now.
    Avoided,
    /// Nothing was heard of it for too long.
    Stale,
    /// Its agent is starting.
    Recovering,
    /// All its slots are in use.
    SlotsFull,
    /// Its memory is in use.
    MemoryInUse,
}

impl Refusal {
    /// All refusals, in the order of the table.
    pub const ALL: [Self; 15] = [
        Self::Role,
        Self::Label,
        Self::Namespace,
        Self::Accelerator,
        Self::Model,
        Self::Context,
        Self::MemoryTooSmall,
        Self::NoSlots,
        Self::Cordoned,
        Self::Draining,
        Self::Avoided,
        Self::Stale,
        Self::Recovering,
        Self::SlotsFull,
        Self::MemoryInUse,
    ];
}

/// A set of refusals; empty = the node fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Refusals(u16);

impl Refusals {
    fn refuse_if(&mut self, refused: bool, refusal: Refusal) {
        self.0 |= u16::from(refused) << (refusal as u8);
    }

    /// Whether the node fits.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is among the reasons.
    pub const fn contains(self, refusal: Refusal) -> bool {
        self.0 & (1 << (refusal as u8)) != 0
    }

    /// The reasons, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Refusal> {
        Refusal::ALL.into_iter().filter(move |refusal| self.contains(*refusal))
    }

    /// The reason that the node counts under.
    pub fn first(self) -> Option<Refusal> {
        self.iter().next()
    }
}

/// Every reason why `node` may not run a task of that need.
pub fn fit(snapshot: &Snapshot, node: &NodeRow, need: &Need) -> Refusals {
    let mut refusals = Refusals::default();
    let says = |wanted: &str| node.accelerator.as_deref() == Some(wanted);
    refusals.refuse_if(need.roles.iter().any(|role| !node.roles.contains(role)), Refusal::Role);
    let labelled = need.labels.iter().all(|(name, value)| node.labels.get(name) == Some(value));
    refusals.refuse_if(!labelled, Refusal::Label);
    let takes = node.namespaces.is_empty() || node.namespaces.contains(&need.namespace);
    refusals.refuse_if(!takes, Refusal::Namespace);
    let accelerated = need.accelerator.as_deref().is_none_or(says);
    refusals.refuse_if(!accelerated, Refusal::Accelerator);
    let installed = need.model.as_ref().is_some_and(|model| node.models.contains(model));
    refusals.refuse_if(need.model_installed && !installed, Refusal::Model);
    refusals.refuse_if(need.context_tokens > node.context_tokens, Refusal::Context);
    refusals.refuse_if(node.slots == 0, Refusal::NoSlots);
    refusals.refuse_if(node.cordoned, Refusal::Cordoned);
    refusals.refuse_if(node.phase == Some(NodePhase::Draining), Refusal::Draining);
    refusals.refuse_if(snapshot.is_avoided(&need.uid, &node.name), Refusal::Avoided);
    refusals.refuse_if(node.phase == Some(NodePhase::Unknown), Refusal::Recovering);
    let silent = !node.fresh || matches!(node.phase, None | Some(NodePhase::NotReady));
    refusals.refuse_if(silent, Refusal::Stale);
    let used = snapshot.slots_used(&node.name, &need.uid);
    refusals.refuse_if(node.slots > 0 && used >= node.slots, Refusal::SlotsFull);
    let (too_small, in_use) = memory(snapshot, node, need);
    refusals.refuse_if(too_small, Refusal::MemoryTooSmall);
    refusals.refuse_if(in_use, Refusal::MemoryInUse);
    refusals
}

/// Whether the machine is too small for the need, and whether it is only that others use it now.
fn memory(snapshot: &Snapshot, node: &NodeRow, need: &Need) -> (bool, bool) {
    if need.ram_gb == 0 {
        return (false, false);
    }
    let (all, free) = memory_gb(snapshot, node, need);
    let wanted = i64::from(need.ram_gb);
    (all < wanted, all >= wanted && free < wanted)
}

/// Memory in GiB that the node has for work, and what of it is left for this task. With a capacity:
/// capacity − Σ reserved, and no more than available − Σ reserved of tasks that the last heartbeat
/// did not show yet (their memory is not in the probed figure). Without: the old rule, what is
/// available is all there is.
pub(super) fn memory_gb(snapshot: &Snapshot, node: &NodeRow, need: &Need) -> (i64, i64) {
    let available = i64::from(node.available_ram_gb.unwrap_or(0));
    let Some(capacity) = node.capacity_ram_gb.map(i64::from) else {
        return (available, available);
    };
    let (mut reserved, mut unseen) = (0_i64, 0_i64);
    for (uid, reservation) in snapshot.reservations(&node.name).filter(|(uid, _)| **uid != need.uid)
    {
        let ram = i64::from(reservation.ram_gb);
        reserved += ram;
        if !node.running.contains(uid.as_str()) {
            unseen += ram;
        }
    }
    (capacity, (capacity - reserved).min(available - unseen).max(0))
}
