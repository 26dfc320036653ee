//! The part that works with files: what comes next, which file is done. It blocks.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Done, FolderSettings, Identity, Stand,
    flume::{self, Tracked},
    journal::{Aside, Journal, finish},
    listing::{Found, list},
    reading::{Piece, Reading, is_packed},
};
use crate::{
    collect::source::RawEvent,
    disk,
    fault::{Domain, Fault, Result},
    model::{Clock, Millis},
};

/// Events handed out in one go at most, and their bytes.
const MAX_EVENTS: usize = 500;
const MAX_BYTES: usize = 1 << 20;

/// So many files may withstand being done before the folder stands still.
const MOST_UNDONE: usize = 256;

/// How often these are tried again, in milliseconds.
const AGAIN: Millis = 60_000;

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// Events in order, at least one.
    Events(Vec<RawEvent>),
    /// A part of an event above the bound.
    Part(Bytes),
    /// That event has ended; its token.
    PartsEnd(Bytes),
    /// A file was read to its end, and is what it was when it was taken; how many events it gave, or that they are
    /// many, where some were taken in an earlier life.
    Read(Stand, u64),
    /// A file is to be left alone once what was handed out of it is durable.
    Leave(Aside),
    /// Something is to be told of files.
    Tell(Vec<Fault>),
    /// There is nothing to read.
    Nothing,
}

/// See the module's text.
pub(super) struct Worker {
    settings: Arc<FolderSettings>,
    clock: Arc<dyn Clock>,
    journal: Journal,
    /// Where the last event of the earlier life ended.
    resume: Option<Stand>,
    tracked: Option<Tracked>,
    reading: Option<Reading>,
    /// Files that are read and not done, and how far.
    read: Vec<Stand>,
    /// Those of them that withstood it, and when they are tried again.
    undone: Vec<Stand>,
    /// What is to be told of files, and was not yet.
    untold: Vec<Fault>,
    again_at: Millis,
    /// What the last look found, last first.
    ahead: Vec<Found>,
    /// Files whose names are no text: each is told once.
    nameless: BTreeSet<PathBuf>,
}

impl Worker {
    /// Opens the folder and the journal; finishes what an earlier life has left. Answers also with what to tell of that.
    ///
    /// # Errors
    /// `User`: the folder cannot be used as it is meant; those of the file system.
    pub fn open(
        settings: Arc<FolderSettings>,
        spool: &Path,
        clock: Arc<dyn Clock>,
        token: &[u8],
    ) -> Result<(Self, Vec<Fault>)> {
        let mut journal = Journal::open(spool)?;
        if let Done::Move(folder) = &settings.done {
            one_file_system(&settings.path, folder)?;
        }
        for aside in journal.all_aside() {
            tracing::warn!(file = %settings.path.join(&aside.file).display(), why = aside.why, "left alone since an earlier start");
        }
        let tracked = flume::tracked(&settings.path)?;
        if let Some(Tracked { target, at, .. }) = &tracked {
            tracing::info!(file = %target.display(), at, "a Flume agent has read so far in this file: it is gone on with from there");
        }
        let resume = Stand::parse(token);
        if let Some(stand) = &resume {
            journal.begin(stand.clone());
        }
        let mut worker = Self {
            again_at: clock.now() + AGAIN,
            settings,
            clock,
            journal,
            resume,
            tracked,
            reading: None,
            read: Vec::new(),
            undone: Vec::new(),
            untold: Vec::new(),
            ahead: Vec::new(),
            nameless: BTreeSet::new(),
        };
        for found in worker.look(Millis::MAX)? {
            if let Some(stand) = worker.journal.done(&found).cloned() {
                worker.read.push(stand.clone());
                worker.done_one(&stand)?;
            }
        }
        worker.forget()?;
        let told = std::mem::take(&mut worker.untold);
        Ok((worker, told))
    }

    fn look(&mut self, now: Millis) -> Result<Vec<Found>> {
        let Self { settings, nameless, .. } = self;
        list(settings, now, &mut |path| {
            if nameless.insert(path.clone()) {
                tracing::warn!(file = %settings.path.join(path).display(), "left alone: its name is no text");
            }
        })
    }

    /// Goes on reading.
    ///
    /// # Errors
    /// Those of the file system: the same again.
    pub fn step(&mut self) -> Result<Step> {
        if !self.undone.is_empty() && self.clock.now() >= self.again_at {
            self.try_again()?;
        }
        if !self.untold.is_empty() {
            return Ok(Step::Tell(std::mem::take(&mut self.untold)));
        }
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => match self.next_file()? {
                Some(found) => match self.begin(&found) {
                    Ok(reading) => reading,
                    Err(fault) if fault.domain == Domain::Data => {
                        let taken = self.begun(&found).map_or(0, |stand| stand.at);
                        return Ok(self.leave(&found.file, found.identity, taken, &fault));
                    }
                    // It is still the next one.
                    Err(fault) => {
                        self.ahead.push(found);
                        return Err(fault);
                    }
                },
                None => return Ok(Step::Nothing),
            },
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < MAX_EVENTS && bytes < MAX_BYTES {
            let piece = match reading.next(&self.settings) {
                Ok(piece) => piece,
                // What was read is handed out first; the next step meets the same again.
                Err(_) if !events.is_empty() => break,
                Err(fault) if fault.domain == Domain::Data => {
                    let Stand { file, identity, at } = reading.stand;
                    return Ok(self.leave(&file, identity, at, &fault));
                }
                Err(fault) => {
                    self.reading = Some(reading);
                    return Err(fault);
                }
            };
            match piece {
                Piece::Record(data) => {
                    bytes += data.len();
                    reading.events += 1;
                    events.push(RawEvent { token: reading.stand.token(), data });
                }
                // Whoever takes what follows gets it behind the events.
                other if !events.is_empty() => {
                    reading.put_back(other);
                    break;
                }
                Piece::Part(part) => {
                    self.reading = Some(reading);
                    return Ok(Step::Part(part));
                }
                Piece::PartsEnd => {
                    reading.events += 1;
                    let token = reading.stand.token();
                    self.reading = Some(reading);
                    return Ok(Step::PartsEnd(token));
                }
                Piece::End => return self.ended(reading),
            }
        }
        self.reading = Some(reading);
        Ok(Step::Events(events))
    }

    /// The next file that is neither read nor left alone.
    fn next_file(&mut self) -> Result<Option<Found>> {
        loop {
            let Some(found) = self.ahead.pop() else {
                self.ahead = self.look(self.clock.now())?;
                let read = |found: &Found| self.read.iter().any(|read| found.is_of(read));
                self.ahead.retain(|found| !read(found) && self.journal.aside(found).is_none());
                self.ahead.reverse();
                if self.ahead.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            // It is long since it was listed; and a file may have two names, by a link.
            if self.read.iter().any(|read| found.is_of(read)) || self.is_done(&found) {
                continue;
            }
            let about = fs::metadata(self.settings.path.join(&found.file));
            if about.is_ok_and(|about| Identity::of(&about) == found.identity) {
                return Ok(Some(found));
            }
        }
    }

    /// What the last life or this one has done with is not read again: its file system was away meanwhile.
    fn is_done(&mut self, found: &Found) -> bool {
        let Some(stand) = self.journal.done(found).cloned() else { return false };
        self.read.push(stand.clone());
        self.undone.push(stand);
        self.again_at = self.clock.now();
        true
    }

    /// Where an earlier life stood in this file.
    fn begun(&self, found: &Found) -> Option<&Stand> {
        let last = self.resume.as_ref().filter(|stand| found.is_of(stand));
        last.or_else(|| self.journal.begun(found))
    }

    fn begin(&mut self, found: &Found) -> Result<Reading> {
        let path = self.settings.path.join(&found.file);
        let at = match self.begun(found) {
            Some(stand) if stand.identity == found.identity => stand.at,
            Some(stand) => {
                let text = format!("{}: {}", path.display(), changed(stand.identity, Some(found.identity), true));
                return Err(Fault::data(text));
            }
            None => match &self.tracked {
                Some(tracked) if tracked.target == path && found.identity.changed <= tracked.written => tracked.at,
                _ => 0,
            },
        };
        Reading::open(&self.settings, found, at)
    }

    /// Nothing more is in it: it may be done, if it is what it was.
    fn ended(&mut self, mut reading: Reading) -> Result<Step> {
        let present = match reading.present() {
            Ok(present) => present,
            Err(fault) => {
                reading.put_back(Piece::End);
                self.reading = Some(reading);
                return Err(fault);
            }
        };
        let Stand { file, identity, at } = reading.stand.clone();
        if present == Some(identity) {
            self.read.push(reading.stand.clone());
            return Ok(Step::Read(reading.stand, reading.events));
        }
        let is_same = present.is_some_and(|present| present.is_file_of(&file, &identity, &file));
        let text = format!("{}: {}", reading.path().display(), changed(identity, present, is_same));
        Ok(self.leave(&file, identity, at, &Fault::data(text)))
    }

    fn leave(&mut self, file: &Path, identity: Identity, taken: u64, why: &Fault) -> Step {
        self.read.push(Stand { file: file.to_owned(), identity, at: taken });
        Step::Leave(Aside { file: file.to_owned(), identity, taken, why: why.message.clone() })
    }

    /// Leaves a file alone from now on: what was handed out of it is durable. Answers with what to tell of it.
    ///
    /// # Errors
    /// Those of the file system: the same again.
    pub fn leave_alone(&mut self, aside: Aside) -> Result<Fault> {
        let path = self.settings.path.join(&aside.file);
        let (shown, taken, why) = (path.display(), aside.taken, aside.why.clone());
        let (unpacked, rest) = match is_packed(&path) {
            true => (", unpacked,", format!("zcat {shown} | tail -c +{}", taken + 1)),
            false => ("", format!("tail -c +{} {shown}", taken + 1)),
        };
        let text = format!(
            "{why}: it is left alone from now on; {taken} bytes of it{unpacked} are taken. Put the rest into a file of its \
             own, like: {rest} > {shown}.rest"
        );
        let identity = aside.identity;
        self.journal.leave(aside)?;
        self.settle(identity);
        Ok(Fault::data(text))
    }

    /// All events of these files are durable. Answers with what to tell of those that are not what they were when
    /// they were read to their ends, or withstand being done.
    ///
    /// # Errors
    /// Those of the file system, and too many files that withstand: the same again.
    pub fn done(&mut self, files: &[Stand]) -> Result<Vec<Fault>> {
        if self.undone.len() >= MOST_UNDONE {
            self.try_again()?;
        }
        if let Some(stand) = self.undone.first().filter(|_| self.undone.len() >= MOST_UNDONE) {
            let path = self.settings.path.join(&stand.file);
            let text = format!("this file and {} others can be neither renamed nor moved nor deleted", MOST_UNDONE - 1);
            return Err(Fault::user(text).at(path.display()));
        }
        self.journal.note_done(files)?;
        for stand in files {
            self.resume.take_if(|resumed| resumed.identity == stand.identity);
            self.done_one(stand)?;
        }
        self.forget()?;
        Ok(std::mem::take(&mut self.untold))
    }

    /// Tries again with those that withstood.
    fn try_again(&mut self) -> Result<()> {
        for stand in self.undone.clone() {
            self.done_one(&stand)?;
        }
        self.again_at = self.clock.now() + AGAIN;
        self.forget()
    }

    /// What is gone is forgotten; not what lies on a file system of which nothing is to be seen, which may not be
    /// mounted now.
    fn forget(&mut self) -> Result<()> {
        let there = self.look(Millis::MAX)?;
        let folder = &self.settings.path;
        let own = fs::metadata(folder).map_err(|error| Fault::io(folder.display(), &error))?.dev();
        let is_gone = |file: &Path, identity: &Identity| {
            let above = folder.join(file).parent().and_then(|above| fs::metadata(above).ok());
            let is_seen = identity.device == own || above.is_some_and(|above| above.dev() == identity.device);
            let is_listed = || there.iter().any(|found| found.is_file_of(file, identity));
            // Settings may have changed, so that it is not listed.
            let is_at_its_place = || {
                let about = fs::metadata(folder.join(file));
                about.is_ok_and(|about| Identity::of(&about).is_file_of(file, identity, file))
            };
            is_seen && !is_listed() && !is_at_its_place()
        };
        self.journal.forget(&self.undone, is_gone)
    }

    /// Has a file done. One that withstands is to be told once, and tried again.
    fn done_one(&mut self, stand: &Stand) -> Result<()> {
        let done = match self.find(stand) {
            Ok(Some(found)) if found.identity == stand.identity => self.finish(&found),
            Ok(Some(found)) => {
                let fault = self.was_changed(stand, found)?;
                self.untold.push(fault);
                return Ok(());
            }
            // Done before this process was killed, or taken away: its events are durable.
            Ok(None) => Ok(()),
            Err(fault) => Err(fault),
        };
        let Err(mut fault) = done else {
            self.settle(stand.identity);
            return Ok(());
        };
        if self.undone.iter().any(|undone| undone.identity == stand.identity) {
            return Ok(());
        }
        self.undone.push(stand.clone());
        fault.message.push_str(
            "; all of it is taken and it is not read again: it stays as it is until that is mended, and is tried again \
             each minute",
        );
        self.untold.push(fault);
        Ok(())
    }

    fn finish(&mut self, found: &Found) -> Result<()> {
        finish(&self.settings, &found.file)?;
        self.journal.finished(found.identity);
        let path = self.settings.path.join(&found.file);
        tracing::info!(file = %path.display(), "read to its end");
        if let Some(tracked) = self.tracked.take_if(|tracked| tracked.target == path) {
            // As the agent does; who has taken that away meanwhile was as right.
            let _ = fs::remove_file(tracked.meta);
        }
        Ok(())
    }

    /// The file of this stand as it is now, at its place or where it was renamed to.
    fn find(&mut self, stand: &Stand) -> Result<Option<Found>> {
        let path = self.settings.path.join(&stand.file);
        let present = match fs::metadata(&path) {
            Ok(about) => Some(Identity::of(&about)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Fault::io(path.display(), &error)),
        };
        if let Some(identity) = present
            && identity.is_file_of(&stand.file, &stand.identity, &stand.file)
        {
            return Ok(Some(Found { file: stand.file.clone(), identity }));
        }
        let found = self.look(Millis::MAX)?.into_iter().find(|found| found.is_of(stand));
        if present.is_some() && found.is_none() {
            tracing::warn!(file = %path.display(), "another file of this name came before the one that is read was done: it is read, too");
        }
        Ok(found)
    }

    /// It is not any more what was read.
    fn was_changed(&mut self, stand: &Stand, found: Found) -> Result<Fault> {
        let path = self.settings.path.join(&found.file);
        let why = format!("{}: {}", path.display(), changed(stand.identity, Some(found.identity), true));
        self.leave_alone(Aside { file: found.file, identity: stand.identity, taken: stand.at, why })
    }

    /// Nothing is to be done with this file any more.
    fn settle(&mut self, identity: Identity) {
        self.undone.retain(|stand| stand.identity != identity);
        self.read.retain(|stand| stand.identity != identity);
    }
}

fn changed(before: Identity, now: Option<Identity>, is_same: bool) -> String {
    match now {
        Some(now) if is_same && now.size != before.size => {
            format!("it was changed after it was taken, from {} to {} bytes", before.size, now.size)
        }
        Some(_) if is_same => "it was changed after it was taken".to_owned(),
        Some(_) => "it was replaced by another file after it was taken".to_owned(),
        None => "it was taken away before it was read to its end".to_owned(),
    }
}

/// A move from one file system to another would be a copy, which may be seen half.
fn one_file_system(from: &Path, to: &Path) -> Result<()> {
    disk::make_folder(to)?;
    let device = |folder: &Path| {
        fs::metadata(folder).map(|about| about.dev()).map_err(|error| Fault::io(folder.display(), &error))
    };
    if device(from)? == device(to)? {
        return Ok(());
    }
    Err(Fault::user(format!(
        "{} is on another file system than {}: files cannot be moved there",
        to.display(),
        from.display()
    )))
}
