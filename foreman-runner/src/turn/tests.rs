//! The loop against a scripted model: what it says, what it writes, how it ends, how it goes on.

use foreman_core::ports::executor::Stop;
use serde_json::json;

use super::world::{Act, SECRET, Script, When, World, call, go, reply};
use super::*;
use crate::journal::{Entry, INTERRUPTED, NOT_RUN};
use crate::model_client::Message;
use crate::tool::SubmittedVerdict;

#[tokio::test]
async fn read_edit_submit() {
    let mut world = World::new().await;
    let script = Script::of(vec![call("look", json!({"x": 1})), call("edit", json!({})), go()]);
    let end = world.run(&script).await;
    assert!(
        matches!(&end, LoopEnd::Submitted(s) if s.verdict == SubmittedVerdict::Go && s.commit_message.as_deref() == Some("Do it")),
        "{end:?}"
    );
    assert_eq!(world.ran(), ["look1", "edit"]);
    assert_eq!(world.hooks.checkpoints, [2]);
    assert_eq!(
        (world.state.turns.len(), world.state.usage.prompt_tokens, world.state.tool_calls),
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
    assert_eq!(ids, ["call_2_0", "call_4_0", "call_6_0"], "empty ids are replaced");
    assert!(
        world
            .hooks
            .events
            .iter()
            .any(|e| matches!(e, ProgressEvent::TurnEnded { turn: 2, changed: true, .. }))
    );
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
    assert!(results.get(1).is_some_and(|r| r.contains("there is no tool")));
    assert!(results.get(2).is_some_and(|r| r.contains("must be of type integer")));
    assert_eq!(results.get(3).map(String::as_str), Some("saw 4"));
}

#[tokio::test]
async fn a_submission_must_stand_last_and_on_good_ground() {
    let mut world = World::new().await;
    let submit = json!({"verdict": "GO", "summary": "s"});
    let script = Script::of(vec![
        reply("", &[("a", "fail", json!({})), ("b", "submit_result", submit.clone())]),
        reply("", &[("c", "submit_result", json!({"verdict": "PERHAPS", "summary": "s"}))]),
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
        results.get(1).is_some_and(|r| r.contains("a call before it in the same message failed"))
    );
    assert!(results.get(2).is_some_and(|r| r.contains("must be one of")));
    assert!(results.get(4).is_some_and(|r| r.contains("nothing may follow")));
}

#[tokio::test]
async fn findings_go_back_into_the_same_conversation() {
    let mut world = World::new().await;
    world
        .hooks
        .answers
        .push_back(Ok(SubmitAnswer::Continue { feedback: "the gate failed: x".into() }));
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
    let end =
        world.run(&Script::of(vec![bad(), call("look", json!({})), bad(), bad(), bad()])).await;
    assert!(matches!(&end, LoopEnd::Misunderstood { why } if why.contains("3 turns")), "{end:?}");
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
    let end = world.run(&Script::of(vec![prose(), prose(), prose()])).await;
    assert!(matches!(&end, LoopEnd::Misunderstood { why } if why.contains("prose")), "{end:?}");
    let mut world = World::new().await;
    let Act::Say(mut unreadable) = prose() else { unreachable!("a reply") };
    unreadable.problem = Some("it ends early".into());
    world.run(&Script::of(vec![Act::Say(unreadable), go()])).await;
    assert!(world.last_words().contains("could not be read: it ends early"));
}

#[tokio::test]
async fn a_loop_is_warned_then_ended_and_the_work_is_kept() {
    let mut world = World::new().await;
    let mut acts = vec![call("edit", json!({}))];
    acts.extend((0..6).map(|_| call("look", json!({"x": 1}))));
    let end = world.run(&Script::of(acts)).await;
    assert!(matches!(&end, LoopEnd::Stuck { why } if why.contains("look")), "{end:?}");
    assert!(world.last_words().contains("You repeat the same calls"));
    assert_eq!(world.state.checkpoint.as_ref().map(|mark| mark.turn), Some(1));
}

#[tokio::test]
async fn the_turn_limit_is_announced_and_ends() {
    let mut world = World::new().await;
    world.settings.turns_max = 5;
    let end = world.run(&Script::of((0..5).map(|i| call("look", json!({"x": i}))).collect())).await;
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
        matches!(end, LoopEnd::BudgetPaused(Exhausted::Tokens { used: 220, max: 400, .. })),
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
        let asked: When = |event| matches!(event, ProgressEvent::ModelStarted { .. });
        world.hooks.tell = Some((asked, world.stop.clone(), stop));
        let end = world.run(&Script::of(vec![Act::Hang])).await;
        assert!(matches!(end, LoopEnd::Stopped(told) if told == stop), "{end:?}");
        assert_eq!(world.state.turns.len(), 0, "the turn is asked again");
        world.resume().await;
        assert!(matches!(world.run(&Script::of(vec![go()])).await, LoopEnd::Submitted(_)));
    }
    // In a tool: its call is answered as interrupted, the next was never begun.
    let mut world = World::new().await;
    let in_tool: When = |event| matches!(event, ProgressEvent::ToolStarted { .. });
    world.hooks.tell = Some((in_tool, world.stop.clone(), Stop::Cancel));
    let end = world
        .run(&Script::of(vec![reply("", &[("a", "hang", json!({})), ("b", "look", json!({}))])]))
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
    let unavailable =
        ModelError::Unavailable { server: "s".into(), attempts: 7, last: "refused".into() };
    let mut world = World::new().await;
    let end = world.run(&Script::of(vec![Act::Fail(unavailable)])).await;
    assert!(
        matches!(end, LoopEnd::Infrastructure(LoopFault::Model(ModelError::Unavailable { .. }))),
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
    let end = world.run(&Script::of(vec![call("broken", json!({}))])).await;
    assert!(matches!(end, LoopEnd::Infrastructure(LoopFault::Sandbox { .. })), "{end:?}");
    let mut world = World::new().await;
    world.hooks.checkpoint_fault = true;
    let end = world.run(&Script::of(vec![call("edit", json!({}))])).await;
    assert!(
        matches!(end, LoopEnd::Infrastructure(LoopFault::Checkpoint { turn: 1, .. })),
        "{end:?}"
    );
    let mut world = World::new().await;
    world.hooks.answers.push_back(Err("the gate cannot run".into()));
    let end = world.run(&Script::of(vec![go()])).await;
    assert!(matches!(end, LoopEnd::Infrastructure(LoopFault::Judgement { .. })), "{end:?}");
}

#[tokio::test]
async fn a_crash_anywhere_runs_no_started_call_again() {
    // In the middle of a tool.
    let mut world = World::new().await;
    world
        .run(&Script::of(vec![call("look", json!({"x": 1})), call("edit", json!({})), go()]))
        .await;
    world.cut_after(1, |entry| matches!(entry, Entry::ToolStarted { name, .. } if name == "edit"));
    world.resume().await;
    let script = Script::of(vec![go()]);
    assert!(matches!(world.run(&script).await, LoopEnd::Submitted(_)));
    assert_eq!(world.ran(), ["look1", "edit"], "not a second time");
    assert_eq!(world.results().get(1).map(String::as_str), Some(INTERRUPTED));
    assert_eq!(world.state.turns.len(), 3, "turns count over attempts");

    // In the middle of the gate: judged again, the model is not asked again.
    let mut world = World::new().await;
    world.run(&Script::of(vec![go()])).await;
    world.resume().await;
    assert!(matches!(world.run(&Script::of(vec![])).await, LoopEnd::Submitted(_)));
    assert_eq!(world.hooks.submissions.len(), 2);

    // Between a reply without a call and its answer.
    let mut world = World::new().await;
    world.run(&Script::of(vec![reply("hm", &[]), go()])).await;
    world.cut_after(1, |entry| {
        matches!(entry, Entry::Message { message: Message::Assistant { .. }, .. })
    });
    world.resume().await;
    assert!(matches!(world.run(&Script::of(vec![go()])).await, LoopEnd::Submitted(_)));
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

#[tokio::test]
async fn a_secret_in_a_result_reaches_nobody() {
    let mut world = World::new().await;
    let script = Script::of(vec![call("leak", json!({})), go()]);
    assert!(matches!(world.run(&script).await, LoopEnd::Submitted(_)));
    assert_eq!(world.results().first().map(String::as_str), Some("token=[redacted]"));
    let seen = format!("{:?} {:?}", script.requests(), world.hooks.events);
    assert!(!seen.contains(SECRET), "{seen}");
    assert!(seen.contains("token=[redacted]"));
}
