//! Time limits, last good values, and reasons.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use foreman_core::model::fleet_node::{Accelerator, Capability};
use foreman_core::ports::{CapabilityProbe, ProbeError};
use foreman_probe::accelerator::apple::ApplePart;
use foreman_probe::accelerator::nvidia::NvidiaPart;
use foreman_probe::host::disk::DiskPart;
use foreman_probe::limits::{LAST_GOOD_KEPT_MAX, NVIDIA_SMI_LIMIT, SYSTEM_CALL_LIMIT};
use foreman_probe::sys::{Hardware, RawMemory};
use foreman_probe::{Keeping, Os, PartState, Reported};

use crate::support::{GENEROUS, Machine, fixture};

fn is_cuda(capability: &Capability) -> bool {
    capability.accelerator.as_ref().is_some_and(|kind| kind.is(Accelerator::Cuda))
}

#[tokio::test(start_paused = true)]
async fn a_hanging_command_costs_its_limit_and_the_last_good_value_stands_in() {
    let machine = Machine::new();
    let part = Keeping::new(NvidiaPart::new(machine.sys(Os::Linux)));
    assert_eq!(part.report().to_string(), "nvidia: not asked yet");
    machine.commands.answer("nvidia-smi", 0, &fixture("nvidia_two.csv"));
    assert!(is_cuda(&part.probe().await.expect("devices")));
    assert_eq!(part.report().to_string(), "nvidia: ok");

    machine.commands.hang("nvidia-smi");
    let before = tokio::time::Instant::now();
    assert!(is_cuda(&part.probe().await.expect("the last good value")));
    assert_eq!(before.elapsed(), NVIDIA_SMI_LIMIT);
    let line = "nvidia: value of 5 s ago, because nvidia-smi did not end within 5000 ms and was \
                killed";
    assert_eq!(part.report().to_string(), line);

    tokio::time::advance(LAST_GOOD_KEPT_MAX).await;
    let error = part.probe().await.expect_err("too old to be believed");
    let reason = "nvidia-smi did not end within 5000 ms and was killed".to_owned();
    assert_eq!(error, ProbeError { part: "nvidia".to_owned(), reason: reason.clone() });
    assert_eq!(part.report().state, PartState::Missing { reason });

    machine.commands.answer("nvidia-smi", 0, &fixture("nvidia_two.csv"));
    assert!(is_cuda(&part.probe().await.expect("it came back")));
    assert_eq!(part.report().state, PartState::Fresh { note: None });
}

#[tokio::test]
async fn a_device_that_is_certainly_gone_is_not_kept() {
    let machine = Machine::new();
    let part = Keeping::new(NvidiaPart::new(machine.sys(Os::Linux)));
    machine.commands.answer("nvidia-smi", 0, &fixture("nvidia_two.csv"));
    assert!(is_cuda(&part.probe().await.expect("devices")));
    machine.commands.answer("nvidia-smi", 9, &fixture("nvidia_no_driver.txt"));
    assert_eq!(part.probe().await, Ok(Capability::default()));
    let report = part.report().to_string();
    assert!(report.starts_with("nvidia: none (nvidia-smi said: NVIDIA-SMI has failed"), "{report}");
    machine.commands.answer("nvidia-smi", 1, "");
    assert!(part.probe().await.is_err(), "nothing from before is left to stand in");
}

#[tokio::test(start_paused = true)]
async fn facts_that_change_with_the_hardware_are_not_asked_for_each_time() {
    let machine = Machine::new();
    machine.commands.answer("/usr/sbin/system_profiler", 0, &fixture("displays_m3.json"));
    let part = Keeping::new(ApplePart::new(machine.sys(Os::Darwin)));
    for _ in 0..3 {
        assert_eq!(part.probe().await.expect("devices").accelerators.len(), 1);
        tokio::time::advance(Duration::from_mins(1)).await;
    }
    assert_eq!(machine.commands.calls("/usr/sbin/system_profiler"), 1);
    tokio::time::advance(Duration::from_mins(10)).await;
    machine.commands.remove("/usr/sbin/system_profiler");
    assert_eq!(part.probe().await.expect("the last good one").accelerators.len(), 1);
    assert_eq!(machine.commands.calls("/usr/sbin/system_profiler"), 2);
    assert!(matches!(part.report().state, PartState::Kept { .. }));
}

/// A file system that answers only when the test lets it, as a dead network mount does.
struct HangingDisk {
    go: Mutex<mpsc::Receiver<()>>,
}

impl Hardware for HangingDisk {
    fn memory(&self) -> std::io::Result<RawMemory> {
        Err(std::io::Error::other("unused"))
    }
    fn cores(&self) -> std::io::Result<usize> {
        Err(std::io::Error::other("unused"))
    }
    fn disk_free_bytes(&self, _path: &Path) -> std::io::Result<u64> {
        let waited = self.go.lock().expect("the channel").recv_timeout(GENEROUS);
        waited.map(|()| 7 << 30).map_err(std::io::Error::other)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_file_system_costs_the_limit_once_and_no_second_thread() {
    let (let_it_go, go) = mpsc::channel();
    let mut sys = Machine::new().sys(Os::Linux);
    sys.hardware = Arc::new(HangingDisk { go: Mutex::new(go) });
    let part = Keeping::new(DiskPart::new(sys, PathBuf::from("/data")));
    let before = tokio::time::Instant::now();
    let error = part.probe().await.expect_err("it hangs");
    assert_eq!(error.reason, "there was no answer within 2000 ms");
    assert_eq!(before.elapsed(), SYSTEM_CALL_LIMIT);
    let error = part.probe().await.expect_err("still");
    assert_eq!(error.reason, "an earlier look still hangs in the kernel; not started again");
    assert_eq!(before.elapsed(), SYSTEM_CALL_LIMIT, "and that at once");
    // One for the look that hangs, one for the look that follows it. On the real clock now: the
    // paused one jumps to the limit while another thread works.
    tokio::time::resume();
    let_it_go.send(()).expect("the thread waits");
    let_it_go.send(()).expect("the channel lives");
    let deadline = std::time::Instant::now() + GENEROUS;
    while part.probe().await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the part never came back");
    }
    assert_eq!(part.report().state, PartState::Fresh { note: None });
}
