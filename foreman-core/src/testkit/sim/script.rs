//! A run of a simulation: turns that take time, a journal, effects with a permit each, and an end.
//! It does what the real executor promises: what was written down is not done again, an effect that
//! was begun is looked up before it is repeated.

mod effects;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::FutureExt;
use tokio::sync::watch;

use super::chance::{Chance, Counts};
use super::disk::{self, Full, SharedDisk};
use super::ends;
use super::remote::Remote;
use super::truth::Truth;
use crate::model::agentic_task::{Checkpoint, Usage};
use crate::model::fleet_node::RunStage;
use crate::model::ids::Uid;
use crate::ports::clock::Clock;
use crate::ports::executor::{Executor, Finish, Job, Progress, ReleaseWhy, RunEnd, Stop};
use crate::schedule::need::Need;
use crate::task::authority::Authority;
use crate::task::budget;

/// How often a permit or a lookup is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an effect waits before the run gives up on the store.
const PATIENCE: Duration = Duration::from_mins(30);

/// Runs tasks on one machine, for one process.
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) process: u64,
    pub(crate) node: &'static str,
    pub(crate) disk: SharedDisk,
    pub(crate) remote: Arc<Remote>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) truth: Arc<Truth>,
    pub(crate) counts: Arc<Counts>,
    /// Whether its people say no often.
    pub(crate) stern: bool,
    /// Memory that runs of this machine take, in GiB.
    pub(crate) memory: Arc<AtomicI32>,
}

/// What a run does, drawn for the task and the attempt.
struct Plan {
    turns: u64,
    turn: Duration,
    /// Tokens of a turn.
    tokens: i64,
    end: ends::Wanted,
    /// The infrastructure fails after this turn.
    fails_after: Option<u64>,
    panics_after: Option<u64>,
    hangs_after: Option<u64>,
    /// How long it goes on after it was told to stop.
    overrun: Duration,
}

impl Plan {
    fn of(seed: u64, stern: bool, job: &Job) -> Self {
        let key = job.task.key();
        let mut task = Chance::stream(seed, &format!("task/{key}"));
        let mut attempt = Chance::stream(seed, &format!("attempt/{key}/{}", job.fence.attempt));
        let mut spending = Chance::stream(seed, &format!("spending/{key}"));
        let turns = task.between(1, 12);
        let at = |chance: &mut Chance, percent| {
            let turn = chance.below(turns);
            chance.percent(percent).then_some(turn)
        };
        let turn = task.skewed(Duration::from_secs(1), Duration::from_mins(3));
        let overrun = if attempt.percent(10) {
            attempt.duration(Duration::ZERO, Duration::from_secs(50))
        } else {
            Duration::ZERO
        };
        let mut hangs_after = at(&mut attempt, 3);
        if job.task.spec.timeout_seconds.is_none() {
            hangs_after = None;
        }
        Self {
            turns,
            turn,
            tokens: i64::try_from(spending.between(200, 3000)).unwrap_or(1000),
            end: ends::draw(&mut task, job.task.spec.kind.known(), stern),
            fails_after: at(&mut attempt, 10),
            panics_after: at(&mut attempt, 2),
            hangs_after,
            overrun,
        }
    }
}

/// One run under way.
struct Play<'a> {
    script: &'a Script,
    job: &'a Job,
    plan: Plan,
    authority: Arc<Authority>,
    progress: watch::Sender<Progress>,
    stop: watch::Receiver<Stop>,
    turns_here: i64,
    /// Tokens of a turn that does not stand in the journal (yet).
    unwritten: i64,
}

/// Memory that a run takes while it is there.
struct InUse {
    all: Arc<AtomicI32>,
    ram_gb: i32,
}

impl InUse {
    fn of(all: &Arc<AtomicI32>, job: &Job) -> Self {
        let ram_gb = Need::ram_gb_of(&job.task, job.agent.as_ref().map(|agent| &agent.spec));
        all.fetch_add(ram_gb, Ordering::Relaxed);
        Self { all: all.clone(), ram_gb }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.all.fetch_sub(self.ram_gb, Ordering::Relaxed);
    }
}

/// The run is over.
type Over = Box<RunEnd>;

#[async_trait]
impl Executor for Script {
    async fn run(
        &self,
        job: Job,
        authority: Arc<Authority>,
        progress: watch::Sender<Progress>,
        stop: watch::Receiver<Stop>,
    ) -> RunEnd {
        let _running = self.truth.run_begins(self.process, self.node, &job.fence);
        let _memory = InUse::of(&self.memory, &job);
        let plan = Plan::of(self.seed, self.stern, &job);
        let (turns_here, unwritten) = (0, 0);
        let job = &job;
        let run =
            Play { script: self, job, plan, authority, progress, stop, turns_here, unwritten };
        let end = run.run().await;
        self.counts.add(ends::word(&end));
        self.truth.run_ended(&job.fence, &end);
        end
    }

    async fn highest_attempt(&self, uid: &Uid) -> i64 {
        disk::read(&self.disk, uid).map_or(0, |journal| journal.attempt)
    }
}

impl Play<'_> {
    async fn run(mut self) -> RunEnd {
        if let Err(end) = self.begin() {
            return *end;
        }
        if let Some(finish) = self.journal().outcome {
            self.script.counts.add("end delivered by a later life");
            return RunEnd::Finished(Box::new(Finish { usage: self.usage(), ..finish }));
        }
        if let Err(end) = self.look_at_the_branch().await {
            return *end;
        }
        while self.journal().turns < self.plan.turns {
            if let Some(end) = self.out_of_budget() {
                return *end;
            }
            if let Err(end) = self.turn().await {
                return *end;
            }
        }
        match self.effects().await {
            Ok(()) => *self.finish(None),
            Err(end) => *end,
        }
    }

    fn journal(&self) -> disk::Journal {
        disk::read(&self.script.disk, &self.job.fence.uid).unwrap_or_default()
    }

    fn write(&self, change: impl FnOnce(&mut disk::Journal)) -> Result<(), Over> {
        disk::write(&self.script.disk, &self.job.fence.uid, change).map_err(|Full| {
            self.script.counts.add("journal not written: disk full");
            self.release(ends::infrastructure("the disk is full"))
        })
    }

    /// What the task was charged before this claim.
    fn charged(&self) -> i64 {
        budget::tokens(self.job.task.status.usage.as_ref())
    }

    /// What the task has spent in all: a claim of this machine that died was never charged, and what
    /// other machines spent stands in no journal here.
    fn spent(&self) -> i64 {
        self.journal().tokens.max(self.charged()).saturating_add(self.unwritten)
    }

    /// The next model call may cost more than is left.
    fn out_of_budget(&self) -> Option<Over> {
        let next = self.spent().saturating_add(self.plan.tokens);
        let own = self.job.task.spec.budget.as_ref().and_then(|budget| budget.tokens);
        let allowed = self.job.task.status.allowance;
        let allowed = allowed.map(|allowance| self.charged().saturating_add(allowance));
        let limit = own.into_iter().chain(allowed).min().filter(|limit| next > *limit)?;
        let message = format!("{} tokens used, {next} needed, the limit is {limit}", self.spent());
        Some(self.release(ReleaseWhy::BudgetExhausted { message }))
    }

    fn usage(&self) -> Usage {
        let tokens = self.spent().saturating_sub(self.charged());
        Usage {
            turns: Some(self.turns_here),
            prompt_tokens: Some(tokens).filter(|tokens| *tokens > 0),
            ..Usage::default()
        }
    }

    fn release(&self, why: ReleaseWhy) -> Over {
        let journal = self.journal();
        let checkpoint = Checkpoint {
            node: Some(self.job.fence.node.to_string()),
            attempt: Some(self.job.fence.attempt),
            turn: i64::try_from(journal.turns).ok(),
            digest: None,
            archived: None,
            extra: crate::model::meta::Extra::new(),
        };
        Box::new(RunEnd::Released { checkpoint: Some(checkpoint), usage: self.usage(), why })
    }

    /// The end of the run, in the journal first.
    fn finish(&self, instead: Option<Finish>) -> Over {
        let finish = instead.unwrap_or_else(|| ends::finish(self.plan.end));
        let finish = Finish { usage: self.usage(), ..finish };
        match self.write(|journal| journal.outcome = Some(finish.clone())) {
            Ok(()) => Box::new(RunEnd::Finished(Box::new(finish))),
            Err(end) => end,
        }
    }

    fn begin(&self) -> Result<(), Over> {
        let attempt = self.job.fence.attempt;
        self.write(|journal| journal.attempt = journal.attempt.max(attempt))?;
        if self.journal().turns > 0 {
            self.script.counts.add("run resumed from its journal");
        }
        self.stopped()
    }

    /// Whether somebody told the run to stop.
    fn stopped(&self) -> Result<(), Over> {
        let told = *self.stop.borrow();
        match told {
            Stop::Continue => Ok(()),
            Stop::Suspend => Err(self.release(ReleaseWhy::Suspended)),
            Stop::Drain { .. } => Err(self.release(ReleaseWhy::Drained)),
            Stop::Cancel => Err(self.finish(Some(ends::cancelled()))),
            Stop::TimedOut => Err(self.finish(Some(ends::timed_out()))),
            Stop::Lost => Err(Box::new(RunEnd::Lost)),
        }
    }

    /// Waits, unless it is told to stop at once; a suspension waits for the turn's end.
    async fn wait(&mut self, pause: Duration) -> Result<(), Over> {
        let mut stop = self.stop.clone();
        let at_once = |stop: &Stop| !matches!(stop, Stop::Continue | Stop::Suspend);
        let clock = self.script.clock.clone();
        futures::select_biased! {
            told = stop.wait_for(at_once).fuse() => drop(told),
            () = clock.sleep(pause).fuse() => return Ok(()),
        }
        if !self.plan.overrun.is_zero() {
            clock.sleep(self.plan.overrun).await;
        }
        self.stopped()
    }

    async fn turn(&mut self) -> Result<(), Over> {
        let done = self.journal().turns;
        if self.plan.hangs_after == Some(done) {
            self.script.counts.add("run hangs");
            self.wait(Duration::from_hours(24)).await?;
        }
        self.wait(self.plan.turn).await?;
        if self.plan.panics_after == Some(done) {
            self.script.counts.add("run panics");
            std::panic::resume_unwind(Box::new("scripted"));
        }
        self.script.truth.spent(&self.job.task, self.plan.tokens);
        // A run whose disk is full says all the same what it spent.
        self.unwritten = self.plan.tokens;
        let spent = self.spent();
        self.write(|journal| {
            journal.turns += 1;
            journal.tokens = spent;
        })?;
        self.unwritten = 0;
        self.turns_here += 1;
        let turn = i64::try_from(done + 1).unwrap_or(i64::MAX);
        self.progress.send_replace(Progress {
            stage: Some(RunStage::Model),
            turn,
            tokens: turn * 1000,
            last_progress: Some(self.script.clock.wall()),
        });
        if self.plan.fails_after == Some(done) {
            return Err(self.release(ends::infrastructure("the model server is away")));
        }
        self.stopped()
    }
}
