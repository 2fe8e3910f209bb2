//! Flags and variables that nobody can mean.

use super::table::{Bad, SECRET, bad, machine, refused};

#[tokio::test]
async fn flags_that_cannot_be_meant_are_wrong_usage() {
    let machine = machine().await;
    let m = &machine;
    let url = m.remote.url();
    let model = m.model.url.as_str();
    let with_secret = format!("http://user:{SECRET}@[::1");
    let run = |says: &str, more: &[&str]| -> Bad {
        let words =
            ["run", "--repo", &url, "--model-url", model].into_iter().chain(more.iter().copied());
        bad(2, says, words.chain(["greet"]).map(str::to_owned))
    };
    let table = vec![
        bad(2, "frobnicate", ["frobnicate"]),
        bad(2, "--frobnicate", ["up", "--frobnicate"]),
        bad(2, "extra", ["up", "extra"]),
        run("soon", &["--timeout", "soon"]).and("90s, 30m, 2h"),
        run("-1s", &["--timeout=-1s"]),
        run("9999999999", &["--timeout", "99999999999999999999h"]),
        run("money", &["--budget", "money=3"]).and("tokens, turns and wall"),
        run("-1", &["--budget", "tokens=-1"]),
        run("tokens=2M,turns=40,wall=3h", &["--budget", ""]),
        run("tokens=2M,turns=40,wall=3h", &["--budget", "2M"]),
        run("800, 200k or 2M", &["--budget", "turns="]),
        run("9999999999999999M", &["--budget", "tokens=9999999999999999M"]),
        run("loud", &["--progress", "loud"]),
        run("yaml", &["-o", "yaml"]),
        run("-1", &["--slots=-1"]),
        run("70000", &["--slots", "70000"]),
        run("wobbly", &["--sandbox", "wobbly"]).and("network"),
        run("-5", &["--drain-deadline=-5"]),
        run("much", &["--total-ram-gb", "much"]),
        run("--fleet-node-name", &["--fleet-node-name", "Not A Name"]),
        run("--fleet-node-name", &["--fleet-node-name", "a\u{1b}[31mb"]),
        run("namespace", &["--namespace", "Not Valid"]),
        run("namespace", &["--namespace", &"n".repeat(64)]),
        run("xml", &["--log-format", "xml"]),
        run("--log-level", &["--log-level", "foreman=loudest"]),
        bad(2, "--model-url", ["run", "--repo", &url, "--model-url", "not a url", "x"]),
        bad(2, "--model-url", ["run", "--repo", &url, "--model-url", "ftp://127.0.0.1/v1", "x"]),
        bad(2, "--model-url", ["run", "--repo", &url, "--model-url", &with_secret, "x"]),
        bad(
            4,
            "no model server found",
            ["run", "--repo", &url, "--model-url", "http://127.0.0.1:1/v1", "x"],
        )
        .and("refused"),
        bad(2, "often", ["up", "--heartbeat-interval", "often"]),
        bad(2, "-1", ["up", "--heartbeat-interval=-1"]),
        bad(2, "tcsh", ["completion", "tcsh"]),
        bad(2, "nothing-of-that-name", ["help", "nothing-of-that-name"]),
    ];
    refused(m, table).await;
}

#[tokio::test]
async fn variables_are_named_when_they_are_wrong() {
    let machine = machine().await;
    let url = machine.remote.url();
    let model = machine.model.url.as_str();
    let run = || ["run", "--repo", &url, "--model-url", model, "greet"];
    let set = |name: &'static str, value: &str| bad(2, name, run()).env(name, value);
    let table = vec![
        set("FOREMAN_SLOTS", "abc"),
        set("FOREMAN_SLOTS", "-1"),
        set("FOREMAN_SLOTS", "1e3"),
        set("FOREMAN_DRAIN_DEADLINE", "soon"),
        set("FOREMAN_NO_INPUT", "perhaps"),
        set("FOREMAN_LOG_FORMAT", "xml"),
        bad(2, "wobbly", run()).env("FOREMAN_SANDBOX", "wobbly"),
        set("FOREMAN_MAX_CONTEXT_TOKENS", "many"),
        set("FOREMAN_TOTAL_RAM_GB", "\u{1b}[31m"),
        bad(2, "Not A Name", run()).env("FOREMAN_FLEET_NODE_NAME", "Not A Name"),
        bad(2, "Not Valid", run()).env("FOREMAN_NAMESPACE", "Not Valid"),
        bad(2, "/no/such/config.toml", run()).env("FOREMAN_CONFIG", "/no/such/config.toml"),
        bad(2, "/no/such/key", run()).env("FOREMAN_MODEL_KEY_FILE", "/no/such/key"),
        bad(2, "/no/such/token", run()).env("FOREMAN_TOKEN_FILE", "/no/such/token"),
        bad(2, "FOREMAN_MODEL_URL", ["run", "--repo", &url, "greet"])
            .env("FOREMAN_MODEL_URL", "not a url"),
        // Others may serve: a variable of somebody else's is only passed over.
        bad(4, "OLLAMA_HOST not asked", ["run", "--repo", &url, "greet"])
            .env("OLLAMA_HOST", "not a host\u{7}"),
    ];
    refused(&machine, table).await;
}
