//! What `foreman retry` makes: new tasks with the specs of old ones. Pure.

use std::collections::{BTreeMap, BTreeSet};

use foreman_core::model::agentic_task::{Continues, TaskKind};
use foreman_core::model::ids::OBJECT_NAME_BYTES_MAX;
use foreman_core::model::outcome::on_target;
use foreman_core::model::wellknown::{
    ANNOTATION_CLAIM_EXPIRIES, ANNOTATION_MAX_TURNS, ANNOTATION_RETRY_OF, ANNOTATION_STRUCK,
    ANNOTATION_SUSPENDED_BY,
};
use foreman_core::model::{AgenticTask, Key, NewObject, Object, WallTime};

use crate::cli::words;
use crate::exit::{Exit, Failure};

/// What labels of ours begin with: they say of which workload and step a task is.
const OURS: &str = "foreman.llmkube.dev/";
/// Annotations that keep the books of one task. All others are wishes of people or policy and go on.
const BOOKS: [&str; 5] = [
    ANNOTATION_CLAIM_EXPIRIES,
    ANNOTATION_STRUCK,
    ANNOTATION_SUSPENDED_BY,
    "foreman.llmkube.dev/audited",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// How tasks are tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct How {
    /// Go on with the old conversation.
    pub(super) continues: bool,
    /// Turns of the new run.
    pub(super) turns: Option<u32>,
}

/// An old task and the new one that tries it again.
pub(super) type Again<'t> = (&'t Object<AgenticTask>, NewObject<AgenticTask>);

type Tasks = BTreeMap<Key, Object<AgenticTask>>;

/// The new tasks for these old ones, in an order in which none comes before one that it depends on.
///
/// # Errors
/// One of them cannot be tried again: nothing is made then.
pub(super) fn plan<'t>(
    old: &[&'t Object<AgenticTask>],
    all: &Tasks,
    how: How,
) -> Result<Vec<Again<'t>>, Failure> {
    for task in old {
        may_be_retried(task, all, how)?;
    }
    let mut open: Vec<&Object<AgenticTask>> = Vec::new();
    let mut names: BTreeMap<Key, String> = BTreeMap::new();
    let mut taken: BTreeSet<Key> = all.keys().cloned().collect();
    for task in old {
        // One that is named twice is tried once.
        if !open.iter().any(|other| other.key() == task.key()) {
            let free = free_name(task, &taken);
            taken.insert(Key { name: free.clone(), ..task.key() });
            names.insert(task.key(), free);
            open.push(task);
        }
    }
    let mut made = Vec::new();
    while !open.is_empty() {
        let waits = |task: &&Object<AgenticTask>| {
            let upstream = |name: &String| sibling(task, name);
            let among = |key: Key| open.iter().any(|other| other.key() == key);
            task.spec.depends_on.iter().map(upstream).any(among)
        };
        // In a circle everybody waits: then the order does not matter.
        let at = open.iter().position(|task| !waits(task)).unwrap_or(0);
        let task = open.remove(at);
        made.push((task, new_task(task, all, &names, how)?));
    }
    Ok(made)
}

fn may_be_retried(task: &Object<AgenticTask>, all: &Tasks, how: How) -> Result<(), Failure> {
    let name = &task.meta.name;
    let usage = |message: String| Failure::new(Exit::Usage, message);
    if !task.status.has_ended() {
        // Without nodes, no age is shown.
        let stands = words::stands(task, &[], WallTime::from_unix_seconds(0));
        let failure = usage(format!("task/{name} has not ended ({stands})"));
        return Err(if task.spec.suspend == Some(true) {
            failure.next(format!("let it go on: foreman resume task/{name}"))
        } else {
            failure
                .next(format!("wait for it: foreman wait task/{name}"))
                .next(format!("or end it first: foreman cancel task/{name}"))
        });
    }
    let live = retries(task, all).find(|other| !other.status.has_ended());
    if let Some(live) = live {
        let other = &live.meta.name;
        return Err(usage(format!("task/{other} tries task/{name} again already"))
            .next(format!("wait for it: foreman wait task/{other}")));
    }
    if how.continues {
        if task.spec.kind.is(TaskKind::Verify) {
            return Err(usage(format!("task/{name} only runs a gate: it has no conversation"))
                .next(format!("foreman retry task/{name}")));
        }
        if task.status.attempt.unwrap_or(0) == 0 {
            return Err(usage(format!("task/{name} never ran: there is nothing to go on with"))
                .next(format!("foreman retry task/{name}")));
        }
    }
    Ok(())
}

/// The first of a chain of retries, by name.
fn root(task: &Object<AgenticTask>) -> &str {
    task.meta.annotations.get(ANNOTATION_RETRY_OF).map_or(task.meta.name.as_str(), String::as_str)
}

/// The tasks that try the same again.
fn retries<'t>(
    task: &'t Object<AgenticTask>,
    all: &'t Tasks,
) -> impl Iterator<Item = &'t Object<AgenticTask>> {
    all.values().filter(move |other| {
        other.meta.namespace == task.meta.namespace
            && other.meta.uid != task.meta.uid
            && other.meta.annotations.get(ANNOTATION_RETRY_OF).map(String::as_str)
                == Some(root(task))
    })
}

fn free_name(task: &Object<AgenticTask>, taken: &BTreeSet<Key>) -> String {
    let root = root(task);
    let named = |number: usize| {
        let ending = format!("-{number}");
        // Names are ASCII, so that characters are bytes.
        let head: String = root.chars().take(OBJECT_NAME_BYTES_MAX - ending.len()).collect();
        format!("{}{ending}", head.trim_end_matches(['-', '.']))
    };
    let free = |name: &String| !taken.contains(&Key { name: name.clone(), ..task.key() });
    // Among one more than there are, one is free.
    (2..=taken.len() + 2).map(named).find(free).unwrap_or_else(|| named(taken.len() + 3))
}

fn sibling(task: &Object<AgenticTask>, name: &str) -> Key {
    Key { namespace: task.meta.namespace.clone(), name: name.to_owned() }
}

fn new_task(
    task: &Object<AgenticTask>,
    all: &Tasks,
    names: &BTreeMap<Key, String>,
    how: How,
) -> Result<NewObject<AgenticTask>, Failure> {
    let mut spec = task.spec.clone();
    (spec.cancel, spec.suspend) = (None, None);
    let upstream = spec.depends_on.iter().map(|name| dependency(task, name, all, names));
    spec.depends_on = upstream.collect::<Result<_, _>>()?;
    if how.continues {
        spec.continues = Some(Continues {
            task: Some(task.meta.name.clone()),
            uid: Some(task.meta.uid.to_string()),
        });
    }
    let key = task.key();
    let name = names.get(&key).cloned().unwrap_or_else(|| key.name.clone());
    let mut new = NewObject::new(Key { name, ..key }, spec);
    // It is no child of the workload, whose steps have their results.
    let labels = task.meta.labels.iter().filter(|(name, _)| !name.starts_with(OURS));
    new.labels = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
    let annotations =
        task.meta.annotations.iter().filter(|(name, _)| !BOOKS.contains(&name.as_str()));
    new.annotations = annotations.map(|(name, value)| (name.clone(), value.clone())).collect();
    new.annotations.insert(ANNOTATION_RETRY_OF.to_owned(), root(task).to_owned());
    if let Some(turns) = how.turns {
        new.annotations.insert(ANNOTATION_MAX_TURNS.to_owned(), turns.to_string());
    }
    Ok(new)
}

/// What the new task depends on instead of `name`: what is tried again with it, what ended well or may
/// still, or the retry of it that did or may.
fn dependency(
    task: &Object<AgenticTask>,
    name: &str,
    all: &Tasks,
    names: &BTreeMap<Key, String>,
) -> Result<String, Failure> {
    let key = sibling(task, name);
    if let Some(new) = names.get(&key) {
        return Ok(new.clone());
    }
    let hopeful = |one: &Object<AgenticTask>| on_target(&one.status) || !one.status.has_ended();
    let refused = |message: String| Failure::new(Exit::Usage, message);
    let own = &task.meta.name;
    let Some(upstream) = all.get(&key) else {
        return Err(refused(format!("task/{name}, on which task/{own} depends, is not there"))
            .next("make a task without that dependency: foreman get task/NAME -o yaml, change it, foreman apply -f FILE"));
    };
    if hopeful(upstream) {
        return Ok(name.to_owned());
    }
    let best = retries(upstream, all).filter(|one| hopeful(one));
    let best = best.max_by_key(|one| (one.meta.creation_timestamp, one.meta.name.clone()));
    best.map(|one| one.meta.name.clone()).ok_or_else(|| {
        let ended = words::ended(upstream);
        refused(format!("task/{name}, on which task/{own} depends, ended {ended}"))
            .next(format!("try both again: foreman retry task/{name} task/{own}"))
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
