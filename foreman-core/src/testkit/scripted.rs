//! An executor that does what a test says.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::model::agentic_task::{TaskKind, Usage};
use crate::model::outcome::{Decision, Infrastructure, Outcome, Verdict, Verification};
use crate::model::shared::FreeObject;
use crate::ports::executor::{Executor, Finish, Job, Progress, RunEnd, Stop};
use crate::task::authority::Authority;

/// What a scripted run may look at.
pub struct ScriptedRun {
    /// The job.
    pub job: Job,
    /// Gives permits.
    pub authority: Arc<Authority>,
    /// Takes progress.
    pub progress: watch::Sender<Progress>,
    /// Says when to stop.
    pub stop: watch::Receiver<Stop>,
}

type Script = dyn Fn(ScriptedRun) -> BoxFuture<'static, RunEnd> + Send + Sync;

/// An executor whose runs are a function of the test, and which remembers what it ran.
pub struct ScriptedExecutor {
    script: Box<Script>,
    ran: Mutex<Vec<String>>,
}

impl std::fmt::Debug for ScriptedExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedExecutor").finish_non_exhaustive()
    }
}

impl ScriptedExecutor {
    /// An executor that runs `script` for each job.
    pub fn new(
        script: impl Fn(ScriptedRun) -> BoxFuture<'static, RunEnd> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), ran: Mutex::default() })
    }

    /// An executor whose every run ends on target at once.
    pub fn on_target() -> Arc<Self> {
        Self::new(|run| {
            let end = on_target(&run.job);
            Box::pin(async move { end })
        })
    }

    /// The names of the tasks that were run, in order.
    pub fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The end on target of a job: GATE-PASS for a verification, else GO.
pub fn on_target(job: &Job) -> RunEnd {
    let verify = job.task.spec.kind.is(TaskKind::Verify);
    let (verdict, decision, verification) = if verify {
        (Verdict::GatePass, Decision::None, Verification::Passed)
    } else {
        (Verdict::Go, Decision::Go, Verification::Passed)
    };
    RunEnd::Finished(Box::new(Finish {
        succeeded: true,
        verdict,
        failure_reason: None,
        outcome: Outcome {
            decision,
            verification,
            infrastructure: Infrastructure::Ok,
            reason: None,
        },
        result: FreeObject::default(),
        branch: None,
        commit_sha: None,
        usage: Usage { turns: Some(1), ..Usage::default() },
        checkpoint: None,
        message: "done".to_owned(),
    }))
}

#[async_trait]
impl Executor for ScriptedExecutor {
    async fn run(
        &self,
        job: Job,
        authority: Arc<Authority>,
        progress: watch::Sender<Progress>,
        stop: watch::Receiver<Stop>,
    ) -> RunEnd {
        let name = job.task.meta.name.clone();
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        (self.script)(ScriptedRun { job, authority, progress, stop }).await
    }
}
