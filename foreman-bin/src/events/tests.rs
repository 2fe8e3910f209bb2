use std::collections::BTreeSet;

use foreman_core::model::agentic_task::Usage;
use foreman_core::model::outcome::{
    Decision, Infrastructure, Outcome, OutcomeReason, Verification,
};
use foreman_runner::observe::RunEvent;
use serde_json::{Value, json};

use super::*;
use crate::follow::{Begun, Ended, PlannedStep, What};

/// One of each kind.
fn everything() -> Vec<What> {
    let took = Duration::from_millis(1500);
    let run = [
        RunEvent::WorkspaceReady {
            base: "4e1f".into(),
            model: Some("m".into()),
            instructions: None,
        },
        RunEvent::Resumed { turns: 3 },
        RunEvent::ToolStarted { turn: 1, tool: "bash".into(), summary: "ls".into() },
        RunEvent::ToolCompleted {
            turn: 1,
            tool: "bash".into(),
            ok: true,
            summary: "0".into(),
            took,
        },
        RunEvent::TurnCompleted {
            turn: 1,
            prompt_tokens: 10,
            cached_tokens: 5,
            completion_tokens: 2,
            took,
        },
        RunEvent::GateStarted { command: "sh test.sh".into() },
        RunEvent::GateCompleted {
            command: "sh test.sh".into(),
            exit: None,
            tree: "9b1c".into(),
            output: "ok".into(),
            took,
        },
        RunEvent::CheckpointSaved { turn: 1, digest: "d".into() },
        RunEvent::EffectDone { kind: "push", target: "b".into(), key: "u/1/push".into() },
        RunEvent::Notice { message: "n".into() },
    ];
    let outcome = Outcome {
        decision: Decision::Go,
        verification: Verification::Passed,
        infrastructure: Infrastructure::Ok,
        reason: Some(OutcomeReason::NoChanges),
    };
    let mut all = vec![
        What::Begun(Begun { intent: "i".into(), repo: Some("/r".into()), ..Begun::default() }),
        What::Planned { steps: vec![PlannedStep { name: "code".into(), task: "w-code".into() }] },
        What::Waiting { reason: "NodesBusy".into(), message: "1 busy".into() },
        What::Placed { why: vec!["model loaded".into(), "idle".into()] },
        What::Started,
        What::Moved { stage: "Model".into(), turn: 3, tokens: 40 },
        What::Released { ended: "Drained".into(), message: "m".into(), turn: Some(2) },
        What::Ended(Ended {
            on_target: true,
            verdict: "GO".into(),
            outcome,
            message: "done".into(),
            branch: Some("b".into()),
            commit: None,
            usage: Usage { turns: Some(2), ..Usage::default() },
        }),
        What::Finished { reason: "Succeeded".into(), message: "3 succeeded".into() },
        What::Notice { message: "n".into() },
    ];
    all.extend(run.map(What::Run));
    all
}

fn lines() -> Vec<Value> {
    let mut out = Vec::new();
    let mut stream = Stream::new(&mut out);
    let time = WallTime::from_unix_seconds(0);
    for what in everything() {
        let fact = Fact {
            workload: Some("w".into()),
            task: Some("w-code".into()),
            attempt: Some(1),
            node: Some("n".into()),
            what,
        };
        stream.fact(&fact, time).expect("written");
    }
    stream.heartbeat(time).expect("written");
    let result =
        RunResult { exit_code: 3, next: vec!["foreman get".into()], ..RunResult::default() };
    stream.finish(Some("w".into()), result, time).expect("written");
    let text = String::from_utf8(out).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn lines_are_numbered_and_the_last_one_is_the_only_result() {
    let lines = lines();
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(line["seq"], json!(at + 1));
        assert_eq!(line["v"], json!(1));
        assert_eq!(line["time"], json!("1970-01-01T00:00:00Z"));
    }
    let results = lines.iter().filter(|line| line["type"] == "result").count();
    assert_eq!(results, 1);
    let last = lines.last().expect("a line");
    assert_eq!(
        last,
        &json!({
            "v": 1, "seq": lines.len(), "time": "1970-01-01T00:00:00Z", "workload": "w",
            "type": "result", "finished": null, "verified": false, "exitCode": 3, "branch": null,
            "commit": null, "pullRequest": null,
            "usage": {"turns": 0, "input": 0, "cached": 0, "output": 0},
            "unfinished": [], "next": ["foreman get"],
        })
    );
}

#[test]
fn what_happened_stands_in_the_fields_of_the_contract() {
    let lines = lines();
    let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).expect(kind).clone();
    assert_eq!(of("task.placed")["why"], json!(["model loaded", "idle"]));
    assert_eq!(of("task.placed")["node"], json!("n"));
    assert_eq!(of("turn.completed")["usage"], json!({"input": 10, "cached": 5, "output": 2}));
    assert_eq!(of("effect.done")["ref"], json!("b"));
    assert_eq!(of("task.ended")["decision"], json!("Go"));
    assert_eq!(of("gate.completed")["exit"], Value::Null);
}

/// The published schema, where the tree has one; the file is made from the types.
const PUBLISHED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/events.schema.json");

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let mut wanted = serde_json::to_string_pretty(&schema()).expect("JSON");
    wanted.push('\n');
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PUBLISHED, &wanted).expect("written");
    }
    let found = std::fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert_eq!(found, wanted, "run the test again with UPDATE_EXPECT=1");
}

#[test]
fn every_line_fits_the_schema_and_every_type_of_it_is_written() {
    let schema = schema();
    let mut written = BTreeSet::new();
    for line in lines() {
        let kind = line["type"].as_str().expect("a type").to_owned();
        check(&schema, &schema, &line, &kind)
            .unwrap_or_else(|fault| panic!("{kind}: {fault}\n{line}"));
        written.insert(kind);
    }
    let known: BTreeSet<String> = schema["oneOf"]
        .as_array()
        .expect("one branch a type")
        .iter()
        .map(|branch| branch["properties"]["type"]["const"].as_str().expect("a const").to_owned())
        .collect();
    assert_eq!(written, known);
}

#[test]
fn the_check_of_the_schema_finds_faults() {
    let schema = schema();
    let mut line = lines().into_iter().find(|line| line["type"] == "task.ended").expect("there");
    line.as_object_mut().expect("an object").remove("decision");
    assert!(check(&schema, &schema, &line, "task.ended").is_err());
}

/// A small validator: as much of JSON Schema as the published one uses.
fn check(root: &Value, schema: &Value, value: &Value, kind: &str) -> Result<(), String> {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.trim_start_matches("#/$defs/");
        return check(root, &root["$defs"][name], value, kind);
    }
    if let Some(branches) = schema["oneOf"].as_array() {
        let branch = branches
            .iter()
            .find(|branch| branch["properties"]["type"]["const"] == kind)
            .ok_or("no branch of that type")?;
        check(root, branch, value, kind)?;
    }
    if let Some(branches) = schema["anyOf"].as_array() {
        return branches
            .iter()
            .find_map(|branch| check(root, branch, value, kind).ok())
            .ok_or_else(|| format!("{value} fits no branch"));
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Err(format!("{value} is not {constant}"));
    }
    let one = schema["type"].as_str().into_iter();
    let many = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let types: Vec<&str> = one.chain(many).collect();
    let fits = |name: &&str| match *name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    };
    if !types.is_empty() && !types.iter().any(fits) {
        return Err(format!("{value} is none of {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(name).ok_or_else(|| format!("{name} is missing"))?;
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(child) = value.get(name) {
            check(root, below, child, kind).map_err(|fault| format!("{name}: {fault}"))?;
        }
    }
    for child in value.as_array().into_iter().flatten() {
        check(root, &schema["items"], child, kind)?;
    }
    Ok(())
}
