//! SIGTERM at four places: what runs hands over in time, and the next start goes on with it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::machine::{DRAIN_SECONDS, Ended, MEND_TURN, Machine, Running};
use super::place::Place;
use super::state::{
    assert_asked, assert_charged_once, assert_done_once, assert_readable, ends, phase,
};

/// What leaving may take beyond the drain's deadline, on a slow machine.
const MARGIN: Duration = Duration::from_secs(8);
/// How soon a process leaves that was told twice.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Sends SIGTERM and waits for the end; nothing that it started is left.
async fn drained(machine: &Machine, running: Running) -> Ended {
    let family = running.family();
    let told = Instant::now();
    running.signal(Signal::SIGTERM);
    let ended = running.ended().await;
    let limit = Duration::from_secs(DRAIN_SECONDS) + MARGIN;
    assert!(told.elapsed() < limit, "{:?}", told.elapsed());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    machine.assert_gone(&family).await;
    ended
}

async fn code_now(machine: &Machine) -> Value {
    machine.code_task("is there", |_| true).await
}

async fn drain_at(place: Place) {
    let machine = place.machine().await;
    let workload = machine.submit().await;
    let first = machine.up();
    place.reached(&machine).await;
    drained(&machine, first).await;

    let code = code_now(&machine).await;
    assert_eq!(phase(&code), "Pending", "{code:#}");
    assert_eq!(ends(&code), ["Drained"], "{code:#}");
    assert_eq!(code["status"]["checkpoint"]["turn"], json!(MEND_TURN), "{code:#}");
    assert_eq!(code["status"]["session"], Value::Null, "{code:#}");
    assert_readable(&machine, &workload).await;
    if place == Place::AfterPush {
        assert_eq!(machine.remote.branches().len(), 1);
    } else {
        assert_eq!(machine.remote.branches(), Vec::<String>::new(), "nothing was pushed");
    }
    machine.stop_nowhere();
    machine.model.let_go();

    let second = machine.up();
    let code = assert_done_once(&machine, &workload).await;
    assert_asked(&machine, &place.asked_again(1));
    assert_charged_once(&code);
    assert_eq!(ends(&code), ["Drained", "Finished"], "{code:#}");
    drained(&machine, second).await;
}

#[tokio::test]
async fn sigterm_in_a_model_call_hands_over() {
    drain_at(Place::ModelCall).await;
}

#[tokio::test]
async fn sigterm_in_a_tool_hands_over() {
    drain_at(Place::Tool).await;
}

#[tokio::test]
async fn sigterm_in_the_gate_hands_over() {
    drain_at(Place::Gate).await;
}

#[tokio::test]
async fn sigterm_before_a_push_that_does_not_end_hands_over() {
    drain_at(Place::BeforePush).await;
}

#[tokio::test]
async fn sigterm_after_a_push_that_does_not_end_hands_over() {
    drain_at(Place::AfterPush).await;
}

#[tokio::test]
async fn a_push_that_ends_in_time_is_not_interrupted_by_sigterm() {
    let place = Place::BeforePush;
    let machine = place.machine().await;
    let workload = machine.submit().await;
    let first = machine.up();
    place.reached(&machine).await;
    first.signal(Signal::SIGTERM);
    machine.let_git_go().await;
    let ended = first.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let code = code_now(&machine).await;
    assert_eq!((phase(&code), ends(&code)), ("Succeeded", vec!["Finished"]), "{code:#}");
    machine.stop_nowhere();
    let second = machine.up();
    let code = assert_done_once(&machine, &workload).await;
    assert_asked(&machine, &[]);
    assert_charged_once(&code);
    assert_eq!(machine.pushes(), 1);
    drained(&machine, second).await;
}

#[tokio::test]
async fn a_second_sigterm_leaves_at_once_and_the_next_start_adopts() {
    // A push that does not end is what a drain waits for.
    let place = Place::BeforePush;
    let machine = place.machine().await;
    let workload = machine.submit().await;
    let first = machine.up();
    place.reached(&machine).await;
    let family = first.family();
    first.signal(Signal::SIGTERM);
    machine.object("nodes", "", "draining", |node| phase(node) == "Draining").await;
    let told = Instant::now();
    first.signal(Signal::SIGTERM);
    let ended = first.ended().await;
    assert!(told.elapsed() < AT_ONCE, "{:?}", told.elapsed());
    assert_eq!(ended.code, Some(143), "{ended:?}");
    machine.assert_gone(&family).await;
    let code = code_now(&machine).await;
    assert_eq!(phase(&code), "Running", "the claim stays: {code:#}");

    machine.stop_nowhere();
    let second = machine.up();
    let code = assert_done_once(&machine, &workload).await;
    assert_asked(&machine, &[]);
    assert_charged_once(&code);
    // It had said goodbye: no fault of the work, so nothing to count against it.
    assert_eq!(ends(&code), ["Drained", "Finished"], "{code:#}");
    drained(&machine, second).await;
}
