//! The live view as data, and its lines: a pure function from what happened to text.
//!
//! The view is a block of lines that is drawn again and again. A task that ended leaves the block as
//! a plain line that scrolls away with the rest of the terminal.

use std::time::Duration;

use foreman_runner::observe::RunEvent;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::plain::ended_words;
use super::words::{count, plural, took};
use crate::follow::{Begun, Ended, Fact, PlannedStep, Tally, What, superseded_by, tokens};
use crate::untrusted;

/// The longest text of others in a line, in characters; the terminal's width cuts before that.
const TEXT_CHARS_MAX: usize = 200;
/// The widest column of step names, in cells.
const STEP_CELLS_MAX: usize = 12;
/// The widest column of node names, in cells.
const NODE_CELLS_MAX: usize = 16;
/// Lines of the block that are not rows: what was last done, and the sums.
const LINES_AROUND: usize = 2;

/// The terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// What a line means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it comes.
    Plain,
    /// It went well.
    Good,
    /// It did not.
    Bad,
    /// It is under way.
    Active,
    /// Not so important.
    Dim,
}

/// A line and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Painted {
    /// The text, without anything that a terminal would obey.
    pub text: String,
    /// What it means.
    pub tone: Tone,
}

impl Painted {
    fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

#[derive(Debug, Clone, Default)]
struct Row {
    task: String,
    step: String,
    node: Option<String>,
    attempt: Option<i64>,
    running_since: Option<Duration>,
    turn: i64,
    tokens: i64,
    sent: i64,
    cached: i64,
    doing: Option<(String, Duration)>,
    waits: Option<String>,
    superseded_by: Option<String>,
}

/// What the live view shows.
#[derive(Debug, Default)]
pub struct View {
    name: String,
    rows: Vec<Row>,
    steps: Vec<PlannedStep>,
    last: Option<String>,
    tally: Tally,
    /// Tokens of tasks that run or ran here, for the sum.
    spent: i64,
    budget: Option<i64>,
    hint: String,
}

impl View {
    /// A view of nothing yet. `budget` is what may be spent, in tokens; `hint` says what a key does.
    pub fn new(budget: Option<i64>, hint: impl Into<String>) -> Self {
        Self { budget, hint: hint.into(), ..Self::default() }
    }

    /// Changes what is said of keys.
    pub fn set_hint(&mut self, hint: impl Into<String>) {
        self.hint = hint.into();
    }

    /// Takes what happened into account; the lines that it leaves behind for good.
    pub fn apply(&mut self, fact: &Fact, now: Duration) -> Vec<Painted> {
        self.tally.apply(fact);
        let mut left = Vec::new();
        match &fact.what {
            What::Begun(begun) => {
                self.name = fact.workload.clone().unwrap_or_default();
                left.push(Painted::new(Tone::Plain, header(&self.name, begun)));
            }
            What::Planned { steps } => left.extend(self.plan(steps)),
            What::Waiting { reason, message } => {
                if let Some(row) = self.row_of(fact) {
                    row.running_since = None;
                    let message = message.strip_prefix("waits for ").unwrap_or(message);
                    row.waits = Some(format!("waits: {} ({})", text(reason), text(message)));
                }
            }
            What::Placed { .. } => {
                let node = fact.node.clone();
                if let Some(row) = self.row_of(fact) {
                    row.waits = None;
                    row.node = node;
                }
            }
            What::Started => {
                let (node, attempt) = (fact.node.clone(), fact.attempt);
                if let Some(row) = self.row_of(fact) {
                    row.waits = None;
                    row.doing = None;
                    (row.node, row.attempt, row.running_since) = (node, attempt, Some(now));
                }
            }
            What::Run(event) => left.extend(self.run(fact, event, now)),
            What::Moved { stage, turn, tokens } => {
                if let Some(row) = self.row_of(fact) {
                    (row.turn, row.tokens) = (*turn, *tokens);
                    row.doing = Some((text(stage), now));
                }
            }
            What::Released { ended, turn, .. } => {
                if let Some(row) = self.row_of(fact) {
                    row.running_since = None;
                    let kept = turn.map(|turn| format!(", work kept after turn {turn}"));
                    let ended = text(ended);
                    row.waits = Some(format!("given back ({ended}){}", kept.unwrap_or_default()));
                }
            }
            What::Ended(ended) => left.extend(self.end(fact, ended, now)),
            What::Finished { .. } => {}
            What::Notice { message } => {
                left.push(Painted::new(Tone::Dim, format!("note: {}", text(message))));
            }
        }
        left
    }

    /// How many tasks of a hundred have ended.
    pub fn percent(&self) -> usize {
        let (done, all) = self.tally.counts();
        (done * 100).checked_div(all).unwrap_or(0)
    }

    /// Takes the steps; a line for each whose place a later try has taken since.
    fn plan(&mut self, steps: &[PlannedStep]) -> Vec<Painted> {
        let later = |steps: &[PlannedStep], name: &str| {
            let names = steps.iter().map(|step| step.name.as_str());
            superseded_by(name, names).map(ToOwned::to_owned)
        };
        let before = std::mem::replace(&mut self.steps, steps.to_vec());
        let mut left = Vec::new();
        for step in steps {
            let known = before.iter().any(|one| one.task == step.task);
            let by = later(steps, &step.name);
            if let Some(by) = by.as_ref().filter(|_| known && by != later(&before, &step.name)) {
                let name = pad(&text(&step.name), self.columns().0);
                let line = format!(" ->  {name}  superseded by {}", text(by));
                left.push(Painted::new(Tone::Dim, line));
            }
            let ended = self.tally.ended().any(|(task, _)| task == step.task);
            if !ended {
                let row = self.row(&step.task);
                row.step.clone_from(&step.name);
                row.superseded_by = by;
            }
        }
        left
    }

    fn row(&mut self, task: &str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.task == task).unwrap_or_else(|| {
            self.rows.push(Row { task: task.to_owned(), step: task.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    fn row_of(&mut self, fact: &Fact) -> Option<&mut Row> {
        let task = fact.task.clone()?;
        Some(self.row(&task))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "not exhaustive: what a later runner tells is not known here"
    )]
    fn run(&mut self, fact: &Fact, event: &RunEvent, now: Duration) -> Option<Painted> {
        let node = text(fact.node.as_deref().unwrap_or("-"));
        let row = self.row_of(fact)?;
        match event {
            RunEvent::TurnStarted { turn } => {
                row.turn = *turn;
                row.doing = Some(("asks the model".to_owned(), now));
            }
            RunEvent::ToolStarted { turn, tool, summary } => {
                row.turn = *turn;
                row.doing = Some((format!("{} {}", text(tool), text(summary)), now));
            }
            RunEvent::ToolCompleted { turn, tool, ok, summary, .. } => {
                let ok = if *ok { "" } else { " (failed)" };
                let last =
                    format!("last: {node}  turn {turn}  {} -> {}{ok}", text(tool), text(summary));
                self.last = Some(last);
            }
            RunEvent::TurnCompleted {
                turn,
                prompt_tokens,
                cached_tokens,
                completion_tokens,
                ..
            } => {
                row.turn = *turn;
                row.sent += prompt_tokens;
                row.cached += cached_tokens;
                row.tokens += prompt_tokens + completion_tokens;
                self.spent += prompt_tokens + completion_tokens;
            }
            RunEvent::GateStarted { command } => {
                row.doing = Some((format!("gate `{}`", text(command)), now));
            }
            RunEvent::GateCompleted { command, exit, took: time, .. } => {
                let exit = exit.map_or_else(|| "no exit code".to_owned(), |exit| exit.to_string());
                self.last = Some(format!(
                    "last: {node}  gate `{}` -> {exit}  {}",
                    text(command),
                    took(*time)
                ));
            }
            RunEvent::Resumed { turns } => {
                row.turn = *turns;
                row.doing = Some((format!("goes on after turn {turns}"), now));
            }
            RunEvent::EffectDone { kind, target, .. } => {
                self.last = Some(format!("last: {node}  {kind} {}", text(target)));
            }
            RunEvent::Notice { message } => {
                return Some(Painted::new(Tone::Dim, format!("note: {}", text(message))));
            }
            _ => {}
        }
        None
    }

    fn end(&mut self, fact: &Fact, ended: &Ended, now: Duration) -> Option<Painted> {
        let row = self.row_of(fact)?.clone();
        let (steps, nodes) = self.columns();
        self.rows.retain(|other| other.task != row.task);
        let spent = row.running_since.map(|since| took(now.saturating_sub(since)));
        let mut parts = vec![
            pad(&text(&row.step), steps),
            pad(&text(fact.node.as_deref().unwrap_or("-")), nodes),
        ];
        if let Some(attempt) = fact.attempt {
            parts.push(format!("attempt {attempt}"));
        }
        parts.extend(spent);
        if row.sent > 0 && row.cached > 0 {
            parts.push(format!("{}% cached", row.cached * 100 / row.sent));
        }
        let words = ended_words(ended);
        let verdict = text(&ended.verdict);
        parts.push(if words.is_empty() { verdict } else { format!("{verdict}, {words}") });
        let (mark, tone) = if ended.on_target { (" ok ", Tone::Good) } else { (" !! ", Tone::Bad) };
        if self.tally.usage().input == 0 {
            self.spent = self.spent.max(tokens(&ended.usage));
        }
        Some(Painted::new(tone, format!("{mark} {}", parts.join("  "))))
    }

    /// Widths of the columns of steps and nodes.
    fn columns(&self) -> (usize, usize) {
        let steps = self.steps.iter().map(|step| step.name.as_str());
        let steps = steps.chain(self.rows.iter().map(|row| row.step.as_str()));
        let steps = steps.map(|name| text(name).width()).max().unwrap_or(0);
        let nodes = self.rows.iter().filter_map(|row| row.node.as_deref());
        let nodes = nodes.map(|name| text(name).width()).max().unwrap_or(1);
        (steps.min(STEP_CELLS_MAX), nodes.min(NODE_CELLS_MAX))
    }

    /// The block, never wider or higher than `size` allows.
    pub fn block(&self, size: Size, now: Duration) -> Vec<Painted> {
        let (steps, nodes) = self.columns();
        // One line stays free for the cursor.
        let room = size.height.saturating_sub(LINES_AROUND + 1).max(1);
        let mut shown: Vec<&Row> = self.rows.iter().collect();
        // Whatever runs is more interesting than what waits.
        shown.sort_by_key(|row| row.running_since.is_none());
        let hidden = shown.len().saturating_sub(room);
        let rows = if hidden > 0 { room.saturating_sub(1) } else { shown.len() };
        let mut lines: Vec<Painted> =
            shown.iter().take(rows).map(|row| row.painted(steps, nodes, now)).collect();
        if hidden > 0 {
            let more = shown.len() - rows;
            lines.push(Painted::new(Tone::Dim, format!(" ..  and {}", plural(more, "more task"))));
        }
        if let Some(last) = &self.last {
            lines.push(Painted::new(Tone::Dim, last.clone()));
        }
        lines.push(Painted::new(Tone::Plain, self.sums(now)));
        for line in &mut lines {
            line.text = fit(&line.text, size.width.saturating_sub(1));
        }
        // The sums stay, whatever is too much.
        let too_many = lines.len().saturating_sub(size.height.saturating_sub(1).max(1));
        lines.drain(..too_many);
        lines
    }

    fn sums(&self, now: Duration) -> String {
        let (done, all) = self.tally.counts();
        let mut parts = vec![format!("{done}/{all} done"), took(now)];
        let spent = count(self.spent);
        parts.push(match self.budget {
            Some(budget) => format!("tokens {spent} of {}", count(budget)),
            None => format!("tokens {spent}"),
        });
        format!("{}      {}", parts.join("   "), self.hint)
    }
}

impl Row {
    fn painted(&self, steps: usize, nodes: usize, now: Duration) -> Painted {
        let mut parts = vec![
            pad(&text(&self.step), steps),
            pad(&text(self.node.as_deref().unwrap_or("-")), nodes),
        ];
        if let Some(later) = &self.superseded_by {
            parts.push(format!("superseded by {}", text(later)));
        }
        let Some(since) = self.running_since else {
            parts.push(self.waits.clone().unwrap_or_else(|| "to come".to_owned()));
            return Painted::new(Tone::Dim, format!(" ..  {}", parts.join("  ")));
        };
        if let Some(attempt) = self.attempt.filter(|attempt| *attempt > 1) {
            parts.push(format!("attempt {attempt}"));
        }
        if self.turn > 0 {
            parts.push(format!("turn {}", self.turn));
        }
        if self.tokens > 0 {
            parts.push(format!("{} tok", count(self.tokens)));
        }
        parts.push(took(now.saturating_sub(since)));
        if let Some((doing, from)) = &self.doing {
            parts.push(format!("{doing}  {}", took(now.saturating_sub(*from))));
        }
        Painted::new(Tone::Active, format!(" >>  {}", parts.join("  ")))
    }
}

fn header(name: &str, begun: &Begun) -> String {
    let mut parts = vec![text(name)];
    if let Some(repo) = &begun.repo {
        parts.push(format!("repo {}", text(repo)));
    }
    if let Some(model) = &begun.model {
        parts.push(format!("model {}", text(model)));
    }
    parts.join("   ")
}

fn text(text: &str) -> String {
    untrusted::line(text.trim(), TEXT_CHARS_MAX)
}

/// The text, filled or cut to `cells`.
fn pad(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let missing = cells.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// The text, cut to `cells` with `…` as its end.
fn fit(text: &str, cells: usize) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > cells {
            break;
        }
        used += wide;
        out.push(c);
    }
    if cells > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
