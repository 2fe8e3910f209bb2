//! A failure of the machinery, and whether another try may mend it.

use foreman_core::model::outcome::Infrastructure;
use foreman_core::ports::executor::ReleaseWhy;

use super::chain;
use super::end::Conclusion;
use crate::git::GitError;
use crate::journal::JournalError;
use crate::model_client::ModelError;
use crate::turn::LoopFault;
use crate::workspace::WorkspaceError;

/// A failure of the machinery, with what it is called on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(super) kind: Infrastructure,
    pub(super) message: String,
    /// Whether no further try can mend it: the task ends. Else the claim is given back, and whoever
    /// counts the tries decides.
    pub(super) lasting: bool,
}

impl Fault {
    pub(super) fn new(kind: Infrastructure, error: &dyn std::error::Error) -> Self {
        Self::saying(kind, chain(error))
    }

    pub(super) fn saying(kind: Infrastructure, message: impl Into<String>) -> Self {
        let lasting = match kind {
            Infrastructure::PushRefused
            | Infrastructure::ModelContextTruncated
            | Infrastructure::Cancelled
            | Infrastructure::TimedOut => true,
            Infrastructure::Ok
            | Infrastructure::NodeLost
            | Infrastructure::SandboxUnavailable
            | Infrastructure::ModelUnavailable
            | Infrastructure::GitUnavailable
            | Infrastructure::Error => false,
        };
        Self { kind, message: message.into(), lasting }
    }

    /// The same, as one that no further try can mend.
    #[must_use]
    pub(super) fn for_good(self) -> Self {
        Self { lasting: true, ..self }
    }

    fn lasting_if(self, lasting: bool) -> Self {
        Self { lasting: self.lasting || lasting, ..self }
    }

    /// What the claim is given back for, with what the run came to by then; absent when the task ends
    /// by it.
    pub(super) fn given_back(&self, conclusion: &Conclusion) -> Option<ReleaseWhy> {
        let outcome = conclusion.outcome();
        let why = || ReleaseWhy::Infrastructure { outcome, message: self.message.clone() };
        (!self.lasting).then(why)
    }
}

impl From<&WorkspaceError> for Fault {
    fn from(error: &WorkspaceError) -> Self {
        let lasting = match error {
            WorkspaceError::Git { source, .. } => git_lasts(source),
            WorkspaceError::Empty { .. }
            | WorkspaceError::NoBranch { .. }
            | WorkspaceError::Moved { .. }
            | WorkspaceError::TooLarge { .. }
            | WorkspaceError::NestedRepository { .. }
            | WorkspaceError::NoChanges { .. }
            | WorkspaceError::BadName { .. } => true,
            WorkspaceError::MirrorBusy { .. } | WorkspaceError::Io { .. } => false,
        };
        Self::new(Infrastructure::GitUnavailable, error).lasting_if(lasting)
    }
}

impl From<&JournalError> for Fault {
    fn from(error: &JournalError) -> Self {
        let lasting = match error {
            JournalError::Newer { .. }
            | JournalError::Parent { .. }
            | JournalError::BadKey { .. }
            | JournalError::RecordTooLarge { .. } => true,
            JournalError::Io { .. }
            | JournalError::Full { .. }
            | JournalError::Exists { .. }
            | JournalError::NoHeader { .. } => false,
        };
        Self::new(Infrastructure::Error, error).lasting_if(lasting)
    }
}

impl From<&LoopFault> for Fault {
    fn from(error: &LoopFault) -> Self {
        let (kind, lasting) = match error {
            LoopFault::Model(ModelError::ContextTruncated { .. }) => {
                (Infrastructure::ModelContextTruncated, true)
            }
            LoopFault::Model(error) => (Infrastructure::ModelUnavailable, model_lasts(error)),
            LoopFault::Sandbox { .. } => (Infrastructure::SandboxUnavailable, false),
            LoopFault::Checkpoint { .. } => (Infrastructure::GitUnavailable, false),
            LoopFault::Journal(error) => {
                return Self::from(error);
            }
            LoopFault::Judgement { .. } => (Infrastructure::Error, false),
        };
        Self::new(kind, error).lasting_if(lasting)
    }
}

/// Whether the server said no: a credential, a name or a setting must be put right by a person first.
fn git_lasts(error: &GitError) -> bool {
    match error {
        GitError::NotFound { .. }
        | GitError::Denied { .. }
        | GitError::Rejected { .. }
        | GitError::Invalid { .. } => true,
        GitError::Missing { .. }
        | GitError::Unreachable { .. }
        | GitError::TimedOut { .. }
        | GitError::Cancelled { .. }
        | GitError::NotAllowed { .. }
        | GitError::TooMuchOutput { .. }
        | GitError::Failed { .. }
        | GitError::Io { .. } => false,
    }
}

fn model_lasts(error: &ModelError) -> bool {
    match error {
        ModelError::Unauthorized { .. }
        | ModelError::Rejected { .. }
        | ModelError::ContextTooLong { .. }
        | ModelError::ContextTruncated { .. }
        | ModelError::NotChat { .. } => true,
        ModelError::Cancelled | ModelError::Unavailable { .. } | ModelError::TimedOut { .. } => {
            false
        }
    }
}

/// Whether the remote said no, or could not be asked.
pub(super) fn refused_or_broken(error: &GitError) -> Infrastructure {
    let refused = matches!(
        error,
        GitError::Denied { .. } | GitError::NotFound { .. } | GitError::Rejected { .. }
    );
    if refused { Infrastructure::PushRefused } else { Infrastructure::GitUnavailable }
}
