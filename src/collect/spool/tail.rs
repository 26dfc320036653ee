//! Where a spool ends: the last frame of its newest file, which may be torn.

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;

use super::{
    chain::{Piece, file_path},
    cursor::{Cursor, Step},
    files::{EventFolder, room},
    frame::{EventFile, Raw},
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
    /// The last stamp of an event file's name, if one is known.
    pub stamp: Option<i64>,
    /// What the event files of this file take.
    pub events: u64,
    /// Events that are durable and have no name yet, in order.
    pub unpublished: Vec<(Sequence, String)>,
}

/// An event file of which nothing says yet that it was durable, and the tail before its frame.
struct Unproven {
    at: u64,
    sequence: Sequence,
    file: EventFile,
    token: Option<Bytes>,
    events: u64,
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
        let mut tail = Self {
            next: last.header.first,
            len: 0,
            token: (!last.header.mark).then(Bytes::new),
            stamp: last.header.stamp,
            events: 0,
            unpublished: Vec::new(),
        };
        let mut unproven = Vec::new();
        let files = EventFolder::of(folder);
        let hidden = files.unpublished(last.header.file)?;
        loop {
            let at = cursor.at();
            match cursor.step()? {
                Step::Frame(raw) if raw.sequence == tail.next => tail.take(at, raw, &hidden, &mut unproven),
                Step::End => break,
                Step::Frame(_) => return Err(damaged(&path, at, tail.next)),
                Step::Bad if cursor.was_durable(tail.next)? => return Err(damaged(&path, at, tail.next)),
                Step::Bad => break,
            }
        }
        let mut there = !hidden.is_empty();
        for Unproven { at, sequence, file, token, events } in unproven {
            if files.keep(last.header.file, sequence, &file)? {
                there = true;
            } else {
                // As torn as a frame would be; what follows was not durable either.
                cursor.back_to(at);
                (tail.next, tail.token, tail.events) = (sequence, token, events);
                tail.unpublished.retain(|(unpublished, _)| *unpublished < sequence);
                break;
            }
        }
        if there {
            files.sync()?;
        }
        // Frames that were written and not synced count from here on.
        cursor.file().sync_data().map_err(|error| Fault::io(path.display(), &error))?;
        Ok(Self { len: cursor.at(), ..tail })
    }

    fn take(&mut self, at: u64, raw: Raw, hidden: &BTreeSet<Sequence>, unproven: &mut Vec<Unproven>) {
        // A mark says so of all before it, a frame of those that were synced when it was written.
        if unproven.first().is_some_and(|first| raw.kind.is_none() || first.at < raw.durable) {
            unproven.retain(|before| raw.kind.is_some() && before.at >= raw.durable);
        }
        let token = self.token.clone();
        keep(&mut self.token, &raw);
        let Some(file) = raw.file else {
            self.next += u64::from(raw.kind.is_some());
            return;
        };
        self.stamp = self.stamp.max(Some(file.stamp));
        if hidden.contains(&raw.sequence) {
            self.unpublished.push((raw.sequence, file.name.clone()));
        }
        let events = self.events;
        self.events += room(file.len);
        unproven.push(Unproven { at, sequence: raw.sequence, file, token, events });
        self.next += 1;
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
