//! The rights that the calling thread gives up, for itself and for all that it
//! starts: files and network by Landlock, capabilities, system calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use nix::sys::resource::{Resource, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs,
};

use super::super::environment::is_beneath;
use super::super::policy::Policy;
use super::{Failed, Step, seccomp};

/// Processes and threads of one command, in its own user namespace.
const PROCESSES_MAX: u64 = 4_096;
/// Size of one file a command writes, in bytes.
const FILE_BYTES_MAX: u64 = 32 << 30;
/// Landlock's newest rights that this code knows how to grant.
const LANDLOCK: ABI = ABI::V6;
/// Whether namespaces hold what the thread gives up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// New user, mount, pid, ipc and (without network) network namespaces.
    Namespaces,
    /// The host's namespaces.
    Host,
}

/// Gives up all that the policy does not grant. Returns the layers that the
/// system does not have.
pub(crate) fn restrict(policy: &Policy, within: Within) -> Result<Vec<(String, String)>, Failed> {
    let mut missing = Vec::new();
    limit_resources(within)?;
    set_no_new_privs(true).step("refuse new privileges")?;
    match landlock(policy, within)? {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            missing.push(("landlock".to_owned(), "the kernel enforces a part of it".to_owned()));
        }
        RulesetStatus::NotEnforced => {
            missing.push(("landlock".to_owned(), "the kernel does not have it".to_owned()));
        }
    }
    drop_capabilities(within)?;
    seccomp::refuse(policy.network, within)?;
    Ok(missing)
}

fn limit_resources(within: Within) -> Result<(), Failed> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).step("forbid core dumps")?;
    let limit = |resource, wanted: u64| -> Result<(), Failed> {
        let (_, hard) = nix::sys::resource::getrlimit(resource).step("read a limit")?;
        let value = wanted.min(hard);
        setrlimit(resource, value, value).step("set a limit")
    };
    limit(Resource::RLIMIT_FSIZE, FILE_BYTES_MAX)?;
    // On the host the count is over all processes of the user.
    if within == Within::Namespaces {
        limit(Resource::RLIMIT_NPROC, PROCESSES_MAX)?;
    }
    Ok(())
}

fn landlock(policy: &Policy, within: Within) -> Result<RulesetStatus, Failed> {
    let read = AccessFs::from_read(LANDLOCK);
    let all = AccessFs::from_all(LANDLOCK);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .step("landlock: files")?
        .scope(Scope::from_all(LANDLOCK))
        .step("landlock: scope")?;
    if within == Within::Host && !policy.network {
        rules = rules.handle_access(AccessNet::from_all(LANDLOCK)).step("landlock: network")?;
    }
    let mut rules = rules.create().step("landlock: create")?;
    let roots = policy.read.iter().filter(|path| path.is_dir()).cloned();
    let (listed, readable) = (roots.collect::<Vec<_>>(), expanded(&policy.read, &policy.hide));
    let writable = expanded(&policy.write, &policy.hide);
    let mut grants: Vec<(Vec<PathBuf>, BitFlags<AccessFs>)> = vec![
        (listed, AccessFs::ReadDir.into()),
        (readable, read),
        (writable, all),
        (
            paths(&[
                "/dev/null",
                "/dev/zero",
                "/dev/full",
                "/dev/random",
                "/dev/urandom",
                "/dev/tty",
            ]),
            device,
        ),
    ];
    if within == Within::Namespaces {
        grants.push((paths(&["/"]), AccessFs::ReadDir.into()));
        grants.push((
            paths(&["/proc"]),
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile,
        ));
        grants.push((paths(&["/dev/pts"]), device | AccessFs::ReadDir));
        grants.push((paths(&["/dev/shm", "/tmp", "/var/tmp"]), all));
    } else {
        grants.push((paths(HOST_PROC), AccessFs::ReadFile | AccessFs::ReadDir));
    }
    for (paths, access) in grants {
        rules = rules.add_rules(path_beneath_rules(&paths, access)).step("landlock: add rules")?;
    }
    let status = rules.restrict_self().step("landlock: enforce")?;
    Ok(status.ruleset)
}

/// What of the host's `/proc` tells nothing about other processes.
const HOST_PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/proc/sys/fs",
];

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// `roots` with what is hidden taken out: a folder that holds something hidden
/// is replaced by its other entries. Landlock only grants, it cannot deny.
fn expanded(roots: &[PathBuf], hidden: &[PathBuf]) -> Vec<PathBuf> {
    let mut result = BTreeSet::new();
    let mut queue: Vec<PathBuf> = roots.to_vec();
    while let Some(path) = queue.pop() {
        if hidden.iter().any(|hidden| is_beneath(&path, hidden)) {
            continue;
        }
        let holds_hidden = |path: &Path| hidden.iter().any(|hidden| is_beneath(hidden, path));
        if holds_hidden(&path) && path.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            queue.extend(entries.map(|entry| entry.path()));
        } else {
            result.insert(path);
        }
    }
    result.into_iter().collect()
}

/// Drops every capability and locks user 0 out of getting them back.
fn drop_capabilities(within: Within) -> Result<(), Failed> {
    clear_ambient_capability_set().step("clear ambient capabilities")?;
    for capability in CapabilitySet::all().iter() {
        // An error is a capability that this kernel does not know, or a right to
        // drop that we do not have: then no exec of ours can gain it either.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            let dropped = remove_capability_from_bounding_set(capability);
            if within == Within::Namespaces {
                dropped.step("drop a capability")?;
            }
        }
    }
    if nix::unistd::geteuid().is_root() {
        let locked = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED;
        let given_up = set_capabilities_secure_bits(locked);
        // Root of a container may lack the right to this. No new privileges means
        // that an exec gives it no more than the empty set it has below.
        if within == Within::Namespaces {
            given_up.step("give up root's rights")?;
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).step("drop capabilities")
}
