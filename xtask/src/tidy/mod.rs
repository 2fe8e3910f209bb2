//! `cargo xtask tidy`: what no compiler checks.

mod dependencies;
mod links;
mod sources;

use anyhow::bail;

use crate::repo::{self, say};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the root.
    pub(crate) file: String,
    /// The line, from 1; 0 = the whole file.
    pub(crate) line: usize,
    /// What is wrong and what to do.
    pub(crate) message: String,
    /// Whether it fails the check.
    pub(crate) weight: Weight,
}

/// Whether a finding fails the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// It is said, no more.
    Warning,
    /// It fails the check.
    Error,
}

impl Finding {
    fn error(file: &str, line: usize, message: String) -> Self {
        Self { file: file.to_owned(), line, message, weight: Weight::Error }
    }

    fn warning(file: &str, line: usize, message: String) -> Self {
        Self { file: file.to_owned(), line, message, weight: Weight::Warning }
    }
}

/// Checks the repository and says what it found.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = repo::root();
    let files = repo::files(&root)?;
    let mut findings = links::check(&root, &files)?;
    findings.extend(sources::check(&root, &files)?);
    findings.extend(dependencies::check(&root, &files)?);
    findings.sort();
    for finding in &findings {
        let word = match finding.weight {
            Weight::Warning => "warning",
            Weight::Error => "error",
        };
        say(format_args!("{}:{}: {word}: {}", finding.file, finding.line, finding.message));
    }
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    if errors > 0 {
        bail!("tidy found {errors} error(s), listed above");
    }
    say(format_args!("{} files are tidy, {} warning(s)", files.len(), findings.len()));
    Ok(())
}
