//! The root that a command sees: what was granted, and nothing else. What is
//! not there cannot be read, changed in mode or owner, or connected to.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::super::environment::is_beneath;
use super::super::policy::Policy;
use super::{Failed, Step};

/// Size of the file systems in memory: the new root's skeleton, `/dev/shm`.
const SKELETON: &str = "mode=755,size=16m";
const SHARED_MEMORY: &str = "mode=1777,size=512m";

/// Devices any program may expect.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// One thing to show in the new root.
struct Shown {
    source: PathBuf,
    target: PathBuf,
    writable: bool,
}

/// Puts the new root together and makes it the process's root. Returns what
/// could not be had and is not essential.
pub(crate) fn change_root(policy: &Policy) -> Result<Vec<(String, String)>, Failed> {
    let root = &policy.new_root;
    let mut missing = Vec::new();
    bare_mount(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        .step("detach the mounts")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    bare_mount(Some(Path::new("tmpfs")), root, Some("tmpfs"), quiet, Some(SKELETON))
        .step("mount the new root")?;
    show_links(root)?;
    make_proc(root, &mut missing)?;
    make_dev(root)?;
    for path in policy.read.iter().chain(&policy.write) {
        show_granted_link(root, path)?;
    }
    for shown in shown_in_order(policy) {
        show(root, &shown)?;
    }
    for hidden in &policy.hide {
        hide(root, hidden)?;
    }
    for protected in &policy.protect {
        let target = inside(root, protected);
        if target.exists() {
            bind(&target, &target, false)?;
        }
    }
    pivot(root)?;
    Ok(missing)
}

/// Whether a file system in memory can be mounted at `place`.
pub(crate) fn try_mount(place: &Path) -> Result<(), Failed> {
    bare_mount(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        .step("detach the mounts")?;
    bare_mount(Some(Path::new("tmpfs")), place, Some("tmpfs"), MsFlags::empty(), Some(SKELETON))
        .step("mount in a user namespace")
}

fn bare_mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> nix::Result<()> {
    mount(source, target, kind, flags, data)
}

/// Links at the top of the system, such as `/bin`, as they are.
fn show_links(root: &Path) -> Result<(), Failed> {
    for entry in fs::read_dir("/").step("read /")?.flatten() {
        let Ok(destination) = fs::read_link(entry.path()) else {
            continue;
        };
        let link = inside(root, &entry.path());
        symlink(destination, &link).step("make a link of the new root")?;
    }
    Ok(())
}

/// What to mount, at real paths, parents before what lies beneath them, and
/// nothing twice.
fn shown_in_order(policy: &Policy) -> Vec<Shown> {
    let real = |path: &Path, writable| {
        let source = path.canonicalize().ok()?;
        Some(Shown { target: source.clone(), source, writable })
    };
    let granted = policy.read.iter().filter_map(|path| real(path, false));
    let granted = granted.chain(policy.write.iter().filter_map(|path| real(path, true)));
    let mut wanted: Vec<Shown> = granted.collect();
    for target in ["/tmp", "/var/tmp"] {
        let (source, target) = (policy.tmp.clone(), PathBuf::from(target));
        wanted.push(Shown { source, target, writable: true });
    }
    let depth = |shown: &Shown| shown.target.components().count();
    // At one place what is writable comes last and lies on top.
    wanted.sort_by(|left, right| {
        depth(left).cmp(&depth(right)).then(left.writable.cmp(&right.writable))
    });
    let mut shown: Vec<Shown> = Vec::new();
    for one in wanted {
        let around = shown.iter().rfind(|it| is_beneath(&one.target, &it.target));
        // Already there, as readable as it would be made.
        let there = around.is_some_and(|it| {
            it.source == it.target && it.writable == one.writable && one.source == one.target
        });
        if !there {
            shown.push(one);
        }
    }
    shown
}

/// The place of `path` in the new root.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Mounts one thing at its path in the new root.
fn show(root: &Path, shown: &Shown) -> Result<(), Failed> {
    let target = inside(root, &shown.target);
    make_place(&shown.source, &target)?;
    bind(&shown.source, &target, shown.writable)
}

/// A granted path that is a link, as the link it is.
fn show_granted_link(root: &Path, path: &Path) -> Result<(), Failed> {
    let target = inside(root, path);
    if let (Ok(destination), Some(parent)) = (fs::read_link(path), target.parent())
        && fs::symlink_metadata(&target).is_err()
    {
        fs::create_dir_all(parent).step("make a folder of the new root")?;
        symlink(destination, &target).step("make a link of the new root")?;
    }
    Ok(())
}

/// An empty file or folder to mount on, unless there is one.
fn make_place(source: &Path, target: &Path) -> Result<(), Failed> {
    let step = || format!("make a place for {}", source.display());
    if target.exists() {
        return Ok(());
    }
    if source.is_dir() {
        return fs::create_dir_all(target).step(&step());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).step(&step())?;
    }
    fs::write(target, "").step(&step())
}

/// Binds `source` with all that is mounted beneath it, read-only unless
/// `writable`.
fn bind(source: &Path, target: &Path, writable: bool) -> Result<(), Failed> {
    let step = format!("bind {}", source.display());
    bare_mount(Some(source), target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None).step(&step)?;
    for place in mounts_beneath(target)? {
        // A mount beneath a writable folder was not granted for itself.
        remount(&place, writable && place == target)?;
    }
    if !writable && !statvfs(target).step(&step)?.flags().contains(FsFlags::ST_RDONLY) {
        return Err(Failed::new(step, "it stayed writable"));
    }
    Ok(())
}

/// Remounts one mount with its locked flags, and ours.
fn remount(place: &Path, writable: bool) -> Result<(), Failed> {
    let Ok(state) = statvfs(place) else {
        return Ok(());
    };
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let locked = [
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
    ];
    for (held, flag) in locked {
        if state.flags().contains(held) {
            flags |= flag;
        }
    }
    if !writable {
        flags |= MsFlags::MS_RDONLY;
    }
    match bare_mount(None, place, None, flags, None) {
        // Covered by another mount: nobody can get there.
        Err(nix::Error::EINVAL) => Ok(()),
        other => other.step(&format!("restrict the mount {}", place.display())),
    }
}

/// Mount points at and beneath `target`, from the kernel's own list.
fn mounts_beneath(target: &Path) -> Result<Vec<PathBuf>, Failed> {
    let list = fs::read_to_string("/proc/self/mountinfo").step("read the list of mounts")?;
    let places = list.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut places: Vec<PathBuf> = places.filter(|place| is_beneath(place, target)).collect();
    places.dedup();
    if places.iter().all(|place| place != target) {
        places.push(target.to_owned());
    }
    Ok(places)
}

/// `\040` and the like of mountinfo, undone.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(0..3)).flatten();
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Covers one path with something empty.
fn hide(root: &Path, path: &Path) -> Result<(), Failed> {
    let target = inside(root, path);
    let step = format!("hide {}", path.display());
    let Ok(metadata) = fs::symlink_metadata(&target) else {
        return Ok(());
    };
    if metadata.is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
        bare_mount(
            Some(Path::new("tmpfs")),
            &target,
            Some("tmpfs"),
            flags,
            Some("mode=000,size=4k"),
        )
        .step(&step)
    } else if metadata.is_file() {
        let nothing = Path::new("/dev/null");
        bare_mount(Some(nothing), &target, None, MsFlags::MS_BIND, None).step(&step)
    } else {
        Ok(())
    }
}

/// A `/proc` of the new pid namespace. Some containers refuse one; then the
/// outer one is shown, where Landlock keeps other processes' secrets closed.
fn make_proc(root: &Path, missing: &mut Vec<(String, String)>) -> Result<(), Failed> {
    let target = root.join("proc");
    fs::create_dir_all(&target).step("make /proc")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = bare_mount(Some(Path::new("proc")), &target, Some("proc"), flags, None) {
        missing.push(("own /proc".to_owned(), error.to_string()));
        return bind(Path::new("/proc"), &target, false);
    }
    // Settings of the kernel are nobody's business here.
    for place in ["sys", "sysrq-trigger", "irq", "bus"] {
        let place = target.join(place);
        if place.exists() {
            bind(&place, &place, false)?;
        }
    }
    Ok(())
}

fn make_dev(root: &Path) -> Result<(), Failed> {
    let dev = root.join("dev");
    fs::create_dir_all(dev.join("shm")).step("make /dev")?;
    fs::create_dir_all(dev.join("pts")).step("make /dev")?;
    for name in DEVICES {
        let (source, target) = (Path::new("/dev").join(name), dev.join(name));
        if source.exists() {
            fs::write(&target, "").step("make a device's place")?;
            bare_mount(Some(&source), &target, None, MsFlags::MS_BIND, None)
                .step(&format!("bind {}", source.display()))?;
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).step("make a link of /dev")?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    bare_mount(
        Some(Path::new("tmpfs")),
        &dev.join("shm"),
        Some("tmpfs"),
        flags,
        Some(SHARED_MEMORY),
    )
    .step("mount /dev/shm")?;
    // A terminal of one's own is a comfort: without it only tests of terminals fail.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    if bare_mount(Some(Path::new("devpts")), &dev.join("pts"), Some("devpts"), flags, options)
        .is_err()
    {
        tracing::debug!("no devpts in the sandbox");
    }
    Ok(())
}

/// Makes `root` the root, drops the old one, and closes the skeleton.
fn pivot(root: &Path) -> Result<(), Failed> {
    std::env::set_current_dir(root).step("enter the new root")?;
    nix::unistd::pivot_root(".", ".").step("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).step("drop the old root")?;
    std::env::set_current_dir("/").step("enter the new root")?;
    remount(Path::new("/"), false)
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_of_the_mount_list_are_undone() {
        assert_eq!(super::unescaped(r"/a\040b\134c"), std::path::Path::new(r"/a b\c"));
        assert_eq!(super::unescaped(r"/plain\"), std::path::Path::new(r"/plain\"));
    }
}
