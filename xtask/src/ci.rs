//! `cargo xtask ci`: every check that a change must pass, in the order that fails soonest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::repo::{self, say};
use crate::{crds, tidy};

/// One check.
#[derive(Debug)]
struct Step {
    name: &'static str,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A program with its arguments and one variable of the environment.
    Run { args: &'static [&'static str], variable: Option<(&'static str, &'static str)> },
    /// A command of our own.
    Own { verb: &'static str, run: fn() -> anyhow::Result<()> },
    /// The `sh` block of README.md after this comment.
    Readme { mark: &'static str },
}

const STEPS: [Step; 7] = [
    Step { name: "fmt", what: What::Run { args: &["cargo", "fmt", "--check"], variable: None } },
    Step {
        name: "clippy",
        what: What::Run {
            args: &["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
            variable: None,
        },
    },
    Step {
        name: "doc",
        what: What::Run {
            args: &["cargo", "doc", "--workspace", "--no-deps"],
            variable: Some(("RUSTDOCFLAGS", "-D warnings")),
        },
    },
    Step { name: "tidy", what: What::Own { verb: "tidy", run: tidy::run } },
    Step { name: "crds", what: What::Own { verb: "crds --check", run: check_crds } },
    Step { name: "test", what: What::Readme { mark: "<!-- test -->" } },
    Step { name: "main", what: What::Readme { mark: "<!-- main -->" } },
];

fn check_crds() -> anyhow::Result<()> {
    crds::run(std::path::Path::new(crds::DIR), true)
}

/// Runs the steps, or those named in `only`; with `list` prints them.
pub(crate) fn run(list: bool, only: &[String]) -> anyhow::Result<()> {
    let known = STEPS.map(|step| step.name);
    if let Some(odd) = only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no step {odd:?}, use some of: {}", known.join(", "));
    }
    let chosen = |step: &&Step| only.is_empty() || only.iter().any(|name| name == step.name);
    let begin = Instant::now();
    for step in STEPS.iter().filter(chosen) {
        if list {
            let command = step.command().unwrap_or_else(|error| format!("({error:#})"));
            say(format_args!("{:7} {command}", step.name));
            continue;
        }
        say(format_args!("==> {}: {}", step.name, step.command()?));
        let start = Instant::now();
        step.run()?;
        say(format_args!("==> {}: ok, {:.1} s", step.name, start.elapsed().as_secs_f64()));
    }
    if !list {
        say(format_args!("all passed, {:.1} s", begin.elapsed().as_secs_f64()));
    }
    Ok(())
}

impl Step {
    /// The command that repeats this step.
    fn command(&self) -> anyhow::Result<String> {
        Ok(match &self.what {
            What::Run { args, variable } => {
                let before = variable.map(|(name, value)| format!("{name}='{value}' "));
                format!("{}{}", before.unwrap_or_default(), args.join(" "))
            }
            What::Own { verb, .. } => format!("cargo xtask {verb}"),
            What::Readme { mark } => block(&readme()?, mark)?,
        })
    }

    fn run(&self) -> anyhow::Result<()> {
        let mut command = match &self.what {
            What::Own { run, .. } => return run().with_context(|| self.failed("")),
            What::Run { args, variable } => {
                let (program, rest) = args.split_first().context("a step without a program")?;
                let mut command = Command::new(program);
                command.args(rest).envs(*variable);
                command
            }
            What::Readme { mark } => {
                let mut command = Command::new("sh");
                command.arg("-euc").arg(block(&readme()?, mark)?);
                command
            }
        };
        let status = command
            .current_dir(repo::root())
            .status()
            .with_context(|| self.failed(" (the program cannot be started)"))?;
        if !status.success() {
            bail!(self.failed(&format!(" ({status})")));
        }
        Ok(())
    }

    fn failed(&self, how: &str) -> String {
        let again = self.command().unwrap_or_else(|_| format!("cargo xtask ci {}", self.name));
        format!("step {} failed{how}; to repeat it: {again}", self.name)
    }
}

fn readme() -> anyhow::Result<String> {
    repo::read(&repo::root(), "README.md")
}

/// The first fenced `sh` block after the line `mark`.
fn block(text: &str, mark: &str) -> anyhow::Result<String> {
    let after = text
        .split_once(mark)
        .map(|(_, after)| after)
        .with_context(|| format!("README.md has no line {mark}"))?;
    let mut lines = after.lines().skip_while(|line| line.trim().is_empty());
    if lines.next().map(str::trim) != Some("```sh") {
        bail!("README.md: after {mark} a block ```sh must follow at once");
    }
    let body: Vec<_> = lines.clone().take_while(|line| line.trim() != "```").collect();
    if lines.count() == body.len() || body.iter().all(|line| line.trim().is_empty()) {
        bail!("README.md: the block after {mark} is empty or does not end");
    }
    Ok(body.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_by_their_mark() {
        let text = "# A\n```sh\nother\n```\n<!-- test -->\n\n```sh\ncargo test\ntrue\n```\nmore\n";
        assert_eq!(block(text, "<!-- test -->").expect("there"), "cargo test\ntrue");
        let broken = |text: &str| block(text, "<!-- main -->").expect_err("broken").to_string();
        assert_eq!(broken(text), "README.md has no line <!-- main -->");
        assert!(broken("<!-- main -->\ntext\n```sh\nx\n```\n").contains("must follow at once"));
        assert!(broken("<!-- main -->\n```sh\nx\n").contains("does not end"));
        assert!(broken("<!-- main -->\n```sh\n\n```\n").contains("is empty"));
    }

    #[test]
    fn an_unknown_step_names_the_known_ones() {
        let error = run(true, &["tests".to_owned()]).expect_err("unknown").to_string();
        assert_eq!(
            error,
            "there is no step \"tests\", use some of: fmt, clippy, doc, tidy, crds, test, main"
        );
    }

    #[test]
    fn steps_say_how_to_repeat_them() {
        let commands: Vec<_> =
            STEPS.iter().take(5).map(|step| step.command().expect("a command")).collect();
        assert_eq!(commands[2], "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps");
        assert_eq!(commands[4], "cargo xtask crds --check");
    }
}
