//! What goes wrong, done to the fleet.

use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use super::engine::lock;
use super::fleet::{Fleet, NodeMachine};
use super::machine::MachineId;
use super::net::Link;
use super::scenario::{Mishap, Scenario};
use super::story::Told;

impl Fleet {
    /// Puts everything that a scenario holds on the agenda.
    pub(crate) fn schedule(self: &Arc<Self>, scenario: &Scenario) {
        for work in &scenario.work {
            let (fleet, what) = (self.clone(), work.what.clone());
            self.engine.after(work.at, move || fleet.submit(&what));
        }
        for act in &scenario.acts {
            let (fleet, what) = (self.clone(), act.what);
            self.engine.after(act.at, move || fleet.act(what));
        }
        for mishap in &scenario.mishaps {
            let (fleet, what) = (self.clone(), mishap.what);
            self.engine.after(mishap.at, move || fleet.go_wrong(what));
        }
    }

    fn node(&self, index: usize) -> Option<Arc<NodeMachine>> {
        lock(&self.nodes).get(index).cloned()
    }

    fn go_wrong(self: &Arc<Self>, mishap: Mishap) {
        self.counts.add(mishap.class());
        self.net.truth.note(self.engine.now(), 4, || format!("mishap {mishap:?}"));
        self.net.trace.mark(self.engine.now(), || Told::Mishap(mishap));
        match mishap {
            Mishap::CrashNode { node, polls, files_lost, down } => {
                if let Some(node) = self.node(node) {
                    self.crash_node(&node, polls, files_lost, down);
                }
            }
            Mishap::CrashOperator { operator, polls, down } => {
                let Some(operator) = self.operators.get(operator).cloned() else { return };
                self.engine.machine(operator.machine, |state| state.crash_after = Some(polls));
                let fleet = self.clone();
                self.engine.after(down, move || {
                    fleet.kill_operator(&operator);
                    fleet.start_operator(&operator);
                });
            }
            Mishap::SleepNode { node, length } => {
                if let Some(node) = self.node(node) {
                    self.sleep(node.machine, length);
                }
            }
            Mishap::SleepOperator { operator, length } => {
                if let Some(operator) = self.operators.get(operator) {
                    self.sleep(operator.machine, length);
                }
            }
            Mishap::Jump { node, millis } => {
                if let Some(node) = self.node(node) {
                    self.engine.machine(node.machine, |state| state.jump(millis));
                }
            }
            Mishap::PartitionNode { node, requests, answers, length } => {
                if let Some(node) = self.node(node) {
                    self.partition(node.machine, requests, answers, length);
                }
            }
            Mishap::PartitionOperator { operator, requests, answers, length } => {
                if let Some(operator) = self.operators.get(operator) {
                    self.partition(operator.machine, requests, answers, length);
                }
            }
            Mishap::Outage { length } => {
                self.net.set_outage(true);
                let net = self.net.clone();
                self.engine.after(length, move || net.set_outage(false));
            }
            Mishap::DiskFull { node, length } => {
                let Some(node) = self.node(node) else { return };
                lock(&node.disk).full = true;
                self.engine.after(length, move || lock(&node.disk).full = false);
            }
            Mishap::Restart { node, down } => {
                let Some(node) = self.node(node) else { return };
                self.drain_agent(&node);
                let fleet = self.clone();
                self.engine.after(down, move || fleet.start_agent(&node));
            }
            Mishap::Blackout { asleep, length } => self.black_out(asleep, length),
            Mishap::Twin { node, takeover } => {
                let Some(node) = self.node(node) else { return };
                let twin = self.add_twin(&node.plan);
                lock(&twin.disk).takes_over = takeover;
                self.start_agent(&twin);
            }
        }
    }

    fn black_out(self: &Arc<Self>, asleep: bool, length: Duration) {
        for node in self.machines() {
            if asleep {
                self.sleep(node.machine, length);
            } else {
                self.partition(node.machine, true, true, length);
            }
        }
    }

    fn crash_node(
        self: &Arc<Self>,
        node: &Arc<NodeMachine>,
        polls: u64,
        files_lost: bool,
        down: Duration,
    ) {
        self.engine.machine(node.machine, |state| state.crash_after = Some(polls));
        let (fleet, node) = (self.clone(), node.clone());
        self.engine.after(down, move || {
            fleet.kill_agent(&node);
            if files_lost {
                fleet.counts.add("state directory lost");
                let full = lock(&node.disk).full;
                *lock(&node.disk) = Disk { full, ..Disk::default() };
            }
            fleet.start_agent(&node);
        });
    }

    fn sleep(self: &Arc<Self>, machine: MachineId, length: Duration) {
        let now = self.engine.now();
        self.engine.machine(machine, |state| state.set_asleep(true, now));
        self.net.truth.sleeps(now, machine, true);
        let (engine, truth) = (self.engine.clone(), self.net.truth.clone());
        self.engine.after(length, move || {
            let now = engine.now();
            engine.machine(machine, |state| state.set_asleep(false, now));
            truth.sleeps(now, machine, false);
        });
    }

    fn partition(
        self: &Arc<Self>,
        machine: MachineId,
        requests_lost: bool,
        answers_lost: bool,
        length: Duration,
    ) {
        self.net.set_link(machine, Link { requests_lost, answers_lost });
        let net = self.net.clone();
        self.engine.after(length, move || net.set_link(machine, Link::default()));
    }

    /// Faults stop: the wires hold, machines are awake, processes are started again, people let
    /// everything go on.
    pub(crate) fn heal(self: &Arc<Self>) {
        let now = self.engine.now();
        self.net.truth.note(now, 5, || "faults stop".to_owned());
        self.net.trace.mark(now, || Told::FaultsStop);
        self.net.heal();
        self.remote.heal();
        for node in self.machines() {
            let crashing = self.engine.machine(node.machine, |state| {
                state.set_asleep(false, now);
                state.correct_wall();
                state.crash_after.is_some()
            });
            lock(&node.disk).full = false;
            if crashing {
                self.engine.machine(node.machine, |state| state.crash_after = None);
            }
            self.net.truth.sleeps(now, node.machine, false);
            self.start_agent(&node);
        }
        for operator in &self.operators {
            self.net.truth.sleeps(now, operator.machine, false);
            self.engine.machine(operator.machine, |state| {
                state.set_asleep(false, now);
                state.crash_after = None;
            });
            self.start_operator(operator);
        }
        self.let_everything_go();
    }
}
