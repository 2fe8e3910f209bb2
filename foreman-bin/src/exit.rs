//! How a command ended, as a number that scripts can rely on, and the error that carries it.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; a workload or task ended on target.
    OnTarget,
    /// 1: Foreman's own error.
    Error,
    /// 2: wrong usage, or an invalid manifest.
    Usage,
    /// 3: the work finished, but not on target (NO-GO, INCOMPLETE, GATE-FAIL).
    NotOnTarget,
    /// 4: infrastructure: no model, no sandbox, no git, a refused push.
    Infrastructure,
    /// 5: a person is needed: an approval, a spent budget.
    NeedsPerson,
    /// 6: still going: detached, or waited too long.
    StillGoing,
    /// 75: another session took over this node.
    Superseded,
    /// 130: interrupted (SIGINT).
    Interrupted,
    /// 143: asked to end (SIGTERM, SIGHUP) before the work was over.
    Terminated,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::OnTarget,
        Self::Error,
        Self::Usage,
        Self::NotOnTarget,
        Self::Infrastructure,
        Self::NeedsPerson,
        Self::StillGoing,
        Self::Superseded,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The process' exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::OnTarget => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NotOnTarget => 3,
            Self::Infrastructure => 4,
            Self::NeedsPerson => 5,
            Self::StillGoing => 6,
            Self::Superseded => 75,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// What it means, for `foreman help exit-codes`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::OnTarget => "done; work that was waited for ended on target (GO, GATE-PASS)",
            Self::Error => "Foreman's own error: something is missing, unreadable or broken",
            Self::Usage => "wrong usage, or an invalid manifest; nothing was changed",
            Self::NotOnTarget => {
                "the work finished, but not on target (NO-GO, INCOMPLETE, GATE-FAIL)"
            }
            Self::Infrastructure => {
                "infrastructure: no model server, no sandbox, git or a push was refused"
            }
            Self::NeedsPerson => "a person is needed: an approval, a spent budget",
            Self::StillGoing => "still going: detached, or the wait timed out",
            Self::Superseded => "another agent took over this node; nothing was lost",
            Self::Interrupted => "interrupted (Ctrl-C); the work is kept",
            Self::Terminated => {
                "ended by SIGTERM, or with its terminal, before the work was over; the work is kept"
            }
        }
    }

    /// How the command of this error ended.
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if error.is::<crate::manifest_file::Problems>() { Self::Usage } else { Self::Error }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows its exit code and what to do next. Add causes below it with
/// `anyhow::Context`, or above it with [`Failure::because`].
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    next: Vec<String>,
    source: Option<anyhow::Error>,
}

impl Failure {
    /// What failed, lower case, without a full stop.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), next: Vec::new(), source: None }
    }

    /// Adds a command or a hint that gets the person on; shown as a line `next: …`.
    #[must_use]
    pub fn next(mut self, hint: impl Into<String>) -> Self {
        self.next.push(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// How the command ended.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What to do next.
    pub fn hints(&self) -> &[String] {
        &self.next
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 75, 130, 143]);
    }

    #[test]
    fn an_error_carries_its_exit_through_contexts() {
        let failure =
            Failure::new(Exit::Infrastructure, "no model server found").next("foreman demo");
        let error = anyhow::Error::new(failure).context("starting the run");
        assert_eq!(Exit::of(&error), Exit::Infrastructure);
        assert_eq!(Exit::of(&anyhow::anyhow!("anything")), Exit::Error);
        let problems = crate::manifest_file::Problems(Vec::new());
        assert_eq!(Exit::of(&anyhow::Error::new(problems)), Exit::Usage);
        let io: Result<(), _> = Err(std::io::Error::other("disk"));
        let error = io.context("writing").expect_err("it failed");
        assert_eq!(Exit::of(&error), Exit::Error);
    }
}
