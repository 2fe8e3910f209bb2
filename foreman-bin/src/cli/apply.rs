//! `foreman apply`: makes objects be what manifests say.

use std::path::PathBuf;

use anyhow::Context as _;
use foreman_core::model::manifest::{AnyKind, Manifest};
use foreman_core::model::{Key, NewObject, Object};
use foreman_core::policy::{Severity, validate};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Expect, StoreError};
use serde_json::Value;

use super::words;
use super::world::{Held, World, read_failed, with_kind, write_failed};
use crate::exit::Exit;
use crate::manifest_file::{self, Located};
use crate::output;
use crate::settings::Settings;

/// How often a write is tried again when somebody else changed the object meanwhile.
const CONFLICTS_MAX: usize = 5;

/// Flags of `foreman apply`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Make objects be what manifests say: create them, or replace their spec, labels and annotations. Every \
manifest is checked first, and nothing is written when one of them is not valid. What Foreman observed (the status) \
is never touched.",
    after_long_help = "Examples:\n  foreman apply -f workload.yaml\n  foreman apply -f manifests/ --dry-run\n  \
foreman get workload/fix -o yaml | foreman apply -f -"
)]
pub struct ApplyArgs {
    /// Manifests: files, directories, or - for stdin
    #[arg(short, long, value_name = "FILE", required = true, num_args = 1..)]
    pub filename: Vec<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Created,
    Configured,
    Unchanged,
}

impl Done {
    const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Applies manifests.
///
/// # Errors
/// A manifest that is not valid (then nothing was written), or a store that refuses.
pub async fn apply(args: &ApplyArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let mut manifests =
        manifest_file::read(&args.filename, &mut std::io::stdin().lock(), &settings.namespace)?;
    // What others refer to comes first.
    manifests.sort_by_key(|located| order(located.value.kind));
    let mut problems = repeated(&manifests);
    for located in &manifests {
        for remark in validate(located.value.kind, &located.value.object) {
            let (field, rule, place) = (remark.field, remark.rule, located.place.clone());
            let problem = manifest_file::Problem { place, field, rule };
            match remark.severity {
                Severity::Error => problems.push(problem),
                Severity::Warning => {
                    output::note(format!("warning: {}", words::clean(&problem.to_string())));
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(manifest_file::Problems(problems).into());
    }
    let world = if args.dry_run { World::open(settings)? } else { Some(World::create(settings)?) };
    for Located { value: manifest, place } in &manifests {
        let name = name_of(manifest);
        let done = with_kind!(manifest.kind, K => apply_one::<K>(world.as_ref(), manifest, args.dry_run).await)
            .with_context(|| format!("{}:{}: {name}", place.file, place.line.max(1)))?;
        let dry = if args.dry_run { " (dry run)" } else { "" };
        output::line(format!("{name} {}{dry}", done.word()))?;
    }
    Ok(Exit::OnTarget)
}

/// A kind's place in the order in which objects are best applied.
pub(super) fn order(kind: AnyKind) -> usize {
    AnyKind::ALL.iter().position(|one| *one == kind).unwrap_or(usize::MAX)
}

fn key_of(manifest: &Manifest) -> Key {
    let text = |field| {
        let value = manifest.object.get("metadata").and_then(|meta| meta.get(field));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    Key { namespace: text("namespace"), name: text("name").unwrap_or_default() }
}

fn name_of(manifest: &Manifest) -> String {
    format!("{}/{}", manifest.kind.names().alias, key_of(manifest).name)
}

/// Two manifests of one object would undo each other.
fn repeated(manifests: &[Located<Manifest>]) -> Vec<manifest_file::Problem> {
    let mut seen: std::collections::BTreeMap<(AnyKind, Key), &manifest_file::Place> =
        std::collections::BTreeMap::new();
    let mut problems = Vec::new();
    for located in manifests {
        let identity = (located.value.kind, key_of(&located.value));
        match seen.get(&identity) {
            Some(first) => problems.push(manifest_file::Problem {
                place: located.place.clone(),
                field: "metadata.name".to_owned(),
                rule: format!(
                    "{} is there twice, first at {}:{}",
                    name_of(&located.value),
                    first.file,
                    first.line
                ),
            }),
            None => {
                seen.insert(identity, &located.place);
            }
        }
    }
    problems
}

async fn apply_one<K: Held>(
    world: Option<&World>,
    manifest: &Manifest,
    dry_run: bool,
) -> anyhow::Result<Done> {
    let name = name_of(manifest);
    let wanted = wanted::<K>(manifest)?;
    let Some(world) = world else { return Ok(Done::Created) };
    let store = K::store(&world.stores);
    for _ in 0..CONFLICTS_MAX {
        let current = store.get(&wanted.key).await;
        let current =
            current.map_err(|error| read_failed(K::NAMES.alias, &wanted.key.name, error))?;
        let Some(current) = current else {
            if dry_run {
                return Ok(Done::Created);
            }
            match store.create(wanted.clone()).await {
                Ok(_) => return Ok(Done::Created),
                Err(StoreError::AlreadyExists { .. }) => continue,
                Err(error) => return Err(write_failed(&name, error)),
            }
        };
        let changes = changes(&current, &wanted);
        if changes.is_empty() {
            return Ok(Done::Unchanged);
        }
        if dry_run {
            return Ok(Done::Configured);
        }
        match write(world, current, changes).await {
            Ok(()) => return Ok(Done::Configured),
            Err(StoreError::Conflict | StoreError::NotFound) => {}
            Err(error) => return Err(write_failed(&name, error)),
        }
    }
    Err(write_failed(&name, StoreError::Conflict))
}

async fn write<K: Held>(
    world: &World,
    mut current: Object<K>,
    changes: Vec<Change<K>>,
) -> Result<(), StoreError> {
    for change in changes {
        let expect = Expect::At(current.revision().clone());
        current = K::store(&world.stores).patch(&current.key(), change, expect).await?;
    }
    Ok(())
}

/// The manifest as the store takes it. It was admitted before, so it fits.
fn wanted<K: Held>(manifest: &Manifest) -> anyhow::Result<NewObject<K>> {
    let spec = manifest
        .object
        .get("spec")
        .cloned()
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let spec: K::Spec = serde_json::from_value(spec)
        .with_context(|| format!("the spec of {} cannot be read", name_of(manifest)))?;
    let texts = |field| {
        let value = manifest.object.get("metadata").and_then(|meta| meta.get(field)).cloned();
        value.map(serde_json::from_value).transpose().map(Option::unwrap_or_default)
    };
    let mut new = NewObject::new(key_of(manifest), spec);
    new.labels = texts("labels").context("metadata.labels cannot be read")?;
    new.annotations = texts("annotations").context("metadata.annotations cannot be read")?;
    Ok(new)
}

/// What has to change. Labels and annotations of the manifest are set; others stay, because other
/// programs keep theirs on the same object.
fn changes<K: Held>(current: &Object<K>, wanted: &NewObject<K>) -> Vec<Change<K>> {
    let mut changes = Vec::new();
    let mut meta = Change::<K>::of(Part::Meta);
    let moved = |now: &std::collections::BTreeMap<String, String>, name: &str, value: &String| {
        now.get(name) != Some(value)
    };
    let labels =
        wanted.labels.iter().filter(|(name, value)| moved(&current.meta.labels, name, value));
    let labels: Vec<_> = labels.map(|(name, value)| (name.as_str(), Some(value.clone()))).collect();
    if !labels.is_empty() {
        meta = meta.labels(labels);
    }
    let annotations = wanted
        .annotations
        .iter()
        .filter(|(name, value)| moved(&current.meta.annotations, name, value));
    let annotations: Vec<_> =
        annotations.map(|(name, value)| (name.as_str(), Some(value.clone()))).collect();
    if !annotations.is_empty() {
        meta = meta.annotations(annotations);
    }
    if !meta.is_empty() {
        changes.push(meta);
    }
    let spec = Change::replace_spec(&current.spec, &wanted.spec);
    if !spec.is_empty() {
        changes.push(spec);
    }
    changes
}
