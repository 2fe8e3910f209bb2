//! Free space where the agent keeps its data.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::limits::SYSTEM_CALL_LIMIT;
use crate::part::{Answer, Part};
use crate::sys::{Aside, Sys};
use crate::wire;

/// Free space on the file system of one folder, which need not exist yet.
pub struct DiskPart {
    sys: Sys,
    data_dir: PathBuf,
    aside: Aside,
}

impl DiskPart {
    /// The space for `data_dir`.
    pub fn new(sys: Sys, data_dir: PathBuf) -> Self {
        Self { sys, data_dir, aside: Aside::default() }
    }
}

/// Asks the nearest ancestor that exists: a data folder is made at the first run only.
fn free_bytes(sys: &Sys, data_dir: &Path) -> io::Result<u64> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the path is empty");
    for folder in data_dir.ancestors() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match sys.hardware.disk_free_bytes(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            answer => return answer,
        }
    }
    Err(last)
}

#[async_trait]
impl Part for DiskPart {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn limit(&self) -> Duration {
        SYSTEM_CALL_LIMIT
    }

    async fn ask(&self) -> Answer {
        let (sys, folder) = (self.sys.clone(), self.data_dir.clone());
        match self.aside.run("disk", move || free_bytes(&sys, &folder)).await {
            Ok(Ok(bytes)) => Answer::found(wire::disk(bytes)),
            Ok(Err(error)) => {
                let folder = self.data_dir.display();
                Answer::unknown(format!("the free space at {folder} cannot be read: {error}"))
            }
            Err(reason) => Answer::unknown(reason),
        }
    }
}
