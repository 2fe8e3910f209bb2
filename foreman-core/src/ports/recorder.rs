//! Events that a person reads.

use crate::model::Key;

/// Whether an event asks for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Things go their way.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The object's kind.
    pub kind: &'static str,
    /// The object.
    pub key: Key,
    /// Normal or a warning.
    pub severity: EventKind,
    /// One word, e.g. `TaskPlaced`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Takes events. Never blocks, never fails: an event is a courtesy.
pub trait Recorder: Send + Sync {
    /// Records one event.
    fn record(&self, event: Event);
}

/// Writes events to the log.
#[derive(Debug, Default, Clone, Copy)]
pub struct LogRecorder;

impl Recorder for LogRecorder {
    fn record(&self, event: Event) {
        let Event { kind, key, severity, reason, message } = event;
        match severity {
            EventKind::Normal => tracing::info!(kind, %key, reason, "{message}"),
            EventKind::Warning => tracing::warn!(kind, %key, reason, "{message}"),
        }
    }
}
