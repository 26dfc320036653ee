//! Where a Flume agent stood that read the folder before.
//!
//! Flume's spooling-directory source keeps, in `.flumespool/.flumespool-main.meta`, the path of the file that it
//! reads and how far it is (`DurablePositionTracker`): an Avro container file with the path as `file` in its
//! metadata, and records of one `long`, of which the last one counts. It deletes the file when it is done with
//! the other one, and so does who takes over.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::TRACKER;
use crate::fault::{Fault, Result};

/// Where an agent stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tracked {
    /// The file with that in it.
    pub meta: PathBuf,
    /// The path of the file that was read.
    pub target: PathBuf,
    /// Bytes of it that are taken.
    pub at: u64,
    /// When this was written, in nanoseconds since 1970: a file that was changed later is another one.
    pub written: i64,
}

/// What an agent left in this folder, if there is anything.
///
/// # Errors
/// `User`, again with back-off: it is there and cannot be read.
pub(super) fn tracked(folder: &Path) -> Result<Option<Tracked>> {
    let meta = folder.join(TRACKER).join(".flumespool-main.meta");
    let io = |error: io::Error| Fault::io(meta.display(), &error);
    let bytes = match fs::read(&meta) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    // As Flume has it: made, and nothing was written into it.
    if bytes.is_empty() {
        return Ok(None);
    }
    let about = fs::metadata(&meta).map_err(io)?;
    let written = about.mtime().saturating_mul(1_000_000_000).saturating_add(about.mtime_nsec());
    let (target, at) = parse(&bytes).ok_or_else(|| {
        let text = "is no position of a Flume agent's: look how far it came, and delete this";
        Fault::user(text).at(meta.display())
    })?;
    Ok(Some(Tracked { meta, target, at, written }))
}

/// The path and the last position of a container (Avro 1.11.1 specification, "Object container files").
fn parse(bytes: &[u8]) -> Option<(PathBuf, u64)> {
    let mut rest = Bytes(bytes.strip_prefix(b"Obj\x01")?);
    let mut target = None;
    // The metadata: blocks of keys and values, and an empty one.
    loop {
        let mut count = rest.long()?;
        if count == 0 {
            break;
        }
        if count < 0 {
            // Then the block's size follows.
            rest.long()?;
            count = -count;
        }
        for _ in 0..count {
            let (key, value) = (rest.text()?, rest.text()?);
            match key {
                b"file" => target = Some(PathBuf::from(std::str::from_utf8(value).ok()?)),
                // Numbers are small: nobody packs them.
                b"avro.codec" if value != b"null" => return None,
                _ => {}
            }
        }
    }
    let mark = rest.take(16)?;
    let mut last = 0;
    // An agent may have died while it wrote: a block without its mark is none.
    while let Some(position) = block(&mut rest, mark) {
        last = position;
    }
    Some((target?, u64::try_from(last).ok()?))
}

fn block(rest: &mut Bytes<'_>, mark: &[u8]) -> Option<i64> {
    let (count, size) = (rest.long()?, rest.long()?);
    let mut records = Bytes(rest.take(usize::try_from(size).ok()?)?);
    if rest.take(16)? != mark {
        return None;
    }
    let mut last = None;
    for _ in 0..count {
        last = Some(records.long()?);
    }
    last
}

struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, number: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(number)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first, the sign in the lowest bit of all.
    fn long(&mut self) -> Option<i64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
            shift += 7;
        }
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = self.long()?;
        self.take(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(value: i64, out: &mut Vec<u8>) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn text(text: &[u8], out: &mut Vec<u8>) {
        long(text.len() as i64, out);
        out.extend_from_slice(text);
    }

    /// What Flume writes: a block for each position.
    fn container(file: &str, positions: &[i64]) -> Vec<u8> {
        let mut out = b"Obj\x01".to_vec();
        long(2, &mut out);
        text(b"file", &mut out);
        text(file.as_bytes(), &mut out);
        text(b"avro.schema", &mut out);
        text(
            br#"{"type":"record","name":"TransferStateFileMeta","fields":[{"name":"offset","type":"long"}]}"#,
            &mut out,
        );
        long(0, &mut out);
        let mark = [7; 16];
        out.extend_from_slice(&mark);
        for &position in positions {
            let mut record = Vec::new();
            long(position, &mut record);
            long(1, &mut out);
            long(record.len() as i64, &mut out);
            out.extend_from_slice(&record);
            out.extend_from_slice(&mark);
        }
        out
    }

    #[test]
    fn the_last_whole_position_counts() {
        let read = |bytes: &[u8]| parse(bytes).map(|(file, at)| (file.display().to_string(), at));
        let there = |at| Some(("/spool/a.log".to_owned(), at));
        assert_eq!(read(&container("/spool/a.log", &[])), there(0));
        assert_eq!(read(&container("/spool/a.log", &[3, 70, 5_000_000_000])), there(5_000_000_000));
        let torn = container("/spool/a.log", &[3, 70]);
        assert_eq!(read(&torn[..torn.len() - 1]), there(3));
        assert_eq!(read(b"Obj\x01"), None);
        assert_eq!(read(b"something else"), None);
    }

    #[test]
    fn an_agent_that_was_never_here_left_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(tracked(folder.path()).unwrap(), None);
        fs::create_dir(folder.path().join(TRACKER)).unwrap();
        let meta = folder.path().join(TRACKER).join(".flumespool-main.meta");
        fs::write(&meta, b"").unwrap();
        assert_eq!(tracked(folder.path()).unwrap(), None);
        fs::write(&meta, b"no container").unwrap();
        assert!(tracked(folder.path()).unwrap_err().message.contains("is no position"));
        fs::write(&meta, container("/x", &[9])).unwrap();
        let found = tracked(folder.path()).unwrap().unwrap();
        assert_eq!((found.target, found.at, found.meta), (PathBuf::from("/x"), 9, meta));
    }
}
