//! The last words of a run: the verdict, where the result is, and commands that exist.

use std::path::Path;

use super::flow::{Followed, Kept};
use super::repository::shell_word;
use super::show::LastWords;
use crate::exit::Exit;
use crate::follow::Tally;
use crate::output::{Paint, paint};
use crate::untrusted;

/// Characters of a commit or tree that are shown.
const HASH_CHARS: usize = 7;
/// The longest name that is shown, in characters.
const NAME_CHARS_MAX: usize = 253;

/// What the last words need to know beside the tally.
pub(in crate::cli) struct About<'a> {
    /// The workload.
    pub(in crate::cli) workload: &'a str,
    /// The repository's folder, if the branch is in one on this machine.
    pub(in crate::cli) folder: Option<&'a Path>,
    /// The repository's URL otherwise.
    pub(in crate::cli) url: Option<&'a str>,
    /// The branch or commit that the work started from.
    pub(in crate::cli) base: Option<&'a str>,
    /// The flags by which other commands find the same store, e.g. ` --data-dir DIR`.
    pub(in crate::cli) flags: &'a str,
    /// Commands that go on with the work, the one that follows it first.
    pub(in crate::cli) go_on: &'a [String],
}

/// The last words of a workload that was followed.
pub(in crate::cli) fn last_words(
    about: &About<'_>,
    followed: &Followed,
    tally: &Tally,
) -> LastWords {
    match followed {
        Followed::Settled => settled(about, tally),
        Followed::Stopped { exit, kept } => stopped(about, *exit, kept, tally),
        Followed::Detached(holder) => detached(about, holder),
        Followed::Deleted(error) => LastWords {
            exit: Exit::NotOnTarget,
            workload: Some(about.workload.to_owned()),
            lines: vec![error.to_string()],
            next: vec![format!("foreman get workloads{}", about.flags)],
            error: Some(error.to_string()),
        },
    }
}

fn settled(about: &About<'_>, tally: &Tally) -> LastWords {
    let exit = tally.exit();
    let describe = format!("foreman describe workload/{}{}", about.workload, about.flags);
    let mut next = Vec::new();
    let mut lines = Vec::new();
    if exit == Exit::NeedsPerson {
        let why = tally.needs_person().unwrap_or_default();
        lines.push(format!("waits for you: {}", untrusted::line(why, 300)));
    } else {
        lines.push(verdict_line(tally));
        lines.extend(missed(tally));
    }
    if let Some(diff) = tally.branch().and_then(|branch| diff_command(about, branch)) {
        next.push(diff);
    }
    next.push(describe);
    if exit == Exit::Infrastructure {
        next.push("foreman doctor".to_owned());
    }
    LastWords { exit, workload: Some(about.workload.to_owned()), lines, next, error: None }
}

/// `GO verified (gate passed on tree 9b1c2e)  branch foreman/fix-login-7f3a`.
fn verdict_line(tally: &Tally) -> String {
    let verdict = untrusted::line(tally.verdict().unwrap_or("nothing was decided"), 40);
    let good = tally.exit() == Exit::OnTarget;
    let mut line = paint(if good { Paint::Good } else { Paint::Bad }, &verdict);
    if tally.verified() {
        let tree = tally.gate().last().map(|gate| short(&gate.tree)).unwrap_or_default();
        let on = if tree.is_empty() { String::new() } else { format!(" on tree {tree}") };
        line = format!("{line} verified (gate passed{on})");
    } else if good {
        line.push_str(&paint(Paint::Warn, " not verified (no gate passed)"));
    }
    if let Some(branch) = tally.branch() {
        line = format!("{line}  branch {}", untrusted::line(branch, NAME_CHARS_MAX));
    }
    line
}

/// Why tasks missed the target.
fn missed(tally: &Tally) -> Vec<String> {
    let missed =
        tally.counting().filter(|(_, ended)| !ended.on_target && ended.verdict != "Skipped");
    missed
        .map(|(task, ended)| {
            let (task, message) =
                (untrusted::line(task, NAME_CHARS_MAX), untrusted::line(&ended.message, 500));
            let verdict = untrusted::line(&ended.verdict, 40);
            format!("  task/{task}: {verdict}: {message}")
        })
        .collect()
}

/// A person left the work to the one that does it.
fn detached(about: &About<'_>, holder: &str) -> LastWords {
    let holder = untrusted::line(holder, 100);
    let mut next: Vec<String> = about.go_on.iter().take(1).cloned().collect();
    next.push(format!("foreman describe workload/{}{}", about.workload, about.flags));
    LastWords {
        exit: Exit::StillGoing,
        workload: Some(about.workload.to_owned()),
        lines: vec![
            format!("workload/{}", about.workload),
            format!("detached; {holder} goes on with the work"),
        ],
        next,
        error: None,
    }
}

fn stopped(about: &About<'_>, exit: Exit, kept: &Kept, tally: &Tally) -> LastWords {
    let what = if exit == Exit::Terminated {
        "terminated"
    } else if exit == Exit::StillGoing {
        "the events cannot be told any more"
    } else {
        "interrupted"
    };
    let mut next = about.go_on.to_vec();
    let mut lines = Vec::new();
    match kept {
        Kept::Elsewhere(holder) => {
            lines.push(format!("{what}; {} goes on with the work", untrusted::line(holder, 100)));
            next.truncate(1);
        }
        Kept::HandedOver | Kept::Adopted => {
            lines.push(format!("{what}; the work is kept"));
            for (task, turn) in tally.kept() {
                let task = untrusted::line(task, NAME_CHARS_MAX);
                lines.push(format!("  task/{task} goes on after turn {turn}"));
            }
        }
    }
    if *kept == Kept::Adopted {
        let line = "  not everything was handed over: what a turn had begun is done again";
        lines.push(line.to_owned());
    }
    LastWords {
        exit,
        workload: Some(about.workload.to_owned()),
        lines,
        next,
        error: Some(what.to_owned()),
    }
}

/// The command that shows the change with the user's own git.
fn diff_command(about: &About<'_>, branch: &str) -> Option<String> {
    let word = shell_word(branch);
    if let Some(folder) = about.folder {
        let base = shell_word(about.base.unwrap_or("HEAD"));
        let folder = shell_word(folder.to_str()?);
        return Some(format!("git -C {folder} diff {base}...{word}"));
    }
    let url = shell_word(about.url?);
    Some(format!("git fetch {url} {word} && git diff HEAD...FETCH_HEAD"))
}

/// The beginning of a hash.
pub(in crate::cli) fn short(hash: &str) -> String {
    hash.chars().filter(char::is_ascii_alphanumeric).take(HASH_CHARS).collect()
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
