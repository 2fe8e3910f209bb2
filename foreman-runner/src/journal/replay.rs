//! From records to a conversation that can go on. Pure: the same records give the same result, and
//! records that never should stand so (damage, a hostile file) give a valid conversation too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::codec::decode;
use super::record::{CheckpointMark, Entry, Header, Record};
use crate::model_client::{CallUsage, FinishReason, Message, ToolCall};

/// The answer to a call that was started and has no result.
pub const INTERRUPTED: &str = r#"{"error":"interrupted; effects may be partial"}"#;
/// The answer to a call that was never started.
pub const NOT_RUN: &str = r#"{"error":"not run: the process stopped before this call began; call it again if it is still needed"}"#;

/// What was done to an effect.
#[derive(Debug, Clone, PartialEq)]
pub enum EffectState {
    /// It may have happened: look it up at its target.
    Intended {
        /// What to look up.
        detail: Value,
    },
    /// It happened.
    Done {
        /// What came of it.
        result: Value,
    },
}

/// Where the conversation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pending {
    /// Nothing was said yet.
    Opening,
    /// It is the model's turn.
    Model,
    /// The model said something without a call: it must be answered.
    Answer,
    /// The model submitted, and nobody has judged it yet.
    Judgement {
        /// The submitting call.
        call: ToolCall,
    },
}

/// One turn of the model as the detectors see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastTurn {
    /// The calls.
    pub calls: Vec<ToolCall>,
    /// Of these, the ids of those that were wrong as written.
    pub malformed: Vec<String>,
    /// Whether the tree was checkpointed after it: it had changed.
    pub changed: bool,
    /// Whether it had text.
    pub has_text: bool,
    /// Whether it was meant as a call and could not be read as one.
    pub problem: bool,
    /// Why the model stopped.
    pub finish: FinishReason,
}

/// All that a journal (and its parents) say. It is also the live state of a run: the loop applies
/// every entry that it writes, so a resumed run cannot see anything else than the run that crashed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replay {
    /// The last header, if any.
    pub header: Option<Header>,
    /// The conversation. Valid but for the calls that are still open; see [`Replay::missing`].
    pub conversation: Vec<Message>,
    /// The turns of this task (of all attempts, without those of a task that it continues).
    pub turns: Vec<PastTurn>,
    /// Tokens of this task, summed over its turns.
    pub usage: CallUsage,
    /// Calls of this task that were answered.
    pub tool_calls: u64,
    /// What the last model call of the conversation cost, with the number of messages that were sent:
    /// the base of the next estimate.
    pub last_call: Option<(usize, CallUsage)>,
    /// The effects of this task, by key.
    pub effects: BTreeMap<String, EffectState>,
    /// The last checkpoint.
    pub checkpoint: Option<CheckpointMark>,
    /// How the task ended, if it did. It survives a new claim: a run that ended and whose terminal
    /// write did not arrive is to be told again, not to be run again.
    pub outcome: Option<Value>,
    /// Messages of a task that this one continues, at the head of the conversation.
    taken_over: usize,
    /// The calls of the last message of the model that have no answer yet.
    open: Vec<Open>,
    /// The ids of all calls so far.
    ids: BTreeSet<String>,
    /// The submission that was received last, while nothing was said since.
    submitted: Option<ToolCall>,
}

/// A journal made whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Repaired {
    /// What it says, every call answered.
    pub replay: Replay,
    /// Records that, appended, make it say so by itself.
    pub missing: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Open {
    call: ToolCall,
    started: bool,
}

/// What remains of a byte prefix: decoded up to the first bad record and made whole.
pub fn repair(bytes: &[u8]) -> Repaired {
    let mut replay = replay(&decode(bytes).records);
    let missing = replay.missing();
    for entry in &missing {
        replay.apply(entry);
    }
    Repaired { replay, missing }
}

/// Replays records of a journal, those of its parents first.
pub fn replay(records: &[Record]) -> Replay {
    let mut state = Replay::default();
    for record in records {
        state.apply(&record.entry);
    }
    state
}

impl Replay {
    /// Whether a call of the conversation has this id.
    pub fn has_call(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Whether the conversation was taken over from another task and nothing was said in it since.
    pub fn is_taken_over(&self) -> bool {
        self.taken_over > 0 && self.conversation.len() == self.taken_over
    }

    /// The messages of this task alone, without those of a task that it continues.
    pub fn own_messages(&self) -> &[Message] {
        self.conversation.get(self.taken_over..).unwrap_or(&[])
    }

    /// Whether a user message of the conversation holds `text`.
    pub fn has_said(&self, text: &str) -> bool {
        let mut messages = self.conversation.iter();
        messages
            .any(|message| matches!(message, Message::User { content } if content.contains(text)))
    }

    /// Where the conversation stands.
    pub fn pending(&self) -> Pending {
        if self.is_taken_over() {
            return Pending::Opening;
        }
        match (self.conversation.last(), &self.submitted) {
            (None | Some(Message::System { .. }), _) => Pending::Opening,
            (Some(Message::Assistant { .. }), _) => Pending::Answer,
            (Some(Message::Tool { .. }), Some(call)) => Pending::Judgement { call: call.clone() },
            (Some(Message::User { .. } | Message::Tool { .. }), _) => Pending::Model,
        }
    }

    /// The answers that open calls get when nobody runs them any more: a call that was started is
    /// [`INTERRUPTED`], one that was not is [`NOT_RUN`]. Empty for a whole conversation.
    pub fn missing(&self) -> Vec<Entry> {
        self.open
            .iter()
            .map(|open| Entry::ToolResult {
                call: open.call.id.clone(),
                name: open.call.name.clone(),
                content: open.text().to_owned(),
                error: true,
                malformed: false,
            })
            .collect()
    }

    /// Takes one entry. Entries that make no sense where they stand change nothing.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Header(header) => self.header(header),
            Entry::Message { message, usage, finish, problem } => {
                self.message(message, *usage, finish.clone(), problem.is_some());
            }
            Entry::ToolStarted { call, name: _ } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.call.id == *call) {
                    open.started = true;
                }
            }
            Entry::ToolResult { call, name: _, content, error, malformed } => {
                self.result(call, content, *error, *malformed);
            }
            Entry::EffectIntent { key, detail } => {
                // An intent after the deed is one more look at it, not a second deed.
                if !matches!(self.effects.get(key), Some(EffectState::Done { .. })) {
                    self.effects
                        .insert(key.clone(), EffectState::Intended { detail: detail.clone() });
                }
            }
            Entry::EffectDone { key, result } => {
                self.effects.insert(key.clone(), EffectState::Done { result: result.clone() });
            }
            Entry::Checkpoint(mark) => {
                if let Some(turn) = self.turns.last_mut() {
                    turn.changed = true;
                }
                self.checkpoint = Some(mark.clone());
            }
            Entry::Outcome { outcome } => self.outcome = Some(outcome.clone()),
            Entry::Unknown => {}
        }
    }

    fn header(&mut self, header: &Header) {
        let same_task = self.header.as_ref().is_none_or(|old| old.fence.uid == header.fence.uid);
        if !same_task {
            // A task that continues another one begins its own account. What the other one left open is
            // answered here, so that the head of the conversation never changes again.
            self.close_open();
            self.submitted = None;
            self.taken_over = self.conversation.len();
            self.turns.clear();
            self.usage = CallUsage::default();
            self.tool_calls = 0;
            self.effects.clear();
            self.checkpoint = None;
            self.outcome = None;
        }
        self.header = Some(header.clone());
    }

    fn message(
        &mut self,
        message: &Message,
        usage: Option<CallUsage>,
        finish: Option<FinishReason>,
        problem: bool,
    ) {
        self.close_open();
        match message {
            // A result is its own kind of record; one that stands here answers nothing.
            Message::Tool { .. } => return,
            Message::System { .. } if !self.conversation.is_empty() => return,
            // Two messages of the model in a row: somebody must have spoken between.
            Message::Assistant { .. }
                if !matches!(
                    self.conversation.last(),
                    Some(Message::User { .. } | Message::Tool { .. })
                ) =>
            {
                return;
            }
            Message::System { .. } | Message::User { .. } | Message::Assistant { .. } => {}
        }
        self.submitted = None;
        let Message::Assistant { content, reasoning, tool_calls } = message else {
            self.conversation.push(message.clone());
            return;
        };
        let calls = self.unique_ids(tool_calls);
        self.open = calls.iter().map(|call| Open { call: call.clone(), started: false }).collect();
        self.account(self.conversation.len(), usage.unwrap_or_default());
        self.turns.push(PastTurn {
            calls: calls.clone(),
            malformed: Vec::new(),
            changed: false,
            has_text: !content.trim().is_empty(),
            problem,
            finish: finish.unwrap_or(FinishReason::Stop),
        });
        self.conversation.push(Message::Assistant {
            content: content.clone(),
            reasoning: reasoning.clone(),
            tool_calls: calls,
        });
    }

    /// The writer makes ids unique; a damaged journal gets the second of two equal ones dropped.
    fn unique_ids(&mut self, calls: &[ToolCall]) -> Vec<ToolCall> {
        calls
            .iter()
            .filter(|call| !call.id.is_empty() && self.ids.insert(call.id.clone()))
            .cloned()
            .collect()
    }

    fn account(&mut self, messages: usize, usage: CallUsage) {
        let sum = &mut self.usage;
        sum.prompt_tokens = sum.prompt_tokens.saturating_add(usage.prompt_tokens);
        sum.cached_tokens = sum.cached_tokens.saturating_add(usage.cached_tokens);
        sum.completion_tokens = sum.completion_tokens.saturating_add(usage.completion_tokens);
        sum.estimated |= usage.estimated;
        self.last_call = Some((messages, usage));
    }

    fn result(&mut self, id: &str, content: &str, error: bool, malformed: bool) {
        let Some(at) = self.open.iter().position(|open| open.call.id == id) else {
            return;
        };
        // Answers stand in the order of the calls: what was skipped was never run.
        for open in self.open.drain(..at).collect::<Vec<_>>() {
            self.answer(&open.call, open.text());
        }
        let open = self.open.remove(0);
        self.answer(&open.call, content);
        if malformed && let Some(turn) = self.turns.last_mut() {
            turn.malformed.push(open.call.id.clone());
        }
        if open.call.name == crate::tool::SUBMIT_RESULT && !error && self.submitted.is_none() {
            self.submitted = Some(open.call);
        }
    }

    fn answer(&mut self, call: &ToolCall, content: &str) {
        self.tool_calls += 1;
        self.conversation.push(Message::Tool {
            tool_call_id: call.id.clone(),
            name: call.name.clone(),
            content: content.to_owned(),
        });
    }

    fn close_open(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.answer(&open.call, open.text());
        }
    }
}

impl Open {
    fn text(&self) -> &'static str {
        if self.started { INTERRUPTED } else { NOT_RUN }
    }
}
