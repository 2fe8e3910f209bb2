//! Claims that are given back: how often they are tried again, and when not.

use std::time::Duration;

use foreman_core::model::agentic_task::{RetrySpec, Usage, WaitingReason};
use foreman_core::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, Verification,
};
use foreman_core::model::shared::Budget;
use foreman_core::model::{TaskPhase, Verdict};
use foreman_core::ports::RunEnd;
use foreman_core::ports::executor::ReleaseWhy;
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};

use crate::lab::{Lab, freeform, in_time, settle};

#[tokio::test]
async fn a_run_that_the_infrastructure_ends_each_time_is_tried_three_times_and_no_more() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|_| {
        let outcome = Outcome {
            decision: Decision::Go,
            verification: Verification::Passed,
            infrastructure: Infrastructure::GitUnavailable,
            reason: None,
        };
        let why = ReleaseWhy::Infrastructure { outcome, message: "no route to the remote".into() };
        let end = RunEnd::Released { checkpoint: None, usage: Usage::default(), why };
        Box::pin(async move { end })
    });
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        // The clock moves: there are pauses between the tries.
        lab.advance_until(Duration::from_secs(5), || async {
            lab.phase("t").await == Some(TaskPhase::Failed)
        })
        .await;
    })
    .await;
    assert_eq!(executor.ran().len(), 3);
    let status = lab.task_now("t").await.status;
    assert!(status.verdict.as_ref().is_some_and(|verdict| verdict.is(Verdict::Incomplete)));
    assert!(
        status.failure_reason.as_ref().is_some_and(|it| it.is(FailureReason::InfrastructureError))
    );
    let Outcome { decision, verification, infrastructure, .. } = Outcome::of(&status);
    assert_eq!(
        (decision, verification, infrastructure),
        (Decision::Go, Verification::Passed, Infrastructure::GitUnavailable),
        "what the last try came to is kept"
    );
}

#[tokio::test]
async fn what_a_broken_try_came_to_says_nothing_of_the_tries_after_it() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        let first = run.job.fence.attempt == 1;
        let why = ReleaseWhy::infrastructure(Infrastructure::ModelUnavailable, "no answer");
        Box::pin(async move {
            if first {
                return RunEnd::Released { checkpoint: None, usage: Usage::default(), why };
            }
            std::future::pending().await
        })
    });
    let foreman = lab.one_node(1, &executor);
    let mut spec = freeform(None);
    spec.retry = Some(RetrySpec { max_attempts: Some(2), backoff_seconds: Some(60) });
    lab.task("t", spec).await;
    let outcome = || async { lab.task_now("t").await.status.outcome };
    let run = foreman.run(lab.shutdown.subscribe());
    let story = async {
        lab.advance_until(Duration::from_secs(5), || async {
            lab.task_now("t").await.status.attempt == Some(2)
        })
        .await;
        assert_eq!(outcome().await, None, "the second try has come to nothing yet");
    };
    tokio::select! {
        _ = run => panic!("nobody told it to stop"),
        () = in_time(story) => {}
    }
}

#[tokio::test]
async fn a_run_that_pauses_before_its_budget_is_spent_is_not_placed_again_until_it_is_raised() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        let rich = run.job.task.spec.budget.as_ref().is_none_or(|b| b.tokens > Some(100));
        let why = ReleaseWhy::BudgetExhausted { message: "90 used, 20 needed, 100 allowed".into() };
        let usage = Usage { prompt_tokens: Some(90), ..Usage::default() };
        let end = RunEnd::Released { checkpoint: None, usage, why };
        let end = if rich { on_target(&run.job) } else { end };
        Box::pin(async move { end })
    });
    let foreman = lab.one_node(1, &executor);
    let mut spec = freeform(None);
    spec.budget = Some(Budget { tokens: Some(100), ..Budget::default() });
    lab.task("t", spec).await;
    lab.run(&foreman, async {
        lab.until(|| async { lab.task_now("t").await.status.usage.is_some() }).await;
        settle().await;
        let before = lab.store.revision();
        settle().await;
        assert_eq!(lab.store.revision(), before, "nothing is written while nothing changes");
        let waiting = lab.task_now("t").await.status.waiting.expect("said");
        assert!(waiting.reason.is_some_and(|r| r.is(WaitingReason::BudgetExhausted)));
        assert_eq!(executor.ran().len(), 1);
        lab.set_spec("t", "budget", Budget { tokens: Some(200), ..Budget::default() }).await;
        lab.until_phase("t", TaskPhase::Succeeded).await;
    })
    .await;
    assert_eq!(executor.ran().len(), 2);
}

#[tokio::test]
async fn a_claim_that_its_executor_takes_for_lost_is_given_back() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|_| Box::pin(async { RunEnd::Lost }));
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.run(&foreman, async {
        // The clock moves: there are pauses between the tries.
        lab.advance_until(Duration::from_secs(5), || async {
            lab.phase("t").await == Some(TaskPhase::Failed)
        })
        .await;
    })
    .await;
    assert_eq!(executor.ran().len(), 3);
}

#[tokio::test]
async fn the_highest_attempt_that_can_be_written_does_not_end_the_agent() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::on_target();
    let foreman = lab.one_node(1, &executor);
    lab.task("t", freeform(None)).await;
    lab.set_status("t", |status| status.attempt = Some(i64::MAX)).await;
    lab.run(&foreman, async { lab.until_phase("t", TaskPhase::Succeeded).await }).await;
}
