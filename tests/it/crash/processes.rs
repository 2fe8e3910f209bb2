//! Who descends from whom, as `/proc` tells it.

use std::collections::BTreeSet;

/// One process, told apart from a later one with the same number by when it began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pid: u32,
    began: u64,
}

/// Parent and beginning of a process that is neither gone nor only waited for.
fn look(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let began = fields.nth(17)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some((parent, began))
}

fn everybody() -> Vec<(u32, u32, u64)> {
    let entries = std::fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| look(pid).map(|(parent, began)| (pid, parent, began))).collect()
}

/// Everything below a process, itself left out.
pub(super) fn descendants(root: u32) -> Vec<Process> {
    let everybody = everybody();
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        let children = everybody.iter().filter(|(_, parent, _)| family.contains(parent));
        let children: Vec<u32> = children.map(|(pid, _, _)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            break;
        }
    }
    family.remove(&root);
    let below = everybody.iter().filter(|(pid, _, _)| family.contains(pid));
    below.map(|(pid, _, began)| Process { pid: *pid, began: *began }).collect()
}

/// What of them still lives, with what it runs.
pub(super) fn living(processes: &[Process]) -> Vec<String> {
    let alive =
        |process: &&Process| look(process.pid).is_some_and(|(_, began)| began == process.began);
    let shown = |process: &Process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        format!("{}: {}", process.pid, String::from_utf8_lossy(&line).replace('\0', " "))
    };
    processes.iter().filter(alive).map(shown).collect()
}
