//! `foreman drain`.

use std::time::Duration;

use foreman_core::model::condition::is_true;
use foreman_core::model::fleet_node::DrainSpec;
use foreman_core::model::{FleetNode, Object};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Query, StoreEvent};
use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::completion;
use super::cordon::{find, held, note, patch, put_note};
use super::run::quantities::duration;
use super::run::signals::{Signals, after};
use super::wait::TELL_EVERY;
use super::world::World;
use crate::exit::{Exit, Failure};
use crate::follow::steady;
use crate::output;
use crate::settings::Settings;

/// How long runs may finish when nobody says, as `spec.drain` has it.
const DEADLINE_DEFAULT: Duration = Duration::from_hours(1);

/// Flags of `foreman drain`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Take a node out: nothing new is placed there, runs may finish until the deadline, and then hand over with \
their work checkpointed. The agent stays up. With --wait the command ends when nothing runs there any more.\n\n\
To open the node again: foreman uncordon NODE",
    after_long_help = "Examples:\n  foreman drain studio -m \"new memory\" --wait\n  foreman drain node/studio --deadline 10m\n  \
foreman drain studio --deadline 0s --wait --timeout 2m"
)]
pub struct DrainArgs {
    /// Nodes, as node/name or a bare name
    #[arg(value_name = "NODE…", required = true,
        add = clap_complete::engine::ArgValueCompleter::new(completion::nodes))]
    pub nodes: Vec<String>,
    /// Why, for whoever wonders
    #[arg(short = 'm', long, value_name = "TEXT", value_parser = note)]
    pub note: Option<String>,
    /// How long runs may finish, e.g. 10m; 0s hands over at once [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// End when nothing runs there any more
    #[arg(long)]
    pub wait: bool,
    /// With --wait: give up after this long, with exit code 6
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    pub timeout: Option<Duration>,
}

/// Drains nodes.
///
/// # Errors
/// A node that is not there (then nothing was written), or a store that refuses.
pub async fn drain(args: &DrainArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let (world, nodes) = find(&args.nodes, settings, "drained").await?;
    for node in &nodes {
        put_note(&world, node, args.note.as_deref()).await?;
        let answer = begin(&world, node, args).await?;
        output::line(format!("node/{} {answer}", node.meta.name))?;
    }
    if !args.wait {
        world.note_if_nobody_works()?;
        return Ok(Exit::OnTarget);
    }
    tokio::select! {
        exit = signals.next() => Ok(exit),
        drained = Box::pin(until_drained(&world, &nodes)) => drained.map(|()| Exit::OnTarget),
        () = after(args.timeout) => {
            output::note("the wait timed out; the drain goes on");
            Ok(Exit::StillGoing)
        }
    }
}

async fn begin(
    world: &World,
    node: &Object<FleetNode>,
    args: &DrainArgs,
) -> anyhow::Result<String> {
    let before = node.spec.drain.as_ref();
    let wanted =
        args.deadline.map(|deadline| i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX));
    let same = before.is_some_and(|drain| wanted.is_none() || drain.deadline_seconds == wanted);
    if same {
        return Ok("is draining already".to_owned());
    }
    let drain = DrainSpec { deadline_seconds: wanted };
    patch(world, node, Change::of(Part::Spec).set("drain", drain)).await?;
    let held = held(world, node).await?;
    let deadline = output::span(args.deadline.unwrap_or(DEADLINE_DEFAULT));
    let verb = if before.is_some() { "draining, with a new deadline" } else { "draining" };
    Ok(match (held.as_slice(), args.deadline) {
        ([], _) => format!("{verb}: nothing runs there"),
        (runs, Some(Duration::ZERO)) => format!("{verb}: {} hands over now", runs.join(", ")),
        (runs, _) => format!("{verb}: {} may finish within {deadline}", runs.join(", ")),
    })
}

/// Waits until every one of the nodes says that it is drained.
async fn until_drained(world: &World, nodes: &[Object<FleetNode>]) -> anyhow::Result<()> {
    let mut open: Vec<&Object<FleetNode>> = nodes.iter().collect();
    let mut watch = steady(world.stores.nodes.clone(), Query::all());
    // A moment is enough where nothing runs; what takes longer is told.
    let mut ticks = interval_at(Instant::now() + super::wait::TELL_AFTER, TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = watch.next() => match event {
                Some(StoreEvent::Upsert(now)) => {
                    let Some(at) = open.iter().position(|node| node.meta.uid == now.meta.uid) else {
                        continue;
                    };
                    if now.spec.drain.is_none() {
                        let what = format!("node/{} was uncordoned meanwhile", now.meta.name);
                        return Err(Failure::new(Exit::NotOnTarget, what).into());
                    }
                    if is_true(&now.status.conditions, "Drained") && now.status.runs.is_empty() {
                        output::line(format!("node/{} drained", now.meta.name))?;
                        open.remove(at);
                        if open.is_empty() {
                            return Ok(());
                        }
                    }
                }
                Some(StoreEvent::Gone { uid, .. }) => {
                    if let Some(node) = open.iter().find(|node| node.meta.uid == uid) {
                        let what = format!("node/{} was deleted meanwhile", node.meta.name);
                        return Err(Failure::new(Exit::NotOnTarget, what).into());
                    }
                }
                Some(StoreEvent::SyncStart | StoreEvent::SyncEnd | StoreEvent::Unreadable { .. })
                | None => {}
            },
            _ = ticks.tick() => tell(world, &open).await?,
        }
    }
}

async fn tell(world: &World, open: &[&Object<FleetNode>]) -> anyhow::Result<()> {
    for node in open {
        let held = held(world, node).await?;
        let what = if held.is_empty() {
            "its agent to say that nothing runs there".to_owned()
        } else {
            held.join(", ")
        };
        output::note(format!("waiting for node/{}: {what}", node.meta.name));
    }
    world.note_if_nobody_works()
}
