//! Shows what goes on while a person waits: live on a terminal, one fact a line elsewhere. All of it
//! goes to stderr; stdout belongs to results.

mod keys;
mod plain;
mod screen;
mod view;
mod words;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

pub use keys::KeyPress;
pub use plain::{PROGRESS_EVERY, Plain};
pub use screen::LogWriter;
pub use view::{Painted, Size, Tone, View};
pub use words::{count, plural, took};

use crate::follow::Fact;
use crate::output;
use crate::settings::Settings;
use keys::Keys;
use screen::Screen;

/// How often the live view is drawn at most.
pub const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressMode {
    /// Live on a terminal, plain elsewhere.
    #[default]
    Auto,
    /// Live, drawn in place.
    Tty,
    /// One fact a line.
    Plain,
    /// Nothing.
    None,
}

/// What `Auto` depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// Whether stderr is a terminal that can move its cursor (`TERM` is not `dumb`).
    pub live: bool,
    /// Whether `CI` is set.
    pub ci: bool,
    /// Whether the event stream goes to the same terminal.
    pub stdout_in_the_way: bool,
}

impl Surroundings {
    /// Those of this process; `stream` = stdout carries the event stream.
    pub fn of(settings: &Settings, stream: bool) -> Self {
        Self {
            live: std::io::stderr().is_terminal()
                && settings.variable("TERM").is_some_and(|term| term != "dumb"),
            ci: settings.variable("CI").is_some(),
            stdout_in_the_way: stream && std::io::stdout().is_terminal(),
        }
    }
}

impl ProgressMode {
    /// What is really shown. A live view needs a terminal, whoever asks for it.
    #[must_use]
    pub fn decide(self, around: Surroundings) -> Self {
        let live = match self {
            Self::None => return Self::None,
            Self::Auto if around.stdout_in_the_way => return Self::None,
            Self::Plain => false,
            Self::Tty => around.live,
            Self::Auto => around.live && !around.ci,
        };
        if live { Self::Tty } else { Self::Plain }
    }
}

/// Shows facts as they come.
pub struct Progress {
    began: Instant,
    form: Form,
}

enum Form {
    Live {
        view: Box<View>,
        screen: Screen,
        keys: Option<Keys>,
        drawn: Option<Instant>,
        dirty: bool,
    },
    Plain(Box<Plain>),
    None,
}

impl Progress {
    /// Begins to show. `mode` is one that was decided; `budget` is what may be spent, in tokens;
    /// `hint` says what keys do.
    pub fn begin(mode: ProgressMode, settings: &Settings, budget: Option<i64>, hint: &str) -> Self {
        let form = match mode {
            ProgressMode::None => Form::None,
            ProgressMode::Tty => Form::Live {
                view: Box::new(View::new(budget, hint)),
                screen: Screen::open(screen::has_bar(settings)),
                keys: None,
                drawn: None,
                dirty: false,
            },
            ProgressMode::Auto | ProgressMode::Plain => {
                let plain = match settings.variable("GITHUB_ACTIONS") {
                    Some("true") => Plain::for_github(uuid::Uuid::new_v4().to_string()),
                    _ => Plain::new(),
                };
                Form::Plain(Box::new(plain))
            }
        };
        Self { began: Instant::now(), form }
    }

    /// Shows what happened.
    pub fn fact(&mut self, fact: &Fact) {
        let now = self.began.elapsed();
        match &mut self.form {
            Form::Live { view, screen, drawn, dirty, .. } => {
                let before = view.percent();
                let left = view.apply(fact, now);
                if view.percent() != before {
                    screen.done(view.percent());
                }
                *dirty = true;
                if !left.is_empty() {
                    screen.draw(&left, &view.block(Screen::size(), now));
                    (*drawn, *dirty) = (Some(Instant::now()), false);
                }
            }
            Form::Plain(plain) => {
                for line in plain.lines(fact, now) {
                    output::note(line);
                }
            }
            Form::None => {}
        }
    }

    /// Shows that time goes by; to be called every [`REDRAW_EVERY`].
    pub fn tick(&mut self) {
        let now = self.began.elapsed();
        match &mut self.form {
            Form::Live { view, screen, drawn, dirty, .. } => {
                // Without news the clocks in the view move on once a second.
                let pause = if *dirty { REDRAW_EVERY } else { Duration::from_secs(1) };
                if drawn.is_none_or(|drawn| drawn.elapsed() >= pause) {
                    screen.draw(&[], &view.block(Screen::size(), now));
                    (*drawn, *dirty) = (Some(Instant::now()), false);
                }
            }
            Form::Plain(plain) => {
                for line in plain.tick(now) {
                    output::note(line);
                }
            }
            Form::None => {}
        }
    }

    /// Begins to read keys where there is a live view and somebody at it: from now on [`Self::key`]
    /// hears them, and nothing else reads the terminal. Whether it does.
    pub fn listen(&mut self, settings: &Settings) -> bool {
        let Form::Live { keys, .. } = &mut self.form else { return false };
        if keys.is_none() && !settings.no_input {
            *keys = Keys::open();
        }
        keys.is_some()
    }

    /// The next key; never, where none are read. Cancelling loses none.
    pub async fn key(&mut self) -> KeyPress {
        match &mut self.form {
            Form::Live { keys: Some(keys), .. } => keys.next().await,
            Form::Live { keys: None, .. } | Form::Plain(_) | Form::None => {
                std::future::pending().await
            }
        }
    }

    /// Changes what is said of keys.
    pub fn set_hint(&mut self, hint: &str) {
        if let Form::Live { view, dirty, .. } = &mut self.form {
            view.set_hint(hint);
            *dirty = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_view_needs_a_terminal_that_can_and_nothing_in_the_way() {
        use ProgressMode::{Auto, None, Plain, Tty};
        let terminal = Surroundings { live: true, ci: false, stdout_in_the_way: false };
        let pipe = Surroundings { live: false, ..terminal };
        let ci = Surroundings { ci: true, ..terminal };
        let stream = Surroundings { stdout_in_the_way: true, ..terminal };
        let cases = [
            (Auto, terminal, Tty),
            (Auto, pipe, Plain),
            (Auto, ci, Plain),
            (Auto, stream, None),
            (Tty, ci, Tty),
            (Tty, pipe, Plain),
            (Plain, terminal, Plain),
            (None, terminal, None),
        ];
        for (asked, around, shown) in cases {
            assert_eq!(asked.decide(around), shown, "{asked:?} in {around:?}");
        }
    }
}
