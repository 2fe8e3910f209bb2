//! What can be done at a place in the tree: read a file, list a directory, write in one step.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root::{PathFault, directory_flags, fault, is_git};

/// A place in the tree: an open directory and a name in it that is no symbolic link (it may not exist).
#[derive(Debug)]
pub(super) struct Place {
    pub(super) parent: OwnedFd,
    /// None = the root itself.
    pub(super) name: Option<OsString>,
    pub(super) kind: Option<FileType>,
    /// The path below the root, links resolved.
    pub(super) below: PathBuf,
    pub(super) given: String,
}

impl Place {
    /// Opens a regular file for reading.
    pub(super) fn open(&self) -> Result<File, PathFault> {
        let Some(name) = &self.name else {
            return Err(PathFault::IsADirectory { given: self.given.clone() });
        };
        // O_NONBLOCK: opening a pipe must not wait for a writer.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.parent, name, flags, Mode::empty())
            .map_err(|e| self.fault(e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| self.fault(e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            FileType::Directory => Err(PathFault::IsADirectory { given: self.given.clone() }),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Err(PathFault::Special { given: self.given.clone() }),
        }
    }

    /// The whole of a regular file, or `None` if it has more than `bytes_max`.
    pub(super) fn read(&self, bytes_max: u64) -> Result<Option<Vec<u8>>, PathFault> {
        let mut bytes = Vec::new();
        let file = self.open()?;
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|e| self.io(&e))?;
        Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
    }

    /// Whether something is there.
    pub(super) fn exists(&self) -> bool {
        self.kind.is_some()
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == Some(FileType::Directory)
    }

    /// The names in a directory, sorted, directories with a slash, `.git` left out.
    pub(super) fn entries(&self) -> Result<Vec<String>, PathFault> {
        let name = self.name.as_deref().unwrap_or(OsStr::new("."));
        let fd = rustix::fs::openat(&self.parent, name, directory_flags(), Mode::empty())
            .map_err(|e| self.fault(e))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(|e| self.fault(e))? {
            let entry = entry.map_err(|e| self.fault(e))?;
            let text = entry.file_name().to_string_lossy().into_owned();
            match text.as_str() {
                "." | ".." => {}
                _ if is_git(entry.file_name().to_bytes()) => {}
                _ if entry.file_type() == FileType::Directory => names.push(format!("{text}/")),
                _ => names.push(text),
            }
        }
        names.sort();
        Ok(names)
    }

    /// Puts `bytes` there in one step: a reader sees the old file or the new one, and a hard link to
    /// somewhere else is replaced, not written through. Keeps the mode of an existing file.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), PathFault> {
        let Some(name) = &self.name else {
            return Err(PathFault::IsADirectory { given: self.given.clone() });
        };
        let mode = match self.kind {
            None => Mode::from_raw_mode(0o644),
            Some(FileType::RegularFile) => {
                let stat = rustix::fs::statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| self.fault(e))?;
                Mode::from_raw_mode(stat.st_mode & 0o777)
            }
            Some(FileType::Directory) => {
                return Err(PathFault::IsADirectory { given: self.given.clone() });
            }
            Some(_) => {
                return Err(PathFault::Special { given: self.given.clone() });
            }
        };
        let (mut file, temporary) = self.temporary()?;
        let written = file
            .write_all(bytes)
            .map_err(|e| self.io(&e))
            .and_then(|()| rustix::fs::fchmod(&file, mode).map_err(|e| self.fault(e)))
            .and_then(|()| {
                rustix::fs::renameat(&self.parent, &temporary, &self.parent, name)
                    .map_err(|e| self.fault(e))
            });
        if written.is_err()
            && rustix::fs::unlinkat(&self.parent, &temporary, AtFlags::empty()).is_err()
        {
            tracing::debug!(path = self.given, "a temporary file could not be removed");
        }
        written
    }

    fn temporary(&self) -> Result<(File, String), PathFault> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut last = Errno::EXIST;
        for attempt in 0..100_u32 {
            let name = format!(".foreman-write-{}-{attempt}", std::process::id());
            match rustix::fs::openat(&self.parent, &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(fd) => return Ok((File::from(fd), name)),
                Err(Errno::EXIST) => {}
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        Err(self.fault(last))
    }

    fn fault(&self, errno: Errno) -> PathFault {
        fault(errno, &self.given)
    }

    fn io(&self, error: &std::io::Error) -> PathFault {
        PathFault::Io { given: self.given.clone(), why: error.to_string() }
    }
}
