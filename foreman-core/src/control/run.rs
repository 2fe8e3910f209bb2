//! One run on a node: claim it, have it supervised, deliver its end.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::FutureExt;
use tokio::sync::watch;

use super::deliver::{deliver, failed};
use super::plan_tasks::REFUSED_REASON;
use super::serving::Refusal;
use super::supervise::{show_progress, supervise};
use crate::bugs::{self, Bug};
use crate::fleet::registrar::Registrar;
use crate::model::agent::Agent;
use crate::model::agentic_task::{AgenticTask, AttemptEnd, AttemptRecord, TaskPhase};
use crate::model::fleet_node::{FleetNode, NodePhase};
use crate::model::ids::{Attempt, Fence, Key};
use crate::model::object::Object;
use crate::model::outcome::FailureReason;
use crate::model::shared::LocalObjectReference;
use crate::model::time::WallTime;
use crate::ports::clock::Clock;
use crate::ports::executor::{Executor, Job, Progress, RunEnd};
use crate::ports::recorder::Recorder;
use crate::ports::store::{Expect, StoreError, Stores};
use crate::task::attempts::Closed;
use crate::task::writes::Release;
use crate::task::{budget, claim, writes};
use crate::timing::{STORE_RETRY_MAX, STORE_RETRY_MIN};

/// What all runs of a node share.
pub(super) struct RunContext {
    pub(super) stores: Stores,
    pub(super) registrar: Arc<Registrar>,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) recorder: Arc<dyn Recorder>,
    pub(super) drain_deadline: Duration,
    /// What the node's object told of the life before this one.
    pub(super) before: OnceLock<Before>,
}

/// What the life of the agent before this one left on the node's object.
#[derive(Debug)]
pub(super) struct Before {
    session: Option<String>,
    /// It said goodbye: what it left behind is no fault of the work.
    goodbye: bool,
    /// When it was heard last.
    heard: Option<WallTime>,
    /// The turns that its runs had reached then, by uid.
    turns: BTreeMap<String, i64>,
}

impl Before {
    pub(super) fn of(node: &Object<FleetNode>) -> Self {
        let runs = node.status.runs.iter();
        Self {
            session: node.status.session.clone(),
            goodbye: said_goodbye(node),
            heard: node.status.last_heartbeat_time,
            turns: runs.filter_map(|run| Some((run.uid.clone()?, run.turn?))).collect(),
        }
    }
}

/// Whether the last life of this node's agent left in good order. A node that drains by its spec shows
/// the same phase while its agent lives.
pub(super) fn said_goodbye(node: &Object<FleetNode>) -> bool {
    let phase = node.status.phase.as_ref();
    phase.is_some_and(|phase| phase.is(NodePhase::Draining)) && node.spec.drain.is_none()
}

/// The task as the watch last showed it; `None` = it left this node or was deleted.
pub(super) type Sight = watch::Receiver<Option<Arc<Object<AgenticTask>>>>;

/// One task that is placed here.
pub(super) struct Run {
    pub(super) context: Arc<RunContext>,
    pub(super) task: Object<AgenticTask>,
    pub(super) seen: Sight,
    pub(super) hand_over: watch::Receiver<bool>,
}

/// What became of a run's try.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    /// Whether to try the same version of the task again.
    pub(super) again: bool,
    /// The attempt that was held.
    pub(super) claimed: Option<Attempt>,
}

impl Run {
    /// Gives the placement back unclaimed. A claim of ours that was done after we gave it up (its
    /// answer never came) goes back with it, unrun.
    pub(super) async fn refuse(self, refusal: &Refusal) -> Tried {
        let registrar = &self.context.registrar;
        // The operator may know better than the last beat: a drain that is over, slots that were added.
        if refusal.by_order && registrar.look().await.is_ok_and(|news| news) {
            return Tried { again: true, claimed: None };
        }
        let release = Release {
            ended: AttemptEnd::Refused,
            reason: REFUSED_REASON,
            message: format!("refused by {}: {}", registrar.identity().name, refusal.why),
            waiting: refusal.waiting,
            usage: None,
            checkpoint: None,
            known: None,
        };
        let mut task = self.task.clone();
        loop {
            match self.give_back(&task, &release).await {
                Ok(()) => return Tried::default(),
                Err(StoreError::Conflict) => match self.late_claim().await {
                    Ok(Some((late, _))) => task = late,
                    Ok(None) => return Tried::default(),
                    Err(error) => return self.tried(&error).await,
                },
                Err(error) => return self.tried(&error).await,
            }
        }
    }

    /// Claims the task and runs it to its end. A claim that somebody else was faster with is left.
    pub(super) async fn run(self) -> Tried {
        let key = self.task.key();
        let (task, fence) = match self.obtain().await {
            Ok(held) => held,
            Err(tried) => return tried,
        };
        let claimed = Some(fence.attempt);
        // At once: a run that no heartbeat shows is taken for lost.
        show_progress(&self.context.registrar, &task, &fence, &Progress::default());
        let end = match self.agent_object(&task).await {
            Ok(agent) => {
                let job = Job { task, agent, fence: fence.clone() };
                supervise(&self.context, job, self.seen, self.hand_over).await
            }
            Err(end) => *end,
        };
        deliver(&self.context, &key, &fence, end).await;
        self.context.registrar.set_state(|state| {
            state.runs.retain(|run| run.uid.as_deref() != Some(fence.uid.as_str()));
        });
        Tried { again: false, claimed }
    }

    /// The task as this session holds it, and by what; else what to do about it instead.
    async fn obtain(&self) -> Result<(Object<AgenticTask>, Fence), Tried> {
        let key = self.task.key();
        let adopting = self.task.status.known_phase() != Some(TaskPhase::Scheduled);
        if adopting && self.shows_my_session() {
            return match self.late_claim().await {
                Ok(Some((task, fence))) => {
                    tracing::info!(task = %key, attempt = fence.attempt, "a late claim is taken up");
                    Ok((task, fence))
                }
                Ok(None) => Err(Tried::default()),
                Err(error) => Err(self.not_obtained(&error).await),
            };
        }
        if adopting {
            self.speaks_for_the_node().await?;
        }
        let known = self.highest_attempt().await;
        if adopting && known == 0 {
            return Err(self.hand_back().await);
        }
        let (task, fence) = match self.claim(known).await {
            Ok(claimed) => claimed,
            Err(error) => return Err(self.not_obtained(&error).await),
        };
        tracing::info!(task = %key, attempt = fence.attempt, adopting, "claimed");
        Ok((task, fence))
    }

    async fn not_obtained(&self, error: &StoreError) -> Tried {
        tracing::info!(task = %self.task.key(), %error, "the task was not claimed");
        self.tried(error).await
    }

    /// What became of a try that the store ended so.
    async fn tried(&self, error: &StoreError) -> Tried {
        Tried { again: self.again_after(error).await, claimed: None }
    }

    /// A claim of another session is one of an earlier life only if this life still speaks for the
    /// node: to an agent that was replaced and has not heard of it, its successor's look the same.
    async fn speaks_for_the_node(&self) -> Result<(), Tried> {
        match self.context.registrar.is_superseded().await {
            Ok(false) => Ok(()),
            Ok(true) => {
                tracing::warn!(task = %self.task.key(), "held by the session that replaced this one");
                Err(Tried::default())
            }
            Err(error) => Err(self.not_obtained(&error).await),
        }
    }

    fn shows_my_session(&self) -> bool {
        self.task.status.session.as_deref() == Some(self.context.registrar.session().as_str())
    }

    /// A claim that this session made and knows nothing of, because its answer never came and a read
    /// did not show it yet: as a fresh read shows it now, with the fence that it has.
    async fn late_claim(&self) -> Result<Option<(Object<AgenticTask>, Fence)>, StoreError> {
        let Some(found) = self.read_until_answered().await? else { return Ok(None) };
        let registrar = &self.context.registrar;
        let (Some(attempt), Some(claimed_at)) = (found.status.attempt, found.status.claimed_at)
        else {
            return Ok(None);
        };
        let fence = Fence {
            uid: self.task.meta.uid.clone(),
            attempt,
            session: registrar.session().clone(),
            node: registrar.identity().name.clone(),
            claimed_at,
        };
        let mine = claim::holds(&found, &fence).is_ok();
        Ok(mine.then_some((found, fence)))
    }

    async fn highest_attempt(&self) -> Attempt {
        let asked = async { self.context.executor.highest_attempt(&self.task.meta.uid).await };
        let answer = AssertUnwindSafe(asked).catch_unwind().await;
        answer.unwrap_or_else(|_| {
            tracing::error!(task = %self.task.key(), "the executor panicked when asked for a journal");
            0
        })
    }

    /// Whether a write may be tried again, after a pause.
    async fn again_after(&self, error: &StoreError) -> bool {
        let away = may_pass(error);
        if away {
            self.context.clock.sleep(STORE_RETRY_MIN).await;
        }
        away
    }

    /// A task that ran here in an earlier life and left nothing behind goes back.
    async fn hand_back(&self) -> Tried {
        let release = Release {
            ended: AttemptEnd::HandedBack,
            reason: "AgentRestartRecovery",
            message: "the agent restarted and holds no journal of this run".to_owned(),
            waiting: None,
            // What the life before spent went with its journal.
            usage: budget::unknown_usage(&self.task.status),
            checkpoint: None,
            known: Some(self.life_before(AttemptEnd::HandedBack, self.context.clock.wall())),
        };
        match self.give_back(&self.task, &release).await {
            Ok(()) => Tried::default(),
            Err(error) => self.tried(&error).await,
        }
    }

    /// How the claim of an earlier life ended that this one takes up: when it was heard last, as far as
    /// that is known, so that the time a machine was off does not count as running time.
    fn life_before(&self, ended: AttemptEnd, now: WallTime) -> Closed {
        let status = &self.task.status;
        let before = self.context.before.get();
        let before = before.filter(|it| it.session.is_some() && it.session == status.session);
        let Some(before) = before else {
            return Closed { ended, at: now, turn: None };
        };
        Closed {
            ended: if before.goodbye { AttemptEnd::Drained } else { ended },
            at: before.heard.map_or(now, |heard| heard.min(now)),
            turn: before.turns.get(self.task.meta.uid.as_str()).copied(),
        }
    }

    /// Writes a release of a task that this life does not run; whoever was faster is left alone.
    async fn give_back(
        &self,
        task: &Object<AgenticTask>,
        release: &Release,
    ) -> Result<(), StoreError> {
        let key = task.key();
        let change = match writes::release(task, release, self.context.clock.wall()) {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(task = %key, %error, "nothing is written");
                return Ok(());
            }
        };
        let expect = Expect::At(task.revision().clone());
        let written = self.context.stores.tasks.patch(&key, change, expect).await;
        written.map(drop).inspect_err(|error| {
            tracing::warn!(task = %key, %error, "the task was not handed back");
        })
    }

    async fn claim(&self, known: Attempt) -> Result<(Object<AgenticTask>, Fence), StoreError> {
        let registrar = &self.context.registrar;
        let status = &self.task.status;
        let attempt = status.attempt.unwrap_or(0).max(known).saturating_add(1);
        let now = self.context.clock.wall();
        let mut claimed_at = now.max(earliest_claim(&self.task));
        if bugs::on(Bug::ClaimTimesAlike) {
            claimed_at = now;
        }
        let (session, node) = (registrar.session(), &registrar.identity().name);
        let before = self.life_before(AttemptEnd::Adopted, now);
        let change = writes::claim(&self.task, attempt, session, node, before, (claimed_at, now))
            .map_err(|error| StoreError::Denied { reason: error.to_string() })?;
        let mut expect = Expect::At(self.task.revision().clone());
        if bugs::on(Bug::ClaimUnconditional) {
            expect = Expect::Any;
        }
        let tasks = &self.context.stores.tasks;
        let claimed = match tasks.patch(&self.task.key(), change, expect).await {
            // An earlier try of ours may have been done although its answer never came.
            Err(StoreError::Uncertain { .. }) if bugs::on(Bug::UncertainClaimGranted) => {
                self.task.clone()
            }
            Err(error @ (StoreError::Uncertain { .. } | StoreError::Conflict)) => {
                let found = self.read_until_answered().await?.ok_or(StoreError::NotFound)?;
                let mine = found.meta.uid == self.task.meta.uid
                    && found.status.session.as_deref() == Some(session.as_str())
                    && found.status.attempt == Some(attempt);
                if !mine {
                    return Err(error);
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
            claimed_at: claimed.status.claimed_at.unwrap_or(claimed_at),
        };
        Ok((claimed, fence))
    }

    /// Whether a claim was granted must be known before anything else: else the task would be held
    /// by this session and run by nobody.
    async fn read_until_answered(&self) -> Result<Option<Object<AgenticTask>>, StoreError> {
        let mut pause = STORE_RETRY_MIN;
        loop {
            match self.context.stores.tasks.get(&self.task.key()).await {
                Err(error) if may_pass(&error) => {
                    tracing::warn!(task = %self.task.key(), %error, "the claim is not known yet");
                }
                answer => return answer,
            }
            self.context.clock.sleep(pause).await;
            pause = (pause * 2).min(STORE_RETRY_MAX);
        }
    }

    /// The Agent that the task names. A store that is away is waited for: the task has done nothing
    /// wrong.
    async fn agent_object(
        &self,
        task: &Object<AgenticTask>,
    ) -> Result<Option<Object<Agent>>, Box<RunEnd>> {
        let Some(name) = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named) else {
            return Ok(None);
        };
        let key = Key { namespace: task.meta.namespace.clone(), name: name.to_owned() };
        let mut pause = STORE_RETRY_MIN;
        loop {
            let error = match self.context.stores.agents.get(&key).await {
                Ok(Some(agent)) => return Ok(Some(agent)),
                Ok(None) => {
                    let message = format!("Agent {name} is gone");
                    return Err(Box::new(failed(FailureReason::AgentNotFound, message)));
                }
                Err(error) => error,
            };
            if !may_pass(&error) {
                let message = format!("Agent {name} could not be read: {error}");
                return Err(Box::new(failed(FailureReason::InfrastructureError, message)));
            }
            tracing::warn!(agent = %key, %error, "the Agent could not be read, trying again");
            self.context.clock.sleep(pause).await;
            pause = (pause * 2).min(STORE_RETRY_MAX);
        }
    }
}

/// `claimedAt` differs from every earlier one by a second at least, so that it alone tells claims
/// apart. It is cleared when a claim ends; what it was at most follows from when that claim and those
/// before it began by their holders' clocks.
fn earliest_claim(task: &Object<AgenticTask>) -> WallTime {
    let seconds_after = |record: &AttemptRecord, later: usize| {
        let later = u64::try_from(later).unwrap_or(u64::MAX);
        record.started_at.map(|began| began.plus(Duration::from_secs(later)))
    };
    let newest_first = task.status.attempts.iter().rev();
    let ended = newest_first.zip(1..).filter_map(|(record, later)| seconds_after(record, later));
    let held = task.status.claimed_at.map(|at| at.plus(Duration::from_secs(1)));
    ended.chain(held).max().unwrap_or(WallTime::from_unix_seconds(0))
}

/// Whether the same call may succeed later.
pub(super) fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Uncertain { .. })
}
