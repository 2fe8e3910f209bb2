//! The state machine of a task: the only table of legal moves.

use crate::bugs::{self, Bug};
use crate::model::agentic_task::{AgenticTaskStatus, TaskPhase};
use crate::model::outcome::{Infrastructure, Outcome, Verdict, on_target};

/// Who moves a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// The control loop.
    Operator,
    /// The node's agent.
    Agent,
}

/// Whether `actor` may move a task from one phase to another. What is read is never illegal, only
/// what is written; `Verifying` is read as in flight and never written.
pub(crate) fn is_legal(actor: Actor, from: Option<TaskPhase>, to: TaskPhase) -> bool {
    use TaskPhase::{Failed, Pending, Running, Scheduled, Succeeded, Verifying};
    if bugs::on(Bug::LateResultWins) && actor == Actor::Agent && matches!(to, Succeeded | Failed) {
        return true;
    }
    match (actor, from, to) {
        (_, Some(Succeeded | Failed), _)
        | (_, _, Verifying)
        | (Actor::Agent, None | Some(Pending), _) => false,
        (Actor::Operator, None, to) => matches!(to, Pending | Scheduled | Succeeded | Failed),
        (Actor::Operator, Some(Pending), to) => matches!(to, Scheduled | Succeeded | Failed),
        (Actor::Operator, Some(Scheduled | Running | Verifying), to) => {
            matches!(to, Pending | Failed)
        }
        (Actor::Agent, Some(Scheduled), to) => matches!(to, Running | Pending),
        (Actor::Agent, Some(Running | Verifying), to) => {
            matches!(to, Running | Pending | Succeeded | Failed)
        }
    }
}

/// A move that is not in the table: a fault of ours, so nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{actor:?} may not move a task from {from:?} to {to}")]
pub(crate) struct IllegalMove {
    actor: Actor,
    from: Option<TaskPhase>,
    to: TaskPhase,
}

/// Checks a move against the table.
pub(crate) fn check(
    actor: Actor,
    status: &AgenticTaskStatus,
    to: TaskPhase,
) -> Result<TaskPhase, IllegalMove> {
    let from = status.known_phase();
    if is_legal(actor, from, to) { Ok(to) } else { Err(IllegalMove { actor, from, to }) }
}

/// The reason of the condition `Finished` on a task that ended.
pub(crate) fn finished_reason(status: &AgenticTaskStatus) -> &'static str {
    let outcome = Outcome::of(status);
    let skipped = status.verdict.as_ref().is_some_and(|verdict| verdict.is(Verdict::Skipped));
    let resolved = outcome.reason == Some(crate::model::outcome::OutcomeReason::AlreadyResolved);
    match outcome.infrastructure {
        Infrastructure::Cancelled => "Cancelled",
        Infrastructure::Ok if on_target(status) || skipped || resolved => "Succeeded",
        Infrastructure::Ok => "NotOnTarget",
        Infrastructure::NodeLost
        | Infrastructure::SandboxUnavailable
        | Infrastructure::ModelUnavailable
        | Infrastructure::ModelContextTruncated
        | Infrastructure::GitUnavailable
        | Infrastructure::PushRefused
        | Infrastructure::TimedOut
        | Infrastructure::Error => "Infrastructure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_is_absorbing_and_verifying_is_never_written() {
        for actor in [Actor::Operator, Actor::Agent] {
            for to in TaskPhase::ALL {
                assert!(!is_legal(actor, Some(TaskPhase::Succeeded), *to));
                assert!(!is_legal(actor, Some(TaskPhase::Failed), *to));
                assert!(!is_legal(actor, Some(*to), TaskPhase::Verifying));
            }
        }
    }

    #[test]
    fn the_table() {
        use TaskPhase::{Failed, Pending, Running, Scheduled, Succeeded};
        let legal = [
            (Actor::Operator, None, Scheduled),
            (Actor::Operator, None, Pending),
            (Actor::Operator, Some(Pending), Scheduled),
            (Actor::Operator, Some(Running), Pending),
            (Actor::Operator, Some(Scheduled), Failed),
            (Actor::Agent, Some(Scheduled), Running),
            (Actor::Agent, Some(Running), Running),
            (Actor::Agent, Some(Running), Succeeded),
            (Actor::Agent, Some(Scheduled), Pending),
        ];
        for (actor, from, to) in legal {
            assert!(is_legal(actor, from, to), "{actor:?} {from:?} -> {to:?}");
        }
        let illegal = [
            (Actor::Operator, Some(Pending), Running),
            (Actor::Operator, Some(Running), Succeeded),
            (Actor::Agent, None, Running),
            (Actor::Agent, Some(Pending), Running),
            (Actor::Agent, Some(Scheduled), Succeeded),
            (Actor::Agent, Some(Pending), Failed),
        ];
        for (actor, from, to) in illegal {
            assert!(!is_legal(actor, from, to), "{actor:?} {from:?} -> {to:?}");
        }
    }

    fn reason(json: serde_json::Value) -> &'static str {
        finished_reason(&serde_json::from_value(json).expect("a status"))
    }

    #[test]
    fn finished_says_what_the_end_was() {
        use serde_json::json;
        let with = |verdict: &str, infrastructure: &str, reason: &str| {
            json!({"phase": "Succeeded", "verdict": verdict, "outcome": {
                "infrastructure": infrastructure, "reason": reason}})
        };
        let cases = [
            (json!({"phase": "Succeeded", "verdict": "GO"}), "Succeeded"),
            (json!({"phase": "Succeeded", "verdict": "GATE-PASS"}), "Succeeded"),
            (json!({"phase": "Succeeded", "verdict": "Skipped"}), "Succeeded"),
            (with("NO-GO", "Ok", "AlreadyResolved"), "Succeeded"),
            (with("NO-GO", "Ok", "Declined"), "NotOnTarget"),
            (json!({"phase": "Succeeded", "verdict": "GATE-FAIL"}), "NotOnTarget"),
            (with("INCOMPLETE", "Ok", "TurnLimit"), "NotOnTarget"),
            (with("INCOMPLETE", "Cancelled", ""), "Cancelled"),
            (with("INCOMPLETE", "TimedOut", ""), "Infrastructure"),
            (with("GO", "PushRefused", ""), "Infrastructure"),
            (with("GO", "SomethingNew", ""), "Infrastructure"),
            (json!({"phase": "Failed"}), "Infrastructure"),
        ];
        for (json, wanted) in cases {
            assert_eq!(reason(json.clone()), wanted, "{json}");
        }
    }

    #[test]
    fn the_operators_and_the_agents_moves_in_full() {
        use TaskPhase::{Failed, Pending, Running, Scheduled, Succeeded, Verifying};
        let moves = |actor, from| {
            let all = TaskPhase::ALL.iter().copied();
            all.filter(|to| is_legal(actor, from, *to)).collect::<Vec<_>>()
        };
        let operator = |from| moves(Actor::Operator, from);
        assert_eq!(operator(None), [Pending, Scheduled, Succeeded, Failed]);
        assert_eq!(operator(Some(Pending)), [Scheduled, Succeeded, Failed]);
        for from in [Scheduled, Running, Verifying] {
            assert_eq!(operator(Some(from)), [Pending, Failed], "{from}");
        }
        let agent = |from| moves(Actor::Agent, from);
        assert_eq!(agent(None), []);
        assert_eq!(agent(Some(Pending)), []);
        assert_eq!(agent(Some(Scheduled)), [Pending, Running]);
        for from in [Running, Verifying] {
            assert_eq!(agent(Some(from)), [Pending, Running, Succeeded, Failed], "{from}");
        }
    }
}
