//! The event stream `-o jsonl`: one JSON object a line on stdout, the last one a `result`.
//!
//! `seq` counts the lines, so that a reader sees loss; `v` allows change; a reader ignores types and
//! fields that it does not know. The schema is `docs/reference/events.schema.json`.

mod wire;

use std::io::{self, Write};
use std::time::Duration;

use foreman_core::model::WallTime;

pub use wire::{Line, RunResult, UsageTotal, schema};

use crate::follow::Fact;
use wire::Body;

/// How often a line shows that the stream is alive when nothing happens.
pub const HEARTBEAT: Duration = Duration::from_secs(30);

/// Writes the stream. Whoever has it must end it with [`Stream::finish`], exactly once; the type
/// makes a second one impossible.
pub struct Stream<W: Write> {
    out: W,
    seq: u64,
}

impl<W: Write> Stream<W> {
    /// A stream of which nothing was written yet.
    pub fn new(out: W) -> Self {
        Self { out, seq: 0 }
    }

    /// Writes what happened. Facts that the stream has no type for are left out.
    pub fn fact(&mut self, fact: &Fact, time: WallTime) -> io::Result<()> {
        match Body::of(&fact.what) {
            Some(body) => {
                let line = self.line(time, body);
                self.write(&Line {
                    workload: fact.workload.clone(),
                    task: fact.task.clone(),
                    attempt: fact.attempt,
                    node: fact.node.clone(),
                    ..line
                })
            }
            None => Ok(()),
        }
    }

    /// Shows that the stream is alive.
    pub fn heartbeat(&mut self, time: WallTime) -> io::Result<()> {
        let line = self.line(time, Body::Heartbeat {});
        self.write(&line)
    }

    /// Writes the one result and ends the stream.
    pub fn finish(
        mut self,
        workload: Option<String>,
        result: RunResult,
        time: WallTime,
    ) -> io::Result<()> {
        let line = self.line(time, Body::Result(Box::new(result)));
        self.write(&Line { workload, ..line })
    }

    fn line(&mut self, time: WallTime, body: Body) -> Line {
        self.seq += 1;
        Line {
            v: wire::VERSION,
            seq: self.seq,
            time: time.to_string(),
            workload: None,
            task: None,
            attempt: None,
            node: None,
            body,
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = crate::untrusted::escape_json(&serde_json::to_string(line)?);
        text.push('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
