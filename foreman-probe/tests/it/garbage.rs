//! No text, however broken, makes a parser panic.

use foreman_core::ports::CapabilityProbe;
use foreman_probe::Keeping;
use foreman_probe::Os;
use foreman_probe::accelerator::{apple, nvidia};
use foreman_probe::host::cgroup::{folders, parse_cpu_max, parse_memberships, parse_mounts};
use foreman_probe::host::cpu::CpuPart;
use foreman_probe::host::darwin::{parse_memsize, parse_vm_stat};
use foreman_probe::host::memory::MemoryPart;
use foreman_probe::models::ModelUrl;
use foreman_probe::sys::RawMemory;
use proptest::prelude::*;

use crate::support::{Machine, fixture};

/// A recorded text with a piece cut out and another put in.
fn damaged(name: &'static str) -> impl Strategy<Value = String> {
    (any::<usize>(), any::<usize>(), "\\PC{0,12}").prop_map(move |(from, length, new)| {
        let text: Vec<char> = fixture(name).chars().collect();
        let from = from % (text.len() + 1);
        let to = from + length % (text.len() - from + 1);
        let (front, back) = (text.iter().take(from), text.iter().skip(to));
        front.copied().chain(new.chars()).chain(back.copied()).collect()
    })
}

fn every_parser(text: &str) {
    if let Some(listing) = nvidia::parse(text) {
        assert!(listing.devices.iter().all(|device| !device.name.is_empty()));
        assert!(listing.devices.iter().all(|device| !device.name.contains(char::is_control)));
    }
    let _devices = apple::parse(text);
    let _vram = apple::parse_vram(text);
    let _size = nvidia::parse_size(text);
    let _memsize = parse_memsize(text);
    let _available = parse_vm_stat(text);
    assert!(parse_cpu_max(text).is_none_or(|cores| cores >= 1));
    for mount in parse_mounts(text) {
        for membership in parse_memberships(text) {
            assert!(folders(&membership, &mount).iter().all(|path| path.starts_with(&mount.at)));
        }
    }
    for url in [ModelUrl::parse(text), ModelUrl::parse_ollama_host(text)].into_iter().flatten() {
        let shown = url.to_string();
        let authority = shown.split('/').nth(2).unwrap_or_default();
        assert!(!authority.contains('@') && !shown.contains(['?', '#']), "{shown}");
        assert_eq!(ModelUrl::parse(&shown).map(|again| again.to_string()), Ok(shown));
    }
}

proptest! {
    #[test]
    fn any_text(text in "(?s).{0,200}") {
        every_parser(&text);
    }

    #[test]
    fn any_url(text in "(https?://)?[a-z@:0-9.\\[\\]/?#%]{0,40}") {
        every_parser(&text);
    }

    #[test]
    fn damaged_csv(text in damaged("nvidia_two.csv")) {
        every_parser(&text);
    }

    #[test]
    fn damaged_vm_stat(text in damaged("vm_stat_16384.txt")) {
        every_parser(&text);
    }

    #[test]
    fn damaged_json(text in damaged("displays_intel.json")) {
        every_parser(&text);
    }

    #[test]
    fn damaged_control_groups(
        mounts in "(1 2 0:3 /[a.]{0,3} /sys[a/.]{0,5} rw - cgroup2? x rw,(memory|cpu)\n){0,3}",
        groups in "([0-9]:(memory|cpu)?:/[a./]{0,6}\n){0,3}",
        limit in "\\PC{0,8}|[0-9]{1,25}",
    ) {
        let mut machine = Machine::new();
        machine.hardware.memory =
            Some(RawMemory { total_bytes: 64 << 30, available_bytes: 32 << 30 });
        machine.hardware.cores = Some(4);
        machine.file("/proc/self/cgroup", &groups).file("/proc/self/mountinfo", &mounts);
        machine.file("/sys/memory.max", &limit).file("/sys/memory.current", &limit);
        machine.file("/sys/cpu.max", &limit);
        let sys = machine.sys(Os::Linux);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let memory = runtime.block_on(Keeping::new(MemoryPart::new(sys.clone())).probe()).unwrap();
        prop_assert!(memory.available_ram_gb <= memory.total_ram_gb);
        prop_assert!(memory.total_ram_gb <= Some(64));
        let cpu = runtime.block_on(Keeping::new(CpuPart::new(sys)).probe()).unwrap();
        let cores = cpu.cpu.and_then(|cpu| cpu.cores);
        prop_assert!(cores >= Some(1) && cores <= Some(4));
    }
}
