//! Event files: the folder `events` of a spool whose layout is a file per event.
//!
//! Other programs may list this folder and read what is in it, so a file is there whole or not at
//! all. An event is first written under a *hidden* name, `.<number>-<sequence>` (the data file whose
//! frame names it and its sequence: nobody else's), and gets its own name, without replacing
//! anything, once it and its frame are durable. From then on it never changes until it is deleted
//! together with its data file. So whatever crash comes,
//!
//! - a file under an event's name is an entry of the spool;
//! - a frame that counts has its event under one of the two names, or that is loss;
//! - hidden files without such a frame are left-overs.
//!
//! A name that another program takes in the moment before the event gets it stays that program's:
//! the event keeps its hidden name, is read and sent from there, and the log says so.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{
    chain::{Piece, file_path},
    cursor::{Cursor, Step},
    frame::EventFile,
};
use crate::{
    disk::sync_folder,
    fault::{Fault, Kind, Result},
    model::Sequence,
};

/// Its name in the spool's folder.
const FOLDER: &str = "events";

/// Most file systems give a file whole blocks of this size …
const BLOCK: u64 = 4_096;

/// … and need about this much for the inode and the name.
const INODE: u64 = 512;

/// So many foreign files are named, the others only counted.
const NAMED: usize = 10;

/// Where a spool's event files lie.
pub fn event_folder(spool: &Path) -> PathBuf {
    spool.join(FOLDER)
}

/// What a file of so many bytes takes of a disk.
pub fn room(len: u64) -> u64 {
    len.div_ceil(BLOCK) * BLOCK + INODE
}

/// What somebody else has put into the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// How many files and folders.
    pub count: u64,
    /// Some of them.
    pub some: Vec<PathBuf>,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct EventFolder {
    path: PathBuf,
}

impl EventFolder {
    /// That of the spool in this folder; it may not exist.
    pub fn of(spool: &Path) -> Self {
        Self { path: spool.join(FOLDER) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the event of this name is.
    pub fn named(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where an event is before it has its name.
    pub fn hidden(&self, number: u64, sequence: Sequence) -> PathBuf {
        self.path.join(format!(".{number}-{sequence}"))
    }

    /// Whether something has this name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn is_taken(&self, name: &str) -> Result<bool> {
        let path = self.named(name);
        match fs::symlink_metadata(&path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Fault::io(path.display(), &error)),
        }
    }

    /// Makes durable which files there are.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync(&self) -> Result<()> {
        sync_folder(&self.path)
    }

    /// The event of this frame.
    ///
    /// # Errors
    /// `Lost`: it is gone, or not what was written; the message names the file.
    pub fn load(&self, number: u64, sequence: Sequence, file: &EventFile) -> Result<Bytes> {
        let (named, hidden) = (self.named(&file.name), self.hidden(number, sequence));
        let mut wrong = "is gone".to_owned();
        // The last look is for one that got its name between the first two.
        for path in [&named, &hidden, &named] {
            match read_if_as_long(path, file.len) {
                Ok(Ok(bytes)) if crc32c::crc32c(&bytes) == file.crc32c => return Ok(bytes.into()),
                Ok(Ok(_)) => wrong = format!("was altered: it still has {} bytes, but other ones", file.len),
                Ok(Err(len)) => wrong = format!("was altered: it has {len} bytes instead of {}", file.len),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::io(path.display(), &error)),
            }
        }
        Err(Fault::data(format!("{}: the file of entry {sequence} {wrong}", named.display())).kind(Kind::Lost))
    }

    /// Makes the event of this frame durable, if it is there and whole; no if it is not.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep(&self, number: u64, sequence: Sequence, file: &EventFile) -> Result<bool> {
        match self.load(number, sequence, file) {
            Err(fault) if fault.kind == Kind::Lost => return Ok(false),
            loaded => drop(loaded?),
        }
        for path in [self.hidden(number, sequence), self.named(&file.name)] {
            match File::open(&path).and_then(|file| file.sync_data()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Fault::io(path.display(), &error));
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Gives an event, which is durable and whose frame is, its name.
    ///
    /// # Errors
    /// Those of the file system. A name that is taken is none: the log says so.
    pub fn publish(&self, number: u64, sequence: Sequence, name: &str) -> Result<()> {
        let (hidden, named) = (self.hidden(number, sequence), self.named(name));
        match rename(&hidden, &named) {
            Ok(()) => Ok(()),
            // By a link whose other half a crash has cut off.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(&hidden, &named) => {
                remove(&hidden).map(drop)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                tracing::warn!(
                    file = %named.display(), kept_as = %hidden.display(),
                    "another program has taken an event's name, the event stays hidden"
                );
                Ok(())
            }
            // A newer writer has found the frame and done it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Fault::io(named.display(), &error)),
        }
    }

    /// The sequences of this data file's events that have no name yet.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn unpublished(&self, number: u64) -> Result<BTreeSet<Sequence>> {
        let mut sequences = BTreeSet::new();
        self.each(|name| {
            sequences.extend(hidden_of(name).filter(|(of, _)| *of == number).map(|(_, sequence)| sequence))
        })?;
        Ok(sequences)
    }

    /// Deletes the events of a data file whose end is known, durably: they must not outlive it, or
    /// nobody would know whose they are. Answers those that were hidden, to be deleted after the data
    /// file: as long as both are there, their names are known to be somebody else's.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn delete(&self, spool: &Path, piece: &Piece) -> Result<Vec<PathBuf>> {
        let (number, mut hidden) = (piece.header.file, Vec::new());
        if piece.events == 0 {
            return Ok(hidden);
        }
        let Some(mut cursor) = Cursor::open(&file_path(spool, number), piece.end)? else { return Ok(hidden) };
        while let Step::Frame(raw) = cursor.step()? {
            let Some(file) = raw.file else { continue };
            let path = self.hidden(number, raw.sequence);
            if path.exists() {
                hidden.push(path);
            } else {
                remove(&self.named(&file.name))?;
            }
        }
        self.sync()?;
        Ok(hidden)
    }

    /// Deletes the left-overs of writers before the one of the data file `own`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn clear(&self, own: u64, chain: &[Piece]) -> Result<()> {
        let ends = chain.iter().skip(1).map(|piece| piece.header.first);
        let counts = |(number, sequence): &(u64, Sequence)| {
            let piece = chain.iter().zip(ends.clone()).find(|(piece, _)| piece.header.file == *number);
            piece.is_some_and(|(piece, end)| (piece.header.first..end).contains(sequence))
        };
        let mut left_over = Vec::new();
        self.each(|name| left_over.extend(hidden_of(name).filter(|hidden| hidden.0 < own && !counts(hidden))))?;
        for (number, sequence) in left_over {
            remove(&self.hidden(number, sequence))?;
        }
        Ok(())
    }

    /// What is in the folder and no event of the spool whose chain this is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn foreign(&self, spool: &Path, chain: &[Piece]) -> Result<Foreign> {
        // There may be as many names as fit into the spool: of each a number is kept.
        let number = |name: &str| {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            hasher.finish()
        };
        let mut ours = Vec::new();
        for piece in chain.iter().filter(|piece| piece.events > 0) {
            let Some(mut cursor) = Cursor::open(&file_path(spool, piece.header.file), piece.end)? else { continue };
            while let Step::Frame(raw) = cursor.step()? {
                ours.extend(raw.file.map(|file| number(&file.name)));
            }
        }
        ours.sort_unstable();
        let mut foreign = Foreign::default();
        self.each(|name| {
            if hidden_of(name).is_none() && ours.binary_search(&number(name)).is_err() {
                foreign.count += 1;
                if foreign.some.len() < NAMED {
                    foreign.some.push(self.named(name));
                }
            }
        })?;
        Ok(foreign)
    }

    // Each name in the folder, as far as it is text; none without a folder.
    fn each(&self, mut visit: impl FnMut(&str)) -> Result<()> {
        let io = |error: io::Error| Fault::io(self.path.display(), &error);
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(io)?,
        };
        for entry in entries {
            visit(&entry.map_err(io)?.file_name().to_string_lossy());
        }
        Ok(())
    }
}

/// The data file and the sequence that a hidden name says.
fn hidden_of(name: &str) -> Option<(u64, Sequence)> {
    let (number, sequence) = name.strip_prefix('.')?.split_once('-')?;
    Some((number.parse().ok()?, sequence.parse().ok()?))
}

// The file's bytes, or how many they are if that is another number.
fn read_if_as_long(path: &Path, len: u64) -> io::Result<Result<Vec<u8>, u64>> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    if found != len {
        return Ok(Err(found));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    (&mut file).take(len).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino())).ok();
    id(one).is_some_and(|one| id(other) == Some(one))
}

// Deletes a file; no if there was none.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Fault::io(path.display(), &error)),
    }
}

// Renames without replacing, also where the kernel or the file system cannot do it in one step.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}
