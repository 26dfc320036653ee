//! Events above the size bound, and answers of no use: the payload is kept as a file beside the spool, and a
//! dead letter points to it.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hasher},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    bus::letters::DeadLetter,
    collect::spool::{Entry, Kind},
    fault::{Fault, Result},
    model::Millis,
};

/// No more of a payload is kept than this, in bytes: an event that never ends must not fill the disk.
const MAX_KEPT: u64 = 1 << 30;

/// A payload on its way into its file, which is gone with it unless it is ended.
pub struct Oversized {
    folder: PathBuf,
    path: Option<PathBuf>,
    file: File,
    len: u64,
    crc32c: u32,
    hash: DefaultHasher,
}

/// Why a payload is kept as a file.
pub enum SetAside {
    /// It has more bytes than the setting of this name allows.
    Above(&'static str),
    /// It is of no use, and why.
    Unreadable(String),
}

/// A payload that is on disk for good.
pub struct Kept {
    /// What a repetition of the event has in common with it.
    pub id: Bytes,
    path: PathBuf,
    len: u64,
}

impl Oversized {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Fault::io(folder.display(), &error))?;
        let path = folder.join(format!(".{}", Uuid::new_v4().simple()));
        let file = File::create_new(&path).map_err(|error| Fault::io(path.display(), &error))?;
        let (folder, hash) = (folder.to_owned(), DefaultHasher::new());
        Ok(Self { folder, path: Some(path), file, len: 0, crc32c: 0, hash })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn append(&mut self, part: &[u8]) -> Result<()> {
        let room = usize::try_from(MAX_KEPT.saturating_sub(self.len)).unwrap_or(usize::MAX);
        self.file.write_all(&part[..part.len().min(room)]).map_err(|error| Fault::io(self.folder.display(), &error))?;
        self.len += part.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, part);
        self.hash.write(part);
        Ok(())
    }

    /// Ends the file, durably, under a name made of its bytes: a repetition finds it there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn end(mut self) -> Result<Kept> {
        let name = format!("{:08x}{:016x}-{}.event", self.crc32c, self.hash.finish(), self.len);
        let path = self.folder.join(&name);
        let io = |error: io::Error| Fault::io(path.display(), &error);
        self.file.sync_all().map_err(io)?;
        if let Some(begun) = &self.path {
            fs::rename(begun, &path).map_err(io)?;
        }
        self.path = None;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(Kept { id: name.into(), path, len: self.len })
    }
}

impl Drop for Oversized {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = self.path.take().map(fs::remove_file);
    }
}

/// Removes what an earlier life has begun and not ended.
///
/// # Errors
/// Those of the file system.
pub fn clear(folder: &Path) -> Result<()> {
    let io = |error: io::Error| Fault::io(folder.display(), &error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

impl Kept {
    /// The letter that points to the file, as an entry of the spool.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn entry(&self, source: &str, token: Bytes, received: Millis, why: SetAside) -> Result<Entry> {
        let (reason, what) = match why {
            SetAside::Above(bound) => ("oversized", format!("an event of {} bytes is above {bound}", self.len)),
            SetAside::Unreadable(why) => ("unreadable", why),
        };
        let far = if self.len > MAX_KEPT { ", as far as its first GiB" } else { "" };
        let letter = DeadLetter {
            reason: reason.to_owned(),
            detail: format!("{source}: {what}; the data is in the file{far}"),
            coordinate: format!("{source}/{}", String::from_utf8_lossy(&self.id)),
            payload: None,
            file: Some(self.path.display().to_string()),
            record: None,
        };
        let text = serde_json::to_vec(&letter).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(Entry { kind: Kind::Letter, received, token, id: self.id.clone(), payload: text.into() })
    }
}

/// The letter of an entry.
///
/// # Errors
/// `Data` if it is none.
pub fn letter(payload: &[u8]) -> Result<DeadLetter> {
    serde_json::from_slice(payload).map_err(|error| Fault::data(format!("is no letter: {error}")))
}
