//! `foreman doctor`: what is wrong with this machine, and what to do about it.

mod place;
mod repository;
mod tools;

use std::fmt::Write as _;

use serde::Serialize;

use crate::exit::Exit;
use crate::output::{self, FormatArgs, Paint, paint};
use crate::settings::{ModelFlags, NodeFlags, Settings};
use crate::untrusted::Untrusted;

/// Flags of `foreman doctor`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Check what a run needs: git, the model server and the context it really serves, the sandbox, the disk, the \
store, the clock, the gate of the repository, and with --repo the right to push (a dry run: nothing is written there). Each \
check says ok, warn or fail, why, and what to do. Exit code 1 when one fails.",
    after_long_help = "Examples:\n  foreman doctor\n  foreman doctor --repo https://example.com/me/shop.git -o json"
)]
pub struct DoctorArgs {
    /// The repository to check, as a path, a URL or OWNER/NAME [default: the one here]
    #[arg(long, value_name = "REPO")]
    pub repo: Option<String>,
    /// The form of the answer.
    #[command(flatten)]
    pub format: FormatArgs,
    /// The model server.
    #[command(flatten)]
    pub model: ModelFlags,
    /// This machine as a node.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, state: State::Ok, reason: reason.into(), fix: None }
    }

    fn warn(name: &'static str, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warn, reason: reason.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Fail, reason: reason.into(), fix: Some(fix.into()) }
    }
}

/// An error with its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    crate::telemetry::Chain(error).to_string()
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Checks this machine.
///
/// # Errors
/// The output cannot be written; a check that fails is no error but exit code 1.
pub async fn doctor(args: &DoctorArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let (git, model, sandbox, repository) = futures::join!(
        tools::git(),
        tools::model(settings),
        tools::sandbox(settings),
        repository::checks(args.repo.as_deref(), settings),
    );
    let mut checks = vec![git];
    checks.extend(model);
    checks.push(sandbox);
    checks.extend(place::checks(settings));
    checks.push(tools::path());
    checks.extend(repository);
    let ok = checks.iter().all(|check| check.state != State::Fail);
    let report = Report { ok, checks };
    match args.format.machine(&report)? {
        Some(text) => output::print(&text)?,
        None => output::print(&text(&report))?,
    }
    Ok(if ok { Exit::OnTarget } else { Exit::Error })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in &report.checks {
        let word = match check.state {
            State::Ok => paint(Paint::Good, "ok  "),
            State::Warn => paint(Paint::Warn, "warn"),
            State::Fail => paint(Paint::Bad, "fail"),
        };
        let reason = Untrusted::line(&check.reason);
        let _infallible = writeln!(text, "{word}  {:width$}  {reason}", check.name);
        if let Some(fix) = &check.fix {
            let fix = Untrusted::line(fix);
            let _infallible = writeln!(text, "      {:width$}  fix: {fix}", "");
        }
    }
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    let (warnings, failures) = (count(State::Warn), count(State::Fail));
    let end = match (failures, warnings) {
        (0, 0) => "everything a run needs is there".to_owned(),
        (0, warnings) => format!("nothing fails, {warnings} to look at"),
        (failures, warnings) => format!("{failures} failed, {warnings} to look at"),
    };
    text + &end + "\n"
}
