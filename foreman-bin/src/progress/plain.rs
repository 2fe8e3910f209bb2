//! One fact a line: `06:02 task/fix-login-7f3a-code ended GO: 14 turns, 182k tokens`. For logs,
//! pipes and CI: no redraw, no colour, easy to grep.

use std::collections::BTreeMap;
use std::time::Duration;

use foreman_runner::observe::RunEvent;

use super::words::{clock, count, plural, took};
use crate::follow::{Ended, Fact, Tally, What, superseded_by, tokens};
use crate::untrusted;

/// How often a task that runs on is mentioned although its state is the same.
pub const PROGRESS_EVERY: Duration = Duration::from_mins(1);
/// The longest text of others on a line, in characters.
const TEXT_CHARS_MAX: usize = 300;
/// The longest name on a line, in characters.
const NAME_CHARS_MAX: usize = 253;

/// What a run is doing.
#[derive(Debug, Clone, Default)]
struct Doing {
    turn: i64,
    tokens: i64,
    what: String,
    mentioned: Duration,
}

/// Writes one line a fact.
#[derive(Debug, Default)]
pub struct Plain {
    tallies: BTreeMap<Option<String>, Tally>,
    doing: BTreeMap<String, Doing>,
    /// Whether lines of a gate's output are folded away as GitHub's log does it.
    github: Option<String>,
}

impl Plain {
    /// Lines for a terminal, a file or a pipe.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lines for the log of a GitHub workflow. `token` must be a text that no output can guess:
    /// between its marks, output cannot give commands to the workflow.
    pub fn for_github(token: String) -> Self {
        Self { github: Some(token), ..Self::default() }
    }

    /// The lines for what happened, `elapsed` after the start.
    pub fn lines(&mut self, fact: &Fact, elapsed: Duration) -> Vec<String> {
        self.tallies.entry(fact.workload.clone()).or_default().apply(fact);
        let object = object(fact);
        let mut lines: Vec<String> = self
            .words(fact, elapsed)
            .into_iter()
            .map(|words| format!("{} {object} {words}", clock(elapsed)))
            .collect();
        if let (Some(token), What::Run(event)) = (&self.github, &fact.what) {
            lines.extend(github(token, event));
        }
        lines
    }

    /// A line for each task that has been running for a while without one.
    pub fn tick(&mut self, elapsed: Duration) -> Vec<String> {
        let due = |doing: &Doing| elapsed.saturating_sub(doing.mentioned) >= PROGRESS_EVERY;
        let mut lines = Vec::new();
        for (task, doing) in self.doing.iter_mut().filter(|(_, doing)| due(doing)) {
            doing.mentioned = elapsed;
            let (at, name) = (clock(elapsed), untrusted::line(task, NAME_CHARS_MAX));
            let (turn, tokens) = (doing.turn, count(doing.tokens));
            let mut line = format!("{at} task/{name} running: turn {turn}, {tokens} tokens");
            if !doing.what.is_empty() {
                line = format!("{line}, {}", doing.what);
            }
            lines.push(line);
        }
        lines
    }

    fn words(&mut self, fact: &Fact, elapsed: Duration) -> Option<String> {
        let node = text(fact.node.as_deref().unwrap_or("-"));
        Some(match &fact.what {
            What::Begun(begun) => {
                let repo = begun.repo.as_deref().map(|repo| format!(" in {}", text(repo)));
                let model = begun.model.as_deref().map(|model| format!(", model {}", text(model)));
                format!(
                    "began: {}{}{}",
                    text(&begun.intent),
                    repo.unwrap_or_default(),
                    model.unwrap_or_default()
                )
            }
            What::Planned { steps } => {
                let names: Vec<_> = steps.iter().map(|step| text(&step.name)).collect();
                let all = || steps.iter().map(|step| step.name.as_str());
                let gone = all().filter(|name| superseded_by(name, all()).is_some());
                let gone: Vec<_> = gone.map(text).collect();
                let gone = match gone.as_slice() {
                    [] => String::new(),
                    gone => format!(", superseded: {}", gone.join(" ")),
                };
                format!("planned: {} ({}){gone}", plural(steps.len(), "task"), names.join(" "))
            }
            What::Waiting { reason, message } => {
                format!("waits: {}: {}", text(reason), text(message))
            }
            What::Placed { why } if why.is_empty() => format!("placed on {node}"),
            What::Placed { why } => {
                format!("placed on {node}: {}", text(&why.join(", ")))
            }
            What::Started => {
                let task = fact.task.clone().unwrap_or_default();
                self.doing.insert(task, Doing { mentioned: elapsed, ..Doing::default() });
                format!("started on {node}, attempt {}", fact.attempt.unwrap_or(1))
            }
            What::Run(event) => return self.run(fact, event),
            What::Moved { stage, turn, tokens } => {
                let task = fact.task.clone().unwrap_or_default();
                let doing = self.doing.entry(task).or_default();
                (doing.turn, doing.tokens, doing.what) = (*turn, *tokens, text(stage));
                return None;
            }
            What::Released { ended, message, turn } => {
                self.forget(fact);
                let kept = turn.map(|turn| format!(", work kept after turn {turn}"));
                format!(
                    "given back ({}): {}{}",
                    text(ended),
                    text(message),
                    kept.unwrap_or_default()
                )
            }
            What::Ended(ended) => {
                self.forget(fact);
                format!("ended {}: {}", text(&ended.verdict), ended_words(ended))
            }
            What::Finished { reason, message } => self.finished(fact, reason, message),
            What::Notice { message } => format!("notice: {}", text(message)),
        })
    }

    fn forget(&mut self, fact: &Fact) {
        if let Some(task) = &fact.task {
            self.doing.remove(task);
        }
    }

    fn finished(&self, fact: &Fact, reason: &str, message: &str) -> String {
        let tally = self.tallies.get(&fact.workload);
        let exit = tally.map_or(0, |tally| tally.exit().code());
        let verified = match tally {
            Some(tally) if tally.verified() => "verified",
            _ if reason == "Succeeded" => "not verified",
            _ => "not on target",
        };
        format!("finished {}, {verified}, exit {exit}: {}", text(reason), text(message))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "not exhaustive: what a later runner tells is not known here"
    )]
    fn run(&mut self, fact: &Fact, event: &RunEvent) -> Option<String> {
        let doing = self.doing.entry(fact.task.clone().unwrap_or_default()).or_default();
        Some(match event {
            RunEvent::WorkspaceReady { base, model, instructions } => {
                let model = model.as_deref().map(|model| format!(", model {}", text(model)));
                let read = instructions.as_deref().map(|name| format!(", read {}", text(name)));
                format!(
                    "workspace ready at {}{}{}",
                    text(base),
                    model.unwrap_or_default(),
                    read.unwrap_or_default()
                )
            }
            RunEvent::Resumed { turns } => format!("resumed after turn {turns}"),
            RunEvent::GateCompleted { command, exit, took: time, .. } => {
                let exit =
                    exit.map_or_else(|| "no exit code".to_owned(), |exit| format!("exit {exit}"));
                format!("gate: {}, {exit}, {}", text(command), took(*time))
            }
            RunEvent::EffectDone { kind, target, .. } => format!("{kind} done: {}", text(target)),
            RunEvent::Notice { message } => format!("notice: {}", text(message)),
            RunEvent::TurnStarted { turn } => {
                doing.turn = *turn;
                return None;
            }
            RunEvent::ToolStarted { turn, tool, summary } => {
                doing.turn = *turn;
                doing.what = format!("{} {}", text(tool), untrusted::line(summary, 80));
                return None;
            }
            RunEvent::TurnCompleted { turn, prompt_tokens, completion_tokens, .. } => {
                doing.turn = *turn;
                doing.tokens += prompt_tokens + completion_tokens;
                return None;
            }
            RunEvent::GateStarted { command } => {
                doing.what = format!("gate {}", untrusted::line(command, 80));
                return None;
            }
            _ => return None,
        })
    }
}

fn text(text: &str) -> String {
    untrusted::line(text.trim(), TEXT_CHARS_MAX)
}

/// What a line is about.
fn object(fact: &Fact) -> String {
    match (&fact.task, &fact.workload) {
        (Some(task), _) => format!("task/{}", untrusted::line(task, NAME_CHARS_MAX)),
        (None, Some(workload)) => format!("workload/{}", untrusted::line(workload, NAME_CHARS_MAX)),
        (None, None) => "foreman".to_owned(),
    }
}

/// `14 turns, 182k tokens, branch foreman/fix-login-7f3a: what it says`.
pub(super) fn ended_words(ended: &Ended) -> String {
    let mut words = Vec::new();
    let turns = ended.usage.turns.unwrap_or(0);
    if turns > 0 {
        words.push(plural(usize::try_from(turns).unwrap_or(usize::MAX), "turn"));
        words.push(format!("{} tokens", count(tokens(&ended.usage))));
    }
    if let Some(branch) = &ended.branch {
        words.push(format!("branch {}", text(branch)));
    }
    if !ended.message.is_empty() {
        words.push(text(&ended.message));
    }
    words.join(", ")
}

/// A gate's output as a group of GitHub's log. The log obeys lines that begin with `::`, so the
/// output stands between marks that switch this off.
fn github(token: &str, event: &RunEvent) -> Vec<String> {
    let RunEvent::GateCompleted { command, exit, output, .. } = event else { return Vec::new() };
    let command = text(command);
    let mut lines = vec![format!("::group::gate {command}"), format!("::stop-commands::{token}")];
    let shown = untrusted::Untrusted::block(output).to_string();
    lines.extend(shown.lines().map(ToOwned::to_owned));
    lines.push(format!("::{token}::"));
    lines.push("::endgroup::".to_owned());
    if *exit != Some(0) {
        let exit = exit.map_or_else(|| "no exit code".to_owned(), |exit| format!("exit {exit}"));
        let escaped = command.replace('%', "%25");
        lines.push(format!("::error::gate failed: {escaped} ({exit})"));
    }
    lines
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
