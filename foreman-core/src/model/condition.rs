//! Conditions: facts about an object that tools wait for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meta::Extra;
use super::open::{Open, wire_enum};
use super::time::WallTime;

wire_enum! {
    /// Whether a condition holds.
    ConditionStatus { True = "True", False = "False", Unknown = "Unknown" }
}

/// One condition, in the form of Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about; unique in its list.
    #[serde(rename = "type")]
    #[schemars(
        length(max = 316),
        regex(
            pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
        )
    )]
    pub kind: String,
    /// Whether it holds.
    pub status: Open<ConditionStatus>,
    /// Why, as one word.
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: WallTime,
    /// The generation it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Sets a condition in its list and says whether anything changed. `lastTransitionTime` moves only
/// when the status does; a message or reason alone moves nothing but itself.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: WallTime,
) -> bool {
    if let Some(condition) = conditions.iter_mut().find(|condition| condition.kind == kind) {
        let moved = !condition.status.is(status);
        let changed = moved || condition.reason != reason || condition.message != message;
        if moved {
            condition.status = status.into();
            condition.last_transition_time = now;
        }
        if changed {
            reason.clone_into(&mut condition.reason);
            message.clone_into(&mut condition.message);
        }
        return changed;
    }
    conditions.push(Condition {
        kind: kind.to_owned(),
        status: status.into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: now,
        observed_generation: None,
        extra: Extra::new(),
    });
    true
}

/// The condition of that type.
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether the condition of that type is there and `True`.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find_condition(conditions, kind).is_some_and(|found| found.status.is(ConditionStatus::True))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_time_moves_with_the_status_only() {
        let (early, late) = (WallTime::from_unix_seconds(1), WallTime::from_unix_seconds(2));
        let mut list = Vec::new();
        assert!(set_condition(&mut list, "Ready", ConditionStatus::True, "A", "", early));
        assert!(!set_condition(&mut list, "Ready", ConditionStatus::True, "A", "", late));
        assert!(set_condition(&mut list, "Ready", ConditionStatus::True, "B", "m", late));
        assert_eq!(list[0].last_transition_time, early);
        assert!(set_condition(&mut list, "Ready", ConditionStatus::False, "B", "m", late));
        assert_eq!(list[0].last_transition_time, late);
        assert_eq!(list.len(), 1);
    }
}
