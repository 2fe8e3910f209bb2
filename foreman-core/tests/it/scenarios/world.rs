//! From the lines of a scenario to real objects in a store.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foreman_core::memory::MemoryStore;
use foreman_core::model::meta::OwnerReference;
use foreman_core::model::object::Kind;
use foreman_core::model::{
    API_VERSION, Agent, AgenticTask, FleetNode, Key, NewObject, Uid, Workload,
};
use foreman_core::ports::store::Part;
use foreman_core::ports::{Change, Clock, Expect, Store};
use foreman_core::testkit::sim::SimClock;
use serde_json::{Map, Value, json};

use super::text::{Line, Scenario, Wrong};

/// What a scenario gives.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<SimClock>,
    /// The tasks to decide about, in the order of the file.
    pub(crate) tasks: Vec<Key>,
    /// Nodes that a task is kept away from: task, node, and whether it is a must.
    pub(crate) avoided: Vec<(Key, String, bool)>,
    /// Whether the operator lets work go to the cloud.
    pub(crate) cloud: bool,
    /// Seconds that the control loop runs before the decision is read; 0 = one look.
    pub(crate) passes: u64,
    /// The nodes that beat meanwhile.
    pub(crate) beating: Vec<String>,
}

/// The parts of an object while its line is read.
#[derive(Default)]
struct Draft {
    meta: Map<String, Value>,
    spec: Value,
    status: Value,
    namespace: Option<String>,
    /// Seconds since it was created.
    age: u64,
    /// The Workload that owns it.
    of: Option<String>,
    owner: Option<OwnerReference>,
    /// Tasks that it holds: name, memory, and whether its heartbeat shows them.
    holds: Vec<(String, i32, bool)>,
}

fn number(line: &Line, word: &str, value: &str) -> Result<i64, Wrong> {
    value.parse().map_err(|_| line.wrong(format!("{word}={value}: a number is expected")))
}

fn list(value: &str) -> Vec<&str> {
    value.split(',').filter(|one| !one.is_empty()).collect()
}

/// `zone:attic,disk:fast` as a map.
fn pairs(line: &Line, word: &str, value: &str) -> Result<Value, Wrong> {
    let pairs = list(value).into_iter().map(|pair| {
        let (name, value) = pair
            .split_once(':')
            .ok_or_else(|| line.wrong(format!("{word}={value}: name:value is expected")))?;
        Ok((name.to_owned(), json!(value)))
    });
    Ok(Value::Object(pairs.collect::<Result<_, Wrong>>()?))
}

/// Sets `spec.a.b` or `status.a.b`; says whether the word was such a path.
fn set_path(draft: &mut Draft, path: &str, value: &str) -> bool {
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    let (part, path) = match path.split_once('.') {
        Some(("spec", path)) => (&mut draft.spec, path),
        Some(("status", path)) => (&mut draft.status, path),
        _ => return false,
    };
    let mut at = part;
    for step in path.split('.') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
    true
}

fn node_word(line: &Line, draft: &mut Draft, word: &str, value: &str) -> Result<(), Wrong> {
    let status = &mut draft.status;
    match word {
        "slots" => {
            let slots = number(line, word, value)?;
            draft.spec["slots"] = json!(slots);
            status["capacity"]["slots"] = json!(slots);
        }
        "ram" => {
            let (free, total) = value.split_once('/').ok_or_else(|| {
                line.wrong(format!("{word}={value}: free/total is expected, e.g. 16/24"))
            })?;
            status["capability"]["availableRAMGB"] = json!(number(line, word, free)?);
            status["capability"]["totalRAMGB"] = json!(number(line, word, total)?);
            status["capacity"]["ramGB"] = json!(number(line, word, total)?);
        }
        "ctx" => status["capability"]["maxContextTokens"] = json!(number(line, word, value)?),
        "speed" => status["capability"]["tokensPerSecond"] = json!(number(line, word, value)?),
        "accelerator" => status["capability"]["accelerator"] = json!(value),
        "namespaces" => status["capability"]["namespaces"] = json!(list(value)),
        "installed" => status["capability"]["installedModels"] = json!(list(value)),
        "loaded" => {
            let loaded = |name: &str| json!({"name": name, "loaded": true});
            let models: Vec<_> = list(value).into_iter().map(loaded).collect();
            status["capability"]["models"] = json!(models);
        }
        "roles" => draft.spec["roles"] = json!(list(value)),
        "labels" => {
            draft.meta.insert("labels".into(), pairs(line, word, value)?);
        }
        "cordoned" => {
            draft.spec["unschedulable"] = json!(true);
            if !value.is_empty() {
                let note = json!({"foreman.llmkube.dev/note": value});
                draft.meta.insert("annotations".into(), note);
            }
        }
        "drained" => draft.spec["drain"] = json!({}),
        "phase" => status["phase"] = json!(value),
        "silent" => draft.age = u64::try_from(number(line, word, value)?).unwrap_or(0),
        "theirs" => status["session"] = Value::Null,
        "holds" | "coming" => {
            for one in list(value) {
                let (name, ram) = one.split_once(':').unwrap_or((one, "0"));
                let ram = i32::try_from(number(line, word, ram)?).unwrap_or(0);
                draft.holds.push((name.to_owned(), ram, word == "holds"));
            }
        }
        path if set_path(draft, path, value) => {}
        other => return Err(line.wrong(format!("a node has no {other:?}"))),
    }
    Ok(())
}

/// What tasks and Agents require alike.
fn need_word(line: &Line, spec: &mut Value, word: &str, value: &str) -> Result<bool, Wrong> {
    let required = &mut spec["requiredCapability"];
    match word {
        "needs" => {}
        "ram" => required["minRAMGB"] = json!(number(line, word, value)?),
        "ctx" => required["minContextTokens"] = json!(number(line, word, value)?),
        "accelerator" => required["accelerator"] = json!(value),
        "roles" => required["roles"] = json!(list(value)),
        "labels" => required["nodeSelector"] = pairs(line, word, value)?,
        "installed" => required["requiresModelInstalled"] = json!(true),
        _ => return Ok(false),
    }
    Ok(true)
}

fn agent_word(line: &Line, draft: &mut Draft, word: &str, value: &str) -> Result<(), Wrong> {
    if need_word(line, &mut draft.spec, word, value)? {
        return Ok(());
    }
    match word {
        "model" => draft.spec["model"] = json!(value),
        "limit" => draft.spec["maxConcurrentTasks"] = json!(number(line, word, value)?),
        "cloud" => draft.spec["provider"] = json!("cloud-proxy"),
        "role" => draft.spec["role"] = json!(value),
        path if set_path(draft, path, value) => {}
        other => return Err(line.wrong(format!("an agent has no {other:?}"))),
    }
    Ok(())
}

fn task_word(
    line: &Line,
    draft: &mut Draft,
    avoided: &mut Vec<(String, bool)>,
    word: &str,
    value: &str,
) -> Result<(), Wrong> {
    if need_word(line, &mut draft.spec, word, value)? {
        return Ok(());
    }
    match word {
        "kind" => draft.spec["kind"] = json!(value),
        "agent" => draft.spec["agentRef"] = json!({ "name": value }),
        "priority" => draft.spec["priority"] = json!(number(line, word, value)?),
        "of" => draft.of = Some(value.to_owned()),
        "after" => draft.spec["dependsOn"] = json!(list(value)),
        "age" => draft.age = u64::try_from(number(line, word, value)?).unwrap_or(0),
        "namespace" => draft.namespace = Some(value.to_owned()),
        "suspended" => draft.spec["suspend"] = json!(true),
        "cancelled" => draft.spec["cancel"] = json!(true),
        "refused-by" => avoided.push((value.to_owned(), true)),
        "struck-by" => avoided.push((value.to_owned(), false)),
        "ended" => {
            let (phase, verdict) = value.split_once('/').unwrap_or((value, "GO"));
            draft.status["phase"] = json!(phase);
            draft.status["verdict"] = json!(verdict);
        }
        "strikes" => {
            let (count, node) = value.split_once('/').ok_or_else(|| {
                line.wrong(format!("{word}={value}: number/node is expected, e.g. 2/home"))
            })?;
            let notes = json!({
                "foreman.llmkube.dev/claim-expiries": number(line, word, count)?.to_string(),
                "foreman.llmkube.dev/struck": format!("1/{node}"),
            });
            draft.meta.insert("annotations".into(), notes);
            draft.status["attempt"] = json!(1);
        }
        "journal" => {
            draft.status["phase"] = json!("Pending");
            draft.status["checkpoint"] = json!({"node": value, "attempt": 1, "turn": 3});
        }
        path if set_path(draft, path, value) => {}
        other => return Err(line.wrong(format!("a task has no {other:?}"))),
    }
    Ok(())
}

/// Makes the objects of a scenario: the tasks first, the oldest of them before the others, for a
/// store dates what is created; then who is there now.
pub(crate) async fn build(scenario: &Scenario) -> Result<World, Wrong> {
    let clock = SimClock::new();
    let store = MemoryStore::new(clock.clone());
    let mut world = World {
        store,
        clock,
        tasks: Vec::new(),
        avoided: Vec::new(),
        cloud: true,
        passes: 0,
        beating: Vec::new(),
    };
    let mut tasks: BTreeMap<(Reverse<u64>, usize), (&Line, Draft)> = BTreeMap::new();
    let mut others = Vec::new();
    for line in &scenario.lines {
        match line.kind.as_str() {
            "operator" => world.cloud = line.words.iter().all(|(word, _)| word != "no-cloud"),
            "passes" => {
                let seconds = line.name.parse();
                world.passes = seconds.map_err(|_| {
                    line.wrong(format!("passes {}: a number of seconds is expected", line.name))
                })?;
            }
            "task" => {
                let draft = task(&mut world, line)?;
                tasks.insert((Reverse(draft.age), line.number), (line, draft));
            }
            _ => others.push(line),
        }
    }
    let steps: Vec<(String, String)> = tasks
        .values()
        .filter_map(|(line, draft)| Some((draft.of.clone()?, line.name.clone())))
        .collect();
    let mut owners = BTreeMap::new();
    for line in others.iter().filter(|line| line.kind == "workload") {
        owners.insert(line.name.clone(), workload(&world, line, &steps).await?);
    }
    let mut age = tasks.keys().next().map_or(0, |(age, _)| age.0);
    for ((Reverse(now), _), (line, mut draft)) in tasks {
        if let Some(name) = &draft.of {
            let owner = owners.get(name);
            let owner =
                owner.ok_or_else(|| line.wrong(format!("there is no workload {name:?}")))?;
            draft.owner = Some(owner.clone());
            let label = json!({"foreman.llmkube.dev/step": line.name});
            draft.meta.insert("labels".into(), label);
        }
        world.clock.advance(Duration::from_secs(age - now));
        age = now;
        create::<AgenticTask>(&world, line, &draft, &line.name).await?;
    }
    world.clock.advance(Duration::from_secs(age));
    for line in others {
        match line.kind.as_str() {
            "node" => node(&mut world, line).await?,
            "agent" => agent(&world, line).await?,
            // Made already: its tasks name it.
            _ => {}
        }
    }
    Ok(world)
}

/// Makes a Workload whose steps are the tasks that say `of` it, as if the control loop had made them.
async fn workload(
    world: &World,
    line: &Line,
    steps: &[(String, String)],
) -> Result<OwnerReference, Wrong> {
    let own: Vec<_> = steps.iter().filter(|(of, _)| *of == line.name).map(|(_, it)| it).collect();
    let step = |name: &&String| json!({"name": name, "kind": "freeform", "agentRef": {"name": "coder"}, "payload": {}});
    let pipeline: Vec<_> = own.iter().map(step).collect();
    let records: Vec<_> = own.iter().map(|name| json!({"name": name, "task": name})).collect();
    let mut draft = Draft {
        spec: json!({"intent": "what a person asked for", "pipeline": pipeline}),
        status: json!({"phase": "Dispatched", "observedGeneration": 1, "steps": records}),
        ..Draft::default()
    };
    for (word, value) in &line.words {
        match word.as_str() {
            "tokens" | "turns" => draft.spec["budget"][word] = json!(number(line, word, value)?),
            "seconds" => draft.spec["budget"]["wallSeconds"] = json!(number(line, word, value)?),
            path if set_path(&mut draft, path, value) => {}
            other => return Err(line.wrong(format!("a workload has no {other:?}"))),
        }
    }
    let uid = create::<Workload>(world, line, &draft, &line.name).await?;
    Ok(OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: Workload::NAMES.kind.to_owned(),
        name: line.name.clone(),
        uid: Uid::new(uid),
        controller: Some(true),
        block_owner_deletion: None,
    })
}

fn task(world: &mut World, line: &Line) -> Result<Draft, Wrong> {
    let mut draft = Draft { spec: json!({"kind": "freeform", "payload": {}}), ..Draft::default() };
    let mut avoided = Vec::new();
    for (word, value) in &line.words {
        task_word(line, &mut draft, &mut avoided, word, value)?;
    }
    let key = key::<AgenticTask>(&draft, &line.name);
    if draft.status.get("verdict").is_none() {
        world.tasks.push(key.clone());
    }
    world.avoided.extend(avoided.into_iter().map(|(node, hard)| (key.clone(), node, hard)));
    Ok(draft)
}

async fn agent(world: &World, line: &Line) -> Result<(), Wrong> {
    let mut draft = Draft { spec: json!({"role": "coder", "tools": ["bash"]}), ..Draft::default() };
    for (word, value) in &line.words {
        agent_word(line, &mut draft, word, value)?;
    }
    create::<Agent>(world, line, &draft, &line.name).await.map(drop)
}

fn key<K: Kind>(draft: &Draft, name: &str) -> Key {
    K::key(draft.namespace.as_deref().unwrap_or("default"), name)
}

async fn node(world: &mut World, line: &Line) -> Result<(), Wrong> {
    let mut draft = Draft {
        spec: json!({"nodeName": line.name}),
        status: json!({"phase": "Ready", "session": "s1", "capacity": {"slots": 1}}),
        ..Draft::default()
    };
    for (word, value) in &line.words {
        node_word(line, &mut draft, word, value)?;
    }
    if draft.age == 0 {
        world.beating.push(line.name.clone());
    }
    let beat = world.clock.wall().minus(Duration::from_secs(draft.age));
    draft.status["lastHeartbeatTime"] = json!(beat);
    let mut runs = Vec::new();
    for (name, ram, shown) in &draft.holds {
        let phase = if *shown { "Running" } else { "Scheduled" };
        let held = Draft {
            spec: json!({"kind": "freeform", "payload": {},
                "requiredCapability": {"minRAMGB": ram}}),
            status: json!({"phase": phase, "assignedNode": line.name, "attempt": 1,
                "session": draft.status["session"], "startedAt": world.clock.wall(),
                "claimedAt": world.clock.wall()}),
            ..Draft::default()
        };
        let uid = create::<AgenticTask>(world, line, &held, name).await?;
        if *shown {
            runs.push(json!({"task": format!("default/{name}"), "uid": uid, "attempt": 1}));
        }
    }
    if !runs.is_empty() {
        draft.status["runs"] = json!(runs);
    }
    create::<FleetNode>(world, line, &draft, &line.name).await.map(drop)
}

/// Makes one object with its status, and gives its uid.
async fn create<K: Kind>(
    world: &World,
    line: &Line,
    draft: &Draft,
    name: &str,
) -> Result<String, Wrong> {
    let kind = K::NAMES.alias;
    let not =
        |part: &str, why: String| line.wrong(format!("the {part} is not one of a {kind}: {why}"));
    let mut given = draft.spec.clone();
    if given["requiredCapability"].is_null()
        && let Some(spec) = given.as_object_mut()
    {
        spec.remove("requiredCapability");
    }
    let spec = serde_json::from_value(given).map_err(|error| not("spec", error.to_string()))?;
    let mut new = NewObject::<K>::new(key::<K>(draft, name), spec);
    for (field, into) in [("labels", &mut new.labels), ("annotations", &mut new.annotations)] {
        for (name, value) in draft.meta.get(field).and_then(Value::as_object).into_iter().flatten()
        {
            into.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
        }
    }
    new.owner_references.extend(draft.owner.clone());
    let store: &dyn Store<K> = &*world.store;
    let made = store.create(new).await.map_err(|error| not("spec", error.to_string()))?;
    if !draft.status.is_null() {
        let mut change = Change::<K>::of(Part::Status);
        for (field, value) in draft.status.as_object().into_iter().flatten() {
            // A change names its fields for ever; a test may leak the few that it names.
            let field: &'static str = Box::leak(field.clone().into_boxed_str());
            change = if value.is_null() { change.clear(field) } else { change.set(field, value) };
        }
        let key = key::<K>(draft, name);
        let written = store.patch(&key, change, Expect::Any).await;
        written.map_err(|error| not("status", error.to_string()))?;
    }
    Ok(made.meta.uid.to_string())
}
