//! Each call of the local store as a sequence of steps on the disk, in the order that keeps its
//! promise at any point where it may be cut off. Blocking; no async code here.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    super::{Entry, Put, Renamed, StorePath},
    disk::{Disk, Moved},
};
use crate::fault::{Fault, Kind, Result, Retry};

/// What is known of the folders of a store, so that the hot paths neither make nor sync anything
/// twice.
#[derive(Default)]
struct Folders {
    /// These stand, on the store's mount, and their names are durable up to the root.
    made: HashSet<PathBuf>,
    /// Every name in these that an earlier process left is durable.
    settled: HashSet<PathBuf>,
}

/// The steps over one root.
pub(super) struct Steps {
    disk: Disk,
    root: PathBuf,
    device: u64,
    writable: bool,
    folders: Mutex<Folders>,
}

impl Steps {
    pub(super) fn open(disk: Disk, root: &Path) -> Result<Self> {
        let root = absolute(root)?;
        make_line(&disk, &root)?;
        let steps = Self::over(disk, root, true)?;
        let probe = steps.root.join(temporary_name());
        steps.write_temporary(&probe, b"howdah was here\n").map_err(|e| fault("testing", &probe, &e))?;
        steps.disk.unlink(&probe).map_err(|e| fault("testing", &probe, &e))?;
        Ok(steps)
    }

    pub(super) fn open_to_read(disk: Disk, root: &Path) -> Result<Self> {
        Self::over(disk, absolute(root)?, false)
    }

    fn over(disk: Disk, root: PathBuf, writable: bool) -> Result<Self> {
        let meta = fs::metadata(&root).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let text = format!("local store: there is no folder {}; `howdah run` makes it", root.display());
                Fault::user(text).retry(Retry::Backoff)
            }
            _ => fault("opening", &root, &e),
        })?;
        if !meta.is_dir() {
            let text = format!("local store: {} is no folder", root.display());
            return Err(Fault::user(text).retry(Retry::Backoff));
        }
        Ok(Self { disk, root, device: meta.dev(), writable, folders: Mutex::default() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn create(&self, path: &StorePath) -> Result<(PathBuf, File)> {
        if !path.is_hidden() {
            return Err(Fault::internal(format!("local store: a file begun at {path} would be taken for data")));
        }
        let at = self.at_for_writing(path)?;
        let file = self.in_folder_of(&at, || self.disk.create(&at))?.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Fault::internal(format!("local store: {} exists already", at.display())),
            _ => fault("creating", &at, &e),
        })?;
        self.sync_folder_of(&at).map_err(Fault::unknown_effect)?;
        Ok((at, file))
    }

    pub(super) fn append(&self, file: &File, at: &Path, bytes: &[u8]) -> Result<()> {
        self.disk.write(file, at, bytes).map_err(|e| fault("writing", at, &e).unknown_effect())
    }

    pub(super) fn sync(&self, file: &File, at: &Path) -> Result<()> {
        self.disk.sync_file(file, at).map_err(|e| fault("syncing", at, &e).unknown_effect())
    }

    pub(super) fn put_if_absent(&self, path: &StorePath, bytes: &[u8]) -> Result<Put> {
        let at = self.at_for_writing(path)?;
        // Not for speed alone: on a full disk, what stands there can still be found.
        if self.stands(&at)? {
            return self.sync_folder_of(&at).map(|()| Put::Exists);
        }
        let temporary = at.with_file_name(temporary_name());
        self.in_folder_of(&at, || self.write_temporary(&temporary, bytes))?.map_err(|e| fault("writing", &at, &e))?;
        match self.disk.move_new(&temporary, &at) {
            Ok(moved) => {
                if let Moved::Linked(_alone) = moved {
                    // The put is done; a temporary name that stays is hidden, and the reaper's.
                    let _ = self.disk.unlink(&temporary);
                }
                self.sync_folder_of(&at).map_err(Fault::unknown_effect)?;
                Ok(Put::Created)
            }
            Err(error) => {
                let _ = self.disk.unlink(&temporary);
                match error.kind() {
                    ErrorKind::AlreadyExists if self.stands(&at)? => self.sync_folder_of(&at).map(|()| Put::Exists),
                    _ => Err(change_fault("putting", &at, &error)),
                }
            }
        }
    }

    pub(super) fn rename_if_absent(&self, from: &StorePath, to: &StorePath) -> Result<Renamed> {
        let (source, target) = (self.at_for_writing(from)?, self.at_for_writing(to)?);
        if source == target || !self.stands(&source)? {
            return self.without_source(&target);
        }
        match self.in_folder_of(&target, || self.disk.move_new(&source, &target))? {
            Ok(Moved::Renamed) => {}
            Ok(Moved::Linked(_alone)) => return self.drop_second_name(&source, &target),
            Err(e) if e.kind() == ErrorKind::AlreadyExists && self.stands(&target)? => {
                // Both names of one file: an earlier rename by link was cut off between its steps.
                if same_file(&source, &target).map_err(|e| fault("looking at", &source, &e))? {
                    return self.drop_second_name(&source, &target);
                }
                return self.sync_folder_of(&target).map(|()| Renamed::TargetExists);
            }
            // Another was faster with the same source.
            Err(e) if e.kind() == ErrorKind::NotFound && !self.stands(&source)? => return self.without_source(&target),
            Err(e) => return Err(change_fault(&format!("renaming {} to", source.display()), &target, &e)),
        }
        self.sync_both(&source, &target)?;
        Ok(Renamed::Done)
    }

    pub(super) fn read_range(&self, path: &StorePath, offset: u64, len: usize) -> Result<Option<Bytes>> {
        let at = self.at(path);
        match read_range(&at, offset, len) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(fault("reading", &at, &e)),
        }
    }

    pub(super) fn stat(&self, path: &StorePath) -> Result<Option<Entry>> {
        let at = self.at(path);
        match fs::metadata(&at) {
            Ok(meta) => Ok(Some(entry(path.name().to_owned(), &meta))),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(fault("looking at", &at, &e)),
        }
    }

    pub(super) fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let at = self.at(folder);
        let mut entries = match self.settle(&at).and_then(|()| fs::read_dir(&at)) {
            Ok(names) => names.filter_map(|found| found_entry(found).transpose()).collect::<io::Result<Vec<_>>>(),
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => Err(e),
        }
        .map_err(|e| fault("listing", &at, &e))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    pub(super) fn delete(&self, path: &StorePath) -> Result<bool> {
        let at = self.at_for_writing(path)?;
        let was_there = match self.disk.unlink(&at) {
            Ok(()) => true,
            Err(e) if is_absent(&e) => false,
            Err(e) => return Err(change_fault("deleting", &at, &e)),
        };
        // Also when it was gone: whoever took it may have been killed before this sync.
        match self.sync_folder_of(&at) {
            Err(_) if !was_there && !at.parent().is_some_and(Path::is_dir) => Ok(false),
            synced => synced.map_err(Fault::unknown_effect).map(|()| was_there),
        }
    }

    fn at(&self, path: &StorePath) -> PathBuf {
        self.root.join(path.as_str().trim_start_matches('/'))
    }

    fn at_for_writing(&self, path: &StorePath) -> Result<PathBuf> {
        if !self.writable {
            return Err(Fault::internal(format!("local store {}: opened to read", self.root.display())));
        }
        if path.name().is_empty() {
            return Err(Fault::internal(format!("local store: {path} is the root, not a file")));
        }
        Ok(self.at(path))
    }

    /// Whether there is a file; a folder in its place is a fault.
    fn stands(&self, at: &Path) -> Result<bool> {
        match fs::metadata(at) {
            Ok(meta) if meta.is_dir() => {
                Err(Fault::user(format!("local store: {} is a folder, where a file belongs", at.display())))
            }
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(fault("looking at", at, &e)),
        }
    }

    /// Writes a temporary file, whole and synced; or leaves none.
    fn write_temporary(&self, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.create(temporary)?;
        let written = self.disk.write(&file, temporary, bytes).and_then(|()| self.disk.sync_file(&file, temporary));
        if written.is_err() {
            let _ = self.disk.unlink(temporary);
        }
        written
    }

    fn without_source(&self, target: &Path) -> Result<Renamed> {
        if self.stands(target)? {
            self.sync_folder_of(target)?;
            return Ok(Renamed::TargetExists);
        }
        Ok(Renamed::SourceMissing)
    }

    /// The second half of a rename by link. Of several who come here, the one that takes the old
    /// name away is the one that renamed.
    fn drop_second_name(&self, source: &Path, target: &Path) -> Result<Renamed> {
        // The new name first: a power cut must not take both.
        self.sync_folder_of(target).map_err(Fault::unknown_effect)?;
        let renamed = match self.disk.unlink(source) {
            Ok(()) => Renamed::Done,
            Err(e) if e.kind() == ErrorKind::NotFound => Renamed::TargetExists,
            Err(e) => return Err(fault("deleting", source, &e).unknown_effect()),
        };
        self.sync_both(source, target)?;
        Ok(renamed)
    }

    fn sync_both(&self, source: &Path, target: &Path) -> Result<()> {
        self.sync_folder_of(target).map_err(Fault::unknown_effect)?;
        if source.parent() != target.parent() {
            self.sync_folder_of(source).map_err(Fault::unknown_effect)?;
        }
        Ok(())
    }

    fn sync_folder_of(&self, at: &Path) -> Result<()> {
        let folder = at.parent().unwrap_or(&self.root);
        self.disk.sync_folder(folder).map_err(|e| fault("syncing", folder, &e))
    }

    /// Makes what an earlier process left in a folder durable before anybody builds on it.
    fn settle(&self, folder: &Path) -> io::Result<()> {
        if self.writable && !self.folders().settled.contains(folder) {
            self.disk.sync_folder(folder)?;
            self.folders().settled.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Does a step that needs the folder of `at`; a folder that went away meanwhile is made once
    /// more.
    fn in_folder_of<T>(&self, at: &Path, step: impl Fn() -> io::Result<T>) -> Result<io::Result<T>> {
        let folder = at.parent().unwrap_or(&self.root);
        self.make_folders(folder)?;
        match step() {
            Err(e) if e.kind() == ErrorKind::NotFound && !folder.is_dir() => {
                *self.folders() = Folders::default();
                self.make_folders(folder)?;
                Ok(step())
            }
            done => Ok(done),
        }
    }

    fn make_folders(&self, folder: &Path) -> Result<()> {
        if self.folders().made.contains(folder) {
            return Ok(());
        }
        // The root itself is never made anew: if it is gone, so is the disk it was on.
        if let Some(above) = folder.parent().filter(|_| folder != self.root) {
            self.make_folders(above)?;
            make_folder(&self.disk, folder, above)?;
        }
        let meta = fs::metadata(folder).map_err(|e| fault("looking at", folder, &e))?;
        if meta.dev() != self.device {
            return Err(Fault::user(format!(
                "local store: {} lies on another mount than the store had at its root {} when it was opened; \
                 a store needs one mount",
                folder.display(),
                self.root.display()
            )));
        }
        self.folders().made.insert(folder.to_owned());
        Ok(())
    }

    fn folders(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absolute(root: &Path) -> Result<PathBuf> {
    std::path::absolute(root).map_err(|e| fault("opening", root, &e))
}

fn temporary_name() -> String {
    format!(".tmp-{}", Uuid::new_v4().simple())
}

/// Makes a folder and all that are missing above it.
fn make_line(disk: &Disk, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_line(disk, above)?;
        make_folder(disk, folder, above)?;
    }
    Ok(())
}

/// Makes a folder, if need be, and its name durable in any case.
fn make_folder(disk: &Disk, folder: &Path, above: &Path) -> Result<()> {
    match disk.make_folder(folder) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if !folder.is_dir() {
                return Err(Fault::user(format!(
                    "local store: {} is a file, where a folder belongs",
                    folder.display()
                )));
            }
        }
        made => made.map_err(|e| fault("making", folder, &e))?,
    }
    disk.sync_folder(above).map_err(|e| fault("syncing", above, &e))
}

fn read_range(at: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let file = File::open(at)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let left = meta.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(len)];
    // The length is a hint only: a file that shrinks under us must not hang the loop.
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn found_entry(found: io::Result<fs::DirEntry>) -> io::Result<Option<Entry>> {
    let found = found?;
    // A name that is no UTF-8 can be no store path: it is none of ours.
    let Ok(name) = found.file_name().into_string() else { return Ok(None) };
    match fs::metadata(found.path()) {
        Ok(meta) => Ok(Some(entry(name, &meta))),
        // Deleted or renamed since the folder was read.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn entry(name: String, meta: &Metadata) -> Entry {
    let folder = meta.is_dir();
    let modified = meta.mtime().saturating_mul(1_000).saturating_add(meta.mtime_nsec() / 1_000_000);
    Entry { name, len: if folder { 0 } else { meta.len() }, modified, folder }
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = match (fs::metadata(one), fs::metadata(other)) {
        (Err(e), _) | (_, Err(e)) if e.kind() == ErrorKind::NotFound => return Ok(false),
        (one, other) => (one?, other?),
    };
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Nothing can be there: no such name, or a file where a folder would have to be.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// A change of a name that failed. Some errors say that it was refused; after all others it may
/// have happened, or still may (a network file system).
fn change_fault(doing: &str, at: &Path, error: &io::Error) -> Fault {
    let fault = fault(doing, at, error);
    match error.kind() {
        _ if fault.kind == Kind::Full => fault,
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::CrossesDevices
        | ErrorKind::AlreadyExists
        | ErrorKind::NotFound
        | ErrorKind::InvalidFilename
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory => fault,
        _ => fault.unknown_effect(),
    }
}

/// An error of the disk, in words that say what to do where a person can.
fn fault(doing: &str, at: &Path, error: &io::Error) -> Fault {
    let mut fault = Fault::io(format_args!("local store: {doing} {}", at.display()), error);
    let folder = at.parent().unwrap_or(at).display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let uid = rustix::process::geteuid().as_raw();
            fault.message = format!("{}; uid {uid} needs the right to do so in folder {folder}", fault.message);
        }
        ErrorKind::ReadOnlyFilesystem => {
            let uid = rustix::process::geteuid().as_raw();
            fault.message = format!("{}; folder {folder} must be writable for uid {uid}", fault.message);
        }
        ErrorKind::CrossesDevices => fault = Fault::user(format!("{}; a store needs one mount", fault.message)),
        ErrorKind::InvalidFilename => fault = Fault::user(fault.message),
        _ => {}
    }
    fault
}
