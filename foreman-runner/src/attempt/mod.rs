//! One attempt of a task: the executor that runs for real.
//!
//! A run is its journal. Everything here can be killed at any line: the next claim opens the journal,
//! restores the last checkpoint and goes on; an effect whose end is not known is looked up at its
//! target; a run that had ended is told again and not run again.

mod budgets;
mod conclude;
mod continued;
mod end;
mod fault;
mod hooks;
mod judge;
mod model_run;
mod place;
mod prepare;
mod publishing;
mod verify;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::Authority;
use foreman_core::model::Uid;
use foreman_core::model::agent::AgentSpec;
use foreman_core::model::agentic_task::{TaskKind, Usage};
use foreman_core::model::open::Open;
use foreman_core::policy::Policy;
use foreman_core::ports::clock::Clock;
use foreman_core::ports::executor::{Executor, Job, Progress, RunEnd, Stop};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::git::GitCredential;
use crate::journal::{JournalStore, Replay};
use crate::model_client::{BaseUrl, CallMode};
use crate::observe::{RunEvent, RunObserver};
use crate::redact::Redactor;
use crate::sandbox::Tier;
use crate::text::chain;
use crate::workspace::Person;

use end::Ending;
pub(crate) use fault::Fault;

/// What a drain leaves for the release after a publication was given up: killing git, the patch.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Plain settings of the executor.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Journals, worktrees, patches: not to be wiped.
    pub data_dir: PathBuf,
    /// Mirrors and build caches: may be wiped when nothing runs.
    pub cache_dir: PathBuf,
    /// The program that answers to `__sandbox`; most often this very program.
    pub helper: Option<PathBuf>,
    /// What the sandbox of this machine was measured to hold.
    pub sandbox_tier: Tier,
    /// What a run requires of it. [`Tier::None`] turns the sandbox off.
    pub sandbox_required: Tier,
    /// What commands may read besides.
    pub sandbox_read: Vec<PathBuf>,
    /// What stays unreadable whatever else is granted: token files, the store.
    pub sandbox_hide: Vec<PathBuf>,
    /// Author and committer of our commits.
    pub author: Person,
    /// Where slugs such as `owner/name` live.
    pub git_base_url: String,
    /// Who git says we are.
    pub credential: GitCredential,
    /// Values that must appear nowhere.
    pub secrets: Vec<SecretString>,
    /// How calls are asked for.
    pub call_mode: CallMode,
    /// Whether work may be sent to models in the cloud.
    pub policy: Policy,
}

/// Where the model of an Agent is.
#[derive(Debug, Clone)]
pub struct ModelTarget {
    /// The server.
    pub base_url: BaseUrl,
    /// The model's name on the wire.
    pub model: String,
    /// The context it serves, in tokens, where that is known.
    pub context_tokens: Option<u64>,
    /// The server's key.
    pub api_key: Option<SecretString>,
    /// Model and server, for a person; without credentials.
    pub label: String,
}

/// Why an Agent has no model now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct EndpointError {
    /// What was looked for, what was found, and what to do.
    pub reason: String,
}

/// Finds the model of an Agent on this node.
#[async_trait]
pub trait Endpoints: Send + Sync {
    /// The model of that Agent.
    async fn resolve(&self, agent: &AgentSpec) -> Result<ModelTarget, EndpointError>;
}

/// Runs tasks on this machine.
pub struct RunnerExecutor {
    settings: RunnerSettings,
    endpoints: Arc<dyn Endpoints>,
    observer: Arc<dyn RunObserver>,
    clock: Arc<dyn Clock>,
    journals: JournalStore,
}

impl std::fmt::Debug for RunnerExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunnerExecutor")
            .field("data_dir", &self.settings.data_dir)
            .finish_non_exhaustive()
    }
}

impl RunnerExecutor {
    /// An executor with these settings.
    pub fn new(
        settings: RunnerSettings,
        endpoints: Arc<dyn Endpoints>,
        observer: Arc<dyn RunObserver>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let wall_clock = clock.clone();
        let millis = move || {
            u64::try_from(wall_clock.wall().unix_seconds()).unwrap_or(0).saturating_mul(1000)
        };
        let journals = JournalStore::new(&settings.data_dir, Arc::new(millis));
        Arc::new(Self { settings, endpoints, observer, clock, journals })
    }

    /// The journals of this machine.
    pub fn journals(&self) -> &JournalStore {
        &self.journals
    }

    fn redactor(&self) -> Redactor {
        let redactor = Redactor::new(&self.settings.secrets);
        match &self.settings.credential {
            GitCredential::Token { token, .. } => redactor.and(token),
            GitCredential::None | GitCredential::Helper(_) => redactor,
        }
    }
}

/// What the parts of one attempt share.
pub(crate) struct Attempt<'a> {
    runner: &'a RunnerExecutor,
    job: &'a Job,
    authority: &'a Authority,
    progress: &'a watch::Sender<Progress>,
    stop: watch::Receiver<Stop>,
    /// Fires when the run must stop at once.
    cancel: CancellationToken,
    /// Fires when even a publication must stop: not on a drain.
    cancel_publishing: CancellationToken,
}

impl Attempt<'_> {
    fn tell(&self, event: RunEvent) {
        let key = self.job.task.key();
        self.runner.observer.event(&key, self.job.fence.attempt, event);
    }

    fn notice(&self, message: impl Into<String>) {
        self.tell(RunEvent::Notice { message: message.into() });
    }

    fn moved(&self, change: impl FnOnce(&mut Progress)) {
        let now = self.runner.clock.wall();
        self.progress.send_modify(|progress| {
            change(progress);
            progress.last_progress = Some(now);
        });
    }

    async fn run(&self) -> Ending {
        match &self.job.task.spec.kind {
            Open::Known(TaskKind::Verify) => self.verify().await,
            Open::Known(TaskKind::IssueFix | TaskKind::Freeform | TaskKind::Review) => {
                self.model_run().await
            }
            Open::Known(TaskKind::Integrate | TaskKind::Reconcile) | Open::Other(_) => {
                Ending::unsupported("spec.kind")
            }
        }
    }
}

#[async_trait]
impl Executor for RunnerExecutor {
    async fn run(
        &self,
        job: Job,
        authority: Arc<Authority>,
        progress: watch::Sender<Progress>,
        stop: watch::Receiver<Stop>,
    ) -> RunEnd {
        let attempt = Attempt {
            runner: self,
            job: &job,
            authority: &authority,
            progress: &progress,
            stop: stop.clone(),
            cancel: CancellationToken::new(),
            cancel_publishing: CancellationToken::new(),
        };
        let began = self.clock.awake();
        let told = attempt.watch_stop(stop);
        let ending = {
            let run = attempt.run();
            tokio::pin!(run, told);
            tokio::select! {
                biased;
                ending = &mut run => ending,
                () = &mut told => run.await,
            }
        };
        let took = self.clock.awake().since(began);
        let told = *attempt.stop.borrow();
        ending.into_run_end(told, took, &job.fence)
    }

    async fn highest_attempt(&self, uid: &Uid) -> i64 {
        match self.journals.highest_attempt(uid.as_str()).await {
            Ok(highest) => highest.map_or(0, i64::from),
            Err(error) => {
                tracing::warn!(%uid, %error, "the journals of a task cannot be read");
                0
            }
        }
    }
}

impl Attempt<'_> {
    /// Fires the tokens as the run is told to stop; returns once there is nothing more to be told.
    async fn watch_stop(&self, mut stop: watch::Receiver<Stop>) {
        loop {
            let told = *stop.borrow_and_update();
            let by = match told {
                Stop::Continue | Stop::Suspend => None,
                Stop::Drain { by } => {
                    self.cancel.cancel();
                    Some(by)
                }
                Stop::Cancel | Stop::TimedOut | Stop::Lost => {
                    self.cancel.cancel();
                    self.cancel_publishing.cancel();
                    return;
                }
            };
            let too_late = async {
                match by {
                    Some(by) => {
                        let left = by.since(self.runner.clock.boot());
                        let left = left.saturating_sub(HAND_OVER);
                        self.runner.clock.sleep(left).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = stop.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                // The journal holds the intent: whoever goes on looks the effect up.
                () = too_late => self.cancel_publishing.cancel(),
            }
            if self.cancel_publishing.is_cancelled() {
                return;
            }
        }
    }
}

/// What this claim spent: all that the journal holds, less what the task was charged before. A claim
/// that died without a word charged nothing, so its part is in here; what another machine spent
/// stands in `charged` and not in the journal, so it is left out. Of what was charged for a claim that
/// died here, `estimated` was a guess: where there is a journal, what that tells takes its place.
fn spent(charged: Option<&Usage>, estimated: i64, before: &Replay, after: &Replay) -> Usage {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let nothing = Usage::default();
    let charged = charged.unwrap_or(&nothing);
    let corrects = estimated > 0 && before.header.is_some();
    let guessed = if corrects { estimated } else { 0 };
    let prompts = charged.prompt_tokens.map(|all| all.saturating_sub(guessed).max(0));
    let rest = |after: u64, before: u64, charged: Option<i64>| {
        let paid = count(before).min(charged.unwrap_or(0));
        Some(count(after).saturating_sub(paid))
    };
    let (now, then) = (after.usage, before.usage);
    Usage {
        turns: rest(after.turns.len() as u64, before.turns.len() as u64, charged.turns),
        prompt_tokens: rest(now.prompt_tokens, then.prompt_tokens, prompts),
        cached_tokens: rest(now.cached_tokens, then.cached_tokens, charged.cached_tokens),
        completion_tokens: rest(
            now.completion_tokens,
            then.completion_tokens,
            charged.completion_tokens,
        ),
        tool_calls: rest(after.tool_calls, before.tool_calls, charged.tool_calls),
        estimated: if corrects { Some(false) } else { now.estimated.then_some(true) },
        ..Usage::default()
    }
}
