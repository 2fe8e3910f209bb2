//! A block of lines at the end of a terminal that is drawn again in place, inline: no alternate
//! screen, and what left the block scrolls away like any other output.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use unicode_width::UnicodeWidthStr as _;

use super::view::{Painted, Size, Tone};
use crate::output::{Paint, paint};
use crate::settings::Settings;

/// The size that is taken when the terminal does not tell its own.
const SIZE_FALLBACK: Size = Size { width: 80, height: 24 };
/// Less than this is no size at all: a terminal that says so does not know.
const SIZE_MIN: usize = 4;
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Takes the progress out of a tab or task bar.
const BAR_AWAY: &str = "\x1b]9;4;0;\x1b\\";
/// From the cursor to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// What stands on stderr now; a process has one, and whoever ends it must know.
struct State {
    /// Whether the cursor is hidden.
    hidden: bool,
    /// Widths in cells of the block's lines that stand there.
    drawn: Vec<usize>,
}

impl State {
    /// The rows that the block takes now. A line that was drawn before the terminal became narrower
    /// was broken by it.
    fn rows(&self, size: Size) -> usize {
        let rows = self.drawn.iter().map(|cells| cells.div_ceil(size.width).max(1)).sum::<usize>();
        // What left the screen at its top cannot be reached.
        rows.min(size.height.saturating_sub(1))
    }
}

static STATE: Mutex<State> = Mutex::new(State { hidden: false, drawn: Vec::new() });
static PANIC_HOOK: Once = Once::new();

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stderr as a screen. Shows the cursor again when it is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    color: bool,
    /// Whether the terminal shows progress by OSC 9;4.
    bar: bool,
}

/// Whether the terminal understands OSC 9;4; others may show it as text or as a notification.
pub(super) fn has_bar(settings: &Settings) -> bool {
    let program = settings.variable("TERM_PROGRAM");
    settings.variable("WT_SESSION").is_some()
        || settings.variable("ConEmuANSI") == Some("ON")
        || program.is_some_and(|program| matches!(program, "WezTerm" | "ghostty"))
}

/// Stderr for lines of a log: they go above the live view, if there is one, and push it down.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = state();
        let mut stderr = io::stderr().lock();
        if !state.drawn.is_empty() {
            let rows = state.rows(Screen::size());
            stderr.write_all(frame(rows, &[], &[], false).as_bytes())?;
            state.drawn.clear();
        }
        stderr.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Screen {
    /// Takes stderr, which must be a terminal.
    pub(super) fn open(bar: bool) -> Self {
        PANIC_HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                before(panic);
            }));
        });
        let color = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
        set_hidden(true);
        Self { color, bar }
    }

    /// The terminal's size.
    pub(super) fn size() -> Size {
        let Ok(size) = rustix::termios::tcgetwinsize(io::stderr()) else { return SIZE_FALLBACK };
        let known = |cells: u16, fallback: usize| {
            let cells = usize::from(cells);
            if cells < SIZE_MIN { fallback } else { cells }
        };
        Size {
            width: known(size.ws_col, SIZE_FALLBACK.width),
            height: known(size.ws_row, SIZE_FALLBACK.height),
        }
    }

    /// Lets `left` scroll away above the block, and draws `block` in place of the one before.
    pub(super) fn draw(&mut self, left: &[Painted], block: &[Painted]) {
        let mut state = state();
        let text = frame(state.rows(Self::size()), left, block, self.color);
        state.drawn = block.iter().map(|line| line.text.width()).collect();
        put(&text);
    }

    /// Shows how much is done where the terminal has a place for it (a tab, a task bar).
    pub(super) fn done(&self, percent: usize) {
        if self.bar {
            put(&format!("\x1b]9;4;1;{percent}\x1b\\"));
        }
    }

    /// Takes the block away, e.g. before the last words.
    pub(super) fn clear(&mut self) {
        self.draw(&[], &[]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
        if self.bar {
            put(BAR_AWAY);
        }
        restore();
    }
}

/// What is written to get from a block of `drawn` rows to the next one.
fn frame(drawn: usize, left: &[Painted], block: &[Painted], color: bool) -> String {
    let mut text = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
    text.push('\r');
    text.push_str(CLEAR_BELOW);
    for line in left.iter().chain(block) {
        text.push_str(&painted(line, color));
        text.push('\n');
    }
    text
}

fn painted(line: &Painted, color: bool) -> String {
    let tone = match line.tone {
        Tone::Plain => return line.text.clone(),
        Tone::Good => Paint::Good,
        Tone::Bad => Paint::Bad,
        Tone::Active => Paint::Busy,
        Tone::Dim => Paint::Dim,
    };
    if color { paint(tone, &line.text) } else { line.text.clone() }
}

/// Shows the cursor, if it was hidden, and lets the terminal read lines again.
fn restore() {
    super::keys::restore();
    set_hidden(false);
}

fn set_hidden(hide: bool) {
    let mut state = state();
    if state.hidden != hide {
        state.hidden = hide;
        put(if hide { HIDE_CURSOR } else { SHOW_CURSOR });
    }
}

/// Writes in one piece, so that other lines do not fall in between. A terminal that is gone is
/// nobody's business.
fn put(text: &str) {
    let mut stderr = io::stderr().lock();
    if !stderr.is_terminal()
        || stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).is_err()
    {
        tracing::debug!("stderr is no terminal any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, tone: Tone) -> Painted {
        Painted { text: text.to_owned(), tone }
    }

    #[test]
    fn a_frame_goes_over_the_one_before_and_lets_finished_lines_stay_above() {
        let block = [line("a", Tone::Active), line("b", Tone::Plain)];
        assert_eq!(frame(0, &[], &block, false), "\r\x1b[Ja\nb\n");
        let left = [line("done", Tone::Good)];
        assert_eq!(frame(2, &left, &block[1..], false), "\x1b[2A\r\x1b[Jdone\nb\n");
        assert_eq!(frame(1, &[], &[], false), "\x1b[1A\r\x1b[J");
    }

    #[test]
    fn a_terminal_that_became_narrower_has_broken_the_lines() {
        let state = State { hidden: true, drawn: vec![79, 40, 0, 20] };
        let rows = |width, height| state.rows(Size { width, height });
        assert_eq!(rows(80, 24), 4);
        assert_eq!(rows(40, 24), 2 + 1 + 1 + 1);
        assert_eq!(rows(20, 24), 4 + 2 + 1 + 1);
        assert_eq!(rows(20, 6), 5, "the rest is out of reach");
        assert_eq!(
            State { hidden: true, drawn: Vec::new() }.rows(Size { width: 20, height: 6 }),
            0
        );
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let block = [line("a", Tone::Bad)];
        assert!(frame(0, &[], &block, true).contains("\x1b[31ma\x1b[0m"));
        assert!(!frame(0, &[], &block, false).contains("\x1b[31m"));
    }
}
