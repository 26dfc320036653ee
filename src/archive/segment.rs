//! A segment on its way: records become lines in a staging file, and the account of them is kept.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Codec, entry::Times, pack::Packer};
use crate::{
    fault::{Fault, Result},
    model::{Hole, Millis, Offset, Record},
    store::{Store, StorePath, StoreWriter},
    vitals::Moments,
};

/// Bytes gathered before they are handed to the store: large enough that the hand-over costs
/// nothing, small enough that a lane's memory stays small.
const CHUNK: usize = 512 * 1024;

/// What a record becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed<'r> {
    /// A line: these bytes and a newline.
    Line(&'r Bytes),
    /// No line: a null value is a hole.
    Null,
    /// No line: it cannot be framed, and is a dead letter for this reason.
    Unframable(&'static str),
}

/// Line framing: the value, then a newline. An empty value is an empty line.
pub fn frame(record: &Record) -> Framed<'_> {
    #[cfg(test)]
    record.value.iter().for_each(|value| crate::failpoint::tests_only::look(value));
    match &record.value {
        None => Framed::Null,
        Some(value) if value.contains(&b'\n') => Framed::Unframable("newline"),
        Some(value) => Framed::Line(value),
    }
}

/// The account of a segment: all an entry says but its names.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Lines.
    pub count: u64,
    /// Bytes of the lines with their newlines.
    pub bytes: u64,
    /// CRC-32C of those bytes.
    pub crc32c: u32,
    /// Offsets without a line; adjacent runs of one reason are one.
    pub holes: Vec<Hole>,
    /// Bus times of the lines.
    pub times: Times,
    /// The same, to tell how long they took.
    pub moments: Moments,
}

impl Account {
    /// Notes a run of offsets without a line.
    pub fn hole(&mut self, hole: Hole) {
        match self.holes.last_mut() {
            Some(last) if last.to == hole.from && last.why == hole.why => last.to = hole.to,
            _ => self.holes.push(hole),
        }
    }

    /// Notes a line and puts its bytes into `out`.
    pub fn line(&mut self, value: &[u8], time: Millis, out: &mut BytesMut) {
        let at = out.len();
        out.extend_from_slice(value);
        out.extend_from_slice(b"\n");
        self.crc32c = crc32c::crc32c_append(self.crc32c, &out[at..]);
        self.bytes += (out.len() - at) as u64;
        self.count += 1;
        self.times.push(time);
        self.moments.push(time);
    }
}

/// A staging file being written.
pub struct Staging {
    /// Of the file, new for each attempt.
    pub uuid: Uuid,
    /// The bus time of its first line: decides the folder.
    pub first_time: Millis,
    writer: Box<dyn StoreWriter>,
    buffer: BytesMut,
    packer: Option<Packer>,
}

impl Staging {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn create(
        store: &dyn Store,
        path: &StorePath,
        uuid: Uuid,
        codec: Codec,
        first_time: Millis,
    ) -> Result<Self> {
        let packer = Packer::new(codec).map_err(|error| unpacked(&error))?;
        let writer = store.create(path).await?;
        Ok(Self { uuid, first_time, writer, buffer: BytesMut::new(), packer })
    }

    /// Where lines are put before [`flush`](Self::flush) hands them on.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Hands the gathered bytes to the store if there are enough of them (or `all` are wanted).
    ///
    /// # Errors
    /// Those of the store; the file is of no more use then.
    pub async fn flush(&mut self, all: bool) -> Result<()> {
        if self.buffer.is_empty() || (!all && self.buffer.len() < CHUNK) {
            return Ok(());
        }
        let lines = self.buffer.split().freeze();
        let Some(mut packer) = self.packer.take() else { return self.writer.append(lines).await };
        let (packer, packed) = offload(move || packer.push(&lines).map(|packed| (packer, packed)))
            .await?
            .map_err(|error| unpacked(&error))?;
        self.packer = Some(packer);
        if packed.is_empty() { Ok(()) } else { self.writer.append(packed.into()).await }
    }

    /// Ends the file, durably.
    ///
    /// # Errors
    /// Those of the store: anything but `Ok` means that the file must not be used.
    pub async fn close(mut self) -> Result<()> {
        self.flush(true).await?;
        if let Some(packer) = self.packer.take() {
            let tail = offload(move || packer.finish()).await?.map_err(|error| unpacked(&error))?;
            self.writer.append(tail.into()).await?;
        }
        self.writer.close().await
    }
}

fn unpacked(error: &std::io::Error) -> Fault {
    Fault::internal(format!("compressing a segment: {error}"))
}

/// Runs what takes long off the asynchronous thread; in place where there is no such thread (the
/// simulator's executor).
pub async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.spawn_blocking(work).await.map_err(|error| Fault::internal(format!("a helper thread: {error}")))
        }
        Err(_) => Ok(work()),
    }
}

/// The segment that a lane fills: from `start` up to where the lane stands.
pub struct Open {
    /// The chain's end.
    pub start: Offset,
    /// When its first record or hole came, on tokio's clock.
    pub since: Option<Instant>,
    /// The account so far.
    pub account: Account,
    /// The file, once there is a line.
    pub staging: Option<Staging>,
}

impl Open {
    /// An empty segment at the chain's end.
    pub fn at(start: Offset) -> Self {
        Self { start, since: None, account: Account::default(), staging: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Why;

    fn record(value: Option<&'static [u8]>) -> Record {
        Record { offset: 0, time: 0, key: None, value: value.map(Bytes::from_static), headers: Vec::new() }
    }

    #[test]
    fn a_null_is_a_hole_an_empty_value_a_line_and_a_newline_a_dead_letter() {
        assert_eq!(frame(&record(None)), Framed::Null);
        assert_eq!(frame(&record(Some(b""))), Framed::Line(&Bytes::new()));
        assert_eq!(frame(&record(Some(b"a\rb"))), Framed::Line(&Bytes::from_static(b"a\rb")));
        assert_eq!(frame(&record(Some(b"a\nb"))), Framed::Unframable("newline"));
        assert_eq!(frame(&record(Some(b"a\n"))), Framed::Unframable("newline"));
    }

    #[test]
    fn the_account_sums_up_lines_and_joins_holes() {
        let mut account = Account::default();
        let mut out = BytesMut::new();
        account.hole(Hole { from: 0, to: 3, why: Why::Start });
        account.line(b"12345", 7, &mut out);
        account.line(b"6789", 8, &mut out);
        account.hole(Hole { from: 5, to: 6, why: Why::Marker });
        account.hole(Hole { from: 6, to: 7, why: Why::Marker });
        account.hole(Hole { from: 7, to: 9, why: Why::Retention });
        assert_eq!(&out[..], b"12345\n6789\n");
        assert_eq!((account.count, account.bytes), (2, 11));
        let holes: Vec<_> = account.holes.iter().map(|h| (h.from, h.to)).collect();
        assert_eq!(holes, [(0, 3), (5, 7), (7, 9)]);
    }

    #[test]
    fn the_checksum_is_crc_32c_over_all_lines() {
        // RFC 3720, B.4: 32 bytes of zeroes have the checksum 0x8a9136aa; split over two lines'
        // worth of appends it is the same, so the running sum is the sum of the whole.
        let whole = crc32c::crc32c(&[0; 32]);
        assert_eq!(whole, 0x8a91_36aa);
        let (mut account, mut out) = (Account::default(), BytesMut::new());
        account.line(b"ab", 0, &mut out);
        account.line(b"c", 0, &mut out);
        assert_eq!(account.crc32c, crc32c::crc32c(b"ab\nc\n"));
    }
}
