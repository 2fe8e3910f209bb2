//! Control loops and one agent, running. The heartbeat has a thread and a runtime of its own, so
//! that no run can delay it; reconciler and agent are tasks that the engine owns and waits for.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use foreman_core::control::{AgentEnd, AgentSettings, ControlSettings, Foreman, Shutdown};
use foreman_core::fleet::{Registrar, RegistrarEnd};
use foreman_core::ports::{Clock as _, Event, Recorder};
use foreman_runner::attempt::{RunnerExecutor, RunnerSettings};
use foreman_runner::git::DEFAULT_BASE_URL;
use foreman_runner::journal::JournalStore;
use foreman_runner::model_client::CallMode;
use foreman_runner::observe::RunObserver;
use foreman_runner::sandbox::Tier;
use foreman_runner::workspace::Person;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::Home;
use super::credential::Credential;
use super::housekeeping::keep_house;
use super::machine::Machine;
use super::models::Models;
use crate::exit::{Exit, Failure};
use crate::leader::Leadership;
use crate::os_clock::{SystemClock, SystemEntropy};
use crate::settings::NodeSettings;

/// How long control loops and heartbeat may take to stop once the agent has left.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Decided writes that are on their way at the same time: what the store's writer thread puts into one
/// transaction.
const WRITES_AT_ONCE: usize = 256;
/// How often it is looked whether the data directory is still there.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Everything an engine is made of.
pub struct EnginePlan {
    /// Store, clock and directories.
    pub home: Home,
    /// This machine.
    pub machine: Machine,
    /// What was said of it as a node.
    pub node: NodeSettings,
    /// What confines a run at least.
    pub sandbox_required: Tier,
    /// Models for runs.
    pub models: Arc<Models>,
    /// Who git says we are.
    pub credential: Credential,
    /// Whom commits name.
    pub author: Person,
    /// Files that no run may read, besides the store and the credential.
    pub hidden: Vec<PathBuf>,
    /// Hears what runs tell.
    pub observer: Arc<dyn RunObserver>,
    /// How often the node beats.
    pub heartbeat: Duration,
}

/// How an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineEnd {
    /// Everything was handed over.
    Drained,
    /// It was told to leave at once.
    Left,
    /// Another session took the node over.
    Superseded,
}

/// A running engine. Dropping it stops everything at once; claims stay and are adopted.
#[derive(Debug)]
pub struct Engine {
    shutdown: watch::Sender<Shutdown>,
    supervisor: JoinHandle<Result<EngineEnd, Failure>>,
}

impl Engine {
    /// Starts. The lock is held until everything has stopped.
    ///
    /// # Errors
    /// A part cannot be made.
    pub fn start(plan: &EnginePlan, leadership: Leadership) -> Result<Self, Failure> {
        let foreman = build(plan)?;
        let Home { stores, clock, paths } = &plan.home;
        let journals =
            JournalStore::new(&paths.state_dir, Arc::new(SystemClock::unix_milliseconds));
        let house = keep_house(stores.clone(), journals, paths.state_dir.clone(), clock.clone());
        let (shutdown, told) = watch::channel(Shutdown::No);
        let supervisor = tokio::spawn(async move {
            let house = Owned(tokio::spawn(house));
            let end = supervise(&foreman, &leadership, told).await;
            drop(house);
            drop(leadership);
            end
        });
        Ok(Self { shutdown, supervisor })
    }

    /// Tells it to hand over and leave, or to leave at once. It never takes a word back.
    pub fn shutdown(&self, how: Shutdown) {
        self.shutdown.send_if_modified(|told| {
            let weaker = matches!(
                (*told, how),
                (Shutdown::No, Shutdown::Drain | Shutdown::Now) | (Shutdown::Drain, Shutdown::Now)
            );
            if weaker {
                *told = how;
            }
            weaker
        });
    }

    /// Waits until it has ended. Cancelling loses nothing.
    ///
    /// # Errors
    /// The agent could not start, or a part of it broke.
    pub async fn ended(&mut self) -> Result<EngineEnd, Failure> {
        match (&mut self.supervisor).await {
            Ok(end) => end,
            Err(error) => Err(broken("the engine").because(error)),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// Events go to the log of whoever looks for faults: people are told by the follower.
struct Quiet;

impl Recorder for Quiet {
    fn record(&self, event: Event) {
        let Event { kind, key, severity: _, reason, message } = event;
        tracing::debug!(kind, %key, reason, "{message}");
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(Exit::Error, format!("{what} broke down"))
        .next("start again: work is kept and goes on")
}

fn build(plan: &EnginePlan) -> Result<Foreman, Failure> {
    let Home { stores, clock, paths } = &plan.home;
    let now = clock.wall();
    let probe = plan.machine.probe(&plan.node, paths, plan.models.config(), now)?;
    let store = paths.store_file();
    let beside = |suffix: &str| {
        let mut name = store.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut hidden = vec![store.clone(), beside("-wal"), beside("-shm")];
    hidden.extend(plan.credential.file.clone());
    hidden.extend(plan.hidden.iter().cloned());
    let runner = RunnerSettings {
        data_dir: paths.state_dir.clone(),
        cache_dir: paths.cache_dir.clone(),
        helper: plan.machine.helper.clone(),
        sandbox_tier: plan.machine.sandbox.tier,
        sandbox_required: plan.sandbox_required,
        sandbox_read: plan.node.sandbox_read.clone(),
        sandbox_hide: hidden,
        author: plan.author.clone(),
        git_base_url: DEFAULT_BASE_URL.to_owned(),
        credential: plan.credential.git.clone(),
        secrets: plan.models.secrets(),
        call_mode: CallMode::Native,
        policy: plan.node.policy,
    };
    let executor =
        RunnerExecutor::new(runner, plan.models.clone(), plan.observer.clone(), clock.clone());
    let settings = AgentSettings {
        // Whoever holds the lock of the data directory is the only one that can speak for a node
        // of its store: an older session is a dead one, however it ended.
        takeover: true,
        drain_deadline: plan.node.drain_deadline,
        ..AgentSettings::default()
    };
    let control = ControlSettings {
        writes_at_once: WRITES_AT_ONCE,
        policy: plan.node.policy,
        ..ControlSettings::default()
    };
    Foreman::builder(stores.clone(), clock.clone(), Arc::new(SystemEntropy))
        .node(plan.machine.identity(&plan.node), probe, executor)
        .settings(settings)
        .control(control)
        .recorder(Arc::new(Quiet))
        .heartbeat(plan.heartbeat)
        .build()
        .map_err(|error| Failure::new(Exit::Error, "the parts do not fit").because(error))
}

/// Ends when the data directory is not the one any more that was led on.
async fn displaced(leadership: &Leadership) -> Failure {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if !leadership.is_in_place() {
            let dir = leadership.data_dir().display();
            return Failure::new(
                Exit::Error,
                format!(
                    "the data directory {dir} was removed or replaced while work went on in it"
                ),
            )
            .next("bring it back before you start again; without it the unfinished work is lost");
        }
    }
}

async fn supervise(
    foreman: &Foreman,
    leadership: &Leadership,
    mut shutdown: watch::Receiver<Shutdown>,
) -> Result<EngineEnd, Failure> {
    let Some((registrar, agent)) = foreman.agents().first().cloned() else {
        return Err(broken("the list of agents"));
    };
    let name = registrar.identity().name.clone();
    tokio::select! {
        started = agent.start() => started.map_err(|error| {
            Failure::new(Exit::Error, format!("node {name} could not start")).because(error)
        })?,
        _ = shutdown.wait_for(|told| *told != Shutdown::No) => return Ok(EngineEnd::Left),
    }
    let (stop, stopped) = watch::channel(false);
    let mut beats = Heartbeat::start(registrar, stopped.clone())?;
    let reconciler = foreman.reconciler().cloned();
    let mut loops = Owned(tokio::spawn(async move {
        if let Some(reconciler) = reconciler {
            reconciler.run(stopped).await;
        }
    }));
    let serving_shutdown = shutdown.clone();
    let mut serving = Owned(tokio::spawn(async move { agent.serve(serving_shutdown).await }));
    let end = tokio::select! {
        end = &mut serving.0 => match end {
            Ok(AgentEnd::Drained) => Ok(EngineEnd::Drained),
            Ok(AgentEnd::Left) => Ok(EngineEnd::Left),
            Err(error) => Err(broken("the agent").because(error)),
        },
        end = beats.ended() => match end {
            Some(RegistrarEnd::Superseded) => Ok(EngineEnd::Superseded),
            Some(RegistrarEnd::Stopped) | None => Err(broken("the heartbeat")),
        },
        failure = displaced(leadership) => Err(failure),
        end = &mut loops.0 => {
            let failure = broken("the control loop");
            Err(match end {
                Err(error) => failure.because(error),
                Ok(()) => failure,
            })
        }
    };
    stop.send_replace(true);
    let left = matches!(end, Ok(EngineEnd::Left | EngineEnd::Superseded));
    if !left {
        let stopping = async {
            if !loops.0.is_finished() && (&mut loops.0).await.is_err() {
                tracing::warn!("the control loop broke while it was stopped");
            }
            beats.ended().await;
        };
        if tokio::time::timeout(STOP_LIMIT, stopping).await.is_err() {
            tracing::warn!("the control loops did not stop in time");
        }
    }
    end
}

/// A task that does not outlive its owner.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The registrar on a thread of its own.
struct Heartbeat {
    ended: oneshot::Receiver<RegistrarEnd>,
    end: Option<RegistrarEnd>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Heartbeat {
    fn start(registrar: Arc<Registrar>, stopped: watch::Receiver<bool>) -> Result<Self, Failure> {
        let failed =
            |error| Failure::new(Exit::Error, "the heartbeat cannot be started").because(error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(anyhow::Error::new)
            .map_err(failed)?;
        let (tell, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || {
                let end = runtime.block_on(registrar.run(stopped));
                if tell.send(end).is_err() {
                    tracing::debug!("nobody waits for the heartbeat any more");
                }
            })
            .map_err(anyhow::Error::new)
            .map_err(failed)?;
        Ok(Self { ended, end: None, thread: Some(thread) })
    }

    /// How it ended; none when it broke.
    async fn ended(&mut self) -> Option<RegistrarEnd> {
        if self.end.is_none() && self.thread.is_some() {
            self.end = (&mut self.ended).await.ok();
            // It has told its end, or broke: it is over.
            if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("the heartbeat broke down");
            }
        }
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_word_to_leave_is_never_taken_back() {
        let (shutdown, told) = watch::channel(Shutdown::No);
        let supervisor = tokio::spawn(std::future::pending());
        let engine = Engine { shutdown, supervisor };
        for (word, then) in [
            (Shutdown::Drain, Shutdown::Drain),
            (Shutdown::No, Shutdown::Drain),
            (Shutdown::Now, Shutdown::Now),
            (Shutdown::Drain, Shutdown::Now),
        ] {
            engine.shutdown(word);
            assert_eq!(*told.borrow(), then);
        }
    }
}
