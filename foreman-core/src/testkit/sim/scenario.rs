//! What a seed stands for: a fleet, its work, what people do to it, and what goes wrong. Each seed
//! draws its own, so that many seeds together try what no single mix would.

use std::collections::BTreeSet;
use std::time::Duration;

use super::chance::Chance;
use crate::model::TaskKind;

/// How often single calls and watch events go wrong, in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Calls that are refused at once.
    pub refused: u32,
    /// Calls that are lost: nothing is done, no answer comes.
    pub lost_requests: u32,
    /// Calls whose answer is lost: it was done.
    pub lost_answers: u32,
    /// Writes that are done after their sender gave up.
    pub late_writes: u32,
    /// The longest way of a call or an answer, in milliseconds.
    pub latency_ms: u64,
    /// The longest delay of a watch event, in milliseconds.
    pub watch_delay_ms: u64,
    /// Watch events that are told twice.
    pub watch_twice: u32,
    /// Whether events of different objects may overtake each other.
    pub watch_reorder: bool,
    /// Watch events instead of which the watch breaks.
    pub watch_cuts: u32,
    /// Watch events instead of which everything is told again.
    pub compactions: u32,
}

impl Rates {
    /// Nothing goes wrong; calls take a moment.
    pub const fn none() -> Self {
        Self {
            refused: 0,
            lost_requests: 0,
            lost_answers: 0,
            late_writes: 0,
            latency_ms: 5,
            watch_delay_ms: 5,
            watch_twice: 0,
            watch_reorder: false,
            watch_cuts: 0,
            compactions: 0,
        }
    }
}

/// A machine that runs tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name.
    pub name: &'static str,
    /// Runs at the same time.
    pub slots: i32,
    /// Its memory.
    pub ram_gb: i32,
    /// Whether it has a CUDA device.
    pub cuda: bool,
    /// How much too fast its clock runs, in millionths.
    pub rate_ppm: i64,
    /// How far its wall clock is ahead.
    pub wall_offset_ms: i64,
}

/// A role for tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlan {
    /// Its name.
    pub name: &'static str,
    /// The memory it needs.
    pub min_ram_gb: Option<i32>,
    /// Whether it needs CUDA.
    pub cuda: bool,
    /// How many of its tasks may run at once.
    pub max_concurrent: Option<i32>,
    /// Whether its model is in the cloud.
    pub cloud: bool,
}

/// One step of a pipeline, or a task of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// The step's or the task's name.
    pub name: String,
    /// The kind of work.
    pub kind: TaskKind,
    /// Who does it.
    pub agent: Option<&'static str>,
    /// After which.
    pub depends_on: Vec<String>,
    /// How urgent.
    pub priority: Option<i32>,
    /// How long it may run.
    pub timeout_seconds: Option<i32>,
    /// Strikes at which it ends.
    pub max_attempts: Option<i32>,
    /// Its own limit of tokens; a task of its own only.
    pub tokens: Option<i64>,
    /// The memory it needs when nobody in particular does it.
    pub ram_gb: Option<i32>,
    /// Whether it must not leave for the cloud; a task of its own only.
    pub local_only: bool,
}

/// Something that a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A task of its own.
    Task(TaskPlan),
    /// A workload with a pipeline.
    Pipeline {
        /// The workload's name.
        name: String,
        /// Its steps.
        steps: Vec<TaskPlan>,
        /// What holds for all of them.
        terms: Terms,
    },
    /// A workload with issues.
    Batch(BatchPlan),
}

/// What a workload says of all its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Tokens that they may spend together.
    pub tokens: Option<i64>,
    /// Fix rounds.
    pub rounds: Option<i32>,
    /// How many there may be.
    pub tasks_max: Option<i32>,
    /// Whether reviewers may be in the cloud; absent = they may.
    pub cloud_reviewers: Option<bool>,
}

/// A workload with issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    /// The workload's name.
    pub name: String,
    /// The issues.
    pub issues: Vec<i32>,
    /// Who verifies.
    pub verifier: Option<&'static str>,
    /// Who reviews.
    pub reviewers: Vec<&'static str>,
    /// The stronger coder.
    pub stronger: Option<&'static str>,
    /// Whether every failure calls for the stronger coder.
    pub on_failure: bool,
    /// The second tier of reviewers.
    pub second_tier: Vec<&'static str>,
    /// Who works in fix rounds.
    pub reviser: Option<&'static str>,
    /// What holds for all tasks.
    pub terms: Terms,
}

/// Something that a person does. Numbers pick among what is there at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Pauses a task.
    SuspendTask(u64),
    /// Lets a task go on.
    ResumeTask(u64),
    /// Ends a task.
    CancelTask(u64),
    /// Deletes a task, somebody's child or not.
    DeleteTask(u64),
    /// Changes a task's priority.
    Priority(u64, i32),
    /// Pauses a workload.
    SuspendWorkload(u64),
    /// Lets a workload go on.
    ResumeWorkload(u64),
    /// Ends a workload.
    CancelWorkload(u64),
    /// Deletes a workload with its tasks.
    DeleteWorkload(u64),
    /// Nothing new on a node.
    Cordon(u64),
    /// New work on a node again.
    Uncordon(u64),
    /// Changes a node's slots.
    Slots(u64, i32),
    /// Raises the limit of tokens of a workload that has one.
    RaiseWorkload(u64, i64),
    /// Raises the limit of tokens of a task that has one.
    RaiseTask(u64, i64),
}

/// Something that goes wrong, or that a machine's owner does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// A node's processes die after so many polls; they come back, with or without their files.
    CrashNode {
        /// Which.
        node: usize,
        /// After so many polls.
        polls: u64,
        /// Whether its state directory is lost.
        files_lost: bool,
        /// Until it is back.
        down: Duration,
    },
    /// A control loop's process dies and comes back.
    CrashOperator {
        /// Which.
        operator: usize,
        /// After so many polls.
        polls: u64,
        /// Until it is back.
        down: Duration,
    },
    /// A node's machine sleeps.
    SleepNode {
        /// Which.
        node: usize,
        /// How long.
        length: Duration,
    },
    /// A control loop's machine sleeps.
    SleepOperator {
        /// Which.
        operator: usize,
        /// How long.
        length: Duration,
    },
    /// A node's wall clock is set.
    Jump {
        /// Which.
        node: usize,
        /// By so much.
        millis: i64,
    },
    /// The wire between a node and the store breaks, one way or both.
    PartitionNode {
        /// Which.
        node: usize,
        /// Requests are lost.
        requests: bool,
        /// Answers are lost.
        answers: bool,
        /// How long.
        length: Duration,
    },
    /// The wire between a control loop and the store breaks.
    PartitionOperator {
        /// Which.
        operator: usize,
        /// Requests are lost.
        requests: bool,
        /// Answers are lost.
        answers: bool,
        /// How long.
        length: Duration,
    },
    /// The store is away for everybody.
    Outage {
        /// How long.
        length: Duration,
    },
    /// A node's disk is full.
    DiskFull {
        /// Which.
        node: usize,
        /// How long.
        length: Duration,
    },
    /// A node's agent is told to leave in good order, and started again.
    Restart {
        /// Which.
        node: usize,
        /// Until it is back.
        down: Duration,
    },
    /// All nodes fall silent together: their wires break, or their machines sleep.
    Blackout {
        /// Their machines sleep.
        asleep: bool,
        /// How long.
        length: Duration,
    },
    /// Somebody starts a second agent under the node's name on another machine.
    Twin {
        /// Which.
        node: usize,
        /// Whether it takes the node over.
        takeover: bool,
    },
}

impl Mishap {
    /// The class that `--without` names.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::CrashNode { .. } | Self::CrashOperator { .. } => "crash",
            Self::SleepNode { .. } | Self::SleepOperator { .. } => "sleep",
            Self::Jump { .. } => "clock",
            Self::PartitionNode { .. } | Self::PartitionOperator { .. } => "partition",
            Self::Outage { .. } => "outage",
            Self::DiskFull { .. } => "disk",
            Self::Restart { .. } => "restart",
            Self::Twin { .. } => "twin",
            Self::Blackout { .. } => "blackout",
        }
    }
}

/// Classes of faults of single calls and watch events, for `--without`.
pub const RATE_CLASSES: [&str; 10] = [
    "refused",
    "lost-requests",
    "lost-answers",
    "late-writes",
    "latency",
    "watch-delay",
    "watch-twice",
    "watch-reorder",
    "watch-cuts",
    "compactions",
];
/// Classes of other faults, for `--without`.
pub const MISHAP_CLASSES: [&str; 9] =
    ["crash", "sleep", "clock", "partition", "outage", "disk", "restart", "twin", "blackout"];

/// Something with its moment and its number in the seed's own list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<T> {
    /// Its number: what `--only` names.
    pub number: usize,
    /// When.
    pub at: Duration,
    /// What.
    pub what: T,
}

/// A seed's simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Faults of single calls.
    pub rates: Rates,
    /// The fleet.
    pub nodes: Vec<NodePlan>,
    /// The roles.
    pub agents: Vec<AgentPlan>,
    /// Control loops.
    pub operators: usize,
    /// What is asked for.
    pub work: Vec<Timed<Work>>,
    /// What people do.
    pub acts: Vec<Timed<Act>>,
    /// What goes wrong.
    pub mishaps: Vec<Timed<Mishap>>,
    /// When faults stop and people go home.
    pub horizon: Duration,
    /// Whether models in the cloud are allowed here.
    pub allow_cloud: bool,
    /// Whether reviewers and coders say no often, so that work is done over.
    pub stern: bool,
    /// Whether runs take memory that the probe then misses.
    pub memory: bool,
}

/// What is left out of a seed's scenario. The shrinker makes it; the command line names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Less {
    /// Classes of faults that are off.
    pub without: BTreeSet<String>,
    /// Only these pieces of work, by number.
    pub only_work: Option<BTreeSet<usize>>,
    /// Only these acts.
    pub only_acts: Option<BTreeSet<usize>>,
    /// Only these mishaps.
    pub only_mishaps: Option<BTreeSet<usize>>,
    /// Only so many nodes.
    pub nodes: Option<usize>,
    /// Only so many control loops.
    pub operators: Option<usize>,
    /// When faults stop, in seconds.
    pub horizon: Option<u64>,
}

impl Less {
    /// Leaves it out.
    #[must_use]
    pub fn of(&self, mut scenario: Scenario) -> Scenario {
        let off = |class: &str| self.without.contains(class);
        let rates = &mut scenario.rates;
        let calm = Rates::none();
        for (class, rate, none) in [
            ("refused", &mut rates.refused, calm.refused),
            ("lost-requests", &mut rates.lost_requests, calm.lost_requests),
            ("lost-answers", &mut rates.lost_answers, calm.lost_answers),
            ("late-writes", &mut rates.late_writes, calm.late_writes),
            ("watch-twice", &mut rates.watch_twice, calm.watch_twice),
            ("watch-cuts", &mut rates.watch_cuts, calm.watch_cuts),
            ("compactions", &mut rates.compactions, calm.compactions),
        ] {
            if off(class) {
                *rate = none;
            }
        }
        if off("latency") {
            rates.latency_ms = calm.latency_ms;
        }
        if off("watch-delay") {
            rates.watch_delay_ms = calm.watch_delay_ms;
        }
        if off("watch-reorder") {
            rates.watch_reorder = false;
        }
        if off("drift") {
            for node in &mut scenario.nodes {
                (node.rate_ppm, node.wall_offset_ms) = (0, 0);
            }
        }
        keep(&mut scenario.work, self.only_work.as_ref());
        keep(&mut scenario.acts, self.only_acts.as_ref());
        keep(&mut scenario.mishaps, self.only_mishaps.as_ref());
        scenario.mishaps.retain(|mishap| !off(mishap.what.class()));
        if let Some(nodes) = self.nodes {
            scenario.nodes.truncate(nodes.max(1));
        }
        if let Some(operators) = self.operators {
            scenario.operators = operators.clamp(1, scenario.operators);
        }
        if let Some(horizon) = self.horizon {
            scenario.horizon = scenario.horizon.min(Duration::from_secs(horizon));
            let horizon = scenario.horizon;
            scenario.work.retain(|work| work.at <= horizon);
            scenario.acts.retain(|act| act.at <= horizon);
            scenario.mishaps.retain(|mishap| mishap.at <= horizon);
        }
        scenario
    }
}

fn keep<T>(all: &mut Vec<Timed<T>>, only: Option<&BTreeSet<usize>>) {
    if let Some(only) = only {
        all.retain(|timed| only.contains(&timed.number));
    }
}

impl Scenario {
    /// What a seed stands for.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let horizon = Duration::from_secs(Chance::stream(seed, "horizon").between(600, 3600));
        let nodes = super::draw::nodes(&mut Chance::stream(seed, "nodes"));
        let mut operators = Chance::stream(seed, "operators");
        let operators = if operators.percent(70) { 1 } else { 2 };
        let agents = super::draw::agents(&mut Chance::stream(seed, "agents"));
        let plain = Self {
            seed,
            rates: super::draw::rates(&mut Chance::stream(seed, "rates")),
            work: super::draw::work(&mut Chance::stream(seed, "work"), &agents, horizon),
            acts: super::draw::acts(&mut Chance::stream(seed, "acts"), horizon),
            mishaps: super::draw::mishaps(
                &mut Chance::stream(seed, "mishaps"),
                nodes.len(),
                operators,
                horizon,
            ),
            nodes,
            agents,
            operators,
            horizon,
            allow_cloud: true,
            stern: false,
            memory: false,
        };
        super::draw_more::add(plain)
    }
}
