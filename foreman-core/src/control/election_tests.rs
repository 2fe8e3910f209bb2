use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::ids::Revision;
use crate::ports::entropy::Entropy;
use crate::testkit::sim::SimEntropy;
use crate::timing::{LEADER_WRITE, LEASE_CALL_MAX};

/// One step of the world.
const TICK: Duration = Duration::from_millis(50);

fn at(seconds: u64) -> Moment {
    let since = Duration::from_secs(seconds);
    Moment {
        wall: WallTime::from_unix_seconds(1_767_225_600).plus(since),
        awake: AwakeTime::new(since),
        boot: BootTime::new(since),
    }
}

fn lease_of(holder: Option<&str>, revision: &str, now: Moment) -> Lease {
    let record = LeaseRecord { holder: holder.map(str::to_owned), ..record("x", None, now) };
    Lease { record, revision: Revision::new(revision) }
}

fn read(lease: &Lease) -> Observation {
    Observation::Read(Ok(Some(lease.clone())))
}

#[test]
fn a_candidate_waits_a_whole_lease_since_it_saw_a_change() {
    let (old, new) = (lease_of(Some("b"), "1", at(0)), lease_of(Some("b"), "2", at(0)));
    let (state, action) = step("a", State::start(), Observation::Time, at(100));
    assert_eq!(action, Action::Read);
    let (state, action) = step("a", state, read(&old), at(100));
    assert_eq!(action, Action::Wait(at(102).awake));
    // It moved: the wait begins again, whatever the times in the record say.
    let (state, _) = step("a", state, read(&new), at(114));
    let (state, action) = step("a", state, read(&new), at(128));
    assert_eq!(action, Action::Wait(at(129).awake));
    let (state, action) = step("a", state, Observation::Time, at(129));
    assert_eq!(action, Action::Read);
    let (_, action) = step("a", state, read(&new), at(129));
    let Action::Write(record, Some(before)) = action else { panic!("takes it: {action:?}") };
    assert_eq!((record.holder.as_deref(), record.transitions, before), (Some("a"), 1, new));
}

#[test]
fn what_is_free_or_absent_is_taken_at_once() {
    let given_back = lease_of(None, "1", at(0));
    let (_, action) = step("a", State::start(), read(&given_back), at(1));
    assert!(matches!(action, Action::Write(_, Some(before)) if before == given_back));
    let (_, action) = step("a", State::start(), Observation::Read(Ok(None)), at(1));
    assert!(matches!(action, Action::Write(record, None) if record.transitions == 0));
}

#[test]
fn the_leader_acts_ten_seconds_from_the_start_of_its_last_good_renewal() {
    let lease = lease_of(Some("a"), "1", at(0));
    let wrote = Observation::Wrote { started: at(5).boot, answer: Ok(lease.clone()) };
    let (state, action) = step("a", State::start(), wrote, at(7));
    assert_eq!(state.acts_until(), Some(at(15).boot));
    assert_eq!(action, Action::Wait(at(10).awake));
    let lost = Observation::Wrote {
        started: at(10).boot,
        answer: Err(StoreError::Uncertain { reason: "odd".into() }),
    };
    let (state, _) = step("a", state, lost, at(12));
    assert_eq!(state.acts_until(), Some(at(15).boot));
    // It had been done, but only a renewal with an answer counts.
    let (state, action) = step("a", state, Observation::Time, at(13));
    assert_eq!(action, Action::Read);
    let done = lease_of(Some("a"), "2", at(10));
    let (state, action) = step("a", state, read(&done), at(13));
    assert!(matches!(action, Action::Write(_, Some(before)) if before == done));
    assert_eq!(state.acts_until(), Some(at(15).boot));
    let (state, _) = step("a", state, Observation::Time, at(15));
    assert_eq!(state.acts_until(), None);
}

#[test]
fn an_answer_that_comes_too_late_makes_no_leader() {
    let lease = lease_of(Some("a"), "1", at(0));
    let wrote = Observation::Wrote { started: at(5).boot, answer: Ok(lease) };
    let (state, action) = step("a", State::start(), wrote, at(15));
    assert_eq!((state.acts_until(), action), (None, Action::Read));
}

#[test]
fn whoever_sees_another_holder_leads_no_longer() {
    let lease = lease_of(Some("a"), "1", at(0));
    let state = State::Leader { lease, since: at(0).boot, unsure: true };
    let (state, _) = step("a", state, read(&lease_of(Some("b"), "2", at(0))), at(2));
    assert_eq!(state.acts_until(), None);
}

/// A call on its way: when it takes effect, when its answer comes, and what it is.
struct Call {
    effect: u64,
    answer: Option<u64>,
    action: Action,
    result: Option<Observation>,
    given_up: BootTime,
    started: BootTime,
}

struct Machine {
    name: String,
    state: State,
    action: Option<Action>,
    call: Option<Call>,
    awake: Duration,
    boot: Duration,
    /// Its clocks' speed, in thousandths.
    speed: u32,
    asleep_until: u64,
    stalled_until: u64,
    /// A leader's write that may still take effect.
    writing_until: Option<BootTime>,
}

impl Machine {
    fn now(&self) -> Moment {
        Moment {
            wall: at(0).wall,
            awake: AwakeTime::new(self.awake),
            boot: BootTime::new(self.boot),
        }
    }

    fn holds(&self) -> bool {
        self.state.acts_until().is_some_and(|until| self.now().boot < until)
    }

    fn acts(&self) -> bool {
        self.holds() || self.writing_until.is_some_and(|until| self.now().boot < until)
    }
}

struct Fleet {
    chance: std::sync::Arc<SimEntropy>,
    machines: Vec<Machine>,
    /// Calls that nobody waits for any more and that may still take effect.
    adrift: Vec<Call>,
    record: Option<Lease>,
    revision: u64,
    tick: u64,
    faults: bool,
    leaders: Vec<String>,
}

impl Fleet {
    fn new(seed: u64, size: usize) -> Self {
        let chance = SimEntropy::new(seed);
        let machines = (0..size).map(|n| Machine {
            name: format!("m{n}.0"),
            state: State::start(),
            action: Some(Action::Wait(AwakeTime::default())),
            call: None,
            awake: Duration::ZERO,
            boot: Duration::from_secs(chance.next_u64() % 1000),
            speed: 980 + u32::try_from(chance.next_u64() % 41).expect("small"),
            asleep_until: 0,
            stalled_until: 0,
            writing_until: None,
        });
        let machines = machines.collect();
        Self {
            chance,
            machines,
            adrift: Vec::new(),
            record: None,
            revision: 0,
            tick: 0,
            faults: true,
            leaders: Vec::new(),
        }
    }

    fn below(&self, limit: u64) -> u64 {
        self.chance.next_u64() % limit
    }

    fn one_in(&self, n: u64) -> bool {
        self.faults && self.below(n) == 0
    }

    fn effect(record: &mut Option<Lease>, revision: &mut u64, action: &Action) -> Observation {
        match action {
            Action::Write(wanted, before) => {
                let answer = match (record.as_ref(), before) {
                    (None, None) => Ok(()),
                    (Some(is), Some(was)) if is.revision == was.revision => Ok(()),
                    _ => Err(StoreError::Conflict),
                };
                let answer = answer.map(|()| {
                    *revision += 1;
                    let revision = Revision::new(revision.to_string());
                    record.insert(Lease { record: wanted.clone(), revision }).clone()
                });
                Observation::Wrote { started: BootTime::default(), answer }
            }
            Action::Read | Action::Wait(_) => Observation::Read(Ok(record.clone())),
        }
    }

    fn tick(&mut self) {
        self.tick += 1;
        for call in &mut self.adrift {
            if call.effect == self.tick {
                Self::effect(&mut self.record, &mut self.revision, &call.action);
            }
        }
        self.adrift.retain(|call| call.effect > self.tick);
        for n in 0..self.machines.len() {
            self.time_passes(n);
            if self.machines[n].asleep_until <= self.tick
                && self.machines[n].stalled_until <= self.tick
            {
                self.runs(n);
            }
        }
        let acting: Vec<_> =
            self.machines.iter().filter(|m| m.acts()).map(|m| m.name.clone()).collect();
        assert!(acting.len() <= 1, "tick {}: {acting:?} act", self.tick);
        for name in acting {
            if self.leaders.last() != Some(&name) {
                self.leaders.push(name);
            }
        }
    }

    fn time_passes(&mut self, n: usize) {
        let (sleeps, stalls, length) = (self.one_in(4000), self.one_in(2000), self.below(1200));
        let (tick, machine) = (self.tick, &mut self.machines[n]);
        let by = TICK * machine.speed / 1000;
        machine.boot += by;
        if machine.asleep_until <= tick {
            machine.awake += by;
        }
        if sleeps {
            machine.asleep_until = tick + length;
        }
        if stalls {
            machine.stalled_until = tick + length;
        }
        if let Some(call) = &mut machine.call
            && call.effect == tick
        {
            let seen = Self::effect(&mut self.record, &mut self.revision, &call.action);
            call.result = Some(seen);
        }
    }

    fn runs(&mut self, n: usize) {
        if self.one_in(6000) {
            // The process dies and comes back under another name.
            let life = self.tick;
            let machine = &mut self.machines[n];
            machine.name = format!("m{n}.{life}");
            machine.state = State::start();
            machine.action = Some(Action::Read);
            self.adrift.extend(machine.call.take());
        }
        let begins = self.below(3) == 0;
        let machine = &mut self.machines[n];
        if begins && machine.holds() {
            machine.writing_until = Some(machine.now().boot + LEADER_WRITE);
        }
        let mut observation = None;
        if let Some(call) = &machine.call {
            let answered = call.answer.is_some_and(|at| at <= self.tick);
            if answered || machine.now().boot >= call.given_up {
                let call = machine.call.take().expect("there");
                let (started, result) = (call.started, call.result.clone());
                let lost = Err(StoreError::Uncertain { reason: "lost".into() });
                observation = Some(match (answered, result, &call.action) {
                    (true, Some(Observation::Wrote { answer, .. }), _) => {
                        Observation::Wrote { started, answer }
                    }
                    (true, Some(read), _) => read,
                    (_, _, Action::Write(..)) => {
                        let answer = Err(StoreError::Uncertain { reason: "lost".into() });
                        Observation::Wrote { started, answer }
                    }
                    _ => Observation::Read(lost),
                });
                if call.effect > self.tick {
                    self.adrift.push(call);
                }
            }
        }
        let machine = &mut self.machines[n];
        if let Some(Action::Wait(until)) = &machine.action
            && machine.now().awake >= *until
        {
            observation = Some(Observation::Time);
            machine.action = None;
        }
        if let Some(observation) = observation {
            let (state, action) =
                step(&machine.name, machine.state.clone(), observation, machine.now());
            machine.state = state;
            machine.action = Some(action);
        }
        self.sends(n);
    }

    fn sends(&mut self, n: usize) {
        let slow = if self.faults && self.below(5) == 0 { self.below(1000) } else { 0 };
        let effect = self.tick + 1 + self.below(4) + slow;
        let answer = (!self.one_in(8)).then(|| effect + 1 + self.below(4));
        let machine = &mut self.machines[n];
        if matches!(machine.action, Some(Action::Wait(_))) {
            return;
        }
        if let Some(action) = machine.action.take() {
            let started = machine.now().boot;
            let given_up = started + LEASE_CALL_MAX;
            machine.call = Some(Call { effect, answer, action, result: None, given_up, started });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Pauses, sleep, clocks that run apart by 4 %, lost and late answers, restarts.
    #[test]
    fn never_two_act_at_once_and_one_leads_when_the_faults_stop(seed: u64, size in 2_usize..5) {
        let mut fleet = Fleet::new(seed, size);
        for _ in 0..12_000 {
            fleet.tick();
        }
        fleet.faults = false;
        // The longest sleep, the longest late call, and then a lease.
        for _ in 0..3_000 {
            fleet.tick();
        }
        let before = fleet.leaders.len();
        for _ in 0..1_000 {
            fleet.tick();
            prop_assert_eq!(fleet.machines.iter().filter(|m| m.holds()).count(), 1);
        }
        prop_assert_eq!(fleet.leaders.len(), before);
    }
}

#[test]
fn leadership_does_change_hands_in_these_simulations() {
    let mut fleet = Fleet::new(7, 3);
    for _ in 0..12_000 {
        fleet.tick();
    }
    assert!(fleet.leaders.len() > 3, "{:?}", fleet.leaders);
}
