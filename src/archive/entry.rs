//! What the archive's chain says of each segment, and the small files beside the chain.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Codec;
use crate::{
    chain,
    fault::{Fault, Kind, Result},
    model::{Epoch, Hole, Incarnation, Millis, NodeId, Offset, PipelineId, TopicId, TopicName},
};

/// The version of everything the archive writes beside its data.
pub const FORMAT: u32 = 1;

/// One published (or just being published) segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`FORMAT`].
    pub format: u32,
    /// The first offset it covers: `next` of the entry before.
    pub start: Offset,
    /// The offset after the last one it covers.
    pub next: Offset,
    /// Lines in the file; `next - start` minus the offsets in `holes`.
    pub count: u64,
    /// Bytes of the lines, uncompressed, newlines included.
    pub bytes: u64,
    /// CRC-32C of those bytes (RFC 3720, appendix B.4).
    pub crc32c: u32,
    /// How the file is compressed.
    pub codec: Codec,
    /// The offsets without a line, with the reason.
    pub holes: Vec<Hole>,
    /// Where the file was written, from the archive's folder; absent when it has no line.
    pub staging: Option<String>,
    /// Where it lies for ever, from the archive's folder; absent when it has no line.
    #[serde(rename = "final")]
    pub target: Option<String>,
    /// The sidecar of its records' bus times, a name in the chain's folder; absent when it has no
    /// line.
    pub times: Option<String>,
    /// The epoch of the actor that wrote it.
    pub epoch: Epoch,
    /// The node it ran on.
    pub node: NodeId,
    /// The actor's incarnation.
    pub incarnation: Incarnation,
}

impl Entry {
    /// How what was counted differs from what the entry says; `None` if it does not.
    pub fn mismatch(&self, found: &Tally) -> Option<String> {
        let said = Tally { count: self.count, bytes: self.bytes, crc32c: self.crc32c };
        (*found != said).then(|| format!("{found}; the entry says {said}"))
    }
}

/// Lines, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    count: u64,
    bytes: u64,
    crc32c: u32,
}

impl Tally {
    /// Counts these bytes too.
    pub fn add(&mut self, lines: &[u8]) {
        self.count += lines.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.bytes += lines.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, lines);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, bytes, crc32c } = self;
        write!(f, "{count} lines, {bytes} bytes, crc32c {crc32c:08x}")
    }
}

impl chain::Entry for Entry {
    fn start(&self) -> Offset {
        self.start
    }

    fn next(&self) -> Offset {
        self.next
    }
}

/// `archive.json`: whose archive this is. Another pipeline, bus or framing may not add to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`FORMAT`].
    pub format: u32,
    /// The pipeline that made it.
    pub pipeline: PipelineId,
    /// The topic's name.
    pub topic: TopicName,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// How records become lines: `line` (the value and a newline).
    pub framing: String,
}

/// Bus times of a segment's lines, delta-coded while it is written.
///
/// The coding: for each line the difference to the time before (the first: to 0) in milliseconds as
/// a zigzag LEB128 varint. The sidecar: a version byte 1, the CRC-32C of the coding (four bytes,
/// little-endian), and the coding deflated.
#[derive(Clone, Debug, Default)]
pub struct Times {
    last: Millis,
    coded: Vec<u8>,
}

const TIMES_FORMAT: u8 = 1;

impl Times {
    /// Adds the next line's time.
    pub fn push(&mut self, time: Millis) {
        let delta = time.wrapping_sub(self.last);
        self.last = time;
        let mut zigzag = (delta.wrapping_shl(1) ^ (delta >> 63)).cast_unsigned();
        while zigzag >= 0x80 {
            self.coded.push((zigzag & 0x7f) as u8 | 0x80);
            zigzag >>= 7;
        }
        self.coded.push(zigzag as u8);
    }

    /// The sidecar's bytes.
    pub fn encode(&self) -> Vec<u8> {
        use std::io::Write;
        let mut head = vec![TIMES_FORMAT];
        head.extend_from_slice(&crc32c::crc32c(&self.coded).to_le_bytes());
        let mut encoder = flate2::write::DeflateEncoder::new(head, flate2::Compression::fast());
        // Writing to a Vec cannot fail; if it ever did, decode's count check would tell.
        let _ = encoder.write_all(&self.coded);
        encoder.finish().unwrap_or_default()
    }

    /// The times in a sidecar.
    ///
    /// # Errors
    /// [`Kind::Lost`] if the bytes are no sidecar of exactly `count` times.
    pub fn decode(bytes: &[u8], count: u64) -> Result<Vec<Millis>> {
        let damaged = |what: &str| Fault::data(format!("is no sidecar of {count} times: {what}")).kind(Kind::Lost);
        let (&format, deflated) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
        if format != TIMES_FORMAT {
            return Err(damaged(&format!("its format is {format}, this version reads {TIMES_FORMAT}")));
        }
        let (sum, deflated) = deflated.split_first_chunk().ok_or_else(|| damaged("it has no checksum"))?;
        let mut coded = Vec::new();
        // A time takes at most ten bytes: what is longer is not read to its end.
        let limit = count.saturating_mul(10).saturating_add(1);
        std::io::Read::read_to_end(
            &mut std::io::Read::take(flate2::read::DeflateDecoder::new(deflated), limit),
            &mut coded,
        )
        .map_err(|error| damaged(&error.to_string()))?;
        if crc32c::crc32c(&coded) != u32::from_le_bytes(*sum) {
            return Err(damaged("its checksum is another"));
        }
        let mut times = Vec::new();
        let (mut last, mut zigzag, mut shift) = (0_i64, 0_u64, 0_u32);
        for byte in coded {
            if shift > 63 {
                return Err(damaged("a number is too long"));
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                last = last.wrapping_add((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
                times.push(last);
                (zigzag, shift) = (0, 0);
            }
        }
        if shift != 0 || times.len() as u64 != count {
            return Err(damaged(&format!("it holds {}", times.len())));
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were() {
        let times = [1_442_018_818_771, 1_442_018_818_771, 1_442_018_820_000, 0, -5, i64::MAX, i64::MIN];
        let mut sidecar = Times::default();
        times.iter().for_each(|&time| sidecar.push(time));
        assert_eq!(Times::decode(&sidecar.encode(), 7).unwrap(), times);
    }

    #[test]
    fn a_sidecar_of_another_length_or_format_is_refused() {
        let mut sidecar = Times::default();
        sidecar.push(5);
        let good = sidecar.encode();
        assert!(Times::decode(&good, 2).is_err());
        assert!(Times::decode(&good, 0).is_err());
        assert!(Times::decode(&[], 1).is_err());
        assert!(Times::decode(&[&[9], &good[1..]].concat(), 1).is_err());
        assert!(Times::decode(&good[..2], 1).is_err());
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 0x10;
            // The last byte's unused bits say nothing, and nothing comes of them.
            let read = Times::decode(&flipped, 1);
            assert!(read.as_ref().is_ok_and(|times| *times == [5]) || read.is_err(), "byte {at} flipped: {read:?}");
        }
    }
}
