//! Logs on stderr, and errors as people read them.

use std::fmt;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::exit::Failure;
use crate::manifest_file::Problems;
use crate::progress::LogWriter;
use crate::untrusted::Untrusted;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        <Self as clap::ValueEnum>::from_str(text, true)
            .map_err(|_| format!("{text:?} is neither text nor json"))
    }
}

/// Starts the log on stderr, above the live view if there is one. `RUST_LOG` wins over `level`; both take tracing's directives, such as
/// `info` or `foreman_core=debug`. Does nothing when a log was started before.
///
/// # Errors
/// A directive that cannot be read, with the name of its source.
pub fn start(level: &str, format: LogFormat, rust_log: Option<&str>) -> anyhow::Result<()> {
    let (directives, source) = match rust_log.filter(|text| !text.trim().is_empty()) {
        Some(text) => (text, "RUST_LOG"),
        None => (level, "--log-level"),
    };
    let filter = EnvFilter::try_new(directives).map_err(|cause| {
        Failure::new(crate::exit::Exit::Usage, format!("{source} {directives:?} is no log level"))
            .next("use error, warn, info, debug, trace, or directives such as foreman_core=debug")
            .because(cause)
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(LogWriter::default)
        .with_ansi(colours_on_stderr());
    let started = match format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().with_ansi(false)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
    Ok(())
}

fn colours_on_stderr() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
        && std::io::stderr().is_terminal()
}

/// An error with all its causes on one line, most general first: `a: b: c`. For logs.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut first = true;
        while let Some(error) = next {
            if !first {
                f.write_str(": ")?;
            }
            write!(f, "{}", Untrusted::line(&error.to_string()))?;
            first = false;
            next = error.source();
        }
        Ok(())
    }
}

/// An error as a command shows it: `error: …`, the causes below, and what to do next. Problems of
/// manifests are an `error:` each.
pub fn describe(error: &anyhow::Error) -> String {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let count = problems.0.len();
        let word = if count == 1 { "problem" } else { "problems" };
        let mut lines: Vec<String> = problems
            .0
            .iter()
            .map(|one| format!("error: {}", Untrusted::line(&one.to_string())))
            .collect();
        lines.push(format!("{count} {word}; nothing was changed\n"));
        return lines.join("\n");
    }
    let mut causes = error.chain().map(ToString::to_string);
    let mut lines =
        vec![format!("error: {}", Untrusted::block(&causes.next().unwrap_or_default()))];
    lines.extend(causes.map(|cause| format!("  because: {}", Untrusted::block(&cause))));
    let hints = error.downcast_ref::<Failure>().map_or(&[][..], Failure::hints);
    lines.extend(hints.iter().map(|hint| format!("next: {}", Untrusted::block(hint))));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn an_error_shows_its_causes_and_the_next_step_and_obeys_nobody() {
        let cause = anyhow::anyhow!("disk \u{1b}[2Jfull").context("writing the store");
        let failure =
            Failure::new(Exit::Error, "cannot apply").next("free some space").because(cause);
        assert_eq!(
            describe(&anyhow::Error::new(failure)),
            "error: cannot apply\n  because: writing the store\n  because: disk full\nnext: free some space\n"
        );
    }

    #[test]
    fn a_chain_is_one_line() {
        let cause = std::io::Error::other("a\nb");
        let failure = Failure::new(Exit::Error, "top").because(cause);
        assert_eq!(Chain(&failure).to_string(), "top: a b");
    }

    #[test]
    fn a_wrong_level_names_its_source() {
        let error = start("=[", LogFormat::Text, Some("foreman=loud")).expect_err("not a level");
        assert!(error.to_string().starts_with("RUST_LOG"), "{error}");
        assert_eq!(Exit::of(&error), Exit::Usage);
    }
}
