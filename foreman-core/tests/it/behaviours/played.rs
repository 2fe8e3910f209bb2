//! Nodes and agents, played by plain patches: one as the Go system's agent writes, without a session;
//! one as ours writes, with a session and with what runs there in its heartbeat.
#![expect(clippy::needless_pass_by_value, reason = "a case gives what json! makes as it stands")]

use std::time::Duration;

use foreman_core::model::{AwakeTime, FleetNode, Key, NewObject};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect};
use serde_json::{Map, Value, json};

use super::seen::Shown;
use super::stage::Stage;

/// How often a played node beats.
const BEAT: Duration = Duration::from_secs(30);

/// A node that a case plays.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    name: String,
    labels: Value,
    spec: Value,
    status: Value,
}

/// A node that beats as time passes.
#[derive(Debug, Clone)]
pub(crate) struct Beating {
    next: AwakeTime,
    fields: Value,
    /// Tasks that it says run there; absent = an agent that says nothing of its runs.
    runs: Option<Vec<Value>>,
}

impl Node {
    /// A node of the Go system's agent.
    pub(crate) fn go(name: &str) -> Self {
        let status = json!({"phase": "Ready", "agentKind": "foreman-agent"});
        Self { name: name.into(), labels: json!({}), spec: json!({"nodeName": name}), status }
    }

    /// A node of our agent, with so many slots.
    pub(crate) fn ours(name: &str, slots: i32) -> Self {
        let mut node = Self::go(name);
        node.spec["slots"] = json!(slots);
        node.status["session"] = json!(format!("{name}-session-1"));
        node.status["capacity"] = json!({ "slots": slots });
        node
    }

    pub(crate) fn roles(mut self, roles: &[&str]) -> Self {
        self.spec["roles"] = json!(roles);
        self
    }

    pub(crate) fn labels(mut self, labels: Value) -> Self {
        self.labels = labels;
        self
    }

    pub(crate) fn capability(mut self, capability: Value) -> Self {
        self.status["capability"] = capability;
        self
    }

    /// Another phase than Ready; null for none.
    pub(crate) fn phase(mut self, phase: Value) -> Self {
        self.status["phase"] = phase;
        self
    }
}

/// The claims of a task that the session of our agent would show.
fn run_of(task: &Shown) -> Value {
    json!({
        "task": format!("{}/{}", task.text("/metadata/namespace"), task.text("/metadata/name")),
        "uid": task.at("/metadata/uid"), "attempt": task.at("/status/attempt"), "turn": 1,
    })
}

fn fields(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

impl Stage {
    /// A node that is there, and beats now and every 30 s.
    pub(crate) async fn node(&self, node: Node) {
        let name = node.name.clone();
        let ours = node.status.get("session").is_some();
        let beating = Beating {
            next: self.clock.awake(),
            fields: node.status.clone(),
            runs: ours.then(Vec::new),
        };
        self.silent_node(node).await;
        self.beating.lock().expect("no panic").insert(name, beating);
        self.beat_where_due().await;
    }

    /// A node that is there and does not beat.
    pub(crate) async fn silent_node(&self, node: Node) {
        let spec = serde_json::from_value(node.spec).expect("a node's spec");
        let mut new = NewObject::<FleetNode>::new(Key::cluster(&node.name), spec);
        for (name, value) in fields(&node.labels) {
            new = new.label(name, value.as_str().expect("a label's value"));
        }
        self.stores.nodes.create(new).await.expect("created");
    }

    /// The node falls silent, as one whose power is cut.
    pub(crate) fn silence(&self, name: &str) {
        self.beating.lock().expect("no panic").remove(name).expect("a node that beats");
    }

    /// What the node's beats say from now on.
    pub(crate) async fn beats_say(&self, name: &str, field: &str, value: Value) {
        {
            let mut beating = self.beating.lock().expect("no panic");
            let node = beating.get_mut(name).expect("a node that beats");
            node.fields[field] = value;
            node.next = self.clock.awake();
        }
        self.beat_where_due().await;
    }

    /// The agent of ours shows a run in its beats.
    pub(crate) async fn show_run(&self, node: &str, task: &str) {
        let run = run_of(&self.see_task(task).await);
        {
            let mut beating = self.beating.lock().expect("no panic");
            let node = beating.get_mut(node).expect("a node that beats");
            node.runs.get_or_insert_default().push(run);
            node.next = self.clock.awake();
        }
        self.beat_where_due().await;
    }

    /// The agent of ours starts anew, with another session and without runs.
    pub(crate) async fn new_session(&self, node: &str, session: &str) {
        {
            let mut beating = self.beating.lock().expect("no panic");
            let node = beating.get_mut(node).expect("a node that beats");
            node.runs = Some(Vec::new());
        }
        self.beats_say(node, "session", json!(session)).await;
    }

    /// Every node whose time has come beats, once.
    pub(crate) async fn beat_where_due(&self) {
        let now = self.clock.awake();
        let due: Vec<_> = {
            let mut beating = self.beating.lock().expect("no panic");
            let due = beating.iter_mut().filter(|(_, node)| node.next <= now);
            due.map(|(name, node)| {
                node.next = now + BEAT;
                (name.clone(), node.clone())
            })
            .collect()
        };
        for (name, node) in due {
            self.beat(&name, &node).await;
        }
    }

    async fn beat(&self, name: &str, node: &Beating) {
        let mut change = Change::<FleetNode>::of(Part::Status).set("lastHeartbeatTime", self.now());
        for (field, value) in &fields(&node.fields) {
            change = match field.as_str() {
                "phase" if value.is_null() => change,
                "phase" => change.set("phase", value),
                "agentKind" => change.set("agentKind", value),
                "session" => change.set("session", value),
                "capacity" => change.set("capacity", value),
                "capability" => change.set("capability", value),
                other => unreachable!("no beat says {other}"),
            };
        }
        if let Some(runs) = &node.runs {
            change = if runs.is_empty() { change.clear("runs") } else { change.set("runs", runs) };
        }
        self.stores.nodes.patch(&Key::cluster(name), change, Expect::Any).await.expect("beaten");
    }

    /// The agent of the node that the task is placed on claims it.
    pub(crate) async fn claim(&self, name: &str) {
        let task = self.task_is(name, "Scheduled", 30).await;
        let node = task.node();
        let session = self.see_node(&node).await.text("/status/session");
        let now = json!(self.now());
        let running = condition("True", "Running", "Claimed", &now);
        let mut claim = vec![
            ("phase", json!("Running")),
            ("claimedAt", now.clone()),
            ("startedAt", now.clone()),
            ("conditions", with(&task, running)),
        ];
        if !session.is_empty() {
            let attempt = task.at("/status/attempt").as_i64().unwrap_or(0) + 1;
            let mut attempts = task.at("/status/attempts").as_array().cloned().unwrap_or_default();
            attempts.push(json!({"attempt": attempt, "node": node, "session": session,
                "startedAt": now}));
            claim.push(("attempt", json!(attempt)));
            claim.push(("session", json!(session)));
            claim.push(("attempts", json!(attempts)));
        }
        self.task_status(name, claim).await;
        let task = self.see_task(name).await;
        let mut beating = self.beating.lock().expect("no panic");
        if let Some(runs) = beating.get_mut(&node).and_then(|node| node.runs.as_mut()) {
            runs.push(run_of(&task));
        }
    }

    /// The agent that runs the task ends it so: fields of the status beside what every end says.
    pub(crate) async fn ends(&self, name: &str, end: Value) {
        let task = self.see_task(name).await;
        let now = json!(self.now());
        let completed = condition("True", "Completed", "ExecutorSucceeded", &now);
        let mut status = vec![
            ("finishedAt", now),
            ("conditions", with(&task, completed)),
            ("session", Value::Null),
        ];
        for (field, value) in fields(&end) {
            status.push(match field.as_str() {
                "phase" => ("phase", value),
                "verdict" => ("verdict", value),
                "failureReason" => ("failureReason", value),
                "result" => ("result", value),
                "outcome" => ("outcome", value),
                "branch" => ("branch", value),
                other => unreachable!("no end says {other}"),
            });
        }
        if let Some(runs) = self
            .beating
            .lock()
            .expect("no panic")
            .get_mut(&task.node())
            .and_then(|node| node.runs.as_mut())
        {
            runs.retain(|run| run["uid"] != task.at("/metadata/uid"));
        }
        self.task_status(name, status).await;
    }

    /// A task is placed, claimed and ends Succeeded with that verdict and `result.extra`.
    pub(crate) async fn runs_to(&self, name: &str, verdict: &str, extra: Value) {
        self.claim(name).await;
        self.ends(name, succeeded(verdict, extra)).await;
        self.quiet().await;
    }

    /// Such an end for each of these tasks.
    pub(crate) async fn run_all(&self, names: &[&str], verdict: &str) {
        for name in names {
            self.runs_to(name, verdict, json!({})).await;
        }
    }
}

/// The status of a run that ended Succeeded.
pub(crate) fn succeeded(verdict: &str, extra: Value) -> Value {
    json!({"phase": "Succeeded", "verdict": verdict, "result": {"schemaVersion": "foreman.v1",
        "verdict": verdict, "summary": format!("it came to {verdict}"), "extra": extra}})
}

fn condition(status: &str, kind: &str, reason: &str, now: &Value) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "played",
        "lastTransitionTime": now})
}

/// The task's conditions with that one in them.
fn with(task: &Shown, condition: Value) -> Value {
    let mut all = task.at("/status/conditions").as_array().cloned().unwrap_or_default();
    all.retain(|one| one["type"] != condition["type"]);
    all.push(condition);
    json!(all)
}

/// A task of no kind in particular, which any node fits.
pub(crate) fn freeform() -> Value {
    json!({"kind": "freeform", "payload": {"prompt": "tidy up"}})
}

/// Such a task with one more field.
pub(crate) fn freeform_with(field: &str, value: Value) -> Value {
    let mut spec = freeform();
    spec[field] = value;
    spec
}

/// A task of that Agent.
pub(crate) fn task_of(agent: &str) -> Value {
    freeform_with("agentRef", json!({"name": agent}))
}

/// An Agent without a model, as a deterministic one is.
pub(crate) fn plain_agent() -> Value {
    json!({"role": "coder", "tools": ["bash"]})
}

/// Such an Agent with one more field.
pub(crate) fn agent_with(field: &str, value: Value) -> Value {
    let mut spec = plain_agent();
    spec[field] = value;
    spec
}
