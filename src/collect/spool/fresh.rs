//! The event files of one writer on their way from an append to their names.

use std::{
    fs::{self, File},
    io::{self, Write},
    thread,
};

use super::{
    Entry, Kind,
    files::{EventFolder, room},
    frame::{self, EventFile},
    naming::Template,
};
use crate::{
    fault::{Fault, Result},
    model::Sequence,
};

/// Files are synced so many at once: a journalling file system commits what waits together.
const SYNCS_AT_ONCE: usize = 8;

/// What is written and has no name yet; see [`files`](super::files).
pub struct Fresh {
    folder: EventFolder,
    template: Template,
    last: Option<i64>,
    waiting: Vec<(Sequence, String)>,

    #[cfg(test)]
    pub(super) disk_full_after: Option<usize>,
}

impl Fresh {
    /// Names go on behind the stamp `last`.
    pub fn new(folder: EventFolder, template: Template, last: Option<i64>) -> Self {
        Self {
            folder,
            template,
            last,
            waiting: Vec::new(),
            #[cfg(test)]
            disk_full_after: None,
        }
    }

    /// The stamp of the last name.
    pub fn last(&self) -> Option<i64> {
        self.last
    }

    /// What an entry takes, frame and file, at most; `None` if it is too large for a frame.
    pub fn size(&self, entry: &Entry) -> Option<(u64, u64)> {
        match entry.kind {
            Kind::Letter => Some((frame::size(entry)?, 0)),
            Kind::Event => {
                let frame = frame::size_beside_file(entry, self.template.longest())?;
                Some((frame, room(entry.payload.len() as u64)))
            }
        }
    }

    /// Writes the event of a data file under its hidden name and answers what its frame has to say.
    ///
    /// # Errors
    /// Those of the file system; nothing is written then.
    pub fn write(&mut self, number: u64, sequence: Sequence, entry: &Entry) -> Result<EventFile> {
        let mut stamp = self.template.stamp(self.last, entry.received);
        let name = loop {
            let name = self.template.name(stamp)?;
            if !self.folder.is_taken(&name)? {
                break name;
            }
            stamp += 1;
        };
        let path = self.folder.hidden(number, sequence);
        let written = File::create(&path).and_then(|mut file| self.fill(&mut file, &entry.payload));
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(Fault::io(path.display(), &error));
        }
        self.last = Some(stamp);
        self.waiting.push((sequence, name.clone()));
        let (crc32c, len) = (crc32c::crc32c(&entry.payload), entry.payload.len() as u64);
        Ok(EventFile { crc32c, len, stamp, name })
    }

    fn fill(&mut self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(len) = self.disk_full_after.take() {
            file.write_all(&bytes[..len.min(bytes.len())])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all(bytes)
    }

    /// Deletes what was written of the entries from `from` on: their frames were not.
    pub fn take_back(&mut self, number: u64, from: Sequence) {
        let (folder, waiting) = (&self.folder, &mut self.waiting);
        let kept = waiting.partition_point(|(sequence, _)| *sequence < from);
        for (sequence, _) in waiting.drain(kept..) {
            // One that stays is a left-over, which the next writer deletes.
            let _ = fs::remove_file(folder.hidden(number, sequence));
        }
    }

    /// Makes durable what was written, whatever its names are; no if there was nothing.
    ///
    /// # Errors
    /// Those of the file system: nothing that waits may count any more.
    pub fn sync(&self, number: u64) -> Result<bool> {
        let each = self.waiting.len().div_ceil(SYNCS_AT_ONCE).max(1);
        thread::scope(|scope| {
            let parts = self.waiting.chunks(each).map(|part| scope.spawn(|| self.sync_files(number, part)));
            let parts: Vec<_> = parts.collect();
            parts.into_iter().try_for_each(|part| {
                part.join().unwrap_or_else(|_| Err(Fault::internal("the sync of event files panicked")))
            })
        })?;
        if !self.waiting.is_empty() {
            self.folder.sync()?;
        }
        Ok(!self.waiting.is_empty())
    }

    // The files may be more than a process may have open: each is opened anew.
    fn sync_files(&self, number: u64, part: &[(Sequence, String)]) -> Result<()> {
        part.iter().try_for_each(|(sequence, _)| {
            let path = self.folder.hidden(number, *sequence);
            File::open(&path).and_then(|file| file.sync_data()).map_err(|error| Fault::io(path.display(), &error))
        })
    }

    /// Gives names to what was written: it and its frames are durable.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn publish(&mut self, number: u64) -> Result<()> {
        for (sequence, name) in &self.waiting {
            self.folder.publish(number, *sequence, name)?;
        }
        self.waiting.clear();
        Ok(())
    }

    /// Makes durable which names were given. The next data file begins after that: who opens the spool
    /// looks for events without a name in the last one only.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sync_names(&self) -> Result<()> {
        self.folder.sync()
    }
}
