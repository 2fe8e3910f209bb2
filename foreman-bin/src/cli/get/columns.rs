//! The columns of each kind.

use foreman_core::model::agentic_task::AgenticTaskStatus;
use foreman_core::model::manifest::AnyKind;
use foreman_core::model::object::Column;
use foreman_core::model::outcome::Infrastructure;
use foreman_core::model::{AgenticTask, FleetNode, Object, Outcome, WallTime};
use serde_json::Value;

use super::Found;
use crate::output::{self, Table};

/// How the table looks.
pub(super) struct Look<'a> {
    pub(super) wide: bool,
    pub(super) namespaces: bool,
    pub(super) prefixed: bool,
    pub(super) now: WallTime,
    /// Where running tasks show how far they are.
    pub(super) nodes: &'a [Object<FleetNode>],
}

/// A table of objects of one kind.
pub(super) fn table(found: &[Found], look: &Look<'_>) -> Table {
    let Some(kind) = found.first().map(|found| found.kind) else { return Table::default() };
    let columns = columns(kind, look.wide);
    let mut headings: Vec<String> = Vec::new();
    if look.namespaces {
        headings.push("NAMESPACE".to_owned());
    }
    headings.push("NAME".to_owned());
    headings.extend(columns.iter().map(|column| column.heading()));
    let mut table = Table::new(headings);
    for one in found {
        let mut cells = Vec::new();
        let key = one.key();
        if look.namespaces {
            cells.push(key.namespace.unwrap_or_default());
        }
        cells.push(if look.prefixed { one.name() } else { key.name });
        let task =
            (kind == AnyKind::AgenticTask).then(|| super::typed::<AgenticTask>(one)).flatten();
        cells.extend(columns.iter().map(|column| column.cell(&one.json, task.as_ref(), look)));
        table.row(cells);
    }
    table
}

/// Where a cell comes from.
#[derive(Clone, Copy)]
enum Source {
    /// A printer column of the kind.
    Printer(&'static Column),
    /// A word of ours about a task.
    Task(&'static str, fn(&Object<AgenticTask>, &Look<'_>) -> String),
}

impl Source {
    fn heading(self) -> String {
        match self {
            Self::Printer(column) => column.name.to_ascii_uppercase(),
            Self::Task(heading, _) => heading.to_owned(),
        }
    }

    fn cell(self, json: &Value, task: Option<&Object<AgenticTask>>, look: &Look<'_>) -> String {
        match self {
            Self::Task(_, text) => task.map_or_else(String::new, |task| text(task, look)),
            Self::Printer(column) => {
                let text = output::at(json, column.json_path).map(output::cell).unwrap_or_default();
                match (column.kind, text.parse::<WallTime>()) {
                    ("date", Ok(then)) => output::age(then, look.now),
                    _ => text,
                }
            }
        }
    }
}

/// Name aside. Age is last: it is what the eye looks for at the edge.
fn columns(kind: AnyKind, wide: bool) -> Vec<Source> {
    let all = kind.names().columns;
    let named = |name: &str| all.iter().find(|column| column.name == name).map(Source::Printer);
    if kind == AnyKind::AgenticTask {
        let mut columns: Vec<Source> =
            ["Kind", "Phase", "Node", "Verdict"].into_iter().filter_map(named).collect();
        columns.push(Source::Task("VERIFIED", |task, _| verified(&task.status)));
        columns.push(Source::Task("TURNS", turns));
        columns.push(Source::Task("REASON", |task, _| reason(&task.status)));
        if wide {
            columns.extend(["Attempt", "Workload"].into_iter().filter_map(named));
        }
        columns.extend(named("Age"));
        return columns;
    }
    let shown = |column: &&Column| {
        column.name != "Age" && (wide || column.priority == 0 || column.name == "Reason")
    };
    let mut columns: Vec<Source> = all.iter().filter(shown).map(Source::Printer).collect();
    columns.extend(named("Age"));
    columns
}

/// What the gate said, once there is something to say.
fn verified(status: &AgenticTaskStatus) -> String {
    let ended = status.known_phase().is_some_and(foreman_core::model::TaskPhase::is_terminal);
    if ended || status.outcome.is_some() {
        Outcome::of(status).verification.to_string()
    } else {
        String::new()
    }
}

/// Turns so far: of a running task those that its node tells.
fn turns(task: &Object<AgenticTask>, look: &Look<'_>) -> String {
    let uid = task.meta.uid.as_str();
    let live = look
        .nodes
        .iter()
        .flat_map(|node| &node.status.runs)
        .filter(|run| run.uid.as_deref() == Some(uid) && run.attempt == task.status.attempt)
        .find_map(|run| run.turn);
    let spent = task.status.usage.as_ref().and_then(|usage| usage.turns);
    live.max(spent).map_or_else(String::new, |turns| turns.to_string())
}

/// Why a task waits, or why it ended as it did.
fn reason(status: &AgenticTaskStatus) -> String {
    if let Some(reason) = status.waiting.as_ref().and_then(|waiting| waiting.reason.as_ref()) {
        return reason.to_string();
    }
    if !status.known_phase().is_some_and(foreman_core::model::TaskPhase::is_terminal) {
        return String::new();
    }
    let outcome = Outcome::of(status);
    match (outcome.infrastructure, outcome.reason, &status.failure_reason) {
        (Infrastructure::Ok, Some(reason), _) => reason.to_string(),
        (Infrastructure::Ok, None, Some(failure)) => failure.to_string(),
        (Infrastructure::Ok, None, None) => String::new(),
        (infrastructure, _, _) => infrastructure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(name: &str, kind: &str, status: &Value) -> Found {
        let json = json!({"apiVersion": foreman_core::model::API_VERSION, "kind": "AgenticTask",
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
                "creationTimestamp": "2026-11-24T10:00:00Z"},
            "spec": {"kind": kind, "payload": {}}, "status": status});
        Found { kind: AnyKind::AgenticTask, json }
    }

    #[test]
    fn tasks_are_shown_as_in_the_sketch() {
        let node = json!({"metadata": {"name": "tower", "uid": "n", "resourceVersion": "1"},
            "spec": {"nodeName": "tower"},
            "status": {"runs": [{"task": "default/b", "uid": "b", "attempt": 1, "turn": 2}]}});
        let nodes = [Object::<FleetNode>::from_json(&node).expect("a node")];
        let found = [
            task(
                "a",
                "issue-fix",
                &json!({"phase": "Succeeded", "assignedNode": "studio",
                "verdict": "GO", "usage": {"turns": 14},
                "outcome": {"decision": "Go", "verification": "Passed", "infrastructure": "Ok"}}),
            ),
            task(
                "b",
                "review",
                &json!({"phase": "Running", "assignedNode": "tower", "attempt": 1}),
            ),
            task(
                "c",
                "issue-fix",
                &json!({"phase": "Pending",
                "waiting": {"reason": "NodesBusy", "message": "0/3 nodes fit"}}),
            ),
            task(
                "d",
                "issue-fix",
                &json!({"phase": "Failed", "verdict": "INCOMPLETE",
                "failureReason": "InfrastructureError",
                "outcome": {"infrastructure": "PushRefused", "verification": "Passed"}}),
            ),
            task("e", "issue-fix", &json!({"phase": "Succeeded", "verdict": "GO"})),
        ];
        let now: WallTime = "2026-11-24T10:00:40Z".parse().expect("a time");
        let look = Look { wide: false, namespaces: false, prefixed: false, now, nodes: &nodes };
        let text = table(&found, &look).render(true);
        let expected = "\
NAME  KIND       PHASE      NODE    VERDICT     VERIFIED     TURNS  REASON       AGE
a     issue-fix  Succeeded  studio  GO          Passed       14     -            40s
b     review     Running    tower   -           -            2      -            40s
c     issue-fix  Pending    -       -           -            -      NodesBusy    40s
d     issue-fix  Failed     -       INCOMPLETE  Passed       -      PushRefused  40s
e     issue-fix  Succeeded  -       GO          NotVerified  -      -            40s
";
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), expected);
    }

    #[test]
    fn wide_and_all_namespaces_add_columns() {
        let found = [task("a", "verify", &json!({"attempt": 3}))];
        let now = WallTime::from_unix_seconds(0);
        let look = Look { wide: true, namespaces: true, prefixed: true, now, nodes: &[] };
        let text = table(&found, &look).render(true);
        let heading = text.lines().next().unwrap_or_default();
        assert!(heading.starts_with("NAMESPACE  NAME"), "{heading}");
        assert!(heading.contains("ATTEMPT") && heading.contains("WORKLOAD"), "{heading}");
        assert!(text.contains("task/a"), "{text}");
    }
}
