//! Follows one workload to its end, and does the work here when nobody else does: the same for
//! `foreman run`, `foreman run --continue` and `foreman demo`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use foreman_core::control::Shutdown;
use foreman_core::model::{Key, Uid};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::show::Show;
use super::signals::Signals;
use crate::exit::{Exit, Failure};
use crate::follow::{Bus, FollowError, Follower, Of};
use crate::leader::{self, LeaderError, Leadership};
use crate::parts::{Engine, EngineEnd, Ready, Recipe};
use crate::progress::KeyPress;

/// How long the engine may take beyond its drain deadline before the process leaves without it.
const ENGINE_GRACE: Duration = Duration::from_secs(10);

/// Who does the work.
pub(in crate::cli) enum Worker {
    /// This process, which leads and is ready.
    Here(Leadership, Box<Ready>),
    /// Another process; this one takes over when it leaves.
    Elsewhere(String),
}

/// How the following ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Followed {
    /// The workload ended, or only a person can set it going again.
    Settled,
    /// It was stopped before the workload ended.
    Stopped {
        /// Why.
        exit: Exit,
        /// What becomes of the work.
        kept: Kept,
    },
    /// A person left it to this other process, which does the work.
    Detached(String),
    /// The workload is gone.
    Deleted(FollowError),
}

/// What becomes of work that is not followed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Kept {
    /// Everything was checkpointed; it waits for the next process.
    HandedOver,
    /// The process left at once; what a turn had begun is done again.
    Adopted,
    /// That other process goes on with it.
    Elsewhere(String),
}

type TakeOver = Pin<Box<dyn Future<Output = Result<Leadership, LeaderError>> + Send>>;

struct Flow<'a> {
    recipe: &'a Recipe,
    role: &'static str,
    bus: Arc<Bus>,
    engine: Option<Engine>,
    /// Who does the work, and the wait for its lock.
    take_over: Option<(String, TakeOver)>,
    show: &'a mut Show,
    workload: String,
    /// The command that goes on with the work when this process leaves.
    go_on: &'a str,
}

/// Follows the workload until it is settled, a signal comes, or a person detaches. `go_on` is the
/// command that goes on with the work when this process leaves.
///
/// # Errors
/// The engine could not start or broke.
pub(in crate::cli) async fn follow(
    recipe: &Recipe,
    role: &'static str,
    workload: (Key, Uid),
    worker: Worker,
    show: &mut Show,
    signals: &mut Signals,
    go_on: &str,
) -> Result<Followed, Failure> {
    show.listen(&recipe.settings);
    let (bus, heard) = Bus::new();
    let (key, uid) = workload;
    let name = key.name.clone();
    let mut facts = Follower::new(&recipe.home.stores, Of::Workload(key, uid), heard);
    let mut flow =
        Flow { recipe, role, bus, engine: None, take_over: None, show, workload: name, go_on };
    match worker {
        Worker::Here(leadership, ready) => flow.start(leadership, *ready).await?,
        Worker::Elsewhere(holder) => flow.wait_behind(&holder),
    }
    let followed = flow.until_settled(&mut facts, signals).await?;
    let followed = match followed {
        Followed::Stopped { exit, .. } => {
            let kept = flow.drain(&mut facts, signals).await?;
            Followed::Stopped { exit, kept }
        }
        Followed::Settled | Followed::Detached(_) | Followed::Deleted(_) => {
            flow.drain(&mut facts, signals).await?;
            followed
        }
    };
    // What was told meanwhile, e.g. the work that was kept.
    while let Some(Ok(fact)) = facts.next_now() {
        flow.show.fact(&fact);
    }
    Ok(followed)
}

impl Flow<'_> {
    async fn start(&mut self, leadership: Leadership, ready: Ready) -> Result<(), Failure> {
        let plan = self.recipe.plan(ready, self.bus.clone()).await;
        self.engine = Some(Engine::start(&plan, leadership)?);
        Ok(())
    }

    fn wait_behind(&mut self, holder: &str) {
        let message =
            format!("{holder} does the work on this data directory; this only follows it");
        self.show.notice(Some(&self.workload), message);
        self.show.hint_elsewhere();
        let data_dir = self.recipe.home.paths.data_dir.clone();
        let role = self.role;
        let taken: TakeOver = Box::pin(async move { leader::take_over(&data_dir, role).await });
        self.take_over = Some((holder.to_owned(), taken));
    }

    /// What a key does. The work can be left only to somebody: says who that is, or what to do when
    /// it is nobody.
    fn pressed(&mut self, key: KeyPress) -> Option<String> {
        let KeyPress::Detach = key;
        if let Some((holder, _)) = &self.take_over {
            return Some(holder.clone());
        }
        let message = format!(
            "this process does the work itself and cannot be detached from; to keep it going without \
             this terminal, press ctrl-c and run in another one: {}; nothing is lost",
            self.go_on
        );
        self.show.notice(Some(&self.workload), message);
        None
    }

    async fn until_settled(
        &mut self,
        follower: &mut Follower,
        signals: &mut Signals,
    ) -> Result<Followed, Failure> {
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                exit = signals.next() => {
                    return Ok(Followed::Stopped { exit, kept: Kept::Adopted });
                }
                key = self.show.key() => {
                    if let Some(holder) = self.pressed(key) {
                        return Ok(Followed::Detached(holder));
                    }
                }
                _ = ticks.tick() => self.show.tick(),
                fact = follower.next() => match fact {
                    Ok(fact) => {
                        self.show.fact(&fact);
                        let tally = &self.show.tally;
                        if tally.finished().is_some() || tally.needs_person().is_some() {
                            return Ok(Followed::Settled);
                        }
                        if self.show.is_closed() {
                            return Ok(Followed::Stopped { exit: Exit::StillGoing, kept: Kept::Adopted });
                        }
                    }
                    Err(error) => return Ok(Followed::Deleted(error)),
                },
                taken = maybe(&mut self.take_over) => {
                    self.take_over = None;
                    let leadership = taken.map_err(|error| {
                        Failure::new(Exit::Error, "the work cannot be taken over").because(error)
                    })?;
                    self.show.notice(Some(&self.workload), "it has left: this process goes on with the work");
                    self.show.hint_here();
                    let ready = self.recipe.require().await?;
                    self.start(leadership, ready).await?;
                }
                end = ended(&mut self.engine) => {
                    self.engine = None;
                    return Err(match end? {
                        EngineEnd::Superseded => {
                            Failure::new(Exit::Superseded, "another process took this node over")
                        }
                        EngineEnd::Drained | EngineEnd::Left => {
                            Failure::new(Exit::Error, "the engine ended by itself")
                        }
                    });
                }
            }
        }
    }

    /// Lets the engine hand over; a second signal makes it leave at once.
    async fn drain(
        &mut self,
        follower: &mut Follower,
        signals: &mut Signals,
    ) -> Result<Kept, Failure> {
        if let Some((holder, _)) = self.take_over.take() {
            return Ok(Kept::Elsewhere(holder));
        }
        let Some(mut engine) = self.engine.take() else { return Ok(Kept::HandedOver) };
        engine.shutdown(Shutdown::Drain);
        let open = self.show.tally.finished().is_none();
        if open {
            self.show.set_hint("checkpointing, ctrl-c again to stop now");
            self.show.notice(Some(&self.workload), "checkpointing, again to stop now");
        }
        let limit = tokio::time::sleep(self.recipe.settings.node.drain_deadline + ENGINE_GRACE);
        tokio::pin!(limit);
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                end = engine.ended() => return Ok(match end? {
                    EngineEnd::Drained => Kept::HandedOver,
                    EngineEnd::Left | EngineEnd::Superseded => Kept::Adopted,
                }),
                _ = signals.next() => {
                    engine.shutdown(Shutdown::Now);
                    return Ok(Kept::Adopted);
                }
                fact = follower.next() => if let Ok(fact) = fact {
                    self.show.fact(&fact);
                },
                () = &mut limit => {
                    engine.shutdown(Shutdown::Now);
                    return Ok(Kept::Adopted);
                }
                _ = ticks.tick() => self.show.tick(),
            }
        }
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(Show::EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The lock, once it is ours; never, when nobody waits for it.
async fn maybe(take_over: &mut Option<(String, TakeOver)>) -> Result<Leadership, LeaderError> {
    match take_over {
        Some((_, waiting)) => waiting.await,
        None => std::future::pending().await,
    }
}

/// The engine's end; never, when there is none.
async fn ended(engine: &mut Option<Engine>) -> Result<EngineEnd, Failure> {
    match engine {
        Some(engine) => engine.ended().await,
        None => std::future::pending().await,
    }
}
