//! Each row of the table of outcomes that a run can reach.

use std::path::Path;

use foreman_core::model::Verdict;
use foreman_core::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, OutcomeReason, Verification,
};
use foreman_core::model::shared::StuckLoopDetectionSpec;
use foreman_core::model::shared::{GateCommands, GateProfile};
use foreman_core::ports::executor::Finish;
use foreman_runner::model_client::BaseUrl;
use foreman_runner::sandbox::Tier;
use serde_json::json;

use crate::support::bench::{Bench, given_back};
use crate::support::model_server::{Act, bash, event, mend, read, submit};
use crate::support::repository::Remote;

/// Phase, verdict, failure reason, and what is behind them.
fn row(finish: &Finish) -> (bool, Verdict, Option<FailureReason>, Outcome) {
    (finish.succeeded, finish.verdict, finish.failure_reason, finish.outcome)
}

fn outcome(
    decision: Decision,
    verification: Verification,
    infrastructure: Infrastructure,
    reason: Option<OutcomeReason>,
) -> Outcome {
    Outcome { decision, verification, infrastructure, reason }
}

/// The row of a failure of the machinery.
fn broken(kind: Infrastructure) -> (bool, Verdict, Option<FailureReason>, Outcome) {
    let outcome = outcome(Decision::None, Verification::NotVerified, kind, None);
    (false, Verdict::Incomplete, Some(FailureReason::InfrastructureError), outcome)
}

/// A file that the result names, with what is in it.
fn patch_of(finish: &Finish) -> String {
    let named = finish.result.0.get("extra").and_then(|extra| extra.get("patch"));
    let named = named.and_then(|it| it.as_str()).unwrap_or_else(|| panic!("no patch: {finish:#?}"));
    assert!(finish.message.contains(named), "{}", finish.message);
    std::fs::read_to_string(named).expect("a patch")
}

fn no_gate(folder: &Path) -> Remote {
    Remote::with(folder, "remote", &[("greet.sh", crate::support::repository::BROKEN)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_gate_a_go_is_not_verified() {
    let bench = Bench::on(vec![mend(), submit("GO")], no_gate).await;
    let finish = bench.finish(bench.code()).await;
    let expected = outcome(Decision::Go, Verification::NotVerified, Infrastructure::Ok, None);
    assert_eq!(row(&finish), (true, Verdict::Go, None, expected), "{}", finish.message);
    assert_eq!(bench.remote.branches(), ["foreman/fix"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_declines_ends_no_go() {
    let bench = Bench::new(vec![read("greet.sh"), submit("NO-GO")]).await;
    let finish = bench.finish(bench.code()).await;
    let reason = Some(OutcomeReason::Declined);
    let expected = outcome(Decision::NoGo, Verification::NotApplicable, Infrastructure::Ok, reason);
    assert_eq!(row(&finish), (true, Verdict::NoGo, None, expected));
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_without_a_change_is_asked_about_once_and_then_no_changes() {
    let bench = Bench::new(vec![submit("GO"), submit("GO")]).await;
    let finish = bench.finish(bench.code()).await;
    let reason = Some(OutcomeReason::NoChanges);
    let expected = outcome(Decision::NoGo, Verification::NotApplicable, Infrastructure::Ok, reason);
    assert_eq!(row(&finish), (true, Verdict::NoGo, None, expected));
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
    let asked = bench.model.asked();
    assert_eq!(asked.len(), 2);
    let question = asked.last().expect("asked").messages().pop().expect("a question");
    assert!(question.contains("the tree does not differ"), "{question}");
    assert_eq!(bench.trees(), Vec::<std::path::PathBuf>::new(), "nothing is left to keep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_never_passes_is_tried_three_times_and_nothing_is_pushed() {
    let script = vec![bash("echo wrong > greet.sh"), submit("GO"), submit("GO"), submit("GO")];
    let bench = Bench::new(script).await;
    let finish = bench.finish(bench.code()).await;
    let reason = Some(OutcomeReason::GateFailed);
    let expected = outcome(Decision::Go, Verification::Failed, Infrastructure::Ok, reason);
    let wanted = (true, Verdict::Incomplete, Some(FailureReason::GateFailed), expected);
    assert_eq!(row(&finish), wanted, "{}", finish.message);
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
    let asked = bench.model.asked();
    assert_eq!(asked.len(), 4);
    let rounds: Vec<String> = asked.iter().filter_map(|it| it.messages().pop()).collect();
    assert!(rounds.get(2).is_some_and(|it| it.contains("round 1 of 3")), "{rounds:?}");
    assert!(rounds.get(3).is_some_and(|it| it.contains("round 2 of 3")), "{rounds:?}");
    assert!(rounds.get(3).is_some_and(|it| it.contains("sh test.sh")), "{rounds:?}");
    assert!(patch_of(&finish).contains("+wrong"));
    let checkpoint = finish.checkpoint.expect("named");
    assert_eq!((checkpoint.attempt, checkpoint.turn), (Some(1), Some(1)));
    assert!(checkpoint.digest.is_some_and(|digest| digest.len() == 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_cannot_judge_is_an_error_and_never_failed() {
    let gates = [
        ("a command that is not there", "no-such-command-at-all --check"),
        ("a missing interpreter", "./tool"),
        ("a name that cannot be resolved", "echo 'Could not resolve host: crates.io'; exit 1"),
    ];
    for (what, gate) in gates {
        let bench = Bench::on(vec![mend(), submit("GO")], |folder| {
            let gate = format!("[gate]\ntest = {gate:?}\n");
            let remote = Remote::with(
                folder,
                "remote",
                &[
                    ("greet.sh", crate::support::repository::BROKEN),
                    ("tool", "#!/no/such/interpreter\n"),
                    (".foreman.toml", &gate),
                ],
            );
            let seed = folder.join("remote-seed");
            crate::support::repository::git(&seed, &["update-index", "--chmod=+x", "tool"]);
            crate::support::repository::git(&seed, &["commit", "-q", "-m", "make it run"]);
            crate::support::repository::git(&seed, &["push", "-q", "../remote.git", "main"]);
            remote
        })
        .await;
        let finish = bench.finish(bench.code()).await;
        let expected = outcome(Decision::Go, Verification::Error, Infrastructure::Ok, None);
        let wanted = (true, Verdict::Incomplete, Some(FailureReason::GateError), expected);
        assert_eq!(row(&finish), wanted, "{what}: {}", finish.message);
        assert_eq!(bench.remote.branches(), Vec::<String>::new(), "{what}");
        assert!(patch_of(&finish).contains("world"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_turns_used_is_incomplete_and_the_work_is_kept() {
    let mut bench = Bench::new(vec![mend(), read("greet.sh"), read("test.sh")]).await;
    bench.agent.max_turns = Some(3);
    let finish = bench.finish(bench.code()).await;
    let reason = Some(OutcomeReason::TurnLimit);
    let expected =
        outcome(Decision::Incomplete, Verification::NotVerified, Infrastructure::Ok, reason);
    let wanted = (true, Verdict::Incomplete, Some(FailureReason::MaxTurnsExhausted), expected);
    assert_eq!(row(&finish), wanted, "{}", finish.message);
    assert!(patch_of(&finish).contains("world"));
    assert!(finish.checkpoint.is_some());
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_in_circles_is_stuck() {
    let script = std::iter::repeat_with(|| read("greet.sh")).take(20).collect();
    let mut bench = Bench::new(script).await;
    bench.agent.stuck_loop_detection = Some(StuckLoopDetectionSpec {
        repeated_tool_threshold: Some(3),
        edit_free_turns_limit: Some(0),
        ..StuckLoopDetectionSpec::default()
    });
    let finish = bench.finish(bench.code()).await;
    let reason = Some(OutcomeReason::StuckLoop);
    let expected =
        outcome(Decision::Incomplete, Verification::NotVerified, Infrastructure::Ok, reason);
    let wanted = (true, Verdict::Incomplete, Some(FailureReason::ConstraintViolated), expected);
    assert_eq!(row(&finish), wanted, "{}", finish.message);
    assert!(bench.model.left() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_moved_by_somebody_else_refuses_the_push_and_the_work_is_kept() {
    let bench = Bench::new(vec![mend(), Act::Hang]).await;
    let task = bench.task("fix", bench.code()).await;
    let run = bench.start(&task.key(), "s1").await;
    bench.model.asked_times(2).await;
    let theirs = bench.remote.pushed_by_somebody_else("foreman/fix", "main");
    // The hanging call is dropped with its run; the next claim asks again.
    run.crash().await;
    bench.model.then(vec![submit("GO")]);
    let finish =
        crate::support::bench::finished(bench.start(&task.key(), "s2").await.ended().await);
    let expected = outcome(Decision::Go, Verification::Passed, Infrastructure::PushRefused, None);
    let reason = Some(FailureReason::InfrastructureError);
    assert_eq!(row(&finish), (false, Verdict::Incomplete, reason, expected), "{}", finish.message);
    assert!(finish.message.contains("somebody else moved it"), "{}", finish.message);
    assert_eq!(bench.remote.tip("foreman/fix"), theirs);
    assert!(patch_of(&finish).contains("world"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_be_used_ends_the_task_and_one_that_is_away_gives_it_back() {
    let html = "<html><body>It works!</body></html>".to_owned();
    let cases = [
        (
            "401",
            Act::Status(
                401,
                "application/json",
                json!({"error": {"message": "bad key"}}).to_string(),
            ),
        ),
        ("a web page", Act::Status(200, "text/html", html)),
        ("404", Act::Status(404, "text/plain", "not found".into())),
    ];
    for (what, act) in cases {
        let bench = Bench::new(vec![act]).await;
        let finish = bench.finish(bench.code()).await;
        assert_eq!(
            row(&finish),
            broken(Infrastructure::ModelUnavailable),
            "{what}: {}",
            finish.message
        );
        assert!(finish.message.contains("127.0.0.1"), "{what}: {}", finish.message);
    }
    // What may come back is tried again: whoever counts the tries decides.
    let mut bench = Bench::new(vec![]).await;
    let target = bench.endpoint.0.as_mut().expect("a target");
    target.base_url = BaseUrl::parse("http://127.0.0.1:9/v1").expect("a URL");
    let end = bench.end(bench.code()).await;
    let (kind, message) = given_back(&end);
    assert_eq!(kind, Infrastructure::ModelUnavailable, "{message}");
    bench.endpoint.0 = Err("no model server found; start one".into());
    let task = bench.task("fix-2", bench.code()).await;
    let end = bench.run(&task.key()).await;
    let (kind, message) = given_back(&end);
    assert_eq!(kind, Infrastructure::ModelUnavailable);
    assert!(message.contains("no model server found"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_must_not_leave_is_sent_to_no_cloud() {
    let mut bench = Bench::new(vec![]).await;
    bench.settings.policy.allow_cloud = false;
    let target = bench.endpoint.0.as_mut().expect("a target");
    // Nobody is asked there: the name does not even exist.
    target.base_url = BaseUrl::parse("https://models.example.com/v1").expect("a URL");
    let finish = bench.finish(bench.code()).await;
    assert_eq!(row(&finish), broken(Infrastructure::Error));
    let message = &finish.message;
    assert!(
        message.contains("policy forbids") && message.contains("models.example.com"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_that_the_server_cut_is_context_truncated() {
    // The server counts far fewer tokens than it was sent.
    let call = json!({"index": 0, "id": "c", "type": "function", "function": {"name": "read_file", "arguments": "{\"path\":\"big.txt\"}"}});
    let delta =
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]});
    let end = |tokens: u64| {
        event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))
            + &event(
                &json!({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 5}}),
            )
            + "data: [DONE]\n\n"
    };
    let first = event(&delta) + &end(5_000);
    let second = event(&delta) + &end(40);
    let bench = Bench::on(vec![Act::Raw(first), Act::Raw(second)], |folder| {
        let big = "a line that is long enough to count for something\n".repeat(800);
        Remote::with(folder, "remote", &[("big.txt", &big)])
    })
    .await;
    let finish = bench.finish(bench.code()).await;
    assert_eq!(row(&finish), broken(Infrastructure::ModelContextTruncated), "{}", finish.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_below_what_is_required_runs_nothing() {
    let mut bench = Bench::new(vec![mend(), submit("GO")]).await;
    bench.settings.sandbox_tier = Tier::Files;
    bench.settings.sandbox_required = Tier::Network;
    let end = bench.end(bench.code()).await;
    let (kind, message) = given_back(&end);
    assert_eq!(kind, Infrastructure::SandboxUnavailable);
    assert!(message.contains("tier files, network is required"), "{message}");
    assert_eq!(bench.model.asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedder_without_the_helper_gets_sandbox_unavailable() {
    let mut bench = Bench::new(vec![bash("true"), submit("GO")]).await;
    if bench.settings.sandbox_required == Tier::None {
        bench.settings.sandbox_required = Tier::Files;
        bench.settings.sandbox_tier = Tier::Files;
    }
    bench.settings.helper = None;
    let end = bench.end(bench.code()).await;
    let (kind, message) = given_back(&end);
    assert_eq!(kind, Infrastructure::SandboxUnavailable, "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_configured_wrongly_is_an_error_before_the_first_turn() {
    let bench = Bench::new(vec![mend(), submit("GO")]).await;
    let mut spec = bench.code();
    let commands = GateCommands { test: Some("a\0b".into()), ..GateCommands::default() };
    spec.gate_profile = Some(GateProfile { commands: Some(commands), ..GateProfile::default() });
    let finish = bench.finish(spec).await;
    let expected = outcome(Decision::None, Verification::Error, Infrastructure::Ok, None);
    let wanted = (true, Verdict::Incomplete, Some(FailureReason::GateError), expected);
    assert_eq!(row(&finish), wanted, "{}", finish.message);
    assert_eq!(bench.model.asked().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_job_may_be_done_without_a_change() {
    let bench = Bench::new(vec![read("greet.sh"), submit("GO")]).await;
    let finish = bench.finish(bench.spec(foreman_core::model::TaskKind::Freeform)).await;
    let expected = outcome(Decision::Go, Verification::NotApplicable, Infrastructure::Ok, None);
    assert_eq!(row(&finish), (true, Verdict::Go, None, expected), "{}", finish.message);
    assert_eq!(bench.remote.branches(), Vec::<String>::new());
}
