//! Before a claim is taken back or a node is judged: one fresh read of the node must still show what
//! the decision rests on, because a watch may be late.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};

use super::backoff::Backoff;
use super::memory::Memory;
use super::mirror::Reread;
use super::reconciler::{Done, Reconciler, World};
use super::write::{Target, Write};
use crate::bugs::{self, Bug};
use crate::model::Uid;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Attempt, Key};
use crate::model::object::Object;
use crate::model::time::{AwakeTime, WallTime};
use crate::ports::store::StoreError;

/// What a fresh read of a node must show, else the write that rests on it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirm {
    /// The node.
    pub(super) node: Key,
    /// What it must show.
    pub(super) shows: Shows,
    /// Whether the store could not be read a while ago: then this read only tells that it can be heard
    /// again, and no silence from before counts.
    pub(super) only_look: bool,
}

impl Confirm {
    pub(super) fn new(node: Key, shows: Shows) -> Self {
        Self { node, shows, only_look: false }
    }
}

/// See [`Confirm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shows {
    /// This heartbeat and this session still.
    Silence { heartbeat: Option<WallTime>, session: Option<String> },
    /// There is no such node.
    Absent,
    /// Somebody speaks for it who is not this session.
    OtherSessionThan(String),
    /// This session speaks for it, and the claim is not among its runs.
    NotRunning { session: String, uid: Uid, attempt: Attempt },
}

impl Shows {
    /// What a node shows whose silence is to be confirmed.
    pub(super) fn silence_of(node: &Object<FleetNode>) -> Self {
        Self::Silence {
            heartbeat: node.status.last_heartbeat_time,
            session: node.status.session.clone(),
        }
    }

    /// Whether what was found agrees.
    pub(super) fn agrees(&self, found: Option<&Object<FleetNode>>) -> bool {
        let Some(node) = found else {
            // A node that is gone speaks even less.
            return matches!(self, Self::Absent | Self::Silence { .. });
        };
        let status = &node.status;
        match self {
            Self::Silence { heartbeat, session } => {
                status.last_heartbeat_time == *heartbeat && status.session == *session
            }
            Self::Absent => false,
            Self::OtherSessionThan(session) => {
                status.session.as_ref().is_some_and(|now| now != session)
                    || (status.session.is_none() && status.last_heartbeat_time.is_some())
            }
            Self::NotRunning { session, uid, attempt } => {
                status.session.as_ref() == Some(session) && !shows_run(node, uid, *attempt)
            }
        }
    }
}

/// Whether the node's last heartbeat shows that claim among its runs.
pub(super) fn shows_run(node: &Object<FleetNode>, uid: &Uid, attempt: Attempt) -> bool {
    node.status.runs.iter().any(|run| {
        run.uid.as_deref() == Some(uid.as_str()) && run.attempt.is_none_or(|shown| shown == attempt)
    })
}

/// A write that was not sent, because a fresh read of its node did not confirm it.
pub(super) struct Unconfirmed {
    node: Key,
    target: Target,
    why: Why,
}

enum Why {
    /// The node shows something else, or it was only looked at: decide again on that.
    Differs(Reread<FleetNode>),
    /// It could not be read; the store may have asked to be left alone for so long.
    Unread { retry_after: Option<Duration> },
}

impl Unconfirmed {
    /// Nobody answered in time.
    pub(super) fn unread(node: Key, target: Target) -> Self {
        Self { node, target, why: Why::Unread { retry_after: None } }
    }

    /// Whether the store asked to be left alone.
    pub(super) fn asks_for_time(&self) -> bool {
        matches!(self.why, Why::Unread { retry_after: Some(_) })
    }

    /// Folds it into what the loop knows.
    pub(super) fn settle(
        self,
        world: &mut World,
        memory: &mut Memory,
        away: &mut Backoff,
        now: AwakeTime,
    ) {
        let found = match self.why {
            Why::Differs(found) => {
                let _news: bool = memory.hears_of_the_store(now);
                found
            }
            Why::Unread { retry_after } => {
                // Who cannot be asked cannot be heard either.
                memory.cannot_ask(now);
                away.failed(now, retry_after);
                Reread::Unknown
            }
        };
        world.nodes.read_done(&self.node, found);
        memory.doubts(self.node, now);
        match self.target {
            Target::Task(key) => world.tasks.write_failed(&key, Reread::Unknown),
            Target::Workload(key) => world.workloads.write_failed(&key, Reread::Unknown),
            Target::Node(key) => world.nodes.write_failed(&key, Reread::Unknown),
        }
    }
}

impl Reconciler {
    /// Carries out `then` if a fresh read of the node confirms it. Boxed, because `then` may be any
    /// write.
    pub(super) fn carry_out_if(&self, confirm: Confirm, then: Write) -> BoxFuture<'_, Done> {
        let Confirm { node, shows, only_look } = confirm;
        async move {
            if bugs::on(Bug::NoConfirmingRead) {
                let then = Box::new(self.carry_out(then).await);
                return Done::Confirmed { node, then };
            }
            let why = match self.stores.nodes.get(&node).await {
                Ok(found) if !only_look && shows.agrees(found.as_ref()) => {
                    let then = Box::new(self.carry_out(then).await);
                    return Done::Confirmed { node, then };
                }
                Ok(Some(found)) => Why::Differs(Reread::There(Box::new(found))),
                Ok(None) => Why::Differs(Reread::Absent),
                Err(StoreError::Unavailable { retry_after, reason }) => {
                    tracing::warn!(%node, reason, "the node could not be read, nothing is written");
                    Why::Unread { retry_after }
                }
                Err(error) => {
                    tracing::warn!(%node, %error, "the node could not be read, nothing is written");
                    Why::Differs(Reread::Unknown)
                }
            };
            Done::Unconfirmed(Unconfirmed { node, target: then.target(), why })
        }
        .boxed()
    }
}
