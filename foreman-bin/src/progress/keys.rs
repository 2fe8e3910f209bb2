//! Single keys from the terminal: no Enter is waited for, nothing is echoed. Signals (Ctrl-C, Ctrl-Z)
//! stay what they are.

use std::future::pending;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
    ttyname,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Bytes that are read at once. What comes in one piece and is more than a key that is held down is a
/// paste or a function key, and not meant for us.
const READ_BYTES: usize = 64;

/// How the terminal was before; a process has one, and whoever ends it must put it back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPress {
    /// `d`: leave the work to others.
    Detach,
}

impl KeyPress {
    /// The key of what was read in one piece.
    fn of(read: &[u8]) -> Option<Self> {
        (!read.is_empty() && read.iter().all(|byte| *byte == b'd')).then_some(Self::Detach)
    }
}

/// The terminal behind stdin, key by key, until dropped.
#[derive(Debug)]
pub(super) struct Keys {
    terminal: AsyncFd<OwnedFd>,
}

impl Keys {
    /// Takes the terminal; none when stdin is none, or it belongs to another process just now. Needs
    /// the runtime.
    pub(super) fn open() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !in_foreground(&stdin) {
            return None;
        }
        let taken = Self::take(&stdin);
        taken.inspect_err(|error| tracing::debug!(%error, "no keys are read")).ok()
    }

    fn take(stdin: &impl AsFd) -> io::Result<Self> {
        // A description of its own: that reading must not wait is nobody else's business, and the
        // shell's stdin is the same description as ours.
        let name = ttyname(stdin, Vec::new())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name, flags, Mode::empty())?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe, for descriptors that may be closed early; this one is owned"
        )]
        let terminal = AsyncFd::with_interest(terminal, Interest::READABLE)?;
        let before = tcgetattr(stdin)?;
        let mut single = before.clone();
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        single.special_codes[SpecialCodeIndex::VMIN] = 1;
        single.special_codes[SpecialCodeIndex::VTIME] = 0;
        // Made before the terminal is changed: from here on dropping puts it back.
        let keys = Self { terminal };
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(stdin, OptionalActions::Now, &single)?;
        Ok(keys)
    }

    /// The next key that means something; never, once the terminal is gone. Cancelling loses none.
    pub(super) async fn next(&mut self) -> KeyPress {
        loop {
            let Ok(mut ready) = self.terminal.readable().await else { return pending().await };
            // Reading in the background (Ctrl-Z, `bg`) would stop the process.
            if !in_foreground(self.terminal.get_ref()) {
                ready.clear_ready();
                continue;
            }
            let mut read = [0; READ_BYTES];
            match ready.try_io(|terminal| Ok(rustix::io::read(terminal.get_ref(), &mut read)?)) {
                Ok(Ok(0)) => return pending().await,
                Ok(Ok(bytes)) => {
                    if let Some(key) = read.get(..bytes).and_then(KeyPress::of) {
                        return key;
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(_)) => return pending().await,
                // Nothing there after all.
                Err(_) => {}
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back, if it was taken. In the background the shell has done so, and a process
/// that tries is stopped.
pub(super) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let stdin = io::stdin();
    if let Some(before) = before
        && in_foreground(&stdin)
        && let Err(error) = tcsetattr(&stdin, OptionalActions::Now, &before)
    {
        tracing::debug!(%error, "the terminal could not be put back");
    }
}

/// Whether this process may use the terminal: it is the one that the shell waits for.
fn in_foreground(terminal: &impl AsFd) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_means_something() {
        assert_eq!(KeyPress::of(b"d"), Some(KeyPress::Detach));
        assert_eq!(KeyPress::of(b"ddd"), Some(KeyPress::Detach), "held down");
        for other in [&b""[..], b"D", b"\x1b[d", b"git add .\n"] {
            assert_eq!(KeyPress::of(other), None, "{other:?}");
        }
    }
}
