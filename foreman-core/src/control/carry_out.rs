//! Sends what was decided to the store, and says what its answer means.

use futures::future::FutureExt;

use super::answer::{Answer, not_read};
use super::confirm::Unconfirmed;
use super::elector::Leadership;
use super::mirror::Reread;
use super::reconciler::Reconciler;
use super::view::Done;
use super::write::{Target, Write};
use crate::bugs::{self, Bug};
use crate::model::Uid;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Key, Revision};
use crate::model::object::{Kind, Object};
use crate::ports::recorder::{Event, EventKind};
use crate::ports::store::{Change, Expect, Store, StoreError};
use crate::timing::LEADER_WRITE;

/// What is left of a write whose answer is no longer waited for.
struct GivenUp {
    target: Target,
    /// The workload whose child it was to make.
    owner: Option<Uid>,
    /// The node that was to be read before.
    confirm: Option<Key>,
}

impl GivenUp {
    fn of(write: &Write) -> Self {
        let (mut inner, mut confirm) = (write, None);
        while let Write::Confirmed { confirm: node, then } = inner {
            confirm = Some(node.node.clone());
            inner = then;
        }
        let owner = match inner {
            Write::Create { owner, .. } => Some(owner.clone()),
            Write::Task { .. }
            | Write::Workload { .. }
            | Write::DeleteStray { .. }
            | Write::DeleteWorkload { .. }
            | Write::Node { .. }
            | Write::DeleteNode { .. }
            | Write::Confirmed { .. } => None,
        };
        Self { target: inner.target(), owner, confirm }
    }
}

impl Reconciler {
    /// Carries out a write as the leader, where there are others: not at all once the leadership is
    /// over, and within its deadline. After that a fresh read decides.
    pub(super) async fn carry_out_as(&self, leadership: Option<&Leadership>, write: Write) -> Done {
        let Some(leadership) = leadership else { return self.carry_out(write).await };
        let left = GivenUp::of(&write);
        let write = self.carry_out(write).boxed();
        match leadership.in_time(write).await {
            Some(done) => done,
            None => self.given_up(left).await,
        }
    }

    async fn given_up(&self, left: GivenUp) -> Done {
        let GivenUp { target, owner, confirm } = left;
        let left_target = target.clone();
        let done = match (target, owner) {
            (Target::Task(key), Some(owner)) => {
                let answer = self.read_again(&*self.stores.tasks, &key).await;
                Done::Created(key, owner, answer)
            }
            (Target::Task(key), None) => {
                let answer = self.read_again(&*self.stores.tasks, &key).await;
                Done::Task(key, answer)
            }
            (Target::Workload(key), _) => {
                let answer = self.read_again(&*self.stores.workloads, &key).await;
                Done::Workload(key, answer)
            }
            (Target::Node(key), _) => {
                let answer = self.read_again(&*self.stores.nodes, &key).await;
                Done::Node(key, answer)
            }
        };
        match confirm {
            // Whether the node could be read is not known.
            Some(node) if done.is_unanswered() => {
                Done::Unconfirmed(Unconfirmed::unread(node, left_target))
            }
            Some(node) => Done::Confirmed { node, then: Box::new(done) },
            None => done,
        }
    }

    /// What a write came to that had no answer in time.
    async fn read_again<K: Kind, S: Store<K> + ?Sized>(&self, store: &S, key: &Key) -> Answer<K> {
        tracing::warn!(kind = K::NAMES.kind, %key, "a write had no answer within {LEADER_WRITE:?}");
        let reason = format!("no answer within {LEADER_WRITE:?}");
        let read = self.answer(store, key, Err(StoreError::Uncertain { reason })).fuse();
        let alarm = self.clock.sleep(LEADER_WRITE).fuse();
        futures::pin_mut!(read, alarm);
        futures::select_biased! {
            answer = read => answer,
            () = alarm => Answer::Later(None),
        }
    }

    pub(super) async fn carry_out(&self, write: Write) -> Done {
        match write {
            Write::Task { key, revision, change, event, urgency: _ } => {
                let store = &*self.stores.tasks;
                let answer = self.patch(store, &key, revision, change, event).await;
                Done::Task(key, answer)
            }
            Write::Workload { key, revision, change, events, urgency: _ } => {
                let store = &*self.stores.workloads;
                let answer = self.patch(store, &key, revision, change, events).await;
                Done::Workload(key, answer)
            }
            Write::DeleteWorkload { key, uid, revision } => {
                let store = &*self.stores.workloads;
                let answer = match store.delete(&key, &uid, Expect::At(revision)).await {
                    Ok(()) => Answer::Lost(Reread::Absent),
                    Err(error) => self.answer(store, &key, Err(error)).await,
                };
                Done::Workload(key, answer)
            }
            Write::DeleteStray { workload, task } => {
                let key = task.key();
                Done::Task(key, self.delete_stray(&workload, task).await)
            }
            Write::Create { workload, owner, new } => {
                let key = new.key.clone();
                let answer = self.create_child(&workload, &owner, *new).await;
                Done::Created(key, owner, answer)
            }
            Write::Node { key, revision, change, event, urgency: _ } => {
                let answer = self.patch(&*self.stores.nodes, &key, revision, change, event).await;
                Done::Node(key, answer)
            }
            Write::DeleteNode { key, uid, revision, event } => {
                let answer = self.delete_node(&key, &uid, revision, event).await;
                Done::Node(key, answer)
            }
            Write::Confirmed { confirm, then } => self.carry_out_if(confirm, *then).await,
        }
    }

    async fn delete_node(
        &self,
        key: &Key,
        uid: &Uid,
        revision: Revision,
        event: Option<Event>,
    ) -> Answer<FleetNode> {
        let store = &*self.stores.nodes;
        match store.delete(key, uid, Expect::At(revision)).await {
            Ok(()) => {
                if let Some(event) = event {
                    self.recorder.record(event);
                }
                Answer::Lost(Reread::Absent)
            }
            Err(error) => self.answer(store, key, Err(error)).await,
        }
    }

    async fn patch<K: Kind, S: Store<K> + ?Sized>(
        &self,
        store: &S,
        key: &Key,
        revision: Revision,
        change: Change<K>,
        events: impl IntoIterator<Item = Event>,
    ) -> Answer<K> {
        let answer = store.patch(key, change, Expect::At(revision)).await;
        let answer = self.answer(store, key, answer).await;
        if matches!(answer, Answer::Written(_)) {
            events.into_iter().for_each(|event| self.recorder.record(event));
        }
        answer
    }

    /// What an answer means for us. After a lost race or an unknown end, a fresh read decides.
    pub(super) async fn answer<K: Kind, S: Store<K> + ?Sized>(
        &self,
        store: &S,
        key: &Key,
        answer: Result<Object<K>, StoreError>,
    ) -> Answer<K> {
        match answer {
            Ok(object) => Answer::Written(Box::new(object)),
            Err(error @ StoreError::Uncertain { .. })
                if bugs::on(Bug::UncertainPlacementFailed) =>
            {
                Answer::Refused(error)
            }
            Err(
                StoreError::Conflict
                | StoreError::NotFound
                | StoreError::AlreadyExists { .. }
                | StoreError::Uncertain { .. },
            ) => match store.get(key).await {
                Ok(Some(found)) => Answer::Lost(Reread::There(Box::new(found))),
                Ok(None) => Answer::Lost(Reread::Absent),
                Err(error) => not_read(key, error),
            },
            Err(
                error @ (StoreError::Invalid { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Denied { .. }
                | StoreError::Unreadable { .. }),
            ) => {
                tracing::error!(kind = K::NAMES.kind, %key, %error, "a write was refused");
                self.recorder.record(Event {
                    kind: K::NAMES.kind,
                    key: key.clone(),
                    severity: EventKind::Warning,
                    reason: "WriteRefused",
                    message: format!("the store refused a write and is asked again later: {error}"),
                });
                Answer::Refused(error)
            }
            Err(StoreError::Unavailable { reason, retry_after }) => {
                tracing::warn!(kind = K::NAMES.kind, %key, reason, "the store is away: writes wait");
                Answer::Later(retry_after)
            }
        }
    }
}
