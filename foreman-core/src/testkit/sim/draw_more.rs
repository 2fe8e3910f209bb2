//! What a part of the seeds plays besides: memory that runs short, budgets, issue batches with reviewers
//! who say no, models in the cloud, and blackouts of a whole fleet. Each is drawn from a stream of its
//! own, so that it changes nothing in the seeds that have none of it.

use std::time::Duration;

use super::chance::Chance;
use super::draw::{NODE_NAMES, moment, some_nodes};
use super::scenario::{Act, AgentPlan, BatchPlan, Mishap, Scenario, TaskPlan, Terms, Timed, Work};
use crate::model::TaskKind;

/// The Agent whose model is in the cloud.
const CLOUD: &str = "sky";

fn int(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The scenario with what its seed adds to it.
pub(super) fn add(mut scenario: Scenario) -> Scenario {
    let seed = scenario.seed;
    blackout(&mut Chance::stream(seed, "blackout"), &mut scenario);
    batches(&mut Chance::stream(seed, "issue batches"), &mut scenario);
    memory(&mut Chance::stream(seed, "memory"), &mut scenario);
    budgets(&mut Chance::stream(seed, "tokens"), &mut scenario);
    policy(&mut Chance::stream(seed, "policy"), &mut scenario);
    scenario
}

fn push<T>(all: &mut Vec<Timed<T>>, at: Duration, what: T) {
    all.push(Timed { number: all.len(), at, what });
}

/// The tasks and steps that somebody spelled out.
fn spelled_out(scenario: &mut Scenario) -> impl Iterator<Item = &mut TaskPlan> {
    scenario.work.iter_mut().flat_map(|work| match &mut work.what {
        Work::Task(plan) => std::slice::from_mut(plan),
        Work::Pipeline { steps, .. } => steps.as_mut_slice(),
        Work::Batch(_) => &mut [],
    })
}

/// What workloads say of all their tasks.
fn terms(scenario: &mut Scenario) -> impl Iterator<Item = &mut Terms> {
    scenario.work.iter_mut().filter_map(|work| match &mut work.what {
        Work::Task(_) => None,
        Work::Pipeline { terms, .. } => Some(terms),
        Work::Batch(plan) => Some(&mut plan.terms),
    })
}

/// A larger fleet with work on all of it, and a moment at which it falls silent.
fn blackout(chance: &mut Chance, scenario: &mut Scenario) {
    if !chance.percent(15) {
        return;
    }
    let count = usize::try_from(chance.between(4, 8)).unwrap_or(4);
    let here = scenario.nodes.len();
    scenario.nodes.extend(some_nodes(chance, NODE_NAMES.iter().take(count).skip(here)));
    for number in 0..chance.between(6, 16) {
        let at = Duration::from_millis(chance.below(60_000));
        let plan = TaskPlan {
            name: format!("x{number}"),
            kind: TaskKind::Freeform,
            agent: None,
            depends_on: Vec::new(),
            priority: None,
            timeout_seconds: None,
            max_attempts: chance.percent(30).then_some(5),
            tokens: None,
            ram_gb: None,
            local_only: false,
        };
        push(&mut scenario.work, at, Work::Task(plan));
    }
    let at = Duration::from_secs(chance.between(40, 300));
    let length = Duration::from_secs(chance.between(100, 500));
    let asleep = chance.percent(30);
    push(&mut scenario.mishaps, at, Mishap::Blackout { asleep, length });
    // A control loop that begins to listen in the middle of it finds all of them silent at once.
    if chance.percent(60) {
        let operator = usize::try_from(chance.below(2)).unwrap_or_default();
        let operator = operator.min(scenario.operators.saturating_sub(1));
        let down = chance.skewed(Duration::from_millis(100), Duration::from_secs(30));
        let at = at + Duration::from_secs(chance.between(1, 60));
        push(&mut scenario.mishaps, at, Mishap::CrashOperator { operator, polls: 3, down });
    }
}

fn some_of(chance: &mut Chance, agents: &[AgentPlan], most: u64) -> Vec<&'static str> {
    let count = chance.below(most + 1);
    (0..count).filter_map(|_| chance.pick(agents).map(|agent| agent.name)).collect()
}

/// Issue batches, and fix rounds for pipelines; coders and reviewers who say no.
fn batches(chance: &mut Chance, scenario: &mut Scenario) {
    if !chance.percent(40) {
        return;
    }
    scenario.stern = chance.percent(80);
    for terms in terms(scenario) {
        terms.rounds = chance.percent(50).then(|| int(chance.below(3)));
    }
    let agents = scenario.agents.clone();
    for number in 0..chance.between(1, 2) {
        let at = moment(chance, scenario.horizon.mul_f64(0.7));
        let verifier = chance.percent(60).then(|| chance.pick(&agents).map(|it| it.name));
        let stronger = chance.percent(50).then_some("big");
        let plan = BatchPlan {
            name: format!("b{number}"),
            issues: (0..chance.between(1, 3)).map(|_| int(chance.between(1, 9))).collect(),
            verifier: verifier.flatten(),
            reviewers: some_of(chance, &agents, 2),
            stronger,
            on_failure: chance.percent(40),
            second_tier: if chance.percent(40) { some_of(chance, &agents, 2) } else { Vec::new() },
            reviser: chance.percent(20).then_some("gpu"),
            terms: Terms {
                rounds: chance.percent(70).then(|| int(chance.below(4))),
                tasks_max: chance.percent(20).then(|| int(chance.between(0, 12))),
                ..Terms::default()
            },
        };
        push(&mut scenario.work, at, Work::Batch(plan));
    }
}

/// Everybody needs memory, and nodes have too little for all of their slots.
fn memory(chance: &mut Chance, scenario: &mut Scenario) {
    if !chance.percent(35) {
        return;
    }
    scenario.memory = true;
    for agent in &mut scenario.agents {
        let need = *chance.pick(&[0, 2, 5, 8]).unwrap_or(&0);
        agent.min_ram_gb = agent.min_ram_gb.or(Some(need)).filter(|need| *need > 0);
    }
    for node in &mut scenario.nodes {
        if chance.percent(60) {
            node.ram_gb = *chance.pick(&[8, 12, 16]).unwrap_or(&8);
        }
    }
    for plan in spelled_out(scenario).filter(|plan| plan.agent.is_none()) {
        plan.ram_gb = chance.percent(60).then(|| int(chance.between(1, 8)));
    }
}

/// Limits of tokens, and people who raise them.
fn budgets(chance: &mut Chance, scenario: &mut Scenario) {
    if !chance.percent(35) {
        return;
    }
    for terms in terms(scenario) {
        let tokens = long(chance.between(2_000, 40_000));
        terms.tokens = chance.percent(70).then_some(tokens);
    }
    for work in &mut scenario.work {
        if let Work::Task(plan) = &mut work.what {
            let tokens = long(chance.between(500, 12_000));
            plan.tokens = chance.percent(30).then_some(tokens);
        }
    }
    for _ in 0..chance.below(8) {
        let at = moment(chance, scenario.horizon);
        let which = chance.next() % 64;
        let more = long(chance.between(100, 20_000));
        let of_a_task = chance.percent(30);
        let act =
            if of_a_task { Act::RaiseTask(which, more) } else { Act::RaiseWorkload(which, more) };
        push(&mut scenario.acts, at, act);
    }
}

/// An Agent whose model is in the cloud, and somebody who forbids it.
fn policy(chance: &mut Chance, scenario: &mut Scenario) {
    if !chance.percent(25) {
        return;
    }
    let sky =
        AgentPlan { name: CLOUD, min_ram_gb: None, cuda: false, max_concurrent: None, cloud: true };
    scenario.agents.push(sky);
    scenario.allow_cloud = chance.percent(50);
    for plan in spelled_out(scenario) {
        if chance.percent(25) {
            plan.agent = Some(CLOUD);
        }
        plan.local_only = chance.percent(40);
    }
    for terms in terms(scenario) {
        terms.cloud_reviewers = chance.percent(50).then(|| chance.percent(30));
    }
    for work in &mut scenario.work {
        if let Work::Batch(plan) = &mut work.what {
            for reviewer in plan.reviewers.iter_mut().chain(&mut plan.second_tier) {
                if chance.percent(40) {
                    *reviewer = CLOUD;
                }
            }
            if chance.percent(20) {
                plan.stronger = plan.stronger.map(|_| CLOUD);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plays(scenario: &Scenario) -> [(&'static str, bool); 6] {
        let works = || scenario.work.iter().map(|work| &work.what);
        let batch = |work: &Work| matches!(work, Work::Batch(_));
        let limited = |work: &Work| match work {
            Work::Task(plan) => plan.tokens.is_some(),
            Work::Pipeline { terms, .. } => terms.tokens.is_some(),
            Work::Batch(plan) => plan.terms.tokens.is_some(),
        };
        let mishaps = scenario.mishaps.iter();
        let dark = mishaps.filter(|mishap| mishap.what.class() == "blackout").count();
        [
            ("memory", scenario.memory),
            ("budgets", works().any(limited)),
            ("batches", works().any(batch)),
            ("says no often", scenario.stern),
            ("policy", scenario.agents.iter().any(|agent| agent.cloud)),
            ("blackout", dark == 1 && scenario.nodes.len() >= 4),
        ]
    }

    #[test]
    fn a_part_of_the_seeds_plays_each_and_a_part_does_not() {
        let seeds = 400;
        let mut times = std::collections::BTreeMap::new();
        for seed in 0..seeds {
            for (what, is_there) in plays(&Scenario::draw(seed)) {
                *times.entry(what).or_insert(0) += i32::from(is_there);
            }
        }
        let rare = times.iter().find(|(_, times)| **times < 30 || **times > 200);
        assert_eq!(rare, None, "of {seeds} seeds");
    }

    #[test]
    fn numbers_name_one_thing_each() {
        for seed in 0..100 {
            let scenario = Scenario::draw(seed);
            for (at, work) in scenario.work.iter().enumerate() {
                assert_eq!(work.number, at, "seed {seed}");
            }
            for (at, mishap) in scenario.mishaps.iter().enumerate() {
                assert_eq!(mishap.number, at, "seed {seed}");
            }
        }
    }
}
