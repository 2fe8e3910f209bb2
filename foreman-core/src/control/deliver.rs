//! The end of a run: written until it is written, the fence is lost or the task is gone.

use super::run::RunContext;
use crate::bugs::{self, Bug};
use crate::model::agentic_task::{AgenticTask, AttemptEnd, Usage, WaitingReason};
use crate::model::ids::{Fence, Key};
use crate::model::object::{Kind, Object};
use crate::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, Verdict, Verification,
};
use crate::model::shared::FreeObject;
use crate::ports::executor::{Finish, ReleaseWhy, RunEnd};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Expect, StoreError};
use crate::task::writes::Release;
use crate::task::{budget, claim, intake, writes};
use crate::timing::{CONFLICTS_AT_ONCE_MAX, STORE_RETRY_MAX, STORE_RETRY_MIN};

/// Writes how the run ended.
pub(super) async fn deliver(context: &RunContext, key: &Key, fence: &Fence, end: RunEnd) {
    let drained = matches!(&end, RunEnd::Released { why: ReleaseWhy::Drained, .. });
    if drained && bugs::on(Bug::DrainDropsRuns) {
        return;
    }
    let mut pause = STORE_RETRY_MIN;
    let mut cut = false;
    let mut conflicts = 0_usize;
    loop {
        match deliver_once(context, key, fence, &end, cut).await {
            Ok(()) => return,
            // Somebody else wrote beside us, or nobody knows: the task is read again at once, and the
            // fence with it.
            Err(StoreError::Conflict | StoreError::Uncertain { .. })
                if conflicts < CONFLICTS_AT_ONCE_MAX =>
            {
                conflicts += 1;
                continue;
            }
            Err(error @ (StoreError::Invalid { .. } | StoreError::TooLarge { .. })) if !cut => {
                tracing::warn!(task = %key, %error, "the result was refused, ending without it");
                cut = true;
                continue;
            }
            Err(error) => {
                tracing::warn!(task = %key, %error, "the end could not be written, trying again");
            }
        }
        context.clock.sleep(pause).await;
        pause = (pause * 2).min(STORE_RETRY_MAX);
    }
}

async fn deliver_once(
    context: &RunContext,
    key: &Key,
    fence: &Fence,
    end: &RunEnd,
    cut: bool,
) -> Result<(), StoreError> {
    let Some(task) = context.stores.tasks.get(key).await? else {
        return Ok(());
    };
    if let Err(lost) = claim::holds(&task, fence)
        && !bugs::on(Bug::NoFenceAtTheEnd)
    {
        tracing::info!(task = %key, %lost, "nothing is written");
        return Ok(());
    }
    let now = context.clock.wall();
    let change = match end {
        // The fence holds: nobody else will run it, so it must not stay with this session.
        RunEnd::Lost => {
            let mut release = released(&task, &given_up());
            release.usage = budget::unknown_usage(&task.status);
            writes::release(&task, &release, now)
        }
        RunEnd::Finished(finish) => writes::finish(&task, finish, cut, now),
        RunEnd::Released { checkpoint, usage, why } => {
            let mut release = released(&task, why);
            release.usage = Some(usage.clone());
            release.checkpoint = checkpoint.clone().filter(|_| !cut);
            match why {
                ReleaseWhy::Infrastructure { outcome, .. } => {
                    writes::release_broken(&task, &release, *outcome, now)
                }
                ReleaseWhy::Suspended
                | ReleaseWhy::Drained
                | ReleaseWhy::BudgetExhausted { .. } => writes::release(&task, &release, now),
            }
        }
    };
    let change = match change {
        Ok(change) => change,
        Err(error) => {
            tracing::error!(task = %key, %error, "nothing is written");
            return Ok(());
        }
    };
    let expect = Expect::At(task.revision().clone());
    let written = context.stores.tasks.patch(key, change, expect).await?;
    match end {
        RunEnd::Finished(finish) => context.recorder.record(ended_event(&written, finish)),
        RunEnd::Released { why, .. } => context.recorder.record(released_event(&written, why)),
        RunEnd::Lost => context.recorder.record(released_event(&written, &given_up())),
    }
    Ok(())
}

fn released_event(task: &Object<AgenticTask>, why: &ReleaseWhy) -> Event {
    let severity = match why {
        ReleaseWhy::Infrastructure { .. } => EventKind::Warning,
        ReleaseWhy::Suspended | ReleaseWhy::Drained | ReleaseWhy::BudgetExhausted { .. } => {
            EventKind::Normal
        }
    };
    let Release { reason, message, .. } = released(task, why);
    Event {
        kind: AgenticTask::NAMES.kind,
        key: task.key(),
        severity,
        reason: "AttemptReleased",
        message: format!("{reason}: {message}"),
    }
}

fn ended_event(task: &Object<AgenticTask>, finish: &Finish) -> Event {
    Event {
        kind: AgenticTask::NAMES.kind,
        key: task.key(),
        severity: if finish.succeeded { EventKind::Normal } else { EventKind::Warning },
        reason: "AttemptEnded",
        message: format!("{}: {}", finish.verdict, finish.message),
    }
}

fn released(task: &Object<AgenticTask>, why: &ReleaseWhy) -> Release {
    let (ended, reason, message, waiting) = match why {
        ReleaseWhy::Suspended => (
            AttemptEnd::Suspended,
            "Suspended",
            intake::suspended(&task.meta.name),
            Some(WaitingReason::Suspended),
        ),
        ReleaseWhy::Drained => {
            (AttemptEnd::Drained, "Drained", "its node is leaving".to_owned(), None)
        }
        ReleaseWhy::BudgetExhausted { message } => (
            AttemptEnd::BudgetExhausted,
            "BudgetExhausted",
            message.clone(),
            Some(WaitingReason::BudgetExhausted),
        ),
        ReleaseWhy::Infrastructure { outcome, message } => {
            let message = format!("{}: {message}", outcome.infrastructure);
            (AttemptEnd::Infrastructure, "InfrastructureError", message, None)
        }
    };
    Release { ended, reason, message, waiting, usage: None, checkpoint: None, known: None }
}

/// Why a claim is given back that its executor took for lost.
fn given_up() -> ReleaseWhy {
    let message = "the executor left a claim that still holds";
    ReleaseWhy::infrastructure(Infrastructure::Error, message)
}

/// The end of a run that broke down: a try that the infrastructure ended, like any other. Nobody says what
/// it spent, so all that was reserved for it counts.
pub(super) fn broke_down(message: &str, task: &Object<AgenticTask>) -> RunEnd {
    let why = ReleaseWhy::infrastructure(Infrastructure::Error, message);
    let usage = budget::unknown_usage(&task.status).unwrap_or_default();
    RunEnd::Released { checkpoint: None, usage, why }
}

/// An end that is nobody's work.
pub(super) fn failed(reason: FailureReason, message: String) -> RunEnd {
    RunEnd::Finished(Box::new(Finish {
        succeeded: false,
        verdict: Verdict::Incomplete,
        failure_reason: Some(reason),
        outcome: Outcome {
            decision: Decision::None,
            verification: Verification::NotVerified,
            infrastructure: Infrastructure::Error,
            reason: None,
        },
        result: FreeObject::default(),
        branch: None,
        commit_sha: None,
        usage: Usage::default(),
        checkpoint: None,
        message,
    }))
}
