//! Colours. They say nothing that the words do not say.

use anstyle::{AnsiColor, Style};

/// What a text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it should be.
    Good,
    /// Needs attention.
    Warn,
    /// Wrong.
    Bad,
    /// Under way.
    Busy,
    /// A heading.
    Strong,
    /// Of less weight.
    Dim,
}

impl Paint {
    fn style(self) -> Style {
        let color = |color: AnsiColor| Style::new().fg_color(Some(anstyle::Color::Ansi(color)));
        match self {
            Self::Good => color(AnsiColor::Green),
            Self::Warn => color(AnsiColor::Yellow),
            Self::Bad => color(AnsiColor::Red),
            Self::Busy => color(AnsiColor::Cyan),
            Self::Strong => Style::new().bold(),
            Self::Dim => Style::new().dimmed(),
        }
    }
}

/// The text with its colour; anstream takes it away where it is not wanted.
pub fn paint(paint: Paint, text: &str) -> String {
    let style = paint.style();
    format!("{style}{text}{style:#}")
}

/// A word of a phase, verdict or verification with its colour; others as they are.
pub fn word(text: &str) -> String {
    match text {
        "Succeeded" | "Completed" | "Ready" | "GO" | "GATE-PASS" | "Passed" => {
            paint(Paint::Good, text)
        }
        "Failed" | "NotReady" | "NO-GO" | "GATE-FAIL" | "GATE-ERROR" | "Error" => {
            paint(Paint::Bad, text)
        }
        "Pending" | "INCOMPLETE" | "NotVerified" | "Draining" | "Unknown" => {
            paint(Paint::Warn, text)
        }
        "Running" | "Scheduled" | "Planning" | "Dispatched" => paint(Paint::Busy, text),
        _ => text.to_owned(),
    }
}
