//! Records of a journal as people read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use foreman_runner::journal::{Entry, Header, Record};
use foreman_runner::model_client::{CallUsage, Message, ToolCall};

use super::range::Turns;
use crate::cli::words;
use crate::output::{Paint, paint, span};
use crate::untrusted::{self, Untrusted};

/// The longest summary of a call or its result, in characters.
const SUMMARY_CHARS_MAX: usize = 160;

/// How much of tool calls is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Tools {
    /// A line for each call and its end.
    #[default]
    Summary,
    /// Arguments and results in full.
    Full,
    /// Nothing.
    None,
}

/// What is shown of a journal.
pub(super) struct View<'a> {
    pub(super) task: &'a str,
    pub(super) uid: &'a str,
    /// Only what this attempt wrote.
    pub(super) attempt: Option<u32>,
    pub(super) turns: Turns,
    pub(super) tools: Tools,
}

/// Where in the journal we are.
#[derive(Default)]
struct Place {
    turn: usize,
    /// Whether the records belong to the attempt that is asked for.
    own: bool,
    /// When the record before was written, in milliseconds.
    before: u64,
    /// When calls began, in milliseconds.
    started: BTreeMap<String, u64>,
}

impl View<'_> {
    /// The text of the records from `from` on, and how many records are told now. Earlier records
    /// are walked through, because they say in which turn a later one is.
    pub(super) fn render(&self, records: &[Record], from: usize, whole: bool) -> (String, usize) {
        let mut text = String::new();
        let mut place = Place::default();
        for (index, record) in records.iter().enumerate() {
            let line = self.entry(record, &mut place);
            place.before = record.at;
            let wanted = place.own && self.turns.contains(place.turn);
            if index >= from && wanted {
                text.push_str(&line);
            }
        }
        if whole && place.own && self.tools != Tools::None && from < records.len() {
            for call in place.started.keys() {
                let call = words::clean(call);
                let _infallible =
                    writeln!(text, "  {}", paint(Paint::Warn, &format!("{call} has no answer")));
            }
        }
        (text, records.len())
    }

    fn entry(&self, record: &Record, place: &mut Place) -> String {
        let took = Duration::from_millis(record.at.saturating_sub(place.before));
        match &record.entry {
            Entry::Header(header) => self.header(header, place),
            Entry::Message { message, usage, problem, .. } => {
                self.message(message, usage.as_ref(), problem.as_deref(), took, place)
            }
            Entry::ToolStarted { call, .. } => {
                place.started.insert(call.clone(), record.at);
                String::new()
            }
            Entry::ToolResult { call, name, content, error, malformed } => {
                let began = place.started.remove(call).unwrap_or(record.at);
                let took = Duration::from_millis(record.at.saturating_sub(began));
                self.result(name, content, *error || *malformed, took)
            }
            Entry::EffectIntent { key, .. } => effect("effect begins", key),
            Entry::EffectDone { key, .. } => effect("effect done", key),
            Entry::Checkpoint(mark) => {
                let commit: String = words::clean(&mark.commit).chars().take(7).collect();
                format!(
                    "  {}\n",
                    paint(Paint::Dim, &format!("checkpoint {commit} after turn {}", mark.turn))
                )
            }
            Entry::Outcome { outcome } => {
                format!(
                    "  {} {}\n",
                    paint(Paint::Strong, "outcome"),
                    words::clean(&outcome.to_string())
                )
            }
            Entry::Unknown => String::new(),
        }
    }

    fn header(&self, header: &Header, place: &mut Place) -> String {
        let fence = &header.fence;
        place.own =
            self.attempt.is_none_or(|attempt| fence.attempt == attempt && fence.uid == self.uid);
        place.started.clear();
        let other = if fence.uid == self.uid {
            String::new()
        } else {
            " (the task that this one continues)".to_owned()
        };
        let base: String = words::clean(&header.base_commit).chars().take(7).collect();
        let line = format!(
            "task/{}{other} attempt {} on {}, base {base}, claimed {}",
            self.task,
            fence.attempt,
            words::clean(&fence.node),
            words::clean(&fence.claimed_at)
        );
        paint(Paint::Strong, &line) + "\n"
    }

    fn message(
        &self,
        message: &Message,
        usage: Option<&CallUsage>,
        problem: Option<&str>,
        took: Duration,
        place: &mut Place,
    ) -> String {
        match message {
            Message::System { content } => said("system", &shortened(content, self.tools)),
            Message::User { content } => said("user", &shortened(content, self.tools)),
            Message::Tool { name, content, .. } => self.result(name, content, false, took),
            Message::Assistant { content, reasoning, tool_calls } => {
                place.turn += 1;
                let mut text = turn_line(place.turn, usage, took);
                if self.tools == Tools::Full && !reasoning.is_empty() {
                    text.push_str(&paint(Paint::Dim, &said("thought", reasoning)));
                }
                if !content.trim().is_empty() {
                    text.push_str(&said("model", content));
                }
                if let Some(problem) = problem {
                    let problem = words::clean(problem);
                    let _infallible =
                        writeln!(text, "  {} {problem}", paint(Paint::Warn, "malformed call:"));
                }
                for call in tool_calls {
                    text.push_str(&self.call(call));
                }
                text
            }
        }
    }

    fn call(&self, call: &ToolCall) -> String {
        let name = paint(Paint::Busy, &words::clean(&call.name));
        match self.tools {
            Tools::None => String::new(),
            Tools::Summary => {
                format!("  > {name} {}\n", untrusted::line(&call.arguments, SUMMARY_CHARS_MAX))
            }
            Tools::Full => format!("  > {name}\n{}", block(&pretty(&call.arguments))),
        }
    }

    fn result(&self, name: &str, content: &str, error: bool, took: Duration) -> String {
        let state = if error { paint(Paint::Bad, "failed") } else { paint(Paint::Good, "ok") };
        let name = words::clean(name);
        let took = seconds(took);
        match self.tools {
            Tools::None => String::new(),
            Tools::Summary => {
                let summary = untrusted::line(content, SUMMARY_CHARS_MAX);
                format!("  < {name} {state} {took}  {}\n", paint(Paint::Dim, &summary))
            }
            Tools::Full => format!("  < {name} {state} {took}\n{}", block(content)),
        }
    }
}

fn turn_line(turn: usize, usage: Option<&CallUsage>, took: Duration) -> String {
    let mut words_ = vec![format!("turn {turn}"), seconds(took)];
    if let Some(usage) = usage {
        let count = |tokens: u64| words::tokens(i64::try_from(tokens).unwrap_or(i64::MAX));
        let cached = usage.cached_tokens.saturating_mul(100).checked_div(usage.prompt_tokens);
        words_.push(format!(
            "{} tokens in ({}% cached), {} out{}",
            count(usage.prompt_tokens),
            cached.unwrap_or(0),
            count(usage.completion_tokens),
            if usage.estimated { " (estimated)" } else { "" }
        ));
    }
    paint(Paint::Strong, &words_.join("  ")) + "\n"
}

fn seconds(took: Duration) -> String {
    if took.as_secs() < 100 {
        format!("{}.{}s", took.as_secs(), took.subsec_millis() / 100)
    } else {
        span(took)
    }
}

/// Long standing text (prompts) is cut unless everything is wanted.
fn shortened(text: &str, tools: Tools) -> String {
    if tools == Tools::Full { text.to_owned() } else { untrusted::line(text, SUMMARY_CHARS_MAX) }
}

fn said(who: &str, text: &str) -> String {
    let mut lines = String::new();
    let clean = Untrusted::block(text).to_string();
    for (index, line) in clean.trim_end().lines().enumerate() {
        let head = if index == 0 { format!("{who}: ") } else { String::new() };
        let _infallible = writeln!(lines, "  {head}{line}");
    }
    lines
}

fn block(text: &str) -> String {
    let clean = Untrusted::block(text).to_string();
    clean.trim_end().lines().fold(String::new(), |all, line| all + "    " + line + "\n")
}

fn pretty(arguments: &str) -> String {
    serde_json::from_str::<serde_json::Value>(arguments)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| arguments.to_owned())
}

fn effect(what: &str, key: &str) -> String {
    format!("  {} {}\n", paint(Paint::Strong, what), words::clean(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn records() -> Vec<Record> {
        let header = |attempt: u32| {
            json!({"at": 0, "kind": "header", "schema": 1, "fence": {"uid": "u",
            "attempt": attempt, "session": "s", "node": "studio", "claimedAt": "2026-11-24T10:00:00Z"},
            "baseCommit": "4e1f0c2a9b", "agent": {}, "tools": []})
        };
        let model = |at: u64, text: &str, id: &str| {
            json!({"at": at, "kind": "message",
            "message": {"role": "assistant", "content": text, "tool_calls":
                [{"id": id, "name": "bash", "arguments": "{\"command\":\"ls\"}"}]},
            "usage": {"promptTokens": 41_200, "cachedTokens": 38_900, "completionTokens": 310}})
        };
        let values = vec![
            header(1),
            json!({"at": 1_000, "kind": "message", "message": {"role": "user", "content": "fix it"}}),
            model(10_400, "look \u{1b}[2Jhere", "c1"),
            json!({"at": 10_500, "kind": "tool_started", "call": "c1", "name": "bash"}),
            json!({"at": 12_600, "kind": "tool_result", "call": "c1", "name": "bash",
                "content": "a\nb\u{9b}31m"}),
            header(2),
            model(20_000, "again", "c2"),
            json!({"at": 20_100, "kind": "tool_started", "call": "c2", "name": "bash"}),
        ];
        values.into_iter().map(|value| serde_json::from_value(value).expect("a record")).collect()
    }

    fn shown(attempt: Option<u32>, turns: Turns, tools: Tools) -> String {
        let view = View { task: "t", uid: "u", attempt, turns, tools };
        let (text, told) = view.render(&records(), 0, true);
        assert_eq!(told, records().len());
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_journal_reads_as_turns() {
        let text = shown(None, Turns::default(), Tools::Summary);
        let expected = "\
task/t attempt 1 on studio, base 4e1f0c2, claimed 2026-11-24T10:00:00Z
  user: fix it
turn 1  9.4s  41k tokens in (94% cached), 310 out
  model: look here
  > bash {\"command\":\"ls\"}
  < bash ok 2.1s  a b
task/t attempt 2 on studio, base 4e1f0c2, claimed 2026-11-24T10:00:00Z
turn 2  20.0s  41k tokens in (94% cached), 310 out
  model: again
  > bash {\"command\":\"ls\"}
  c2 has no answer
";
        assert_eq!(text, expected);
    }

    #[test]
    fn attempts_turns_and_tools_select() {
        let text = shown(Some(2), Turns::default(), Tools::None);
        assert!(!text.contains("look here") && text.contains("again"), "{text}");
        assert!(!text.contains("bash"), "{text}");
        let text = shown(None, "1".parse().expect("a turn"), Tools::Full);
        assert!(text.contains("    \"command\": \"ls\""), "{text}");
        assert!(!text.contains("again") && !text.contains("fix it"), "{text}");
    }

    #[test]
    fn only_news_is_told_and_in_its_turn() {
        let view = View {
            task: "t",
            uid: "u",
            attempt: None,
            turns: Turns::default(),
            tools: Tools::Summary,
        };
        let (text, _) = view.render(&records(), 6, false);
        assert!(text.contains("turn 2") && !text.contains("turn 1"), "{text}");
        assert_eq!(view.render(&records(), 8, true).0, "");
    }
}
