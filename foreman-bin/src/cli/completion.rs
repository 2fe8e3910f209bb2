//! `foreman completion`: scripts for shells, and the live names behind them.

use std::ffi::OsStr;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use foreman_core::model::manifest::AnyKind;

use super::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

/// The variable by which a shell asks for completions.
const ASKED_BY: &str = "FOREMAN_COMPLETE";

/// Flags of `foreman completion`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Print a completion script for a shell. It completes verbs, flags, kinds and the names of objects \
in the store.",
    after_long_help = "Examples:\n  foreman completion bash > ~/.local/share/bash-completion/completions/foreman\n  \
foreman completion zsh > ~/.zfunc/_foreman\n  foreman completion fish > ~/.config/fish/completions/foreman.fish"
)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    pub shell: String,
}

/// Prints the script.
///
/// # Errors
/// The script cannot be written.
pub fn completion(args: &CompletionArgs) -> anyhow::Result<Exit> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("there is no completion for {:?}", args.shell))
    })?;
    let mut script = Vec::new();
    shell.write_registration(ASKED_BY, "foreman", "foreman", "foreman", &mut script)?;
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::OnTarget)
}

/// Answers the shell if it is a shell that asks. Then the process ends here.
pub fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(ASKED_BY).complete();
}

/// Names of objects, for the shell.
pub fn names(typed: &OsStr) -> Vec<CompletionCandidate> {
    of_kinds(typed, &AnyKind::ALL)
}

/// Names of nodes.
pub fn nodes(typed: &OsStr) -> Vec<CompletionCandidate> {
    of_kinds(typed, &[AnyKind::FleetNode])
}

/// Names of tasks.
pub fn tasks(typed: &OsStr) -> Vec<CompletionCandidate> {
    of_kinds(typed, &[AnyKind::AgenticTask])
}

/// Names of what is done: workloads and tasks.
pub fn work(typed: &OsStr) -> Vec<CompletionCandidate> {
    of_kinds(typed, &[AnyKind::Workload, AnyKind::AgenticTask])
}

fn of_kinds(typed: &OsStr, kinds: &[AnyKind]) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let mut candidates = super::world::names_for_completion(kinds);
    candidates.retain(|name| name.starts_with(&*typed));
    candidates.into_iter().map(CompletionCandidate::new).collect()
}
