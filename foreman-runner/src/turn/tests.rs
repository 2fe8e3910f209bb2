//! The loop against a scripted model: what it says, what it writes, how it ends, how it goes on.

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
    Entry, Header, INTERRUPTED, JOURNAL_SCHEMA, Journal, JournalFence, JournalKey, JournalStore,
    NOT_RUN, OpenedJournal, ParentRef, Replay, decode,
};
use crate::model_client::{
    CallSource, ChatReply, ChatRequest, FinishReason, Message, ModelClient, ToolCall,
};
use crate::redact::Redactor;
use crate::tool::{
    SubmitRole, SubmittedVerdict, Tool, ToolBox, ToolFault, ToolOutput, ToolSpec, TreeChange,
};

/// What the model does next.
enum Act {
    Say(ChatReply),
    Fail(ModelError),
    /// Never answers; only cancelling ends it.
    Hang,
}

fn reply(content: &str, calls: &[(&str, &str, Value)]) -> Act {
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
        finish: if calls.is_empty() {
            FinishReason::Stop
        } else {
            FinishReason::ToolCalls
        },
        usage: CallUsage {
            prompt_tokens: 100,
            cached_tokens: 50,
            completion_tokens: 10,
            estimated: false,
        },
        problem: None,
    })
}

fn call(name: &str, arguments: Value) -> Act {
    reply("", &[("", name, arguments)])
}

fn go() -> Act {
    call(
        "submit_result",
        json!({"verdict": "GO", "summary": "done", "commit_message": "Do it"}),
    )
}

#[derive(Default)]
struct Script {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Vec<Message>>>,
}

impl Script {
    fn of(acts: Vec<Act>) -> Self {
        Self {
            acts: Mutex::new(acts.into()),
            seen: Mutex::default(),
        }
    }

    fn requests(&self) -> Vec<Vec<Message>> {
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
        self.seen
            .lock()
            .expect("unpoisoned")
            .push(request.messages.to_vec());
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

/// A tool that notes its calls: `edit` changes the tree, `look` does not, `hang` waits, `broken` has no sandbox.
struct Fake {
    name: &'static str,
    ran: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Tool for Fake {
    fn spec(&self) -> ToolSpec {
        let parameters = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
        ToolSpec {
            name: self.name.into(),
            description: String::new(),
            parameters,
        }
    }

    async fn call(
        &self,
        arguments: &Map<String, Value>,
        cancel: &CancellationToken,
    ) -> Result<ToolOutput, ToolFault> {
        let x = arguments.get("x").map(Value::to_string).unwrap_or_default();
        self.ran
            .lock()
            .expect("unpoisoned")
            .push(format!("{}{x}", self.name));
        match self.name {
            "edit" => Ok(ToolOutput::ok("edited", TreeChange::Edited)),
            "fail" => Ok(ToolOutput::error("no")),
            "hang" => {
                cancel.cancelled().await;
                Err(ToolFault::Cancelled)
            }
            "broken" => Err(ToolFault::Sandbox {
                why: "no namespaces".into(),
            }),
            _ => Ok(ToolOutput::ok(format!("saw {x}"), TreeChange::None)),
        }
    }
}

#[derive(Default)]
struct Hooks {
    checkpoints: Vec<u32>,
    submissions: Vec<Submission>,
    answers: VecDeque<Result<SubmitAnswer, String>>,
    events: Vec<ProgressEvent>,
    /// Told once, at the first event of this kind.
    tell: Option<(fn(&ProgressEvent) -> bool, watch::Sender<Stop>, Stop)>,
    checkpoint_fault: bool,
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

struct World {
    dir: tempfile::TempDir,
    store: JournalStore,
    journal: Journal,
    state: Replay,
    tools: ToolBox,
    ran: Arc<Mutex<Vec<String>>>,
    settings: LoopSettings,
    hooks: Hooks,
    stop: watch::Sender<Stop>,
}

fn header(attempt: u32, parent: Option<ParentRef>) -> Header {
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

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = JournalStore::new(dir.path(), Arc::new(|| 1));
        let OpenedJournal { journal, replay } = store
            .create(header(1, None), Redactor::default())
            .await
            .expect("created");
        let ran = Arc::new(Mutex::new(Vec::new()));
        let names = ["look", "edit", "fail", "hang", "broken"];
        let available: Vec<Arc<dyn Tool>> = names
            .into_iter()
            .map(|name| {
                Arc::new(Fake {
                    name,
                    ran: Arc::clone(&ran),
                }) as Arc<dyn Tool>
            })
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
            wall_before: Duration::ZERO,
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

    async fn run(&mut self, script: &Script) -> LoopEnd {
        let opening = Opening {
            system: "orders".into(),
            user: "task".into(),
        };
        let turns = TurnLoop {
            model: script,
            tools: &self.tools,
            settings: &self.settings,
            journal: &mut self.journal,
            state: &mut self.state,
            hooks: &mut self.hooks,
        };
        let end = turns.run(&opening, self.stop.subscribe()).await;
        self.assert_journal_tells_the_same().await;
        end
    }

    /// Promise 10 and the loop's own: state in memory is what the file says.
    async fn assert_journal_tells_the_same(&self) {
        let attempt = self.state.header.as_ref().expect("a header").fence.attempt;
        let read = self
            .store
            .read(JournalKey::new("u", attempt).expect("a key"))
            .await
            .expect("read");
        assert_eq!(read, self.state);
    }

    /// As after a crash: a new attempt on what the file has.
    async fn resume(&mut self) {
        let parent = self.store.parent("u").await.expect("read");
        let attempt = parent.as_ref().expect("there").attempt + 1;
        let opened = self
            .store
            .create(header(attempt, parent), Redactor::default())
            .await
            .expect("created");
        self.journal = opened.journal;
        self.state = opened.replay;
        self.stop = watch::Sender::new(Stop::Continue);
    }

    /// Cuts the newest file behind the record that `last` picks.
    fn cut_after(&self, attempt: u32, last: impl Fn(&Entry) -> bool) {
        let path = self
            .dir
            .path()
            .join(format!("journals/u/{attempt}.journal"));
        let bytes = std::fs::read(&path).expect("read");
        let records = decode(&bytes).records;
        let at = records
            .iter()
            .position(|record| last(&record.entry))
            .expect("there")
            + 1;
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

    fn ran(&self) -> Vec<String> {
        self.ran.lock().expect("unpoisoned").clone()
    }

    fn last_words(&self) -> String {
        self.state
            .conversation
            .iter()
            .rev()
            .find_map(|m| match m {
                Message::User { content } => Some(content.clone()),
                _ => None,
            })
            .expect("words")
    }

    fn results(&self) -> Vec<String> {
        self.state
            .conversation
            .iter()
            .filter_map(|m| match m {
                Message::Tool { content, .. } => Some(content.clone()),
                _ => None,
            })
            .collect()
    }
}

#[tokio::test]
async fn read_edit_submit() {
    let mut world = World::new().await;
    let script = Script::of(vec![
        call("look", json!({"x": 1})),
        call("edit", json!({})),
        go(),
    ]);
    let end = world.run(&script).await;
    assert!(
        matches!(&end, LoopEnd::Submitted(s) if s.verdict == SubmittedVerdict::Go && s.commit_message.as_deref() == Some("Do it")),
        "{end:?}"
    );
    assert_eq!(world.ran(), ["look1", "edit"]);
    assert_eq!(world.hooks.checkpoints, [2]);
    assert_eq!(
        (
            world.state.turns.len(),
            world.state.usage.prompt_tokens,
            world.state.tool_calls
        ),
        (3, 300, 3)
    );
    // Each request begins with the one before: append only.
    let requests = script.requests();
    for (short, long) in requests.iter().zip(requests.iter().skip(1)) {
        assert_eq!(long.get(..short.len()), Some(short.as_slice()));
    }
    assert!(matches!(
        requests.first().map(Vec::as_slice),
        Some([Message::System { .. }, Message::User { .. }])
    ));
    let ids: Vec<&str> = world
        .state
        .conversation
        .iter()
        .flat_map(Message::tool_calls)
        .map(|c| c.id.as_str())
        .collect();
    assert_eq!(
        ids,
        ["call_2_0", "call_4_0", "call_6_0"],
        "empty ids are replaced"
    );
    assert!(world.hooks.events.iter().any(|e| matches!(
        e,
        ProgressEvent::TurnEnded {
            turn: 2,
            changed: true,
            ..
        }
    )));
}

#[tokio::test]
async fn calls_of_one_message_run_in_order_and_doubled_ids_are_told_apart() {
    let mut world = World::new().await;
    let several = reply(
        "",
        &[
            ("a", "look", json!({"x": 1})),
            ("a", "nothing", json!({})),
            ("b", "look", json!({"x": "y"})),
            ("c", "look", json!({"x": 4})),
        ],
    );
    world.run(&Script::of(vec![several, go()])).await;
    assert_eq!(world.ran(), ["look1", "look4"]);
    let results = world.results();
    assert_eq!(results.first().map(String::as_str), Some("saw 1"));
    assert!(
        results
            .get(1)
            .is_some_and(|r| r.contains("there is no tool"))
    );
    assert!(
        results
            .get(2)
            .is_some_and(|r| r.contains("must be of type integer"))
    );
    assert_eq!(results.get(3).map(String::as_str), Some("saw 4"));
}

#[tokio::test]
async fn a_submission_must_stand_last_and_on_good_ground() {
    let mut world = World::new().await;
    let submit = json!({"verdict": "GO", "summary": "s"});
    let script = Script::of(vec![
        reply(
            "",
            &[
                ("a", "fail", json!({})),
                ("b", "submit_result", submit.clone()),
            ],
        ),
        reply(
            "",
            &[(
                "c",
                "submit_result",
                json!({"verdict": "PERHAPS", "summary": "s"}),
            )],
        ),
        reply(
            "",
            &[
                ("d", "submit_result", submit.clone()),
                ("e", "edit", json!({})),
                ("f", "submit_result", submit),
            ],
        ),
    ]);
    let end = world.run(&script).await;
    assert!(matches!(end, LoopEnd::Submitted(_)), "{end:?}");
    assert_eq!(world.ran(), ["fail"], "nothing runs after the submission");
    let results = world.results();
    assert!(
        results
            .get(1)
            .is_some_and(|r| r.contains("a call before it in the same message failed"))
    );
    assert!(results.get(2).is_some_and(|r| r.contains("must be one of")));
    assert!(
        results
            .get(4)
            .is_some_and(|r| r.contains("nothing may follow"))
    );
}

#[tokio::test]
async fn findings_go_back_into_the_same_conversation() {
    let mut world = World::new().await;
    world.hooks.answers.push_back(Ok(SubmitAnswer::Continue {
        feedback: "the gate failed: x".into(),
    }));
    let script = Script::of(vec![go(), call("edit", json!({})), go()]);
    let end = world.run(&script).await;
    assert!(matches!(end, LoopEnd::Submitted(_)), "{end:?}");
    assert_eq!(world.hooks.submissions.len(), 2);
    assert_eq!(world.last_words(), "the gate failed: x");
}

#[tokio::test]
async fn malformed_turns_are_answered_and_bounded() {
    let mut world = World::new().await;
    let bad = || reply("", &[("", "look", json!({"x": "no"}))]);
    let end = world
        .run(&Script::of(vec![
            bad(),
            call("look", json!({})),
            bad(),
            bad(),
            bad(),
        ]))
        .await;
    assert!(
        matches!(&end, LoopEnd::Misunderstood { why } if why.contains("3 turns")),
        "{end:?}"
    );
    assert_eq!(world.ran(), ["look"]);
}

#[tokio::test]
async fn prose_is_nudged_and_bounded() {
    let mut world = World::new().await;
    let prose = || reply("I shall now do it.", &[]);
    let end = world.run(&Script::of(vec![prose(), go()])).await;
    assert!(matches!(end, LoopEnd::Submitted(_)), "{end:?}");
    assert!(world.last_words().contains("text without a tool call"));
    let mut world = World::new().await;
    let end = world
        .run(&Script::of(vec![prose(), prose(), prose()]))
        .await;
    assert!(
        matches!(&end, LoopEnd::Misunderstood { why } if why.contains("prose")),
        "{end:?}"
    );
    let mut world = World::new().await;
    let Act::Say(mut unreadable) = prose() else {
        unreachable!("a reply")
    };
    unreadable.problem = Some("it ends early".into());
    world
        .run(&Script::of(vec![Act::Say(unreadable), go()]))
        .await;
    assert!(
        world
            .last_words()
            .contains("could not be read: it ends early")
    );
}

#[tokio::test]
async fn a_loop_is_warned_then_ended_and_the_work_is_kept() {
    let mut world = World::new().await;
    let mut acts = vec![call("edit", json!({}))];
    acts.extend((0..6).map(|_| call("look", json!({"x": 1}))));
    let end = world.run(&Script::of(acts)).await;
    assert!(
        matches!(&end, LoopEnd::Stuck { why } if why.contains("look")),
        "{end:?}"
    );
    assert!(world.last_words().contains("You repeat the same calls"));
    assert_eq!(
        world.state.checkpoint.as_ref().map(|mark| mark.turn),
        Some(1)
    );
}

#[tokio::test]
async fn the_turn_limit_is_announced_and_ends() {
    let mut world = World::new().await;
    world.settings.turns_max = 5;
    let end = world
        .run(&Script::of(
            (0..5).map(|i| call("look", json!({"x": i}))).collect(),
        ))
        .await;
    assert!(matches!(end, LoopEnd::TurnLimit { turns: 5 }), "{end:?}");
    let notices: Vec<usize> = world
        .state
        .conversation
        .iter()
        .enumerate()
        .filter(|(_, m)| m.content().contains("You have 3 turns left"))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(notices, [6], "after two turns");
    // More turns: the same conversation goes on.
    world.resume().await;
    world.settings.turns_max = 10;
    let end = world.run(&Script::of(vec![go()])).await;
    assert!(matches!(end, LoopEnd::Submitted(_)), "{end:?}");
}

#[tokio::test]
async fn a_budget_pauses_before_the_call_that_would_break_it() {
    let mut world = World::new().await;
    world.settings.budget.tokens_max = Some(400);
    let script = Script::of(vec![call("look", json!({})), call("look", json!({"x": 2}))]);
    let end = world.run(&script).await;
    // 110 used after one turn; the next may need about 105 + 100; after two 220 + 205 is too much.
    assert!(
        matches!(
            end,
            LoopEnd::BudgetPaused(Exhausted::Tokens {
                used: 220,
                max: 400,
                ..
            })
        ),
        "{end:?}"
    );
    world.resume().await;
    world.settings.budget.tokens_max = Some(1_000);
    let end = world.run(&Script::of(vec![go()])).await;
    assert!(matches!(end, LoopEnd::Submitted(_)), "{end:?}");
}

#[tokio::test]
async fn stops_are_obeyed_when_they_should_be() {
    for stop in [Stop::Cancel, Stop::TimedOut, Stop::Lost] {
        let mut world = World::new().await;
        let asked: fn(&ProgressEvent) -> bool =
            |event| matches!(event, ProgressEvent::ModelStarted { .. });
        world.hooks.tell = Some((asked, world.stop.clone(), stop));
        let end = world.run(&Script::of(vec![Act::Hang])).await;
        assert!(
            matches!(end, LoopEnd::Stopped(told) if told == stop),
            "{end:?}"
        );
        assert_eq!(world.state.turns.len(), 0, "the turn is asked again");
        world.resume().await;
        assert!(matches!(
            world.run(&Script::of(vec![go()])).await,
            LoopEnd::Submitted(_)
        ));
    }
    // In a tool: its call is answered as interrupted, the next was never begun.
    let mut world = World::new().await;
    let in_tool: fn(&ProgressEvent) -> bool =
        |event| matches!(event, ProgressEvent::ToolStarted { .. });
    world.hooks.tell = Some((in_tool, world.stop.clone(), Stop::Cancel));
    let end = world
        .run(&Script::of(vec![reply(
            "",
            &[("a", "hang", json!({})), ("b", "look", json!({}))],
        )]))
        .await;
    assert!(matches!(end, LoopEnd::Stopped(Stop::Cancel)), "{end:?}");
    assert_eq!(world.results(), [INTERRUPTED, NOT_RUN]);
    // Suspend waits for the end of the turn.
    let mut world = World::new().await;
    world.hooks.tell = Some((in_tool, world.stop.clone(), Stop::Suspend));
    let end = world.run(&Script::of(vec![call("edit", json!({}))])).await;
    assert!(matches!(end, LoopEnd::Stopped(Stop::Suspend)), "{end:?}");
    assert_eq!(
        (world.results(), world.hooks.checkpoints.clone()),
        (vec!["edited".to_owned()], vec![1])
    );
}

#[tokio::test]
async fn what_is_not_the_models_fault_is_infrastructure() {
    let unavailable = ModelError::Unavailable {
        server: "s".into(),
        attempts: 7,
        last: "refused".into(),
    };
    let mut world = World::new().await;
    let end = world.run(&Script::of(vec![Act::Fail(unavailable)])).await;
    assert!(
        matches!(
            end,
            LoopEnd::Infrastructure(LoopFault::Model(ModelError::Unavailable { .. }))
        ),
        "{end:?}"
    );
    let mut world = World::new().await;
    let too_long = ModelError::ContextTooLong {
        server: "s".into(),
        message: "m".into(),
        context_tokens: None,
    };
    assert!(matches!(
        world.run(&Script::of(vec![Act::Fail(too_long)])).await,
        LoopEnd::ContextFull { .. }
    ));
    let mut world = World::new().await;
    let end = world
        .run(&Script::of(vec![call("broken", json!({}))]))
        .await;
    assert!(
        matches!(end, LoopEnd::Infrastructure(LoopFault::Sandbox { .. })),
        "{end:?}"
    );
    let mut world = World::new().await;
    world.hooks.checkpoint_fault = true;
    let end = world.run(&Script::of(vec![call("edit", json!({}))])).await;
    assert!(
        matches!(
            end,
            LoopEnd::Infrastructure(LoopFault::Checkpoint { turn: 1, .. })
        ),
        "{end:?}"
    );
    let mut world = World::new().await;
    world
        .hooks
        .answers
        .push_back(Err("the gate cannot run".into()));
    let end = world.run(&Script::of(vec![go()])).await;
    assert!(
        matches!(end, LoopEnd::Infrastructure(LoopFault::Judgement { .. })),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_crash_anywhere_runs_no_started_call_again() {
    // In the middle of a tool.
    let mut world = World::new().await;
    world
        .run(&Script::of(vec![
            call("look", json!({"x": 1})),
            call("edit", json!({})),
            go(),
        ]))
        .await;
    world.cut_after(
        1,
        |entry| matches!(entry, Entry::ToolStarted { name, .. } if name == "edit"),
    );
    world.resume().await;
    let script = Script::of(vec![go()]);
    assert!(matches!(world.run(&script).await, LoopEnd::Submitted(_)));
    assert_eq!(world.ran(), ["look1", "edit"], "not a second time");
    assert_eq!(
        world.results().get(1).map(String::as_str),
        Some(INTERRUPTED)
    );
    assert_eq!(world.state.turns.len(), 3, "turns count over attempts");

    // In the middle of the gate: judged again, the model is not asked again.
    let mut world = World::new().await;
    world.run(&Script::of(vec![go()])).await;
    world.resume().await;
    assert!(matches!(
        world.run(&Script::of(vec![])).await,
        LoopEnd::Submitted(_)
    ));
    assert_eq!(world.hooks.submissions.len(), 2);

    // Between a reply without a call and its answer.
    let mut world = World::new().await;
    world.run(&Script::of(vec![reply("hm", &[]), go()])).await;
    world.cut_after(1, |entry| {
        matches!(
            entry,
            Entry::Message {
                message: Message::Assistant { .. },
                ..
            }
        )
    });
    world.resume().await;
    assert!(matches!(
        world.run(&Script::of(vec![go()])).await,
        LoopEnd::Submitted(_)
    ));
    assert!(world.last_words().contains("text without a tool call"));

    // Before the first word.
    let mut world = World::new().await;
    world.run(&Script::of(vec![go()])).await;
    world.cut_after(1, |entry| matches!(entry, Entry::Header(_)));
    world.resume().await;
    let script = Script::of(vec![go()]);
    assert!(matches!(world.run(&script).await, LoopEnd::Submitted(_)));
    assert_eq!(script.requests().first().map(Vec::len), Some(2));
}
