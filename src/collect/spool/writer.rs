//! The writer: one life of a collector, appending.

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
    Entry, Link, Place,
    chain::{self, Identity, file_path},
    frame,
    header::{self, Before, FORMAT, HEADER_LEN, Header},
    tail::{Tail, earlier_token},
};
use crate::{
    collect::SpoolSettings,
    disk::{make_folder, sync_folder},
    failpoint,
    fault::{Fault, Kind, Result},
    model::{Clock, Millis, NodeId, Sequence},
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
    used: u64,
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
    /// with file and offset. `Fenced`: a newer writer came meanwhile.
    pub fn open(
        settings: &SpoolSettings,
        owner: &Owner,
        link: &Link,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered)> {
        let folder = settings.path.clone();
        make_folder(&folder)?;
        let (number, file) = next_file(&folder)?;
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
            used: 0,
            released: link.released(),
            buffer: Vec::new(),
            given_up: false,
            #[cfg(test)]
            disk_full_after: None,
            folder,
        };
        let recovered = writer.recover();
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
        let mut size = 0;
        for entry in entries {
            size += frame::size(entry).ok_or_else(|| {
                Fault::data(format!(
                    "{}: an entry of {} bytes is above 4 GiB",
                    self.folder.display(),
                    entry.payload.len()
                ))
            })?;
        }
        self.make_room(size)?;
        if self.is_done() {
            self.roll()?;
        }
        self.buffer.clear();
        let from = self.next;
        for (sequence, entry) in (from..).zip(entries) {
            frame::encode(&mut self.buffer, sequence, self.synced, entry);
        }
        self.write_buffer()?;
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
            if let Err(error) = self.file.sync_data() {
                // The kernel may have dropped the bytes and will not say so twice, so they must
                // not be found by the next writer.
                self.given_up = true;
                let _ = self.file.set_len(self.synced);
                return Err(Fault::io(self.path().display(), &error).unknown_effect());
            }
            self.synced = self.len;
        }
        self.check_newest(self.number)?;
        failpoint::cross("spool.synced");
        self.link.synced(Place { spool: self.spool, next: self.next });
        Ok(self.next)
    }

    /// Goes on at entry `next`, when somebody else holds entries that this disk has lost: those the
    /// bus bears. Sequences must not come twice, so the entries in between stay a gap, and the files
    /// so far are no more spool. `next` is durable then; one that was reached already changes nothing.
    ///
    /// # Errors
    /// As of [`append`](Self::append).
    pub fn skip_to(&mut self, next: Sequence) -> Result<()> {
        if next <= self.next {
            return Ok(());
        }
        self.sync()?;
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

    fn path(&self) -> PathBuf {
        file_path(&self.folder, self.number)
    }

    fn check_usable(&self) -> Result<()> {
        if self.given_up {
            return Err(Fault::external(format!("{}: unusable after an error: open it anew", self.path().display())));
        }
        Ok(())
    }

    // Our file exists by now, so a former writer's next sync fails; what it did sync is found.
    fn recover(&mut self) -> Result<Recovered> {
        let identity = chain::read_identity(&self.folder)?;
        if let Some(Identity { source, .. }) = identity.as_ref().filter(|found| found.source != self.owner.source) {
            let message = format!("{}: the spool of {source:?}, not of {:?}", self.folder.display(), self.owner.source);
            return Err(Fault::user(format!("{message}: give each source a folder of its own")));
        }
        let known = identity.as_ref().map(|identity| identity.uuid);
        let chain = chain::load(&self.folder, self.number, |newest| {
            known.is_none_or(|known| newest.spool == known || newest.replaces == Some(known))
        })?;
        self.spool = chain.last().map_or_else(Uuid::new_v4, |newest| newest.header.spool);
        let now = self.clock.now();
        let created = identity.map(|identity| identity.created);
        let created = created.or(chain.first().map(|oldest| oldest.header.created)).unwrap_or(now);
        let mut before = None;
        let mut superseded = &chain[..0];
        if let Some(last) = chain.last() {
            let tail = Tail::find(&self.folder, last)?;
            self.next = tail.next;
            // Files at the end without an entry drop out of the chain, or each restart of a full
            // spool would add one.
            let kept = chain.iter().take_while(|piece| piece.header.first < tail.next).count();
            superseded = &chain[kept..];
            before = chain[..kept]
                .last()
                .map(|piece| Before { file: piece.header.file, len: piece.end.unwrap_or(tail.len) });
            self.token = match tail.token {
                Some(token) => token,
                None => earlier_token(&self.folder, &chain)?,
            };
        }
        let durable = *self.link.durable().borrow();
        if let Some(durable) = durable.filter(|place| place.spool == self.spool && place.next > self.next) {
            let message = format!("{}: ends before entry {}", self.folder.display(), self.next);
            return Err(Fault::data(format!("{message}, but was durable up to {}", durable.next)).kind(Kind::Lost));
        }
        let first = chain.first().map_or(0, |piece| piece.header.first);
        if !chain.is_empty() {
            // Before the new file: on a full disk that needs the room which its reader makes.
            self.link.opened(created, first, Place { spool: self.spool, next: self.next });
        }
        self.begin(now, before, known.filter(|known| *known != self.spool))?;
        self.check_newest(self.number)?;
        if known != Some(self.spool) {
            let source = self.owner.source.clone();
            chain::write_identity(&self.folder, &Identity { format: FORMAT, uuid: self.spool, source, created })?;
        }
        for piece in superseded {
            let _ = fs::remove_file(file_path(&self.folder, piece.header.file));
        }
        self.used = chain::used(&self.folder)?;
        self.link.opened(created, first, Place { spool: self.spool, next: self.next });
        Ok(Recovered { spool: self.spool, created, first, next: self.next, token: self.token.clone() })
    }

    // Writes the header of the file just created, and makes both durable.
    fn begin(&mut self, now: Millis, before: Option<Before>, replaces: Option<Uuid>) -> Result<()> {
        let header = Header {
            format: FORMAT,
            spool: self.spool,
            replaces,
            file: self.number,
            incarnation: self.owner.incarnation,
            node: self.owner.node.clone(),
            created: now,
            first: self.next,
            mark: !self.token.is_empty(),
            before,
        };
        self.buffer = header::encode(&header)?;
        if header.mark {
            frame::encode_mark(&mut self.buffer, self.next, &self.token);
        }
        (self.first, self.len, self.synced) = (self.next, 0, 0);
        self.write_buffer()?;
        self.file.sync_all().map_err(|error| Fault::io(self.path().display(), &error))?;
        sync_folder(&self.folder)?;
        self.synced = self.len;
        failpoint::cross("spool.rolled");
        Ok(())
    }

    fn roll(&mut self) -> Result<()> {
        self.sync()?;
        self.next_file(Some(Before { file: self.number, len: self.len }), self.next)
    }

    // Begins the next file, with entry `first`; if that fails the present one goes on.
    fn next_file(&mut self, before: Option<Before>, first: Sequence) -> Result<()> {
        let number = self.number + 1;
        let Some(file) = chain::create(&self.folder, number)? else { return Err(self.fenced(number)) };
        let old = (self.number, self.len, self.first, self.next);
        let old_file = std::mem::replace(&mut self.file, file);
        (self.number, self.next) = (number, first);
        let begun = self.check_newest(number).and_then(|()| self.begin(self.clock.now(), before, None));
        if begun.is_err() {
            // Without a whole header the new file is nothing, and the old one goes on. With one
            // it might be the spool's last already.
            let gone = self.len < HEADER_LEN && fs::remove_file(self.path()).is_ok();
            self.given_up |= !gone;
            self.file = old_file;
            (self.number, self.len, self.first, self.next) = old;
            self.synced = self.len;
        }
        begun
    }

    // Writes the buffer at the end of the file, whole or not at all.
    fn write_buffer(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        if let Err(error) = self.write(&buffer) {
            let mut fault = Fault::io(self.path().display(), &error);
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
        self.len >= self.roll_bytes && self.next > self.first
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
        let chain = chain::load(&self.folder, self.number + 1, |newest| newest.spool == self.spool)?;
        chain::delete_below(&self.folder, &chain, released)?;
        self.used = chain::used(&self.folder)?;
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
