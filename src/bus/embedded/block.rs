//! The block: a run of records of one partition as one row of the database holds it.
//!
//! ```text
//! block   version u8 = 1 · codec u8 (0 stored, 1 LZ4) · crc32c u32 · raw length u32 · payload
//! payload the raw bytes, as they are or as one LZ4 block
//! raw     records, one behind the other
//! record  offset - base · time - first time · key · value · number of headers · headers
//! header  length of name · name (UTF-8) · length · bytes
//! ```
//! Fixed numbers are little-endian, all others LEB128. A key or value is its length plus one and
//! its bytes; 0 is *none*, so that a null is not an empty value.
//!
//! The checksum is of the raw bytes **and of where they belong** ([`Place`]: topic, partition,
//! offsets, times, count), so that a block which a damaged database hands out for another row does
//! not pass for that row's. Decoding believes nothing: whatever the bytes are, it ends in records
//! or in a reason, without a panic and without allocating more than the bytes can be worth.
//!
//! Keys, values and header values come out as slices of one buffer. Whoever keeps one small value
//! for long keeps the whole buffer; copy it then.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::model::{Header, Millis, Offset, Partition, Record, TopicId};

/// The most records a block holds.
pub(super) const MAX_RECORDS: usize = 1_000;

/// A block is closed when its raw bytes reach this; a single larger record has one of its own.
pub(super) const FULL_BYTES: usize = 1 << 20;

/// The most bytes one record may weigh. SQLite's own limit is at 1 GB.
pub(super) const MAX_RECORD_BYTES: usize = 128 << 20;

const VERSION: u8 = 1;
const STORED: u8 = 0;
const LZ4: u8 = 1;
const HEADER: usize = 10;

/// So many names of headers are shared within a block.
const MAX_NAMES: usize = 16;

/// LZ4 cannot make more than this many bytes of one.
const MAX_RATIO: usize = 255;

/// Where a block belongs: the columns of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: TopicId,
    pub(super) partition: Partition,
    pub(super) base: Offset,
    pub(super) next: Offset,
    pub(super) first_time: Millis,
    pub(super) last_time: Millis,
    pub(super) num_records: u32,
}

impl Place {
    fn checksum(&self, raw: &[u8]) -> u32 {
        let mut sum = crc32c::crc32c(self.topic.0.as_bytes());
        for part in [
            u64::from(self.partition),
            self.base,
            self.next,
            self.first_time.cast_unsigned(),
            self.last_time.cast_unsigned(),
            u64::from(self.num_records),
        ] {
            sum = crc32c::crc32c_append(sum, &part.to_le_bytes());
        }
        crc32c::crc32c_append(sum, raw)
    }
}

/// A record as the encoder takes it; offset and time count from the block's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) offset: u64,
    pub(super) time: u64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [Header],
}

/// Collects the raw bytes of one block.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    raw: Vec<u8>,
    num_records: u32,
}

impl Encoder {
    /// Adds a record; offsets rise.
    pub(super) fn push(&mut self, piece: Piece<'_>) {
        put(&mut self.raw, piece.offset);
        put(&mut self.raw, piece.time);
        for field in [piece.key, piece.value] {
            put(&mut self.raw, field.map_or(0, |bytes| bytes.len() as u64 + 1));
            self.raw.extend_from_slice(field.unwrap_or_default());
        }
        put(&mut self.raw, piece.headers.len() as u64);
        for (name, value) in piece.headers {
            put(&mut self.raw, name.len() as u64);
            self.raw.extend_from_slice(name.as_bytes());
            put(&mut self.raw, value.len() as u64);
            self.raw.extend_from_slice(value);
        }
        self.num_records += 1;
    }

    /// Whether a record of `weight` bytes should go into the next block.
    pub(super) fn is_full_for(&self, weight: usize) -> bool {
        self.num_records > 0 && (self.num_records as usize >= MAX_RECORDS || self.raw.len() + weight > FULL_BYTES)
    }

    /// How many records it holds.
    pub(super) fn num_records(&self) -> u32 {
        self.num_records
    }

    /// The block, and the encoder is empty again.
    pub(super) fn seal(&mut self, place: &Place) -> Vec<u8> {
        let raw = &self.raw;
        let mut block = vec![0; HEADER + lz4_flex::block::get_maximum_output_size(raw.len())];
        // The output is as large as it can ever need to be, so this does not fail; if it did, the
        // block would be stored as it is.
        let packed = lz4_flex::block::compress_into(raw, &mut block[HEADER..]).unwrap_or(usize::MAX);
        let codec = if packed < raw.len() {
            block.truncate(HEADER + packed);
            LZ4
        } else {
            block.truncate(HEADER);
            block.extend_from_slice(raw);
            STORED
        };
        block[0] = VERSION;
        block[1] = codec;
        block[2..6].copy_from_slice(&place.checksum(raw).to_le_bytes());
        // A send is bounded far below 4 GB before it comes here.
        block[6..HEADER].copy_from_slice(&u32::try_from(raw.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.raw.clear();
        self.num_records = 0;
        block
    }
}

/// How many raw bytes a block says it holds; 0 if it is too short to say.
pub(super) fn raw_len(block: &[u8]) -> usize {
    match block.get(6..HEADER) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]) as usize,
        _ => 0,
    }
}

/// Adds the block's records from offset `from` on to `records`, with their headers or without.
///
/// # Errors
/// Why these bytes are not what was written for this place; `records` may have grown by then.
pub(super) fn open(
    place: &Place,
    block: &[u8],
    from: Offset,
    with_headers: bool,
    records: &mut Vec<Record>,
) -> Result<(), &'static str> {
    let raw = unpack(place, block)?;
    // A record is five bytes at least.
    records.reserve((place.num_records as usize).min(raw.len() / 5));
    let mut cursor = Cursor { raw: &raw, at: 0, with_headers, names: Vec::new() };
    let mut least = place.base;
    for _ in 0..place.num_records {
        let record = cursor.record(place)?;
        if record.offset < least || record.offset >= place.next {
            return Err("offsets are out of order");
        }
        if record.time > place.last_time {
            return Err("times are out of range");
        }
        least = record.offset + 1;
        if record.offset >= from {
            records.push(record);
        }
    }
    if cursor.at == raw.len() { Ok(()) } else { Err("there are bytes behind the last record") }
}

fn unpack(place: &Place, block: &[u8]) -> Result<Bytes, &'static str> {
    let Some((&[version, codec, s0, s1, s2, s3, ..], payload)) = block.split_at_checked(HEADER) else {
        return Err("the block is too short");
    };
    if version != VERSION {
        return Err("the block is of an unknown version");
    }
    let len = raw_len(block);
    let raw = match codec {
        STORED if payload.len() == len => payload.to_vec(),
        LZ4 if len <= payload.len().saturating_mul(MAX_RATIO) => {
            let mut raw = vec![0; len];
            match lz4_flex::block::decompress_into(payload, &mut raw) {
                Ok(written) if written == len => raw,
                _ => return Err("the block cannot be decompressed"),
            }
        }
        STORED | LZ4 => return Err("the block has another length than it says"),
        _ => return Err("the block is of an unknown codec"),
    };
    if place.checksum(&raw) != u32::from_le_bytes([s0, s1, s2, s3]) {
        return Err("the checksum does not match");
    }
    Ok(raw.into())
}

struct Cursor<'a> {
    raw: &'a Bytes,
    at: usize,
    with_headers: bool,
    /// Names of headers that came by, each allocated once.
    names: Vec<Arc<str>>,
}

impl Cursor<'_> {
    fn record(&mut self, place: &Place) -> Result<Record, &'static str> {
        const RANGE: &str = "a number is out of range";
        let offset = place.base.checked_add(self.number()?).ok_or(RANGE)?;
        let time = place.first_time.checked_add_unsigned(self.number()?).ok_or(RANGE)?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let num_headers = self.number()?;
        if !self.with_headers {
            for _ in 0..num_headers {
                for _name_and_value in 0..2 {
                    let len = self.number()?;
                    self.take(len)?;
                }
            }
            return Ok(Record { offset, time, key, value, headers: Vec::new() });
        }
        // A header is two bytes at least.
        let room = usize::try_from(num_headers).unwrap_or(usize::MAX).min((self.raw.len() - self.at) / 2);
        let mut headers = Vec::with_capacity(room);
        for _ in 0..num_headers {
            let name = self.name()?;
            let len = self.number()?;
            headers.push((name, self.bytes(len)?));
        }
        Ok(Record { offset, time, key, value, headers })
    }

    fn name(&mut self) -> Result<Arc<str>, &'static str> {
        let len = self.number()?;
        let bytes = self.take(len)?;
        let name = &self.raw[bytes];
        if let Some(known) = self.names.iter().find(|known| known.as_bytes() == name) {
            return Ok(Arc::clone(known));
        }
        let name: Arc<str> = str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?.into();
        if self.names.len() < MAX_NAMES {
            self.names.push(Arc::clone(&name));
        }
        Ok(name)
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, &'static str> {
        match self.number()? {
            0 => Ok(None),
            len => self.bytes(len - 1).map(Some),
        }
    }

    fn bytes(&mut self, len: u64) -> Result<Bytes, &'static str> {
        self.take(len).map(|range| self.raw.slice(range))
    }

    fn take(&mut self, len: u64) -> Result<Range<usize>, &'static str> {
        let left = self.raw.len() - self.at;
        let len = usize::try_from(len).ok().filter(|len| *len <= left).ok_or("a field is longer than the block")?;
        self.at += len;
        Ok(self.at - len..self.at)
    }

    fn number(&mut self) -> Result<u64, &'static str> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.raw.get(self.at).ok_or("the block ends in a number")?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number is too long")
    }
}

fn put(raw: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        raw.push(number as u8 | 0x80);
        number >>= 7;
    }
    raw.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    fn sample() -> (Place, Vec<Record>) {
        let record = |offset, time, key, value, headers| Record { offset, time, key, value, headers };
        let odd = vec![("seq".into(), Bytes::from_static(&[0, 0xff, 0x80])), ("".into(), Bytes::new())];
        let records = vec![
            record(1_000, 70, None, None, vec![]),
            record(1_001, 70, bytes(""), bytes(""), odd),
            record(1_007, 71, bytes("k"), bytes("abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc"), vec![]),
            record(1_300, 900, None, bytes("x"), vec![]),
        ];
        let topic = TopicId(uuid::Uuid::from_u128(7));
        let place =
            Place { topic, partition: 3, base: 1_000, next: 1_400, first_time: 70, last_time: 900, num_records: 4 };
        (place, records)
    }

    fn seal(place: &Place, records: &[Record]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for record in records {
            encoder.push(Piece {
                offset: record.offset - place.base,
                time: (record.time - place.first_time).unsigned_abs(),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &record.headers,
            });
        }
        encoder.seal(place)
    }

    fn read(place: &Place, block: &[u8], from: Offset) -> Result<Vec<Record>, &'static str> {
        let mut records = Vec::new();
        open(place, block, from, true, &mut records).map(|()| records)
    }

    #[test]
    fn a_block_gives_back_what_was_put_in() {
        let (place, records) = sample();
        let block = seal(&place, &records);
        assert_eq!(read(&place, &block, 0).unwrap(), records);
        assert_eq!(read(&place, &block, 1_001).unwrap(), records[1..]);
        assert_eq!(read(&place, &block, 1_002).unwrap(), records[2..]);
        assert_eq!(read(&place, &block, 1_301).unwrap(), []);
        let mut bare = Vec::new();
        open(&place, &block, 1_001, false, &mut bare).unwrap();
        let without = |record: &Record| Record { headers: Vec::new(), ..record.clone() };
        assert_eq!(bare, records[1..].iter().map(without).collect::<Vec<_>>());
    }

    #[test]
    fn the_format_is_the_one_of_version_1() {
        let topic = TopicId(uuid::Uuid::from_u128(7));
        let place = Place { topic, partition: 0, base: 5, next: 6, first_time: 9, last_time: 9, num_records: 1 };
        let headers = vec![("h".into(), Bytes::from_static(b"v"))];
        let record = Record { offset: 5, time: 9, key: None, value: bytes("ab"), headers };
        let block = seal(&place, &[record]);
        assert_eq!(block[..2], [1, 0], "version, stored");
        assert_eq!(block[6..], [11, 0, 0, 0, 0, 0, 0, 3, b'a', b'b', 1, 1, b'h', 1, b'v']);
    }

    #[test]
    fn a_block_in_another_place_is_refused() {
        let (place, records) = sample();
        let block = seal(&place, &records);
        for other in [
            Place { topic: TopicId(uuid::Uuid::from_u128(8)), ..place },
            Place { partition: 2, ..place },
            Place { base: 999, ..place },
            Place { next: 1_401, ..place },
            Place { first_time: 69, ..place },
            Place { last_time: 901, ..place },
            Place { num_records: 3, ..place },
        ] {
            assert_eq!(read(&other, &block, 0), Err("the checksum does not match"), "{other:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (place, records) = sample();
        let block = seal(&place, &records);
        for bit in 0..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // LZ4 has several spellings of the same bytes: what passes must be the same records.
            if let Ok(read) = read(&place, &flipped, 0) {
                assert_eq!(read, records, "bit {bit}");
            }
        }
        for len in 0..block.len() {
            read(&place, &block[..len], 0).unwrap_err();
        }
    }

    #[test]
    fn garbage_with_a_right_checksum_ends_in_a_reason_or_in_records_within_their_bounds() {
        let mut random = fastrand::Rng::with_seed(1);
        let (place, records) = sample();
        let good = unpack(&place, &seal(&place, &records)).unwrap();
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut raw = good.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..raw.len());
                raw[at] = random.u8(..);
            }
            let mut block = vec![VERSION, STORED];
            block.extend(place.checksum(&raw).to_le_bytes());
            block.extend(u32::try_from(raw.len()).unwrap().to_le_bytes());
            block.extend(&raw);
            let mut bare = Vec::new();
            let without_headers = open(&place, &block, 0, false, &mut bare);
            match read(&place, &block, 0) {
                Ok(read) => {
                    assert_eq!((without_headers, bare.len()), (Ok(()), read.len()));
                    assert!(read.is_sorted_by(|a, b| a.offset < b.offset));
                    assert!(read.iter().all(|r| (1_000..1_400).contains(&r.offset) && (70..=900).contains(&r.time)));
                }
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 1_000, "{refused}");
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_anything_is_allocated() {
        let (place, _) = sample();
        let mut block = vec![VERSION, LZ4, 0, 0, 0, 0];
        block.extend(u32::MAX.to_le_bytes());
        block.extend([0; 100]);
        assert_eq!(read(&place, &block, 0), Err("the block has another length than it says"));
    }
}
