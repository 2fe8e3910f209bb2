//! Rows whose figure is held against another of the same run.

use std::time::{Duration, Instant};

use super::report::{Row, percentiles, time};

/// Rows of one kind in different sizes: each is held against the first.
pub(super) struct Growth {
    first: Option<f64>,
    target: &'static str,
}

impl Growth {
    pub(super) fn new(target: &'static str) -> Self {
        Self { first: None, target }
    }

    /// A row; `figure` is what `measured` says, in any unit.
    pub(super) fn row(&mut self, work: String, measured: String, figure: f64) -> Row {
        let ratio = match self.first {
            Some(first) => format!("{:.2} × the first of its kind", figure / first),
            None => "1 ×".to_owned(),
        };
        self.first.get_or_insert(figure);
        Row::new(work, measured, ratio, self.target)
    }

    /// A row of durations; the medians are compared.
    pub(super) fn samples(&mut self, work: String, mut samples: Vec<Duration>) -> Row {
        samples.sort_unstable();
        let half = samples.get(samples.len() / 2).copied().unwrap_or_default();
        self.row(work, percentiles(samples), half.as_secs_f64())
    }

    /// A row of one duration.
    pub(super) fn duration(&mut self, work: String, took: Duration) -> Row {
        self.row(work, time(took), took.as_secs_f64())
    }
}

/// How long it took.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}
