//! Words for decisions. Calls the deciding function, never repeats it.

use super::fit::{Refusal, Refusals, memory_gb};
use super::need::Need;
use super::scheduler::{Counts, Placement, placement};
use super::snapshot::{NodeRow, Snapshot};
use crate::model::NodeName;
use crate::model::agentic_task::WaitingReason;

/// Why a task that no node fits is waiting: the reason of the node that came furthest, and a
/// message that counts. It names no ages, so it stays the same while nothing changes.
pub fn waiting(refused: &[(NodeName, Refusals)], need: &Need) -> (WaitingReason, String) {
    let mut counts = Counts::default();
    for (_, refusals) in refused {
        counts.add(*refusals);
    }
    waiting_for(&counts, need)
}

/// The same, from the counts of a decision.
pub fn waiting_for(counts: &Counts, need: &Need) -> (WaitingReason, String) {
    let total = counts.total();
    if total == 0 {
        return (
            WaitingReason::NoNodes,
            "there are no nodes: start one with foreman up".to_owned(),
        );
    }
    if let Some(node) = &need.only {
        return (WaitingReason::NodesRecovering, waits_for_its_node(counts, need, node));
    }
    let furthest = counts.refused().map(|(refusal, _)| reason(refusal)).max();
    let parts: Vec<_> =
        counts.refused().map(|(refusal, n)| counted(n, &short(refusal, need))).collect();
    let reason = furthest.map_or(WaitingReason::NoMatchingNode, Progressed::reason);
    (reason, format!("0/{total} nodes fit: {}", parts.join(", ")))
}

/// `1 lacks role coder`, `3 lack role coder`.
fn counted(count: u32, words: &str) -> String {
    let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
    let one = match verb {
        "lack" => "lacks",
        "have" => "has",
        "offer" => "offers",
        "take" => "takes",
        _ => return format!("{count} {words}"),
    };
    format!("{count} {} {rest}", if count == 1 { one } else { verb })
}

/// A run that can be resumed on one node only. What that node says is the one first refusal that
/// is not "the journal is elsewhere".
fn waits_for_its_node(counts: &Counts, need: &Need, node: &NodeName) -> String {
    let why = counts.refused().map(|(refusal, _)| refusal);
    let why = why.filter(|refusal| *refusal != Refusal::JournalElsewhere).last();
    let state = if need.last_resort.as_ref() == Some(node) {
        FAILED_TOO_OFTEN.to_owned()
    } else {
        format!("is {}", why.map_or("gone", state))
    };
    format!("waits for {node}, where its run can be resumed ({node} {state})")
}

/// What is said of a node that a run is kept away from although its journal is there.
const FAILED_TOO_OFTEN: &str = "failed it too often and is not tried again";

/// How near a refused node came, from far to near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progressed {
    NoMatch,
    Stale,
    Recovering,
    Busy,
}

impl Progressed {
    const fn reason(self) -> WaitingReason {
        match self {
            Self::NoMatch => WaitingReason::NoMatchingNode,
            Self::Stale => WaitingReason::NodesStale,
            Self::Recovering => WaitingReason::NodesRecovering,
            Self::Busy => WaitingReason::NodesBusy,
        }
    }
}

const fn reason(refusal: Refusal) -> Progressed {
    match refusal {
        Refusal::Role
        | Refusal::Label
        | Refusal::Namespace
        | Refusal::Accelerator
        | Refusal::Model
        | Refusal::Context
        | Refusal::MemoryTooSmall
        | Refusal::NoSlots
        | Refusal::Cordoned
        | Refusal::Draining => Progressed::NoMatch,
        Refusal::Stale => Progressed::Stale,
        Refusal::Recovering | Refusal::JournalElsewhere => Progressed::Recovering,
        Refusal::Avoided | Refusal::SlotsFull | Refusal::MemoryInUse => Progressed::Busy,
    }
}

fn short(refusal: Refusal, need: &Need) -> String {
    let words = match refusal {
        Refusal::Role if !need.roles.is_empty() => {
            return format!("lack role {}", need.roles.join(" or "));
        }
        Refusal::Role => "lack the role",
        Refusal::Label => "lack a label",
        Refusal::Namespace => "take no tasks of this namespace",
        Refusal::Accelerator => {
            return format!("lack accelerator {}", need.accelerator.as_deref().unwrap_or("any"));
        }
        Refusal::Model => match &need.model {
            Some(model) => return format!("lack model {model}"),
            None => "lack the model",
        },
        Refusal::Context => return format!("offer less than {} context", need.context_tokens),
        Refusal::MemoryTooSmall => return format!("have less than {} GB", need.ram_gb),
        Refusal::NoSlots => "have no slots",
        Refusal::Cordoned => "cordoned",
        Refusal::Draining => "draining",
        Refusal::Avoided => "refused it just now",
        Refusal::JournalElsewhere => "lack its journal",
        Refusal::Stale => "stale",
        Refusal::Recovering => "starting",
        Refusal::SlotsFull => "busy",
        Refusal::MemoryInUse => return format!("have less than {} GB free", need.ram_gb),
    };
    words.to_owned()
}

/// What a node is, in the eyes of a run that waits for it.
const fn state(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::SlotsFull | Refusal::MemoryInUse => "busy",
        Refusal::Stale => "silent",
        Refusal::Recovering => "starting",
        Refusal::Cordoned => "cordoned",
        Refusal::Draining => "draining",
        Refusal::Avoided => "not asked again just now",
        Refusal::JournalElsewhere => "gone",
        Refusal::Role
        | Refusal::Label
        | Refusal::Namespace
        | Refusal::Accelerator
        | Refusal::Model
        | Refusal::Context
        | Refusal::MemoryTooSmall
        | Refusal::NoSlots => "no longer fit for it",
    }
}

/// What one node says to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVerdict {
    /// The node.
    pub node: NodeName,
    /// Every refusal; empty = it fits.
    pub refusals: Refusals,
    /// One word: `fits`, `busy`, `too small`, `refused`, `away`, `not asked`.
    pub word: &'static str,
    /// Every refusal with its numbers.
    pub detail: String,
    /// What would make it fit, where one thing would.
    pub remedy: Option<String>,
}

/// A decision, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub placement: Placement,
    /// Why it waits, when no node fits: the words that stand on the task.
    pub waiting: Option<(WaitingReason, String)>,
    /// What the task needs, in words.
    pub needs: String,
    /// What each node says, by name.
    pub nodes: Vec<NodeVerdict>,
}

/// Explains the decision for a need on a snapshot.
pub fn explain(snapshot: &Snapshot, need: &Need) -> Explanation {
    let nodes = snapshot.nodes().map(|node| verdict_of(snapshot, node, need)).collect();
    {
        let placement = placement(snapshot, need);
        let waiting = match &placement {
            Placement::On { .. } => None,
            Placement::Nowhere(refused) => Some(waiting(refused, need)),
        };
        Explanation { placement, waiting, needs: need.in_words(), nodes }
    }
}

pub(super) fn verdict_of(snapshot: &Snapshot, node: &NodeRow, need: &Need) -> NodeVerdict {
    let refusals = super::fit::fit(snapshot, node, need);
    let details: Vec<_> = refusals.iter().map(|one| detail(snapshot, node, need, one)).collect();
    let mut reasons = refusals.iter();
    let remedy = match (reasons.next(), reasons.next()) {
        (Some(only), None) => remedy(snapshot, node, need, only),
        _ => None,
    };
    let word = match refusals.first() {
        None => "fits",
        Some(Refusal::SlotsFull | Refusal::MemoryInUse | Refusal::Avoided) => "busy",
        Some(Refusal::MemoryTooSmall | Refusal::Context) => "too small",
        Some(Refusal::Stale | Refusal::Recovering) => "away",
        Some(Refusal::JournalElsewhere) => "not asked",
        Some(_) => "refused",
    };
    let detail = if details.is_empty() {
        let used = snapshot.slots_used(&node.name, &need.uid);
        format!("{used}/{} slots in use", node.slots)
    } else {
        details.join("; ")
    };
    NodeVerdict { node: node.name.clone(), refusals, word, detail, remedy }
}

fn detail(snapshot: &Snapshot, node: &NodeRow, need: &Need, refusal: Refusal) -> String {
    match refusal {
        Refusal::Role => {
            let lacks = |role: &&String| !node.roles.contains(*role);
            let missing: Vec<_> = need.roles.iter().filter(lacks).map(String::as_str).collect();
            format!("lacks role {} (has {})", missing.join(", "), list(&node.roles))
        }
        Refusal::Label => {
            let differs =
                |(name, value): &(&String, &String)| node.labels.get(*name) != Some(*value);
            let label = need.labels.iter().find(differs);
            label.map_or_else(String::new, |(name, value)| {
                let has = node.labels.get(name).map_or("absent", String::as_str);
                format!("label {name} is {has}, not {value}")
            })
        }
        Refusal::Namespace => format!("takes no tasks of namespace {}", need.namespace),
        Refusal::Accelerator => format!(
            "accelerator {}, not {}",
            node.accelerator.as_deref().unwrap_or("unknown"),
            need.accelerator.as_deref().unwrap_or("any")
        ),
        Refusal::Model => format!(
            "model {} is not installed",
            need.model.as_deref().unwrap_or("(the Agent names none)")
        ),
        Refusal::Context => {
            format!("context {} of {} tokens", node.context_tokens, need.context_tokens)
        }
        Refusal::MemoryTooSmall => {
            format!("{} of {} GB", memory_gb(snapshot, node, need).0, need.ram_gb)
        }
        Refusal::NoSlots => "takes no runs (0 slots)".to_owned(),
        Refusal::Cordoned => match &node.note {
            Some(words) => format!("cordoned: {words:?}"),
            None => "cordoned".to_owned(),
        },
        Refusal::Draining => "draining".to_owned(),
        Refusal::Avoided if need.last_resort.as_ref() == Some(&node.name) => {
            FAILED_TOO_OFTEN.to_owned()
        }
        Refusal::Avoided => "refused this task just now".to_owned(),
        Refusal::JournalElsewhere => match &need.only {
            Some(only) => format!("the run is on {only}"),
            None => "the run is elsewhere".to_owned(),
        },
        Refusal::Stale => "no heartbeat".to_owned(),
        Refusal::Recovering => "its agent is starting".to_owned(),
        Refusal::SlotsFull => {
            let held: Vec<_> = snapshot
                .reservations(&node.name)
                .filter(|(uid, _)| **uid != need.uid)
                .map(|(_, reservation)| reservation.task.name.clone())
                .collect();
            format!("{}/{} slots: {}", held.len(), node.slots, held.join(", "))
        }
        Refusal::MemoryInUse => {
            format!("{} of {} GB free", memory_gb(snapshot, node, need).1, need.ram_gb)
        }
    }
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn remedy(snapshot: &Snapshot, node: &NodeRow, need: &Need, refusal: Refusal) -> Option<String> {
    match refusal {
        Refusal::MemoryTooSmall | Refusal::MemoryInUse => {
            let (_, free) = memory_gb(snapshot, node, need);
            Some(format!("+{} GB free on {}", i64::from(need.ram_gb) - free, node.name))
        }
        Refusal::SlotsFull | Refusal::NoSlots => {
            Some(format!("{} slots {}", node.name, node.slots + 1))
        }
        Refusal::Cordoned => Some(format!("{} uncordoned", node.name)),
        Refusal::Stale => Some(format!("the agent on {} running", node.name)),
        Refusal::Model => need.model.as_ref().map(|model| format!("{model} on {}", node.name)),
        Refusal::Role => Some(format!("{} with role {}", node.name, need.roles.join(", "))),
        Refusal::Label
        | Refusal::Namespace
        | Refusal::Accelerator
        | Refusal::Context
        | Refusal::Draining
        | Refusal::Avoided
        | Refusal::JournalElsewhere
        | Refusal::Recovering => None,
    }
}
