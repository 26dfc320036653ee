//! Frames: how an entry stands in a file.
//!
//! All numbers are little-endian. A frame is
//!
//! ```text
//! length u32 | crc32c u32 | kind u8 | sequence u64 | received i64 | durable u64
//!            | token length u32 | id length u32 | token | id | payload
//! ```
//!
//! `length` counts what follows the checksum; the checksum is over the length and what follows it.
//! `durable` is the length up to which the file was synced when the frame was written. An event that
//! is a [file of its own](super::files) has, in the place of the payload, what that file is:
//!
//! ```text
//! crc32c u32 | length u64 | stamp i64 | name
//! ```
//!
//! A *mark* is no entry: its sequence is that of the next one. As a file's first frame it repeats the
//! token as of the file's begin; a later one says that the event files of all frames before it are
//! durable.

use bytes::Bytes;

use super::{Entry, Kind};
use crate::model::{Millis, Sequence};

/// What a frame says of the file that an event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFile {
    /// The checksum of its bytes.
    pub crc32c: u32,
    /// How many there are.
    pub len: u64,
    /// What its name was made of.
    pub stamp: i64,
    /// Its name.
    pub name: String,
}

/// Bytes of length and checksum.
pub const PREFIX: usize = 8;

/// Bytes of a frame besides token, id and payload.
pub const FIXED: usize = PREFIX + 33;

const EVENT: u8 = 0;
const LETTER: u8 = 1;
const MARK: u8 = 2;
const FILE: u8 = 3;

/// Bytes of what a frame says of a file, besides the name.
const FILE_FIXED: usize = 20;

/// A frame as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// `None` for a mark.
    pub kind: Option<Kind>,
    /// The entry's; a mark's is that of the next entry.
    pub sequence: Sequence,
    /// When the entry was received.
    pub received: Millis,
    /// Up to where the file was synced when this was written.
    pub durable: u64,
    /// The token.
    pub token: Bytes,
    /// The id.
    pub id: Bytes,
    /// The payload; empty if it is a file.
    pub payload: Bytes,
    /// The file that the event is.
    pub file: Option<EventFile>,
}

/// How many bytes an entry takes in a file; `None` if it is too large for a frame.
pub fn size(entry: &Entry) -> Option<u64> {
    let len = FIXED + entry.token.len() + entry.id.len() + entry.payload.len();
    u32::try_from(len).is_ok().then_some(len as u64)
}

/// How many bytes it takes when it is a file with a name of so many bytes.
pub fn size_beside_file(entry: &Entry, name: usize) -> Option<u64> {
    let len = FIXED + entry.token.len() + entry.id.len() + FILE_FIXED + name;
    u32::try_from(len).is_ok().then_some(len as u64)
}

/// Adds an entry's frame to `out`. The entry has a [`size`].
pub fn encode(out: &mut Vec<u8>, sequence: Sequence, durable: u64, entry: &Entry) {
    let kind = match entry.kind {
        Kind::Event => EVENT,
        Kind::Letter => LETTER,
    };
    put(out, kind, sequence, entry.received, durable, [&entry.token, &entry.id, &entry.payload]);
}

/// Adds the frame of an event that is this file. The entry has a [`size_beside_file`].
pub fn encode_beside_file(out: &mut Vec<u8>, sequence: Sequence, durable: u64, entry: &Entry, file: &EventFile) {
    let mut said = Vec::with_capacity(FILE_FIXED + file.name.len());
    said.extend_from_slice(&file.crc32c.to_le_bytes());
    said.extend_from_slice(&file.len.to_le_bytes());
    said.extend_from_slice(&file.stamp.to_le_bytes());
    said.extend_from_slice(file.name.as_bytes());
    put(out, FILE, sequence, entry.received, durable, [&entry.token, &entry.id, &said]);
}

/// Adds a mark to `out`.
pub fn encode_mark(out: &mut Vec<u8>, next: Sequence, token: &[u8]) {
    put(out, MARK, next, 0, 0, [token, b"", b""]);
}

// The texts are shorter than 4 GiB: `size` has said so, and a token was an entry's.
#[allow(clippy::cast_possible_truncation)]
fn put(out: &mut Vec<u8>, kind: u8, sequence: Sequence, received: Millis, durable: u64, texts: [&[u8]; 3]) {
    let start = out.len();
    let len = FIXED - PREFIX + texts.iter().map(|text| text.len()).sum::<usize>();
    out.reserve(PREFIX + len);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&received.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(&(texts[0].len() as u32).to_le_bytes());
    out.extend_from_slice(&(texts[1].len() as u32).to_le_bytes());
    texts.iter().for_each(|text| out.extend_from_slice(text));
    let crc = checksum(&out[start..]);
    out[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[PREFIX..])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// How many bytes the frame that begins here claims to have, if that can be; `bytes` are at least
/// [`PREFIX`].
pub fn claimed_size(bytes: &[u8]) -> Option<usize> {
    let size = PREFIX + u32_at(bytes, 0)? as usize;
    (size >= FIXED).then_some(size)
}

/// The sequence and the durable length that the frame that begins here claims, its checksum not
/// looked at; `None` if it can be no frame.
pub fn claims(bytes: &[u8]) -> Option<(Sequence, u64)> {
    (*bytes.get(PREFIX)? <= FILE).then_some((u64_at(bytes, PREFIX + 1)?, u64_at(bytes, PREFIX + 17)?))
}

/// Reads exactly one frame; `None` if it does not check out. Its texts are slices of `frame`.
pub fn decode(frame: &Bytes) -> Option<Raw> {
    if claimed_size(frame)? != frame.len() || u32_at(frame, 4)? != checksum(frame) {
        return None;
    }
    let kind = match frame[PREFIX] {
        EVENT | FILE => Some(Kind::Event),
        LETTER => Some(Kind::Letter),
        MARK => None,
        _ => return None,
    };
    let (sequence, durable) = claims(frame)?;
    let token_end = FIXED.checked_add(u32_at(frame, PREFIX + 25)? as usize)?;
    let id_end = token_end.checked_add(u32_at(frame, PREFIX + 29)? as usize)?;
    if id_end > frame.len() {
        return None;
    }
    let said = frame.slice(id_end..);
    let (payload, file) = if frame[PREFIX] == FILE { (Bytes::new(), Some(decode_file(&said)?)) } else { (said, None) };
    Some(Raw {
        kind,
        sequence,
        received: u64_at(frame, PREFIX + 9)?.cast_signed(),
        durable,
        token: frame.slice(FIXED..token_end),
        id: frame.slice(token_end..id_end),
        payload,
        file,
    })
}

fn decode_file(said: &[u8]) -> Option<EventFile> {
    let name = std::str::from_utf8(said.get(FILE_FIXED..)?).ok()?;
    // Nothing outside the folder is read or deleted, whatever a frame says.
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return None;
    }
    let stamp = u64_at(said, 12)?.cast_signed();
    Some(EventFile { crc32c: u32_at(said, 0)?, len: u64_at(said, 4)?, stamp, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            kind: Kind::Letter,
            received: -5,
            token: Bytes::from_static(b"tok"),
            id: Bytes::from_static(b"i"),
            payload: Bytes::from_static(b"load"),
        }
    }

    #[test]
    fn a_frame_stands_as_written_down() {
        let mut out = vec![7];
        encode(&mut out, 0x0102, 0x0304, &entry());
        assert_eq!(out.len() as u64, 1 + size(&entry()).unwrap());
        let body =
            b"\x01\x02\x01\0\0\0\0\0\0\xFB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x04\x03\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0tokiload";
        assert_eq!(out[1..5], [41, 0, 0, 0]);
        assert_eq!(out[9..], body[..]);
        let summed = [&out[1..5], &out[9..]].concat();
        assert_eq!(out[5..9], crc32c::crc32c(&summed).to_le_bytes());
    }

    #[test]
    fn a_frame_beside_a_file_says_which() {
        let mut out = Vec::new();
        let file = EventFile { crc32c: 0x0102, len: 5, stamp: -7, name: "x.json".to_owned() };
        encode_beside_file(&mut out, 9, 512, &entry(), &file);
        assert_eq!(out.len() as u64, size_beside_file(&entry(), 6).unwrap());
        assert_eq!(out[FIXED..], b"toki\x02\x01\0\0\x05\0\0\0\0\0\0\0\xF9\xFF\xFF\xFF\xFF\xFF\xFF\xFFx.json"[..]);
        let raw = decode(&Bytes::from(out)).unwrap();
        assert_eq!((raw.kind, raw.file, &raw.payload[..]), (Some(Kind::Event), Some(file.clone()), &b""[..]));
        for name in ["", ".hidden", "../x", "a/b"] {
            let mut out = Vec::new();
            let file = EventFile { name: name.to_owned(), ..file.clone() };
            encode_beside_file(&mut out, 9, 512, &entry(), &file);
            assert_eq!(decode(&Bytes::from(out)), None, "{name:?}");
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut out = Vec::new();
        encode(&mut out, 9, 512, &entry());
        let raw = decode(&Bytes::from(out)).unwrap();
        let back = Entry {
            kind: raw.kind.unwrap(),
            received: raw.received,
            token: raw.token,
            id: raw.id,
            payload: raw.payload,
        };
        assert_eq!((back, raw.sequence, raw.durable), (entry(), 9, 512));
        let mut mark = Vec::new();
        encode_mark(&mut mark, 3, b"tok");
        let raw = decode(&Bytes::from(mark)).unwrap();
        assert_eq!((raw.kind, raw.sequence, &raw.token[..]), (None, 3, &b"tok"[..]));
    }

    #[test]
    fn no_changed_bit_and_no_cut_is_taken_for_a_frame() {
        let mut out = Vec::new();
        encode(&mut out, 9, 512, &entry());
        for bit in 0..8 * out.len() {
            let mut changed = out.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&Bytes::from(changed)), None, "bit {bit}");
        }
        for len in 0..out.len() {
            assert_eq!(decode(&Bytes::copy_from_slice(&out[..len])), None, "cut at {len}");
        }
    }
}
