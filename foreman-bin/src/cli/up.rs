//! `foreman up`: the control loops and this machine's agent, until stopped.

use std::path::PathBuf;
use std::time::Duration;

use foreman_core::control::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use super::run::signals::Signals;
use super::run::store_flags;
use super::slots;
use crate::exit::{Exit, Failure};
use crate::follow::{Bus, Follower, Of};
use crate::leader::{self, Claimed};
use crate::output;
use crate::parts::{Credential, Engine, EngineEnd, Ready, Recipe, no_model};
use crate::progress::{Progress, ProgressMode, Surroundings};
use crate::settings::{ModelFlags, NodeFlags, Settings};

/// What others are told of a `foreman up` that holds the lock.
const ROLE: &str = "foreman up";
/// How often it is looked whether a line is due.
const TICK: Duration = Duration::from_secs(1);

/// Flags of `foreman up`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Run the control loops and this machine's agent until stopped. Unfinished work goes on where it was. \
SIGTERM or Ctrl-C hands over and leaves with exit code 0; a second one leaves at once, and the next start goes on.",
    after_long_help = "Examples:\n  foreman up\n  foreman up --slots 2 --model-url http://127.0.0.1:8080/v1\n  \
foreman up --sandbox files --sandbox-read ~/.cargo,~/.rustup"
)]
#[expect(
    clippy::doc_markdown,
    reason = "the comments are help texts, where backticks would be shown"
)]
pub struct UpArgs {
    /// How often the node shows that it lives, in seconds, 1 to 30
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub heartbeat_interval: u32,
    /// File with the token that git shows to a repository's host [env: FOREMAN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What is shown on stderr: one fact a line, or nothing
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ProgressMode::Plain)]
    pub progress: ProgressMode,
    /// The model server.
    #[command(flatten)]
    pub model: ModelFlags,
    /// This machine as a node.
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Runs until stopped.
///
/// # Errors
/// Another process works on the data directory; the store or the agent cannot be started.
pub async fn up(args: UpArgs, settings: Settings) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let (mut engine, mut follower, mut progress) = tokio::select! {
        started = Box::pin(start(&args, settings)) => started?,
        // Nothing ran yet, so everything is handed over.
        _ = signals.next() => return Ok(Exit::OnTarget),
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut told: Option<Exit> = None;
    let mut at_once = false;
    let end = loop {
        tokio::select! {
            biased;
            end = engine.ended() => break end?,
            exit = signals.next() => {
                if told.replace(exit).is_some() {
                    at_once = true;
                    engine.shutdown(Shutdown::Now);
                } else {
                    output::note("draining: runs hand over; again to leave at once");
                    engine.shutdown(Shutdown::Drain);
                }
            }
            fact = follower.next() => if let Ok(fact) = fact {
                progress.fact(&fact);
            },
            _ = ticks.tick() => progress.tick(),
        }
    };
    while let Some(Ok(fact)) = follower.next_now() {
        progress.fact(&fact);
    }
    drop(progress);
    match (end, told) {
        (EngineEnd::Superseded, _) => {
            output::note("another process took this node over");
            Ok(Exit::Superseded)
        }
        (_, Some(exit)) if at_once => Ok(exit),
        (EngineEnd::Drained | EngineEnd::Left, Some(_)) => {
            output::note("everything is handed over; foreman up goes on with it");
            Ok(Exit::OnTarget)
        }
        (EngineEnd::Drained | EngineEnd::Left, None) => {
            Err(Failure::new(Exit::Error, "the engine ended by itself").into())
        }
    }
}

async fn start(args: &UpArgs, settings: Settings) -> anyhow::Result<(Engine, Follower, Progress)> {
    let credential = Credential::find(&settings, args.token_file.as_deref()).await?;
    let mut recipe = Recipe::new(settings, credential)?;
    recipe.heartbeat = Duration::from_secs(u64::from(args.heartbeat_interval));
    let data_dir = recipe.home.paths.data_dir.clone();
    let leadership = match leader::claim(&data_dir, ROLE)? {
        Claimed::Ours(leadership) => leadership,
        Claimed::Theirs(holder) => {
            let dir = data_dir.display();
            return Err(Failure::new(Exit::Error, format!("{holder} works on {dir} already"))
                .next("stop it, or choose another directory: --data-dir DIR")
                .into());
        }
    };
    let ready = recipe.examine().await?;
    for line in banner(&recipe, &ready) {
        output::note(line);
    }
    let flags = store_flags(&recipe.settings);
    if let Some(notice) = slots::notice(&recipe, &ready.machine, &flags).await? {
        output::note(format!("warning: {notice}"));
    }
    let (bus, heard) = Bus::new();
    let follower = Follower::new(&recipe.home.stores, Of::Everything, heard);
    let plan = recipe.plan(ready, bus).await;
    let engine = Engine::start(&plan, leadership)?;
    // One line a fact also on a terminal: a view of everything has no end to be looked forward to.
    let mode = match args.progress {
        ProgressMode::None => ProgressMode::None,
        ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => ProgressMode::Plain,
    };
    let mode = mode.decide(Surroundings::of(&recipe.settings, false));
    Ok((engine, follower, Progress::begin(mode, &recipe.settings, None, "")))
}

/// Who, where, with which model, confined by what.
fn banner(recipe: &Recipe, ready: &Ready) -> Vec<String> {
    let sandbox = &ready.machine.sandbox;
    let tier = sandbox.tier.as_str();
    let mut lines = vec![
        format!("data     {}", recipe.home.paths.data_dir.display()),
        format!("node     {}", ready.machine.name),
    ];
    match &ready.discovery.chosen {
        Ok(choice) => lines.push(format!("model    {}", recipe.models.describe(choice))),
        Err(error) => {
            lines.push(format!(
                "model    none yet: {error} (tried: {})",
                ready.discovery.tried_line()
            ));
            let failure = no_model(error, "");
            lines.extend(failure.hints().iter().take(1).map(|hint| format!("         {hint}")));
        }
    }
    let why = sandbox.why_not_more.as_deref().map(|why| format!(" (not more: {why})"));
    lines.push(format!("sandbox  {tier}{}", why.unwrap_or_default()));
    if sandbox.tier < ready.required {
        let required = ready.required.as_str();
        lines.push(format!(
            "         too weak: {required} is required, so every run will end in SandboxUnavailable; \
             accept it with --sandbox {tier}"
        ));
    }
    lines.push(format!("git      credential: {}", recipe.credential.origin));
    lines.into_iter().map(|line| crate::untrusted::line(&line, 1000)).collect()
}
