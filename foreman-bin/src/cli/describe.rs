//! `foreman describe`: the whole story of one object, with the next commands.

mod events;
mod generic;
mod task;
mod workload;

use foreman_core::model::manifest::AnyKind;
use foreman_runner::journal::{EffectState, JournalKey, JournalStore};

use super::completion;
use super::words;
use super::world::World;
use crate::exit::Exit;
use crate::os_clock::SystemClock;
use crate::output;
use crate::settings::Settings;
use crate::target::Target;

/// Flags of `foreman describe`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Tell the whole story of one object: what was asked for, its tasks, attempts, what was spent, what was \
pushed, its conditions, and the next commands.",
    after_long_help = "Examples:\n  foreman describe workload/@latest\n  foreman describe task docs-91-code"
)]
pub struct DescribeArgs {
    /// Objects as KIND/name, or a kind and names; a bare name is a workload
    #[arg(value_name = "KIND/NAME…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::names))]
    pub objects: Vec<String>,
}

/// Describes objects.
///
/// # Errors
/// An object that there is not, or a store that cannot be read.
pub async fn describe(args: &DescribeArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let targets = Target::parse_all(&args.objects, Some(AnyKind::Workload))?;
    let world = World::require(settings)?;
    let found = world.find_all(&targets).await?;
    let fleet = world.fleet().await?;
    let mut texts = Vec::new();
    for one in &found {
        texts.push(match one.kind {
            AnyKind::Workload => {
                let workload = one.typed()?;
                let mut effects = Effects::default();
                for task in workload::tasks(&workload, &fleet) {
                    effects.add(Effects::of(settings, task).await);
                }
                workload::text(&workload, &fleet, &effects)
            }
            AnyKind::AgenticTask => {
                let task = one.typed()?;
                let effects = Effects::of(settings, &task).await;
                task::text(&task, &fleet, &effects)
            }
            AnyKind::FleetNode | AnyKind::Agent | AnyKind::AgentRelease | AnyKind::ModelProfile => {
                generic::text(one, &fleet)
            }
        });
    }
    output::print(&texts.join("\n"))?;
    Ok(Exit::OnTarget)
}

/// What the journals of this machine say was done to the outside world.
#[derive(Debug, Default)]
struct Effects {
    /// Whether there was a journal at all.
    known: bool,
    /// Whether there should be one somewhere.
    ran: bool,
    base: Option<String>,
    pushes: usize,
    pull_requests: usize,
    comments: usize,
    /// Begun, and not known to be done.
    open: usize,
}

impl Effects {
    /// Those of one task; nothing where its journal is elsewhere.
    async fn of(
        settings: &Settings,
        task: &foreman_core::model::Object<foreman_core::model::AgenticTask>,
    ) -> Self {
        let ran = task.status.attempt.unwrap_or(0) > 0;
        let mut effects = Self { ran, ..Self::default() };
        let wall = std::sync::Arc::new(SystemClock::unix_milliseconds);
        let journals = JournalStore::new(&settings.paths.state_dir, wall);
        let uid = task.meta.uid.as_str();
        // One that was made and not begun says nothing: the one before counts.
        let Ok(Some(last)) = journals.parent(uid).await else { return effects };
        let attempt = last.attempt;
        let Ok(key) = JournalKey::new(uid, attempt) else { return effects };
        let Ok(replay) = journals.read(key).await else { return effects };
        effects.known = true;
        effects.base = replay.header.map(|header| header.base_commit);
        for (key, state) in &replay.effects {
            match state {
                EffectState::Intended { .. } => effects.open += 1,
                EffectState::Done { .. } if key.ends_with("/push") => effects.pushes += 1,
                EffectState::Done { .. } if key.contains("pull") => effects.pull_requests += 1,
                EffectState::Done { .. } => effects.comments += 1,
            }
        }
        effects
    }

    fn add(&mut self, other: Self) {
        self.known |= other.known;
        self.ran |= other.ran;
        self.base = self.base.take().or(other.base);
        self.pushes += other.pushes;
        self.pull_requests += other.pull_requests;
        self.comments += other.comments;
        self.open += other.open;
    }

    fn text(&self) -> String {
        if !self.known && !self.ran {
            return "none yet".to_owned();
        }
        if !self.known {
            return "no journal on this machine".to_owned();
        }
        let open = match self.open {
            0 => String::new(),
            open => format!(", {open} begun and not known to be done"),
        };
        format!(
            "push {}, pull request {}, comments {}{open}",
            self.pushes, self.pull_requests, self.comments
        )
    }
}

/// Headed lines, aligned.
#[derive(Debug, Default)]
struct Lines(Vec<[String; 3]>);

impl Lines {
    fn add(&mut self, heading: &str, text: impl Into<String>) {
        let heading = if heading.is_empty() { String::new() } else { format!("{heading}:") };
        self.0.push([heading, text.into(), String::new()]);
    }

    fn add_some(&mut self, heading: &str, text: Option<String>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.add(heading, text);
        }
    }

    /// The first line has the heading, the others stand below.
    fn add_all(&mut self, heading: &str, texts: impl IntoIterator<Item = String>) {
        for (index, text) in texts.into_iter().enumerate() {
            self.add(if index == 0 { heading } else { "" }, text);
        }
    }

    fn render(&self) -> String {
        words::columns(&self.0)
    }
}

/// Conditions, one a line, with their ages.
fn conditions(
    all: &[foreman_core::model::condition::Condition],
    now: foreman_core::model::WallTime,
) -> Vec<String> {
    all.iter()
        .map(|condition| {
            let message = words::clean(&condition.message);
            let message = if message.is_empty() { message } else { format!(": {message}") };
            format!(
                "{}={} {}{message} ({} ago)",
                words::clean(&condition.kind),
                words::clean(&condition.status.to_string()),
                words::clean(&condition.reason),
                output::age(condition.last_transition_time, now)
            )
        })
        .collect()
}

/// A budget against what was spent of it.
fn budget(
    budget: Option<&foreman_core::model::shared::Budget>,
    tokens: i64,
    reserved: i64,
) -> Option<String> {
    let budget = budget?;
    let mut limits = Vec::new();
    limits.extend(budget.tokens.map(|limit| format!("{} tokens", words::tokens(limit))));
    limits.extend(budget.turns.map(|limit| format!("{limit} turns")));
    limits.extend(budget.wall_seconds.map(|limit| format!("{limit} s")));
    (!limits.is_empty()).then(|| {
        format!(
            "{} spent, {} reserved, limit {}",
            words::tokens(tokens),
            words::tokens(reserved),
            limits.join(", ")
        )
    })
}
