//! The calls of one message: ids, order, answers.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::run::{Leave, TurnLoop};
use super::{LoopEnd, LoopFault, ProgressEvent};
use crate::journal::Entry;
use crate::limits::{CALL_ID_BYTES_MAX, CALLS_RUN_PER_MESSAGE_MAX};
use crate::model_client::ToolCall;
use crate::text::{clip, clip_chars};
use crate::tool::{SUBMIT_RESULT, ToolFault, ToolOutput, TreeChange, parse_submission};

/// Characters of a call or result that progress shows.
const SUMMARY_CHARS_MAX: usize = 120;

impl TurnLoop<'_> {
    /// Calls with ids that are unique in the conversation: servers send empty and doubled ones, and
    /// refuse them the next time.
    pub(super) fn unique(&self, mut calls: Vec<ToolCall>) -> Vec<ToolCall> {
        let place = self.state.conversation.len();
        let mut new = BTreeSet::new();
        for (at, call) in calls.iter_mut().enumerate() {
            let usable = (1..=CALL_ID_BYTES_MAX).contains(&call.id.len())
                && call.id.bytes().all(|b| b.is_ascii_graphic());
            let taken = |id: &str| new.contains(id) || self.state.has_call(id);
            if !usable || taken(&call.id) {
                call.id = fresh(&format!("call_{place}_{at}"), taken);
            }
            new.insert(call.id.clone());
        }
        calls
    }

    /// Runs the calls of one message, left to right, and answers each.
    pub(super) async fn run_calls(
        &mut self,
        turn: u32,
        calls: &[ToolCall],
        cut: bool,
        cancel: &CancellationToken,
    ) -> Result<TreeChange, Leave> {
        let mut change = TreeChange::None;
        let mut failed = false;
        let mut submitted = false;
        for (at, call) in calls.iter().enumerate() {
            let is_last = at + 1 == calls.len();
            let output = if submitted {
                ToolOutput::malformed(
                    "not run: submit_result ends the work, nothing may follow it in the same message",
                )
            } else if at >= CALLS_RUN_PER_MESSAGE_MAX {
                ToolOutput::malformed(format!(
                    "not run: at most {CALLS_RUN_PER_MESSAGE_MAX} calls are run a message; call it again"
                ))
            } else {
                match self.tools.check(call, cut && is_last) {
                    Err(why) => ToolOutput::malformed(why),
                    Ok(arguments) if call.name == SUBMIT_RESULT => {
                        let output = self.receive(&arguments, failed);
                        submitted = !output.is_error;
                        output
                    }
                    Ok(arguments) => self.run_call(turn, call, &arguments, cancel).await?,
                }
            };
            failed |= output.is_error;
            change = change.max(output.change);
            self.write(Entry::ToolResult {
                call: call.id.clone(),
                name: call.name.clone(),
                content: output.content,
                error: output.is_error,
                malformed: output.is_malformed,
            })?;
        }
        Ok(change)
    }

    fn receive(&self, arguments: &Map<String, Value>, failed: bool) -> ToolOutput {
        if failed {
            return ToolOutput::error(
                "submit_result was not taken: a call before it in the same message failed. Look at its result, then submit again",
            );
        }
        match parse_submission(self.tools.role(), arguments) {
            Ok(_) => ToolOutput::ok(r#"{"received":true}"#, TreeChange::None),
            Err(why) => ToolOutput::malformed(why),
        }
    }

    async fn run_call(
        &mut self,
        turn: u32,
        call: &ToolCall,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, Leave> {
        self.write(Entry::ToolStarted { call: call.id.clone(), name: call.name.clone() })?;
        let name = call.name.clone();
        self.hooks.progress(ProgressEvent::ToolStarted {
            turn,
            name: name.clone(),
            summary: self.journal.redactor().string(summary_of(arguments)),
        });
        let began = Instant::now();
        match self.tools.call(&call.name, arguments, cancel).await {
            Ok(mut output) => {
                output.content = self.journal.redactor().string(output.content);
                let summary =
                    clip_chars(output.content.lines().next().unwrap_or(""), SUMMARY_CHARS_MAX);
                let error = output.is_error;
                self.hooks.progress(ProgressEvent::ToolEnded {
                    turn,
                    name,
                    error,
                    duration: began.elapsed(),
                    summary,
                });
                Ok(output)
            }
            Err(fault) => {
                // The rest of the message will not be run: say so now, so that the journal is whole.
                for entry in self.state.missing() {
                    self.write(entry)?;
                }
                self.journal.sync().await?;
                Err(match fault {
                    ToolFault::Cancelled => Leave::Cancelled,
                    ToolFault::Sandbox { why } => {
                        Leave::End(LoopEnd::Infrastructure(LoopFault::Sandbox { why }))
                    }
                })
            }
        }
    }
}

/// The telling argument of a call, in one line.
fn summary_of(arguments: &Map<String, Value>) -> String {
    let telling =
        ["command", "path", "pattern"].into_iter().find_map(|key| arguments.get(key)?.as_str());
    let line = telling.unwrap_or("").lines().next().unwrap_or("");
    clip_chars(&clip(line, 4 * SUMMARY_CHARS_MAX), SUMMARY_CHARS_MAX)
}

/// `stem`, with a number behind it if it is taken.
fn fresh(stem: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut id = stem.to_owned();
    let mut n = 0_u32;
    while taken(&id) {
        n += 1;
        id = format!("{stem}_{n}");
    }
    id
}
