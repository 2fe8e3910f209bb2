//! How commands end: by themselves, at their limit, with the agent; and that
//! nothing of them stays.

use std::process::{Command, Stdio};
use std::time::Duration;

use foreman_runner::sandbox::{
    Exit, Layout, ProcessSandbox, Sandbox, SandboxError, SandboxSettings, Tier, Unconfined,
};
use tokio_util::sync::CancellationToken;

use crate::support::{BOTH, Case, WITH, Way, World, processes_with, until};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "exit_codes_and_signals_are_the_commands",
        ways: BOTH,
        body: |w| Box::pin(exits(w)),
    },
    Case { name: "a_missing_program_is_an_error", ways: BOTH, body: |w| Box::pin(missing(w)) },
    Case { name: "a_failed_set_up_is_an_error", ways: WITH, body: |w| Box::pin(failed_setup(w)) },
    Case {
        name: "a_program_that_is_no_helper_is_an_error",
        ways: WITH,
        body: |w| Box::pin(no_helper(w)),
    },
    Case { name: "a_folder_outside_is_refused", ways: WITH, body: |w| Box::pin(outside_dir(w)) },
    Case { name: "a_command_ends_at_its_limit", ways: BOTH, body: |w| Box::pin(limit(w)) },
    Case {
        name: "a_command_that_ignores_term_is_killed",
        ways: BOTH,
        body: |w| Box::pin(stubborn(w)),
    },
    Case { name: "a_cancelled_command_ends", ways: BOTH, body: |w| Box::pin(cancelled(w)) },
    Case { name: "a_daemon_does_not_stay", ways: BOTH, body: |w| Box::pin(daemon(w)) },
    Case { name: "a_dropped_run_ends", ways: BOTH, body: |w| Box::pin(dropped(w)) },
    Case { name: "a_killed_agent_leaves_nothing", ways: BOTH, body: |w| Box::pin(killed_agent(w)) },
    Case {
        name: "long_output_keeps_head_and_tail",
        ways: BOTH,
        body: |w| Box::pin(long_output(w)),
    },
    Case {
        name: "unconfined_says_so_and_still_has_limits",
        ways: WITH,
        body: |w| Box::pin(unconfined(w)),
    },
];

async fn exits(world: World) {
    assert_eq!(world.sh("exit 0", &[]).await.exit, Exit::Code(0));
    assert_eq!(world.sh("exit 42", &[]).await.exit, Exit::Code(42));
    assert_eq!(world.sh("kill -11 $$", &[]).await.exit, Exit::Signal(11));
    assert_eq!(world.sh("no-such-program-fm", &[]).await.exit, Exit::Code(127));
}

async fn missing(world: World) {
    let error = world.run(&["no-such-program-fm"]).await.expect_err("no program");
    assert!(
        matches!(&error, SandboxError::Exec { program, source }
        if program == "no-such-program-fm" && source.kind() == std::io::ErrorKind::NotFound),
        "{error:?}"
    );
}

async fn failed_setup(world: World) {
    // Where the new root is to be mounted there is a file.
    assert_eq!(world.sh("true", &[]).await.exit, Exit::Code(0));
    let root = world.path("private/root");
    std::fs::remove_dir(&root).expect("remove");
    std::fs::write(&root, "").expect("write");
    let error = world.run(&["/bin/true"]).await.expect_err("no set-up");
    assert!(
        matches!(&error, SandboxError::Setup { step, .. } if step == "mount the new root"),
        "{error:?}"
    );
}

async fn no_helper(world: World) {
    let layout =
        Layout { tree: world.path("tree"), private: world.path("p2"), cache: world.path("cache") };
    let mut settings = SandboxSettings::new(layout);
    settings.helper = Some("/bin/true".into());
    let sandbox = ProcessSandbox::new(settings.clone(), Tier::None).expect("sandbox");
    let result = sandbox.run(world.command(&["/bin/true"]), &CancellationToken::new()).await;
    assert!(
        matches!(result, Err(SandboxError::Setup { .. } | SandboxError::Io { .. })),
        "{result:?}"
    );
    settings.helper = None;
    let refused = ProcessSandbox::new(settings, Tier::None);
    assert!(matches!(refused, Err(SandboxError::Unavailable { .. })));
}

async fn outside_dir(world: World) {
    std::os::unix::fs::symlink(world.folder.path(), world.path("tree/out")).expect("link");
    for dir in [world.path(""), world.path("tree/out"), world.path("tree/none"), "/".into()] {
        let mut command = world.command(&["/bin/true"]);
        command.dir = dir.clone();
        let result = world.sandbox.run(command, &CancellationToken::new()).await;
        assert!(
            matches!(result, Err(SandboxError::Invalid { .. })),
            "{}: {result:?}",
            dir.display()
        );
    }
}

async fn limit(world: World) {
    let marker = format!("{}.5", 4000 + std::process::id());
    let script = format!("echo begun; sleep {marker} & sleep {marker}");
    let mut command = world.command(&["/bin/sh", "-c", &script]);
    command.timeout = Duration::from_millis(500);
    let output = world.sandbox.run(command, &CancellationToken::new()).await.expect("runs");
    assert_eq!((output.exit, output.output.as_str()), (Exit::TimedOut, "begun\n"));
    assert!(output.duration < Duration::from_secs(4), "{:?}", output.duration);
    assert_eq!(processes_with(&marker), Vec::<i32>::new());
}

async fn stubborn(world: World) {
    let marker = format!("{}.6", 4000 + std::process::id());
    let script = format!("trap '' TERM; while :; do sleep {marker}; done");
    let mut command = world.command(&["/bin/sh", "-c", &script]);
    command.timeout = Duration::from_millis(300);
    let output = world.sandbox.run(command, &CancellationToken::new()).await.expect("runs");
    assert_eq!(output.exit, Exit::TimedOut);
    assert!(output.duration >= foreman_runner::sandbox::KILL_AFTER, "{:?}", output.duration);
    assert_eq!(processes_with(&marker), Vec::<i32>::new());
}

async fn cancelled(world: World) {
    let cancel = CancellationToken::new();
    let ready = world.path("tree/ready");
    let command = world.command(&["/bin/sh", "-c", "touch ready; sleep 300"]);
    let (output, ()) = tokio::join!(world.sandbox.run(command, &cancel), async {
        until("the command runs", || ready.exists()).await;
        cancel.cancel();
    });
    assert_eq!(output.expect("runs").exit, Exit::Cancelled);
}

async fn daemon(world: World) {
    let marker = format!("{}.7", 4000 + std::process::id());
    // A session of its own, twice forked, without our streams.
    let script = format!(
        "setsid sh -c 'setsid sleep {marker} </dev/null >/dev/null 2>&1 & echo started > flag' & \
         while [ ! -e flag ]; do :; done; exit 3"
    );
    let output = world.sh(&script, &[]).await;
    assert_eq!(output.exit, Exit::Code(3), "{}", output.output);
    assert_eq!(processes_with(&marker), Vec::<i32>::new());
}

async fn dropped(world: World) {
    let marker = format!("{}.8", 4000 + std::process::id());
    let script = format!("setsid sleep {marker} & touch ready; sleep {marker}");
    let ready = world.path("tree/ready");
    {
        let cancel = CancellationToken::new();
        let run = world.sandbox.run(world.command(&["/bin/sh", "-c", &script]), &cancel);
        let begun = until("the command runs", || ready.exists());
        tokio::select! {
            output = run => panic!("ended early: {output:?}"),
            () = begun => {}
        }
    }
    until("nothing is left", || processes_with(&marker).is_empty()).await;
}

async fn killed_agent(world: World) {
    let marker = format!("{}.9", 4000 + std::process::id());
    let script = format!("setsid sleep {marker} & touch ready; sleep {marker}");
    let mut agent = Command::new(std::env::current_exe().expect("own path"));
    agent.args(["role=agent", &world.text(""), &script]).stdout(Stdio::null());
    if world.way == Way::Fallback {
        agent.env("FALLBACK", "1");
    }
    let mut agent = agent.spawn().expect("agent");
    until("the command runs", || world.path("tree/ready").exists()).await;
    assert!(!processes_with(&marker).is_empty());
    agent.kill().expect("kill -9");
    agent.wait().expect("reap");
    until("nothing is left", || processes_with(&marker).is_empty()).await;
}

async fn long_output(world: World) {
    let mut command =
        world.command(&["/bin/sh", "-c", "echo HEAD; yes | head -c 1000000; echo TAIL"]);
    command.output_bytes_max = 1000;
    let output = world.sandbox.run(command, &CancellationToken::new()).await.expect("runs");
    assert_eq!((output.exit, output.truncated), (Exit::Code(0), true));
    assert!(output.output.starts_with("HEAD\n") && output.output.ends_with("TAIL\n"));
    assert!(output.output.len() < 1100, "{}", output.output.len());
}

async fn unconfined(world: World) {
    let layout =
        Layout { tree: world.path("tree"), private: world.path("p3"), cache: world.path("cache") };
    let mut settings = SandboxSettings::new(layout);
    settings.helper = None;
    let sandbox = Unconfined::new(settings).expect("no sandbox");
    assert_eq!(sandbox.tier(), Tier::None);
    let cancel = CancellationToken::new();
    let secret = world.text("secret");
    let output = sandbox.run(world.command(&["cat", &secret]), &cancel).await.expect("runs");
    assert_eq!((output.exit, output.output.as_str()), (Exit::Code(0), "TOPSECRET"));
    let mut command = world.command(&["sleep", "300"]);
    command.timeout = Duration::from_millis(200);
    let output = sandbox.run(command, &cancel).await.expect("runs");
    assert_eq!(output.exit, Exit::TimedOut);
}
