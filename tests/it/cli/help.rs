//! Help, completion, version, settings, wrong usage.

use std::io::Read as _;
use std::process::Stdio;

use super::lab::{Lab, task};

#[test]
fn help_teaches_without_any_settings() {
    let lab = Lab::new();
    lab.write("home/.config/foreman/config.toml", "this is no toml");
    lab.run(&["--help"]).exits(0).says("foreman demo").says("doctor");
    lab.run(&["get", "--help"]).exits(0).says("Examples:").says("foreman get tasks");
    lab.run(&["help", "explain"]).exits(0).says("KIND[.field]");
    lab.run(&["help", "exit-codes"]).exits(0).says("infrastructure").says("130");
    lab.run(&["help", "environment"]).exits(0).says("FOREMAN_DATA_DIR").says("NO_COLOR");
    lab.run(&["help", "files"]).exits(0).says(".foreman.toml");
    lab.run(&["version"]).exits(0).says("foreman 0.1.0");
    lab.run(&["help", "doktor"]).exits(2).complains("did you mean foreman help doctor?");
    let settings = lab.run(&["get", "tasks"]).exits(2);
    settings.complains("config.toml").complains("error: ");
}

#[test]
fn wrong_usage_is_2_and_changes_nothing() {
    let lab = Lab::new();
    for arguments in [
        &["nonsense"][..],
        &[],
        &["get"],
        &["get", "taks"],
        &["get", "tasks", "-o", "xml"],
        &["get", "tasks", "--field-selector", "colour=red"],
        &["get", "tasks", "-l", "novalue"],
        &["get", "task/Not_A_Name"],
        &["get", "tasks", "-n", "Not_A_Namespace"],
        &["describe", "task"],
        &["explain", "workload.spec.nothing"],
        &["explain", "nothing"],
        &["logs", "--turn", "3..1", "x"],
        &["logs", "--attempt", "0", "x"],
        &["cancel", "agent/a"],
        &["delete"],
        &["apply"],
        &["apply", "-f", "/nowhere.yaml"],
        &["validate", "-f", "/nowhere"],
        &["completion", "tcsh"],
        &["probe", "--sandbox", "thick"],
        &["probe", "--slots", "-1"],
        &["get", "tasks", "--log-level", "=["],
    ] {
        let ended = lab.run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(
            !ended.err.is_empty() && !ended.err.contains("panicked"),
            "{arguments:?}: {ended:?}"
        );
        assert!(ended.out.is_empty(), "{arguments:?}: {ended:?}");
    }
    assert!(!lab.data_dir().exists(), "nothing was made");
}

#[test]
fn settings_come_from_flag_variable_and_file_in_this_order() {
    let lab = Lab::new();
    lab.write("home/.config/foreman/config.toml", "namespace = \"from-file\"\n");
    lab.apply(&task("a", ""));
    let namespace = |arguments: &[&str], variable: Option<&str>| {
        let mut command = lab.command(arguments);
        if let Some(variable) = variable {
            command.env("FOREMAN_NAMESPACE", variable);
        }
        let output = command.output().expect("started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    lab.run(&["get", "task/a", "-o", "json"]).exits(0).says("\"namespace\": \"from-file\"");
    let text = namespace(&["get", "tasks"], Some("from-variable"));
    assert!(text.contains("in namespace from-variable"), "{text}");
    let text = namespace(&["get", "tasks", "-n", "from-flag"], Some("from-variable"));
    assert!(text.contains("in namespace from-flag"), "{text}");
}

#[test]
fn completion_knows_the_names_in_the_store() {
    let lab = Lab::new();
    lab.apply(&(task("alpha", "") + &task("beta", "")));
    lab.run(&["completion", "bash"]).exits(0).says("FOREMAN_COMPLETE");
    let output = lab
        .command(&["--", "foreman", "describe", "task/al"])
        .envs([("FOREMAN_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2"), ("_CLAP_IFS", "\n")])
        .output()
        .expect("started");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "task/alpha");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let lab = Lab::new();
    let many: String = (0..400).map(|n| task(&format!("task-{n}"), "")).collect();
    lab.apply(&many);
    let mut command = lab.command(&["get", "tasks", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut some = [0_u8; 16];
    child.stdout.take().expect("piped").read_exact(&mut some).expect("it began");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let lab = Lab::new();
    lab.apply(&task("a", ""));
    lab.task_status("a", &serde_json::json!({"phase": "Failed"}));
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = lab.command(&["get", "tasks"]);
        let output = command.envs(variables.iter().copied()).output().expect("started");
        output.stdout.contains(&0x1b)
    };
    assert!(!coloured(&[]), "no terminal, no colours");
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(coloured(&[("FORCE_COLOR", "1")]));
    assert!(!coloured(&[("FORCE_COLOR", "1"), ("NO_COLOR", "1")]));
    assert!(!coloured(&[("FORCE_COLOR", "0")]));
}
