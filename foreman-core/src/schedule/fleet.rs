//! The fleet as a control loop keeps it: the snapshot, the tasks that wait for room, and what changed
//! since it last looked. Fed by events; asked in rounds. It costs by what changed, not by what is
//! there.

use std::collections::{BTreeMap, BTreeSet};

use super::need::Need;
use super::order::Turn;
use super::queue::{Alike, Line, Queue, Room, Said};
use super::scheduler::{Decision, decide, decide_among};
use super::snapshot::{Avoid, NodeRow, Reservation, Snapshot};
use crate::model::ids::Key;
use crate::model::time::AwakeTime;
use crate::model::{NodeName, Uid};
use crate::timing::{COUNTS_REFRESH, WAITING_REFRESH};

/// See the module.
#[derive(Debug, Default)]
pub struct Fleet {
    snapshot: Snapshot,
    queue: Queue,
    /// Nodes that changed since every line was tried.
    changed: BTreeSet<NodeName>,
    /// The Agent of each task in flight that has one.
    agents: BTreeMap<Uid, Key>,
    running: BTreeMap<Key, usize>,
}

/// One look at the lines: whose turn it is next.
#[derive(Debug)]
pub struct Round {
    heads: BTreeSet<(Turn, usize)>,
    /// The places of the nodes that changed; absent = every node is asked.
    changed: Option<Vec<usize>>,
    now: AwakeTime,
}

/// A task whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    line: usize,
    turn: Turn,
    /// Its uid.
    pub uid: Uid,
}

impl Next {
    /// The task.
    pub const fn key(&self) -> &Key {
        self.turn.key()
    }
}

/// What is to be told to tasks that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// To whom.
    pub tasks: Vec<Key>,
    /// What.
    pub said: Said,
}

impl Fleet {
    /// The snapshot that decisions are made on.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Takes a node's row. A row that says nothing new wakes nobody.
    pub fn node_changed(&mut self, row: NodeRow) -> bool {
        let name = row.name.clone();
        let differs = self.snapshot.upsert(row);
        if differs {
            self.changed.insert(name);
        }
        differs
    }

    /// The node is gone; what is held there is held until its tasks say otherwise.
    pub fn node_gone(&mut self, node: &NodeName) -> bool {
        self.changed.remove(node);
        self.snapshot.remove(node)
    }

    /// Keeps a task away from a node.
    pub fn avoid(&mut self, uid: Uid, node: NodeName, avoid: Avoid) {
        self.snapshot.avoid(uid, node, avoid);
    }

    /// Lets a task go to a node again.
    pub fn forgive(&mut self, uid: &Uid, node: &NodeName) {
        self.snapshot.forgive(uid, node);
        // For tasks that found room nowhere only what changed is looked at.
        self.changed.insert(node.clone());
    }

    /// A task is in flight: it holds room on its node, if it names one, and counts for its Agent.
    pub fn hold(&mut self, uid: &Uid, agent: Option<&Key>, held: Option<(NodeName, Reservation)>) {
        match held {
            Some((node, reservation)) => {
                if self.snapshot.home(uid) != Some((&node, &reservation)) {
                    if let Some(before) = self.snapshot.release(uid) {
                        self.changed.insert(before);
                    }
                    self.snapshot.reserve(&node, uid.clone(), reservation);
                }
            }
            None => self.changed.extend(self.snapshot.release(uid)),
        }
        if self.agents.get(uid) == agent {
            return;
        }
        self.agent_done(uid);
        if let Some(agent) = agent {
            self.agents.insert(uid.clone(), agent.clone());
            *self.running.entry(agent.clone()).or_default() += 1;
        }
    }

    /// A task is not in flight (any more).
    pub fn let_go(&mut self, uid: &Uid) {
        self.changed.extend(self.snapshot.release(uid));
        self.agent_done(uid);
    }

    fn agent_done(&mut self, uid: &Uid) {
        let Some(agent) = self.agents.remove(uid) else { return };
        if let Some(count) = self.running.get_mut(&agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.running.remove(&agent);
            }
        }
        self.agent_changed(&agent);
    }

    /// How many tasks an Agent has in flight.
    pub fn running(&self, agent: &Key) -> usize {
        self.running.get(agent).copied().unwrap_or(0)
    }

    /// An Agent may be below its limit again.
    pub fn agent_changed(&mut self, agent: &Key) {
        self.unblock(|alike| alike.agent.as_ref() == Some(agent));
    }

    /// A Workload may have some of its budget left again.
    pub fn workload_changed(&mut self, workload: &Key) {
        self.unblock(|alike| alike.workload.as_ref() == Some(workload));
    }

    fn unblock(&mut self, which: impl Fn(&Alike) -> bool) {
        if self.queue.blocked.is_empty() {
            return;
        }
        let lines = &mut self.queue.lines;
        self.queue.blocked.retain(|id| {
            let Some(line) = lines.get_mut(id) else { return false };
            let free = which(&line.alike);
            if free {
                line.room = Room::Unknown;
            }
            !free
        });
    }

    /// A task waits for room, in its turn.
    pub fn wait(&mut self, key: &Key, uid: &Uid, turn: Turn, alike: Alike) {
        self.snapshot.learn(&alike.need);
        self.queue.enter(key, uid.clone(), turn, alike);
    }

    /// A task does not wait for room (any more).
    pub fn leave(&mut self, key: &Key) {
        self.queue.leave(key);
    }

    /// How many tasks wait for room.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Where a task stands: its place from 1, and how many wait.
    pub fn place_in_line(&self, key: &Key) -> Option<(usize, usize)> {
        self.queue.place(key)
    }

    /// The decision for one need on the snapshot as it is.
    pub fn decide(&self, need: &Need) -> Decision {
        decide(&self.snapshot, need)
    }

    /// Begins a look at the lines that could move: those never tried, and, when nodes changed, those
    /// that found no room before.
    pub fn begin(&mut self, now: AwakeTime) -> Round {
        let changed: Vec<_> =
            self.changed.iter().filter_map(|node| self.snapshot.at(node)).collect();
        let some = !changed.is_empty();
        let could = |line: &Line| match line.room {
            Room::Unknown => true,
            Room::Nowhere => some,
            Room::Blocked => false,
        };
        let lines = self.queue.lines.iter().filter(|(_, line)| could(line));
        let heads = lines.filter_map(|(id, line)| Some((line.waiting.keys().next()?.clone(), *id)));
        let few = changed.len() * 2 < self.snapshot.len();
        Round { heads: heads.collect(), changed: few.then_some(changed), now }
    }

    /// The task whose turn it is; the caller places it, blocks its line, or leaves it.
    pub fn next(&self, round: &mut Round) -> Option<Next> {
        loop {
            let (turn, line) = round.heads.pop_first()?;
            let uid = self.queue.lines.get(&line).and_then(|line| line.waiting.get(&turn));
            if let Some(uid) = uid {
                return Some(Next { line, turn, uid: uid.clone() });
            }
        }
    }

    /// What that task is like.
    pub fn alike(&self, next: &Next) -> Option<&Alike> {
        self.queue.lines.get(&next.line).map(|line| &*line.alike)
    }

    /// Something else than room holds its line up.
    pub fn block(&mut self, round: &Round, next: &Next, said: Said) {
        if let Some(line) = self.queue.lines.get_mut(&next.line) {
            line.room = Room::Blocked;
            line.said = Some(said);
            line.counted = None;
            line.counted_at = round.now;
            self.queue.blocked.insert(next.line);
        }
    }

    /// Finds room for the task and reserves it at once; then it waits no more, and the next of its
    /// line has its turn.
    pub fn place(&mut self, round: &mut Round, next: &Next) -> Option<(NodeName, Vec<String>)> {
        let line = self.queue.lines.get_mut(&next.line)?;
        let need = &line.alike.need;
        let among = round.changed.as_deref().filter(|_| line.room == Room::Nowhere);
        let decision = match among {
            Some(nodes) => decide_among(&self.snapshot, need, nodes),
            None => decide(&self.snapshot, need),
        };
        let Some(node) = decision.node(&self.snapshot) else {
            match among {
                // What the others say is counted when it is told.
                Some(_) => line.room = Room::Nowhere,
                None => line.nowhere(decision.counts(), self.snapshot.version(), round.now),
            }
            return None;
        };
        let (node, why) = (node.name.clone(), decision.why(&self.snapshot, need));
        let reservation = Reservation { task: next.key().clone(), ram_gb: need.ram_gb };
        let agent = line.alike.agent.clone();
        self.queue.leave(next.key());
        self.hold(&next.uid, agent.as_ref(), Some((node.clone(), reservation)));
        self.advance(round, next);
        Some((node, why))
    }

    /// The task is taken out of its line without a place, and the next one has its turn.
    pub fn skip(&mut self, round: &mut Round, next: &Next) {
        self.queue.leave(next.key());
        self.advance(round, next);
    }

    fn advance(&self, round: &mut Round, next: &Next) {
        let line = self.queue.lines.get(&next.line);
        if let Some(turn) = line.and_then(|line| line.waiting.keys().next()) {
            round.heads.insert((turn.clone(), next.line));
        }
    }

    /// Ends the look. Says what is to be told to whom, and when there may be more to tell: counts that
    /// changed are told at most every 30 s, a reason that changed at once.
    pub fn end(&mut self, round: Round) -> (Vec<Telling>, Option<AwakeTime>) {
        let now = round.now;
        drop(round);
        self.changed.clear();
        let ids: Vec<_> = self.queue.lines.keys().copied().collect();
        let (mut tellings, mut again) = (Vec::new(), None);
        let mut look = |at: AwakeTime| {
            again = Some(again.map_or(at, |known: AwakeTime| known.min(at)));
        };
        for id in ids {
            self.queue.close(id);
            let Some(line) = self.queue.lines.get_mut(&id) else { continue };
            let version = self.snapshot.version();
            if line.room == Room::Nowhere && line.counted != Some(version) {
                let due = line.counted_at + COUNTS_REFRESH;
                if line.counted.is_none() || due <= now {
                    let decision = decide(&self.snapshot, &line.alike.need);
                    line.nowhere(decision.counts(), version, now);
                } else {
                    look(due);
                }
            }
            let Some(said) = line.said.clone() else { continue };
            let untold = std::mem::take(&mut line.untold);
            let all = match &line.told {
                None => true,
                Some(told) if *told == said => false,
                Some(told) => {
                    let due = line.told_at + WAITING_REFRESH;
                    let now_or_later = told.0 != said.0 || due <= now;
                    if !now_or_later {
                        look(due);
                    }
                    now_or_later
                }
            };
            let tasks: Vec<_> = if all {
                line.told = Some(said.clone());
                line.told_at = now;
                line.waiting.keys().map(|turn| turn.key().clone()).collect()
            } else {
                untold.iter().map(|turn| turn.key().clone()).collect()
            };
            if !tasks.is_empty() {
                tellings.push(Telling { tasks, said });
            }
        }
        (tellings, again)
    }
}
