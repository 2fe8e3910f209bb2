//! The embedding program runs and says what it should.

use std::process::Command;

#[test]
fn the_program_runs_its_task_and_leaves() {
    let run = Command::new(env!("CARGO_BIN_EXE_embed")).output().expect("started");
    assert!(run.status.success(), "{run:?}");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "HELLO, FLEET\n");
}
