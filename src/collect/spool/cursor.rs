//! Reads a data file frame by frame, and finds out what a bad frame means.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use super::{
    frame::{self, FIXED, PREFIX, Raw},
    header::HEADER_LEN,
};
use crate::{
    fault::{Fault, Result},
    model::Sequence,
};

/// Bytes read in one go.
const BLOCK: usize = 256 * 1024;

/// Stands between two frames of a file.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    file: File,
    at: u64,
    // The file counts up to here only.
    end: Option<u64>,
    // What was read from `at` on and not taken yet.
    buffer: BytesMut,
}

/// What stands at a cursor.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame; the cursor stands behind it now.
    Frame(Raw),
    /// Nothing more.
    End,
    /// No whole frame; the cursor stays.
    Bad,
}

impl Cursor {
    /// A cursor before the first frame of a file that counts up to `end` (`None`: to wherever it
    /// ends).
    ///
    /// # Errors
    /// The file cannot be opened; `Ok(None)` if there is none.
    pub fn open(path: &Path, end: Option<u64>) -> Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self { path: path.to_owned(), file, at: HEADER_LEN, end, buffer: BytesMut::new() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::io(path.display(), &error)),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it stands, in bytes from the file's begin.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Stands before the frame at `at` (again).
    pub fn back_to(&mut self, at: u64) {
        self.at = at;
        self.buffer.clear();
    }

    /// The file's successor has been found: it counts up to here only.
    pub fn ends_at(&mut self, end: u64) {
        self.end = Some(end);
        self.buffer.clear();
    }

    /// Forgets what was read ahead: the bytes behind the durable end may change.
    pub fn forget(&mut self) {
        self.buffer.clear();
    }

    /// The next frame.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn step(&mut self) -> Result<Step> {
        if !self.fill(PREFIX)? {
            return Ok(if self.buffer.is_empty() { Step::End } else { Step::Bad });
        }
        let Some(size) = frame::claimed_size(&self.buffer) else { return Ok(Step::Bad) };
        if size > self.buffer.len() && (size as u64 > self.rest()? || !self.fill(size)?) {
            return Ok(Step::Bad);
        }
        // A frame that does not check out must stay: a look behind it starts from here.
        let frame = self.buffer.split_to(size).freeze();
        match frame::decode(&frame) {
            Some(raw) => {
                self.at += size as u64;
                Ok(Step::Frame(raw))
            }
            None => {
                self.buffer.clear();
                Ok(Step::Bad)
            }
        }
    }

    /// Whether the bytes at the cursor, which are no frame, were durable once: a frame behind them
    /// says so. `next` is the sequence the frame here should have.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn was_durable(&self, next: Sequence) -> Result<bool> {
        let end = self.at + self.rest()?;
        let mut block = vec![0; BLOCK];
        let mut from = self.at + 1;
        while from + FIXED as u64 <= end {
            let len = read(&self.file, &mut block, from, end).map_err(|error| self.fault(&error))?;
            if len < FIXED {
                break;
            }
            for (at, window) in (from..).zip(block[..len].windows(FIXED)) {
                if self.says_durable(at, window, end, next)? {
                    return Ok(true);
                }
            }
            from += (len - FIXED + 1) as u64;
        }
        Ok(false)
    }

    fn says_durable(&self, at: u64, fixed: &[u8], end: u64, next: Sequence) -> Result<bool> {
        let Some(size) = frame::claimed_size(fixed) else { return Ok(false) };
        let Some((sequence, durable)) = frame::claims(fixed) else { return Ok(false) };
        if sequence < next || durable <= self.at || durable > at || size as u64 > end - at {
            return Ok(false);
        }
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| self.fault(&error))?;
        Ok(frame::decode(&Bytes::from(bytes)).is_some())
    }

    // How many bytes there are from the cursor on.
    fn rest(&self) -> Result<u64> {
        let len = self.file.metadata().map_err(|error| self.fault(&error))?.len();
        Ok(self.end.map_or(len, |end| end.min(len)).saturating_sub(self.at))
    }

    // Reads until the buffer has `size` bytes; no if there are fewer.
    fn fill(&mut self, size: usize) -> Result<bool> {
        while self.buffer.len() < size {
            let have = self.buffer.len();
            self.buffer.resize(size.max(BLOCK), 0);
            let read = read(&self.file, &mut self.buffer[have..], self.at + have as u64, self.end.unwrap_or(u64::MAX));
            self.buffer.truncate(have + *read.as_ref().unwrap_or(&0));
            if read.map_err(|error| self.fault(&error))? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fault(&self, error: &io::Error) -> Fault {
        Fault::io(self.path.display(), error)
    }
}

// Reads what there is between `from` and `end`, at most the buffer's length.
fn read(file: &File, buffer: &mut [u8], from: u64, end: u64) -> io::Result<usize> {
    let most = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX).min(buffer.len());
    let mut len = 0;
    while len < most {
        match file.read_at(&mut buffer[len..most], from + len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
