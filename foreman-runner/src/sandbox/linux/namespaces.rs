//! Entering new namespaces, and loopback in the network namespace.

use std::fs;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::unistd::{getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities,
};

use super::{Failed, Step};

/// Enters user, mount, pid, ipc, uts and (without `network`) network
/// namespaces, the same user inside as outside. The pid namespace begins with
/// the next child. The caller must be its process's only thread.
pub(crate) fn enter(network: bool) -> Result<(), Failed> {
    let (user, group) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).step("enter new namespaces")?;
    fs::write("/proc/self/setgroups", "deny").step("refuse setgroups")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).step("map the user")?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).step("map the group")?;
    if !network {
        raise_loopback().step("raise loopback")?;
    }
    keep_capabilities_over_exec()
}

/// The next life needs the right to mount; a user other than 0 would lose it at
/// exec.
fn keep_capabilities_over_exec() -> Result<(), Failed> {
    let held = capabilities(None).step("read capabilities")?;
    let sets = CapabilitySets { inheritable: held.permitted, ..held };
    set_capabilities(None, sets).step("make capabilities inheritable")?;
    for capability in [CapabilitySet::SYS_ADMIN, CapabilitySet::SETPCAP, CapabilitySet::KILL] {
        configure_capability_in_ambient_set(capability, true)
            .step("keep capabilities over exec")?;
    }
    Ok(())
}

/// `ip link set lo up`, by netlink: the ioctl would need unsafe code.
fn raise_loopback() -> nix::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let request = link_up_request();
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // An answer is an nlmsghdr (16 bytes) and the negated errno.
    let code = answer.get(16..20).filter(|_| length >= 20);
    let code = code.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(errno) => Err(nix::Error::from_raw(-errno)),
        None => Err(nix::Error::EPROTO),
    }
}

/// `RTM_NEWLINK` for interface 1 (always loopback) with `IFF_UP`.
fn link_up_request() -> Vec<u8> {
    const LENGTH: u32 = 32;
    const LOOPBACK_INDEX: i32 = 1;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).unwrap_or_default();
    let up = u32::try_from(libc::IFF_UP).unwrap_or_default();
    let mut request = Vec::new();
    request.extend(LENGTH.to_ne_bytes());
    request.extend(libc::RTM_NEWLINK.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend(1_u32.to_ne_bytes()); // sequence
    request.extend(0_u32.to_ne_bytes()); // port
    request.extend([0_u8, 0]); // family, padding
    request.extend(0_u16.to_ne_bytes()); // device type
    request.extend(LOOPBACK_INDEX.to_ne_bytes());
    request.extend(up.to_ne_bytes()); // flags
    request.extend(up.to_ne_bytes()); // which of them change
    request
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_link_request_is_as_long_as_it_says() {
        let request = super::link_up_request();
        assert_eq!(request.len(), 32);
        assert_eq!(request.get(0..4), Some(32_u32.to_ne_bytes().as_slice()));
    }
}
