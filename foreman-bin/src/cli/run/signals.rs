//! The two signals by which a person or a system asks a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// Hears both signals; while it lives, none of them ends the process by itself.
pub(in crate::cli) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses.
    pub(in crate::cli) fn listen() -> Result<Self, Failure> {
        let failed =
            |error| Failure::new(Exit::Error, "signals cannot be listened to").because(error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())
                .map_err(anyhow::Error::new)
                .map_err(failed)?,
            terminate: signal(SignalKind::terminate())
                .map_err(anyhow::Error::new)
                .map_err(failed)?,
        })
    }

    /// The next signal, as the exit code that it stands for. Cancelling loses none.
    pub(in crate::cli) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}
