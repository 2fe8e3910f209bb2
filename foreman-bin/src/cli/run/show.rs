//! What a followed workload looks like to whoever started it: progress on stderr, and on stdout the
//! last words, one JSON result, or the event stream.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use foreman_core::ports::Clock;

use crate::events::{HEARTBEAT, RunResult, Stream};
use crate::exit::Exit;
use crate::follow::{Fact, Tally};
use crate::os_clock::SystemClock;
use crate::output;
use crate::progress::{KeyPress, Progress, ProgressMode, REDRAW_EVERY, Surroundings};
use crate::settings::Settings;

/// What stdout carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum RunOutput {
    /// Words for people.
    #[default]
    Text,
    /// One JSON object at the end.
    Json,
    /// The event stream; its last line is the only `result`.
    Jsonl,
}

/// What is said of keys while the work is done here.
const HINT: &str = "ctrl-c stop, work is kept";
/// The same where keys are read.
const HINT_WITH_KEYS: &str = "d detach   ctrl-c stop, work is kept";
/// What is said of keys while others do the work.
const HINT_ELSEWHERE: &str = "ctrl-c stop following, the work goes on";
/// The same where keys are read; short, because the line is full.
const HINT_ELSEWHERE_WITH_KEYS: &str = "d detach   ctrl-c stop following";

/// Shows facts, and ends with a result.
pub(in crate::cli) struct Show {
    output: RunOutput,
    progress: Progress,
    /// Whether keys are read.
    listens: bool,
    stream: Option<Stream<io::Stdout>>,
    clock: SystemClock,
    last_line: Instant,
    /// Why nothing can be written any more, e.g. because the reader is gone.
    closed: Option<io::Error>,
    pub(in crate::cli) tally: Tally,
}

/// How a followed workload ended, and what to do next.
pub(in crate::cli) struct LastWords {
    pub(in crate::cli) exit: Exit,
    pub(in crate::cli) workload: Option<String>,
    /// Lines for people.
    pub(in crate::cli) lines: Vec<String>,
    /// Commands to type.
    pub(in crate::cli) next: Vec<String>,
    /// What went wrong, if Foreman failed or was stopped.
    pub(in crate::cli) error: Option<String>,
}

impl LastWords {
    /// Says them where people look when stdout cannot be written.
    pub(in crate::cli) fn on_stderr(&self) {
        for line in &self.lines {
            output::note(line);
        }
        for next in &self.next {
            output::note(format!("next: {next}"));
        }
    }
}

impl Show {
    /// Begins. `budget` is what may be spent, in tokens.
    pub(in crate::cli) fn begin(
        settings: &Settings,
        mode: ProgressMode,
        output: RunOutput,
        budget: Option<i64>,
    ) -> Self {
        let streams = output == RunOutput::Jsonl;
        let mode = mode.decide(Surroundings::of(settings, streams));
        Self {
            output,
            progress: Progress::begin(mode, settings, budget, HINT),
            listens: false,
            stream: streams.then(|| Stream::new(io::stdout())),
            clock: SystemClock::new(),
            last_line: Instant::now(),
            closed: None,
            tally: Tally::default(),
        }
    }

    /// How often [`Self::tick`] wants to be called.
    pub(in crate::cli) const EVERY: Duration = REDRAW_EVERY;

    /// Shows what happened.
    pub(in crate::cli) fn fact(&mut self, fact: &Fact) {
        self.tally.apply(fact);
        self.progress.fact(fact);
        if let Some(stream) = &mut self.stream {
            let written = stream.fact(fact, self.clock.wall());
            self.wrote(written);
        }
    }

    /// Says something beside the facts.
    pub(in crate::cli) fn notice(&mut self, workload: Option<&str>, message: impl Into<String>) {
        self.fact(&Fact::notice(workload, message));
    }

    /// Shows that time goes by.
    pub(in crate::cli) fn tick(&mut self) {
        self.progress.tick();
        if self.last_line.elapsed() >= HEARTBEAT
            && let Some(stream) = &mut self.stream
        {
            let written = stream.heartbeat(self.clock.wall());
            self.wrote(written);
        }
    }

    /// Begins to read keys where a person sits at a live view, and says which ones work. Nothing else
    /// may read the terminal from now on.
    pub(in crate::cli) fn listen(&mut self, settings: &Settings) {
        self.listens = self.progress.listen(settings);
        self.hint_here();
    }

    /// The next key; never, where none are read. Cancelling loses none.
    pub(in crate::cli) async fn key(&mut self) -> KeyPress {
        self.progress.key().await
    }

    /// Says what keys do while the work is done here.
    pub(in crate::cli) fn hint_here(&mut self) {
        self.set_hint(if self.listens { HINT_WITH_KEYS } else { HINT });
    }

    /// Says what keys do while others do the work.
    pub(in crate::cli) fn hint_elsewhere(&mut self) {
        self.set_hint(if self.listens { HINT_ELSEWHERE_WITH_KEYS } else { HINT_ELSEWHERE });
    }

    /// Changes what is said of keys.
    pub(in crate::cli) fn set_hint(&mut self, hint: &str) {
        self.progress.set_hint(hint);
    }

    fn wrote(&mut self, written: io::Result<()>) {
        self.last_line = Instant::now();
        if let Err(error) = written {
            self.closed.get_or_insert(error);
        }
    }

    /// Whether the event stream broke off, e.g. because its reader is gone: then nobody waits for
    /// the work here.
    pub(in crate::cli) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Says the last words; there are none after them.
    ///
    /// # Errors
    /// Stdout cannot be written, or its reader is gone.
    pub(in crate::cli) fn end(self, words: &LastWords) -> anyhow::Result<()> {
        let result = RunResult {
            finished: self.tally.finished().map(ToOwned::to_owned),
            verified: self.tally.verified(),
            exit_code: words.exit.code(),
            branch: self.tally.branch().map(ToOwned::to_owned),
            commit: self.tally.commit().map(ToOwned::to_owned),
            pull_request: None,
            usage: self.tally.usage(),
            unfinished: self.tally.unfinished(),
            next: words.next.clone(),
            error: words.error.clone(),
        };
        // The live view leaves the terminal before the last words stand there.
        drop(self.progress);
        match (self.output, self.stream) {
            (_, Some(stream)) => {
                let time = self.clock.wall();
                let ended = match self.closed {
                    Some(error) => Err(error),
                    None => stream.finish(words.workload.clone(), result, time),
                };
                output::written(ended)
            }
            (RunOutput::Json, None) => {
                let mut whole = serde_json::to_value(&result)?;
                if let (Some(map), Some(workload)) = (whole.as_object_mut(), &words.workload) {
                    // In the stream the envelope names it.
                    map.insert("workload".to_owned(), workload.clone().into());
                }
                output::line(crate::untrusted::escape_json(&serde_json::to_string_pretty(&whole)?))
            }
            (RunOutput::Text | RunOutput::Jsonl, None) => {
                for line in &words.lines {
                    output::line(line)?;
                }
                if !words.next.is_empty() {
                    output::line(format!("next: {}", words.next.join("\n      ")))?;
                }
                io::stdout().flush().map_err(|error| anyhow::Error::new(error).context("stdout"))
            }
        }
    }
}
