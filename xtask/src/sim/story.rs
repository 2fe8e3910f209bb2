//! What a picture shows of a simulation: a lane for each control loop and each node.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use foreman_core::testkit::sim::{Mark, Mishap, Scenario, Standing, Told};

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl fmt::Display for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |at: Duration| format!("{:02}:{:02}", at.as_secs() / 60, at.as_secs() % 60);
        write!(f, "{} to {}", clock(self.from), clock(self.to))
    }
}

/// Why a machine did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    Dead,
    Asleep,
    CutOff,
}

impl Away {
    pub(super) const fn css(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Asleep => "asleep",
            Self::CutOff => "cut",
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Asleep => "asleep",
            Self::CutOff => "cut off from the store",
        }
    }
}

/// How a placement or a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Good,
    OffTarget,
    Failed,
    TakenBack,
    HandedBack,
}

/// A sign beside a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Push,
    TakenBack,
    Strike,
}

/// A placement (claim 0 …) or a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) task: String,
    pub(super) attempt: i64,
    pub(super) spell: Spell,
    pub(super) end: End,
    pub(super) said: String,
    pub(super) row: u32,
    pub(super) signs: Vec<(Duration, Sign)>,
    uid: String,
}

/// A control loop or a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) spells: Vec<(Away, Spell)>,
    pub(super) bars: Vec<Bar>,
}

impl Lane {
    /// How many bars stand above each other.
    pub(super) fn rows(&self) -> u32 {
        self.bars.iter().map(|bar| bar.row + 1).max().unwrap_or(0)
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) lanes: Vec<Lane>,
    pub(super) end: Duration,
}

impl Story {
    /// What the marks tell.
    pub(super) fn of(scenario: &Scenario, marks: &[Mark]) -> Self {
        let is_told = |mark: &&Mark| matches!(mark.what, Told::Task(_) | Told::Push { .. });
        let last = marks.iter().rev().find(is_told).map_or(Duration::ZERO, |mark| mark.at);
        let end = last + last / 50 + Duration::from_secs(5);
        let mut teller = Teller::new(scenario, end);
        for mark in marks.iter().filter(|mark| mark.at <= end) {
            teller.tell(mark.at, &mark.what);
        }
        teller.finish()
    }
}

struct Teller {
    operators: Vec<Lane>,
    nodes: Vec<Lane>,
    end: Duration,
    /// Processes that did nothing since then.
    dead: BTreeMap<String, Duration>,
    /// The task as it was last told.
    tasks: BTreeMap<String, Standing>,
    strikes: BTreeMap<String, i64>,
}

impl Teller {
    fn new(scenario: &Scenario, end: Duration) -> Self {
        let lane = |name: String| Lane { name, ..Lane::default() };
        let operators = (1..=scenario.operators).map(|n| lane(format!("operator/{n}")));
        let nodes = scenario.nodes.iter().map(|node| lane(node.name.to_owned()));
        Self {
            operators: operators.collect(),
            nodes: nodes.collect(),
            end,
            dead: BTreeMap::new(),
            tasks: BTreeMap::new(),
            strikes: BTreeMap::new(),
        }
    }

    fn lane(&mut self, who: &str) -> Option<&mut Lane> {
        let name = who.trim_start_matches("agent/");
        self.operators.iter_mut().chain(&mut self.nodes).find(|lane| lane.name == name)
    }

    fn tell(&mut self, now: Duration, what: &Told) {
        match what {
            Told::Up(who) => {
                if let Some(from) = self.dead.remove(who)
                    && let Some(lane) = self.lane(who)
                {
                    lane.spells.push((Away::Dead, Spell { from, to: now }));
                }
            }
            Told::Down { who, since } => {
                self.dead.entry(who.clone()).or_insert(*since);
            }
            Told::Mishap(mishap) => self.mishap(now, mishap),
            Told::FaultsStop => {
                let lanes = self.operators.iter_mut().chain(&mut self.nodes);
                for (_, spell) in lanes.flat_map(|lane| &mut lane.spells) {
                    spell.to = spell.to.min(now);
                }
            }
            Told::Task(task) => self.task(now, task),
            Told::Push { uid, attempt } => {
                let bars = self.nodes.iter_mut().flat_map(|lane| &mut lane.bars);
                let of = |bar: &&mut Bar| bar.uid == uid.to_string() && bar.attempt == *attempt;
                if let Some(bar) = bars.filter(of).last() {
                    bar.signs.push((now, Sign::Push));
                }
            }
        }
    }

    fn mishap(&mut self, now: Duration, mishap: &Mishap) {
        let end = self.end;
        let spell = |length: Duration| Spell { from: now, to: (now + length).min(end) };
        let (lane, away, length) = match mishap {
            Mishap::SleepNode { node, length } => (self.nodes.get_mut(*node), Away::Asleep, length),
            Mishap::SleepOperator { operator, length } => {
                (self.operators.get_mut(*operator), Away::Asleep, length)
            }
            Mishap::PartitionNode { node, length, .. } => {
                (self.nodes.get_mut(*node), Away::CutOff, length)
            }
            Mishap::PartitionOperator { operator, length, .. } => {
                (self.operators.get_mut(*operator), Away::CutOff, length)
            }
            Mishap::Outage { length } => {
                for lane in self.operators.iter_mut().chain(&mut self.nodes) {
                    lane.spells.push((Away::CutOff, spell(*length)));
                }
                return;
            }
            Mishap::Blackout { asleep, length } => {
                let away = if *asleep { Away::Asleep } else { Away::CutOff };
                for lane in &mut self.nodes {
                    lane.spells.push((away, spell(*length)));
                }
                return;
            }
            Mishap::CrashNode { .. }
            | Mishap::CrashOperator { .. }
            | Mishap::Jump { .. }
            | Mishap::DiskFull { .. }
            | Mishap::Restart { .. }
            | Mishap::Twin { .. } => return,
        };
        if let Some(lane) = lane {
            lane.spells.push((away, spell(*length)));
        }
    }

    fn task(&mut self, now: Duration, task: &Standing) {
        let uid = task.uid.to_string();
        let before = self.tasks.insert(uid.clone(), task.clone());
        let in_flight = |task: &Standing| matches!(task.phase.as_str(), "Scheduled" | "Running");
        let same = |before: &Standing| {
            (&before.phase, &before.node, before.attempt) == (&task.phase, &task.node, task.attempt)
        };
        let struck = self.strikes.insert(uid.clone(), task.strikes);
        if task.strikes > 0 && struck != Some(task.strikes) {
            self.sign(&uid, now, Sign::Strike);
        }
        if before.as_ref().is_some_and(same) {
            return;
        }
        if before.as_ref().is_some_and(in_flight) {
            self.close(&uid, now, before.as_ref(), task);
        }
        if in_flight(task) {
            self.open(&uid, now, task);
        }
    }

    fn last_bar(&mut self, uid: &str) -> Option<&mut Bar> {
        let bars = self.nodes.iter_mut().flat_map(|lane| &mut lane.bars);
        bars.filter(|bar| bar.uid == uid).max_by_key(|bar| bar.spell.from)
    }

    fn sign(&mut self, uid: &str, now: Duration, sign: Sign) {
        if let Some(bar) = self.last_bar(uid) {
            bar.signs.push((now, sign));
        }
    }

    fn close(&mut self, uid: &str, now: Duration, before: Option<&Standing>, task: &Standing) {
        let was_claimed = before.is_some_and(|before| before.phase == "Running");
        let Some(bar) = self.last_bar(uid) else { return };
        bar.spell.to = now;
        let verdict = task.verdict.as_deref().unwrap_or_default();
        let ended = task.ended.as_deref().unwrap_or_default();
        (bar.end, bar.said) = match task.phase.as_str() {
            "Running" if was_claimed => (End::HandedBack, "taken over by its next life".to_owned()),
            "Running" | "Scheduled" => (End::Open, "claimed".to_owned()),
            "Succeeded" if matches!(verdict, "GO" | "GATE-PASS") => (End::Good, verdict.to_owned()),
            "Succeeded" => (End::OffTarget, verdict.to_owned()),
            "Failed" => (End::Failed, format!("Failed, {verdict}")),
            "Pending" if matches!(ended, "Drained" | "Suspended" | "BudgetExhausted") => {
                (End::HandedBack, ended.to_owned())
            }
            "Pending" if was_claimed => (End::TakenBack, format!("lost: {ended}")),
            "Pending" => (End::Open, "not claimed".to_owned()),
            _ => (End::Failed, "deleted".to_owned()),
        };
        if bar.end == End::TakenBack {
            bar.signs.push((now, Sign::TakenBack));
        }
    }

    fn open(&mut self, uid: &str, now: Duration, task: &Standing) {
        let end = self.end;
        let Some(node) = &task.node else { return };
        let Some(lane) = self.nodes.iter_mut().find(|lane| lane.name == *node) else { return };
        let busy = |row: &u32| {
            lane.bars.iter().any(|bar| bar.row == *row && bar.spell.to > now && bar.uid != uid)
        };
        let row = (0..lane.rows()).find(|row| !busy(row)).unwrap_or_else(|| lane.rows());
        lane.bars.push(Bar {
            task: task.task.clone(),
            attempt: task.attempt,
            spell: Spell { from: now, to: end },
            end: End::Open,
            said: task.phase.clone(),
            row,
            signs: Vec::new(),
            uid: uid.to_owned(),
        });
    }

    fn finish(mut self) -> Story {
        for (who, from) in std::mem::take(&mut self.dead) {
            let to = self.end;
            if let Some(lane) = self.lane(&who) {
                lane.spells.push((Away::Dead, Spell { from, to }));
            }
        }
        let lanes = self.operators.into_iter().chain(self.nodes).collect();
        Story { lanes, end: self.end }
    }
}

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
