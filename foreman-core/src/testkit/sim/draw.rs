//! How a seed draws its scenario.

use std::time::Duration;

use super::chance::Chance;
use super::scenario::{Act, AgentPlan, Mishap, NodePlan, Rates, TaskPlan, Terms, Timed, Work};
use crate::model::TaskKind;

pub(super) const NODE_NAMES: [&str; 8] =
    ["air", "box", "cube", "studio", "tower", "mini", "rack", "shed"];

/// The fleet.
pub(super) fn nodes(chance: &mut Chance) -> Vec<NodePlan> {
    let count = usize::try_from(chance.between(1, 5)).unwrap_or(1);
    some_nodes(chance, NODE_NAMES.iter().take(count))
}

/// Machines of these names.
pub(super) fn some_nodes<'a>(
    chance: &mut Chance,
    names: impl Iterator<Item = &'a &'static str>,
) -> Vec<NodePlan> {
    let drifts = chance.percent(40);
    names
        .map(|name| {
            let drift = i64::try_from(chance.below(401)).unwrap_or_default() - 200;
            let offset = i64::try_from(chance.below(40_001)).unwrap_or_default() - 20_000;
            NodePlan {
                name,
                slots: i32::try_from(chance.between(1, 3)).unwrap_or(1),
                ram_gb: *chance.pick(&[8, 16, 64, 128]).unwrap_or(&16),
                cuda: chance.percent(40),
                rate_ppm: if drifts { drift } else { 0 },
                wall_offset_ms: if drifts { offset } else { 0 },
            }
        })
        .collect()
}

/// The roles. The first asks for nothing, so that some node always fits it.
pub(super) fn agents(chance: &mut Chance) -> Vec<AgentPlan> {
    let limit = |chance: &mut Chance| {
        let limit = i32::try_from(chance.between(1, 3)).unwrap_or(1);
        chance.percent(30).then_some(limit)
    };
    vec![
        AgentPlan {
            name: "coder",
            min_ram_gb: None,
            cuda: false,
            max_concurrent: limit(chance),
            cloud: false,
        },
        AgentPlan {
            name: "big",
            min_ram_gb: Some(*chance.pick(&[8, 12, 40]).unwrap_or(&8)),
            cuda: false,
            max_concurrent: limit(chance),
            cloud: false,
        },
        AgentPlan {
            name: "gpu",
            min_ram_gb: None,
            cuda: chance.percent(60),
            max_concurrent: limit(chance),
            cloud: false,
        },
    ]
}

/// Faults of single calls: each class is off in half of the seeds.
pub(super) fn rates(chance: &mut Chance) -> Rates {
    let calm = Rates::none();
    let mut rate = |high: u64| {
        let on = chance.percent(50);
        let value = u32::try_from(chance.between(1, high)).unwrap_or_default();
        if on { value } else { 0 }
    };
    let mut rates = Rates {
        refused: rate(80),
        lost_requests: rate(50),
        lost_answers: rate(80),
        late_writes: rate(30),
        watch_twice: rate(100),
        watch_cuts: rate(20),
        compactions: rate(30),
        ..calm
    };
    rates.watch_reorder = chance.percent(40);
    if chance.percent(60) {
        rates.latency_ms = *chance.pick(&[20, 200, 2000]).unwrap_or(&20);
    }
    if chance.percent(60) {
        rates.watch_delay_ms = *chance.pick(&[50, 500, 5000, 20_000]).unwrap_or(&50);
    }
    rates
}

fn timed<T>(all: Vec<(Duration, T)>) -> Vec<Timed<T>> {
    let numbered = all.into_iter().enumerate();
    numbered.map(|(number, (at, what))| Timed { number, at, what }).collect()
}

pub(super) fn moment(chance: &mut Chance, horizon: Duration) -> Duration {
    let millis = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(chance.below(millis))
}

fn task(chance: &mut Chance, agents: &[AgentPlan], name: String, kind: TaskKind) -> TaskPlan {
    let agent = match chance.below(20) {
        0 => Some("nobody"),
        1..=3 if kind == TaskKind::Freeform => None,
        4..=15 => agents.first().map(|agent| agent.name),
        _ => chance.pick(agents).map(|agent| agent.name),
    };
    TaskPlan {
        name,
        kind,
        agent,
        depends_on: Vec::new(),
        priority: chance.percent(40).then(|| i32::try_from(chance.below(5)).unwrap_or_default()),
        timeout_seconds: chance
            .percent(30)
            .then(|| i32::try_from(chance.between(60, 1800)).unwrap_or(60)),
        max_attempts: chance.percent(30).then(|| i32::try_from(chance.between(1, 5)).unwrap_or(3)),
        tokens: None,
        ram_gb: None,
        local_only: false,
    }
}

fn pipeline(chance: &mut Chance, agents: &[AgentPlan], number: usize) -> Work {
    let kinds = [TaskKind::IssueFix, TaskKind::Verify, TaskKind::Review];
    let mut steps: Vec<TaskPlan> = Vec::new();
    let count = chance.between(1, 4);
    for index in 0..count {
        let kind = match usize::try_from(index).ok().and_then(|index| kinds.get(index)) {
            Some(kind) => *kind,
            None => TaskKind::Freeform,
        };
        let mut step = task(chance, agents, format!("s{index}"), kind);
        if step.agent.is_none() {
            step.agent = Some("coder");
        }
        for before in &steps {
            if chance.percent(60) {
                step.depends_on.push(before.name.clone());
            }
        }
        if index > 0 && step.depends_on.is_empty() && chance.percent(70) {
            step.depends_on.extend(steps.last().map(|step| step.name.clone()));
        }
        steps.push(step);
    }
    Work::Pipeline { name: format!("w{number}"), steps, terms: Terms::default() }
}

/// What is asked for.
pub(super) fn work(
    chance: &mut Chance,
    agents: &[AgentPlan],
    horizon: Duration,
) -> Vec<Timed<Work>> {
    let count = chance.between(1, 10);
    let kinds = [TaskKind::IssueFix, TaskKind::Freeform, TaskKind::Verify, TaskKind::Review];
    let mut names: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for number in 0..usize::try_from(count).unwrap_or(1) {
        let at = if chance.percent(50) {
            Duration::from_millis(chance.below(20_000))
        } else {
            moment(chance, horizon)
        };
        if chance.percent(50) {
            all.push((at, pipeline(chance, agents, number)));
            continue;
        }
        let kind = *chance.pick(&kinds).unwrap_or(&TaskKind::Freeform);
        let mut plan = task(chance, agents, format!("t{number}"), kind);
        if chance.percent(40)
            && let Some(before) = chance.pick(&names)
        {
            plan.depends_on.push(before.clone());
        }
        match chance.below(20) {
            0 => plan.depends_on.push("never".to_owned()),
            1 => plan.depends_on.push(plan.name.clone()),
            2 => plan.depends_on.push(format!("t{}", number + 1)),
            _ => {}
        }
        names.push(plan.name.clone());
        all.push((at, Work::Task(plan)));
    }
    timed(all)
}

/// What people do.
pub(super) fn acts(chance: &mut Chance, horizon: Duration) -> Vec<Timed<Act>> {
    let count = if chance.percent(40) { 0 } else { chance.between(1, 10) };
    let all = (0..count).map(|_| {
        let at = moment(chance, horizon);
        let which = chance.next() % 64;
        let act = match chance.below(14) {
            0 | 1 => Act::SuspendTask(which),
            2 => Act::ResumeTask(which),
            3 => Act::CancelTask(which),
            4 | 5 => Act::DeleteTask(which),
            6 => Act::Priority(which, i32::try_from(chance.below(5)).unwrap_or_default()),
            7 => Act::SuspendWorkload(which),
            8 => Act::ResumeWorkload(which),
            9 => Act::CancelWorkload(which),
            10 => Act::DeleteWorkload(which),
            11 => Act::Cordon(which),
            12 => Act::Uncordon(which),
            _ => Act::Slots(which, i32::try_from(chance.below(4)).unwrap_or_default()),
        };
        (at, act)
    });
    timed(all.collect())
}

/// What goes wrong: each class is off in half of the seeds.
pub(super) fn mishaps(
    chance: &mut Chance,
    nodes: usize,
    operators: usize,
    horizon: Duration,
) -> Vec<Timed<Mishap>> {
    let on: Vec<bool> = (0..10).map(|_| chance.percent(50)).collect();
    let is_on = |class: usize| on.get(class).copied().unwrap_or_default();
    let count = if chance.percent(15) { 0 } else { chance.between(1, 14) };
    let mut all = Vec::new();
    for _ in 0..count {
        let at = moment(chance, horizon);
        let index = |chance: &mut Chance, of: usize| {
            let of = u64::try_from(of).unwrap_or(1);
            usize::try_from(chance.below(of)).unwrap_or_default()
        };
        let (node, operator) = (index(chance, nodes), index(chance, operators));
        let polls = chance.below(40);
        let short = chance.skewed(Duration::from_millis(100), Duration::from_mins(10));
        let (first, second) = (chance.percent(70), chance.percent(70));
        let mishap = match chance.below(12) {
            0 | 1 if is_on(0) => {
                let files_lost = chance.percent(25);
                Mishap::CrashNode { node, polls, files_lost, down: short }
            }
            2 if is_on(1) => Mishap::CrashOperator { operator, polls, down: short },
            3 if is_on(2) => Mishap::SleepNode { node, length: short },
            4 if is_on(2) => Mishap::SleepOperator { operator, length: short },
            5 if is_on(3) => {
                let millis = i64::try_from(chance.below(7_200_001)).unwrap_or_default();
                Mishap::Jump { node, millis: millis - 3_600_000 }
            }
            6 | 7 if is_on(4) => Mishap::PartitionNode {
                node,
                requests: first,
                answers: second || !first,
                length: short,
            },
            8 if is_on(5) => Mishap::PartitionOperator {
                operator,
                requests: first,
                answers: second || !first,
                length: short,
            },
            9 if is_on(6) => Mishap::Outage { length: short.min(Duration::from_mins(4)) },
            10 if is_on(7) => Mishap::DiskFull { node, length: short },
            11 if is_on(8) => Mishap::Restart { node, down: short },
            11 if is_on(9) => Mishap::Twin { node, takeover: first },
            _ => continue,
        };
        all.push((at, mishap));
    }
    timed(all)
}
