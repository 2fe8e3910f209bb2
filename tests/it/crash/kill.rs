//! kill -9 at the five places where a run can be.

use std::path::Path;

use serde_json::{Value, json};

use super::machine::{COMMAND_TURN, Machine, Running};
use super::place::Place;
use super::state::{
    assert_asked, assert_charged_once, assert_done_once, assert_readable, ends, phase,
};

async fn adopted(machine: &Machine, attempt: i64) -> Value {
    machine
        .code_task(&format!("attempt {attempt}"), |task| {
            task["status"]["attempt"] == json!(attempt)
        })
        .await
}

async fn kill_at(place: Place, kills: usize) {
    let machine = place.machine().await;
    let workload = machine.submit().await;
    let first = machine.up();
    place.reached(&machine).await;
    first.kill(&machine).await;
    let left = machine.get("tasks").await.into_iter().find(|task| phase(task) == "Running");
    assert_eq!(left.expect("the claim stays")["status"]["attempt"], json!(1));
    assert_readable(&machine, &workload).await;
    machine.stop_nowhere();

    for kill in 1..kills {
        let again: Running = machine.up();
        if place == Place::ModelCall {
            machine.model.asked_for(COMMAND_TURN, 1 + kill).await;
        } else {
            adopted(&machine, i64::try_from(kill).expect("few") + 1).await;
        }
        again.kill(&machine).await;
        assert_readable(&machine, &workload).await;
    }

    machine.model.let_go();
    let last = machine.up();
    let code = assert_done_once(&machine, &workload).await;
    assert_asked(&machine, &place.asked_again(kills));
    assert_charged_once(&code);
    let mut wanted = vec!["Adopted"; kills];
    wanted.push("Finished");
    assert_eq!(ends(&code), wanted, "{code:#}");
    assert_eq!(code["status"]["attempt"], json!(kills + 1));
    assert!(machine.pushes() <= kills + 1, "{}", machine.pushes());
    // Trees of work that is at the remote are removed.
    let data = machine.data();
    assert!(data.join("workspaces").is_dir(), "this is where trees are");
    let folders = ["workspaces/default", "git", "private"].map(|name| data.join(name));
    machine.wait("the removal of every tree", || folders.iter().all(|it| is_empty(it))).await;
    last.kill(&machine).await;
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[tokio::test]
async fn killed_in_a_model_call_it_asks_that_turn_again() {
    kill_at(Place::ModelCall, 1).await;
}

#[tokio::test]
async fn killed_twice_in_a_model_call_it_asks_that_turn_again() {
    kill_at(Place::ModelCall, 2).await;
}

#[tokio::test]
async fn killed_in_a_tool_it_tells_the_model_and_does_not_run_it_again() {
    kill_at(Place::Tool, 1).await;
}

#[tokio::test]
async fn killed_in_a_tool_and_right_after_the_restart_it_goes_on() {
    kill_at(Place::Tool, 2).await;
}

#[tokio::test]
async fn killed_in_the_gate_it_judges_again() {
    kill_at(Place::Gate, 1).await;
}

#[tokio::test]
async fn killed_in_the_gate_and_right_after_the_restart_it_judges_again() {
    kill_at(Place::Gate, 2).await;
}

#[tokio::test]
async fn killed_between_intent_and_push_it_pushes_once() {
    kill_at(Place::BeforePush, 1).await;
}

#[tokio::test]
async fn killed_between_intent_and_push_and_right_after_the_restart_it_pushes_once() {
    kill_at(Place::BeforePush, 2).await;
}

#[tokio::test]
async fn killed_between_push_and_terminal_write_it_finds_its_push() {
    kill_at(Place::AfterPush, 1).await;
}

#[tokio::test]
async fn killed_between_push_and_terminal_write_and_right_after_the_restart_it_finds_its_push() {
    kill_at(Place::AfterPush, 2).await;
}
