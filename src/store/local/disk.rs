//! The system calls that change something on the local store's disk, one method each.
//!
//! They stand apart so that a test can put a witness between the store and the disk: it writes
//! down each call that was done, from which a test computes what a power cut would leave, and it
//! makes a chosen call fail. In a build without tests there is no witness and no cost.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// How a file came to its new name; see [`Disk::move_new`].
pub(super) enum Moved<'a> {
    /// By one rename: the old name is gone.
    Renamed,
    /// By a second link: the old name still stands and is the caller's to delete. Until then
    /// nobody else in this process links, so that one file never gets two new names. (Another
    /// process could; there each source has one target, which its chain's entry names.)
    Linked(MutexGuard<'a, ()>),
}

/// The disk.
#[derive(Default)]
pub(super) struct Disk {
    linking: Mutex<()>,
    #[cfg(test)]
    witness: Option<std::sync::Arc<super::witness::Witness>>,
}

impl Disk {
    /// The disk, with a witness before it.
    #[cfg(test)]
    pub(super) fn watched_by(witness: &std::sync::Arc<super::witness::Witness>) -> Self {
        Self { witness: Some(std::sync::Arc::clone(witness)), ..Self::default() }
    }

    /// Makes one folder; `AlreadyExists` if there is anything of this name.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.call("make_folder", path, path, || fs::create_dir(path))
    }

    /// Makes an empty file and opens it; `AlreadyExists` if there is anything of this name.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.call("create", path, path, || File::options().write(true).create_new(true).open(path))
    }

    /// Adds all bytes at the end of what was written.
    pub(super) fn write(&self, mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call("write", path, path, || file.write_all(bytes))
    }

    /// Makes a file's bytes and length durable; not its name.
    pub(super) fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.call("sync_file", path, path, || file.sync_all())
    }

    /// Makes a folder's list of names durable; not the folder's own name.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call("sync_folder", path, path, || File::open(path)?.sync_all())
    }

    /// Gives a file a new name if nothing stands there, else `AlreadyExists`. Where kernel or
    /// file system has no rename that refuses to replace (Linux before 3.15, some network file
    /// systems), a link does: two steps, of which the second is the caller's.
    pub(super) fn move_new(&self, from: &Path, to: &Path) -> io::Result<Moved<'_>> {
        let renamed = self.call("rename", from, to, || Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?));
        let without = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP];
        match renamed {
            Ok(()) => Ok(Moved::Renamed),
            Err(error) if Errno::from_io_error(&error).is_some_and(|errno| without.contains(&errno)) => {
                let alone = self.linking.lock().unwrap_or_else(PoisonError::into_inner);
                self.call("link", from, to, || fs::hard_link(from, to)).map(|()| Moved::Linked(alone))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a file's name away.
    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call("unlink", path, path, || fs::remove_file(path))
    }

    #[cfg(test)]
    fn call<T>(
        &self,
        name: &'static str,
        path: &Path,
        to: &Path,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.witness {
            Some(witness) => witness.call(name, path, to, call),
            None => call(),
        }
    }

    #[cfg(not(test))]
    fn call<T>(&self, _: &'static str, _: &Path, _: &Path, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        call()
    }
}
