//! Memory, processors and disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foreman_core::model::fleet_node::{Capability, Cpu, Disk};
use foreman_probe::host::cgroup::{
    Membership, Mount, folders, parse_cpu_max, parse_memberships, parse_mounts,
};
use foreman_probe::host::cpu::CpuPart;
use foreman_probe::host::darwin::{
    AvailableMemoryPart, TotalMemoryPart, parse_memsize, parse_vm_stat,
};
use foreman_probe::host::disk::DiskPart;
use foreman_probe::host::memory::MemoryPart;
use foreman_probe::sys::{Hardware, RawMemory};
use foreman_probe::{Os, PartState};

use crate::support::{Machine, fixture, once};

const GIB: u64 = 1 << 30;
const FRESH: PartState = PartState::Fresh { note: None };

const V2_MOUNT: &str = "25 1 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
const V1_MOUNTS: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

fn machine_with_gib(total: u64, available: u64) -> Machine {
    let mut machine = Machine::new();
    let memory = RawMemory { total_bytes: total * GIB, available_bytes: available * GIB };
    machine.hardware.memory = Some(memory);
    machine
}

async fn ram(machine: &Machine) -> (Option<i32>, Option<i32>) {
    let (capability, _) = once(MemoryPart::new(machine.sys(Os::Linux))).await;
    (capability.total_ram_gb, capability.available_ram_gb)
}

#[tokio::test]
async fn without_control_groups_the_machine_counts() {
    assert_eq!(ram(&machine_with_gib(64, 40)).await, (Some(64), Some(40)));
}

#[tokio::test]
async fn version_2_the_smallest_limit_on_the_path_counts() {
    let machine = machine_with_gib(64, 40);
    machine.file("/proc/self/cgroup", "0::/outer/inner\n").file("/proc/self/mountinfo", V2_MOUNT);
    let group = "/sys/fs/cgroup";
    machine
        .file(&format!("{group}/outer/inner/memory.max"), "max\n")
        .file(&format!("{group}/outer/memory.max"), &format!("{}\n", 16 * GIB))
        .file(&format!("{group}/outer/memory.current"), &format!("{}\n", 10 * GIB))
        .file(
            &format!("{group}/outer/memory.stat"),
            &format!("anon 1\ninactive_file {}\n", 4 * GIB),
        );
    assert_eq!(ram(&machine).await, (Some(16), Some(10)), "16 − (10 − 4 of idle page cache)");
    machine.file(&format!("{group}/outer/inner/memory.max"), &format!("{}", 8 * GIB));
    machine.file(&format!("{group}/outer/inner/memory.current"), &format!("{}", 7 * GIB));
    assert_eq!(ram(&machine).await, (Some(8), Some(1)), "the inner group is tighter");
}

#[tokio::test]
async fn version_2_inside_a_container_the_mount_is_the_group() {
    let machine = machine_with_gib(64, 40);
    machine.file("/proc/self/cgroup", "0::/\n").file("/proc/self/mountinfo", V2_MOUNT);
    machine.file("/sys/fs/cgroup/memory.max", &format!("{}", 4 * GIB));
    machine.file("/sys/fs/cgroup/memory.current", &format!("{GIB}"));
    assert_eq!(ram(&machine).await, (Some(4), Some(3)));
    machine.file("/sys/fs/cgroup/memory.max", &format!("{}", 400 * GIB));
    assert_eq!(ram(&machine).await, (Some(64), Some(40)), "more than there is limits nothing");
}

#[tokio::test]
async fn version_1_limits_and_those_of_unseen_ancestors_count() {
    let machine = machine_with_gib(64, 40);
    machine.file("/proc/self/cgroup", "4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n");
    machine.file("/proc/self/mountinfo", V1_MOUNTS);
    let folder = "/sys/fs/cgroup/memory/box";
    machine.file(&format!("{folder}/memory.limit_in_bytes"), "9223372036854771712\n");
    assert_eq!(ram(&machine).await, (Some(64), Some(40)), "that number means no limit");
    let stat = format!("hierarchical_memory_limit {}\ntotal_inactive_file {GIB}\n", 12 * GIB);
    machine.file(&format!("{folder}/memory.stat"), &stat);
    machine.file(&format!("{folder}/memory.usage_in_bytes"), &format!("{}", 3 * GIB));
    assert_eq!(ram(&machine).await, (Some(12), Some(10)));
    machine.file(&format!("{folder}/memory.limit_in_bytes"), &format!("{}", 2 * GIB));
    assert_eq!(ram(&machine).await, (Some(2), Some(0)), "more used than allowed leaves nothing");
}

#[tokio::test]
async fn memory_that_cannot_be_read_is_unknown_with_a_reason() {
    let (capability, state) = once(MemoryPart::new(Machine::new().sys(Os::Linux))).await;
    assert_eq!(capability, Capability::default());
    let reason = "the memory cannot be read: no memory recorded".to_owned();
    assert_eq!(state, PartState::Missing { reason });
}

#[tokio::test]
async fn processors_are_bounded_by_quotas() {
    let mut machine = Machine::new();
    machine.hardware.cores = Some(16);
    let cores = async |machine: &Machine| {
        let (capability, _) = once(CpuPart::new(machine.sys(Os::Linux))).await;
        capability.cpu.and_then(|cpu| cpu.cores)
    };
    assert_eq!(cores(&machine).await, Some(16));
    machine.file("/proc/self/cgroup", "0::/a/b\n").file("/proc/self/mountinfo", V2_MOUNT);
    machine.file("/sys/fs/cgroup/a/cpu.max", "350000 100000\n");
    machine.file("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_eq!(cores(&machine).await, Some(3), "3.5 are three whole ones");
    machine.file("/sys/fs/cgroup/a/b/cpu.max", "10000 100000\n");
    assert_eq!(cores(&machine).await, Some(1), "never none");
    machine.file("/proc/self/cgroup", "1:cpu,cpuacct:/box\n");
    machine.file("/proc/self/mountinfo", V1_MOUNTS);
    let folder = "/sys/fs/cgroup/cpu,cpuacct/box";
    machine.file(&format!("{folder}/cpu.cfs_quota_us"), "-1\n");
    machine.file(&format!("{folder}/cpu.cfs_period_us"), "100000\n");
    assert_eq!(cores(&machine).await, Some(16), "-1 is no quota");
    machine.file(&format!("{folder}/cpu.cfs_quota_us"), "200000\n");
    assert_eq!(cores(&machine).await, Some(2));
}

#[tokio::test]
async fn the_architecture_is_named_as_go_does() {
    let mut machine = Machine::new();
    machine.hardware.cores = Some(8);
    let (capability, state) = once(CpuPart::new(machine.sys(Os::Darwin))).await;
    let cpu = Cpu { cores: Some(8), arch: Some("arm64".into()), ..Cpu::default() };
    assert_eq!(capability, Capability { cpu: Some(cpu), ..Capability::default() });
    assert_eq!(state, FRESH);
    machine.hardware.cores = None;
    let (capability, state) = once(CpuPart::new(machine.sys(Os::Linux))).await;
    assert_eq!(capability.cpu.and_then(|cpu| cpu.arch).as_deref(), Some("amd64"));
    assert!(matches!(state, PartState::Fresh { note: Some(_) }), "{state:?}");
}

#[test]
fn cpu_max_is_parsed() {
    let cases = [("max 100000", None), ("250000 100000", Some(2)), ("1 0", None), ("", None)];
    for (text, expected) in cases {
        assert_eq!(parse_cpu_max(text), expected, "{text:?}");
    }
}

#[test]
fn memberships_and_mounts_are_parsed() {
    let memberships = parse_memberships("4:cpu,memory:/a\n0::/a b/c:d\nrubbish\n1:x\n");
    let expected = [(vec!["cpu", "memory"], "/a"), (vec![], "/a b/c:d")];
    let expected = expected.map(|(controllers, path)| Membership {
        controllers: controllers.into_iter().map(str::to_owned).collect(),
        path: PathBuf::from(path),
    });
    assert_eq!(memberships, expected);
    let mounts = parse_mounts(
        "1 2 0:3 /kube\\040pods /sys/fs/x\\134y rw shared:9 - cgroup cgroup rw,memory\n\
         1 2 0:3 / / rw - ext4 /dev/x rw\n1 2 0:4 / /u rw - cgroup2 none rw\nrubbish - cgroup\n",
    );
    let first = Mount {
        root: PathBuf::from("/kube pods"),
        at: PathBuf::from("/sys/fs/x\\y"),
        controllers: vec!["rw".to_owned(), "memory".to_owned()],
        unified: false,
    };
    let second = Mount {
        root: PathBuf::from("/"),
        at: PathBuf::from("/u"),
        controllers: Vec::new(),
        unified: true,
    };
    assert_eq!(mounts, [first, second]);
}

#[test]
fn folders_never_leave_the_mount() {
    let mount = |root: &str| Mount {
        root: PathBuf::from(root),
        at: PathBuf::from("/m"),
        controllers: Vec::new(),
        unified: true,
    };
    let member = |path: &str| Membership { controllers: Vec::new(), path: PathBuf::from(path) };
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(folders(&member("/a/b"), &mount("/")), paths(&["/m/a/b", "/m/a", "/m"]));
    assert_eq!(folders(&member("/docker/x/in"), &mount("/docker/x")), paths(&["/m/in", "/m"]));
    assert_eq!(folders(&member("/docker/x"), &mount("/elsewhere")), paths(&["/m"]));
    assert_eq!(folders(&member("/../../other"), &mount("/")), paths(&["/m"]));
    let deep = folders(&member(&"/d".repeat(500)), &mount("/"));
    assert_eq!((deep.len(), deep.last()), (64, Some(&PathBuf::from("/m"))));
}

#[tokio::test]
async fn free_space_is_asked_of_the_nearest_folder_that_exists() {
    /// Knows one folder only.
    struct OneFolder(PathBuf);
    impl Hardware for OneFolder {
        fn memory(&self) -> std::io::Result<RawMemory> {
            Err(std::io::Error::other("unused"))
        }
        fn cores(&self) -> std::io::Result<usize> {
            Err(std::io::Error::other("unused"))
        }
        fn disk_free_bytes(&self, path: &Path) -> std::io::Result<u64> {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            if path == self.0 { Ok(5 * GIB + 1) } else { Err(missing) }
        }
    }
    let mut sys = Machine::new().sys(Os::Linux);
    sys.hardware = std::sync::Arc::new(OneFolder(PathBuf::from("/home/anna")));
    let folder = PathBuf::from("/home/anna/.local/share/foreman");
    let (capability, _) = once(DiskPart::new(sys.clone(), folder)).await;
    assert_eq!(capability.disk, Some(Disk { free_gb: Some(5), ..Disk::default() }));
    let (capability, state) = once(DiskPart::new(sys, PathBuf::from("/other"))).await;
    assert_eq!(capability.disk, None);
    assert!(matches!(state, PartState::Missing { reason } if reason.contains("/other")));
}

#[test]
fn vm_stat_is_summed_with_the_page_size_of_its_header() {
    let large = (123_456 + 345_678 + 12_345 + 56_789) * 16_384;
    assert_eq!(parse_vm_stat(&fixture("vm_stat_16384.txt")), Ok(large));
    let small = (334_212 + 1_367_584 + 81_968 + 377_078) * 4096;
    assert_eq!(parse_vm_stat(&fixture("vm_stat_4096.txt")), Ok(small));
    let (_, headless) = fixture("vm_stat_4096.txt")
        .split_once('\n')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("lines");
    assert_eq!(parse_vm_stat(&headless), Ok(small * 4), "without a header, pages of 16 KiB");
    let huge = fixture("vm_stat_4096.txt").replace("334212", "18446744073709551615");
    assert_eq!(parse_vm_stat(&huge), Ok(u64::MAX), "saturates");
}

#[test]
fn a_truncated_vm_stat_is_refused_and_not_summed_up() {
    let text = fixture("vm_stat_16384.txt");
    let (front, _) = text.split_once("Pages purgeable").expect("the line");
    assert_eq!(parse_vm_stat(front), Err("vm_stat printed no line \"Pages purgeable\"".to_owned()));
    let garbled = text.replace("345678.", "3456x8.");
    assert!(parse_vm_stat(&garbled).is_err());
    assert!(parse_vm_stat("").is_err());
}

#[test]
fn memsize_is_one_number() {
    assert_eq!(parse_memsize("68719476736\n"), Ok(64 * GIB));
    for bad in ["", "0", "-1", "sysctl: unknown oid 'hw.memsize'", "64 GB"] {
        assert!(parse_memsize(bad).is_err(), "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mac_tells_total_and_available_apart() {
    let machine = Machine::new();
    machine.commands.answer("/usr/sbin/sysctl -n hw.memsize", 0, "68719476736\n");
    machine.commands.hang("/usr/bin/vm_stat");
    let before = tokio::time::Instant::now();
    let (total, state) = once(TotalMemoryPart::new(machine.sys(Os::Darwin))).await;
    assert_eq!((total.total_ram_gb, state), (Some(64), FRESH));
    let (available, state) = once(AvailableMemoryPart::new(machine.sys(Os::Darwin))).await;
    assert_eq!(available, Capability::default());
    let reason = "/usr/bin/vm_stat did not end within 2000 ms and was killed".to_owned();
    assert_eq!(state, PartState::Missing { reason });
    assert_eq!(before.elapsed(), Duration::from_secs(2), "its limit, on the paused clock");
    machine.commands.answer("/usr/bin/vm_stat", 0, &fixture("vm_stat_16384.txt"));
    let (available, _) = once(AvailableMemoryPart::new(machine.sys(Os::Darwin))).await;
    assert_eq!(available.available_ram_gb, Some(8));
}
