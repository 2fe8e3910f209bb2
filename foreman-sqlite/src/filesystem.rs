//! Where a store may lie: SQLite's locks and shared memory do not hold on network file systems.

/// Says which network file system `directory` is on, if it is on one.
#[cfg(target_os = "linux")]
pub(crate) fn network(directory: &std::path::Path) -> std::io::Result<Option<String>> {
    let kind = rustix::fs::statfs(directory)?.f_type & 0xffff_ffff;
    if kind != FUSE {
        return Ok(known(kind).map(ToOwned::to_owned));
    }
    let device = rustix::fs::stat(directory)?.st_dev;
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    // Without /proc nothing more is known of a FUSE mount, and refusing is the safe side.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(fuse(&mounts, &device))
}

/// Says whether `directory` is on a file system that is not local.
#[cfg(target_os = "macos")]
pub(crate) fn network(directory: &std::path::Path) -> std::io::Result<Option<String>> {
    const MNT_LOCAL: u32 = 0x1000;
    let local = rustix::fs::statfs(directory)?.f_flags & MNT_LOCAL != 0;
    Ok((!local).then(|| "a network file system".to_owned()))
}

/// Elsewhere it is not known how to tell.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) fn network(_: &std::path::Path) -> std::io::Result<Option<String>> {
    Ok(None)
}

/// `FUSE_SUPER_MAGIC`: what it is, only the mount table tells.
#[cfg(any(target_os = "linux", test))]
const FUSE: i64 = 0x6573_5546;

/// The network file system with that `statfs` magic number (linux/magic.h and the file systems' own).
#[cfg(any(target_os = "linux", test))]
fn known(kind: i64) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        0x786f_4256 => "a VirtualBox shared folder",
        FUSE => "FUSE",
        _ => return None,
    })
}

/// FUSE file systems that keep their data on this machine.
#[cfg(any(target_os = "linux", test))]
const FUSE_LOCAL: [&str; 4] = ["fuseblk", "fuse.fuse-overlayfs", "fuse.bindfs", "fuse.gocryptfs"];

/// What a FUSE mount is, by the mount table: absent when it is local.
#[cfg(any(target_os = "linux", test))]
fn fuse(mounts: &str, device: &str) -> Option<String> {
    // mountinfo(5): id parent major:minor root mountpoint options [optional]* - fstype source super
    let kind = mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        (mount.split(' ').nth(2) == Some(device)).then(|| filesystem.split(' ').next())?
    });
    match kind {
        Some(kind) if FUSE_LOCAL.contains(&kind) => None,
        Some(kind) => Some(kind.to_owned()),
        None => Some("FUSE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:51 / /home/a/remote rw,nosuid - fuse.sshfs host:/data rw,user_id=0
41 22 0:52 / /merged rw shared:9 master:2 - fuse.fuse-overlayfs fuse-overlayfs rw
";

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(known(0x6969), Some("NFS"));
        assert_eq!(known(0xff53_4d42), Some("SMB"));
        assert_eq!(known(0x0102_1997), Some("9p"));
        // ext4, btrfs, tmpfs, overlayfs
        for local in [0xef53, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(known(local), None, "{local:x}");
        }
    }

    #[test]
    fn a_fuse_mount_is_judged_by_the_mount_table() {
        assert_eq!(fuse(MOUNTS, "0:51"), Some("fuse.sshfs".to_owned()));
        assert_eq!(fuse(MOUNTS, "0:52"), None);
        assert_eq!(fuse(MOUNTS, "0:99"), Some("FUSE".to_owned()));
    }

    #[test]
    fn a_local_directory_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(network(directory.path()).expect("statfs"), None);
    }
}
