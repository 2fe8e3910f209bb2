//! What commands print: results on stdout, everything else on stderr.
//!
//! Colours follow `NO_COLOR`, `CLICOLOR_FORCE`, `FORCE_COLOR`, `CLICOLOR`, `TERM=dumb` and whether
//! the stream is a terminal; anstream strips them where they are not wanted.

mod age;
mod custom;
mod format;
mod paint;
mod path;
mod table;

use std::fmt;
use std::io::{self, Write};

use crate::exit::Exit;
use crate::telemetry;

/// Characters of a line of an error that are shown.
const ERROR_LINE_CHARS_MAX: usize = 1000;

pub use age::{age, span};
pub use custom::{CustomColumns, InvalidColumns};
pub use format::{Format, FormatArgs, InvalidFormat, document};
pub use paint::{Paint, paint, word};
pub use path::{all, at, cell, is_path};
pub use table::Table;

/// Whoever reads our output has gone: not an error, only the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeClosed;

impl fmt::Display for PipeClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output has gone")
    }
}

impl std::error::Error for PipeClosed {}

/// Prints a result on stdout.
///
/// # Errors
/// [`PipeClosed`], or why stdout cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints a line on stdout.
///
/// # Errors
/// As [`print()`].
pub fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a line for people on stderr. That stderr is gone is nobody's business.
pub fn note(text: impl fmt::Display) {
    let mut stderr = anstream::stderr().lock();
    if writeln!(stderr, "{text}").is_err() {
        tracing::debug!("stderr is closed");
    }
}

/// Prints an error with its causes and what to do next on stderr.
pub fn error(error: &anyhow::Error) {
    let text = telemetry::describe(error);
    let paint = |line: &str| match line.strip_prefix("error:") {
        Some(rest) => format!("{}{}", paint(Paint::Bad, "error:"), shortened(rest)),
        None => shortened(line),
    };
    let text = text.lines().map(paint).collect::<Vec<_>>().join("\n");
    note(text.trim_end());
}

/// A line that is read, however long the input was that it names.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(ERROR_LINE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// Prints what clap has to say: help on stdout, wrong usage on stderr.
pub fn usage(error: &clap::Error) -> Exit {
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        note(text.trim_end());
        return Exit::Usage;
    }
    match print(&text) {
        Err(failed) if !failed.is::<PipeClosed>() => {
            self::error(&failed);
            Exit::Error
        }
        Ok(()) | Err(_) => Exit::OnTarget,
    }
}

/// What came of writing to stdout.
///
/// # Errors
/// As [`print()`].
pub fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(PipeClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("stdout cannot be written")),
    }
}

/// anstream knows all the variables but `FORCE_COLOR`.
pub fn follow_force_color() {
    let set = |name| std::env::var_os(name).filter(|value: &std::ffi::OsString| !value.is_empty());
    if set("FORCE_COLOR").is_some_and(|value| value != "0") && set("NO_COLOR").is_none() {
        anstream::ColorChoice::Always.write_global();
    }
}
