//! A spool's folder: whose it is, and which of its files are the spool.
//!
//! `spool.json` is written once the first file is durable. So files without it are a start that was
//! cut short, and it without files is a spool that has lost them: the entries that were in them may
//! be on the bus under sequences that must not come again, so the spool gets another id. The header
//! of its first file then names the id it replaces, until `spool.json` is written again.
//!
//! The files are chained by their headers. The newest one with a header is the last of the chain;
//! each header names the file before, until one that is named is gone: it was released. Files
//! outside the chain are left-overs of writers that were replaced before they began.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    files::EventFolder,
    header::{self, FORMAT, HEADER_LEN, Header},
};
use crate::{
    disk::sync_folder,
    fault::{Fault, Kind, Result},
    model::{Millis, Sequence},
};

const IDENTITY: &str = "spool.json";

/// Whose spool a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The format of the folder.
    pub format: u32,
    /// The spool's own id.
    pub uuid: Uuid,
    /// The source whose events it holds.
    pub source: String,
    /// When the spool was made: nothing of the source was received before.
    pub created: Millis,
}

/// A file of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its header.
    pub header: Header,
    /// Up to where it counts; `None` for the last one.
    pub end: Option<u64>,
    /// What its event files take, in bytes; not known of the last one.
    pub events: u64,
}

/// A data file's path.
pub fn file_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.spool"))
}

/// The numbers of the data files, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<u64>> {
    let io = |error: &io::Error| Fault::io(folder.display(), error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io(&error))? {
        let name = entry.map_err(|error| io(&error))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".spool")).filter(|digits| digits.len() == 20);
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Bytes of all data files, without the events that are files of their own.
///
/// # Errors
/// The folder cannot be read.
pub fn used(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for number in list(folder)? {
        let path = file_path(folder, number);
        match fs::metadata(&path) {
            Ok(metadata) => bytes += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Fault::io(path.display(), &error)),
        }
    }
    Ok(bytes)
}

/// The identity of a spool's folder; `None` if it has none.
///
/// # Errors
/// `User` for another format, `Lost` if it cannot be understood.
pub fn read_identity(folder: &Path) -> Result<Option<Identity>> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = folder.join(IDENTITY);
    let lost = |error: serde_json::Error| Fault::data(format!("{}: damaged: {error}", path.display())).kind(Kind::Lost);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io(path.display(), &error)),
    };
    let Format { format } = serde_json::from_slice(&text).map_err(lost)?;
    if format != FORMAT {
        return Err(header::unknown_format(format).at(path.display()));
    }
    serde_json::from_slice(&text).map(Some).map_err(lost)
}

/// Writes the identity, durably and whole, over the one that is there.
///
/// # Errors
/// It cannot be written.
pub fn write_identity(folder: &Path, identity: &Identity) -> Result<()> {
    let path = folder.join(IDENTITY);
    let staging = folder.join(format!(".{IDENTITY}.{}", Uuid::new_v4().simple()));
    let text = serde_json::to_vec(identity).map_err(|error| Fault::internal(format!("{}: {error}", path.display())))?;
    let written = File::create(&staging).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&staging, &path)
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&staging);
        Fault::io(path.display(), &error)
    })?;
    sync_folder(folder)
}

/// Creates a data file that does not exist yet; `None` if it does.
///
/// # Errors
/// It cannot be created.
pub fn create(folder: &Path, number: u64) -> Result<Option<File>> {
    let path = file_path(folder, number);
    match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(Fault::io(path.display(), &error)),
    }
}

/// The chain as it is now, oldest first, of the files numbered below `below`; empty if no file has
/// a header. `is_ours` judges the newest one's; the others are of the same spool.
///
/// # Errors
/// `Lost` if a header is damaged, a file is shorter than its successor says, or a file is of
/// another spool; `User` for another format.
pub fn load(folder: &Path, below: u64, is_ours: impl Fn(&Header) -> bool) -> Result<Vec<Piece>> {
    loop {
        let numbers = list(folder)?;
        match follow(folder, &numbers, below, &is_ours) {
            // A file that went while the chain was followed leaves a wrong one before it as the newest.
            Err(fault) if fault.kind == Kind::Lost && list(folder)? != numbers => {}
            chain => return chain,
        }
    }
}

fn follow(folder: &Path, numbers: &[u64], below: u64, is_ours: impl Fn(&Header) -> bool) -> Result<Vec<Piece>> {
    let mut chain: Vec<Piece> = Vec::new();
    for &number in numbers.iter().rev().skip_while(|number| **number >= below) {
        let path = file_path(folder, number);
        let lost = |what: String| Fault::data(format!("{}: {what}", path.display())).kind(Kind::Lost);
        let before = match chain.last().map(|piece: &Piece| piece.header.before) {
            Some(Some(before)) if before.file > number => break,
            Some(Some(before)) if before.file == number => Some(before),
            Some(Some(_)) => continue,
            Some(None) => break,
            None => None,
        };
        let (header, len) = match (read_header(&path)?, before) {
            (Some((Some(header), len)), _) => (header, len),
            (Some((None, _)), Some(_)) => return Err(lost("the header is gone".to_owned())),
            // Released just now.
            (None, Some(_)) => break,
            (_, None) => continue,
        };
        let ours = chain.last().map_or_else(|| is_ours(&header), |next| next.header.spool == header.spool);
        if !ours || header.file != number {
            return Err(lost(format!("file {} of spool {}, which does not belong here", header.file, header.spool)));
        }
        if let Some(before) = before.filter(|before| before.len > len) {
            return Err(lost(format!("{len} bytes long, but it held {}", before.len)));
        }
        if let Some(next) = chain.last().filter(|next| next.header.first < header.first) {
            return Err(lost(format!("begins with entry {}, its successor with {}", header.first, next.header.first)));
        }
        let (end, events) = (before.map(|before| before.len), before.map_or(0, |before| before.events));
        chain.push(Piece { header, end, events });
    }
    chain.reverse();
    Ok(chain)
}

/// Deletes the files of `chain` that hold nothing from `next` on, with their events, and whatever is
/// older than the chain; answers how many of the chain's. `chain` is the newest there is.
///
/// # Errors
/// A file cannot be deleted.
pub fn delete_below(folder: &Path, chain: &[Piece], next: Sequence) -> Result<usize> {
    let gone = chain.windows(2).take_while(|pair| pair[1].header.first <= next).count();
    // A file that names none before it begins the spool anew.
    let begins = |piece: &&Piece| gone > 0 || piece.header.before.is_none();
    let Some(kept) = chain.get(gone).filter(begins) else { return Ok(0) };
    // Oldest first, so that what is left is a chain at any moment.
    for number in list(folder)?.into_iter().take_while(|number| *number < kept.header.file) {
        let piece = chain[..gone].iter().find(|piece| piece.header.file == number);
        let hidden = piece.map_or(Ok(Vec::new()), |piece| EventFolder::of(folder).delete(folder, piece))?;
        for path in std::iter::once(file_path(folder, number)).chain(hidden) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Fault::io(path.display(), &error)),
                _ => {}
            }
        }
    }
    Ok(gone)
}

// The header of a file, if it was ever begun, and the file's length; `None` if it is gone.
fn read_header(path: &Path) -> Result<Option<(Option<Header>, u64)>> {
    let read = || -> io::Result<(Vec<u8>, u64)> {
        let mut file = File::open(path)?;
        let mut block = Vec::new();
        (&mut file).take(HEADER_LEN).read_to_end(&mut block)?;
        Ok((block, file.metadata()?.len()))
    };
    match read() {
        Ok((block, len)) => {
            let header = header::decode(&block, len).map_err(|fault| fault.at(path.display()))?;
            Ok(Some((header, len)))
        }
        Err(error) if io::ErrorKind::NotFound == error.kind() => Ok(None),
        Err(error) => Err(Fault::io(path.display(), &error)),
    }
}
