//! The data directory, the store in it, the disk below it, and the clock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreman_core::control::CLAIM_DISK_GB_MIN;
use foreman_core::model::WallTime;
use foreman_core::ports::Clock as _;
use foreman_sqlite::SqliteStore;

use super::{Check, chain};
use crate::os_clock::{SystemClock, SystemEntropy};
use crate::settings::{STORE_FILE, Settings};

/// Free space below which a person should know, in GiB.
const DISK_GB_COMFORTABLE: u64 = 10;
/// One GiB in bytes.
const GIB: u64 = 1 << 30;
/// This program did not exist before: 2026-11-01.
const CLOCK_MIN_UNIX_SECONDS: i64 = 1_793_491_200;
/// No clock that is right says more: 2126-11-01.
const CLOCK_MAX_UNIX_SECONDS: i64 = 4_949_164_800;

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let dir = &settings.paths.data_dir;
    let existing = nearest(dir);
    vec![
        data_dir(dir, &existing),
        store(settings),
        disk(&existing),
        clock(SystemClock::new().wall()),
    ]
}

/// The directory itself, or the nearest one above it that is there.
fn nearest(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find(|above| above.is_dir());
    there.unwrap_or_else(|| Path::new("/")).to_owned()
}

/// Whether a store can live there: made in a folder of its own that is removed again, so that locks,
/// write-ahead log and file system are tried for real and nothing is left.
fn data_dir(dir: &Path, existing: &Path) -> Check {
    let fix = "choose a directory on a local disk that you may write: --data-dir DIR";
    let trial = tempfile::Builder::new().prefix(".foreman-doctor-").tempdir_in(existing);
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => {
            let reason = format!("{} cannot be written: {}", existing.display(), chain(&error));
            return Check::fail("data dir", reason, fix);
        }
    };
    let clock = Arc::new(SystemClock::new());
    match SqliteStore::open(trial.path().join(STORE_FILE), clock, Arc::new(SystemEntropy)) {
        Ok(_) if dir.is_dir() => Check::ok("data dir", format!("{} is writable", dir.display())),
        Ok(_) => Check::ok("data dir", format!("{} will be made", dir.display())),
        Err(error) => Check::fail("data dir", chain(&error), fix),
    }
}

fn store(settings: &Settings) -> Check {
    let file = settings.paths.store_file();
    if !file.exists() {
        return Check::ok("store", format!("none yet at {}", file.display()));
    }
    let clock = Arc::new(SystemClock::new());
    match SqliteStore::open(&file, clock, Arc::new(SystemEntropy)) {
        Ok(_) => Check::ok("store", format!("{} opens", file.display())),
        Err(error) => Check::fail(
            "store",
            chain(&error),
            "use the foreman that wrote it, restore a backup, or choose another --data-dir",
        ),
    }
}

fn disk(dir: &Path) -> Check {
    match rustix::fs::statvfs(dir) {
        Err(error) => Check::warn("disk", format!("{}: {error}", dir.display()), "check the mount"),
        Ok(about) => free_space(about.f_bavail.saturating_mul(about.f_frsize) / GIB, dir),
    }
}

fn free_space(gib: u64, dir: &Path) -> Check {
    let place = dir.display();
    let least = u64::try_from(CLAIM_DISK_GB_MIN).unwrap_or(0);
    if gib < least {
        let reason = format!("{gib} GiB free at {place}; below {least} GiB no task is taken");
        Check::fail("disk", reason, "free some space, or choose another --data-dir")
    } else if gib < DISK_GB_COMFORTABLE {
        Check::warn(
            "disk",
            format!("{gib} GiB free at {place}"),
            "free some space before long runs",
        )
    } else {
        Check::ok("disk", format!("{gib} GiB free at {place}"))
    }
}

fn clock(now: WallTime) -> Check {
    if (CLOCK_MIN_UNIX_SECONDS..CLOCK_MAX_UNIX_SECONDS).contains(&now.unix_seconds()) {
        Check::ok("clock", now.to_string())
    } else {
        let fix = "set it: timedatectl set-ntp true";
        Check::fail("clock", format!("it says {now}, which cannot be"), fix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn limits_of_disk_and_clock() {
        let at = Path::new("/x");
        let states = [1, 2, 9, 10].map(|gib| free_space(gib, at).state);
        assert_eq!(states, [State::Fail, State::Warn, State::Warn, State::Ok]);
        let says = |seconds| clock(WallTime::from_unix_seconds(seconds)).state;
        assert_eq!(says(CLOCK_MIN_UNIX_SECONDS - 1), State::Fail);
        assert_eq!(says(CLOCK_MIN_UNIX_SECONDS), State::Ok);
        assert_eq!(says(CLOCK_MAX_UNIX_SECONDS), State::Fail);
    }

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("not/there/yet");
        assert_eq!(data_dir(&dir, &nearest(&dir)).state, State::Ok);
        assert_eq!(std::fs::read_dir(root.path()).expect("read").count(), 0);
    }
}
