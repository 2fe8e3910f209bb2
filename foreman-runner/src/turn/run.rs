//! One run of the loop.

use std::time::{Duration, Instant};

use foreman_core::ports::executor::Stop;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stuck::{Detector, Signal};
use super::words;
use super::{LoopEnd, LoopFault, LoopSettings, Opening, ProgressEvent, RunHooks, SubmitAnswer};
use crate::budget::Spent;
use crate::journal::{Entry, Journal, JournalError, Pending, Replay};
use crate::model_client::{
    CallUsage, ChatReply, ChatRequest, FinishReason, Message, ModelClient, ModelError, ToolCall,
    estimate_messages, estimate_text,
};
use crate::tool::{ToolBox, TreeChange, parse_submission};

/// Why the loop left its course.
pub(super) enum Leave {
    /// The token fired.
    Cancelled,
    /// An end.
    End(LoopEnd),
}

impl From<JournalError> for Leave {
    fn from(error: JournalError) -> Self {
        Self::End(LoopEnd::Infrastructure(LoopFault::Journal(error)))
    }
}

/// All that a loop works with.
pub struct TurnLoop<'a> {
    /// The model.
    pub model: &'a dyn ModelClient,
    /// What it may do.
    pub tools: &'a ToolBox,
    /// How.
    pub settings: &'a LoopSettings,
    /// Where it is written down.
    pub journal: &'a mut Journal,
    /// What is written down so far, as opening the journal gave it. Kept up to date.
    pub state: &'a mut Replay,
    /// The run around it.
    pub hooks: &'a mut dyn RunHooks,
}

impl TurnLoop<'_> {
    /// Runs until one of the ends. `Suspend` is obeyed between two turns; `Drain`, `Cancel`,
    /// `TimedOut` and `Lost` at once: a model call is dropped (its turn is asked again on resume), a
    /// tool is stopped and its call answered as interrupted.
    pub async fn run(mut self, opening: &Opening, stop: watch::Receiver<Stop>) -> LoopEnd {
        let cancel = CancellationToken::new();
        let mut told = None;
        let left = {
            let boundary = stop.clone();
            let mut work = Box::pin(self.work(opening, &boundary, &cancel));
            tokio::select! {
                biased;
                left = &mut work => left,
                reason = urgent(stop) => {
                    told = Some(reason);
                    cancel.cancel();
                    work.await
                }
            }
        };
        match left {
            // Judged in spite of the stop: the caller looks at the stop itself.
            Leave::End(end @ LoopEnd::Submitted(_)) => end,
            Leave::End(end) => told.map_or(end, LoopEnd::Stopped),
            Leave::Cancelled => LoopEnd::Stopped(told.unwrap_or(Stop::Cancel)),
        }
    }

    async fn work(
        &mut self,
        opening: &Opening,
        stop: &watch::Receiver<Stop>,
        cancel: &CancellationToken,
    ) -> Leave {
        let started = Instant::now();
        let mut detector = Detector::new(self.settings.stuck);
        for turn in &self.state.turns {
            // What it had to say was said then.
            let _already_said = detector.observe(turn);
        }
        loop {
            if cancel.is_cancelled() {
                return Leave::Cancelled;
            }
            if *stop.borrow() == Stop::Suspend {
                return Leave::End(LoopEnd::Stopped(Stop::Suspend));
            }
            let outcome = match self.state.pending() {
                Pending::Opening => self.open(opening).await,
                Pending::Answer => self.answer().await,
                Pending::Judgement { call } => self.judge(&call, cancel).await,
                Pending::Model => self.turn(started, &mut detector, cancel).await,
            };
            if let Err(leave) = outcome {
                return leave;
            }
        }
    }

    /// Writes an entry and takes it into the state, in the form that was written.
    pub(super) fn write(&mut self, entry: Entry) -> Result<(), Leave> {
        let written = self.journal.append(entry)?;
        self.state.apply(&written);
        Ok(())
    }

    fn say(&mut self, text: String) -> Result<(), Leave> {
        self.hooks.progress(ProgressEvent::Notice { text: text.clone() });
        self.write(message(Message::user(text)))
    }

    async fn open(&mut self, opening: &Opening) -> Result<(), Leave> {
        if self.state.conversation.is_empty() && !opening.system.trim().is_empty() {
            self.write(message(Message::system(opening.system.clone())))?;
        }
        self.write(message(Message::user(opening.user.clone())))?;
        Ok(self.journal.sync().await?)
    }

    /// Answers a reply without a call that a crash left unanswered.
    async fn answer(&mut self) -> Result<(), Leave> {
        self.answer_with(None)?;
        Ok(self.journal.sync().await?)
    }

    fn answer_with(&mut self, problem: Option<&str>) -> Result<(), Leave> {
        match words::answer(&self.state.turns, problem) {
            Ok(text) => self.say(text),
            Err(why) => Err(Leave::End(LoopEnd::Misunderstood { why })),
        }
    }

    async fn judge(&mut self, call: &ToolCall, cancel: &CancellationToken) -> Result<(), Leave> {
        let submission = match self
            .tools
            .check(call, false)
            .and_then(|arguments| parse_submission(self.tools.role(), &arguments))
        {
            Ok(submission) => submission,
            // Taken by an earlier version under other rules: the model is asked again.
            Err(why) => return self.say(format!("Your submission could not be taken: {why}")),
        };
        self.hooks.progress(ProgressEvent::Judging);
        let answer = self.hooks.submit(&submission, cancel).await;
        match answer {
            Ok(SubmitAnswer::Accept) => Err(Leave::End(LoopEnd::Submitted(submission))),
            Ok(SubmitAnswer::Continue { feedback }) => {
                self.say(feedback)?;
                Ok(self.journal.sync().await?)
            }
            Err(_) if cancel.is_cancelled() => Err(Leave::Cancelled),
            Err(why) => Err(Leave::End(LoopEnd::Infrastructure(LoopFault::Judgement { why }))),
        }
    }

    async fn turn(
        &mut self,
        started: Instant,
        detector: &mut Detector,
        cancel: &CancellationToken,
    ) -> Result<(), Leave> {
        let began = Instant::now();
        self.may_ask(started.elapsed())?;
        let turn = self.turns() + 1;
        self.hooks.progress(ProgressEvent::ModelStarted { turn });
        let reply = self.ask(cancel).await?;
        let usage = reply.usage;
        let cut = reply.finish == FinishReason::Length;
        let problem = reply.problem.clone();
        let calls = self.unique(reply.tool_calls.clone());
        self.write(reply_entry(reply, calls.clone()))?;
        let mut changed = false;
        if calls.is_empty() {
            self.answer_with(problem.as_deref())?;
        } else {
            let change = self.run_calls(turn, &calls, cut, cancel).await?;
            changed = self.checkpoint(turn, change).await?;
        }
        let end = self.look_back(detector);
        self.journal.sync().await?;
        self.hooks.progress(ProgressEvent::TurnEnded {
            turn,
            usage,
            duration: began.elapsed(),
            changed,
        });
        end
    }

    fn turns(&self) -> u32 {
        u32::try_from(self.state.turns.len()).unwrap_or(u32::MAX)
    }

    fn may_ask(&self, wall: Duration) -> Result<(), Leave> {
        if self.turns() >= self.settings.turns_max {
            return Err(Leave::End(LoopEnd::TurnLimit { turns: self.turns() }));
        }
        let usage = self.state.usage;
        let tokens = usage.prompt_tokens.saturating_add(usage.completion_tokens);
        let before = &self.settings.elsewhere;
        let spent = Spent {
            tokens: tokens.saturating_add(before.tokens),
            turns: u64::from(self.turns()).saturating_add(before.turns),
            wall: wall.saturating_add(before.wall),
        };
        let next =
            self.prompt_estimate().saturating_add(u64::from(self.settings.output_tokens_max));
        self.settings
            .budget
            .check(&spent, next)
            .map_err(|exhausted| Leave::End(LoopEnd::BudgetPaused(exhausted)))
    }

    /// What the next prompt will have: the server's count of the last one, and our estimate of the rest.
    fn prompt_estimate(&self) -> u64 {
        match self.state.last_call {
            Some((messages, usage)) if usage.prompt_tokens > 0 => {
                let since = self.state.conversation.get(messages..).unwrap_or(&[]);
                usage.prompt_tokens.saturating_add(estimate_messages(since))
            }
            _ => {
                let tools: u64 = self
                    .tools
                    .specs()
                    .iter()
                    .map(|spec| estimate_text(&spec.parameters.to_string()))
                    .sum();
                estimate_messages(&self.state.conversation).saturating_add(tools)
            }
        }
    }

    async fn ask(&mut self, cancel: &CancellationToken) -> Result<ChatReply, Leave> {
        let request = ChatRequest {
            model: &self.settings.model,
            messages: &self.state.conversation,
            tools: self.tools.specs(),
            mode: self.settings.mode,
            temperature: self.settings.temperature,
            output_tokens_max: self.settings.output_tokens_max,
            chat_template_kwargs: &self.settings.chat_template_kwargs,
        };
        let hooks = &mut *self.hooks;
        let mut on_delta = |delta| hooks.progress(ProgressEvent::Delta(delta));
        match self.model.complete(&request, &mut on_delta, cancel).await {
            Ok(reply) => Ok(reply),
            Err(ModelError::Cancelled) => Err(Leave::Cancelled),
            Err(error @ ModelError::ContextTooLong { .. }) => {
                Err(Leave::End(LoopEnd::ContextFull { message: error.to_string() }))
            }
            Err(error) => Err(Leave::End(LoopEnd::Infrastructure(LoopFault::Model(error)))),
        }
    }

    async fn checkpoint(&mut self, turn: u32, change: TreeChange) -> Result<bool, Leave> {
        if change == TreeChange::None {
            return Ok(false);
        }
        match self.hooks.checkpoint(turn).await {
            Ok(Some(mark)) => {
                self.write(Entry::Checkpoint(mark))?;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(why) => {
                Err(Leave::End(LoopEnd::Infrastructure(LoopFault::Checkpoint { turn, why })))
            }
        }
    }

    /// What the turn that just ended means for the run.
    fn look_back(&mut self, detector: &mut Detector) -> Result<(), Leave> {
        let signal = self.state.turns.last().and_then(|turn| detector.observe(turn));
        if !matches!(self.state.pending(), Pending::Model) {
            // A submission is judged first; a reply without a call was answered.
            return Ok(());
        }
        words::malformed(&self.state.turns)
            .map_err(|why| Leave::End(LoopEnd::Misunderstood { why }))?;
        let mut notices = Vec::new();
        match signal {
            Some(Signal::Stuck(why)) => return Err(Leave::End(LoopEnd::Stuck { why })),
            Some(Signal::Warn(text)) => notices.push(text),
            None => {}
        }
        notices.extend(words::turns_left(self.state.turns.len(), self.settings.turns_max));
        if notices.is_empty() { Ok(()) } else { self.say(notices.join("\n\n")) }
    }
}

fn message(message: Message) -> Entry {
    Entry::Message { message, usage: None, finish: None, problem: None }
}

fn reply_entry(reply: ChatReply, tool_calls: Vec<ToolCall>) -> Entry {
    let usage: CallUsage = reply.usage;
    Entry::Message {
        message: Message::Assistant {
            content: reply.content,
            reasoning: reply.reasoning,
            tool_calls,
        },
        usage: Some(usage),
        finish: Some(reply.finish),
        problem: reply.problem,
    }
}

/// Resolves when the run must stop at once, with the reason.
async fn urgent(mut stop: watch::Receiver<Stop>) -> Stop {
    loop {
        let now = *stop.borrow_and_update();
        match now {
            Stop::Continue | Stop::Suspend => {}
            Stop::Drain { .. } | Stop::Cancel | Stop::TimedOut | Stop::Lost => return now,
        }
        if stop.changed().await.is_err() {
            // Nobody can tell any more: the run goes on to its own end.
            std::future::pending::<()>().await;
        }
    }
}
