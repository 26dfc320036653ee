//! Where a spool ends: the last frame of its newest file, which may be torn.

use std::path::Path;

use bytes::Bytes;

use super::{
    chain::{Piece, file_path},
    cursor::{Cursor, Step},
    frame::Raw,
};
use crate::{
    fault::{Fault, Kind, Result},
    model::Sequence,
};

/// The end of the last file of a chain.
pub struct Tail {
    /// The sequence of the entry that would follow.
    pub next: Sequence,
    /// Up to where the file counts.
    pub len: u64,
    /// The last token; `None`: one is known, but it does not stand in this file.
    pub token: Option<Bytes>,
}

impl Tail {
    /// Reads the last file of a chain to its end, and makes durable what was read.
    ///
    /// # Errors
    /// `Lost`: bytes that were durable are no frame.
    pub fn find(folder: &Path, last: &Piece) -> Result<Self> {
        let path = file_path(folder, last.header.file);
        let gone = || Fault::data(format!("{}: deleted while being read", path.display())).kind(Kind::Lost);
        let mut cursor = Cursor::open(&path, last.end)?.ok_or_else(gone)?;
        let mut next = last.header.first;
        let mut token = (!last.header.mark).then(Bytes::new);
        loop {
            let at = cursor.at();
            match cursor.step()? {
                Step::Frame(raw) if raw.sequence == next => {
                    next += u64::from(raw.kind.is_some());
                    keep(&mut token, &raw);
                }
                Step::End => break,
                Step::Frame(_) => return Err(damaged(&path, at, next)),
                Step::Bad if cursor.was_durable(next)? => return Err(damaged(&path, at, next)),
                Step::Bad => break,
            }
        }
        // Frames that were written and not synced count from here on.
        cursor.file().sync_data().map_err(|error| Fault::io(path.display(), &error))?;
        Ok(Self { next, len: cursor.at(), token })
    }
}

fn keep(token: &mut Option<Bytes>, raw: &Raw) {
    if !raw.token.is_empty() {
        *token = Some(Bytes::copy_from_slice(&raw.token));
    }
}

/// The fault of bytes that were durable and are no frame.
pub fn damaged(path: &Path, at: u64, next: Sequence) -> Fault {
    let message = format!("{}: damaged at byte {at}, where entry {next} should be", path.display());
    Fault::data(message).kind(Kind::Lost)
}

/// The last token of the files before the last one, whose mark was torn.
///
/// # Errors
/// A file cannot be read.
pub fn earlier_token(folder: &Path, chain: &[Piece]) -> Result<Bytes> {
    for piece in chain.iter().rev().skip(1) {
        let mut token = (!piece.header.mark).then(Bytes::new);
        if let Some(mut cursor) = Cursor::open(&file_path(folder, piece.header.file), piece.end)? {
            while let Step::Frame(raw) = cursor.step()? {
                keep(&mut token, &raw);
            }
        }
        if let Some(token) = token {
            return Ok(token);
        }
    }
    Ok(Bytes::new())
}
