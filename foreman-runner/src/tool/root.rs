//! The tree a model works in, and the only way from a path to a file of it.
//!
//! A path is walked component by component from the open root directory, each step with
//! `openat(…, O_NOFOLLOW)`; a symbolic link is read and its target walked the same way. So there is
//! no moment between check and use, a link that leads outside is refused wherever it stands, and
//! `.git` is refused under every name it can be reached by. One way for every system: Linux's
//! `openat2` could not refuse `.git` behind a link.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::place::Place;
use crate::limits::{PATH_BYTES_MAX, SYMLINKS_MAX};

/// Why a path gives no file. The words are for the model.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PathFault {
    /// Empty, too long, or with a zero byte.
    #[error(
        "the path {given:?} is not usable: it must be 1 to {PATH_BYTES_MAX} bytes without a zero byte"
    )]
    Unusable {
        /// The path.
        given: String,
    },
    /// It leads outside the workspace.
    #[error("the path {given:?} leads outside the workspace; use a path relative to its root")]
    Outside {
        /// The path.
        given: String,
    },
    /// It leads into a git directory.
    #[error("the path {given:?} leads into .git, which is not yours; use git_status and git_diff")]
    Git {
        /// The path.
        given: String,
    },
    /// There is nothing.
    #[error("there is no {given:?} in the workspace{hint}")]
    Missing {
        /// The path.
        given: String,
        /// Where something like it is.
        hint: String,
    },
    /// A part of it is a file.
    #[error("a part of the path {given:?} is a file, not a directory")]
    NotADirectory {
        /// The path.
        given: String,
    },
    /// It is a directory.
    #[error("{given:?} is a directory")]
    IsADirectory {
        /// The path.
        given: String,
    },
    /// It is a pipe, a device or a socket.
    #[error("{given:?} is not a regular file")]
    Special {
        /// The path.
        given: String,
    },
    /// Links that go in circles.
    #[error("the path {given:?} goes through too many symbolic links")]
    Links {
        /// The path.
        given: String,
    },
    /// The system refused.
    #[error("{given:?} cannot be used: {why}")]
    Io {
        /// The path.
        given: String,
        /// What the system said.
        why: String,
    },
}

/// The root of a tree. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Root {
    dir: Arc<OwnedFd>,
    path: PathBuf,
}

impl Root {
    /// Opens the root; everything later is relative to this open directory.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let path = path.canonicalize()?;
        let dir = rustix::fs::open(&path, directory_flags(), Mode::empty())?;
        Ok(Self { dir: Arc::new(dir), path })
    }

    /// Where the root is, links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Walks to a place. With `create`, missing directories on the way are made.
    pub(super) fn place(&self, given: &Path, create: bool) -> Result<Place, PathFault> {
        let name = given.to_string_lossy().into_owned();
        let bytes = given.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.len() > PATH_BYTES_MAX || bytes.contains(&0) {
            return Err(PathFault::Unusable { given: crate::text::clip(&name, 200) });
        }
        let relative =
            if given.is_absolute() { self.below_root(given, &name)? } else { given.to_owned() };
        let mut walk = Walk { root: self, stack: Vec::new(), links: 0, create, given: name };
        walk.run(components(&relative))
    }

    fn below_root(&self, path: &Path, given: &str) -> Result<PathBuf, PathFault> {
        path.strip_prefix(&self.path)
            .map(Path::to_owned)
            .map_err(|_| PathFault::Outside { given: given.to_owned() })
    }
}

struct Walk<'a> {
    root: &'a Root,
    /// The directories below the root that were entered.
    stack: Vec<(OsString, OwnedFd)>,
    links: usize,
    create: bool,
    given: String,
}

impl Walk<'_> {
    fn run(&mut self, mut pending: VecDeque<OsString>) -> Result<Place, PathFault> {
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                if self.stack.pop().is_none() {
                    return Err(PathFault::Outside { given: self.given.clone() });
                }
                continue;
            }
            if is_git(name.as_bytes()) {
                return Err(PathFault::Git { given: self.given.clone() });
            }
            let kind = self.kind(&name)?;
            if kind == Some(FileType::Symlink) {
                self.follow(&name, &mut pending)?;
            } else if pending.is_empty() {
                return self.arrived(Some(name), kind);
            } else {
                self.enter(name, kind)?;
            }
        }
        // The path ended at a directory that was entered ("a/..", ".", a link to a directory).
        match self.stack.pop() {
            Some((name, _)) => self.arrived(Some(name), Some(FileType::Directory)),
            None => self.arrived(None, Some(FileType::Directory)),
        }
    }

    fn here(&self) -> rustix::fd::BorrowedFd<'_> {
        self.stack.last().map_or_else(|| self.root.dir.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn kind(&self, name: &OsStr) -> Result<Option<FileType>, PathFault> {
        match rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(fault(error, &self.given)),
        }
    }

    fn follow(&mut self, name: &OsStr, pending: &mut VecDeque<OsString>) -> Result<(), PathFault> {
        self.links += 1;
        if self.links > SYMLINKS_MAX {
            return Err(PathFault::Links { given: self.given.clone() });
        }
        let target = rustix::fs::readlinkat(self.here(), name, Vec::new())
            .map_err(|e| fault(e, &self.given))?;
        let mut target = PathBuf::from(OsStr::from_bytes(target.to_bytes()));
        if target.is_absolute() {
            target = self.root.below_root(&target, &self.given)?;
            self.stack.clear();
        }
        for component in components(&target).into_iter().rev() {
            pending.push_front(component);
        }
        Ok(())
    }

    fn enter(&mut self, name: OsString, kind: Option<FileType>) -> Result<(), PathFault> {
        if kind.is_none() && self.create {
            match rustix::fs::mkdirat(self.here(), &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(fault(error, &self.given)),
            }
        }
        let fd = rustix::fs::openat(self.here(), &name, directory_flags(), Mode::empty())
            .map_err(|e| fault(e, &self.given))?;
        self.stack.push((name, fd));
        Ok(())
    }

    fn arrived(&self, name: Option<OsString>, kind: Option<FileType>) -> Result<Place, PathFault> {
        let parent = self
            .here()
            .try_clone_to_owned()
            .map_err(|error| PathFault::Io { given: self.given.clone(), why: error.to_string() })?;
        let below: PathBuf =
            self.stack.iter().map(|(part, _)| part.as_os_str()).chain(name.as_deref()).collect();
        Ok(Place { parent, name, kind, below, given: self.given.clone() })
    }
}

pub(super) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Whether a name is git's own, in any case: some file systems do not tell cases apart.
pub(super) fn is_git(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git")
}

pub(super) fn fault(errno: Errno, given: &str) -> PathFault {
    let given = given.to_owned();
    match errno {
        Errno::NOENT => PathFault::Missing { given, hint: String::new() },
        Errno::NOTDIR => PathFault::NotADirectory { given },
        Errno::ISDIR => PathFault::IsADirectory { given },
        // A link that appeared after we looked.
        Errno::LOOP => PathFault::Links { given },
        Errno::NXIO => PathFault::Special { given },
        other => PathFault::Io { given, why: std::io::Error::from(other).to_string() },
    }
}
