//! One run on a node: claim, supervise, deliver.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use tokio::sync::watch;

use super::agent::Shutdown;
use super::plan_tasks::REFUSED_REASON;
use crate::fleet::registrar::Registrar;
use crate::model::agent::Agent;
use crate::model::agentic_task::{
    AgenticTask, AttemptEnd, TaskPhase, Usage, WaitingReason,
};
use crate::model::fleet_node::RunSummary;
use crate::model::ids::{Fence, Key};
use crate::model::meta::Extra;
use crate::model::object::Object;
use crate::model::outcome::{
    Decision, FailureReason, Infrastructure, Outcome, Verdict, Verification,
};
use crate::model::shared::{FreeObject, LocalObjectReference};
use crate::model::time::WallTime;
use crate::ports::clock::Clock;
use crate::ports::executor::{Executor, Finish, Job, Progress, ReleaseWhy, RunEnd, Stop};
use crate::ports::recorder::Recorder;
use crate::ports::store::{Expect, StoreError, Stores};
use crate::task::authority::Authority;
use crate::task::writes::Release;
use crate::task::{claim, timeout, writes};
use crate::timing::{STORE_RETRY_MAX, STORE_RETRY_MIN};

/// What all runs of a node share.
pub(super) struct RunContext {
    pub(super) stores: Stores,
    pub(super) registrar: Arc<Registrar>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) drain_deadline: Duration,
}

/// One task that is placed here.
pub(super) struct Run {
    pub(super) context: Arc<RunContext>,
    pub(super) task: Object<AgenticTask>,
    /// The task as the watch last showed it; `None` = it left this node or was deleted.
    pub(super) seen: watch::Receiver<Option<Arc<Object<AgenticTask>>>>,
    pub(super) shutdown: watch::Receiver<Shutdown>,
}

impl Run {
    /// Gives the placement back unclaimed; true = it must be tried again.
    pub(super) async fn refuse(self, why: &str) -> bool {
        let release = Release {
            ended: AttemptEnd::Refused,
            reason: REFUSED_REASON,
            message: format!("refused by {}: {why}", self.context.registrar.identity().name),
            waiting: Some(WaitingReason::NodesBusy),
            usage: None,
            checkpoint: None,
        };
        self.give_back(&release).await
    }

    /// Claims the task and runs it to its end. A claim that somebody else was faster with is left.
    /// True = the store was away, so it must be tried again.
    pub(super) async fn run(mut self) -> bool {
        let key = self.task.key();
        let adopting = self.task.status.known_phase() != Some(TaskPhase::Scheduled);
        let known = self.context.executor.highest_attempt(&self.task.meta.uid).await;
        if adopting && known == 0 {
            return self.hand_back().await;
        }
        let (task, fence) = match self.claim(known).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::info!(task = %key, %error, "the task was not claimed");
                return self.again_after(&error).await;
            }
        };
        tracing::info!(task = %key, attempt = fence.attempt, adopting, "claimed");
        let end = match self.agent_object(&task).await {
            Ok(agent) => {
                let job = Job { task: task.clone(), agent, fence: fence.clone() };
                self.supervise(job).await
            }
            Err(end) => *end,
        };
        self.context.registrar.set_state(|state| {
            state.runs.retain(|run| run.uid.as_deref() != Some(fence.uid.as_str()));
        });
        self.deliver(&key, &fence, end).await;
        false
    }

    /// Whether a write may be tried again, after a pause.
    async fn again_after(&self, error: &StoreError) -> bool {
        let away = matches!(error, StoreError::Unavailable { .. } | StoreError::Uncertain { .. });
        if away {
            self.context.clock.sleep(STORE_RETRY_MIN).await;
        }
        away
    }

    /// A task that ran here in an earlier life and left nothing behind goes back.
    async fn hand_back(&self) -> bool {
        let release = Release {
            ended: AttemptEnd::HandedBack,
            reason: "AgentRestartRecovery",
            message: "the agent restarted and holds no journal of this run".to_owned(),
            waiting: None,
            usage: None,
            checkpoint: None,
        };
        self.give_back(&release).await
    }

    /// Writes a release of a task that this life never claimed; whoever was faster is left alone.
    async fn give_back(&self, release: &Release) -> bool {
        let key = self.task.key();
        let change = match writes::release(&self.task, release, self.context.clock.wall()) {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(task = %key, %error, "nothing is written");
                return false;
            }
        };
        let expect = Expect::At(self.task.revision().clone());
        match self.context.stores.tasks.patch(&key, change, expect).await {
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(task = %key, %error, "the task was not handed back");
                self.again_after(&error).await
            }
        }
    }

    async fn claim(&self, known: i64) -> Result<(Object<AgenticTask>, Fence), StoreError> {
        let registrar = &self.context.registrar;
        let status = &self.task.status;
        let attempt = status.attempt.unwrap_or(0).max(known) + 1;
        let last = status.attempts.iter().filter_map(|attempt| attempt.started_at).max();
        let earliest = last.map_or(WallTime::from_unix_seconds(0), |last| {
            last.plus(Duration::from_secs(1))
        });
        let now = self.context.clock.wall().max(earliest);
        let (session, node) = (registrar.session(), &registrar.identity().name);
        let change = writes::claim(&self.task, attempt, session, node, now)
            .map_err(|error| StoreError::Denied { reason: error.to_string() })?;
        let expect = Expect::At(self.task.revision().clone());
        let tasks = &self.context.stores.tasks;
        let claimed = match tasks.patch(&self.task.key(), change, expect).await {
            Err(StoreError::Uncertain { reason }) => {
                let found = tasks.get(&self.task.key()).await?.ok_or(StoreError::NotFound)?;
                let mine = found.status.session.as_deref() == Some(session.as_str())
                    && found.status.attempt == Some(attempt);
                if !mine {
                    return Err(StoreError::Uncertain { reason });
                }
                found
            }
            answer => answer?,
        };
        let fence = Fence {
            uid: claimed.meta.uid.clone(),
            attempt,
            session: session.clone(),
            node: node.clone(),
            claimed_at: claimed.status.claimed_at.unwrap_or(now),
        };
        Ok((claimed, fence))
    }

    async fn agent_object(
        &self,
        task: &Object<AgenticTask>,
    ) -> Result<Option<Object<Agent>>, Box<RunEnd>> {
        let Some(name) = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named) else {
            return Ok(None);
        };
        let key = Key { namespace: task.meta.namespace.clone(), name: name.to_owned() };
        match self.context.stores.agents.get(&key).await {
            Ok(Some(agent)) => Ok(Some(agent)),
            Ok(None) => Err(Box::new(failed(
                Some(FailureReason::AgentNotFound),
                format!("Agent {name} is gone"),
            ))),
            Err(error) => Err(Box::new(failed(
                Some(FailureReason::InfrastructureError),
                format!("Agent {name} could not be read: {error}"),
            ))),
        }
    }

    /// Runs the job and tells it what happens around it.
    async fn supervise(&mut self, job: Job) -> RunEnd {
        let context = self.context.clone();
        let (stop, stopped) = watch::channel(Stop::Continue);
        let (progress, mut moved) = watch::channel(Progress::default());
        let authority = Arc::new(Authority::new(
            context.stores.tasks.clone(),
            context.clock.clone(),
            context.registrar.last_beat(),
            job.task.key(),
            job.fence.clone(),
        ));
        let (task, fence) = (job.task.clone(), job.fence.clone());
        show_progress(&context.registrar, &task, &fence, &Progress::default());
        if let Some(asked) = asked_for(&task) {
            stop_for(&stop, asked);
        }
        let run = context.executor.run(job, authority, progress, stopped);
        let mut run = Box::pin(AssertUnwindSafe(run).catch_unwind().fuse());
        let mut time_left = timeout::left(&task, context.clock.wall());
        let mut shutdown = self.shutdown.clone();
        let mut watching = true;
        loop {
            let clock = context.clock.clone();
            let limit = async move {
                match time_left {
                    Some(left) => clock.sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            let seen_changed = async {
                if !watching || self.seen.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let moved_changed = async {
                if moved.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let told = async {
                // An error means that nobody is left who could say anything: hand over.
                let _ = shutdown.wait_for(|told| *told == Shutdown::Drain).await;
            };
            let draining = matches!(*stop.borrow(), Stop::Drain { .. });
            let told = async move {
                if draining { std::future::pending().await } else { told.await }
            };
            futures::select_biased! {
                end = run => return end.unwrap_or_else(|_| {
                    failed(Some(FailureReason::InfrastructureError), "the run panicked".to_owned())
                }),
                () = told.fuse() => {
                    let by = context.clock.boot() + context.drain_deadline;
                    stop_for(&stop, Stop::Drain { by });
                }
                () = seen_changed.fuse() => {
                    let view = self.seen.borrow_and_update().clone();
                    match self.verdict_on(view.as_deref(), &fence).await {
                        Some(Stop::Lost) => {
                            watching = false;
                            stop_for(&stop, Stop::Lost);
                        }
                        Some(other) => stop_for(&stop, other),
                        None => {}
                    }
                }
                () = moved_changed.fuse() => {
                    let progress = moved.borrow_and_update().clone();
                    show_progress(&context.registrar, &task, &fence, &progress);
                }
                () = limit.fuse() => {
                    time_left = None;
                    stop_for(&stop, Stop::TimedOut);
                }
            }
        }
    }

    /// What a new sight of the task means for its run. A fence that seems lost is read afresh: the
    /// watch may show an older version.
    async fn verdict_on(
        &self,
        view: Option<&Object<AgenticTask>>,
        fence: &Fence,
    ) -> Option<Stop> {
        let fresh;
        let task = match view {
            Some(task) if claim::holds(task, fence).is_ok() => task,
            _ => match self.context.stores.tasks.get(&self.task.key()).await {
                Ok(Some(task)) if claim::holds(&task, fence).is_ok() => {
                    fresh = task;
                    &fresh
                }
                Ok(_) => return Some(Stop::Lost),
                Err(error) => {
                    tracing::warn!(task = %self.task.key(), %error, "the claim could not be checked");
                    return None;
                }
            },
        };
        asked_for(task)
    }

    /// Writes how the run ended: tried until it is written, the fence is lost or the task is gone.
    async fn deliver(&self, key: &Key, fence: &Fence, end: RunEnd) {
        let mut pause = STORE_RETRY_MIN;
        let mut cut = false;
        loop {
            match self.deliver_once(key, fence, &end, cut).await {
                Ok(()) => return,
                Err(StoreError::Conflict) => continue,
                Err(
                    error @ (StoreError::Invalid { .. } | StoreError::TooLarge { .. }),
                ) if !cut => {
                    tracing::warn!(task = %key, %error, "the result was refused, ending without it");
                    cut = true;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(task = %key, %error, "the end could not be written, trying again");
                }
            }
            self.context.clock.sleep(pause).await;
            pause = (pause * 2).min(STORE_RETRY_MAX);
        }
    }

    async fn deliver_once(
        &self,
        key: &Key,
        fence: &Fence,
        end: &RunEnd,
        cut: bool,
    ) -> Result<(), StoreError> {
        let Some(task) = self.context.stores.tasks.get(key).await? else { return Ok(()) };
        if let Err(lost) = claim::holds(&task, fence) {
            tracing::info!(task = %key, %lost, "nothing is written");
            return Ok(());
        }
        let now = self.context.clock.wall();
        let change = match end {
            RunEnd::Lost => return Ok(()),
            RunEnd::Finished(finish) => writes::finish(&task, finish, cut, now),
            RunEnd::Released { checkpoint, usage, why } => {
                let mut release = released(why);
                release.usage = Some(usage.clone());
                release.checkpoint.clone_from(checkpoint);
                writes::release(&task, &release, now)
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
        let written = self.context.stores.tasks.patch(key, change, expect).await?;
        if let RunEnd::Finished(finish) = end {
            self.context.recorder.record(ended_event(&written, finish));
        }
        Ok(())
    }
}

fn ended_event(task: &Object<AgenticTask>, finish: &Finish) -> crate::ports::recorder::Event {
    use crate::model::object::Kind as _;
    use crate::ports::recorder::{Event, EventKind};
    Event {
        kind: AgenticTask::NAMES.kind,
        key: task.key(),
        severity: if finish.succeeded { EventKind::Normal } else { EventKind::Warning },
        reason: "AttemptEnded",
        message: format!("{}: {}", finish.verdict, finish.message),
    }
}

/// What a task's spec asks of its run.
fn asked_for(task: &Object<AgenticTask>) -> Option<Stop> {
    if task.spec.cancel == Some(true) {
        return Some(Stop::Cancel);
    }
    (task.spec.suspend == Some(true)).then_some(Stop::Suspend)
}

/// A stop that is stronger than the present one replaces it; `Lost` is final.
fn stop_for(stop: &watch::Sender<Stop>, next: Stop) {
    let strength = |stop: Stop| match stop {
        Stop::Continue => 0,
        Stop::Suspend => 1,
        Stop::Drain { .. } => 2,
        Stop::TimedOut => 3,
        Stop::Cancel => 4,
        Stop::Lost => 5,
    };
    stop.send_if_modified(|now| {
        let stronger = strength(next) > strength(*now);
        if stronger {
            *now = next;
        }
        stronger
    });
}

fn show_progress(
    registrar: &Registrar,
    task: &Object<AgenticTask>,
    fence: &Fence,
    progress: &Progress,
) {
    let summary = RunSummary {
        task: task.key().to_string(),
        uid: Some(fence.uid.to_string()),
        attempt: Some(fence.attempt),
        stage: progress.stage.map(Into::into),
        turn: Some(progress.turn),
        tokens: Some(progress.tokens),
        archived_turn: None,
        last_progress_time: progress.last_progress,
        extra: Extra::new(),
    };
    registrar.set_state(|state| {
        match state.runs.iter_mut().find(|run| run.uid == summary.uid) {
            Some(run) => *run = summary,
            None => state.runs.push(summary),
        }
    });
}

fn released(why: &ReleaseWhy) -> Release {
    let (ended, reason, message, waiting) = match why {
        ReleaseWhy::Suspended => (
            AttemptEnd::Suspended,
            "Suspended",
            "suspended: set spec.suspend to false to go on".to_owned(),
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
        ReleaseWhy::Infrastructure { kind, message } => (
            AttemptEnd::Infrastructure,
            "InfrastructureError",
            format!("{kind}: {message}"),
            None,
        ),
    };
    Release { ended, reason, message, waiting, usage: None, checkpoint: None }
}

/// An end that is nobody's work.
fn failed(reason: Option<FailureReason>, message: String) -> RunEnd {
    RunEnd::Finished(Box::new(Finish {
        succeeded: false,
        verdict: Verdict::Incomplete,
        failure_reason: reason,
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
