//! The command line: every verb, and what they share.

pub mod apply;
pub mod cancel;
pub mod completion;
pub mod cordon;
pub mod delete;
pub mod demo;
pub mod describe;
pub mod doctor;
pub mod drain;
pub mod explain;
mod fleet;
mod gate_files;
pub mod get;
pub mod help_topics;
mod line;
pub mod logs;
pub mod models;
pub mod probe;
pub mod reference;
pub mod retry;
pub mod run;
mod slots;
pub mod suspend;
pub mod up;
pub mod validate;
pub mod version;
pub mod wait;
pub mod what_if;
pub mod why_not;
mod words;
mod world;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use foreman_core::ports::Clock as _;
use foreman_runner::sandbox::{HELPER_ARGUMENT, helper_main};

use crate::events::{RunResult, Stream};
use crate::exit::Exit;
use crate::os_clock::SystemClock;
use crate::output::{self, PipeClosed};
use crate::settings::{GlobalFlags, ModelFlags, NodeFlags, Settings};
use crate::telemetry;

/// Threads of the runtime.
const WORKERS: usize = 2;

/// Schedules agentic work on machines of your own.
#[derive(Debug, Parser)]
#[command(
    name = "foreman",
    version,
    about,
    long_about = "Foreman turns an intent or an issue into a reviewed branch: agents with local models write the \
change, the repository's own gate verifies it, a reviewer judges it. On one machine it needs git \
and nothing else; nothing leaves the house unless you say so.",
    after_help = "Begin with: foreman demo\nThen:       foreman run --repo . \"what you want\"\n\
Topics:     foreman help exit-codes | environment | files",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: GlobalFlags,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "a doc comment would displace the long help of the arguments")]
#[expect(clippy::large_enum_variant, reason = "there is one value of it in a process")]
pub enum Command {
    #[command(
        about = "See it work: a small repository, a failing test, a scripted model, a verified branch"
    )]
    Demo(demo::DemoArgs),
    #[command(about = "Give a repository and an intent, get a verified and reviewed branch")]
    Run(run::RunArgs),
    #[command(about = "Run the control loops and this machine's agent until stopped")]
    Up(up::UpArgs),
    #[command(about = "Create or change objects from manifests")]
    Apply(apply::ApplyArgs),
    #[command(about = "List objects")]
    Get(get::GetArgs),
    #[command(about = "Wait until tasks or workloads have finished; the exit code says how")]
    Wait(wait::WaitArgs),
    #[command(about = "Tell the whole story of one object")]
    Describe(describe::DescribeArgs),
    #[command(about = "Say why an object is where it is, or what a field means")]
    Explain(explain::ExplainArgs),
    #[command(about = "Say why a task is not on one node")]
    WhyNot(why_not::WhyNotArgs),
    #[command(about = "Say where a task would go if something were different")]
    WhatIf(what_if::WhatIfArgs),
    #[command(about = "Show what a task's agent said and did")]
    Logs(logs::LogsArgs),
    #[command(about = "End tasks or workloads and keep their work")]
    Cancel(cancel::CancelArgs),
    #[command(about = "Pause tasks or workloads at their next turn")]
    Suspend(suspend::SuspendArgs),
    #[command(about = "Let paused tasks or workloads go on")]
    Resume(suspend::ResumeArgs),
    #[command(about = "Try tasks again that have ended, from the start or where they were")]
    Retry(retry::RetryArgs),
    #[command(about = "Delete objects, and what they own")]
    Delete(delete::DeleteArgs),
    #[command(about = "Place nothing new on a node")]
    Cordon(cordon::CordonArgs),
    #[command(about = "Let tasks be placed on a node again")]
    Uncordon(cordon::UncordonArgs),
    #[command(about = "Take a node out: runs end or hand over, nothing new comes")]
    Drain(drain::DrainArgs),
    #[command(about = "Check manifests without a store")]
    Validate(validate::ValidateArgs),
    #[command(about = "Show what this machine can do, and how we know")]
    Probe(probe::ProbeArgs),
    #[command(about = "List the models of the servers that can be reached")]
    Models(models::ModelsArgs),
    #[command(about = "Check this machine and say what to do about it")]
    Doctor(doctor::DoctorArgs),
    #[command(about = "Print a completion script for a shell")]
    Completion(completion::CompletionArgs),
    #[command(about = "Print the version")]
    Version(version::VersionArgs),
    #[command(about = "Explain a verb or a topic: exit-codes, environment, files")]
    Help(help_topics::HelpArgs),
}

impl Command {
    fn model_flags(&self) -> Option<&ModelFlags> {
        match self {
            Self::Demo(args) => Some(&args.model),
            Self::Run(args) => Some(&args.model),
            Self::Up(args) => Some(&args.model),
            Self::Probe(args) => Some(&args.model),
            Self::Models(args) => Some(&args.model),
            Self::Doctor(args) => Some(&args.model),
            Self::Apply(_)
            | Self::Get(_)
            | Self::Describe(_)
            | Self::Explain(_)
            | Self::WhyNot(_)
            | Self::WhatIf(_)
            | Self::Logs(_)
            | Self::Wait(_)
            | Self::Cancel(_)
            | Self::Suspend(_)
            | Self::Resume(_)
            | Self::Retry(_)
            | Self::Delete(_)
            | Self::Cordon(_)
            | Self::Uncordon(_)
            | Self::Drain(_)
            | Self::Validate(_)
            | Self::Completion(_)
            | Self::Version(_)
            | Self::Help(_) => None,
        }
    }

    fn node_flags(&self) -> Option<&NodeFlags> {
        match self {
            Self::Demo(args) => Some(&args.node),
            Self::Run(args) => Some(&args.node),
            Self::Up(args) => Some(&args.node),
            Self::Probe(args) => Some(&args.node),
            Self::Doctor(args) => Some(&args.node),
            Self::Models(_)
            | Self::Apply(_)
            | Self::Get(_)
            | Self::Describe(_)
            | Self::Explain(_)
            | Self::WhyNot(_)
            | Self::WhatIf(_)
            | Self::Logs(_)
            | Self::Wait(_)
            | Self::Cancel(_)
            | Self::Suspend(_)
            | Self::Resume(_)
            | Self::Retry(_)
            | Self::Delete(_)
            | Self::Cordon(_)
            | Self::Uncordon(_)
            | Self::Drain(_)
            | Self::Validate(_)
            | Self::Completion(_)
            | Self::Version(_)
            | Self::Help(_) => None,
        }
    }
}

/// The whole program: the sandbox helper, or one verb.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|first| first == HELPER_ARGUMENT) {
        // Before any thread is started: the helper confines its own process.
        let rest: Vec<String> =
            arguments.iter().skip(2).map(|one| one.to_string_lossy().into_owned()).collect();
        return helper_main(&rest);
    }
    output::follow_force_color();
    completion::answer_shell();
    let streams = streams(&arguments);
    match Cli::try_parse_from(arguments) {
        Ok(cli) => perform(cli, streams).into(),
        Err(error) => {
            let exit = output::usage(&error);
            if streams && error.use_stderr() {
                let text = error.render().to_string();
                let first = text.lines().next().unwrap_or_default();
                last_line(exit, first.strip_prefix("error: ").unwrap_or(first));
            }
            exit.into()
        }
    }
}

/// Whether the event stream was asked for, as far as that can be seen without reading the rest.
fn streams(arguments: &[OsString]) -> bool {
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(arguments);
    let streams = matches
        .is_ok_and(|matches| matches!(matches.subcommand_name(), Some("run" | "demo" | "wait")));
    let text: Vec<_> = arguments.iter().map(|one| one.to_string_lossy()).collect();
    let apart = text.windows(2).any(|two| {
        matches!(two, [flag, form] if matches!(&**flag, "-o" | "--output") && form == "jsonl")
    });
    let joined = ["-ojsonl", "-o=jsonl", "--output=jsonl"];
    streams && (apart || text.iter().any(|one| joined.contains(&&**one)))
}

/// The stream's only line, for an error that came before anything was begun.
fn last_line(exit: Exit, error: &str) {
    let result =
        RunResult { exit_code: exit.code(), error: Some(error.to_owned()), ..RunResult::default() };
    let written = Stream::new(std::io::stdout()).finish(None, result, SystemClock::new().wall());
    if let Err(error) = written {
        // The exit code and stderr say it, too.
        tracing::debug!(%error, "stdout is closed");
    }
}

fn perform(cli: Cli, streams: bool) -> Exit {
    let settings = Settings::load(&cli.global, cli.command.model_flags(), cli.command.node_flags());
    let mut begun = false;
    let ended = match cli.command {
        // These must answer when the settings are what is wrong.
        Command::Completion(args) => completion::completion(&args),
        Command::Version(args) => version::version(&args),
        Command::Help(args) => {
            help_topics::help(&args, settings.ok().map(|settings| settings.paths).as_ref())
        }
        command @ (Command::Demo(_)
        | Command::Run(_)
        | Command::Up(_)
        | Command::Apply(_)
        | Command::Get(_)
        | Command::Describe(_)
        | Command::Explain(_)
        | Command::WhyNot(_)
        | Command::WhatIf(_)
        | Command::Logs(_)
        | Command::Wait(_)
        | Command::Cancel(_)
        | Command::Suspend(_)
        | Command::Resume(_)
        | Command::Retry(_)
        | Command::Delete(_)
        | Command::Cordon(_)
        | Command::Uncordon(_)
        | Command::Drain(_)
        | Command::Validate(_)
        | Command::Probe(_)
        | Command::Models(_)
        | Command::Doctor(_)) => settings.map_err(anyhow::Error::new).and_then(|settings| {
            let rust_log = settings.variable("RUST_LOG");
            telemetry::start(&settings.log_level, settings.log_format, rust_log)?;
            foreman_probe::install_tls_provider();
            // From here on the verb itself tells its errors in the stream.
            begun = true;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .enable_all()
                .build()?;
            runtime.block_on(dispatch(command, settings))
        }),
    };
    match ended {
        Ok(exit) => exit,
        // Whoever read our output has seen enough.
        Err(error) if error.is::<PipeClosed>() => Exit::OnTarget,
        Err(error) => {
            output::error(&error);
            let exit = Exit::of(&error);
            if streams && !begun {
                last_line(exit, &format!("{error:#}"));
            }
            exit
        }
    }
}

async fn dispatch(command: Command, settings: Settings) -> anyhow::Result<Exit> {
    match command {
        Command::Demo(args) => Box::pin(demo::demo(args, settings)).await,
        Command::Run(args) => Box::pin(run::run(args, settings)).await,
        Command::Up(args) => Box::pin(up::up(args, settings)).await,
        Command::Apply(args) => Box::pin(apply::apply(&args, &settings)).await,
        Command::Get(args) => Box::pin(get::get(&args, &settings)).await,
        Command::Describe(args) => Box::pin(describe::describe(&args, &settings)).await,
        Command::Explain(args) => Box::pin(explain::explain(&args, &settings)).await,
        Command::WhyNot(args) => Box::pin(why_not::why_not(&args, &settings)).await,
        Command::WhatIf(args) => Box::pin(what_if::what_if(&args, &settings)).await,
        Command::Logs(args) => Box::pin(logs::logs(&args, &settings)).await,
        Command::Cancel(args) => Box::pin(cancel::cancel(&args, &settings)).await,
        Command::Wait(args) => Box::pin(wait::wait(&args, &settings)).await,
        Command::Suspend(args) => Box::pin(suspend::suspend(&args, &settings)).await,
        Command::Resume(args) => Box::pin(suspend::resume(&args, &settings)).await,
        Command::Retry(args) => Box::pin(retry::retry(&args, &settings)).await,
        Command::Cordon(args) => Box::pin(cordon::cordon(&args, &settings)).await,
        Command::Uncordon(args) => Box::pin(cordon::uncordon(&args, &settings)).await,
        Command::Drain(args) => Box::pin(drain::drain(&args, &settings)).await,
        Command::Delete(args) => Box::pin(delete::delete(&args, &settings)).await,
        Command::Validate(args) => validate::validate(&args, &settings),
        Command::Probe(args) => Box::pin(probe::probe(&args, &settings)).await,
        Command::Models(args) => Box::pin(models::models(&args, &settings)).await,
        Command::Doctor(args) => Box::pin(doctor::doctor(&args, &settings)).await,
        Command::Completion(args) => completion::completion(&args),
        Command::Version(args) => version::version(&args),
        Command::Help(args) => help_topics::help(&args, Some(&settings.paths)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound_and_teaches() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        let names: Vec<String> =
            command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        for name in names {
            let verb = command.find_subcommand_mut(&name).expect("listed");
            let help = verb.render_long_help().to_string();
            let examples =
                help.matches("\n  foreman ").count() + help.matches("\n  $ foreman ").count();
            assert!(examples >= 2, "{name} shows {examples} examples:\n{help}");
            let long = verb.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(long.len() > 40, "{name} teaches only {long:?}");
        }
    }

    #[test]
    fn own_options_stand_before_those_that_verbs_share() {
        let mut root = Cli::command();
        root.build();
        for verb in root.get_subcommands() {
            let output = verb.get_arguments().find(|arg| arg.get_long() == Some("output"));
            let heading = output.and_then(clap::Arg::get_help_heading);
            assert_eq!(heading, None, "-o of {}", verb.get_name());
        }
    }
}
