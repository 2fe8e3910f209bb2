//! What one heartbeat writes: only the leaves that moved.

use serde_json::Value;

use super::registrar::{Identity, NodeState};
use crate::model::fleet_node::{AgentKind, Capability, Capacity, FleetNode, FleetNodeStatus};
use crate::model::object::{Object, plain};
use crate::model::open::Open;
use crate::model::time::WallTime;
use crate::ports::change::{Change, Part, difference};

/// The change that one beat writes: against the answer to the beat `before`, or in full.
pub(super) fn change(
    identity: &Identity,
    state: NodeState,
    slots: i32,
    before: Option<&Object<FleetNode>>,
    capability: Capability,
    now: WallTime,
) -> Change<FleetNode> {
    let old = before.map(|object| &object.status);
    let mut next = old.cloned().unwrap_or_default();
    next.phase = Some(state.phase.into());
    next.runs = state.runs;
    next.drain_since = state.drain_since;
    next.last_heartbeat_time = Some(now);
    next.agent_kind = Some(Open::Known(AgentKind::ForemanAgent));
    next.agent_version = Some(identity.version.clone());
    next.os = Some(identity.os.clone());
    next.arch = Some(identity.arch.clone());
    next.capacity = Some(Capacity {
        slots: Some(slots),
        ram_gb: capability.total_ram_gb,
        extra: old
            .and_then(|old| old.capacity.as_ref())
            .map(|c| c.extra.clone())
            .unwrap_or_default(),
    });
    next.capability = Some(steady(old.and_then(|old| old.capability.as_ref()), capability));
    match old {
        Some(old) => Change::status_patch(difference(&plain(old), &plain(&next))),
        None => full_change(&next),
    }
}

/// `availableRAMGB` is published only when it moved by max(1, 5 %), so that an idle machine's beat
/// stays small.
fn steady(old: Option<&Capability>, mut new: Capability) -> Capability {
    let Some(old) = old else { return new };
    if let (Some(before), Some(now)) = (old.available_ram_gb, new.available_ram_gb) {
        let step = (i64::from(before) * 5 / 100).max(1);
        let within_total = new.total_ram_gb.is_none_or(|total| before <= total);
        if (i64::from(before) - i64::from(now)).abs() < step && within_total {
            new.available_ram_gb = Some(before);
        }
    }
    for (name, value) in &old.extra {
        new.extra.entry(name.clone()).or_insert_with(|| value.clone());
    }
    new
}

/// The first beat: every field that the agent owns, whatever the object showed.
fn full_change(next: &FleetNodeStatus) -> Change<FleetNode> {
    Change::of(Part::Status)
        .set("phase", &next.phase)
        .set("lastHeartbeatTime", next.last_heartbeat_time)
        .set("capability", &next.capability)
        .set("capacity", &next.capacity)
        .set("drainSince", plain(&next.drain_since))
        .set("runs", if next.runs.is_empty() { Value::Null } else { plain(&next.runs) })
        .set("agentKind", &next.agent_kind)
        .set("agentVersion", &next.agent_version)
        .set("os", &next.os)
        .set("arch", &next.arch)
}
