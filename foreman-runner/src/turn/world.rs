//! A scripted model, tools that note their calls, and a run around a loop.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foreman_core::ports::executor::Stop;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::journal::{
    Entry, Header, JOURNAL_SCHEMA, Journal, JournalFence, JournalKey, JournalStore, OpenedJournal,
    ParentRef, Replay, decode,
};
use crate::model_client::{
    CallSource, ChatReply, ChatRequest, FinishReason, Message, ModelClient, ToolCall,
};
use crate::redact::Redactor;
use crate::tool::{SubmitRole, Tool, ToolBox, ToolFault, ToolOutput, ToolSpec, TreeChange};

/// What the model does next.
pub(super) enum Act {
    Say(ChatReply),
    Fail(ModelError),
    /// Never answers; only cancelling ends it.
    Hang,
}

pub(super) fn reply(content: &str, calls: &[(&str, &str, Value)]) -> Act {
    Act::Say(ChatReply {
        content: content.into(),
        reasoning: String::new(),
        tool_calls: calls
            .iter()
            .map(|(id, name, arguments)| ToolCall {
                id: (*id).into(),
                name: (*name).into(),
                arguments: arguments.to_string(),
            })
            .collect(),
        source: CallSource::Native,
        finish: if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls },
        usage: CallUsage {
            prompt_tokens: 100,
            cached_tokens: 50,
            completion_tokens: 10,
            estimated: false,
        },
        problem: None,
    })
}

pub(super) fn call(name: &str, arguments: Value) -> Act {
    reply("", &[("", name, arguments)])
}

pub(super) fn go() -> Act {
    call("submit_result", json!({"verdict": "GO", "summary": "done", "commit_message": "Do it"}))
}

#[derive(Default)]
pub(super) struct Script {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Vec<Message>>>,
}

impl Script {
    pub(super) fn of(acts: Vec<Act>) -> Self {
        Self { acts: Mutex::new(acts.into()), seen: Mutex::default() }
    }

    pub(super) fn requests(&self) -> Vec<Vec<Message>> {
        self.seen.lock().expect("unpoisoned").clone()
    }
}

#[async_trait]
impl ModelClient for Script {
    async fn complete(
        &self,
        request: &ChatRequest<'_>,
        _: &mut (dyn FnMut(Delta) + Send),
        cancel: &CancellationToken,
    ) -> Result<ChatReply, ModelError> {
        self.seen.lock().expect("unpoisoned").push(request.messages.to_vec());
        let act = self.acts.lock().expect("unpoisoned").pop_front();
        match act {
            Some(Act::Say(reply)) => Ok(reply),
            Some(Act::Fail(error)) => Err(error),
            Some(Act::Hang) => {
                cancel.cancelled().await;
                Err(ModelError::Cancelled)
            }
            None => panic!("the model was asked once more than the script has answers"),
        }
    }
}

/// Known to the run; no model, journal or person may see it.
pub(super) const SECRET: &str = "hunter2-hunter2";

/// A tool that notes its calls: `edit` changes the tree, `look` does not, `hang` waits, `broken` has no sandbox.
pub(super) struct Fake {
    name: &'static str,
    ran: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Tool for Fake {
    fn spec(&self) -> ToolSpec {
        let parameters = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
        ToolSpec { name: self.name.into(), description: String::new(), parameters }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let x = arguments.get("x").map(Value::to_string).unwrap_or_default();
        self.ran.lock().expect("unpoisoned").push(format!("{}{x}", self.name));
        match self.name {
            "edit" => Ok(ToolOutput::ok("edited", TreeChange::Edited)),
            "fail" => Ok(ToolOutput::error("no")),
            "hang" => {
                cancel.cancelled().await;
                Err(ToolFault::Cancelled)
            }
            "leak" => Ok(ToolOutput::ok(format!("token={SECRET}"), TreeChange::None)),
            "broken" => Err(ToolFault::Sandbox { why: "no namespaces".into() }),
            _ => Ok(ToolOutput::ok(format!("saw {x}"), TreeChange::None)),
        }
    }
}

/// Recognises the moment at which a stop is told.
pub(super) type When = fn(&ProgressEvent) -> bool;

#[derive(Default)]
pub(super) struct Hooks {
    pub(super) checkpoints: Vec<u32>,
    pub(super) submissions: Vec<Submission>,
    pub(super) answers: VecDeque<Result<SubmitAnswer, String>>,
    pub(super) events: Vec<ProgressEvent>,
    /// Told once, at the first event of this kind.
    pub(super) tell: Option<(When, watch::Sender<Stop>, Stop)>,
    pub(super) checkpoint_fault: bool,
}

#[async_trait]
impl RunHooks for Hooks {
    async fn checkpoint(&mut self, turn: u32) -> Result<Option<CheckpointMark>, String> {
        if self.checkpoint_fault {
            return Err("disk full".into());
        }
        self.checkpoints.push(turn);
        Ok(Some(CheckpointMark {
            turn,
            reference: "refs/foreman/x".into(),
            commit: format!("c{turn}"),
        }))
    }

    async fn submit(
        &mut self,
        submission: &Submission,
        _: &CancellationToken,
    ) -> Result<SubmitAnswer, String> {
        self.submissions.push(submission.clone());
        self.answers.pop_front().unwrap_or(Ok(SubmitAnswer::Accept))
    }

    fn progress(&mut self, event: ProgressEvent) {
        if let Some((wanted, sender, stop)) = &self.tell
            && wanted(&event)
        {
            sender.send_replace(*stop);
            self.tell = None;
        }
        self.events.push(event);
    }
}

pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: JournalStore,
    pub(super) journal: Journal,
    pub(super) state: Replay,
    pub(super) tools: ToolBox,
    pub(super) ran: Arc<Mutex<Vec<String>>>,
    pub(super) settings: LoopSettings,
    pub(super) hooks: Hooks,
    pub(super) stop: watch::Sender<Stop>,
}

pub(super) fn header(attempt: u32, parent: Option<ParentRef>) -> Header {
    let fence = JournalFence {
        uid: "u".into(),
        attempt,
        session: "s".into(),
        node: "n".into(),
        claimed_at: "t".into(),
    };
    Header {
        schema: JOURNAL_SCHEMA,
        fence,
        parent,
        base_commit: "b".into(),
        agent: json!({}),
        tools: vec![],
    }
}

fn redactor() -> Redactor {
    Redactor::new([&secrecy::SecretString::from(SECRET)])
}

impl World {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = JournalStore::new(dir.path(), Arc::new(|| 1));
        let OpenedJournal { journal, replay } =
            store.create(header(1, None), redactor()).await.expect("created");
        let ran = Arc::new(Mutex::new(Vec::new()));
        let names = ["look", "edit", "fail", "hang", "broken", "leak"];
        let available: Vec<Arc<dyn Tool>> = names
            .into_iter()
            .map(|name| Arc::new(Fake { name, ran: Arc::clone(&ran) }) as Arc<dyn Tool>)
            .collect();
        let (tools, _) = ToolBox::select(available, &names.map(str::to_owned), SubmitRole::Coder);
        let settings = LoopSettings {
            model: "m".into(),
            mode: CallMode::Native,
            temperature: None,
            output_tokens_max: 100,
            chat_template_kwargs: Map::new(),
            turns_max: 50,
            budget: Budget::default(),
            elsewhere: Spent::default(),
            stuck: StuckSettings::coder(),
        };
        Self {
            dir,
            store,
            journal,
            state: replay,
            tools,
            ran,
            settings,
            hooks: Hooks::default(),
            stop: watch::Sender::new(Stop::Continue),
        }
    }

    pub(super) async fn run(&mut self, script: &Script) -> LoopEnd {
        let opening = Opening { system: "orders".into(), user: "task".into() };
        let turns = TurnLoop {
            model: script,
            tools: &self.tools,
            settings: &self.settings,
            journal: &mut self.journal,
            state: &mut self.state,
            hooks: &mut self.hooks,
        };
        let end = turns.run(&opening, self.stop.subscribe()).await;
        // Whoever runs the loop syncs at its end; what was appended may still be on its way.
        drop(self.journal.sync().await);
        self.assert_journal_tells_the_same().await;
        end
    }

    /// Promise 10 and the loop's own: state in memory is what the file says.
    pub(super) async fn assert_journal_tells_the_same(&self) {
        let attempt = self.state.header.as_ref().expect("a header").fence.attempt;
        let read =
            self.store.read(JournalKey::new("u", attempt).expect("a key")).await.expect("read");
        assert_eq!(read, self.state);
    }

    /// As after a crash: a new attempt on what the file has.
    pub(super) async fn resume(&mut self) {
        let parent = self.store.parent("u").await.expect("read");
        let attempt = parent.as_ref().expect("there").attempt + 1;
        let opened = self.store.create(header(attempt, parent), redactor()).await.expect("created");
        self.journal = opened.journal;
        self.state = opened.replay;
        self.stop = watch::Sender::new(Stop::Continue);
    }

    /// Cuts the newest file behind the record that `last` picks.
    pub(super) fn cut_after(&self, attempt: u32, last: impl Fn(&Entry) -> bool) {
        let path = self.dir.path().join(format!("journals/u/{attempt}.journal"));
        let bytes = std::fs::read(&path).expect("read");
        let records = decode(&bytes).records;
        let at = records.iter().position(|record| last(&record.entry)).expect("there") + 1;
        let kept: usize = records
            .iter()
            .take(at)
            .map(|record| {
                crate::journal::encode(&serde_json::to_value(record).expect("JSON"))
                    .expect("small")
                    .len()
            })
            .sum();
        std::fs::File::options()
            .write(true)
            .open(Path::new(&path))
            .and_then(|file| file.set_len(kept as u64))
            .expect("cut");
    }

    pub(super) fn ran(&self) -> Vec<String> {
        self.ran.lock().expect("unpoisoned").clone()
    }

    pub(super) fn last_words(&self) -> String {
        let user = |m: &&Message| matches!(m, Message::User { .. });
        let last = self.state.conversation.iter().rev().find(user);
        last.expect("words").content().to_owned()
    }

    pub(super) fn results(&self) -> Vec<String> {
        let tool = |m: &&Message| matches!(m, Message::Tool { .. });
        self.state.conversation.iter().filter(tool).map(|m| m.content().to_owned()).collect()
    }
}
