//! System calls that a command has no use for and an attacker has.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::restrict::Within;
use super::{Failed, Step};

/// The bit that marks a call of the x32 interface; without it in the list, each
/// refused call would have an open twin.
const X32_BIT: i64 = 0x4000_0000;

/// The kind of a socket without its flags, and the kind "raw".
const SOCKET_KIND_MASK: u64 = 0xf;
const SOCKET_RAW: u64 = 3;
/// Requests of `ioctl` that type into a terminal.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;

/// Refused with "operation not permitted".
const REFUSED: &[i64] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Keys, tracing, modules and the like.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
];

/// Said not to exist, so that programs fall back: `clone3` hides its flags from
/// a filter, `io_uring` does calls that no filter sees.
const ABSENT: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Applies the filters to the calling thread.
pub(crate) fn refuse(network: bool, within: Within) -> Result<(), Failed> {
    let mut refused: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    refused.insert(libc::SYS_ioctl, terminal_input_rules()?);
    refused.insert(libc::SYS_clone, namespace_rules()?);
    apply(refused, libc::EPERM)?;
    apply(ABSENT.iter().map(|call| (*call, Vec::new())).collect(), libc::ENOSYS)?;
    let sockets = BTreeMap::from([(libc::SYS_socket, socket_rules(network, within)?)]);
    apply(sockets, libc::EAFNOSUPPORT)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn apply(mut rules: Rules, errno: i32) -> Result<(), Failed> {
    if cfg!(target_arch = "x86_64") {
        let twins: Vec<_> =
            rules.iter().map(|(call, rule)| (call | X32_BIT, rule.clone())).collect();
        rules.extend(twins);
    }
    let step = "build the filter of system calls";
    let arch = std::env::consts::ARCH.try_into().step(step)?;
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).step(step)?;
    let program: BpfProgram = filter.try_into().step(step)?;
    apply_filter(&program).step("apply the filter of system calls")
}

/// Typing into a terminal that others read.
fn terminal_input_rules() -> Result<Vec<SeccompRule>, Failed> {
    [TIOCSTI, TIOCLINUX]
        .into_iter()
        .map(|request| rule(&[(1, SeccompCmpOp::Eq, request)]))
        .collect()
}

/// New namespaces by clone.
fn namespace_rules() -> Result<Vec<SeccompRule>, Failed> {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let flag = |flag: i32| u64::from(flag.unsigned_abs());
    flags.into_iter().map(|it| rule(&[(0, SeccompCmpOp::MaskedEq(flag(it)), flag(it))])).collect()
}

/// Families of sockets that are not on the list of allowed ones. Without a
/// network namespace and without the network that list is empty: a socket of the
/// host's file system (Docker's, an agent's) is as good as a network.
fn socket_rules(network: bool, within: Within) -> Result<Vec<SeccompRule>, Failed> {
    let unix = libc::AF_UNIX;
    let internet = [libc::AF_INET, libc::AF_INET6];
    let allowed: Vec<i32> = match (within, network) {
        (Within::Namespaces, _) => vec![unix, libc::AF_INET, libc::AF_INET6],
        (Within::Host, true) => internet.to_vec(),
        (Within::Host, false) => Vec::new(),
    };
    if allowed.is_empty() {
        return Ok(Vec::new());
    }
    let others: Vec<_> = allowed
        .into_iter()
        .map(|family| (0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())))
        .collect();
    // Raw packets are for those who look at other people's traffic.
    let raw = (1, SeccompCmpOp::MaskedEq(SOCKET_KIND_MASK), SOCKET_RAW);
    Ok(vec![rule(&others)?, rule(&[raw])?])
}

/// All conditions together: argument, comparison, value.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Failed> {
    let step = "build a rule of system calls";
    let conditions = conditions.iter().map(|(argument, comparison, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>().step(step)?).step(step)
}
