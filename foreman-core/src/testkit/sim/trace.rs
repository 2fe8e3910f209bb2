//! What happened, line by line; and a hash of it, so that two runs can be compared.

use std::fmt::Write as _;
use std::sync::Mutex;

use super::engine::{Instant, lock};
use super::story::{Mark, Told, moment};

/// The trace of a simulation.
pub(crate) struct Trace(Mutex<State>);

struct State {
    hash: u64,
    keep: bool,
    lines: Vec<String>,
    marks: Vec<Mark>,
}

impl Trace {
    /// A trace that hashes, and with `keep` remembers its lines.
    pub(crate) fn new(keep: bool) -> Self {
        Self(Mutex::new(State {
            hash: 0xcbf2_9ce4_8422_2325,
            keep,
            lines: Vec::new(),
            marks: Vec::new(),
        }))
    }

    /// Something happened: `code` and `numbers` tell it apart for the hash, `line` for people.
    pub(crate) fn event(
        &self,
        now: Instant,
        code: &str,
        numbers: &[u64],
        line: impl FnOnce() -> String,
    ) {
        let mut state = lock(&self.0);
        let mut hash = state.hash;
        let mut mix =
            |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        now.to_le_bytes().into_iter().for_each(&mut mix);
        code.bytes().for_each(&mut mix);
        numbers.iter().flat_map(|number| number.to_le_bytes()).for_each(&mut mix);
        state.hash = hash;
        if state.keep {
            let line = format!("{} {}", at(now), line());
            state.lines.push(line);
        }
    }

    /// A line for people only.
    pub(crate) fn aside(&self, now: Instant, line: impl FnOnce() -> String) {
        let mut state = lock(&self.0);
        if state.keep {
            let line = format!("{} {}", at(now), line());
            state.lines.push(line);
        }
    }

    /// Something that a picture shows; it does not count for the hash.
    pub(crate) fn mark(&self, now: Instant, what: impl FnOnce() -> Told) {
        let mut state = lock(&self.0);
        if state.keep {
            state.marks.push(Mark { at: moment(now), what: what() });
        }
    }

    /// Whether lines are remembered.
    pub(crate) fn keeps(&self) -> bool {
        lock(&self.0).keep
    }

    /// The hash so far.
    pub(crate) fn hash(&self) -> u64 {
        lock(&self.0).hash
    }

    /// The marks so far.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        lock(&self.0).marks.clone()
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.0).lines.clone()
    }
}

/// A moment as people read it: `t=00:03:12.250`.
pub(crate) fn at(now: Instant) -> String {
    let millis = now / 1_000_000;
    let seconds = millis / 1000;
    let mut text = String::new();
    write!(
        text,
        "t={:02}:{:02}:{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1000
    )
    .unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_like_a_clock() {
        assert_eq!(at(3_723_045_000_000), "t=01:02:03.045");
    }
}
