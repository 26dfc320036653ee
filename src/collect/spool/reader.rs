//! The reader: follows the durable end of a spool over its files.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Entry, Frame, Link, Place,
    chain::{self, Piece, file_path},
    cursor::{Cursor, Step},
    files::EventFolder,
    frame::Raw,
    tail::damaged,
};
use crate::{
    fault::{Fault, Kind, Result},
    model::{Millis, Sequence},
};

/// Reads a spool in order; see the module's text.
pub struct Reader {
    folder: PathBuf,
    link: Link,
    spool: Uuid,
    next: Sequence,
    // Whoever wants ids only does not have each event's file read.
    ids_only: bool,

    chain: Vec<Piece>,
    // The file it stands in, and the sequence of the frame it stands before.
    at: Option<(u64, Cursor, Sequence)>,
}

impl Reader {
    /// A reader before the entry `from` of the spool in `folder`.
    ///
    /// # Errors
    /// `Lost` if entries from `from` on are gone, or `from` is behind the durable end the link
    /// knows. `User` if there is no spool.
    pub fn open(folder: &Path, from: Sequence, link: &Link) -> Result<Self> {
        let identity =
            chain::read_identity(folder)?.ok_or_else(|| Fault::user(format!("{}: no spool", folder.display())))?;
        let mut reader = Self {
            folder: folder.to_owned(),
            link: link.clone(),
            spool: identity.uuid,
            next: from,
            ids_only: false,
            chain: Vec::new(),
            at: None,
        };
        let durable = *link.durable().borrow();
        if let Some(durable) = durable.filter(|durable| durable.spool == reader.spool) {
            reader.check_within(durable.next)?;
        }
        loop {
            reader.reload()?;
            if from == 0 && reader.chain.is_empty() {
                return Ok(reader);
            }
            let seen = reader.chain.clone();
            match reader.enter() {
                Ok(at) => {
                    reader.at = Some(at);
                    return Ok(reader);
                }
                // A writer may have put another file in the place of an empty one meanwhile.
                Err(fault) => {
                    reader.reload()?;
                    if reader.chain == seen {
                        return Err(fault);
                    }
                }
            }
        }
    }

    /// Which spool it reads.
    pub fn spool(&self) -> Uuid {
        self.spool
    }

    /// The sequence of the entry it reads next.
    pub fn next(&self) -> Sequence {
        self.next
    }

    /// The next entries, in order and without a gap: at most `max_records`, and no more once they
    /// have `max_bytes` of payload (but at least one); none at or behind `durable_end`. Empty only
    /// when it stands there.
    ///
    /// # Errors
    /// `Lost`: an entry before `durable_end` is damaged or gone; the message names file and byte.
    pub fn read(&mut self, max_records: usize, max_bytes: usize, durable_end: Sequence) -> Result<Vec<Frame>> {
        self.check_within(durable_end)?;
        let mut frames = Vec::new();
        if self.next == durable_end {
            return Ok(frames);
        }
        self.follow()?;
        let mut bytes = 0;
        while self.next < durable_end && frames.len() < max_records && (bytes < max_bytes || frames.is_empty()) {
            if let Some(frame) = self.step(durable_end)? {
                bytes += frame.entry.payload.len();
                self.next += 1;
                frames.push(frame);
            }
        }
        // Behind the durable end of the newest file the bytes may still change.
        if let Some((number, cursor, _)) = &mut self.at
            && self.chain.last().is_some_and(|last| last.header.file == *number)
        {
            cursor.forget();
        }
        Ok(frames)
    }

    /// Entries below `next` are not needed any more: deletes the files that hold no other (and the
    /// events beside them), and tells the writer. Answers how many files went.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn release(&mut self, next: Sequence) -> Result<usize> {
        let mut gone = 0;
        if self.chain.get(1).is_none_or(|second| second.header.first <= next) {
            self.reload()?;
            let newest = chain::list(&self.folder)?.last().copied();
            // A file without a header: a writer is about to say where the chain ends.
            if newest == self.chain.last().map(|last| last.header.file) {
                gone = chain::delete_below(&self.folder, &self.chain, next)?;
                self.chain.drain(..gone);
            }
        }
        self.link.release(Place { spool: self.spool, next });
        Ok(gone)
    }

    fn check_within(&self, durable_end: Sequence) -> Result<()> {
        if self.next > durable_end {
            let what = format!("the spool is durable up to entry {durable_end}");
            return Err(self.gone(&what));
        }
        Ok(())
    }

    fn gone(&self, what: &str) -> Fault {
        let message = format!("{}: entry {} is asked for, but {what}", self.folder.display(), self.next);
        Fault::data(message).kind(Kind::Lost)
    }

    fn oldest(&self) -> String {
        let first = self.chain.first().map(|piece| piece.header.first);
        first.map_or("no file is left".to_owned(), |first| format!("the oldest file begins with entry {first}"))
    }

    // The newest file known may have a successor by now: it says where this one ends, and a writer
    // that was replaced may have written on behind that.
    fn follow(&mut self) -> Result<()> {
        let in_last = match &self.at {
            Some((number, ..)) => self.chain.last().is_none_or(|last| last.header.file == *number),
            None => true,
        };
        if in_last {
            self.refresh()?;
        }
        Ok(())
    }

    // Whether the chain has changed at its end.
    fn refresh(&mut self) -> Result<bool> {
        let known = self.chain.last().map(|last| last.header.file);
        let newer = chain::list(&self.folder)?.last().copied() > known;
        if newer {
            self.reload()?;
        }
        Ok(newer && self.chain.last().map(|last| last.header.file) != known)
    }

    fn reload(&mut self) -> Result<()> {
        self.chain = chain::load(&self.folder, u64::MAX, |newest| newest.spool == self.spool)?;
        let Some((number, cursor, _)) = &mut self.at else { return Ok(()) };
        match self.chain.iter().find(|piece| piece.header.file == *number) {
            Some(Piece { end: Some(end), .. }) if cursor.at() <= *end => cursor.ends_at(*end),
            Some(Piece { end: None, .. }) => cursor.forget(),
            // It stood in a file, or at a place, that is not spool.
            _ => self.at = None,
        }
        Ok(())
    }

    // Moves over one frame, or to the next file; the entry that is next, if it was that.
    fn step(&mut self, durable_end: Sequence) -> Result<Option<Frame>> {
        let Some((number, cursor, sequence)) = &mut self.at else {
            self.at = Some(self.enter()?);
            return Ok(None);
        };
        let at = cursor.at();
        match cursor.step()? {
            Step::Frame(Raw { sequence: found, .. }) if found != *sequence => {
                Err(damaged(cursor.path(), at, *sequence))
            }
            Step::Frame(Raw { kind: None, .. }) => Ok(None),
            Step::Frame(Raw { kind: Some(kind), sequence: found, received, token, id, payload, file, .. }) => {
                *sequence += 1;
                if found != self.next {
                    return Ok(None);
                }
                let payload = match file.as_ref().filter(|_| !self.ids_only) {
                    Some(file) => EventFolder::of(&self.folder).load(*number, found, file)?,
                    None => payload,
                };
                let (entry, file) = (Entry { kind, received, token, id, payload }, file.map(|file| file.name));
                Ok(Some(Frame { sequence: found, entry, file }))
            }
            Step::Bad => Err(damaged(cursor.path(), at, *sequence)),
            Step::End => {
                let (number, sequence) = (*number, *sequence);
                // What follows may be another file than it was when the chain was read.
                if self.refresh()? {
                    return Ok(None);
                }
                let later = self.chain.iter().find(|piece| piece.header.file > number);
                if let Some(later) = later.filter(|later| later.header.first == sequence) {
                    self.at = Some(self.enter_file(later.header.file)?);
                    return Ok(None);
                }
                let path = file_path(&self.folder, number);
                let message = format!("{}: ends at byte {at} before entry {sequence}", path.display());
                let message = format!("{message}, but the spool is durable up to {durable_end}");
                Err(Fault::data(message).kind(Kind::Lost))
            }
        }
    }

    fn enter(&self) -> Result<(u64, Cursor, Sequence)> {
        let piece = self.chain.iter().rev().find(|piece| piece.header.first <= self.next);
        self.enter_file(piece.ok_or_else(|| self.gone(&self.oldest()))?.header.file)
    }

    fn enter_file(&self, file: u64) -> Result<(u64, Cursor, Sequence)> {
        let path = file_path(&self.folder, file);
        let piece = self.chain.iter().find(|piece| piece.header.file == file);
        let piece = piece.ok_or_else(|| self.gone(&self.oldest()))?;
        let cursor =
            Cursor::open(&path, piece.end)?.ok_or_else(|| self.gone(&format!("{} is gone", path.display())))?;
        Ok((file, cursor, piece.header.first))
    }
}

/// Visits ids of entries with the time each was received, in order, from the durable ones of the
/// spool in `folder`: all entries received at `since` or later, at least the `last` ones (as far
/// as they are there), and maybe some before those. Entries without an id are left out; when a
/// file goes meanwhile the visit begins anew.
///
/// # Errors
/// As of [`Reader::read`]. A spool nobody has opened yet over `link` has no entries.
pub fn recent(
    folder: &Path,
    link: &Link,
    since: Millis,
    last: u64,
    mut visit: impl FnMut(&Bytes, Millis),
) -> Result<()> {
    let Some(Place { spool, next: end }) = *link.durable().borrow() else { return Ok(()) };
    let load = || chain::load(folder, u64::MAX, |newest| newest.spool == spool);
    loop {
        let chain = load()?;
        let old_enough = |piece: &&Piece| piece.header.created <= since && piece.header.first + last <= end;
        let Some(piece) = chain.iter().rev().find(old_enough).or(chain.first()) else { return Ok(()) };
        match visit_from(folder, link, piece.header.first, end, &mut visit) {
            Err(fault) if fault.kind == Kind::Lost && load()?.first() != chain.first() => {}
            visited => return visited,
        }
    }
}

fn visit_from(
    folder: &Path,
    link: &Link,
    from: Sequence,
    end: Sequence,
    visit: &mut impl FnMut(&Bytes, Millis),
) -> Result<()> {
    const RECORDS: usize = 1_000;
    const BYTES: usize = 1024 * 1024;
    let mut reader = Reader { ids_only: true, ..Reader::open(folder, from, link)? };
    while reader.next() < end {
        for Frame { entry, .. } in reader.read(RECORDS, BYTES, end)? {
            if !entry.id.is_empty() {
                visit(&entry.id, entry.received);
            }
        }
    }
    Ok(())
}
