//! The signals by which a person or a system asks a process to end.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// Hears the signals; while it lives, none of them ends the process by itself.
pub(in crate::cli) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is gone. None where the process was told to live on without it (`nohup`).
    hangup: Option<Signal>,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses.
    pub(in crate::cli) fn listen() -> Result<Self, Failure> {
        let hear = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Error, "signals cannot be listened to").because(error)
            })
        };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: if hangup_is_for_us() { Some(hear(SignalKind::hangup())?) } else { None },
        })
    }

    /// The next signal, as the exit code that it stands for. Cancelling loses none.
    pub(in crate::cli) async fn next(&mut self) -> Exit {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = hung_up => Exit::Terminated,
        }
    }
}

/// Returns after that long; never where there is no limit.
pub(in crate::cli) async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP would end this process. To listen to one that is ignored would undo `nohup`; where
/// the system does not tell, it is left as it is: the process ends, and its journals keep the work.
fn hangup_is_for_us() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| !ignores_hangup(&status))
}

/// Whether the text of `/proc/PID/status` has SIGHUP, signal 1, among the ignored ones.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_under_nohup_is_known_by_its_mask() {
        let status = |mask: &str| format!("Name:\tforeman\nSigBlk:\t0\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(ignores_hangup("Name:\tforeman\n"), "not told: left alone");
    }
}
