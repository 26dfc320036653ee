//! The records of one file, from a place in it on.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::{AHEAD_EVENTS, FolderSettings, Identity, RecordOf, Stand, listing::Found};
use crate::{
    collect::one_line::one_line,
    fault::{Domain, Fault, Result},
};

/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// A file that is being read.
pub(super) struct Reading {
    path: PathBuf,
    /// Where it is read on.
    pub stand: Stand,
    /// Events that it gave; many, where some were taken in an earlier life.
    pub events: u64,
    reader: Box<dyn BufRead + Send>,
    large: Large,
    back: Option<Piece>,
    trouble: Trouble,
}

/// What an error has left.
#[derive(Clone, PartialEq, Eq)]
enum Trouble {
    No,
    /// The reader is of no more use: it may take an error for the end when it is asked again.
    Reopen,
    /// The file is no better for being read again.
    Broken(String),
}

/// Where it is with a record above the bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Large {
    /// In none.
    No,
    /// Within one.
    Within,
    /// Behind one whose end is still to be told.
    Behind,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Piece {
    /// A record, which ends where the stand is now.
    Record(Bytes),
    /// A part of a record above the bound.
    Part(Bytes),
    /// A record above the bound has ended.
    PartsEnd,
    /// The file has.
    End,
}

impl Reading {
    /// Opens a file, behind its first `at` bytes (unpacked).
    ///
    /// # Errors
    /// Those of the file system; `Data` for a file that cannot be unpacked up to there.
    pub fn open(settings: &FolderSettings, found: &Found, at: u64) -> Result<Self> {
        let path = settings.path.join(&found.file);
        let stand = Stand { file: found.file.clone(), identity: found.identity, at };
        let (reader, events) = (reader_at(&path, &stand)?, if at > 0 { AHEAD_EVENTS } else { 0 });
        Ok(Self { path, stand, events, reader, large: Large::No, back: None, trouble: Trouble::No })
    }

    /// The file as it is now, if it is still there.
    pub fn present(&self) -> Result<Option<Identity>> {
        match std::fs::metadata(&self.path) {
            Ok(about) => Ok(Some(Identity::of(&about))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::io(self.path.display(), &error)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next call answers with this.
    pub fn put_back(&mut self, piece: Piece) {
        self.back = Some(piece);
    }

    /// The next piece.
    ///
    /// # Errors
    /// `Data`: it cannot be unpacked further, and the message says where; those of the file system.
    pub fn next(&mut self, settings: &FolderSettings) -> Result<Piece> {
        if let Some(piece) = self.back.take() {
            return Ok(piece);
        }
        match &self.trouble {
            Trouble::No => {}
            Trouble::Broken(why) => return Err(Fault::data(why.clone())),
            Trouble::Reopen => {
                self.reader = reader_at(&self.path, &self.stand)?;
                self.trouble = Trouble::No;
            }
        }
        let piece = self.read(settings);
        if let Err(fault) = &piece {
            let is_data = fault.domain == Domain::Data;
            self.trouble = if is_data { Trouble::Broken(fault.message.clone()) } else { Trouble::Reopen };
        }
        piece
    }

    /// The stand moves with what is answered, and not with what was read and not answered.
    fn read(&mut self, settings: &FolderSettings) -> Result<Piece> {
        if self.large == Large::Behind {
            self.large = Large::No;
            return Ok(Piece::PartsEnd);
        }
        let mut at = self.stand.at;
        let most = usize::try_from(settings.max_event).unwrap_or(usize::MAX);
        let mut record = Vec::new();
        loop {
            let chunk = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| broken(&self.path, self.stand.at, &error))?,
            };
            let is_end = chunk.is_empty();
            let is_lines = settings.record == RecordOf::Line;
            let line = chunk.iter().position(|byte| is_lines && *byte == b'\n');
            let taken = line.map_or(chunk.len(), |at| at + 1);
            record.extend_from_slice(&chunk[..line.unwrap_or(taken)]);
            self.reader.consume(taken);
            at += taken as u64;
            let has_ended = is_end || line.is_some();
            if self.large == Large::Within || record.len() > most {
                self.large = if has_ended { Large::Behind } else { Large::Within };
                self.stand.at = at;
                return Ok(Piece::Part(record.into()));
            }
            if has_ended {
                if is_end && record.is_empty() {
                    return Ok(Piece::End);
                }
                self.stand.at = at;
                let record = Bytes::from(record);
                return Ok(Piece::Record(match settings.record {
                    RecordOf::File { one_line: true } => one_line(&record),
                    _ => record,
                }));
            }
        }
    }
}

/// Whether a file of this name is unpacked.
pub(super) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Opens a file and stands there.
fn reader_at(path: &Path, stand: &Stand) -> Result<Box<dyn BufRead + Send>> {
    let io = |error: io::Error| Fault::io(path.display(), &error);
    let file = File::open(path).map_err(io)?;
    // No more than it had when it was taken: what is written to it since makes it another file.
    let file = BufReader::with_capacity(BUFFER, file.take(stand.identity.size));
    let mut reader: Box<dyn BufRead + Send> = if is_packed(path) {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    };
    let at = stand.at;
    let skipped = io::copy(&mut reader.by_ref().take(at), &mut io::sink());
    let skipped = skipped.map_err(|error| broken(path, 0, &error))?;
    if skipped < at {
        return Err(Fault::data(format!("{}: ends at {skipped}, and was read up to {at}", path.display())));
    }
    Ok(reader)
}

/// What keeps a file from being read on.
fn broken(path: &Path, at: u64, error: &io::Error) -> Fault {
    let place = format!("{}, behind byte {at}", path.display());
    // What unpacks says so of bytes that are no gzip.
    let is_packed =
        matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    if is_packed { Fault::data(format!("{place}: {error}")) } else { Fault::io(place, error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::folder::tests;

    /// Gives some bytes and then an error, and then says that this is the end.
    struct Failing(Vec<u8>, Option<io::Error>);

    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty()
                && let Some(error) = self.1.take()
            {
                return Err(error);
            }
            let len = self.0.len().min(into.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0.drain(..len);
            Ok(len)
        }
    }

    #[test]
    fn a_disk_that_fails_for_a_moment_costs_no_byte_and_is_not_the_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "one\ntwo and more\nthree\n").unwrap();
        let settings = tests::settings(folder.path());
        let identity = Identity::of(&std::fs::metadata(folder.path().join("a")).unwrap());
        let mut reading = Reading::open(&settings, &Found { file: "a".into(), identity }, 0).unwrap();
        let fails = |text: &str| -> Box<dyn BufRead + Send> {
            Box::new(BufReader::new(Failing(text.as_bytes().to_vec(), Some(io::Error::other("a moment")))))
        };
        let mut lines = Vec::new();
        let mut faults = 0;
        reading.reader = fails("one\ntwo an");
        loop {
            match reading.next(&settings) {
                Ok(Piece::Record(line)) => lines.push(line),
                Ok(Piece::End) => break,
                Ok(other) => panic!("{other:?}"),
                Err(fault) => {
                    faults += 1;
                    assert!(fault.domain != Domain::Data && fault.message.contains("behind byte 4"), "{fault}");
                }
            }
        }
        assert_eq!((lines, faults), (vec!["one".into(), "two and more".into(), "three".into()], 1));
    }
}
