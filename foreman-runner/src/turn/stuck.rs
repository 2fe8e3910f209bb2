//! Notices that a model goes in circles. Pure, fed with the turns of the journal, so that a resumed
//! run has the same patience left as the one that crashed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::journal::PastTurn;
use crate::limits::{
    EDIT_FREE_GRACE_TURNS, EDIT_FREE_READ_BONUS_MAX, EDIT_FREE_TURNS_DEFAULT,
    REPEATED_CALLS_DEFAULT,
};
use crate::model_client::ToolCall;
use crate::tool::SUBMIT_RESULT;

/// How much repetition is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckSettings {
    /// The same call this often without an edit between; 0 = never.
    pub repeated_calls: u32,
    /// Turns without an edit; 0 = never (reviewers).
    pub edit_free_turns: u32,
}

impl StuckSettings {
    /// The defaults for an agent that edits.
    pub fn coder() -> Self {
        Self { repeated_calls: REPEATED_CALLS_DEFAULT, edit_free_turns: EDIT_FREE_TURNS_DEFAULT }
    }

    /// The defaults for an agent that only reads.
    pub fn reviewer() -> Self {
        Self { repeated_calls: REPEATED_CALLS_DEFAULT, edit_free_turns: 0 }
    }
}

/// What a turn gave rise to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Tell the model, once.
    Warn(String),
    /// It was told and went on: end the run.
    Stuck(String),
}

/// Watches the turns of one run.
#[derive(Debug)]
pub struct Detector {
    settings: StuckSettings,
    /// The last calls since the last edit.
    recent: VecDeque<String>,
    /// Calls that were warned about, since the last edit.
    warned: BTreeSet<String>,
    edit_free: u32,
    places_read: BTreeSet<String>,
    /// Edit-free turns left since the warning.
    grace: Option<u32>,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(settings: StuckSettings) -> Self {
        Self {
            settings,
            recent: VecDeque::new(),
            warned: BTreeSet::new(),
            edit_free: 0,
            places_read: BTreeSet::new(),
            grace: None,
        }
    }

    /// Takes one more turn.
    pub fn observe(&mut self, turn: &PastTurn) -> Option<Signal> {
        let submitted = turn.calls.iter().any(|call| call.name == SUBMIT_RESULT);
        if turn.changed || submitted {
            self.recent.clear();
            self.warned.clear();
            self.edit_free = 0;
            self.grace = None;
            // The calls of an editing turn count towards nothing: the next run of a test is not the same.
            return None;
        }
        self.repeated(&turn.calls).or_else(|| self.edit_free(&turn.calls))
    }

    fn repeated(&mut self, calls: &[ToolCall]) -> Option<Signal> {
        let threshold = usize::try_from(self.settings.repeated_calls).unwrap_or(usize::MAX);
        if threshold == 0 {
            return None;
        }
        for call in calls {
            let key = canonical(call);
            if self.warned.contains(&key) {
                return Some(Signal::Stuck(format!(
                    "{} was called again with the same arguments after a warning",
                    call.name
                )));
            }
            self.recent.push_back(key);
            // Wide enough for three calls that follow each other in turn.
            while self.recent.len() > threshold.saturating_mul(3) {
                self.recent.pop_front();
            }
        }
        let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
        for key in &self.recent {
            *counts.entry(key).or_default() += 1;
        }
        let mut looping: BTreeSet<String> = counts
            .iter()
            .filter(|(_, count)| **count >= threshold)
            .map(|(key, _)| (*key).clone())
            .collect();
        looping.extend(self.alternation(threshold));
        if looping.is_empty() {
            return None;
        }
        let names: Vec<&str> =
            looping.iter().map(|key| key.split(' ').next().unwrap_or(key)).collect();
        let text = format!(
            "You repeat the same calls ({}) and nothing changes. Their results will not change either. \
             Use what you know: make the change, or call submit_result.",
            names.join(", ")
        );
        self.warned.extend(looping);
        self.recent.clear();
        Some(Signal::Warn(text))
    }

    /// A, B, A, B, … for as many calls as make the threshold and one more.
    fn alternation(&self, threshold: usize) -> Vec<String> {
        let length = (threshold + 1).max(4);
        let last: Vec<&String> = self.recent.iter().rev().take(length).collect();
        let alternates = last.len() == length
            && last.iter().zip(last.iter().skip(2)).all(|(a, b)| a == b)
            && last.first() != last.get(1);
        if alternates { last.into_iter().take(2).cloned().collect() } else { Vec::new() }
    }

    fn edit_free(&mut self, calls: &[ToolCall]) -> Option<Signal> {
        if self.settings.edit_free_turns == 0 {
            return None;
        }
        self.edit_free += 1;
        self.places_read
            .extend(calls.iter().filter(|call| call.name == "read_file").map(canonical));
        if let Some(left) = self.grace {
            if left == 0 {
                return Some(Signal::Stuck(format!(
                    "{} turns without a change to the tree, after a warning",
                    self.edit_free
                )));
            }
            self.grace = Some(left - 1);
            return None;
        }
        let bonus = u32::try_from(self.places_read.len().saturating_sub(1))
            .unwrap_or(u32::MAX)
            .min(EDIT_FREE_READ_BONUS_MAX);
        if self.edit_free < self.settings.edit_free_turns.saturating_add(bonus) {
            return None;
        }
        self.grace = Some(EDIT_FREE_GRACE_TURNS);
        Some(Signal::Warn(format!(
            "You have used {} turns without changing a file. Make the change now, or call submit_result with NO-GO or ERROR \
             and say what hinders you. You have {EDIT_FREE_GRACE_TURNS} turns.",
            self.edit_free
        )))
    }
}

/// A call with its arguments in one form: sorted keys, whitespace collapsed.
fn canonical(call: &ToolCall) -> String {
    let arguments = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(mut value) => {
            collapse(&mut value);
            sorted(&value)
        }
        Err(_) => call.arguments.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    format!("{} {arguments}", call.name)
}

fn collapse(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Array(items) => items.iter_mut().for_each(collapse),
        Value::Object(map) => map.values_mut().for_each(collapse),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Text with sorted keys, whatever order the map has.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let keys: BTreeMap<&String, String> =
                map.iter().map(|(key, item)| (key, sorted(item))).collect();
            format!("{keys:?}")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            value.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_client::FinishReason;

    fn turn(calls: &[(&str, &str)], changed: bool) -> PastTurn {
        PastTurn {
            calls: calls
                .iter()
                .map(|(name, arguments)| ToolCall {
                    id: String::new(),
                    name: (*name).into(),
                    arguments: (*arguments).into(),
                })
                .collect(),
            malformed: vec![],
            changed,
            has_text: false,
            problem: false,
            finish: FinishReason::ToolCalls,
        }
    }

    /// The turns (from 1) at which something was signalled.
    fn signals(
        detector: &mut Detector,
        turns: impl IntoIterator<Item = PastTurn>,
    ) -> Vec<(usize, &'static str)> {
        let mut out = Vec::new();
        for (at, turn) in turns.into_iter().enumerate() {
            match detector.observe(&turn) {
                None => {}
                Some(Signal::Warn(_)) => out.push((at + 1, "warn")),
                Some(Signal::Stuck(_)) => {
                    out.push((at + 1, "stuck"));
                    break;
                }
            }
        }
        out
    }

    #[test]
    fn the_same_call_five_times_then_once_more() {
        let mut detector = Detector::new(StuckSettings::reviewer());
        let spellings = ["{\"a\":1,\"b\":\"x y\"}", "{\"b\": \"x  y\", \"a\": 1}"];
        let turns =
            (0..10).map(|i| turn(&[("grep", spellings.get(i % 2).copied().unwrap_or(""))], false));
        assert_eq!(signals(&mut detector, turns), [(5, "warn"), (6, "stuck")]);
    }

    #[test]
    fn alternation_and_three_in_turn() {
        let mut detector = Detector::new(StuckSettings::reviewer());
        let two = ["{\"path\":\"a\"}", "{\"path\":\"b\"}"];
        let turns =
            (0..20).map(|i| turn(&[("read_file", two.get(i % 2).copied().unwrap_or(""))], false));
        assert_eq!(signals(&mut detector, turns), [(6, "warn"), (7, "stuck")]);
        let mut detector = Detector::new(StuckSettings::reviewer());
        let three = ["{\"path\":\"a\"}", "{\"path\":\"b\"}", "{\"path\":\"c\"}"];
        let turns =
            (0..30).map(|i| turn(&[("read_file", three.get(i % 3).copied().unwrap_or(""))], false));
        assert_eq!(signals(&mut detector, turns).first(), Some(&(13, "warn")));
    }

    #[test]
    fn an_edit_between_makes_it_work_again() {
        let mut detector = Detector::new(StuckSettings::coder());
        let turns = (0..60).map(|i| {
            if i % 4 == 3 {
                turn(&[("str_replace", "{}")], true)
            } else {
                turn(&[("bash", "{\"command\":\"make\"}")], false)
            }
        });
        assert_eq!(signals(&mut detector, turns), []);
    }

    #[test]
    fn a_coder_that_only_reads_is_warned_and_gets_grace() {
        let mut detector = Detector::new(StuckSettings::coder());
        let read = |i: usize| turn(&[("bash", &format!("{{\"command\":\"cat {i}\"}}"))], false);
        assert_eq!(signals(&mut detector, (0..40).map(read)), [(15, "warn"), (21, "stuck")]);
        let mut detector = Detector::new(StuckSettings::coder());
        let explore = |i: usize| turn(&[("read_file", &format!("{{\"path\":\"{i}\"}}"))], false);
        assert_eq!(
            signals(&mut detector, (0..40).map(explore)).first(),
            Some(&(23, "warn")),
            "reading new places extends it"
        );
        let mut detector = Detector::new(StuckSettings::reviewer());
        assert_eq!(signals(&mut detector, (0..40).map(read)), [], "reviewers never");
    }
}
