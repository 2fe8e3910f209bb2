//! `foreman demo`: see it work, with nothing installed but git.

use std::path::{Path, PathBuf};

use foreman_probe::DiscoveryConfig;
use foreman_runner::git::Git;
use foreman_runner::sandbox::Tier;

use super::run::flow::Worker;
use super::run::order::{FIX_ROUNDS, Order};
use super::run::repository::{Asked, look_at, shell_word};
use super::run::show::{LastWords, RunOutput, Show};
use super::run::signals::Signals;
use super::run::submit::{Submitted, from_order};
use super::run::{Told, finish, others_go_on, work};
use crate::demo::{Fixture, INTENT, LABEL, MODEL_NAME, ScriptedServer};
use crate::exit::{Exit, Failure};
use crate::follow::{Begun, Tally};
use crate::leader::{self, Claimed, Leadership};
use crate::os_clock::SystemEntropy;
use crate::output::{Paint, paint};
use crate::parts::{Credential, Models, Recipe, SandboxNeed, found};
use crate::progress::ProgressMode;
use crate::settings::{ModelFlags, NodeFlags, Origin, Settings};
use crate::untrusted::{self, Untrusted};

/// What others are told of a demonstration that holds the lock.
const ROLE: &str = "foreman demo";
/// Lines of the change and of the gate's output that are shown.
const LINES_SHOWN_MAX: usize = 60;

/// Flags of `foreman demo`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "See it work with nothing installed but git: makes a small repository with a failing test, a bare \
remote.git and a store in one folder, and runs code, verify and review on them as foreman run does. The model's \
answers are scripted, unless --model-url names a real server. A second run in the same folder makes a new branch. \
With the script the sandbox is the best there is, at most network; with a real model it must reach --sandbox.",
    after_long_help = "Examples:\n  foreman demo\n  foreman demo --dir /tmp/foreman-demo\n  \
foreman demo --model-url http://127.0.0.1:11434/v1 --model qwen3-coder"
)]
pub struct DemoArgs {
    /// The folder to make everything in [default: a new one, named at the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
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

/// Runs the demonstration.
///
/// # Errors
/// The folder cannot be used; git or the sandbox is missing; a real server that was named has no
/// model.
pub async fn demo(args: DemoArgs, settings: Settings) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut show = Show::begin(&settings, args.progress, args.output, None);
    let ended = Box::pin(attempt(&args, settings, &mut show, &mut signals)).await;
    finish(args.output, show, ended)
}

async fn attempt(
    args: &DemoArgs,
    mut settings: Settings,
    show: &mut Show,
    signals: &mut Signals,
) -> anyhow::Result<LastWords> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => new_folder()?,
    };
    let fixture = Fixture::open(&dir)?;
    settings.paths.data_dir = fixture.data_dir();
    let leadership = lead(&settings.paths.data_dir)?;
    let fixture = fixture.make().await?;
    settings.paths.state_dir = settings.paths.data_dir.clone();
    settings.paths.cache_dir = fixture.dir.join("cache");
    // Only a server that was named for this: a person who has Ollama running did not ask for a
    // model to be tried on a script's repository.
    let real = matches!(settings.origins.get("model-url"), Some(Origin::Flag));
    let server = if real { None } else { Some(scripted_server().await?) };
    let work = on_fixture(&fixture, settings, leadership, server.as_ref(), show, signals);
    let ended = Box::pin(work).await;
    if let Some(server) = server {
        server.stop().await;
    }
    ended
}

/// The lock of the folder, before anything is made in it.
fn lead(data_dir: &Path) -> anyhow::Result<Leadership> {
    std::fs::create_dir_all(data_dir).map_err(|error| {
        Failure::new(Exit::Error, format!("cannot make {}", data_dir.display()))
            .next("choose another folder: foreman demo --dir DIR")
            .because(error)
    })?;
    match leader::claim(data_dir, ROLE)? {
        Claimed::Ours(leadership) => Ok(leadership),
        Claimed::Theirs(holder) => {
            Err(Failure::new(Exit::Error, format!("{holder} works in this folder"))
                .next("choose another: foreman demo --dir DIR")
                .into())
        }
    }
}

async fn scripted_server() -> Result<ScriptedServer, Failure> {
    ScriptedServer::start().await.map_err(|error| {
        Failure::new(Exit::Error, "the scripted server cannot listen on 127.0.0.1").because(error)
    })
}

fn new_folder() -> Result<PathBuf, Failure> {
    let made = tempfile::Builder::new().prefix("foreman-demo-").tempdir();
    made.map(tempfile::TempDir::keep).map_err(|error| {
        Failure::new(Exit::Error, "no temporary folder can be made")
            .next("name one: foreman demo --dir DIR")
            .because(error)
    })
}

async fn on_fixture(
    fixture: &Fixture,
    settings: Settings,
    leadership: Leadership,
    server: Option<&ScriptedServer>,
    show: &mut Show,
    signals: &mut Signals,
) -> anyhow::Result<LastWords> {
    let namespace = settings.namespace.clone();
    let sandbox = settings.node.sandbox;
    let worker_flags = super::run::worker_flags(&settings, None);
    let chosen = settings.origins.get("sandbox") != Some(&Origin::Default);
    // Everything is on this machine: no credential is needed, and none is looked for.
    let mut recipe = Recipe::new(settings, Credential::none())?;
    if let Some(server) = server {
        let config = DiscoveryConfig {
            model_url: Some(server.base_url()),
            model: Some(MODEL_NAME.to_owned()),
            ..DiscoveryConfig::default()
        };
        recipe.models = std::sync::Arc::new(Models::new(config, Some(LABEL.to_owned()))?);
        if !chosen {
            // The script runs nothing but what was written for it.
            recipe.sandbox = SandboxNeed::UpTo(Tier::Network);
        }
    } else {
        recipe.sandbox = SandboxNeed::AtLeast(sandbox);
    }
    let ready = recipe.require().await?;
    let model = recipe.models.describe(found(&ready.discovery)?);
    let remote = fixture.remote.to_string_lossy().into_owned();
    let name = super::run::demo_name(&SystemEntropy);
    let branch = format!("foreman/{name}");
    let asked = Asked { repo: &remote, base: None, branch: Some(&branch), push_to: None };
    let looked = look_at(asked, &Git::default(), &SystemEntropy).await?;
    let order = Order {
        name,
        namespace,
        intent: INTENT.to_owned(),
        repo: remote.clone(),
        branch,
        review: true,
        fix_rounds: FIX_ROUNDS,
        ..Order::default()
    };
    let others = others_go_on(&recipe.home.stores).await?;
    let Submitted { key, uid } = from_order(&recipe.home.stores, &order).await?;
    let data_dir = recipe.home.paths.data_dir.to_string_lossy().into_owned();
    let mut told = Told::nothing(format!(" --data-dir {}", shell_word(&data_dir)));
    told.begun = Begun {
        intent: INTENT.to_owned(),
        repo: Some(remote),
        base: Some(looked.base.clone()),
        model: Some(model),
        scripted: server.is_some(),
    };
    told.notices.extend(others);
    told.folder = Some(fixture.remote.clone());
    told.worker_flags = worker_flags;
    if server.is_some() {
        // Only a demonstration brings the script along.
        let dir = shell_word(&fixture.dir.to_string_lossy());
        told.go_on = Some(vec![format!("foreman demo --dir {dir}")]);
    }
    told.base = looked.base_branch;
    let tier = ready.machine.sandbox.tier.min(Tier::Network);
    if tier < Tier::Network {
        let tier = tier.as_str();
        told.notices.push(format!("the sandbox of this machine holds only {tier}: foreman doctor"));
    }
    let worker = Worker::Here(leadership, Box::new(ready));
    let mut words = work(&recipe, ROLE, (key, uid), worker, &told, show, signals).await?;
    let shown = shown(fixture, &show.tally, server.is_some()).await?;
    words.lines.splice(0..0, shown);
    Ok(words)
}

/// The change, the gate's output and where it all is, before the verdict.
async fn shown(fixture: &Fixture, tally: &Tally, scripted: bool) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    if let Some(branch) = tally.branch() {
        let diff = fixture.diff(branch).await?;
        lines.push(paint(Paint::Strong, "the change"));
        lines.extend(indented(&diff));
    }
    for gate in tally.gate() {
        let command = untrusted::line(&gate.command, 200);
        let exit =
            gate.exit.map_or_else(|| "no exit code".to_owned(), |code| format!("exit {code}"));
        lines.push(paint(Paint::Strong, &format!("the gate: {command} ({exit})")));
        lines.extend(indented(&gate.output));
    }
    if scripted {
        let note = "the model was a script; everything else was real: --model-url takes a real one";
        lines.push(paint(Paint::Dim, note));
    }
    lines.push(format!("made in  {}", fixture.dir.display()));
    Ok(lines)
}

fn indented(text: &str) -> Vec<String> {
    let clean = Untrusted::block(text.trim_end()).to_string();
    let mut lines: Vec<String> =
        clean.lines().take(LINES_SHOWN_MAX).map(|line| format!("  {line}")).collect();
    let more = clean.lines().count().saturating_sub(LINES_SHOWN_MAX);
    if more > 0 {
        lines.push(format!("  … {more} more lines"));
    }
    lines
}
