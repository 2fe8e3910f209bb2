//! Limits of control groups, version 1 and 2, nested: the smallest limit on the path counts.
//!
//! `memory.high` is not read: a group above it is slowed down, not refused.

use std::path::{Component, Path, PathBuf};

use crate::limits::CGROUP_DEPTH_MAX;
use crate::sys::{RawMemory, Sys};

/// A line of `/proc/self/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The controllers of a version 1 hierarchy; empty for version 2.
    pub controllers: Vec<String>,
    /// The group's path inside its hierarchy.
    pub path: PathBuf,
}

/// A mounted control group hierarchy, from `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which group of the hierarchy is mounted here.
    pub root: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// The controllers of a version 1 hierarchy; empty for version 2.
    pub controllers: Vec<String>,
    /// Whether it is version 2.
    pub unified: bool,
}

/// Parses `/proc/self/cgroup`; lines that are none are left out.
pub fn parse_memberships(text: &str) -> Vec<Membership> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let controllers = split_commas(controllers);
        path.starts_with('/').then(|| Membership { controllers, path: PathBuf::from(path) })
    };
    text.lines().filter_map(line).collect()
}

/// Parses the control group mounts of `/proc/self/mountinfo`; other lines are left out.
pub fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, at) = (front.next()?, front.next()?);
    let mut back = back.split(' ');
    let unified = match back.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let controllers = if unified { Vec::new() } else { split_commas(back.nth(1)?) };
    Some(Mount { root: unescape(root), at: unescape(at), controllers, unified })
}

fn split_commas(text: &str) -> Vec<String> {
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Undoes the octal escapes of mountinfo (`\040` is a space).
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        if let (Some(code), Some(rest)) = (code, part.get(3..)) {
            plain.push(char::from(code));
            plain.push_str(rest);
        } else {
            plain.push('\\');
            plain.push_str(part);
        }
    }
    PathBuf::from(plain)
}

/// The folders of this process' group and its ancestors that can be seen, innermost first.
///
/// A container often sees a path that is not below what is mounted (no cgroup namespace, or a
/// path with `..`); then the mount itself is the group.
pub fn folders(membership: &Membership, mount: &Mount) -> Vec<PathBuf> {
    let inside = membership.path.strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    let innermost = if plain { mount.at.join(inside) } else { mount.at.clone() };
    let up = innermost.ancestors().take_while(|folder| folder.starts_with(&mount.at));
    let mut folders: Vec<PathBuf> = up.map(Path::to_path_buf).collect();
    // The outermost folder, the mount, is kept also when the path is absurdly deep.
    if folders.len() > CGROUP_DEPTH_MAX {
        folders.truncate(CGROUP_DEPTH_MAX - 1);
        folders.push(mount.at.clone());
    }
    folders
}

/// A hierarchy that governs this process: its folders, and whether it is version 2.
struct Hierarchy {
    folders: Vec<PathBuf>,
    unified: bool,
}

fn hierarchies(sys: &Sys, controller: &str) -> Vec<Hierarchy> {
    let text = |path| sys.read_if_there(Path::new(path)).unwrap_or_default();
    let memberships = parse_memberships(&text("/proc/self/cgroup"));
    let mounts = parse_mounts(&text("/proc/self/mountinfo"));
    let governs = |names: &[String]| names.iter().any(|name| name == controller);
    let mut found = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.unified || governs(&mount.controllers)) {
        let ours = memberships.iter().find(|membership| {
            if mount.unified {
                membership.controllers.is_empty()
            } else {
                governs(&membership.controllers)
            }
        });
        if let Some(membership) = ours {
            found.push(Hierarchy { folders: folders(membership, mount), unified: mount.unified });
        }
    }
    found
}

/// `memory` under the limits of the control groups this process is in.
pub fn limit_memory(sys: &Sys, memory: RawMemory) -> RawMemory {
    let mut limited = memory;
    for hierarchy in hierarchies(sys, "memory") {
        for folder in &hierarchy.folders {
            let Some(limit) = memory_limit(sys, folder, hierarchy.unified) else {
                continue;
            };
            // Version 1 writes "no limit" as a number larger than any machine.
            if limit >= memory.total_bytes {
                continue;
            }
            let used = memory_used(sys, folder, hierarchy.unified).unwrap_or(0);
            limited.total_bytes = limited.total_bytes.min(limit);
            limited.available_bytes = limited.available_bytes.min(limit.saturating_sub(used));
        }
    }
    limited.available_bytes = limited.available_bytes.min(limited.total_bytes);
    limited
}

fn memory_limit(sys: &Sys, folder: &Path, unified: bool) -> Option<u64> {
    if unified {
        return number(sys, &folder.join("memory.max"));
    }
    // The second number counts ancestors too, also those that a container cannot see.
    let own = number(sys, &folder.join("memory.limit_in_bytes"));
    let above = statistic(sys, folder, "hierarchical_memory_limit");
    own.into_iter().chain(above).min()
}

/// What the group uses and cannot give back: page cache that nobody touched lately can be.
fn memory_used(sys: &Sys, folder: &Path, unified: bool) -> Option<u64> {
    let (usage, cache) = if unified {
        ("memory.current", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "total_inactive_file")
    };
    let used = number(sys, &folder.join(usage))?;
    Some(used.saturating_sub(statistic(sys, folder, cache).unwrap_or(0)))
}

/// The processors that the quotas of the control groups allow, at least one; absent = no quota.
pub fn cpu_quota(sys: &Sys) -> Option<usize> {
    let mut smallest = None;
    for hierarchy in hierarchies(sys, "cpu") {
        for folder in &hierarchy.folders {
            let quota = if hierarchy.unified {
                sys.read_if_there(&folder.join("cpu.max")).and_then(|text| parse_cpu_max(&text))
            } else {
                let quota = number(sys, &folder.join("cpu.cfs_quota_us"));
                let period = number(sys, &folder.join("cpu.cfs_period_us"));
                quota.zip(period).and_then(|(quota, period)| whole_cores(quota, period))
            };
            smallest = smallest.into_iter().chain(quota).min();
        }
    }
    smallest
}

/// Parses `cpu.max`: `QUOTA PERIOD` in microseconds, or `max PERIOD` for no quota.
pub fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut fields = text.split_whitespace();
    let quota = fields.next()?.parse().ok()?;
    whole_cores(quota, fields.next()?.parse().ok()?)
}

/// Rounded down, because what is promised must be there; at least one, because we run.
fn whole_cores(quota_us: u64, period_us: u64) -> Option<usize> {
    let cores = quota_us.checked_div(period_us)?.max(1);
    Some(usize::try_from(cores).unwrap_or(usize::MAX))
}

/// A file that holds one number; absent for `max`, `-1` and everything else.
fn number(sys: &Sys, path: &Path) -> Option<u64> {
    sys.read_if_there(path)?.parse().ok()
}

/// A line `NAME NUMBER` of the group's `memory.stat`.
fn statistic(sys: &Sys, folder: &Path, name: &str) -> Option<u64> {
    let text = sys.read_if_there(&folder.join("memory.stat"))?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
