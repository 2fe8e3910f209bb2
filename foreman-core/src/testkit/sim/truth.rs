//! What really happened, seen from above: every accepted change, every run, every effect. The checks
//! of the promises look at it after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::chance::Counts;
use super::engine::{Instant, lock};
use super::machine::MachineId;
use super::net::Actor;
use super::promises;
use super::promises_claims as claims;
use super::promises_more as more;
use super::remote::Push;
use super::story::{Standing, Told};
use super::trace::{Trace, at};
use crate::model::ids::{Attempt, Fence, Key, Uid};
use crate::model::{Agent, AgenticTask, FleetNode, Object, Workload};
use crate::ports::executor::{Finish, RunEnd};

/// An object before and after a change; absent = it was not there, or is not any more.
pub(crate) enum Moved {
    Task(Option<Arc<Object<AgenticTask>>>, Option<Arc<Object<AgenticTask>>>),
    Node(Option<Arc<Object<FleetNode>>>, Option<Arc<Object<FleetNode>>>),
    Workload(Option<Arc<Object<Workload>>>, Option<Arc<Object<Workload>>>),
    Agent(Option<Arc<Object<Agent>>>),
    Other,
}

impl Moved {
    /// The kind, if control loops owe it rest once everything has ended.
    const fn written(&self) -> Option<&'static str> {
        match self {
            Self::Task(..) => Some("task"),
            Self::Workload(..) => Some("workload"),
            Self::Node(..) | Self::Agent(_) | Self::Other => None,
        }
    }
}

/// An object that was written, by its kind and name.
pub(super) type Written = (&'static str, Key);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise's number in product.md; 0 = the simulation itself, e.g. a panic; 13 = work went to a
    /// model in the cloud although somebody forbade it.
    pub promise: u8,
    /// When, as the trace shows it.
    pub at: String,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { promise, at, what } = self;
        match promise {
            13 => write!(f, "policy at {at}: {what}"),
            _ => write!(f, "promise {promise} at {at}: {what}"),
        }
    }
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Places, expands, rolls up.
    Operator,
    /// Runs tasks.
    Agent,
    /// A person.
    User,
}

#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) role: Role,
    pub(super) node: Option<String>,
    pub(super) session: Option<String>,
    /// Runs under way.
    pub(super) running: usize,
    pub(super) started: Instant,
    pub(super) last_beat: Instant,
}

/// What is known of one task, for ever.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskFacts {
    pub(super) claimed_by: Option<u64>,
    pub(super) granted_at: Instant,
    /// The process that each attempt was granted to.
    pub(super) grants: BTreeMap<Attempt, u64>,
    pub(super) attempt: Attempt,
    pub(super) scheduled_at: Instant,
    pub(super) pending_since: Option<Instant>,
    pub(super) writes_while_waiting: Vec<Instant>,
    pub(super) pushes: Vec<Attempt>,
    /// When its last push arrived.
    pub(super) pushed_at: Instant,
    /// When claims were lost or ended, as the store shows it.
    pub(super) lost: BTreeMap<Attempt, Instant>,
    pub(super) pulls: u32,
    pub(super) deleted_at: Option<Instant>,
    pub(super) ended: bool,
    pub(super) unexplained_since: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct NodeFacts {
    pub(super) last_beat: Instant,
    pub(super) beat_before: Instant,
    /// Numbers of slots and since when they hold.
    pub(super) slots: Vec<(Instant, i32)>,
}

#[derive(Default)]
pub(super) struct Facts {
    pub(super) violations: Vec<Violation>,
    pub(super) processes: BTreeMap<u64, Process>,
    pub(super) tasks: BTreeMap<Uid, TaskFacts>,
    pub(super) nodes: BTreeMap<String, NodeFacts>,
    pub(super) live_tasks: BTreeMap<Key, Arc<Object<AgenticTask>>>,
    pub(super) live_nodes: BTreeMap<Key, Arc<Object<FleetNode>>>,
    pub(super) live_workloads: BTreeMap<Key, Arc<Object<Workload>>>,
    pub(super) live_agents: BTreeMap<Key, Arc<Object<Agent>>>,
    /// Names of tasks that were on target once.
    pub(super) on_target: BTreeSet<Key>,
    /// What executors said of the end of an attempt.
    pub(super) ends: BTreeMap<(Uid, Attempt), Finish>,
    /// When machines slept, and until when, if they do not still.
    pub(super) slept: BTreeMap<MachineId, Vec<(Instant, Option<Instant>)>>,
    /// Steps of workloads, by the workload's uid and the step: their tasks so far, the last last.
    pub(super) steps: BTreeMap<(Uid, String), Vec<Uid>>,
    /// Tokens that were really spent for a workload; absent = a task of it was deleted, and what that
    /// one spent is told by nobody.
    pub(super) spent: BTreeMap<Uid, Option<i64>>,
    /// Whether models in the cloud are allowed.
    pub(super) allow_cloud: bool,
    /// The longest way of a request or an answer.
    pub(super) way: Duration,
    /// Silent nodes whose claims were taken back: by which process, and when.
    pub(super) slow: Vec<(Instant, u64, String)>,
    /// The process that holds the lease, by the record.
    pub(super) leader: Option<u64>,
    /// The write that is being taken was given up by its sender: it decided on what was then.
    pub(super) late: bool,
    pub(super) last_operator_write: Instant,
    /// Writes of tasks and Workloads by control loops.
    pub(super) operator_writes: BTreeMap<Written, u64>,
}

impl Facts {
    pub(super) fn broken(&mut self, promise: u8, now: Instant, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { promise, at: at(now), what });
        }
    }
}

/// See the module.
pub(crate) struct Truth {
    trace: Arc<Trace>,
    pub(super) counts: Arc<Counts>,
    facts: Mutex<Facts>,
}

impl Truth {
    pub(crate) fn new(trace: Arc<Trace>, counts: Arc<Counts>) -> Self {
        Self { trace, counts, facts: Mutex::default() }
    }

    pub(super) fn facts<T>(&self, look: impl FnOnce(&mut Facts) -> T) -> T {
        look(&mut lock(&self.facts))
    }

    /// The promises that were broken.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.facts(|facts| facts.violations.clone())
    }

    /// Whether one was.
    pub(crate) fn is_broken(&self) -> bool {
        self.facts(|facts| !facts.violations.is_empty())
    }

    /// A promise was broken.
    pub(crate) fn broken(&self, promise: u8, now: Instant, what: String) {
        self.facts(|facts| facts.broken(promise, now, what));
    }

    /// A line for people and for the hash.
    pub(crate) fn note(&self, now: Instant, number: u64, line: impl FnOnce() -> String) {
        self.trace.event(now, "note", &[number], line);
    }

    /// A process starts.
    pub(crate) fn starts(
        &self,
        now: Instant,
        process: u64,
        role: Role,
        node: Option<&str>,
        session: Option<String>,
    ) {
        let node = node.map(ToOwned::to_owned);
        self.facts(|facts| {
            facts.processes.insert(
                process,
                Process { role, node, session, running: 0, started: now, last_beat: now },
            );
        });
    }

    /// A machine falls asleep or wakes up.
    pub(crate) fn sleeps(&self, now: Instant, machine: MachineId, asleep: bool) {
        self.facts(|facts| {
            let sleeps = facts.slept.entry(machine).or_default();
            match sleeps.last_mut().filter(|(_, to)| to.is_none()) {
                Some((_, to)) if !asleep => *to = Some(now),
                None if asleep => sleeps.push((now, None)),
                Some(_) | None => {}
            }
        });
    }

    /// The store took a change.
    pub(crate) fn saw(&self, now: Instant, actor: &Actor, key: &Key, moved: Moved) {
        if let Moved::Task(before, after) = &moved
            && let Some(task) = after.as_deref().or(before.as_deref())
        {
            let gone = after.is_none();
            self.trace.mark(now, || Told::Task(Standing::of(key, task, gone)));
        }
        let mut facts = lock(&self.facts);
        let role = facts.processes.get(&actor.process).map_or(Role::User, |process| process.role);
        if role == Role::Operator {
            facts.last_operator_write = now;
            more::one_leader(&mut facts, now, actor);
            if let Some(kind) = moved.written() {
                *facts.operator_writes.entry((kind, key.clone())).or_default() += 1;
            }
        }
        match moved {
            Moved::Task(before, after) => {
                let change = promises::TaskChange { now, actor, role, key, before, after };
                promises::task_changed(&mut facts, &self.counts, &change);
            }
            Moved::Node(before, after) => {
                promises::node_changed(&mut facts, now, actor, key, before.as_deref(), after);
            }
            Moved::Workload(before, after) => {
                promises::workload_changed(&mut facts, now, role, key, before.as_deref(), after);
            }
            Moved::Agent(after) => {
                match after {
                    Some(agent) => facts.live_agents.insert(key.clone(), agent),
                    None => facts.live_agents.remove(key),
                };
            }
            Moved::Other => {}
        }
    }

    /// The store will not take a write: a fault of ours, whoever wrote it.
    pub(crate) fn refused_by_the_store(&self, now: Instant, actor: &Actor, error: &str) {
        self.broken(0, now, format!("the store refused a write of {}: {error}", actor.name));
    }

    /// A run begins; it is over when what is returned is dropped.
    pub(crate) fn run_begins(
        self: &Arc<Self>,
        process: u64,
        node: &str,
        fence: &Fence,
    ) -> RunningNow {
        self.counts.add("run begun");
        self.facts(|facts| {
            let now = facts.last_operator_write;
            claims::granted(facts, now, process, fence);
            let slots = facts.nodes.get(node).map_or(1, NodeFacts::most_slots);
            if let Some(process) = facts.processes.get_mut(&process) {
                process.running += 1;
            }
            let running = facts.processes.get(&process).map_or(0, |process| process.running);
            if running > slots {
                let what = format!(
                    "{node} runs {running} tasks at once with {slots} slots (task {})",
                    fence.uid
                );
                facts.broken(7, now, what);
            }
        });
        RunningNow { truth: self.clone(), process }
    }

    /// A run spent tokens.
    pub(crate) fn spent(&self, task: &Object<AgenticTask>, tokens: i64) {
        self.facts(|facts| more::spent(facts, facts.last_operator_write, task, tokens));
    }

    /// The lease record names that process as its holder now, or nobody.
    pub(crate) fn leads(&self, process: Option<u64>) {
        self.facts(|facts| facts.leader = process);
    }

    /// What a run came to, as its executor says.
    pub(crate) fn run_ended(&self, fence: &Fence, end: &RunEnd) {
        if matches!(end, RunEnd::Lost) {
            self.facts(|facts| claims::given_up(facts, facts.last_operator_write, fence));
        }
        if let RunEnd::Finished(finish) = end {
            let key = (fence.uid.clone(), fence.attempt);
            self.facts(|facts| facts.ends.insert(key, (**finish).clone()));
        }
    }

    /// A push was accepted.
    pub(crate) fn pushed(&self, now: Instant, push: &Push<'_>) {
        let Push { branch, commit, .. } = push;
        self.counts.add("push accepted");
        self.note(now, commit.sha, || {
            format!("remote {branch} pushed by {}/{}", commit.uid, commit.attempt)
        });
        self.trace.mark(now, || Told::Push { uid: commit.uid.clone(), attempt: commit.attempt });
        self.facts(|facts| promises::pushed(facts, now, push));
    }

    /// A pull request was opened.
    pub(crate) fn opened(&self, now: Instant, head: &str, uid: &Uid) {
        self.counts.add("pull request opened");
        self.note(now, 1, || format!("remote pull request {head} of {uid}"));
        self.facts(|facts| {
            promises::effect(facts, now, uid, "a pull request");
            let task = facts.tasks.entry(uid.clone()).or_default();
            task.pulls += 1;
            if task.pulls > 1 {
                let what = format!("task {uid} opened {} pull requests", task.pulls);
                facts.broken(2, now, what);
            }
        });
    }

    /// A comment was posted, for the so-manieth time.
    pub(crate) fn commented(&self, now: Instant, marker: &str, uid: &Uid, times: u32) {
        self.counts.add("comment posted");
        self.note(now, u64::from(times), || format!("remote comment {marker} of {uid}"));
        self.facts(|facts| promises::effect(facts, now, uid, "a comment"));
    }
}

impl NodeFacts {
    /// The most slots that an agent may still go by.
    pub(super) fn most_slots(&self) -> usize {
        let most = self.slots.iter().map(|(_, slots)| *slots).max().unwrap_or(1);
        usize::try_from(most).unwrap_or_default()
    }
}

/// A run under way.
pub(crate) struct RunningNow {
    truth: Arc<Truth>,
    process: u64,
}

impl Drop for RunningNow {
    fn drop(&mut self) {
        self.truth.facts(|facts| {
            if let Some(process) = facts.processes.get_mut(&self.process) {
                process.running = process.running.saturating_sub(1);
            }
        });
    }
}
