//! A run under way: told to stop when it must, shown in the heartbeat, caught when it panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Fuse, FutureExt};
use tokio::sync::watch;

use super::deliver::broke_down;
use super::run::{RunContext, Sight};
use crate::fleet::registrar::Registrar;
use crate::model::agentic_task::AgenticTask;
use crate::model::fleet_node::RunSummary;
use crate::model::ids::Fence;
use crate::model::meta::Extra;
use crate::model::object::Object;
use crate::ports::clock::Clock;
use crate::ports::executor::{Job, Progress, RunEnd, Stop};
use crate::ports::store::StoreError;
use crate::task::authority::Authority;
use crate::task::{claim, timeout};
use crate::timing::{CLAIM_CHECK_RETRY, PROGRESS_SHOW_MIN, TIMEOUT_CHECK_MIN};

/// Runs the job and tells it what happens around it.
pub(super) async fn supervise(
    context: &Arc<RunContext>,
    job: Job,
    mut seen: Sight,
    mut hand_over: watch::Receiver<bool>,
) -> RunEnd {
    let (stop, stopped) = watch::channel(Stop::Continue);
    let (progress, mut moved) = watch::channel(Progress::default());
    let authority = Arc::new(Authority::new(
        context.stores.tasks.clone(),
        context.clock.clone(),
        context.registrar.last_beat(),
        job.task.key(),
        job.fence.clone(),
    ));
    let mut watched = Watched {
        context: context.clone(),
        task: job.task.clone(),
        fence: job.fence.clone(),
        stop,
        lost: false,
    };
    watched.obey();
    let run = async { context.executor.run(job, authority, progress, stopped).await };
    let mut run = Box::pin(AssertUnwindSafe(run).catch_unwind().fuse());
    let mut woke = context.registrar.woke();
    let mut draining = false;
    let mut check_again = false;
    let mut next_show = context.clock.awake();
    // A store that does not answer must not keep the run from going on.
    let mut reading: Fuse<Reading> = Fuse::terminated();
    loop {
        let limit = wait_for(&*context.clock, watched.time_left());
        let again = check_again.then_some(CLAIM_CHECK_RETRY);
        let again = wait_or(&*context.clock, again, &mut woke);
        let told = told_to(&mut hand_over, draining);
        // Not more often: a run that reports without a pause must not keep the rest from being heard.
        let progressed = async {
            context.clock.sleep_until(next_show).await;
            changed(&mut moved).await;
        };
        futures::select_biased! {
            end = run => return end.unwrap_or_else(|_| broke_down("the run panicked", &watched.task)),
            () = told.fuse() => {
                draining = true;
                let by = context.clock.boot() + context.drain_deadline;
                watched.stop_for(Stop::Drain { by });
            }
            () = changed(&mut seen).fuse() => {
                let sight = seen.borrow_and_update().clone();
                if !watched.look(sight.as_deref()) {
                    check_again = false;
                    reading = watched.read().fuse();
                }
            }
            answer = reading => check_again = !watched.judge(answer),
            // Not asked yet, or the machine slept: others may have taken the task meanwhile.
            () = again.fuse() => {
                check_again = false;
                reading = watched.read().fuse();
            }
            () = limit.fuse() => watched.time_is_up(),
            () = progressed.fuse() => {
                next_show = context.clock.awake() + PROGRESS_SHOW_MIN;
                let progress = moved.borrow_and_update().clone();
                show_progress(&context.registrar, &watched.task, &watched.fence, &progress);
            }
        }
    }
}

/// A fresh read of the task.
type Reading = BoxFuture<'static, Result<Option<Object<AgenticTask>>, StoreError>>;

/// Returns at the next change; never once nobody is left to make one.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn wait_for(clock: &dyn Clock, pause: Option<Duration>) {
    match pause {
        Some(pause) => clock.sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Returns once the run is to be handed over, if it was not told so before. An error means that nobody
/// is left who could say anything: hand over.
async fn told_to(hand_over: &mut watch::Receiver<bool>, before: bool) {
    if before {
        std::future::pending::<()>().await;
    }
    drop(hand_over.wait_for(|told| *told).await);
}

/// Returns after the pause, if there is one, or at the next change.
async fn wait_or<T>(clock: &dyn Clock, pause: Option<Duration>, changes: &mut watch::Receiver<T>) {
    futures::select_biased! {
        () = changed(changes).fuse() => {}
        () = wait_for(clock, pause).fuse() => {}
    }
}

/// The task of a run, as last seen, and what the run was told.
struct Watched {
    context: Arc<RunContext>,
    task: Object<AgenticTask>,
    fence: Fence,
    stop: watch::Sender<Stop>,
    lost: bool,
}

impl Watched {
    /// Takes a new sight of the task; false = the fence seems lost and must be read afresh, because
    /// the watch may show an older version.
    fn look(&mut self, sight: Option<&Object<AgenticTask>>) -> bool {
        if self.lost {
            return true;
        }
        let Some(task) = sight.filter(|task| claim::holds(task, &self.fence).is_ok()) else {
            return false;
        };
        self.task = task.clone();
        self.obey();
        true
    }

    fn read(&self) -> Reading {
        let (tasks, key) = (self.context.stores.tasks.clone(), self.task.key());
        async move { tasks.get(&key).await }.boxed()
    }

    /// Takes what a fresh read showed; false = it must be read again, because the store is away.
    fn judge(&mut self, answer: Result<Option<Object<AgenticTask>>, StoreError>) -> bool {
        match answer {
            Ok(Some(task)) if claim::holds(&task, &self.fence).is_ok() => {
                self.task = task;
                self.obey();
            }
            Ok(_) => {
                self.lost = true;
                self.stop_for(Stop::Lost);
            }
            Err(error) => {
                tracing::warn!(task = %self.task.key(), %error, "the claim could not be checked");
                return false;
            }
        }
        true
    }

    /// Passes on what the spec asks of the run. A suspension that is withdrawn stands: the run may be
    /// stopping already, and is placed again when it has.
    fn obey(&self) {
        if self.task.spec.cancel == Some(true) {
            self.stop_for(Stop::Cancel);
        } else if self.task.spec.suspend == Some(true) {
            self.stop_for(Stop::Suspend);
        }
    }

    /// How long the task may run on, looked at on the wall clock each time, so that a sleeping
    /// machine and a changed limit count.
    fn time_left(&self) -> Option<Duration> {
        if matches!(*self.stop.borrow(), Stop::TimedOut | Stop::Cancel | Stop::Lost) {
            return None;
        }
        let left = timeout::left(&self.task, self.context.clock.wall())?;
        Some(if left.is_zero() { left } else { left.max(TIMEOUT_CHECK_MIN) })
    }

    fn time_is_up(&self) {
        let left = timeout::left(&self.task, self.context.clock.wall());
        if left.is_some_and(|left| left.is_zero()) {
            self.stop_for(Stop::TimedOut);
        }
    }

    /// A stop that is stronger than the present one replaces it; `Lost` is final.
    fn stop_for(&self, next: Stop) {
        let strength = |stop: Stop| match stop {
            Stop::Continue => 0,
            Stop::Suspend => 1,
            Stop::Drain { .. } => 2,
            Stop::TimedOut => 3,
            Stop::Cancel => 4,
            Stop::Lost => 5,
        };
        self.stop.send_if_modified(|now| {
            let stronger = strength(next) > strength(*now);
            if stronger {
                *now = next;
            }
            stronger
        });
    }
}

/// Shows a run in the next heartbeat.
pub(super) fn show_progress(
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
    registrar.set_state(|state| match state.runs.iter_mut().find(|run| run.uid == summary.uid) {
        Some(run) => *run = summary,
        None => state.runs.push(summary),
    });
}
