//! One part of a probe: its time limit, its last good value, and why a value is missing.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use foreman_core::ports::{CapabilityProbe, ProbeError};
use tokio::time::Instant;

use crate::Capability;
use crate::limits::LAST_GOOD_KEPT_MAX;
use crate::text::lock;

/// What a part had to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The part of the capability that was found, with what a person should know about it.
    Found {
        /// Only the fields of this part are set.
        capability: Box<Capability>,
        /// Something that is wrong although there is an answer.
        note: Option<String>,
    },
    /// There is nothing of the kind on this machine; a value from before is void.
    Absent {
        /// How we know.
        reason: String,
    },
    /// Nobody answered, or nothing that could be read; a value from before may still hold.
    Unknown {
        /// What was tried and what happened.
        reason: String,
    },
}

impl Answer {
    /// An answer with nothing to remark.
    pub(crate) fn found(capability: Capability) -> Self {
        Self::Found { capability: Box::new(capability), note: None }
    }

    pub(crate) fn absent(reason: impl Into<String>) -> Self {
        Self::Absent { reason: reason.into() }
    }

    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }
}

/// One part of what this machine can do. [`Keeping`] makes a [`CapabilityProbe`] of it.
#[async_trait]
pub trait Part: Send + Sync {
    /// The name a person reads, such as `nvidia`.
    fn name(&self) -> &'static str;
    /// How long [`ask`](Self::ask) may take before it is dropped.
    fn limit(&self) -> Duration;
    /// How long a found answer is used again without asking.
    fn fresh_for(&self) -> Duration {
        Duration::ZERO
    }
    /// Asks the machine. Dropping the future ends what it started.
    async fn ask(&self) -> Answer;
}

/// How the value of a part came about at the last probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartState {
    /// Not asked yet.
    NotAsked,
    /// Answered.
    Fresh {
        /// What is wrong although there is an answer.
        note: Option<String>,
    },
    /// There is nothing of the kind.
    Absent {
        /// How we know.
        reason: String,
    },
    /// No answer; the last good value stands in.
    Kept {
        /// How old that value is.
        age: Duration,
        /// Why there is no newer one.
        reason: String,
    },
    /// No answer and no value.
    Missing {
        /// Why.
        reason: String,
    },
}

/// One line of `foreman probe`: which part, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReport {
    /// The part's name.
    pub part: &'static str,
    /// How it went.
    pub state: PartState,
}

impl fmt::Display for PartReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part;
        match &self.state {
            PartState::NotAsked => write!(f, "{part}: not asked yet"),
            PartState::Fresh { note: None } => write!(f, "{part}: ok"),
            PartState::Fresh { note: Some(note) } => write!(f, "{part}: ok, but {note}"),
            PartState::Absent { reason } => write!(f, "{part}: none ({reason})"),
            PartState::Kept { age, reason } => {
                write!(f, "{part}: value of {} s ago, because {reason}", age.as_secs())
            }
            PartState::Missing { reason } => write!(f, "{part}: unknown, because {reason}"),
        }
    }
}

/// A part that can be reported on, whatever it asks.
pub trait Reported: CapabilityProbe {
    /// How the last probe of this part went.
    fn report(&self) -> PartReport;
}

struct LastGood {
    capability: Capability,
    at: Instant,
}

/// Gives a part its time limit and keeps its last good value for [`LAST_GOOD_KEPT_MAX`] after it
/// stopped being fresh.
///
/// A part that says "there is none" clears the value at once: a device that died must not be
/// promised. A part that says nothing keeps it for a while: one hanging `nvidia-smi` must not
/// make a node look empty.
pub struct Keeping<P> {
    part: P,
    last: Mutex<Option<LastGood>>,
    state: Mutex<PartState>,
}

impl<P: Part> Keeping<P> {
    /// A part that was never asked.
    pub fn new(part: P) -> Self {
        Self { part, last: Mutex::new(None), state: Mutex::new(PartState::NotAsked) }
    }

    /// The part itself, for what it remembers beside its capability.
    pub fn part(&self) -> &P {
        &self.part
    }

    /// The last good value with its age, unless it is too old to be used.
    fn last_good(&self) -> Option<(Capability, Duration)> {
        let last = lock(&self.last);
        let (age, last) = last.as_ref().map(|last| (last.at.elapsed(), last))?;
        (age <= self.part.fresh_for() + LAST_GOOD_KEPT_MAX).then(|| (last.capability.clone(), age))
    }

    /// Remembers how it went, and says so once when it changed.
    fn set_state(&self, state: PartState) {
        let changed = {
            let mut now = lock(&self.state);
            let changed = differs(&now, &state);
            *now = state.clone();
            changed
        };
        if !changed {
            return;
        }
        let line = PartReport { part: self.part.name(), state }.to_string();
        // A missing part is an error of `probe`, which the caller reports.
        let worth_a_warning = matches!(
            *lock(&self.state),
            PartState::Kept { .. } | PartState::Fresh { note: Some(_) }
        );
        if worth_a_warning {
            tracing::warn!("probe {line}");
        } else {
            tracing::debug!("probe {line}");
        }
    }
}

/// Whether the news is worth a line in the log: the age of a kept value is not.
fn differs(old: &PartState, new: &PartState) -> bool {
    match (old, new) {
        (PartState::Kept { reason: old, .. }, PartState::Kept { reason: new, .. }) => old != new,
        (old, new) => old != new,
    }
}

#[async_trait]
impl<P: Part> CapabilityProbe for Keeping<P> {
    async fn probe(&self) -> Result<Capability, ProbeError> {
        if let Some((capability, age)) = self.last_good()
            && age < self.part.fresh_for()
        {
            return Ok(capability);
        }
        let limit = self.part.limit();
        let answer = tokio::time::timeout(limit, self.part.ask()).await.unwrap_or_else(|_| {
            Answer::unknown(format!("there was no answer within {} ms", limit.as_millis()))
        });
        match answer {
            Answer::Found { capability, note } => {
                let last = LastGood { capability: (*capability).clone(), at: Instant::now() };
                *lock(&self.last) = Some(last);
                self.set_state(PartState::Fresh { note });
                Ok(*capability)
            }
            Answer::Absent { reason } => {
                *lock(&self.last) = None;
                self.set_state(PartState::Absent { reason });
                Ok(Capability::default())
            }
            Answer::Unknown { reason } => {
                let Some((capability, age)) = self.last_good() else {
                    self.set_state(PartState::Missing { reason: reason.clone() });
                    return Err(ProbeError { part: self.part.name().to_owned(), reason });
                };
                self.set_state(PartState::Kept { age, reason });
                Ok(capability)
            }
        }
    }
}

#[async_trait]
impl<P: Part> Reported for Keeping<P> {
    fn report(&self) -> PartReport {
        PartReport { part: self.part.name(), state: lock(&self.state).clone() }
    }
}
