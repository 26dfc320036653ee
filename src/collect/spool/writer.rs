//! The writer: one life of a collector, appending.

mod recovery;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use super::{
    Entry, Kind as EntryKind, Link, Place,
    chain::{self, Piece, file_path},
    files::{EventFolder, Foreign, room},
    frame,
    fresh::Fresh,
    header::{self, Before, FORMAT, FORMAT_BESIDE_FILES, HEADER_LEN, Header},
};
use crate::{
    collect::{Layout, SpoolSettings},
    disk::{make_folder, sync_folder},
    failpoint,
    fault::{Fault, Kind, Result},
    model::{Clock, Incarnation, Millis, NodeId, Sequence},
};

/// Room may come from outside the process (a disk that was cleared up), so a full spool is tried
/// again after this time at the latest.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

/// Writers that start at the same moment compete for a file's number; each attempt one of them
/// wins.
const ATTEMPTS: usize = 100;

/// An encoding buffer above this size is given back.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The source whose events the spool holds.
    pub source: String,
    /// The node the writer runs on.
    pub node: NodeId,
    /// This life of the collector, another for each.
    pub incarnation: Uuid,
    /// Which of the lives it is that have had the same [`Link`].
    pub life: Incarnation,
}

/// What a writer finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The spool. A spool that is new, or that has lost all its files, has a new one.
    pub spool: Uuid,
    /// When the spool's folder was made. Durable before the writer is, so a source that was never
    /// asked before is asked for what came since.
    pub created: Millis,
    /// Entries `[first, next)` are on disk.
    pub first: Sequence,
    /// The sequence of the next entry.
    pub next: Sequence,
    /// The last token given with an entry; empty if there was none.
    pub token: Bytes,
    /// What is among the events' files and is none of them. It is left alone.
    pub foreign: Foreign,
}

/// Appends to a spool.
pub struct Writer {
    folder: PathBuf,
    max_bytes: u64,
    roll_bytes: u64,
    owner: Owner,
    link: Link,
    clock: Arc<dyn Clock>,

    spool: Uuid,
    file: File,
    number: u64,
    first: Sequence,
    len: u64,
    pub(super) synced: u64,
    next: Sequence,
    token: Bytes,
    // What the event files of this data file take.
    events: u64,
    // Of all files that held the entries from `counted_from` on.
    used: u64,
    counted_from: Sequence,
    // Each event is a file of its own, if this is there.
    pub(super) files: Option<Fresh>,
    // The last stamp of an event file's name, whatever the layout is now.
    stamp: Option<i64>,
    released: watch::Receiver<Option<Place>>,
    buffer: Vec<u8>,
    // What is on disk is not known any more; a new writer finds out.
    given_up: bool,

    #[cfg(test)]
    pub(super) disk_full_after: Option<usize>,
}

impl Writer {
    /// Opens the spool in the settings' folder, or makes it, and begins a file of its own. From
    /// now on a former writer is fenced. What was found is durable.
    ///
    /// # Errors
    /// `User`: another source's spool, another format. `Lost`: damage to what had been durable,
    /// with file and offset. `Fenced`: a newer writer came meanwhile, or a younger life before.
    pub fn open(
        settings: &SpoolSettings,
        owner: &Owner,
        link: &Link,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        let folder = settings.path.clone();
        make_folder(&folder)?;
        if let Layout::FilePerEvent(_) = &settings.layout {
            make_folder(EventFolder::of(&folder).path())?;
        }
        let (number, file) = link.take_turn(owner.life, || next_file(&folder))?;
        let mut writer = Self {
            max_bytes: settings.max_bytes,
            roll_bytes: settings.roll_bytes,
            owner: owner.clone(),
            link: link.clone(),
            clock,
            spool: Uuid::nil(),
            file,
            number,
            first: 0,
            len: 0,
            synced: 0,
            next: 0,
            token: Bytes::new(),
            events: 0,
            used: 0,
            counted_from: 0,
            files: None,
            stamp: None,
            released: link.released(),
            buffer: Vec::new(),
            given_up: false,
            #[cfg(test)]
            disk_full_after: None,
            folder,
        };
        let recovered = writer.recover(&settings.layout);
        if recovered.is_err() && writer.len < HEADER_LEN {
            // It holds nothing, and a former writer may go on. With a header it might be a link of
            // the chain already.
            let _ = fs::remove_file(writer.path());
        }
        Ok((writer, recovered?))
    }

    /// Adds entries at the end, all or none; answers their sequences. Durable after the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// `Full`, nothing written: the spool or the disk is full; see [`room`](Self::room). `Fenced`:
    /// stop. After any other error the writer is of no more use: open a new one.
    pub fn append(&mut self, entries: &[Entry]) -> Result<Range<Sequence>> {
        self.check_usable()?;
        self.make_room(self.size(entries)?)?;
        if self.is_done() {
            self.roll()?;
        }
        let from = self.next;
        let written = self.encode(entries).and_then(|events| self.write_buffer().map(|()| events));
        let events = written.inspect_err(|_| {
            if let Some(files) = &mut self.files {
                files.take_back(self.number, from);
            }
        })?;
        self.events += events;
        self.used += events;
        self.next += entries.len() as u64;
        if let Some(entry) = entries.iter().rev().find(|entry| !entry.token.is_empty()) {
            // A copy of its own: the slice may hold on to a whole chunk of the network's.
            self.token = Bytes::copy_from_slice(&entry.token);
        }
        failpoint::cross("spool.appended");
        Ok(from..self.next)
    }

    /// Makes durable what was appended, and tells the reader; answers the sequence of the next
    /// entry: all before it are durable.
    ///
    /// # Errors
    /// `Fenced`: a newer writer has taken over, what was appended is not part of the spool. After
    /// any other error nothing since the last sync counts and the writer is of no more use.
    pub fn sync(&mut self) -> Result<Sequence> {
        self.check_usable()?;
        if self.synced < self.len {
            if let Err(fault) = self.make_durable() {
                self.given_up = true;
                // A newer writer has found them already, and counts on them.
                self.check_newest(self.number)?;
                // The kernel may have dropped the bytes and will not say so twice, so they must
                // not be found by the next writer.
                let _ = self.file.set_len(self.synced);
                return Err(fault.unknown_effect());
            }
            self.synced = self.len;
        }
        self.check_newest(self.number)?;
        failpoint::cross("spool.synced");
        // Whoever comes after this one finds the frames, so these names are given to entries only.
        if let Some(Err(fault)) = self.files.as_mut().map(|files| files.publish(self.number)) {
            self.given_up = true;
            return Err(fault.unknown_effect());
        }
        self.link.synced(Place { spool: self.spool, next: self.next });
        Ok(self.next)
    }

    // Event files before the frames that name them.
    fn make_durable(&mut self) -> Result<()> {
        if let Some(files) = &self.files
            && files.sync(self.number)?
        {
            failpoint::cross("spool.events_synced");
            self.buffer.clear();
            frame::encode_mark(&mut self.buffer, self.next, b"");
            match self.write_buffer() {
                // The frames to come say the same.
                Err(fault) if fault.kind == Kind::Full && !self.given_up => {}
                written => written?,
            }
        }
        self.file.sync_data().map_err(|error| Fault::io(self.path().display(), &error))
    }

    /// Goes on at entry `next`, when somebody else holds entries that this disk has lost: those the
    /// bus bears. Sequences must not come twice, so the entries in between stay a gap, and the files
    /// so far, which the bus has too, go. `next` is durable then; one that was reached already changes nothing.
    ///
    /// # Errors
    /// As of [`append`](Self::append).
    pub fn skip_to(&mut self, next: Sequence) -> Result<()> {
        if next <= self.next {
            return Ok(());
        }
        self.sync()?;
        if self.next > self.first {
            self.roll()?;
        }
        // While it is known where they end: their event files must not outlive them.
        let chain = chain::load(&self.folder, self.number + 1, |newest| newest.spool == self.spool)?;
        chain::delete_below(&self.folder, &chain, self.next)?;
        self.next_file(None, next)?;
        self.link.synced(Place { spool: self.spool, next });
        Ok(())
    }

    /// Waits until there may be room again, after `Full`. Dropping the future is safe.
    pub async fn room(&mut self) {
        let _ = timeout(ROOM_WITHIN, self.released.changed()).await;
    }

    /// The sequence of the next entry.
    pub fn next(&self) -> Sequence {
        self.next
    }

    /// Bytes on disk, as far as this writer knows: the reader may have made room meanwhile.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// About how many bytes the entries take that the reader has not released: released files go one
    /// by one and when room is needed, so what is on disk says little of how full the spool gets.
    pub fn waiting(&self) -> u64 {
        let released = self.released.borrow().filter(|place| place.spool == self.spool).map_or(0, |place| place.next);
        let counted = self.next - self.counted_from;
        let waiting = self.next.saturating_sub(released).min(counted);
        let bytes = u128::from(self.used) * u128::from(waiting) / u128::from(counted.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn path(&self) -> PathBuf {
        file_path(&self.folder, self.number)
    }

    fn check_usable(&self) -> Result<()> {
        if self.given_up {
            return Err(Fault::external(format!("{}: unusable after an error: open it anew", self.path().display())));
        }
        Ok(())
    }

    // Writes the header of the file just created, and makes both durable.
    fn begin(&mut self, now: Millis, before: Option<Before>, replaces: Option<Uuid>) -> Result<()> {
        let header = Header {
            format: if self.files.is_some() { FORMAT_BESIDE_FILES } else { FORMAT },
            spool: self.spool,
            replaces,
            file: self.number,
            incarnation: self.owner.incarnation,
            node: self.owner.node.clone(),
            created: now,
            first: self.next,
            mark: !self.token.is_empty(),
            before,
            stamp: self.stamp.max(self.files.as_ref().and_then(Fresh::last)),
        };
        self.buffer = header::encode(&header)?;
        if header.mark {
            frame::encode_mark(&mut self.buffer, self.next, &self.token);
        }
        (self.first, self.len, self.synced, self.events) = (self.next, 0, 0, 0);
        self.write_buffer()?;
        self.file.sync_all().map_err(|error| Fault::io(self.path().display(), &error))?;
        sync_folder(&self.folder)?;
        self.synced = self.len;
        failpoint::cross("spool.rolled");
        Ok(())
    }

    fn roll(&mut self) -> Result<()> {
        self.sync()?;
        if let Some(files) = &self.files {
            files.sync_names()?;
        }
        self.next_file(Some(Before { file: self.number, len: self.len, events: self.events }), self.next)
    }

    // Begins the next file, with entry `first`; if that fails the present one goes on.
    fn next_file(&mut self, before: Option<Before>, first: Sequence) -> Result<()> {
        let number = self.number + 1;
        let Some(file) = chain::create(&self.folder, number)? else { return Err(self.fenced(number)) };
        let old = (self.number, self.len, self.first, self.next, self.events);
        let old_file = std::mem::replace(&mut self.file, file);
        (self.number, self.next, self.len) = (number, first, 0);
        let begun = self.check_newest(number).and_then(|()| self.begin(self.clock.now(), before, None));
        if begun.is_err() {
            // Without a whole header the new file is nothing, and the old one goes on. With one
            // it might be the spool's last already.
            let gone = self.len < HEADER_LEN && fs::remove_file(self.path()).is_ok();
            self.given_up |= !gone;
            self.file = old_file;
            (self.number, self.len, self.first, self.next, self.events) = old;
            self.synced = self.len;
        }
        begun
    }

    // What entries take at most, with what a sync adds to them.
    fn size(&self, entries: &[Entry]) -> Result<u64> {
        let mut size = if self.files.is_some() { frame::FIXED as u64 } else { 0 };
        for entry in entries {
            let sizes = self.files.as_ref().map_or_else(|| frame::size(entry).map(|size| (size, 0)), |f| f.size(entry));
            let (frame, file) = sizes.ok_or_else(|| {
                let (folder, len) = (self.folder.display(), entry.payload.len());
                Fault::data(format!("{folder}: an entry of {len} bytes is above 4 GiB"))
            })?;
            size += frame + file;
        }
        Ok(size)
    }

    // Puts the entries' frames into the buffer and the events' files, if they are, into their folder;
    // answers what the files take.
    fn encode(&mut self, entries: &[Entry]) -> Result<u64> {
        self.buffer.clear();
        let mut events = 0;
        for (sequence, entry) in (self.next..).zip(entries) {
            match &mut self.files {
                Some(files) if entry.kind == EntryKind::Event => {
                    let file = files.write(self.number, sequence, entry)?;
                    events += room(file.len);
                    frame::encode_beside_file(&mut self.buffer, sequence, self.synced, entry, &file);
                }
                _ => frame::encode(&mut self.buffer, sequence, self.synced, entry),
            }
        }
        Ok(events)
    }

    // Counts anew what is on disk; the chain is the newest.
    fn count(&mut self, chain: &[Piece]) -> Result<()> {
        let before: u64 = chain.iter().map(|piece| piece.events).sum();
        self.used = chain::used(&self.folder)? + before + self.events;
        self.counted_from = chain.first().map_or(self.first, |piece| piece.header.first);
        Ok(())
    }

    // Writes the buffer at the end of the file, whole or not at all.
    fn write_buffer(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        if let Err(error) = self.write(&buffer) {
            let mut fault = Fault::io(self.path().display(), &error);
            // A newer writer may count on whole frames among them.
            self.check_newest(self.number).inspect_err(|_| self.given_up = true)?;
            // Half a frame must not stand before the next one.
            if let Err(error) = self.file.set_len(self.len) {
                self.given_up = true;
                fault = fault.unknown_effect();
                fault.message = format!("{}; cannot be cut back to {} bytes: {error}", fault.message, self.len);
            }
            return Err(fault);
        }
        self.len += buffer.len() as u64;
        self.used += buffer.len() as u64;
        if buffer.capacity() <= BUFFER_KEPT {
            self.buffer = buffer;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(len) = self.disk_full_after.take() {
            self.file.write_all_at(&bytes[..len.min(bytes.len())], self.len)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, self.len)
    }

    // Whether the next entry goes into a new file.
    fn is_done(&self) -> bool {
        self.len + self.events >= self.roll_bytes && self.next > self.first
    }

    fn has_room(&self, size: u64, begin: u64) -> bool {
        self.used + size + if self.is_done() { begin } else { 0 } <= self.max_bytes
    }

    fn make_room(&mut self, size: u64) -> Result<()> {
        let begin = HEADER_LEN + (frame::FIXED + self.token.len()) as u64;
        if self.has_room(size, begin) {
            return Ok(());
        }
        if size + begin > self.max_bytes {
            let message = format!("{}: {size} bytes at once, the bound is {}", self.folder.display(), self.max_bytes);
            return Err(Fault::user(format!("{message}: raise it")));
        }
        // What is not durable is not read, and so never released.
        self.sync()?;
        let released = *self.released.borrow_and_update();
        let released = released.filter(|place| place.spool == self.spool).map_or(0, |place| place.next);
        // The present file may be all that is left, and only a file with a successor goes.
        if self.next > self.first && released >= self.next {
            self.roll()?;
        }
        let mut chain = chain::load(&self.folder, self.number + 1, |newest| newest.spool == self.spool)?;
        let gone = chain::delete_below(&self.folder, &chain, released)?;
        chain.drain(..gone);
        self.count(&chain)?;
        if self.has_room(size, begin) {
            return Ok(());
        }
        let message = format!("{}: full: {} of {} bytes", self.folder.display(), self.used, self.max_bytes);
        Err(Fault::external(message).kind(Kind::Full))
    }

    // Fences: our file is there, and no file with a higher number is.
    fn check_newest(&mut self, number: u64) -> Result<()> {
        let numbers = chain::list(&self.folder)?;
        if let Some(&newer) = numbers.last().filter(|newest| **newest > number) {
            return Err(self.fenced(newer));
        }
        if numbers.last() != Some(&number) {
            self.given_up = true;
            return Err(Fault::data(format!("{}: deleted while in use", self.path().display())).kind(Kind::Lost));
        }
        Ok(())
    }

    fn fenced(&mut self, newer: u64) -> Fault {
        self.given_up = true;
        let newer = file_path(&self.folder, newer);
        Fault::external(format!("{}: a newer writer has begun {}", self.path().display(), newer.display()))
            .kind(Kind::Fenced)
    }
}

fn next_file(folder: &Path) -> Result<(u64, File)> {
    for _ in 0..ATTEMPTS {
        let number = chain::list(folder)?.last().map_or(0, |last| last + 1);
        if let Some(file) = chain::create(folder, number)? {
            return Ok((number, file));
        }
    }
    Err(Fault::external(format!("{}: too many writers at once", folder.display())))
}
