//! What an agent does with the tasks on its node: which it claims, refuses, and runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::watch;

use super::mirror::Mirror;
use super::run::{Run, RunContext, Tried};
use crate::bugs::{self, Bug};
use crate::model::agentic_task::{AgenticTask, TaskPhase, WaitingReason};
use crate::model::ids::Attempt;
use crate::model::object::Object;
use crate::model::open::Open;
use crate::model::{Revision, Uid};
use crate::ports::store::StoreEvent;
use crate::schedule::order;
use crate::timing::CLAIM_DISK_GB_MIN;

pub(super) struct Handle {
    view: watch::Sender<Option<Arc<Object<AgenticTask>>>>,
}

pub(super) struct Serving<'a> {
    context: Arc<RunContext>,
    /// Whether runs are to be handed over.
    hand_over: watch::Sender<bool>,
    pub(super) tasks: Mirror<AgenticTask>,
    pub(super) runs: BTreeMap<Uid, Handle>,
    /// What was tried and held of each task: the mirror may show it still after the run has ended.
    handled: BTreeMap<Uid, Handled>,
    pub(super) futures: FuturesUnordered<BoxFuture<'a, Ended>>,
}

#[derive(Default)]
struct Handled {
    /// The version that was tried last.
    tried: Option<Revision>,
    /// The highest attempt that this life held: what shows it is no claim that we know nothing of.
    held: Attempt,
}

/// A run's future is over.
pub(super) struct Ended {
    uid: Uid,
    tried: Tried,
}

impl Serving<'_> {
    pub(super) fn new(context: Arc<RunContext>) -> Self {
        Self {
            context,
            hand_over: watch::channel(false).0,
            tasks: Mirror::default(),
            runs: BTreeMap::new(),
            handled: BTreeMap::new(),
            futures: FuturesUnordered::new(),
        }
    }

    pub(super) fn take(&mut self, event: StoreEvent<AgenticTask>) {
        match &event {
            StoreEvent::Upsert(task) => {
                if let Some(handle) = self.runs.get(&task.meta.uid) {
                    handle.view.send_replace(Some(Arc::new((**task).clone())));
                }
            }
            StoreEvent::Gone { uid, .. } => {
                self.handled.remove(uid);
                if let Some(handle) = self.runs.get(uid) {
                    handle.view.send_replace(None);
                }
            }
            StoreEvent::SyncEnd | StoreEvent::SyncStart | StoreEvent::Unreadable { .. } => {}
        }
        let resynced = matches!(event, StoreEvent::SyncEnd);
        self.tasks.apply(event);
        if resynced {
            self.forget_unseen();
        }
    }

    pub(super) fn ended(&mut self, ended: Ended) {
        let Ended { uid, tried } = ended;
        self.runs.remove(&uid);
        let Some(handled) = self.handled.get_mut(&uid) else { return };
        if tried.again {
            handled.tried = None;
        }
        handled.held = tried.claimed.unwrap_or(0).max(handled.held);
    }

    /// After a full reading: runs whose task was not seen have lost it.
    fn forget_unseen(&mut self) {
        let seen: BTreeSet<_> = self.tasks.objects.values().map(|task| &task.meta.uid).collect();
        for (uid, handle) in &self.runs {
            if !seen.contains(uid) {
                handle.view.send_replace(None);
            }
        }
        self.handled.retain(|uid, _| seen.contains(uid));
    }

    /// Tells all runs to hand over, or lets those that come next run on.
    pub(super) fn hand_over(&self, now: bool) {
        self.hand_over.send_if_modified(|told| std::mem::replace(told, now) != now);
    }

    /// Gives back what is placed here and does not run: placements, and claims of this session that
    /// were done after it gave them up.
    pub(super) fn refuse_all(&mut self, why: &str) {
        let session = self.context.registrar.session().as_str();
        let waiting: Vec<_> = self
            .tasks
            .objects
            .values()
            .filter(|task| self.is_due(task))
            // What an earlier life left stays its own: the next one adopts it.
            .filter(|task| {
                task.status.known_phase() == Some(TaskPhase::Scheduled)
                    || task.status.session.as_deref() == Some(session)
            })
            .cloned()
            .collect();
        for task in waiting {
            let refusal = Refusal { why: why.to_owned(), waiting: None, by_order: false };
            self.start(task, Some(refusal));
        }
    }

    fn is_due(&self, task: &Object<AgenticTask>) -> bool {
        let session = self.context.registrar.session().as_str();
        let handled = self.handled.get(&task.meta.uid).is_some_and(|handled| {
            let mine = task.status.session.as_deref() == Some(session);
            let known = task.status.attempt.unwrap_or(0) <= handled.held;
            handled.tried.as_ref() == Some(task.revision()) || (mine && known)
        });
        !handled && !self.runs.contains_key(&task.meta.uid) && to_be_run(task)
    }

    /// Claims what is placed here, as far as there is room, and refuses the rest. While the node
    /// drains only runs of an earlier life are taken up, to finish them or to hand them over.
    pub(super) fn start_runs(&mut self, draining: bool) {
        let registrar = self.context.registrar.clone();
        let session = registrar.session().as_str();
        let mut waiting: Vec<_> =
            self.tasks.objects.values().filter(|task| self.is_due(task)).collect();
        waiting.sort_by_key(|task| {
            let adopted = task.status.known_phase() != Some(TaskPhase::Scheduled);
            (!adopted, order::rank(&task.spec.kind), task.meta.creation_timestamp, task.key())
        });
        let slots = registrar.orders().borrow().slots();
        let slots = slots + usize::from(bugs::on(Bug::AgentSlotOffByOne) && slots > 0);
        let held = |task: &&Object<AgenticTask>| task.status.session.as_deref() == Some(session);
        let running = self.tasks.objects.values().filter(held).count();
        let disk_low = registrar.free_disk_gb().is_some_and(|gb| gb < CLAIM_DISK_GB_MIN);
        let mut starts = Vec::new();
        let mut room = slots.saturating_sub(self.runs.len());
        for task in waiting {
            let adopt = task.status.known_phase() != Some(TaskPhase::Scheduled);
            let refusal = if adopt {
                None
            } else if draining {
                Some(Refusal { why: "it is draining".to_owned(), waiting: None, by_order: true })
            } else if disk_low {
                Some(busy(format!("less than {CLAIM_DISK_GB_MIN} GiB of disk are free"), false))
            } else if slots == 0 {
                Some(busy("it takes no work (spec.slots is 0)".to_owned(), true))
            } else if room == 0 && running >= slots {
                Some(busy(format!("all {slots} slots are in use"), true))
            } else if room == 0 {
                continue;
            } else {
                None
            };
            room = room.saturating_sub(1);
            starts.push((task.clone(), refusal));
        }
        for (task, refusal) in starts {
            self.start(task, refusal);
        }
    }

    fn start(&mut self, task: Object<AgenticTask>, refusal: Option<Refusal>) {
        let uid = task.meta.uid.clone();
        let (view, seen) = watch::channel(Some(Arc::new(task.clone())));
        self.runs.insert(uid.clone(), Handle { view });
        self.handled.entry(uid.clone()).or_default().tried = Some(task.revision().clone());
        let hand_over = self.hand_over.subscribe();
        let run = Run { context: self.context.clone(), task, seen, hand_over };
        let future = async move {
            // Boxed: a run's future is large, and most of these are refusals or lost races.
            let tried = match refusal {
                Some(refusal) => run.refuse(&refusal).await,
                None => Box::pin(run.run()).await,
            };
            Ended { uid, tried }
        };
        self.futures.push(future.boxed());
    }
}

/// Why a placement is given back.
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) waiting: Option<WaitingReason>,
    /// Whether it rests on what people want of the node, which may have changed since the last beat.
    pub(super) by_order: bool,
}

fn busy(why: String, by_order: bool) -> Refusal {
    Refusal { why, waiting: Some(WaitingReason::NodesBusy), by_order }
}

/// Whether a task on this node that nothing here runs is to be run: newly placed, running under an
/// earlier session, or under this one by a claim that was done after it was given up.
fn to_be_run(task: &Object<AgenticTask>) -> bool {
    if task.meta.deletion_timestamp.is_some() {
        return false;
    }
    match task.status.phase.as_ref().and_then(Open::known) {
        Some(TaskPhase::Scheduled) => task.spec.cancel != Some(true),
        Some(TaskPhase::Running | TaskPhase::Verifying) => true,
        Some(TaskPhase::Pending | TaskPhase::Succeeded | TaskPhase::Failed) | None => false,
    }
}
