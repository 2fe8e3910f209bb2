//! `foreman run`: from an intent to a reviewed branch.

mod args;
pub(super) mod flow;
mod name;
pub(super) mod order;
pub(super) mod quantities;
pub(super) mod repository;
pub(super) mod show;
pub(super) mod signals;
pub(super) mod submit;
mod told;
pub(super) mod words;

use std::time::Duration;

use foreman_core::model::{Key, Uid};
use foreman_core::ports::Stores;
use foreman_runner::git::Git;

use crate::exit::{Exit, Failure};
use crate::follow::{Begun, Fact, What};
use crate::leader::{self, Claimed};
use crate::os_clock::SystemEntropy;
use crate::output::{self, PipeClosed};
use crate::parts::{Credential, Recipe, found};
use crate::settings::{Origin, Settings};
use crate::untrusted::Untrusted;
pub use args::RunArgs;

use flow::{Worker, follow};
use order::{FIX_ROUNDS, GATE_COMMANDS_MAX, Order};
use repository::{Asked, look_at};
use show::{LastWords, RunOutput, Show};
use signals::Signals;
use submit::{Manifests, Submitted, continued, from_file, from_order, read_file, unfinished};
pub(super) use told::{Told, store_flags, worker_flags};
use words::{About, last_words};

/// What others are told of a `foreman run` that holds the lock.
const ROLE: &str = "foreman run";

/// Runs an intent to its end.
///
/// # Errors
/// Wrong usage, a missing model or sandbox, or a store that cannot be used. With `-o jsonl` an error
/// is told as the stream's result instead, with its exit code.
pub async fn run(args: RunArgs, settings: Settings) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let budget = args.budget.as_ref().and_then(|budget| budget.tokens);
    let mut show = Show::begin(&settings, args.progress, args.output, budget);
    let ended = Box::pin(attempt(&args, settings, &mut show, &mut signals)).await;
    finish(args.output, show, ended)
}

/// Says the last words, whatever the end.
pub(super) fn finish(
    output: RunOutput,
    show: Show,
    ended: anyhow::Result<LastWords>,
) -> anyhow::Result<Exit> {
    match ended {
        Ok(words) => match show.end(&words) {
            Ok(()) => Ok(words.exit),
            Err(error) => {
                // A stream that broke off took the last words with it.
                if output == RunOutput::Jsonl {
                    words.on_stderr();
                }
                // Whoever read the stream has gone; the work is what it is.
                if error.is::<PipeClosed>() { Ok(words.exit) } else { Err(error) }
            }
        },
        Err(error) if output == RunOutput::Text => {
            drop(show);
            Err(error)
        }
        Err(error) => {
            // Machines read the result, people the error.
            let exit = Exit::of(&error);
            let next = error.downcast_ref::<Failure>().map_or(&[][..], Failure::hints).to_vec();
            let words = LastWords {
                exit,
                workload: None,
                lines: Vec::new(),
                next,
                error: Some(format!("{error:#}")),
            };
            show.end(&words)?;
            output::error(&error);
            Ok(exit)
        }
    }
}

/// The last words of a command that was stopped before there was a workload.
fn stopped_early(exit: Exit) -> LastWords {
    let what = "stopped before anything was written";
    LastWords {
        exit,
        workload: None,
        lines: vec![what.to_owned()],
        next: Vec::new(),
        error: Some(what.to_owned()),
    }
}

async fn attempt(
    args: &RunArgs,
    settings: Settings,
    show: &mut Show,
    signals: &mut Signals,
) -> anyhow::Result<LastWords> {
    let prepared = tokio::select! {
        prepared = Box::pin(prepare(args, settings)) => prepared?,
        exit = signals.next() => return Ok(stopped_early(exit)),
    };
    let Prepared { recipe, submitted, told, worker } = prepared;
    let Submitted { key, uid } = submitted;
    let name = key.name.clone();
    let Some(worker) = worker else { return Ok(detached(&name, &told)) };
    let ended = work(&recipe, ROLE, (key, uid), worker, &told, show, signals).await?;
    Ok(ended)
}

/// Shows where it begins, follows it to its end, and says the last words.
pub(super) async fn work(
    recipe: &Recipe,
    role: &'static str,
    workload: (Key, Uid),
    worker: Worker,
    told: &Told,
    show: &mut Show,
    signals: &mut Signals,
) -> Result<LastWords, Failure> {
    let name = workload.0.name.clone();
    show.fact(&Fact::of_workload(Some(&name), What::Begun(told.begun.clone())));
    for notice in &told.notices {
        show.notice(Some(&name), notice.clone());
    }
    let go_on = told.go_on(&name);
    let alone = go_on.last().map_or("foreman up", String::as_str);
    let followed = Box::pin(follow(recipe, role, workload, worker, show, signals, alone)).await?;
    let base = told.base.clone().or_else(|| show.tally.base().map(ToOwned::to_owned));
    let about = About {
        workload: &name,
        folder: told.folder.as_deref(),
        url: told.url.as_deref(),
        base: base.as_deref(),
        flags: &told.flags,
        go_on: &go_on,
    };
    Ok(last_words(&about, &followed, &show.tally))
}

fn detached(name: &str, told: &Told) -> LastWords {
    let mut lines = vec![format!("workload/{name}")];
    lines.extend(told.notices.clone());
    LastWords {
        exit: Exit::StillGoing,
        workload: Some(name.to_owned()),
        lines,
        next: vec![
            format!("foreman run --continue {name}{}{}", told.flags, told.worker_flags),
            format!("foreman describe workload/{name}{}", told.flags),
        ],
        error: None,
    }
}

struct Prepared {
    recipe: Recipe,
    submitted: Submitted,
    told: Told,
    worker: Option<Worker>,
}

/// Checks everything that can be checked, then writes the workload.
async fn prepare(args: &RunArgs, settings: Settings) -> anyhow::Result<Prepared> {
    if args.gate.len() > GATE_COMMANDS_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!("a gate has at most {GATE_COMMANDS_MAX} commands"),
        )
        .next("join some with &&, or put them into a script")
        .into());
    }
    if args.gate.iter().any(|command| command.trim().is_empty()) {
        return Err(Failure::new(Exit::Usage, "a command of --gate is empty").into());
    }
    let credential = Credential::find(&settings, args.token_file.as_deref()).await?;
    let git = Git::new(credential.git.clone());
    let mut told = Told::nothing(store_flags(&settings));
    told.worker_flags = worker_flags(&settings, args.token_file.as_deref());
    let wanted = match (&args.intent, &args.file, &args.continue_with) {
        (Some(intent), _, _) => {
            Wanted::Order(Box::new(order_of(args, intent, &settings, &git, &mut told).await?))
        }
        (None, Some(file), _) => {
            let manifests = read_file(file, &settings.namespace)?;
            look_at_all(&manifests, &git, &mut told).await?;
            Wanted::File(Box::new(manifests))
        }
        (None, None, Some(name)) => Wanted::Continue(name.clone()),
        (None, None, None) => {
            return Err(Failure::new(Exit::Usage, "nothing to run: give an intent").into());
        }
    };
    let recipe = Recipe::new(settings, credential)?;
    let worker = worker(args, &recipe, &mut told).await?;
    let stores = &recipe.home.stores;
    let namespace = recipe.settings.namespace.as_str();
    let (submitted, begun) = match wanted {
        Wanted::Order(order) => (from_order(stores, &order).await?, None),
        Wanted::File(manifests) => {
            let (submitted, begun) = from_file(stores, *manifests).await?;
            (submitted, Some(begun))
        }
        Wanted::Continue(name) => {
            let (submitted, begun) = continued(stores, &name, namespace).await?;
            (submitted, Some(begun))
        }
    };
    if let Some(begun) = begun {
        (told.begun.intent, told.begun.repo) = (begun.intent, begun.repo);
    }
    told.place();
    Ok(Prepared { recipe, submitted, told, worker })
}

/// Who is to do the work; none, when it is left to others. What a person should know is told.
async fn worker(
    args: &RunArgs,
    recipe: &Recipe,
    told: &mut Told,
) -> anyhow::Result<Option<Worker>> {
    let leads = leader::claim(&recipe.home.paths.data_dir, ROLE)?;
    Ok(match leads {
        Claimed::Theirs(holder) if args.detach => {
            told.notices.push(format!("{holder} does the work"));
            None
        }
        Claimed::Theirs(holder) => {
            if recipe.settings.origins.get("model-url") == Some(&Origin::Flag) {
                told.notices.push(format!("{holder} chooses the model: --model-url is not used"));
            }
            Some(Worker::Elsewhere(holder))
        }
        Claimed::Ours(_) if args.detach => {
            let flags = format!("{}{}", told.flags, told.worker_flags);
            told.notices.push(format!("nobody works on it yet: foreman up{flags}"));
            None
        }
        Claimed::Ours(leadership) => {
            let ready = recipe.require().await?;
            let choice = found(&ready.discovery)?;
            told.begun.model = Some(recipe.models.describe(choice));
            told.notices.extend(super::slots::notice(recipe, &ready.machine, &told.flags).await?);
            if args.continue_with.is_none() {
                told.notices.extend(others_go_on(&recipe.home.stores).await?);
            }
            Some(Worker::Here(leadership, Box::new(ready)))
        }
    })
}

/// What is said of workloads that whoever works here goes on with.
pub(super) async fn others_go_on(stores: &Stores) -> anyhow::Result<Option<String>> {
    let others = unfinished(stores).await?;
    Ok((others > 0).then(|| {
        let verbs =
            if others == 1 { "is unfinished and goes on" } else { "are unfinished and go on" };
        let others = crate::progress::plural(others, "earlier workload");
        format!("{others} here {verbs}, too")
    }))
}

/// What is to be run.
enum Wanted {
    Order(Box<Order>),
    File(Box<Manifests>),
    Continue(String),
}

/// Looks at the repositories of a manifest.
async fn look_at_all(manifests: &Manifests, git: &Git, told: &mut Told) -> Result<(), Failure> {
    for (repo, base) in manifests.repositories() {
        let asked = Asked { repo, base, branch: None, push_to: manifests.push_to() };
        let found = look_at(asked, git, &SystemEntropy).await?;
        if !manifests.has_gate() {
            told.notices.extend(found.no_gate());
        }
    }
    Ok(())
}

/// Looks at the repository; what is to be written for it, and what is told of it.
async fn order_of(
    args: &RunArgs,
    intent: &str,
    settings: &Settings,
    git: &Git,
    told: &mut Told,
) -> Result<Order, Failure> {
    if Untrusted::line(intent).to_string().trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "the intent is empty: say what you want"));
    }
    let name = name::workload_name(intent, &SystemEntropy);
    let branch = args.branch.clone().unwrap_or_else(|| format!("foreman/{name}"));
    let asked = Asked {
        repo: args.repo.as_deref().unwrap_or("."),
        base: args.base.as_deref(),
        branch: Some(&branch),
        push_to: args.push_to.as_deref(),
    };
    let found = look_at(asked, git, &SystemEntropy).await?;
    if found.uncommitted > 0 {
        let files = crate::progress::plural(found.uncommitted, "uncommitted change");
        told.notices.push(format!(
            "{files} in {} are not seen: runs start from the last commit",
            found.name
        ));
    }
    if args.gate.is_empty() {
        told.notices.extend(found.no_gate());
    }
    told.begun = Begun {
        intent: intent.to_owned(),
        repo: Some(found.name.clone()),
        base: Some(found.base.clone()),
        model: None,
        scripted: false,
    };
    told.base = found.base_branch.clone().or(Some(found.base));
    match &found.push_to {
        Some(push_to) => told.begun_pushes_to(push_to),
        None => told.folder = found.folder,
    }
    Ok(Order {
        name,
        namespace: settings.namespace.clone(),
        intent: intent.to_owned(),
        repo: found.name,
        base: args.base.clone(),
        branch,
        push_to: found.push_to,
        gate: args.gate.clone(),
        review: !args.no_review,
        fix_rounds: args.fix_rounds.unwrap_or(FIX_ROUNDS),
        timeout_seconds: args.timeout.map(seconds),
        budget: args.budget.clone(),
    })
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// A name for a demonstration's workload.
pub(super) fn demo_name(entropy: &dyn foreman_core::ports::Entropy) -> String {
    name::workload_name("demo", entropy)
}
