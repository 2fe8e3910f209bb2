//! The command reference as Markdown, made from the command tree itself: the page in the book is this
//! text, and a test holds it to that.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

/// What stands before the verbs.
const PREFACE: &str = "\
# Commands

<!-- Made from the command line itself: UPDATE_EXPECT=1 cargo test -p foreman-bin reference -->

`foreman VERB --help` and `foreman help VERB` show the same. Objects are named `KIND/NAME`; `KIND/@latest` is the newest. Kinds: `workload` (`wl`),
`task` (`at`), `node` (`fn`), `agent` (`ag`), `release` (`agr`), `profile` (`mp`), in full, plural or short.

Results go to stdout; progress, warnings and logs to stderr. Every verb ends with one of the [exit codes](exit-codes.md).
";
/// Groups of flags that several verbs share: their heading in the help.
const SHARED: [&str; 3] = ["Global options", "Model options", "Node options"];

/// The whole page.
pub fn markdown() -> String {
    let mut root = Cli::command().bin_name("foreman").disable_help_flag(true);
    root.build();
    let mut page = PREFACE.to_owned();
    for verb in root.get_subcommands() {
        put(&mut page, &section(verb));
    }
    for heading in SHARED {
        // Every verb that has the group has the same; the global one is of all.
        let owner = root.get_subcommands().find(|verb| !of_group(verb, Some(heading)).is_empty());
        let flags = owner.map(|verb| of_group(verb, Some(heading))).unwrap_or_default();
        let all = if heading == "Global options" { "Of every verb.\n\n" } else { "" };
        put(&mut page, &format!("\n## {heading}\n\n{all}{}", table(&flags)));
    }
    page
}

fn section(verb: &Command) -> String {
    let mut text = format!("\n## {}\n\n", verb.get_name());
    put(&mut text, &format!("{}.\n\n", styled(verb.get_about())));
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    put(&mut text, &format!("```text\n{usage}\n```\n\n"));
    let long = styled(verb.get_long_about());
    if !long.is_empty() {
        put(&mut text, &format!("{}\n\n", escaped(&long)));
    }
    let own = of_group(verb, None);
    if !own.is_empty() {
        put(&mut text, &format!("{}\n", table(&own)));
    }
    let groups: Vec<String> = SHARED
        .iter()
        .skip(1)
        .filter(|heading| !of_group(verb, Some(heading)).is_empty())
        .map(|heading| {
            let words = heading.to_lowercase();
            format!("the [{words}](#{})", words.replace(' ', "-"))
        })
        .collect();
    if !groups.is_empty() {
        put(&mut text, &format!("And {}.\n\n", groups.join(" and ")));
    }
    let after = styled(verb.get_after_long_help());
    if let Some((_, examples)) = after.split_once("Examples:\n") {
        let lines: Vec<&str> = examples.lines().map(str::trim).collect();
        put(&mut text, &format!("```sh\n{}\n```\n", lines.join("\n")));
    }
    text
}

/// The arguments under a heading; none = the verb's own.
fn of_group<'c>(verb: &'c Command, heading: Option<&str>) -> Vec<&'c Arg> {
    verb.get_arguments()
        .filter(|arg| arg.get_help_heading() == heading && arg.get_id() != "help")
        .collect()
}

fn table(flags: &[&Arg]) -> String {
    let mut text = "| Flag | Meaning |\n|---|---|\n".to_owned();
    for flag in flags {
        let name = flag.to_string().replace('|', "\\|");
        let short = flag.get_short().map_or_else(String::new, |short| format!("-{short}, "));
        put(&mut text, &format!("| `{short}{name}` | {} |\n", escaped(&meaning(flag))));
    }
    text
}

fn meaning(flag: &Arg) -> String {
    let mut text = styled(flag.get_long_help().or_else(|| flag.get_help())).replace('\n', " ");
    let values = flag.get_possible_values();
    if flag.get_action().takes_values() && !values.is_empty() {
        let explained = values.iter().any(|value| value.get_help().is_some());
        let each = values.iter().map(|value| match value.get_help() {
            Some(help) => format!("`{}` = {help}", value.get_name()),
            None => format!("`{}`", value.get_name()),
        });
        let each = each.collect::<Vec<_>>().join(if explained { "; " } else { ", " });
        put(&mut text, &format!(": {each}"));
    }
    let defaults = flag.get_default_values().iter().map(|value| value.to_string_lossy());
    let defaults = defaults.collect::<Vec<_>>().join(", ");
    if flag.get_action().takes_values() && !defaults.is_empty() {
        put(&mut text, &format!(" [default: {defaults}]"));
    }
    text
}

fn styled(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// Plain text as Markdown shows it unchanged.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|").replace('$', "\\$").replace('*', "\\*")
}

fn put(text: &mut String, more: &str) {
    // Writing into a string does not fail.
    let _infallible = text.write_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::settings::SETTINGS;

    const BOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/reference/");

    fn page(name: &str) -> String {
        std::fs::read_to_string(format!("{BOOK}{name}")).unwrap_or_default()
    }

    #[test]
    fn the_command_reference_in_the_book_is_the_command_line() {
        let wanted = markdown();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(format!("{BOOK}commands.md"), &wanted).expect("written");
        }
        assert_eq!(page("commands.md"), wanted, "run the test again with UPDATE_EXPECT=1");
    }

    #[test]
    fn the_other_references_in_the_book_name_everything() {
        let environment = page("environment.md");
        for setting in SETTINGS {
            let row = format!("| `{}` | ", setting.variable);
            assert!(environment.contains(&row), "{row} is not in environment.md");
        }
        for (names, _) in super::super::help_topics::HONOURED {
            for name in names.split(", ") {
                assert!(environment.contains(name), "{name} is not in environment.md");
            }
        }
        let codes = page("exit-codes.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(codes.contains(&row), "{row} is not in exit-codes.md");
        }
        let events = page("events.md");
        let schema = serde_json::to_string(&crate::events::schema()).expect("JSON");
        let types: Vec<&str> = schema
            .split("\"const\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(types.len() > 15, "{types:?}");
        for kind in types {
            assert!(events.contains(&format!("| `{kind}` | ")), "{kind} is not in events.md");
        }
    }
}
