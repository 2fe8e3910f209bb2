//! A Workload's budget whose equal shares are too small for a single model call.

use std::sync::Arc;
use std::time::Duration;

use foreman_core::model::agentic_task::{Usage, WaitingReason};
use foreman_core::model::object::Object;
use foreman_core::model::shared::Budget;
use foreman_core::model::workload::WorkloadPhase;
use foreman_core::model::{AgenticTask, TaskKind, TaskPhase, WorkloadSpec};
use foreman_core::ports::RunEnd;
use foreman_core::ports::executor::ReleaseWhy;
use foreman_core::testkit::scripted::{ScriptedExecutor, on_target};

use crate::lab::{Lab, add_workload, pipeline, settle, step};

/// What the one model call of each run takes.
const CALL: i64 = 40;

fn tokens(task: &Object<AgenticTask>) -> i64 {
    task.status.usage.as_ref().and_then(|usage| usage.prompt_tokens).unwrap_or(0)
}

/// Makes one model call if the allowance is enough for it.
fn one_call() -> Arc<ScriptedExecutor> {
    ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let allowance = run.job.task.status.allowance.expect("a share of the Workload's");
            if allowance < CALL {
                let message = format!("the next model call may need {CALL} of {allowance} tokens");
                let why = ReleaseWhy::BudgetExhausted { message };
                return RunEnd::Released { checkpoint: None, usage: Usage::default(), why };
            }
            let mut end = on_target(&run.job);
            if let RunEnd::Finished(finish) = &mut end {
                finish.usage.prompt_tokens = Some(CALL);
            }
            end
        })
    })
}

fn limited(spec: WorkloadSpec, tokens: i64) -> WorkloadSpec {
    WorkloadSpec { budget: Some(Budget { tokens: Some(tokens), ..Budget::default() }), ..spec }
}

fn side_by_side() -> WorkloadSpec {
    let names = ["a", "b", "c"];
    let steps = names.into_iter().map(|name| step(name, TaskKind::Freeform, &[]));
    WorkloadSpec { pipeline: steps.collect(), ..pipeline() }
}

async fn ended(lab: &Lab) -> usize {
    let tasks = lab.tasks().await;
    tasks.iter().filter(|it| it.status.known_phase() == Some(TaskPhase::Succeeded)).count()
}

/// What is used and reserved together is within the limit.
async fn within(lab: &Lab, limit: i64) {
    let tasks = lab.tasks().await;
    let all = tasks.iter().map(|task| tokens(task) + task.status.allowance.unwrap_or(0));
    let all: i64 = all.sum();
    assert!(all <= limit, "{all} of {limit}");
}

/// Each share is a third of 100, and a call takes 40: two of the three can be done, one after the
/// other, and the third says what is missing.
#[tokio::test]
async fn a_share_too_small_for_one_call_makes_the_steps_go_on_one_after_the_other() {
    for spec in [pipeline(), side_by_side()] {
        let lab = Lab::new();
        let executor = one_call();
        let foreman = lab.one_node(3, &executor);
        add_workload(&lab, "w", limited(spec, 100)).await;
        lab.run(&foreman, async {
            lab.advance_until(Duration::from_secs(1), || async {
                within(&lab, 100).await;
                ended(&lab).await == 2
            })
            .await;
            for _ in 0..20 {
                lab.clock.advance(Duration::from_secs(30));
                settle().await;
                within(&lab, 100).await;
            }
            let (tasks, tried) = (lab.tasks().await, executor.ran().len());
            let last = tasks.iter().find(|it| it.status.verdict.is_none()).expect("the third");
            let waiting = last.status.waiting.as_ref().expect("said");
            assert!(waiting.reason.as_ref().is_some_and(|r| r.is(WaitingReason::BudgetExhausted)));
            let said = waiting.message.as_deref();
            assert_eq!(
                said,
                Some(
                    "80 of 100 tokens of the Workload are spent, 20 are left, too few for the next \
                     model call: raise spec.budget.tokens of Workload w to go on"
                )
            );
            for _ in 0..20 {
                lab.clock.advance(Duration::from_secs(30));
                settle().await;
            }
            assert_eq!(executor.ran().len(), tried, "it is not tried again for nothing");
            let more = Budget { tokens: Some(3 * CALL), ..Budget::default() };
            lab.set_workload("w", "budget", more).await;
            lab.advance_until(Duration::from_secs(1), || async {
                within(&lab, 3 * CALL).await;
                let phase = lab.workload_now("w").await.status.phase;
                phase.is_some_and(|phase| phase.is(WorkloadPhase::Completed))
            })
            .await;
        })
        .await;
    }
}

/// A run that got all there was, spent most of it and paused goes on when the limit is raised by less
/// than it got before.
#[tokio::test]
async fn a_limit_that_is_raised_by_a_little_lets_the_run_go_on() {
    let lab = Lab::new();
    let executor = ScriptedExecutor::new(|run| {
        Box::pin(async move {
            let status = &run.job.task.status;
            let allowance = status.allowance.expect("a share");
            if status.usage.is_some() && allowance >= 30 {
                return on_target(&run.job);
            }
            let message = format!("30 are needed of {allowance}");
            let usage = Usage { prompt_tokens: Some(allowance - 10), ..Usage::default() };
            let why = ReleaseWhy::BudgetExhausted { message };
            RunEnd::Released { checkpoint: None, usage, why }
        })
    });
    let foreman = lab.one_node(1, &executor);
    let one = WorkloadSpec { pipeline: vec![step("a", TaskKind::Freeform, &[])], ..pipeline() };
    add_workload(&lab, "w", limited(one, 100)).await;
    lab.run(&foreman, async {
        lab.advance_until(Duration::from_secs(1), || async {
            lab.tasks().await.iter().any(|task| tokens(task) == 90)
        })
        .await;
        settle().await;
        assert_eq!(executor.ran().len(), 1);
        let more = Budget { tokens: Some(120), ..Budget::default() };
        lab.set_workload("w", "budget", more).await;
        lab.advance_until(Duration::from_secs(1), || async { ended(&lab).await == 1 }).await;
    })
    .await;
}

/// Nobody says what a run spent that panicked, or that took its claim for lost: all that was reserved for
/// it counts, so that the others cannot spend it a second time.
#[tokio::test]
async fn a_run_that_cannot_say_what_it_spent_is_charged_all_that_was_reserved_for_it() {
    for panics in [true, false] {
        let lab = Lab::new();
        let executor = ScriptedExecutor::new(move |_| {
            Box::pin(async move {
                assert!(!panics, "scripted panic");
                RunEnd::Lost
            })
        });
        let foreman = lab.one_node(1, &executor);
        let one = WorkloadSpec { pipeline: vec![step("a", TaskKind::Freeform, &[])], ..pipeline() };
        add_workload(&lab, "w", limited(one, 100)).await;
        lab.run(&foreman, async {
            lab.advance_until(Duration::from_secs(1), || async {
                lab.tasks().await.iter().any(|task| tokens(task) == 100)
            })
            .await;
            settle().await;
            let tasks = lab.tasks().await;
            let task = tasks.first().expect("one step");
            let usage = task.status.usage.clone().unwrap_or_default();
            assert_eq!(usage.estimated, Some(true), "panics: {panics}");
            assert_eq!(task.status.allowance, None);
            assert_eq!(executor.ran().len(), 1, "nothing is left for a second try");
        })
        .await;
    }
}
