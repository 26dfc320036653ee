//! The lines of an archived file, read piece by piece: a segment may be larger than a process should hold.

use bytes::Bytes;

use super::{
    entry::{Entry, Tally},
    pack::Unpacker,
    segment::offload,
};
use crate::{
    fault::{Fault, Kind, Result},
    store::{SharedStore, StorePath},
};

/// Bytes of the file that are read at a time.
const PIECE: usize = 256 * 1024;

/// A walk through the lines of an entry's file; see the module's text.
pub struct Pieces {
    store: SharedStore,
    target: StorePath,
    staging: Option<StorePath>,
    at: u64,
    /// None at the end.
    unpacker: Option<Unpacker>,
}

impl Pieces {
    /// From the first byte of an entry's file on, in the archive at `base`; `None` if it has no file.
    ///
    /// # Errors
    /// There is no memory to unpack it.
    pub fn of(store: &SharedStore, base: &StorePath, entry: &Entry) -> Result<Option<Self>> {
        let Some(target) = &entry.target else { return Ok(None) };
        let begun = Unpacker::new(entry.codec);
        let unpacker = begun.map_err(|error| Fault::internal(format!("unpacking a segment: {error}")))?;
        Ok(Some(Self {
            store: store.clone(),
            target: base.join(target),
            staging: entry.staging.as_ref().map(|staging| base.join(staging)),
            at: 0,
            unpacker: Some(unpacker),
        }))
    }

    /// The next bytes of lines, of which the last may go on in the bytes after; `None` at the end.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`] if the file is gone or cannot be unpacked. Begin anew after either.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(mut unpacker) = self.unpacker.take() {
            let piece = self.read().await?;
            if piece.is_empty() {
                unpacker.finish().map_err(|error| self.lost(&format!("cannot be unpacked: {error}")))?;
                break;
            }
            self.at += piece.len() as u64;
            let unpacked = offload(move || unpacker.push(piece).map(|lines| (unpacker, lines))).await?;
            let (unpacker, lines) = unpacked.map_err(|error| self.lost(&format!("cannot be unpacked: {error}")))?;
            self.unpacker = Some(unpacker);
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }

    /// Whether the file is what its entry says; reads it to its end.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`] if it is not.
    pub async fn check(mut self, entry: &Entry) -> Result<()> {
        let mut tally = Tally::default();
        while let Some(lines) = self.next().await? {
            tally.add(&lines);
        }
        entry.mismatch(&tally).map_or(Ok(()), |mismatch| Err(self.lost(&mismatch)))
    }

    async fn read(&self) -> Result<Bytes> {
        // The last segment may be on its way to its place just now.
        for place in [Some(&self.target), self.staging.as_ref(), Some(&self.target)].into_iter().flatten() {
            if let Some(piece) = self.store.read_range(place, self.at, PIECE).await? {
                return Ok(piece);
            }
        }
        Err(self.lost("is not there, and an entry names it"))
    }

    fn lost(&self, text: &str) -> Fault {
        Fault::data(text).kind(Kind::Lost).at(&self.target)
    }
}
