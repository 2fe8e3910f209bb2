//! Told to stop: at once or at a turn boundary, with the work kept and without an effect afterwards.

use std::time::{Duration, Instant};

use foreman_core::BeatBegan;
use foreman_core::model::outcome::{Decision, FailureReason, Infrastructure, Verification};
use foreman_core::model::{Key, Verdict};
use foreman_core::ports::executor::{ReleaseWhy, RunEnd, Stop};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect};
use foreman_runner::observe::RunEvent;

use crate::support::bench::{Bench, finished};
use crate::support::model_server::{Act, bash, mend, read, submit};
use crate::support::repository::{BROKEN, Remote};
use crate::support::within;

/// How long children and the run itself may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(8);

/// A gate that never ends by itself. `seconds` is another number in each test, for [`lives`].
fn endless_gate(folder: &std::path::Path, seconds: &str) -> Remote {
    let gate = format!("[gate]\ntest = \"sleep {seconds}\"\n");
    Remote::with(folder, "remote", &[("greet.sh", BROKEN), (".foreman.toml", &gate)])
}

/// Whether a process of ours with this word among its arguments lives.
fn lives(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    // Whole arguments: a shell that has the word in a longer line is our own test's name.
    lines.any(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
}

async fn until_lives(word: &str, wanted: bool) {
    within("a child's beginning or end", async {
        while lives(word) != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn assert_cancelled(end: RunEnd) {
    let finish = finished(end);
    let outcome = finish.outcome;
    assert_eq!(
        (finish.succeeded, finish.verdict, finish.failure_reason, outcome.infrastructure),
        (false, Verdict::Incomplete, None, Infrastructure::Cancelled),
        "{}",
        finish.message
    );
    assert_eq!(
        (outcome.decision, outcome.verification),
        (Decision::None, Verification::NotVerified)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_in_a_model_call() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    let began = Instant::now();
    let finish = finished(run.told(Stop::Cancel).await);
    assert!(began.elapsed() < ENDS_WITHIN, "{:?}", began.elapsed());
    assert_eq!(finish.outcome.infrastructure, Infrastructure::Cancelled);
    assert!(finish.message.contains(".patch"), "the work is kept: {}", finish.message);
    assert!(finish.checkpoint.is_some());
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_in_a_tool() {
    let bench = Bench::new(vec![bash("setsid sleep 54320 & sleep 54320")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    until_lives("54320", true).await;
    let began = Instant::now();
    assert_cancelled(run.told(Stop::Cancel).await);
    assert!(began.elapsed() < ENDS_WITHIN, "{:?}", began.elapsed());
    assert!(!lives("54320"), "a child outlived its run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_in_the_gate_pushes_nothing() {
    let bench = Bench::on(vec![mend(), submit("GO")], |folder| endless_gate(folder, "54321")).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    until_lives("54321", true).await;
    let began = Instant::now();
    assert_cancelled(run.told(Stop::Cancel).await);
    assert!(began.elapsed() < ENDS_WITHIN, "{:?}", began.elapsed());
    assert!(!lives("54321"), "a child outlived its run");
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_limit_ends_the_run_and_keeps_the_work() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    let finish = finished(run.told(Stop::TimedOut).await);
    assert_eq!(
        (finish.succeeded, finish.verdict, finish.failure_reason, finish.outcome.infrastructure),
        (false, Verdict::Incomplete, Some(FailureReason::Timeout), Infrastructure::TimedOut)
    );
    assert!(finish.message.contains(".patch"), "{}", finish.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_at_a_turn_boundary_and_resumed_with_the_same_conversation() {
    let bench = Bench::new(vec![mend(), bash("sleep 0.3; sh greet.sh")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench
        .heard
        .once(
            "the command",
            |event| matches!(event, RunEvent::ToolStarted { tool, .. } if tool == "bash"),
        )
        .await;
    let RunEnd::Released { checkpoint, usage, why } = run.told(Stop::Suspend).await else {
        panic!("not released")
    };
    assert_eq!(why, ReleaseWhy::Suspended);
    assert_eq!(usage.turns, Some(2), "the turn under way ends first");
    assert_eq!(checkpoint.and_then(|it| it.turn), Some(1));
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&task.key(), "s2").await.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    let asked = bench.model.asked();
    assert_eq!(asked.len(), 3, "no turn is repeated");
    let (before, after) = (asked.get(1).expect("asked"), asked.get(2).expect("asked"));
    let end = before.raw.windows(11).position(|it| it == br#""messages":"#).expect("messages");
    let same = before.messages();
    assert_eq!(after.messages().get(..same.len()), Some(same.as_slice()));
    // Not only equal as JSON: the very bytes, so that the server's cache is hit.
    let last = before.messages().pop().expect("a message");
    let until = find(&before.raw, last.as_bytes()) + last.len();
    assert!(until > end);
    assert_eq!(after.raw.get(..until), before.raw.get(..until));
    assert_eq!(usage_of(&finish), (Some(3), Some(300)), "two turns were charged to nobody else");
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
}

/// Turns and prompt tokens. The store was not told of the first claim's, so they are in here.
fn usage_of(finish: &foreman_core::ports::executor::Finish) -> (Option<i64>, Option<i64>) {
    (finish.usage.turns, finish.usage.prompt_tokens)
}

fn find(all: &[u8], part: &[u8]) -> usize {
    all.windows(part.len()).position(|it| it == part).expect("it is in there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_claim_was_charged_is_not_charged_again() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    let by = bench.clock.boot() + Duration::from_secs(20);
    let RunEnd::Released { usage, .. } = run.told(Stop::Drain { by }).await else {
        panic!("not released")
    };
    assert_eq!((usage.turns, usage.prompt_tokens), (Some(1), Some(100)));
    let charge = Change::of(Part::Status).set("usage", &usage);
    bench.stores.tasks.patch(&task.key(), charge, Expect::Any).await.expect("charged");
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&task.key(), "s2").await.ended().await);
    assert_eq!(usage_of(&finish), (Some(1), Some(100)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_in_a_model_call_hands_over_and_the_turn_is_asked_again() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    let by = bench.clock.boot() + Duration::from_secs(20);
    let RunEnd::Released { checkpoint, why, .. } = run.told(Stop::Drain { by }).await else {
        panic!("not released")
    };
    assert_eq!(why, ReleaseWhy::Drained);
    assert_eq!(checkpoint.and_then(|it| it.turn), Some(1));
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&task.key(), "s2").await.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    let asked = bench.model.asked();
    assert_eq!(asked.len(), 3);
    let (hung, again) = (asked.get(1).expect("asked"), asked.get(2).expect("asked"));
    assert_eq!(hung.raw, again.raw, "the same turn, byte for byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_a_publication_finish() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    // Without a recent heartbeat the push waits for leave.
    bench.beat.send_replace(None);
    let mut moved = run.moved.clone();
    let publishing =
        moved.wait_for(|it| it.stage.is_some_and(|it| format!("{it:?}") == "Publishing"));
    within("the publication", publishing).await.expect("the run lives");
    let by = bench.clock.boot() + Duration::from_mins(1);
    run.stop.send_replace(Stop::Drain { by });
    bench.beat.send_replace(Some(BeatBegan::now(&*bench.clock)));
    let finish = finished(run.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(bench.remote.branches(), ["foreman/fix"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_without_leave_is_given_up_before_the_drain_is_over() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.beat.send_replace(None);
    let mut moved = run.moved.clone();
    let publishing =
        moved.wait_for(|it| it.stage.is_some_and(|it| format!("{it:?}") == "Publishing"));
    within("the publication", publishing).await.expect("the run lives");
    let began = Instant::now();
    let by = bench.clock.boot() + Duration::from_secs(6);
    let end = run.told(Stop::Drain { by }).await;
    assert!(matches!(end, RunEnd::Released { why: ReleaseWhy::Drained, .. }), "{end:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
    // The next claim pushes that very commit, and asks nobody again.
    let finish = finished(bench.start(&task.key(), "s2").await.ended().await);
    assert_eq!((finish.verdict, finish.outcome.verification), (Verdict::Go, Verification::Passed));
    assert_eq!(bench.model.asked().len(), 2);
    assert_eq!(bench.remote.ahead("foreman/fix"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_pauses_and_a_raised_one_goes_on() {
    let bench = Bench::new(vec![mend()]).await;
    let mut spec = bench.code();
    spec.budget =
        Some(foreman_core::model::shared::Budget { turns: Some(1), ..Default::default() });
    let task = bench.task("fix", spec).await;
    let end = bench.run(&task.key()).await;
    let RunEnd::Released { why: ReleaseWhy::BudgetExhausted { message }, usage, .. } = end else {
        panic!("not paused: {end:?}")
    };
    assert!(message.contains("turns"), "{message}");
    assert_eq!(usage.turns, Some(1));
    raise(&bench, &task.key(), 10).await;
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&task.key(), "s2").await.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(bench.model.asked().len(), 2);
}

async fn raise(bench: &Bench, key: &Key, turns: i64) {
    let change = Change::of(Part::Spec).set("budget", serde_json::json!({"turns": turns}));
    bench.stores.tasks.patch(key, change, Expect::Any).await.expect("raised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_claim_pushes_nothing_and_writes_nothing() {
    for told in [true, false] {
        let bench = Bench::new(vec![mend(), submit("GO")]).await;
        let task = bench.task("fix", bench.code()).await;
        let run = bench.start(&task.key(), "s1").await;
        bench.beat.send_replace(None);
        let mut moved = run.moved.clone();
        let publishing =
            moved.wait_for(|it| it.stage.is_some_and(|it| format!("{it:?}") == "Publishing"));
        within("the publication", publishing).await.expect("the run lives");
        let (_, theirs) = bench.claim(&task.key(), "another session").await;
        if told {
            run.stop.send_replace(Stop::Lost);
        }
        bench.beat.send_replace(Some(BeatBegan::now(&*bench.clock)));
        assert_eq!(run.ended().await, RunEnd::Lost, "told: {told}");
        assert_eq!(bench.remote.branches(), Vec::<String>::new());
        let now = bench.now(&task.key()).await;
        assert_eq!(now.status.attempt, Some(theirs.attempt));
        assert!(now.status.result.is_none() && now.status.usage.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_that_only_the_store_knows_stops_the_push() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.beat.send_replace(None);
    let mut moved = run.moved.clone();
    let publishing =
        moved.wait_for(|it| it.stage.is_some_and(|it| format!("{it:?}") == "Publishing"));
    within("the publication", publishing).await.expect("the run lives");
    let change = Change::of(Part::Spec).set("cancel", true);
    bench.stores.tasks.patch(&task.key(), change, Expect::Any).await.expect("cancelled");
    bench.beat.send_replace(Some(BeatBegan::now(&*bench.clock)));
    let finish = finished(run.ended().await);
    assert_eq!(finish.outcome.infrastructure, Infrastructure::Cancelled, "{}", finish.message);
    assert!(finish.message.contains(".patch"), "the work is kept: {}", finish.message);
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_told_to_stop_judges_nothing() {
    let bench = Bench::on(vec![], |folder| endless_gate(folder, "54324")).await;
    let mut spec = bench.spec(foreman_core::model::TaskKind::Verify);
    spec.payload.branch = Some("main".into());
    let by = bench.clock.boot() + Duration::from_secs(20);
    for (name, stop) in [
        ("cancel", Stop::Cancel),
        ("late", Stop::TimedOut),
        ("drain", Stop::Drain { by }),
        ("lost", Stop::Lost),
    ] {
        let task = bench.task(name, spec.clone()).await;
        let run = bench.start(&task.key(), "s1").await;
        until_lives("54324", true).await;
        let end = run.told(stop).await;
        match (name, &end) {
            ("cancel" | "late", RunEnd::Finished(finish)) => {
                assert_eq!(finish.verdict, Verdict::Incomplete);
                assert_eq!(finish.outcome.verification, Verification::NotVerified);
                let wanted = if name == "late" {
                    Infrastructure::TimedOut
                } else {
                    Infrastructure::Cancelled
                };
                assert_eq!(finish.outcome.infrastructure, wanted);
            }
            ("drain", RunEnd::Released { why: ReleaseWhy::Drained, .. })
            | ("lost", RunEnd::Lost) => {}
            _ => panic!("{name}: {end:?}"),
        }
        until_lives("54324", false).await;
    }
    assert_eq!(bench.trees(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_before_it_began() {
    let bench = Bench::new(vec![read("greet.sh")]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    assert_cancelled(run.told(Stop::Cancel).await);
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}
