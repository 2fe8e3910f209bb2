//! What the loop says to a model, and when: nudges and notices. Pure.

use crate::journal::PastTurn;
use crate::limits::{
    CUT_NUDGES_MAX, EMPTY_NUDGES_MAX, MALFORMED_TURNS_MAX, PROSE_NUDGES_MAX,
    TURNS_WARNED_BEFORE_LIMIT,
};
use crate::model_client::FinishReason;

/// A reply without a call, by what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoCall {
    Prose,
    Empty,
    Cut,
    Problem,
}

fn kind(turn: &PastTurn) -> Option<NoCall> {
    if !turn.calls.is_empty() {
        return None;
    }
    Some(if turn.problem {
        NoCall::Problem
    } else if turn.finish == FinishReason::Length {
        NoCall::Cut
    } else if turn.has_text {
        NoCall::Prose
    } else {
        NoCall::Empty
    })
}

/// What to answer to a reply without a call, the last of `turns`; or why it is no use.
///
/// # Errors
/// Why the run ends.
pub(super) fn answer(turns: &[PastTurn], problem: Option<&str>) -> Result<String, String> {
    let Some(last) = turns.last().and_then(kind) else {
        return Ok("Go on with one tool call.".to_owned());
    };
    let streak = turns.iter().rev().map_while(kind).filter(|kind| *kind == last).count();
    let streak = u32::try_from(streak).unwrap_or(u32::MAX);
    let (max, text, what) = match last {
        NoCall::Prose => (
            PROSE_NUDGES_MAX,
            "That was text without a tool call; text alone changes nothing. Call exactly one tool now; when the work is done, call submit_result.".to_owned(),
            "answers in prose instead of calling a tool",
        ),
        NoCall::Empty => (
            EMPTY_NUDGES_MAX,
            "Your answer was empty. Call exactly one tool now; when the work is done, call submit_result.".to_owned(),
            "gives empty answers",
        ),
        NoCall::Cut => (
            CUT_NUDGES_MAX,
            "Your answer was cut off at the output limit before it reached a tool call. Think less and call one tool now; write long files in several pieces.".to_owned(),
            "uses up its output limit without reaching a tool call",
        ),
        NoCall::Problem => {
            malformed(turns)?;
            let why = problem.unwrap_or("it is no call");
            return Ok(format!("Your answer was meant as a tool call and could not be read: {why}. Nothing was run. Call the tool again."));
        }
    };
    if streak > max { Err(format!("the model {what}, {streak} times in a row")) } else { Ok(text) }
}

/// Whether the model has failed to make itself understood too often.
///
/// # Errors
/// Why the run ends.
pub(super) fn malformed(turns: &[PastTurn]) -> Result<(), String> {
    let wrong = |turn: &PastTurn| {
        turn.problem || (!turn.calls.is_empty() && turn.malformed.len() >= turn.calls.len())
    };
    let streak = turns.iter().rev().take_while(|turn| wrong(turn)).count();
    if streak >= usize::try_from(MALFORMED_TURNS_MAX).unwrap_or(usize::MAX) {
        return Err(format!(
            "none of the tool calls of {streak} turns in a row could be understood"
        ));
    }
    Ok(())
}

/// The notice a few turns before the limit.
pub(super) fn turns_left(turns: usize, max: u32) -> Option<String> {
    let used = u32::try_from(turns).unwrap_or(u32::MAX);
    let left = max.saturating_sub(used);
    (left == TURNS_WARNED_BEFORE_LIMIT && max > TURNS_WARNED_BEFORE_LIMIT).then(|| {
        format!("You have {left} turns left. Finish what you are doing and call submit_result; what is not submitted by then counts as not done.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_client::ToolCall;

    fn turn(has_text: bool, finish: FinishReason) -> PastTurn {
        PastTurn {
            calls: vec![],
            malformed: vec![],
            changed: false,
            has_text,
            problem: false,
            finish,
        }
    }

    fn called(malformed: bool) -> PastTurn {
        let call = ToolCall { id: "a".into(), name: "x".into(), arguments: String::new() };
        let malformed = if malformed { vec!["a".to_owned()] } else { vec![] };
        PastTurn { calls: vec![call], malformed, ..turn(false, FinishReason::ToolCalls) }
    }

    #[test]
    fn nudges_are_bounded_and_reset_by_a_call() {
        let prose = || turn(true, FinishReason::Stop);
        assert!(answer(&[prose()], None).is_ok_and(|t| t.contains("text without a tool call")));
        assert!(answer(&[prose(), prose()], None).is_ok());
        assert!(answer(&[prose(), prose(), prose()], None).is_err());
        assert!(answer(&[prose(), prose(), called(false), prose()], None).is_ok());
        assert!(
            answer(&[turn(false, FinishReason::Stop)], None).is_ok_and(|t| t.contains("empty"))
        );
        assert!(
            answer(&[turn(true, FinishReason::Length)], None).is_ok_and(|t| t.contains("cut off"))
        );
    }

    #[test]
    fn three_turns_of_malformed_calls_are_enough() {
        assert!(malformed(&[called(true), called(true)]).is_ok());
        assert!(malformed(&[called(true), called(true), called(true)]).is_err());
        assert!(malformed(&[called(true), called(false), called(true), called(true)]).is_ok());
        let problem = PastTurn { problem: true, ..turn(true, FinishReason::Stop) };
        assert!(
            answer(std::slice::from_ref(&problem), Some("it ends early"))
                .is_ok_and(|t| t.contains("it ends early"))
        );
        assert!(answer(&[called(true), called(true), problem], None).is_err());
    }

    #[test]
    fn the_limit_is_announced_once() {
        let announced: Vec<usize> =
            (0..=50).filter(|turns| turns_left(*turns, 50).is_some()).collect();
        assert_eq!(announced, [47]);
        assert_eq!(turns_left(0, 3), None);
    }
}
