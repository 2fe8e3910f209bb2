//! Which tasks are to be looked at: those that changed, and those that wait for something that
//! changed. Tasks that have ended are not in here and cost nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Uid;
use crate::model::agentic_task::AgenticTask;
use crate::model::ids::Key;
use crate::model::object::Object;
use crate::model::shared::LocalObjectReference;
use crate::model::time::AwakeTime;

/// When keys are to be looked at again although nothing changed; the earliest counts.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    order: BTreeSet<(AwakeTime, Key)>,
    set: BTreeMap<Key, AwakeTime>,
}

impl Alarms {
    pub(super) fn set(&mut self, key: &Key, at: AwakeTime) {
        match self.set.get(key) {
            Some(known) if *known <= at => return,
            Some(_) => self.clear(key),
            None => {}
        }
        self.set.insert(key.clone(), at);
        self.order.insert((at, key.clone()));
    }

    pub(super) fn clear(&mut self, key: &Key) {
        if let Some(at) = self.set.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// The next key whose time has come.
    pub(super) fn pop(&mut self, now: AwakeTime) -> Option<Key> {
        self.order.first().filter(|(at, _)| *at <= now)?;
        let (_, key) = self.order.pop_first()?;
        self.set.remove(&key);
        Some(key)
    }

    pub(super) fn next(&self) -> Option<AwakeTime> {
        self.order.first().map(|(at, _)| *at)
    }
}

/// What a task that has not ended depends on.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    uid: Uid,
    upstream: Vec<Key>,
    agent: Option<Key>,
    workload: Option<Key>,
}

type Index = BTreeMap<Key, BTreeSet<Key>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watchlist {
    rows: BTreeMap<Key, Row>,
    keys: BTreeMap<Uid, Key>,
    dependents: Index,
    by_agent: Index,
    by_workload: Index,
    due: BTreeSet<Key>,
    pub(super) alarms: Alarms,
}

/// The Agent that a task names.
pub(super) fn agent_key(task: &Object<AgenticTask>) -> Option<Key> {
    let name = task.spec.agent_ref.as_ref().and_then(LocalObjectReference::named)?;
    Some(Key { namespace: task.meta.namespace.clone(), name: name.to_owned() })
}

/// Where the Workload that owns a task stands.
pub(super) fn workload_key(task: &Object<AgenticTask>) -> Option<Key> {
    task.workload().map(|(key, _)| key)
}

impl Watchlist {
    /// Takes what is known of a task now; absent = it is gone or cannot be read. Answers with the uid
    /// that was known under that key and is not live there any more.
    pub(super) fn task_changed(
        &mut self,
        key: &Key,
        task: Option<&Object<AgenticTask>>,
    ) -> Option<Uid> {
        let live = |task: &&Object<AgenticTask>| !task.status.has_ended();
        let row = task.filter(live).map(|task| Row {
            uid: task.meta.uid.clone(),
            upstream: upstream(task),
            agent: agent_key(task),
            workload: workload_key(task),
        });
        self.due_all(Self::dependents_of(&self.dependents, key));
        let known = self.rows.get(key);
        if row.is_some() {
            self.due.insert(key.clone());
        } else {
            self.due.remove(key);
            self.alarms.clear(key);
        }
        if known == row.as_ref() {
            return None;
        }
        // What depends on it may be in a cycle now.
        if row.as_ref().is_some_and(|row| !row.upstream.is_empty()) {
            self.due_all(self.downstream(key));
        }
        let before = self.rows.remove(key);
        if let Some(before) = &before {
            self.unlink(key, before);
            self.keys.remove(&before.uid);
        }
        let same = before.as_ref().map(|row| &row.uid) == row.as_ref().map(|row| &row.uid);
        if let Some(row) = row {
            self.link(key, &row);
            self.keys.insert(row.uid.clone(), key.clone());
            self.rows.insert(key.clone(), row);
        }
        before.filter(|_| !same).map(|row| row.uid)
    }

    fn dependents_of(dependents: &Index, key: &Key) -> Vec<Key> {
        dependents.get(key).into_iter().flatten().cloned().collect()
    }

    /// All that wait for it, also through others.
    fn downstream(&self, key: &Key) -> Vec<Key> {
        let mut found = BTreeSet::new();
        let mut open = Self::dependents_of(&self.dependents, key);
        while let Some(next) = open.pop() {
            if found.insert(next.clone()) {
                open.extend(Self::dependents_of(&self.dependents, &next));
            }
        }
        found.into_iter().collect()
    }

    fn due_all(&mut self, keys: impl IntoIterator<Item = Key>) {
        let rows = &self.rows;
        self.due.extend(keys.into_iter().filter(|key| rows.contains_key(key)));
    }

    fn indices(row: &Row) -> impl Iterator<Item = (usize, &Key)> {
        let upstream = row.upstream.iter().map(|key| (0, key));
        let agent = row.agent.iter().map(|key| (1, key));
        upstream.chain(agent).chain(row.workload.iter().map(|key| (2, key)))
    }

    fn link(&mut self, key: &Key, row: &Row) {
        for (which, of) in Self::indices(row) {
            self.index(which).entry(of.clone()).or_default().insert(key.clone());
        }
    }

    fn unlink(&mut self, key: &Key, row: &Row) {
        for (which, of) in Self::indices(row) {
            let index = self.index(which);
            if let Some(keys) = index.get_mut(of) {
                keys.remove(key);
                if keys.is_empty() {
                    index.remove(of);
                }
            }
        }
    }

    fn index(&mut self, which: usize) -> &mut Index {
        match which {
            0 => &mut self.dependents,
            1 => &mut self.by_agent,
            _ => &mut self.by_workload,
        }
    }

    /// The live tasks that name an Agent.
    pub(super) fn of_agent(&self, agent: &Key) -> Vec<Key> {
        self.by_agent.get(agent).into_iter().flatten().cloned().collect()
    }

    /// The live tasks of a Workload.
    pub(super) fn of_workload(&self, workload: &Key) -> Vec<Key> {
        self.by_workload.get(workload).into_iter().flatten().cloned().collect()
    }

    /// A task is to be looked at, if it has not ended.
    pub(super) fn touch(&mut self, key: &Key) {
        if self.rows.contains_key(key) {
            self.due.insert(key.clone());
        }
    }

    /// The uid of a task that has not ended.
    pub(super) fn uid_of(&self, key: &Key) -> Option<&Uid> {
        self.rows.get(key).map(|row| &row.uid)
    }

    /// The task of that uid, if it has not ended.
    pub(super) fn key_of(&self, uid: &Uid) -> Option<&Key> {
        self.keys.get(uid)
    }

    /// The tasks that are to be looked at now; each is handed out once.
    pub(super) fn take_due(&mut self, now: AwakeTime) -> BTreeSet<Key> {
        while let Some(key) = self.alarms.pop(now) {
            self.touch(&key);
        }
        std::mem::take(&mut self.due)
    }
}

fn upstream(task: &Object<AgenticTask>) -> Vec<Key> {
    let namespace = &task.meta.namespace;
    let names = task.spec.depends_on.iter();
    names.map(|name| Key { namespace: namespace.clone(), name: name.clone() }).collect()
}
