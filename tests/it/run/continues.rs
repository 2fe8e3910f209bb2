//! A task that goes on with another one's conversation, and a run that goes on after its machinery failed.

use foreman_core::model::agentic_task::Continues;
use foreman_core::model::outcome::{FailureReason, Infrastructure, Verification};
use foreman_core::model::{AgenticTaskSpec, Object, Verdict};
use foreman_core::ports::executor::RunEnd;
use serde_json::Value;

use crate::support::bench::{Bench, finished, given_back};
use crate::support::model_server::{Act, mend, read, submit};
use crate::support::repository::MENDED;

const FINDINGS: &str = "Reviewers did not approve it.\n- greet whom?";

/// A task that goes on with `earlier`.
fn continuing(
    bench: &Bench,
    earlier: &Object<foreman_core::model::AgenticTask>,
) -> AgenticTaskSpec {
    let mut spec = bench.code();
    spec.continues = Some(Continues {
        task: Some(earlier.meta.name.clone()),
        uid: Some(earlier.meta.uid.to_string()),
    });
    spec
}

/// A fix round on the branch that the first task pushed.
fn fix_round(bench: &Bench, earlier: &Object<foreman_core::model::AgenticTask>) -> AgenticTaskSpec {
    let mut spec = continuing(bench, earlier);
    spec.payload.prompt_prefix = spec.payload.prompt.take();
    spec.payload.prompt = Some(FINDINGS.to_owned());
    spec.payload.revise_from_branch = Some("foreman/fix".into());
    spec.payload.allow_overwrite = Some(true);
    spec
}

/// Adds a line to the mended file.
fn revise() -> Act {
    let write = serde_json::json!({"path": "NOTES", "content": "greets the world\n"});
    Act::Call("write_file", write)
}

fn tools(asked: &Value) -> Option<String> {
    asked.get("tools").map(Value::to_string)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fix_round_shows_the_model_the_same_conversation_and_then_the_findings() {
    let mut bench = Bench::new(vec![mend(), submit("GO")]).await;
    let first = bench.task("fix", bench.code()).await;
    assert_eq!(finished(bench.run(&first.key()).await).verdict, Verdict::Go);
    let before = bench.model.asked();
    // Limits and tools of the Agent changed meanwhile: the limits count, the tools stay.
    bench.agent.max_turns = Some(2);
    bench.model.then(vec![revise(), Act::Hang]);
    let second = bench.task("fix-r1", fix_round(&bench, &first)).await;
    let run = bench.start(&second.key(), "s1").await;
    bench.model.asked_times(4).await;
    run.crash().await;
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&second.key(), "s2").await.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(finish.outcome.verification, Verification::Passed);
    assert_eq!(finish.usage.turns, Some(2), "turns are counted anew");
    assert_eq!(bench.remote.ahead("foreman/fix"), "2", "on top of what was pushed");
    assert_eq!(bench.remote.file("foreman/fix", "NOTES"), "greets the world\n");
    assert_eq!(bench.remote.file("foreman/fix", "greet.sh"), MENDED);

    let asked = bench.model.asked();
    let last_before = before.last().expect("asked").messages();
    let go_on = asked.get(2).expect("asked").messages();
    assert_eq!(go_on.get(..last_before.len()), Some(last_before.as_slice()), "byte for byte");
    assert_eq!(go_on.len(), last_before.len() + 3, "the submission, its result, the findings");
    let findings = go_on.last().expect("said");
    assert!(findings.contains("greet whom?") && findings.contains("foreman/fix"), "{findings}");
    assert!(!findings.contains("nobody is named"), "what was asked first is not said again");
    let bodies: Vec<_> = asked.iter().map(|one| tools(&one.body)).collect();
    assert!(bodies.windows(2).all(|pair| pair.first() == pair.last()), "the same tools");
    let resumed = asked.last().expect("asked").messages();
    let said = resumed.iter().filter(|message| message.contains("greet whom?")).count();
    assert_eq!(said, 1, "the findings are said once, whatever crashed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_journal_the_findings_begin_a_conversation_of_their_own() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let first = bench.task("fix", bench.code()).await;
    assert_eq!(finished(bench.run(&first.key()).await).verdict, Verdict::Go);
    std::fs::remove_dir_all(bench.settings.data_dir.join("journals")).expect("gone");
    bench.model.then(vec![revise(), submit("GO")]);
    let second = bench.task("fix-r1", fix_round(&bench, &first)).await;
    let finish = finished(bench.run(&second.key()).await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(bench.remote.ahead("foreman/fix"), "2");
    assert!(bench.heard.notices().contains("not on this machine"), "{}", bench.heard.notices());
    let asked = bench.model.asked().get(2).expect("asked").messages();
    assert_eq!(asked.len(), 2, "system and request");
    let request = asked.last().expect("said");
    assert!(request.contains("greet whom?") && request.contains("nobody is named"), "{request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_a_turn_limit_ended_goes_on_in_its_tree_with_turns_again() {
    let mut bench = Bench::new(vec![mend()]).await;
    bench.agent.max_turns = Some(1);
    let first = bench.task("fix", bench.code()).await;
    let ended = finished(bench.run(&first.key()).await);
    assert_eq!(ended.failure_reason, Some(FailureReason::MaxTurnsExhausted));
    // The base moves on: the kept tree still lies on where it began.
    bench.remote.pushed_by_somebody_else("main", "main");
    bench.model.then(vec![submit("GO")]);
    let second = bench.task("fix-2", continuing(&bench, &first)).await;
    let finish = finished(bench.run(&second.key()).await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(finish.usage.turns, Some(1));
    assert_eq!(bench.remote.file("foreman/fix", "greet.sh"), MENDED, "nothing was done again");
    let request = bench.model.asked().get(1).expect("asked").messages();
    let request = request.last().expect("said");
    assert!(request.contains("as it was when you stopped"), "{request}");
    assert!(!request.contains("nobody is named"), "it was told before: {request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_was_taken_over_outlives_a_crash_before_the_first_turn() {
    let mut bench = Bench::new(vec![mend()]).await;
    bench.agent.max_turns = Some(1);
    let first = bench.task("fix", bench.code()).await;
    finished(bench.run(&first.key()).await);
    bench.model.then(vec![Act::Hang]);
    let second = bench.task("fix-2", continuing(&bench, &first)).await;
    let run = bench.start(&second.key(), "s1").await;
    bench.model.asked_times(2).await;
    run.crash().await;
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&second.key(), "s2").await.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(bench.remote.file("foreman/fix", "greet.sh"), MENDED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_server_that_goes_away_gives_the_claim_back_and_the_next_one_repeats_nothing() {
    let away = || Act::Status(503, "text/plain", "loading".into());
    let bench = Bench::new(vec![read("greet.sh"), mend(), away()]).await;
    let task = bench.task("fix", bench.code()).await;
    let end = bench.run(&task.key()).await;
    let (kind, message) = given_back(&end);
    assert_eq!(kind, Infrastructure::ModelUnavailable);
    let RunEnd::Released { checkpoint, usage, .. } = &end else { panic!("{end:?}") };
    let checkpoint = checkpoint.as_ref().expect("the work is kept");
    assert_eq!((checkpoint.turn, usage.turns), (Some(2), Some(2)));
    let (_, patch) = message.split_once("the work is kept in ").expect("named");
    assert!(std::fs::read_to_string(patch).expect("a patch").contains("world"));
    bench.model.then(vec![submit("GO")]);
    let finish = finished(bench.start(&task.key(), "s2").await.ended().await);
    assert_eq!(finish.verdict, Verdict::Go, "{}", finish.message);
    assert_eq!(bench.model.asked().len(), 4, "two turns, the one that failed, the submission");
    assert_eq!(bench.remote.file("foreman/fix", "greet.sh"), MENDED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_no_gate_judged_says_so_to_its_reviewer() {
    let bench = Bench::on(vec![mend(), submit("GO")], |folder| {
        let broken = crate::support::repository::BROKEN;
        crate::support::repository::Remote::with(folder, "remote", &[("greet.sh", broken)])
    })
    .await;
    let finish = bench.finish(bench.code()).await;
    let extra = finish.result.0.get("extra").expect("told");
    assert_eq!(extra["gateAdvisories"][0]["check"], "gate", "{extra}");
    assert!(extra["gateAdvisories"][0]["detail"].as_str().expect("words").contains("no gate"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowance_pauses_before_the_call_that_might_not_fit() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let task = bench.task("fix", bench.code()).await;
    let change = foreman_core::ports::Change::of(foreman_core::ports::store::Part::Status)
        .set("allowance", 50);
    let any = foreman_core::ports::Expect::Any;
    bench.stores.tasks.patch(&task.key(), change, any).await.expect("reserved");
    let end = bench.run(&task.key()).await;
    let RunEnd::Released { why, .. } = &end else { panic!("{end:?}") };
    let foreman_core::ports::executor::ReleaseWhy::BudgetExhausted { message } = why else {
        panic!("{why:?}")
    };
    assert!(message.starts_with("the Workload's budget.tokens: 0 used"), "{message}");
    assert_eq!(bench.model.asked().len(), 0);
}
