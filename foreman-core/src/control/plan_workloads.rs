//! From what is known of workloads and their tasks to the writes that are due: which workloads are
//! looked at, and what becomes of those that have ended.

mod children;
mod planner;
mod spoiled;
mod status;

use std::time::Duration;

use self::planner::Planner;
use super::election::Moment;
use super::memory::{Memory, RefusedChild};
use super::reconciler::World;
use super::write::Write;
use crate::model::condition::{ConditionStatus, find_condition, is_true};
use crate::model::object::Object;
use crate::model::time::{AwakeTime, WallTime};
use crate::model::workload::{StepRecord, Workload};
use crate::timing::{AGENT_MISSING_MAX, STEPS_FOLD, TTL_LOOK_MAX};
use crate::workload::expand::{self, Plan, PlanError};

/// What one workload needs now.
#[derive(Default)]
struct Next {
    writes: Vec<Write>,
    /// The facts of its steps are among the writes.
    folded: bool,
    /// When to look again although nothing changed.
    look_again: Option<AwakeTime>,
    /// There are facts that are not due to be written yet.
    fold_later: bool,
    /// What the store refused before is forgotten: it is tried afresh.
    afresh: bool,
}

impl Next {
    fn writing(writes: Vec<Write>) -> Self {
        Self { writes, ..Self::default() }
    }

    fn later(at: AwakeTime) -> Self {
        Self { look_again: Some(at), ..Self::default() }
    }

    fn wake_at(&mut self, at: AwakeTime) {
        self.look_again = Some(self.look_again.map_or(at, |known| known.min(at)));
    }
}

/// The writes that workloads need now, and when to look again although nothing changed.
pub(super) fn plan(
    world: &World,
    memory: &mut Memory,
    now: Moment,
) -> (Vec<Write>, Option<AwakeTime>) {
    let Moment { wall, awake, boot: _ } = now;
    let mut writes = Vec::new();
    let mut look_again: Option<AwakeTime> = None;
    for workload in world.workloads.objects.values() {
        let busy = !world.workloads.is_free(&workload.key());
        if workload.meta.deletion_timestamp.is_some() || busy {
            continue;
        }
        let uid = &workload.meta.uid;
        let planner = Planner { world, workload, wall };
        let last = memory.folded.get(uid).copied();
        let fold_at = last.map_or(awake, |last| last + STEPS_FOLD);
        let mut next = if workload.status.has_ended() {
            ended(&planner, awake)
        } else {
            live(&planner, memory.refused.get(uid), awake >= fold_at, awake)
        };
        if next.fold_later {
            next.wake_at(fold_at.max(awake + Duration::from_millis(1)));
        }
        if next.folded {
            memory.folded.insert(uid.clone(), awake);
        }
        if next.afresh {
            memory.refused.remove(uid);
        }
        look_again = [look_again, next.look_again].into_iter().flatten().min();
        writes.extend(next.writes);
    }
    (writes, look_again)
}

/// What a workload that has ended needs: nothing, unless its spec asks for more than it has a record
/// of, what kept it from starting is there now, or its time to stay is over.
fn ended(planner: &Planner<'_>, awake: AwakeTime) -> Next {
    let workload = planner.workload;
    if let Some(next) = again(planner) {
        return next;
    }
    let Some(left) = time_to_stay(workload, planner.wall) else { return Next::default() };
    if !left.is_zero() {
        return Next::later(awake + left.min(TTL_LOOK_MAX));
    }
    let (uid, revision) = (workload.meta.uid.clone(), workload.revision().clone());
    Next::writing(vec![Write::DeleteWorkload { key: workload.key(), uid, revision }])
}

/// How long an ended workload still stays; absent = for ever.
fn time_to_stay(workload: &Object<Workload>, wall: WallTime) -> Option<Duration> {
    let ttl = u64::try_from(workload.spec.ttl_seconds_after_finished?).ok()?;
    let conditions = &workload.status.conditions;
    let finished = find_condition(conditions, "Finished");
    let finished = finished.filter(|_| is_true(conditions, "Finished"))?;
    let age = wall.since(finished.last_transition_time);
    Some(Duration::from_secs(ttl).saturating_sub(age))
}

/// The writes by which an ended workload starts again, or takes note of a spec that changed nothing.
fn again(planner: &Planner<'_>) -> Option<Next> {
    let workload = planner.workload;
    let status = &workload.status;
    let said = find_condition(&status.conditions, "Planned");
    let unplanned = said.is_some_and(|said| !said.status.is(ConditionStatus::True));
    let unresolved =
        unplanned && said.is_some_and(|said| said.reason == planner::AGENT_RESOLVE_FAILED);
    let edited = status.observed_generation.is_some_and(|seen| seen != workload.meta.generation);
    if !edited && !unresolved {
        return None;
    }
    let plan = planner
        .expand(&planner.workload.status.steps)
        .ok()
        .filter(|plan| planner.missing_agents(plan).is_empty());
    let agents_moved = status.agents_seen.as_ref().is_none_or(|seen| *seen != planner.agents());
    let cancelled = workload.spec.cancel == Some(true);
    let records = status.steps.as_slice();
    let more = |plan: &Plan| {
        plan.steps.iter().any(|step| records.iter().all(|record| record.name != step.name))
    };
    match plan {
        Some(plan) if unresolved && agents_moved => Some(planner.reopen(&plan)),
        Some(plan) if edited && !cancelled && (unplanned || more(&plan)) => {
            Some(planner.reopen(&plan))
        }
        Some(_) | None if edited => Some(Next::writing(vec![planner.take_note()])),
        Some(_) | None => None,
    }
}

/// What a workload that goes on needs.
fn live(
    planner: &Planner<'_>,
    refused: Option<&RefusedChild>,
    fold_due: bool,
    awake: AwakeTime,
) -> Next {
    let held_until = match refused {
        Some(RefusedChild::ForGood(why)) => return Next::writing(planner.refused_for_good(why)),
        Some(RefusedChild::ForNow(backoff, why)) => Some((backoff.until(awake), why)),
        None => None,
    };
    let plan = match planner.expand(&planner.workload.status.steps) {
        Ok(plan) => plan,
        Err(error @ PlanError::ReviewerMissing { .. }) => {
            return agents_missing(planner, awake, &error.to_string());
        }
        Err(error) => {
            let goes_on = planner.goes_on_as_made(&error, fold_due);
            return goes_on.unwrap_or_else(|| Next::writing(planner.no_plan(&error)));
        }
    };
    let missing = planner.missing_agents(&plan);
    if !missing.is_empty() && !planner.has_begun() {
        let message = format!("there is no Agent {}", missing.join(", "));
        return agents_missing(planner, awake, &message);
    }
    let records = planner.records(&plan);
    if records != planner.workload.status.steps {
        return Next::writing(vec![planner.write_names(&plan, records)]);
    }
    if let Some((_, why)) = held_until
        && let Some(write) = planner.render_error(why)
    {
        return Next::writing(vec![write]);
    }
    let held = held_until.and_then(|(until, _)| until);
    let made = planner.children(&plan, &records);
    let children = match made {
        Ok(children) => children,
        Err(gave_up) => return Next::writing(gave_up),
    };
    let folded = planner.folded(&records);
    let mut next = planner.fold(&plan, &folded, children.missing, fold_due);
    match held {
        Some(at) => next.wake_at(at),
        None => next.writes.extend(children.creates),
    }
    next.writes.extend(planner.copies(Some(&plan), &folded));
    next.writes.extend(planner.second_tasks(&records));
    next
}

/// Nothing was made yet and an Agent is missing: manifests may come in any order, so it is waited for
/// a little, then the workload ends and starts again when the Agent is there.
fn agents_missing(planner: &Planner<'_>, awake: AwakeTime, message: &str) -> Next {
    let created = planner.workload.meta.creation_timestamp;
    let age = created.map_or(AGENT_MISSING_MAX, |created| planner.wall.since(created));
    let left = AGENT_MISSING_MAX.saturating_sub(age);
    let reopened = planner.workload.status.phase.is_some();
    if left.is_zero() || reopened {
        return Next::writing(planner.unresolved(message));
    }
    // A record's age is in whole seconds, so look a second later.
    Next::later(awake + left + Duration::from_secs(1))
}

/// Expansion of a workload in this world.
impl Planner<'_> {
    fn expand(&self, records: &[StepRecord]) -> Result<Plan, PlanError> {
        let egress_of = |name: &str| self.egress_of(name);
        expand::plan(self.view(&egress_of), records)
    }
}
