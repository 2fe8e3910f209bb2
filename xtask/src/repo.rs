//! The repository this was built from: its files, and how to talk to the person who works on it.

use std::fmt::Arguments;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The files that git knows and that are there, relative to the root, in order.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .context("cannot run git; it is needed to list the files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files: Vec<_> = text
        .split('\0')
        .filter(|name| !name.is_empty() && root.join(name).is_file())
        .map(ToOwned::to_owned)
        .collect();
    files.sort();
    Ok(files)
}

/// Reads a text file of the repository; what is not UTF-8 is shown as `�`.
pub(crate) fn read(root: &Path, name: &str) -> anyhow::Result<String> {
    let bytes = std::fs::read(root.join(name)).with_context(|| format!("cannot read {name}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        bail!("{command:?} failed ({}): {why}", done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Says something on stdout. A closed pipe is the reader's wish, not an error.
pub(crate) fn say(line: Arguments<'_>) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap_or_default();
}

/// Says something on stderr.
pub(crate) fn complain(line: Arguments<'_>) {
    writeln!(std::io::stderr().lock(), "{line}").unwrap_or_default();
}
