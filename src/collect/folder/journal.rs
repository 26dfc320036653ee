//! What is known of files besides the tokens: which are done, which are left alone, and which were begun.
//!
//! A file is done in this order: its events are durable; the journal says so, durably; it is deleted, renamed or
//! moved; and the journal forgets it. Who dies in between finds it in the journal, and does it then, without reading
//! it again. Who puts a file back that was done wants it read again.
//!
//! After a restart other files may come before the one that was being read, and from then on tokens tell of those. So
//! where it stood then is noted before anything is read.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::{Done, FolderSettings, Identity, Stand, listing::Found};
use crate::{
    disk,
    fault::{Fault, Kind, Result},
};

/// The journal's file, in the spool's folder.
const NAME: &str = "folder.json";

/// The version of the journal.
const FORMAT: u32 = 1;

/// A file that is left alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aside {
    /// Its path within the folder when it was taken.
    pub file: PathBuf,
    /// Which file it was then.
    pub identity: Identity,
    /// Bytes of it that were taken.
    pub taken: u64,
    /// Why it is left alone.
    pub why: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pages {
    format: u32,
    /// Files whose events are durable, and that are perhaps not done.
    done: Vec<Stand>,
    aside: Vec<Aside>,
    /// Where earlier lives stood when they ended.
    #[serde(default)]
    begun: Vec<Stand>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    pages: Pages,
}

impl Journal {
    /// Opens the journal in this folder.
    ///
    /// # Errors
    /// [`Kind::Lost`]: it is there and cannot be read; those of the file system.
    pub fn open(spool: &Path) -> Result<Self> {
        let path = spool.join(NAME);
        let pages = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let text = format!(
                    "is no journal of a folder ({error}): with it gone, files that are read but not done come again"
                );
                Fault::data(text).kind(Kind::Lost).at(path.display())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Pages { format: FORMAT, done: Vec::new(), aside: Vec::new(), begun: Vec::new() }
            }
            Err(error) => return Err(Fault::io(path.display(), &error)),
        };
        if pages.format != FORMAT {
            let text = format!("is of format {}, this version reads {FORMAT}", pages.format);
            return Err(Fault::user(text).at(path.display()));
        }
        Ok(Self { path, pages })
    }

    /// How far a file was taken all of whose events are durable; perhaps it was changed since. Where nobody knows when
    /// a file was made, one that is another in anything is a new one.
    pub fn done(&self, found: &Found) -> Option<&Stand> {
        let is_known = found.identity.made != 0;
        self.pages.done.iter().find(|stand| found.identity == stand.identity || is_known && found.is_of(stand))
    }

    /// It is done; [`forget`](Self::forget) makes it durable.
    pub fn finished(&mut self, identity: Identity) {
        self.pages.done.retain(|stand| stand.identity != identity);
    }

    /// The file's entry, if it is left alone: whatever became of it since.
    pub fn aside(&self, found: &Found) -> Option<&Aside> {
        self.pages.aside.iter().find(|aside| found.is_file_of(&aside.file, &aside.identity))
    }

    /// Those that are left alone.
    pub fn all_aside(&self) -> &[Aside] {
        &self.pages.aside
    }

    /// Leaves a file alone.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn leave(&mut self, aside: Aside) -> Result<()> {
        self.pages.done.retain(|stand| stand.identity != aside.identity);
        self.pages.begun.retain(|stand| stand.identity != aside.identity);
        if !self.pages.aside.contains(&aside) {
            self.pages.aside.push(aside);
        }
        self.store()
    }

    /// Where an earlier life stood in this file.
    pub fn begun(&self, found: &Found) -> Option<&Stand> {
        self.pages.begun.iter().find(|stand| found.is_of(stand))
    }

    /// An earlier life ended here; [`forget`](Self::forget) makes it durable.
    pub fn begin(&mut self, at: Stand) {
        self.pages.begun.retain(|stand| !stand.identity.is_file_of(&stand.file, &at.identity, &at.file));
        self.pages.begun.push(at);
    }

    /// All events of these files are durable; where they were begun is of no use any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn note_done(&mut self, files: &[Stand]) -> Result<()> {
        let is_one = |stand: &Stand| files.iter().any(|file| file.identity == stand.identity);
        self.pages.begun.retain(|stand| !is_one(stand));
        self.pages.done.retain(|stand| !is_one(stand));
        self.pages.done.extend_from_slice(files);
        self.store()
    }

    /// All files that were to be done are but these; what is gone is forgotten.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&mut self, undone: &[Stand], is_gone: impl Fn(&Path, &Identity) -> bool) -> Result<()> {
        let is_undone = |stand: &Stand| undone.iter().any(|other| other.identity == stand.identity);
        self.pages.done.retain(|stand| is_undone(stand) || !is_gone(&stand.file, &stand.identity));
        self.pages.aside.retain(|aside| !is_gone(&aside.file, &aside.identity));
        self.pages.begun.retain(|stand| !is_gone(&stand.file, &stand.identity));
        self.store()
    }

    fn store(&self) -> Result<()> {
        let new = self.path.with_extension("new");
        let io = |error: io::Error| Fault::io(new.display(), &error);
        let text = serde_json::to_vec(&self.pages).map_err(|error| Fault::internal(error.to_string()))?;
        let mut file = File::create(&new).map_err(io)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)?;
        fs::rename(&new, &self.path).map_err(io)?;
        self.path.parent().map_or(Ok(()), disk::sync_folder)
    }
}

/// Does with a file what is done with those that are read.
///
/// # Errors
/// Those of the file system; a file that is not there any more is none.
pub(super) fn finish(settings: &FolderSettings, file: &Path) -> Result<()> {
    let path = settings.path.join(file);
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let done = match &settings.done {
        Done::Delete => fs::remove_file(&path),
        Done::Rename(suffix) => rename(&path, |nth| {
            let mut name = path.as_os_str().to_owned();
            if nth > 0 {
                name.push(format!(".{nth}"));
            }
            name.push(suffix);
            name.into()
        }),
        Done::Move(folder) => {
            let target = folder.join(file);
            if let Some(above) = target.parent() {
                disk::make_folder(above)?;
            }
            rename(&path, |nth| {
                let mut name = target.as_os_str().to_owned();
                if nth > 0 {
                    name.push(format!(".{nth}"));
                }
                name.into()
            })
        }
    };
    match done {
        Err(error) if gone(&error) => Ok(()),
        done => done.map_err(|error| Fault::io(path.display(), &error)),
    }?;
    path.parent().map_or(Ok(()), disk::sync_folder)
}

/// Renames to the first of these names that is free: nothing is overwritten.
fn rename(path: &Path, name: impl Fn(u32) -> PathBuf) -> io::Result<()> {
    for nth in 0..10_000 {
        let target = name(nth);
        match renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => continue,
            // A file system that does not know how: then nobody else may name files so meanwhile.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if target.exists() => continue,
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => return fs::rename(path, target),
            done => return done.map_err(Into::into),
        }
    }
    Err(io::Error::other("every name for it is taken"))
}
