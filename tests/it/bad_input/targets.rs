//! Objects that there are not, and ways to ask for them that mean nothing.

use super::table::{bad, machine, refused};

#[tokio::test]
async fn objects_are_named_in_a_form_that_exists() {
    let machine = machine().await;
    let long = format!("task/{}", "x".repeat(10 * 1024));
    let table = vec![
        bad(2, "widgets", ["get", "widgets"]),
        bad(2, "there is no kind \"widget\"", ["describe", "widget/x"]),
        bad(2, "name is empty", ["describe", "task/"]),
        bad(2, "there is no kind \"\"", ["describe", "/x"]),
        bad(2, "there is no kind \"a\"", ["describe", "a/b/c"]),
        bad(2, "name has 'A'", ["describe", "task/A_B"]),
        bad(2, "name has '/'", ["describe", "task/../x"]),
        bad(2, "is no name of an object", ["describe", "task/a\u{1b}[2Jb"]),
        bad(2, "at most", ["describe", &long]),
        bad(1, "there is no task \"none\"", ["describe", "task/none"]),
        bad(1, "there is no task \"none\"", ["explain", "task/none"]),
        bad(1, "there is no task \"none\"", ["logs", "task/none"]),
        bad(1, "there is no task \"none\"", ["cancel", "task/none"]),
        bad(1, "there is no task \"none\"", ["delete", "task/none"]),
        bad(1, "there is no workload \"none\"", ["get", "workload/none"]),
        bad(2, "node", ["cancel", "node/none"]),
        bad(2, "xml", ["get", "tasks", "-o", "xml"]),
        bad(2, "9..3", ["logs", "task/none", "--turn", "9..3"]),
        bad(2, "0", ["logs", "task/none", "--attempt", "0"]),
        bad(2, "nonsense", ["explain", "task.nonsense"]),
        bad(2, "widgets", ["explain", "widgets.spec"]),
        bad(2, "KIND/NAME", ["cancel"]),
        bad(
            1,
            "there is no workload \"no-such-workload\"",
            ["run", "--continue", "no-such-workload", "--model-url", &machine.model.url],
        ),
    ];
    refused(&machine, table).await;
}
