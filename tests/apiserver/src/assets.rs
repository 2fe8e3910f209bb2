//! Where kube-apiserver and etcd are, and how they are made.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

/// The convention of the ecosystem: a folder that holds `kube-apiserver` and `etcd`.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Pins every module that the programs are built from, and so names their folder.
const GO_SUM: &[u8] = include_bytes!("../go.sum");
/// What is built: the program's name here, and the Go package it is.
const PROGRAMS: [(&str, &str); 2] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
];
/// Hex characters of the hash in the folder's name.
const HASH_CHARS: usize = 16;

/// The programs of an API server.
#[derive(Debug, Clone)]
pub struct Assets {
    folder: PathBuf,
}

impl Assets {
    /// The programs as they are on this machine: those of `KUBEBUILDER_ASSETS`, else those that
    /// [`Assets::build`] made.
    ///
    /// # Errors
    /// Where they were looked for, and what to do.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os(ASSETS) {
            let found = Self { folder: folder.into() };
            let folder = found.folder.display();
            found.check().with_context(|| {
                format!(
                    "{ASSETS} is {folder}: correct it, or unset it and run cargo xtask apiserver"
                )
            })?;
            return Ok(found);
        }
        let found = Self { folder: cache()? };
        found.check().context(
            "run cargo xtask apiserver once (Go and the Go module proxy are needed, and several \
             minutes), or set KUBEBUILDER_ASSETS",
        )?;
        Ok(found)
    }

    /// Builds the programs from the modules that `go.mod` and `go.sum` beside this crate pin, into a
    /// folder of the user's cache that is named after `go.sum`. Takes minutes.
    ///
    /// # Errors
    /// What could not be made, and what to do.
    pub fn build() -> anyhow::Result<Self> {
        let folder = cache()?;
        let parent = folder.parent().context("the cache has no parent folder")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
        // Built beside its place and moved there: nobody ever finds half a program.
        let building = tempfile::Builder::new().prefix("building-").tempdir_in(parent)?;
        for (program, package) in PROGRAMS {
            go_build(package, &building.path().join(program))?;
        }
        match std::fs::rename(building.path(), &folder) {
            Ok(()) => drop(building.keep()),
            // Somebody else was faster, and what they made is as good.
            Err(_) if (Self { folder: folder.clone() }).check().is_ok() => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make {}", folder.display()));
            }
        }
        Self::find()
    }

    /// The folder that holds both.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of the programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (program, _) in PROGRAMS {
            let path = self.program(program);
            if !path.is_file() {
                bail!("there is no {}", path.display());
            }
        }
        Ok(())
    }
}

/// The folder of what was built from this `go.sum`, whether it is there or not.
fn cache() -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if Path::new(&folder).is_absolute() => folder.into(),
        _ => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let mut hash = String::new();
    for byte in Sha256::digest(GO_SUM).iter().take(HASH_CHARS / 2) {
        write!(hash, "{byte:02x}")?;
    }
    Ok(cache.join("foreman/apiserver").join(hash))
}

fn go_build(package: &str, out: &Path) -> anyhow::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // With low priority: it takes minutes, and somebody works on this machine meanwhile.
    let status = Command::new("nice")
        .args(["-n", "5", "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
        .args(["-ldflags=-s -w", "-o"])
        .arg(out)
        .arg(package)
        .current_dir(here)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .status()
        .context("cannot start nice")?;
    if !status.success() {
        bail!(
            "go build {package} in {} failed ({status}): Go 1.26 and the Go module proxy are needed",
            here.display()
        );
    }
    Ok(())
}
