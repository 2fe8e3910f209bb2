//! Every limit of this crate, in one place. A part that runs into one loses itself, never the others.

use std::time::Duration;

/// How long reading `/proc`, `/sys` and the memory and disk calls of the system may take.
pub const SYSTEM_CALL_LIMIT: Duration = Duration::from_secs(2);
/// How long `sysctl` and `vm_stat` may take.
pub const SYSCTL_LIMIT: Duration = Duration::from_secs(2);
/// How long `nvidia-smi` may take. Without persistence mode the driver loads first, which takes
/// one to three seconds on a machine with several devices.
pub const NVIDIA_SMI_LIMIT: Duration = Duration::from_secs(5);
/// How long `system_profiler` may take; it asks several daemons.
pub const SYSTEM_PROFILER_LIMIT: Duration = Duration::from_secs(8);
/// How much longer than its command a part may take, for killing and parsing.
pub const PART_GRACE: Duration = Duration::from_secs(1);
/// How long a killed command is waited for before it is set aside as stuck in the kernel.
pub const REAP_LIMIT: Duration = Duration::from_millis(500);

/// How long a last good value stands in for a part that does not answer. After that the value is
/// dropped: a machine must not promise a device that nobody has seen for this long.
pub const LAST_GOOD_KEPT_MAX: Duration = Duration::from_mins(5);
/// How long the answer of `system_profiler` is used again: its facts change with the hardware.
pub const SYSTEM_PROFILER_FRESH: Duration = Duration::from_mins(10);

/// How many bytes of a command's output are read; the rest is cut off.
pub const COMMAND_OUTPUT_BYTES_MAX: u64 = 1024 * 1024;
/// How many bytes of a file under `/proc` or `/sys` are read.
pub const SYSTEM_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How many levels of nested control groups are looked at.
pub const CGROUP_DEPTH_MAX: usize = 64;
/// How many accelerators of one kind are listed.
pub const ACCELERATORS_MAX: usize = 64;
/// How many characters of a device's or driver's name are kept.
pub const DEVICE_NAME_CHARS_MAX: usize = 128;

/// How long a server on this machine's well-known ports may take to say what it is.
pub const LOCAL_SERVER_LIMIT: Duration = Duration::from_millis(300);
/// How long a server that somebody named may take to say what it is: it may be on another
/// machine and behind TLS.
pub const NAMED_SERVER_LIMIT: Duration = Duration::from_secs(3);
/// How many bytes of one response of a model server are read; a longer one is not used.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// How many servers are asked at once.
pub const SERVERS_MAX: usize = 16;
/// How many models of one server are listed.
pub const MODELS_PER_SERVER_MAX: usize = 256;
/// How many models of one Ollama server are asked for details (`/api/show`) in one look.
pub const MODEL_DETAILS_MAX: usize = 16;
/// How many model details are remembered between looks.
pub const MODEL_DETAILS_REMEMBERED_MAX: usize = 512;
/// How many characters a model's name may have; a longer one is no name.
pub const MODEL_NAME_CHARS_MAX: usize = 256;
/// The ports on 127.0.0.1 that are asked: Ollama, LM Studio, llama.cpp, vLLM.
pub const LOCAL_PORTS: [u16; 4] = [11434, 1234, 8080, 8000];

/// The slowest part under its limit: what a whole probe may take. It stays far under a heartbeat
/// interval (30 s), because a heartbeat waits for the probe.
pub const PROBE_LIMIT: Duration = Duration::from_secs(10);

const _: () = {
    assert!(NVIDIA_SMI_LIMIT.as_millis() + PART_GRACE.as_millis() <= PROBE_LIMIT.as_millis());
    assert!(SYSTEM_PROFILER_LIMIT.as_millis() + PART_GRACE.as_millis() <= PROBE_LIMIT.as_millis());
    assert!(2 * NAMED_SERVER_LIMIT.as_millis() + PART_GRACE.as_millis() <= PROBE_LIMIT.as_millis());
    assert!(REAP_LIMIT.as_millis() < PART_GRACE.as_millis());
};
