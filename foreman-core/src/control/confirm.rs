//! Before a claim is taken back or a node is judged: one fresh read of the node must still show what
//! the decision rests on, because a watch may be late.

use std::time::Duration;

use super::mirror::Reread;
use super::reconciler::Reconciler;
use crate::model::Uid;
use crate::model::fleet_node::FleetNode;
use crate::model::ids::{Attempt, Key};
use crate::model::object::Object;
use crate::model::time::WallTime;
use crate::ports::store::StoreError;

/// What a fresh read of a node must show, else the write that rests on it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirm {
    /// The node.
    pub(super) node: Key,
    /// What it must show.
    pub(super) shows: Shows,
}

/// See [`Confirm`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(dead_code, reason = "the rules that need it come next")]
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
    #[expect(dead_code, reason = "the rules that need it come next")]
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

/// What a fresh read of the node came to.
pub(super) enum Confirmed {
    /// It shows what the decision rests on.
    Yes,
    /// It shows something else: decide again on that.
    No(Reread<FleetNode>),
    /// It could not be read: nothing is known of any node's silence.
    Unread { retry_after: Option<Duration> },
}

impl Reconciler {
    /// Reads the node afresh.
    pub(super) async fn confirm(&self, confirm: &Confirm) -> Confirmed {
        match self.stores.nodes.get(&confirm.node).await {
            Ok(found) if confirm.shows.agrees(found.as_ref()) => Confirmed::Yes,
            Ok(Some(found)) => Confirmed::No(Reread::There(Box::new(found))),
            Ok(None) => Confirmed::No(Reread::Absent),
            Err(StoreError::Unavailable { retry_after, reason }) => {
                tracing::warn!(node = %confirm.node, reason, "the node could not be read");
                Confirmed::Unread { retry_after }
            }
            Err(error) => {
                tracing::warn!(node = %confirm.node, %error, "the node could not be read");
                Confirmed::Unread { retry_after: None }
            }
        }
    }
}
