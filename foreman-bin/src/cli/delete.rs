//! `foreman delete`.

use std::path::PathBuf;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{Key, Uid};
use foreman_core::ports::{Expect, StoreError};
use serde_json::Value;

use super::completion;
use super::world::{Found, Held, World, with_kind, write_failed};
use crate::exit::{Exit, Failure};
use crate::manifest_file;
use crate::output;
use crate::settings::Settings;
use crate::target::Target;

/// Flags of `foreman delete`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Delete objects, and what they own: the tasks of a workload go with it. A task that runs is stopped \
first, nothing is pushed afterwards, and its journal stays for 7 days. To end work and keep its record, cancel it.",
    after_long_help = "Examples:\n  foreman delete workload/fix-login-7f3a\n  foreman delete tasks docs-91-code docs-91-verify\n  \
foreman delete -f workload.yaml --ignore-not-found"
)]
pub struct DeleteArgs {
    /// Objects as KIND/name, or a kind and names
    #[arg(value_name = "KIND/NAME…", required_unless_present = "filename",
        add = clap_complete::engine::ArgValueCompleter::new(completion::names))]
    pub objects: Vec<String>,
    /// The objects of these manifests
    #[arg(short, long, value_name = "FILE", num_args = 1.., conflicts_with = "objects")]
    pub filename: Vec<PathBuf>,
    /// An object that is not there is no error
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// Deletes objects.
///
/// # Errors
/// An object that is not there (then nothing was deleted), or a store that refuses.
pub async fn delete(args: &DeleteArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let wanted = wanted(args, settings)?;
    let world = match World::open(settings)? {
        Some(world) => world,
        None if args.ignore_not_found => return Ok(Exit::OnTarget),
        None => World::require(settings)?,
    };
    // Find all first: a misspelt name must not leave half of the list deleted.
    let mut found = Vec::new();
    for (target, key) in &wanted {
        match key {
            Some(key) => match world.get(target.kind, key).await? {
                Some(one) => found.push(one),
                None if args.ignore_not_found => {}
                None => {
                    let message = format!("there is no {target} in the store ({key})");
                    return Err(Failure::new(Exit::Error, message)
                        .next("add --ignore-not-found if that is fine")
                        .into());
                }
            },
            None => match world.find(target).await {
                Ok(one) => found.push(one),
                Err(error) if args.ignore_not_found && error.is::<Failure>() => {}
                Err(error) => return Err(error),
            },
        }
    }
    for one in found {
        let tasks = owned_tasks(&world, &one).await?;
        let gone = with_kind!(one.kind, K => remove::<K>(&world, &one).await)?;
        let with = match tasks {
            0 => String::new(),
            1 => " with its task".to_owned(),
            tasks => format!(" with its {tasks} tasks"),
        };
        if gone {
            output::line(format!("{} deleted{with}", one.name()))?;
        }
    }
    Ok(Exit::OnTarget)
}

/// The objects, with their keys where a manifest says them.
fn wanted(args: &DeleteArgs, settings: &Settings) -> anyhow::Result<Vec<(Target, Option<Key>)>> {
    if args.filename.is_empty() {
        let targets = Target::parse_all(&args.objects, None)?;
        return Ok(targets.into_iter().map(|target| (target, None)).collect());
    }
    let mut stdin = std::io::stdin().lock();
    let mut manifests = manifest_file::read(&args.filename, &mut stdin, &settings.namespace)?;
    // What refers to others goes first.
    manifests.sort_by_key(|located| std::cmp::Reverse(super::apply::order(located.value.kind)));
    let mut wanted = Vec::new();
    for located in manifests {
        let found = Found { kind: located.value.kind, json: located.value.object };
        let key = found.key();
        wanted.push((Target::of(found.kind, &key.name)?, Some(key)));
    }
    Ok(wanted)
}

/// How many tasks go with the object.
async fn owned_tasks(world: &World, one: &Found) -> anyhow::Result<usize> {
    if one.kind != AnyKind::Workload {
        return Ok(0);
    }
    let uid = uid(one);
    let tasks = world.tasks().await?;
    Ok(tasks.values().filter(|task| task.is_of(&uid)).count())
}

fn uid(one: &Found) -> Uid {
    Uid::new(one.json.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default())
}

/// Whether it was there to be deleted: an owner's deletion may have come first.
async fn remove<K: Held>(world: &World, one: &Found) -> anyhow::Result<bool> {
    let store = K::store(&world.stores);
    match store.delete(&one.key(), &uid(one), Expect::Any).await {
        Ok(()) => Ok(true),
        Err(StoreError::NotFound) => Ok(false),
        Err(error) => Err(write_failed(&one.name(), error)),
    }
}
