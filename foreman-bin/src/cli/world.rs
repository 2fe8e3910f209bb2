//! The store as the verbs see it: objects of any kind, by the words of a person.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use foreman_core::model::manifest::AnyKind;
use foreman_core::model::{
    Agent, AgentRelease, AgenticTask, FleetNode, Key, Kind, ModelProfile, Object, Scope, WallTime,
    Workload,
};
use foreman_core::policy::Policy;
use foreman_core::ports::{Clock, Query, Store, StoreError, Stores};
use foreman_sqlite::SqliteStore;
use serde_json::Value;

use super::fleet::Fleet;
use super::run::repository::shell_word;
use crate::exit::{Exit, Failure};
use crate::leader;
use crate::os_clock::{SystemClock, SystemEntropy};
use crate::output;
use crate::settings::{Origin, Settings};
use crate::target::{self, Target, Which};

/// A kind and the store that holds it.
pub(super) trait Held: Kind {
    fn store(stores: &Stores) -> &dyn Store<Self>;
}

macro_rules! held {
    ($($kind:ty => $field:ident),*) => {
        $(impl Held for $kind {
            fn store(stores: &Stores) -> &dyn Store<Self> {
                &*stores.$field
            }
        })*
    };
}
held!(FleetNode => nodes, AgenticTask => tasks, Workload => workloads, Agent => agents,
    AgentRelease => releases, ModelProfile => profiles);

/// Runs an expression with `$k` standing for the kind of a value.
macro_rules! with_kind {
    ($kind:expr, $k:ident => $body:expr) => {
        match $kind {
            AnyKind::FleetNode => {
                type $k = foreman_core::model::FleetNode;
                $body
            }
            AnyKind::AgenticTask => {
                type $k = foreman_core::model::AgenticTask;
                $body
            }
            AnyKind::Workload => {
                type $k = foreman_core::model::Workload;
                $body
            }
            AnyKind::Agent => {
                type $k = foreman_core::model::Agent;
                $body
            }
            AnyKind::AgentRelease => {
                type $k = foreman_core::model::AgentRelease;
                $body
            }
            AnyKind::ModelProfile => {
                type $k = foreman_core::model::ModelProfile;
                $body
            }
        }
    };
}
pub(super) use with_kind;

/// The open store.
pub(super) struct World {
    pub(super) stores: Stores,
    pub(super) clock: Arc<SystemClock>,
    pub(super) namespace: String,
    /// What a further command needs to find this store: empty where the environment says it.
    suffix: String,
    data_dir: PathBuf,
    policy: Policy,
}

/// One object of any kind.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) kind: AnyKind,
    pub(super) json: Value,
}

impl Found {
    /// `kind/name`, as a person names it.
    pub(super) fn name(&self) -> String {
        let name = self.json.pointer("/metadata/name").and_then(Value::as_str);
        format!("{}/{}", self.kind.names().alias, name.unwrap_or_default())
    }

    /// Where it lives.
    pub(super) fn key(&self) -> Key {
        let text = |field| {
            self.json.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str)
        };
        Key {
            namespace: text("namespace").map(str::to_owned),
            name: text("name").unwrap_or_default().to_owned(),
        }
    }

    /// The typed view.
    pub(super) fn typed<K: Kind>(&self) -> anyhow::Result<Object<K>> {
        use anyhow::Context as _;
        Object::from_json(&self.json).with_context(|| format!("{} cannot be read", self.name()))
    }
}

impl World {
    /// Opens the store if there is one.
    pub(super) fn open(settings: &Settings) -> Result<Option<Self>, Failure> {
        let path = settings.paths.store_file();
        match std::fs::metadata(&path) {
            Ok(_) => Self::create(settings).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let what = format!("the store {} cannot be read", path.display());
                Err(Failure::new(Exit::Error, what).next("check --data-dir").because(error))
            }
        }
    }

    /// Opens the store, which must be there.
    pub(super) fn require(settings: &Settings) -> Result<Self, Failure> {
        Self::open(settings)?.ok_or_else(|| {
            Failure::new(
                Exit::Error,
                format!("there is no store yet at {}", settings.paths.store_file().display()),
            )
            .next("make one: foreman run --repo . \"what you want\", or foreman apply -f FILE")
            .next("or name another: --data-dir DIR")
        })
    }

    /// Opens the store, and makes it if absent.
    pub(super) fn create(settings: &Settings) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::new());
        let path = settings.paths.store_file();
        let store =
            SqliteStore::open(&path, clock.clone(), Arc::new(SystemEntropy)).map_err(|error| {
                Failure::new(Exit::Error, "the store cannot be opened")
                    .next("foreman doctor")
                    .because(error)
            })?;
        Ok(Self {
            stores: Stores::of(&store),
            clock,
            namespace: settings.namespace.clone(),
            suffix: suffix(settings),
            data_dir: settings.paths.data_dir.clone(),
            policy: settings.node.policy,
        })
    }

    /// A command that finds the same store again.
    pub(super) fn command(&self, words: &str) -> String {
        format!("foreman {words}{}", self.suffix)
    }

    /// Who works on this store, as it described itself; none, when nobody does.
    pub(super) fn worker(&self) -> anyhow::Result<Option<String>> {
        Ok(leader::holder(&self.data_dir)?)
    }

    /// Says on stderr that nobody carries out what was asked for, if that is so.
    pub(super) fn note_if_nobody_works(&self) -> anyhow::Result<()> {
        if self.worker()?.is_none() {
            let up = self.command("up");
            output::note(format!(
                "nobody works on this store; it is carried out as soon as somebody does: {up}"
            ));
        }
        Ok(())
    }

    /// Now, for ages.
    pub(super) fn now(&self) -> WallTime {
        self.clock.wall()
    }

    /// The namespace that objects of this kind are looked for in.
    fn namespace_of(&self, kind: AnyKind) -> Option<String> {
        (kind.names().scope == Scope::Namespaced).then(|| self.namespace.clone())
    }

    /// Where the object of that name lives.
    pub(super) fn key(&self, kind: AnyKind, name: &str) -> Key {
        Key { namespace: self.namespace_of(kind), name: name.to_owned() }
    }

    /// All objects of a kind that a query selects, by key. Those that cannot be read are named on
    /// stderr: one bad object hides no other.
    pub(super) async fn list(&self, kind: AnyKind, query: &Query) -> anyhow::Result<Vec<Found>> {
        with_kind!(kind, K => {
            let objects = list::<K>(&self.stores, query).await?;
            Ok(objects.iter().map(|object| Found { kind, json: object.to_json() }).collect())
        })
    }

    /// The object of that key.
    pub(super) async fn get(&self, kind: AnyKind, key: &Key) -> anyhow::Result<Option<Found>> {
        with_kind!(kind, K => {
            let object = K::store(&self.stores).get(key).await;
            let object = object.map_err(|error| read_failed(K::NAMES.alias, &key.name, error))?;
            Ok(object.map(|object| Found { kind, json: object.to_json() }))
        })
    }

    /// The object that a person named.
    ///
    /// # Errors
    /// There is none: the error lists near names.
    pub(super) async fn find(&self, target: &Target) -> anyhow::Result<Found> {
        let kind = target.kind;
        match &target.which {
            Which::Named(name) => match self.get(kind, &self.key(kind, name)).await? {
                Some(found) => Ok(found),
                None => Err(self.missing(kind, name).await?.into()),
            },
            Which::Latest => {
                let query = Query { namespace: self.namespace_of(kind), ..Query::all() };
                let all = self.list(kind, &query).await?;
                let created = |found: &Found| {
                    let at = found.json.pointer("/metadata/creationTimestamp");
                    let at = at.and_then(Value::as_str).unwrap_or_default().to_owned();
                    (at, found.key().name)
                };
                all.into_iter().max_by_key(created).ok_or_else(|| {
                    let word = kind.names().alias;
                    Failure::new(Exit::Error, format!("there is no {word} yet{}", self.place(kind)))
                        .next("foreman run --repo . \"what you want\"")
                        .into()
                })
            }
        }
    }

    /// All that a person named, or the first that is missing.
    pub(super) async fn find_all(&self, targets: &[Target]) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        for target in targets {
            found.push(self.find(target).await?);
        }
        Ok(found)
    }

    fn place(&self, kind: AnyKind) -> String {
        self.namespace_of(kind).map_or_else(String::new, |name| format!(" in namespace {name}"))
    }

    /// Why an object was not found, and what may have been meant.
    async fn missing(&self, kind: AnyKind, name: &str) -> anyhow::Result<Failure> {
        let word = kind.names().alias;
        let mut failure =
            Failure::new(Exit::Error, format!("there is no {word} {name:?}{}", self.place(kind)));
        let all = self.list(kind, &Query::all()).await?;
        let here = self.namespace_of(kind);
        let mut names: Vec<String> = Vec::new();
        for key in all.iter().map(Found::key) {
            if key.namespace == here {
                names.push(key.name);
            } else if key.name == name {
                let namespace = key.namespace.unwrap_or_default();
                failure = failure
                    .next(format!("there is one in namespace {namespace}: add -n {namespace}"));
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let near = target::near(&names, name);
        if !near.is_empty() {
            let near: Vec<_> = near.iter().map(|name| format!("{word}/{name}")).collect();
            failure = failure.next(format!("did you mean {}?", near.join(" or ")));
        }
        Ok(failure.next(self.command(&format!("get {word}s"))))
    }

    /// The workload that owns a task, if there is one.
    pub(super) async fn owner_of(
        &self,
        task: &Object<AgenticTask>,
    ) -> anyhow::Result<Option<Object<Workload>>> {
        let Some((key, uid)) = task.workload() else { return Ok(None) };
        let found = self.stores.workloads.get(&key).await;
        let found = found.map_err(|error| read_failed("workload", &key.name, error))?;
        Ok(found.filter(|workload| workload.meta.uid == *uid))
    }

    /// All tasks, by key.
    pub(super) async fn tasks(&self) -> anyhow::Result<BTreeMap<Key, Object<AgenticTask>>> {
        Ok(by_key(list::<AgenticTask>(&self.stores, &Query::all()).await?))
    }

    /// All nodes.
    pub(super) async fn nodes(&self) -> anyhow::Result<Vec<Object<FleetNode>>> {
        list::<FleetNode>(&self.stores, &Query::all()).await
    }

    /// What the deciding functions read, at one moment.
    pub(super) async fn fleet(&self) -> anyhow::Result<Fleet> {
        let listing = self
            .stores
            .nodes
            .list(&Query::all())
            .await
            .map_err(|error| anyhow::Error::new(error).context("the nodes cannot be listed"))?;
        Ok(Fleet {
            revision: listing.revision,
            nodes: listing.objects,
            tasks: self.tasks().await?,
            agents: by_key(list::<Agent>(&self.stores, &Query::all()).await?),
            workloads: by_key(list::<Workload>(&self.stores, &Query::all()).await?),
            policy: self.policy,
            now: self.now(),
            awake: self.clock.awake(),
            read_at: Instant::now(),
            suffix: self.suffix.clone(),
            worker: self.worker()?,
        })
    }
}

/// The flags by which this store and namespace were named, for commands that are shown.
fn suffix(settings: &Settings) -> String {
    let by_flag = |flag| settings.origins.get(flag) == Some(&Origin::Flag);
    let mut suffix = String::new();
    if by_flag("namespace") {
        suffix.push_str(" -n ");
        suffix.push_str(&shell_word(&settings.namespace));
    }
    if by_flag("data-dir") {
        suffix.push_str(" --data-dir ");
        suffix.push_str(&shell_word(&settings.paths.data_dir.display().to_string()));
    }
    suffix
}

fn by_key<K: Kind>(objects: Vec<Object<K>>) -> BTreeMap<Key, Object<K>> {
    objects.into_iter().map(|object| (object.key(), object)).collect()
}

async fn list<K: Held>(stores: &Stores, query: &Query) -> anyhow::Result<Vec<Object<K>>> {
    let word = K::NAMES.alias;
    let listing = K::store(stores).list(query).await.map_err(|error| {
        anyhow::Error::new(error).context(format!("the {word}s cannot be listed"))
    })?;
    for (key, reason) in &listing.unreadable {
        output::note(format!("warning: {word}/{} cannot be read: {reason}", key.name));
    }
    Ok(listing.objects)
}

/// A read that failed.
pub(super) fn read_failed(word: &str, name: &str, error: StoreError) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("{word}/{name} cannot be read"))
}

/// A write that failed, with the exit code of its cause.
pub(super) fn write_failed(name: &str, error: StoreError) -> anyhow::Error {
    let (exit, hint) = match &error {
        StoreError::Invalid { .. } | StoreError::TooLarge { .. } => {
            (Exit::Usage, "correct the manifest, then apply again")
        }
        StoreError::Conflict => {
            (Exit::Error, "somebody else changed it at the same time: try again")
        }
        StoreError::Uncertain { .. } => (Exit::Error, "look whether it was done: foreman get"),
        StoreError::NotFound
        | StoreError::AlreadyExists { .. }
        | StoreError::Unreadable { .. }
        | StoreError::Denied { .. }
        | StoreError::Unavailable { .. }
        | _ => (Exit::Error, "foreman doctor"),
    };
    Failure::new(exit, format!("{name} was not written")).next(hint).because(error).into()
}

/// `kind/name` of the objects of these kinds in the store of the default settings; nothing where there
/// is none.
pub(super) fn names_for_completion(kinds: &[AnyKind]) -> Vec<String> {
    let flags = crate::settings::GlobalFlags::default();
    let Ok(settings) = Settings::load(&flags, None, None) else {
        return Vec::new();
    };
    let Ok(Some(world)) = World::open(&settings) else {
        return Vec::new();
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    runtime.block_on(async {
        let mut names = Vec::new();
        for kind in kinds {
            let query = Query { namespace: world.namespace_of(*kind), ..Query::all() };
            let found = world.list(*kind, &query).await.unwrap_or_default();
            names.extend(found.iter().map(Found::name));
        }
        names
    })
}
