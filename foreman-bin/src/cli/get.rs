//! `foreman get`: lists of objects.

mod columns;
mod select;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{Object, Scope};
use foreman_core::ports::Query;
use serde_json::{Value, json};

use super::completion;
use super::world::{Found, World};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::settings::{DEFAULT_NAMESPACE, Settings};
use crate::target::{self, Target};

/// What `all` stands for.
const ALL: [AnyKind; 4] =
    [AnyKind::Workload, AnyKind::AgenticTask, AnyKind::Agent, AnyKind::FleetNode];

/// Flags of `foreman get`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "List objects. Kinds: workload (wl), task (at), node (fn), agent (ag), release (agr), profile (mp), in full, \
plural or short; several with commas; all = workloads, tasks, agents and nodes.\n\nREASON says why a \
task is not running, or why it ended as it did; VERIFIED says what the repository's own gate said, which \
is another thing than the verdict.",
    after_long_help = "Examples:\n  foreman get tasks\n  foreman get tasks --field-selector phase=Pending -o wide\n  \
foreman get workload/@latest -o yaml\n  \
foreman get tasks -o custom-columns=NAME:.metadata.name,PHASE:.status.phase\n  foreman get tasks -l foreman.llmkube.dev/workload=fix-login-7f3a -o name"
)]
pub struct GetArgs {
    /// A kind and names, or objects as KIND/name; KIND/@latest is the newest
    #[arg(value_name = "KIND [NAME]… | KIND/NAME…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::names))]
    pub objects: Vec<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels, as KEY=VALUE,…
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Only objects with these fields, as FIELD=VALUE,… or FIELD!=VALUE; fields: phase, node,
    /// reason, verdict, name
    #[arg(long, value_name = "FIELDS")]
    pub field_selector: Option<String>,
    /// Form: wide, json, yaml, name or custom-columns=NAME:PATH,…
    #[arg(short, long, value_name = "FORM", default_value = "table", hide_default_value = true)]
    pub output: Format,
    /// Print no headings
    #[arg(long)]
    pub no_headers: bool,
    /// Sort by a field, e.g. .metadata.creationTimestamp or .status.usage.turns
    #[arg(long, value_name = "PATH")]
    pub sort_by: Option<String>,
}

/// What was asked for.
enum Asked {
    Kinds(Vec<AnyKind>),
    Objects(Vec<Target>),
}

/// Lists objects.
///
/// # Errors
/// A kind or an object that there is not, a selector that cannot be read, a store that cannot.
pub async fn get(args: &GetArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let asked = asked(&args.objects)?;
    let selection = select::Selection::parse(args)?;
    let Some(world) = World::open(settings)? else {
        return match asked {
            Asked::Kinds(kinds) => nothing(&kinds, args, settings).map(|()| Exit::OnTarget),
            Asked::Objects(_) => Err(World::require(settings).err().map_or_else(
                || anyhow::anyhow!("the store appeared just now: try again"),
                Into::into,
            )),
        };
    };
    match asked {
        Asked::Objects(targets) => {
            let found = world.find_all(&targets).await?;
            show(&world, args, found, targets.len() == 1, targets.len() > 1).await?;
        }
        Asked::Kinds(kinds) => {
            let mut all = Vec::new();
            for kind in &kinds {
                let namespaced = kind.names().scope == Scope::Namespaced;
                let namespace =
                    (namespaced && !args.all_namespaces).then(|| world.namespace.clone());
                let query = Query { namespace, labels: selection.labels.clone(), ..Query::all() };
                let mut found = world.list(*kind, &query).await?;
                found.retain(|found| selection.matches(&found.json));
                all.extend(found);
            }
            selection.sort(&mut all);
            if all.is_empty() {
                nothing(&kinds, args, settings)?;
            } else {
                show(&world, args, all, false, kinds.len() > 1).await?;
            }
        }
    }
    Ok(Exit::OnTarget)
}

fn asked(words: &[String]) -> Result<Asked, Failure> {
    let first = words.first().map_or("", String::as_str);
    if first.contains('/') {
        return Target::parse_all(words, None).map(Asked::Objects);
    }
    if first == "all" && words.len() == 1 {
        return Ok(Asked::Kinds(ALL.to_vec()));
    }
    if words.len() == 1 {
        return first.split(',').map(target::kind_of).collect::<Result<_, _>>().map(Asked::Kinds);
    }
    target::kind_of(first)?;
    Target::parse_all(words, None).map(Asked::Objects)
}

/// There is nothing of the kinds: not an error, but worth a word and a next step.
fn nothing(kinds: &[AnyKind], args: &GetArgs, settings: &Settings) -> anyhow::Result<()> {
    match args.output {
        Format::Json | Format::Yaml => output::print(&output::document(&args.output, &list(&[]))?)?,
        Format::Table | Format::Wide | Format::Name | Format::CustomColumns(_) => {}
    }
    let words: Vec<_> = kinds.iter().map(|kind| format!("{}s", kind.names().alias)).collect();
    let words = words.join(", ");
    if args.selector.is_some() || args.field_selector.is_some() {
        output::note(format!("no {words} match"));
        return Ok(());
    }
    let place = if args.all_namespaces || settings.namespace == DEFAULT_NAMESPACE {
        String::new()
    } else {
        format!(" in namespace {}", settings.namespace)
    };
    let next = match kinds {
        [AnyKind::FleetNode] => "foreman up",
        [AnyKind::ModelProfile | AnyKind::AgentRelease] => "foreman apply -f FILE",
        _ => "foreman run --repo . \"what you want\"",
    };
    output::note(format!("no {words} yet{place}; start with {next}"));
    Ok(())
}

async fn show(
    world: &World,
    args: &GetArgs,
    found: Vec<Found>,
    single: bool,
    prefixed: bool,
) -> anyhow::Result<()> {
    match &args.output {
        Format::Name => {
            let names: String = found.iter().map(|found| found.name() + "\n").collect();
            output::print(&names)
        }
        Format::Json | Format::Yaml => match found.as_slice() {
            [one] if single => output::print(&output::document(&args.output, &one.json)?),
            all => output::print(&output::document(&args.output, &list(all))?),
        },
        Format::CustomColumns(columns) => {
            let table = columns.table(found.iter().map(|found| &found.json));
            output::print(&table.render(!args.no_headers))
        }
        Format::Table | Format::Wide => {
            let nodes = if found.iter().any(|found| found.kind == AnyKind::AgenticTask) {
                world.nodes().await?
            } else {
                Vec::new()
            };
            let look = columns::Look {
                wide: args.output == Format::Wide,
                namespaces: args.all_namespaces,
                prefixed,
                now: world.now(),
                nodes: &nodes,
            };
            output::print(&tables(&found, &look, !args.no_headers))
        }
    }
}

/// A table for each run of objects of one kind.
fn tables(found: &[Found], look: &columns::Look<'_>, headings: bool) -> String {
    let mut texts: Vec<String> = Vec::new();
    for group in found.chunk_by(|one, next| one.kind == next.kind) {
        texts.push(columns::table(group, look).render(headings));
    }
    texts.join("\n")
}

/// Objects as `kubectl get -o json` prints them.
fn list(found: &[Found]) -> Value {
    let items: Vec<&Value> = found.iter().map(|found| &found.json).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items, "metadata": { "resourceVersion": "" } })
}

/// The typed view of tasks, for the columns.
fn typed<K: foreman_core::model::Kind>(found: &Found) -> Option<Object<K>> {
    found.typed().ok()
}
