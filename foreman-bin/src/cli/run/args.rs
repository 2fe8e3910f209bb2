//! The flags of `foreman run`.

use std::path::PathBuf;
use std::time::Duration;

use foreman_core::model::shared::Budget;

use super::quantities;
use super::show::RunOutput;
use crate::progress::ProgressMode;
use crate::settings::{ModelFlags, NodeFlags};

/// Flags of `foreman run`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Give a repository and an intent, get a branch whose change has passed the repository's own gate and a \
review. What a reviewer rejects goes back to the coder once (--fix-rounds), with the findings and in the same conversation. Nothing but that branch is written; your working copy is not touched. Work survives Ctrl-C, crashes and \
reboots: foreman run --continue NAME, or foreman up, goes on with it. Where another process works on the data directory, \
the work is given to that one and followed; in the live view the key d then detaches from it. Agents named foreman-coder, foreman-verifier and foreman-reviewer are made where \
they are absent; those that are there are left as they are.",
    after_long_help = "Examples:\n  foreman run --repo . \"greet the world when no name is given\"\n  \
foreman run --repo . --gate \"make test\" --no-review \"fix the flaky login test\"\n  \
foreman run --repo owner/name --token-file token \"drop the dead flag --old\"\n  \
foreman run --file workload.yaml -o jsonl\n  foreman run --continue fix-login-7f3a"
)]
#[expect(
    clippy::doc_markdown,
    reason = "the comments are help texts, where backticks would be shown"
)]
pub struct RunArgs {
    /// What is wanted, in your words
    #[arg(value_name = "INTENT", required_unless_present_any = ["file", "continue_with"], conflicts_with_all = ["file", "continue_with"])]
    pub intent: Option<String>,
    /// The repository: a folder (its committed HEAD), a URL, or owner/name [default: .]
    #[arg(long, value_name = "REPO", conflicts_with_all = ["file", "continue_with"])]
    pub repo: Option<String>,
    /// Run the Workload of a manifest instead; - for stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "continue_with")]
    pub file: Option<PathBuf>,
    /// Go on with a workload that is there already
    #[arg(long = "continue", value_name = "WORKLOAD")]
    pub continue_with: Option<String>,
    /// A command that must pass, run in this order; up to 5 [default: what the repository says]
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["file", "continue_with"])]
    pub gate: Vec<String>,
    /// Leave the review out
    #[arg(long, conflicts_with_all = ["file", "continue_with"])]
    pub no_review: bool,
    /// How often a reviewer's findings go back to the coder; 0 = never [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..), conflicts_with_all = ["file", "continue_with", "no_review"])]
    pub fix_rounds: Option<i32>,
    /// Push the branch there, not into the repository
    #[arg(long, value_name = "REPO", conflicts_with_all = ["file", "continue_with"])]
    pub push_to: Option<String>,
    /// Start from this branch [default: the repository's HEAD]
    #[arg(long, value_name = "BRANCH", conflicts_with_all = ["file", "continue_with"])]
    pub base: Option<String>,
    /// The branch to make [default: foreman/WORKLOAD]
    #[arg(long, value_name = "BRANCH", conflicts_with_all = ["file", "continue_with"])]
    pub branch: Option<String>,
    /// How long each step may run, e.g. 90s, 30m, 2h
    #[arg(long, value_name = "TIME", value_parser = quantities::duration, conflicts_with_all = ["file", "continue_with"])]
    pub timeout: Option<Duration>,
    /// What it may spend, e.g. tokens=2M,turns=40,wall=3h; a spent budget pauses
    #[arg(long, value_name = "BUDGET", value_parser = quantities::budget, conflicts_with_all = ["file", "continue_with"])]
    pub budget: Option<Budget>,
    /// File with the token that git shows to the repository's host [env: FOREMAN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Write the workload, print its name and leave it to foreman up
    #[arg(short, long, conflicts_with = "continue_with")]
    pub detach: bool,
    /// What is shown on stderr meanwhile
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub progress: ProgressMode,
    /// What stdout carries: words, one JSON object at the end, or the event stream
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t)]
    pub output: RunOutput,
    /// The model server.
    #[command(flatten)]
    pub model: ModelFlags,
    /// This machine as a node.
    #[command(flatten)]
    pub node: NodeFlags,
}
