//! `foreman help`: verbs and topics.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::Cli;
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint, Table, paint};
use crate::settings::{Paths, SETTINGS};
use crate::target;

/// The topics beside the verbs.
const TOPICS: [&str; 3] = ["exit-codes", "environment", "files"];

/// Variables of others that are honoured, and for what.
pub(super) const HONOURED: [(&str, &str); 8] = [
    ("XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME", "base directories, on macOS too"),
    ("RUST_LOG", "what is logged; wins over --log-level"),
    ("NO_COLOR, CLICOLOR_FORCE, FORCE_COLOR, TERM=dumb", "whether there are colours"),
    ("CI", "no questions, no live view"),
    ("GITHUB_ACTIONS", "gate output is folded, failures become annotations"),
    ("OLLAMA_HOST, OPENAI_BASE_URL, OPENAI_API_KEY", "model servers that are asked, too"),
    ("HTTPS_PROXY, NO_PROXY", "how model servers are reached"),
    ("FOREMAN_COMPLETE", "set by completion scripts"),
];

/// Flags of `foreman help`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Explain a verb, or a topic: exit-codes, environment, files.",
    after_long_help = "Examples:\n  foreman help run\n  foreman help exit-codes"
)]
pub struct HelpArgs {
    /// A verb or a topic
    #[arg(value_name = "VERB|TOPIC")]
    pub topic: Option<String>,
}

/// Prints the help.
///
/// # Errors
/// There is no such verb or topic.
pub fn help(args: &HelpArgs, paths: Option<&Paths>) -> anyhow::Result<Exit> {
    let mut root = Cli::command().bin_name("foreman");
    root.build();
    let text = match args.topic.as_deref() {
        None => root.render_long_help().ansi().to_string(),
        Some("exit-codes") => exit_codes(),
        Some("environment") => environment(),
        Some("files") => files(paths),
        Some(verb) => match root.find_subcommand_mut(verb) {
            Some(command) => command.render_long_help().ansi().to_string(),
            None => return Err(unknown(&root, verb).into()),
        },
    };
    output::print(&text)?;
    Ok(Exit::OnTarget)
}

fn unknown(root: &clap::Command, topic: &str) -> Failure {
    let verbs = root.get_subcommands().map(clap::Command::get_name);
    let known: Vec<&str> = verbs.chain(TOPICS).collect();
    let failure = Failure::new(Exit::Usage, format!("there is no verb or topic {topic:?}"));
    match target::near(&known, topic).first() {
        Some(near) => failure.next(format!("did you mean foreman help {near}?")),
        None => failure.next("foreman help"),
    }
}

fn exit_codes() -> String {
    let mut table = Table::new(["CODE", "MEANING"]);
    for exit in Exit::ALL {
        table.row([exit.code().to_string(), exit.meaning().to_owned()]);
    }
    format!("Every verb ends with one of these, always.\n\n{}", table.render(true))
}

fn environment() -> String {
    let mut own = Table::new(["VARIABLE", "FLAG", "MEANING"]);
    for setting in SETTINGS {
        own.row([setting.variable, &format!("--{}", setting.flag), setting.meaning]);
    }
    own.row([
        "FOREMAN_TOKEN",
        "",
        "the token itself; asked last, a file or git's own helper is better",
    ]);
    let mut others = Table::new(["VARIABLE", "MEANING"]);
    for (name, meaning) in HONOURED {
        others.row([name, meaning]);
    }
    let heading = |text| paint(Paint::Strong, text);
    format!(
        "A flag wins over its variable, that over the config file (same name, without the dashes), that over the \
default.\n\n{}\n{}\n{}\n{}",
        heading("Own"),
        own.render(true),
        heading("Honoured"),
        others.render(true)
    )
}

fn files(paths: Option<&Paths>) -> String {
    let mut table = Table::new(["PATH", "WHAT"]);
    let mut example = String::new();
    if let Some(paths) = paths {
        let show = |path: &std::path::Path| path.display().to_string();
        table.row([show(&paths.config_file), "config file (TOML)".to_owned()]);
        table.row([
            show(&paths.store_file()),
            "the store: one SQLite file, and two beside it".to_owned(),
        ]);
        table.row([
            show(&paths.state_dir.join("journals")),
            "journals of runs, turn by turn".to_owned(),
        ]);
        table.row([
            show(&paths.data_dir.join("lock")),
            "held by the process that runs tasks".to_owned(),
        ]);
        table.row([show(&paths.cache_dir), "mirrors of repositories; may be deleted".to_owned()]);
    }
    table.row([".foreman.toml", "in a repository: its gate and setup commands"]);
    table.row([
        "AGENTS.md, CLAUDE.md",
        "in a repository: instructions for agents, read from the base commit",
    ]);
    let lines = [
        "namespace = \"default\"",
        "model-url = [\"http://127.0.0.1:11434/v1\"]",
        "model = \"qwen3-coder-30b\"",
        "slots = 2",
    ];
    for line in lines {
        // Writing into a string does not fail.
        if writeln!(example, "  {line}").is_err() {
            break;
        }
    }
    format!("{}\nA config file may say:\n\n{example}", table.render(true))
}
