//! What the code under simulation logs: errors are findings, the rest belongs in the trace.

use std::cell::RefCell;
use std::fmt::Write as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static LINES: RefCell<Vec<(bool, String)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the lines of this thread: errors, and with `all` warnings too.
pub(crate) struct Lines {
    pub(crate) all: bool,
}

/// Takes the lines so far: whether each is an error, and its words.
pub(crate) fn take() -> Vec<(bool, String)> {
    LINES.with_borrow_mut(std::mem::take)
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, " {value:?}").unwrap_or_default();
        } else {
            write!(self.0, " {}={value:?}", field.name()).unwrap_or_default();
        }
    }
}

impl Lines {
    fn level(&self) -> LevelFilter {
        if self.all { LevelFilter::WARN } else { LevelFilter::ERROR }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        let error = *event.metadata().level() == Level::ERROR;
        LINES.with_borrow_mut(|lines| lines.push((error, words.0)));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
