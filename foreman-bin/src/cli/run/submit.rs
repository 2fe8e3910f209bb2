//! Writes what is to be run, or finds what is to be gone on with.

use std::collections::BTreeSet;
use std::path::Path;

use foreman_core::model::manifest::{AnyKind, Manifest};
use foreman_core::model::wellknown::ANNOTATION_PUSH_TO;
use foreman_core::model::{Agent, Key, Kind, NewObject, Object, Uid, Workload};
use foreman_core::ports::{Query, Store, StoreError, Stores};
use serde_json::Value;

use super::order::{Order, agents};
use crate::exit::{Exit, Failure};
use crate::follow::{Begun, finished};
use crate::manifest_file;

/// The workload that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Submitted {
    pub(in crate::cli) key: Key,
    pub(in crate::cli) uid: Uid,
}

/// Writes the Agents, as far as they are absent, and the workload.
///
/// # Errors
/// The store refuses.
pub(in crate::cli) async fn from_order(
    stores: &Stores,
    order: &Order,
) -> Result<Submitted, Failure> {
    for agent in agents(&order.namespace) {
        create_absent(&*stores.agents, agent).await?;
    }
    let workload = create(&*stores.workloads, order.workload()).await?;
    Ok(Submitted { key: workload.key(), uid: workload.meta.uid })
}

/// What a file asks for.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Manifests {
    workload: NewObject<Workload>,
    roles: Vec<NewObject<Agent>>,
}

impl Manifests {
    /// The repositories that its steps name, each once, and the branches they start from.
    pub(in crate::cli) fn repositories(&self) -> BTreeSet<(&str, Option<&str>)> {
        let steps = self.workload.spec.pipeline.iter();
        let of_steps = steps.filter_map(|step| {
            let base = step.payload.base_branch.as_deref().filter(|base| !base.is_empty());
            Some((step.payload.repo.as_deref()?, base))
        });
        of_steps.filter(|(repo, _)| !repo.is_empty()).collect()
    }

    /// Whether it says itself how the work is judged.
    pub(in crate::cli) fn has_gate(&self) -> bool {
        let spec = &self.workload.spec;
        spec.gate_profile.is_some() || spec.pipeline.iter().any(|step| step.gate_profile.is_some())
    }

    /// Where its branches are pushed, if not into the repository.
    pub(in crate::cli) fn push_to(&self) -> Option<&str> {
        self.workload.annotations.get(ANNOTATION_PUSH_TO).map(String::as_str)
    }
}

/// Reads the one Workload of a file, and its Agents.
///
/// # Errors
/// The file is not valid, has no or several Workloads, or other kinds.
pub(in crate::cli) fn read_file(file: &Path, namespace: &str) -> anyhow::Result<Manifests> {
    let paths = [file.to_owned()];
    let manifests = manifest_file::read(&paths, &mut std::io::stdin().lock(), namespace)?;
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let mut workload = None;
    let mut roles = Vec::new();
    for located in &manifests {
        let manifest = &located.value;
        let place = format!("{}:{}", located.place.file, located.place.line);
        match manifest.kind {
            AnyKind::Workload if workload.is_none() => {
                workload = Some(new_object::<Workload>(manifest)?);
            }
            AnyKind::Workload => {
                return Err(usage(format!("{place}: two Workloads: run one at a time"))
                    .next("or write them all: foreman apply -f FILE, then foreman up")
                    .into());
            }
            AnyKind::Agent => roles.push(new_object::<Agent>(manifest)?),
            AnyKind::AgenticTask
            | AnyKind::FleetNode
            | AnyKind::AgentRelease
            | AnyKind::ModelProfile => {
                let kind = manifest.kind.names().kind;
                return Err(usage(format!("{place}: a {kind} is not run"))
                    .next("a file for foreman run has one Workload, and Agents if need be")
                    .next("write it: foreman apply -f FILE")
                    .into());
            }
        }
    }
    let Some(workload) = workload else {
        return Err(usage(format!("{} has no Workload", file.display())).into());
    };
    Ok(Manifests { workload, roles })
}

/// Writes the Workload of a file, and its Agents and ours as far as they are absent.
///
/// # Errors
/// The store refuses.
pub(in crate::cli) async fn from_file(
    stores: &Stores,
    manifests: Manifests,
) -> Result<(Submitted, Begun), Failure> {
    let Manifests { workload, roles } = manifests;
    let defaults = agents(workload.key.namespace.as_deref().unwrap_or_default());
    for agent in roles.into_iter().chain(defaults) {
        create_absent(&*stores.agents, agent).await?;
    }
    let workload = create(&*stores.workloads, workload).await?;
    let begun = begun(&workload);
    Ok((Submitted { key: workload.key(), uid: workload.meta.uid }, begun))
}

/// Finds the workload of that name; `@latest` is the youngest one.
///
/// # Errors
/// There is none, or it has ended.
pub(in crate::cli) async fn continued(
    stores: &Stores,
    name: &str,
    namespace: &str,
) -> Result<(Submitted, Begun), Failure> {
    let name = name.strip_prefix("workload/").unwrap_or(name);
    let unreadable = |error: StoreError| {
        Failure::new(Exit::Error, "the workload cannot be read")
            .next("foreman doctor")
            .because(error)
    };
    let found = if name == "@latest" {
        let all =
            stores.workloads.list(&Query::in_namespace(namespace)).await.map_err(unreadable)?;
        all.objects
            .into_iter()
            .max_by_key(|workload| (workload.meta.creation_timestamp, workload.meta.name.clone()))
    } else {
        stores.workloads.get(&Key::namespaced(namespace, name)).await.map_err(unreadable)?
    };
    let Some(workload) = found else {
        return Err(Failure::new(
            Exit::Error,
            format!("there is no workload {name:?} in {namespace}"),
        )
        .next("foreman get workloads"));
    };
    if let Some((reason, _)) = finished(&workload) {
        let name = &workload.meta.name;
        return Err(Failure::new(Exit::Usage, format!("workload {name} has ended ({reason})"))
            .next(format!("foreman describe workload/{name}")));
    }
    let begun = begun(&workload);
    Ok((Submitted { key: workload.key(), uid: workload.meta.uid }, begun))
}

/// How many workloads of a store have not ended.
///
/// # Errors
/// The store cannot be read.
pub(in crate::cli) async fn unfinished(stores: &Stores) -> Result<usize, Failure> {
    let all = stores.workloads.list(&Query::all()).await.map_err(|error| {
        Failure::new(Exit::Error, "the workloads cannot be read")
            .next("foreman doctor")
            .because(error)
    })?;
    Ok(all.objects.iter().filter(|workload| finished(workload).is_none()).count())
}

fn begun(workload: &Object<Workload>) -> Begun {
    let spec = &workload.spec;
    let of_step = spec.pipeline.iter().find_map(|step| step.payload.repo.clone());
    Begun {
        intent: spec.intent.clone(),
        repo: of_step.or_else(|| spec.repo.clone()),
        ..Begun::default()
    }
}

/// The object of a manifest that was checked.
fn new_object<K: Kind>(manifest: &Manifest) -> anyhow::Result<NewObject<K>> {
    let object = &manifest.object;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let strings = |pointer: &str| {
        let map = object.pointer(pointer).and_then(Value::as_object);
        let pairs = map.into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    };
    let name = text("/metadata/name").ok_or_else(|| {
        let kind = K::NAMES.kind;
        Failure::new(Exit::Usage, format!("the {kind} has no metadata.name")).next("give it one")
    })?;
    let spec = serde_json::from_value(object.get("spec").cloned().unwrap_or_default())?;
    let key = K::key(text("/metadata/namespace").unwrap_or_default(), name);
    let mut new = NewObject::new(key, spec);
    new.labels = strings("/metadata/labels");
    new.annotations = strings("/metadata/annotations");
    Ok(new)
}

async fn create<K: Kind, S: Store<K> + ?Sized>(
    store: &S,
    new: NewObject<K>,
) -> Result<Object<K>, Failure> {
    let (kind, name) = (K::NAMES.alias, new.key.name.clone());
    store.create(new).await.map_err(|error| {
        let taken = matches!(error, StoreError::AlreadyExists { .. });
        let wrong = matches!(error, StoreError::Invalid { .. } | StoreError::TooLarge { .. });
        let exit = if taken || wrong { Exit::Usage } else { Exit::Error };
        let next = if taken && kind == "workload" {
            format!("go on with it: foreman run --continue {name}; or give another metadata.name")
        } else if wrong {
            "correct it and try again".to_owned()
        } else {
            "foreman doctor".to_owned()
        };
        Failure::new(exit, format!("{kind}/{name} was not written")).next(next).because(error)
    })
}

/// Writes an object unless one of its name is there: people change these.
async fn create_absent<K: Kind, S: Store<K> + ?Sized>(
    store: &S,
    new: NewObject<K>,
) -> Result<(), Failure> {
    match store.get(&new.key).await {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => {}
        Err(error) => {
            let name = format!("{}/{}", K::NAMES.alias, new.key.name);
            return Err(Failure::new(Exit::Error, format!("{name} cannot be read"))
                .next("foreman doctor")
                .because(error));
        }
    }
    match store.create(new.clone()).await {
        // Somebody else was faster.
        Ok(_) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Err(_) => create(store, new).await.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use foreman_core::memory::MemoryStore;

    use super::*;
    use crate::os_clock::SystemClock;

    fn stores() -> Stores {
        Stores::of(&MemoryStore::new(Arc::new(SystemClock::new())))
    }

    fn order() -> Order {
        Order {
            name: "fix-7f3a".into(),
            namespace: "default".into(),
            intent: "fix".into(),
            repo: "/r".into(),
            branch: "foreman/fix-7f3a".into(),
            review: true,
            ..Order::default()
        }
    }

    #[tokio::test]
    async fn agents_that_are_there_are_left_as_they_are() {
        let stores = stores();
        let mut own = agents("default").remove(0);
        own.spec.system_prompt = Some("mine".into());
        stores.agents.create(own.clone()).await.expect("created");
        let submitted = from_order(&stores, &order()).await.expect("submitted");
        assert_eq!(submitted.key, Key::namespaced("default", "fix-7f3a"));
        let kept = stores.agents.get(&own.key).await.expect("read").expect("there");
        assert_eq!(kept.spec.system_prompt.as_deref(), Some("mine"));
        let all = stores.agents.list(&Query::all()).await.expect("listed");
        assert_eq!(all.objects.len(), 3);
    }

    #[tokio::test]
    async fn a_name_that_is_taken_says_how_to_go_on_with_it() {
        let stores = stores();
        from_order(&stores, &order()).await.expect("submitted");
        let failure = from_order(&stores, &order()).await.expect_err("taken");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.hints()[0].contains("foreman run --continue fix-7f3a"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_workload_is_found_by_name_or_as_the_latest() {
        let stores = stores();
        let submitted = from_order(&stores, &order()).await.expect("submitted");
        for name in ["fix-7f3a", "workload/fix-7f3a", "@latest"] {
            let (found, begun) = continued(&stores, name, "default").await.expect(name);
            assert_eq!(found, submitted);
            assert_eq!((begun.intent.as_str(), begun.repo.as_deref()), ("fix", Some("/r")));
        }
        let failure = continued(&stores, "other", "default").await.expect_err("not there");
        assert_eq!(failure.exit(), Exit::Error, "as every verb says of what is not there");
    }

    #[tokio::test]
    async fn a_file_has_one_workload_and_agents() {
        let stores = stores();
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("w.yaml");
        let workload = "apiVersion: foreman.llmkube.dev/v1alpha1\nkind: Workload\nmetadata: {name: w}\nspec: {intent: x, pipeline: [{name: code, kind: issue-fix, agentRef: {name: foreman-coder}, payload: {repo: /r}}]}\n";
        std::fs::write(&file, workload).expect("written");
        let manifests = read_file(&file, "default").expect("valid");
        assert_eq!(manifests.repositories(), BTreeSet::from([("/r", None)]));
        let (submitted, begun) = from_file(&stores, manifests).await.expect("submitted");
        assert_eq!(submitted.key.name, "w");
        assert_eq!(begun.repo.as_deref(), Some("/r"));
        std::fs::write(&file, format!("{workload}---\n{}", workload.replace("name: w", "name: v")))
            .expect("written");
        let error = read_file(&file, "default").expect_err("two");
        assert_eq!(Exit::of(&error), Exit::Usage);
        let missing = read_file(&dir.path().join("no"), "default");
        assert_eq!(Exit::of(&missing.expect_err("no file")), Exit::Usage);
    }
}
