//! The first bytes of a data file: what it is, and where the file before it ends.
//!
//! A header is one block: JSON (for people: `head -c 512`), spaces, the CRC-32C of both in eight
//! hex digits, and a line end. It is durable before a frame follows. So a file that is shorter was
//! never begun, whatever it holds; in a longer one a header that does not check out is damage.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    fault::{Fault, Kind, Result},
    model::{Millis, NodeId, Sequence},
};

/// Bytes of a header.
pub const HEADER_LEN: u64 = 512;

/// The format this howdah reads and writes.
pub const FORMAT: u32 = 1;

/// The format of data files whose frames may name [event files](super::files): howdahs that know only
/// the first one would take such a frame for a torn end.
pub const FORMAT_BESIDE_FILES: u32 = 2;

const BLOCK: usize = 512;
const TEXT: usize = BLOCK - 9;

/// A file's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format of the file.
    pub format: u32,
    /// The spool it belongs to.
    pub spool: Uuid,
    /// The folder's spool before, which had lost all its files.
    pub replaces: Option<Uuid>,
    /// Its number, as in its name.
    pub file: u64,
    /// The life of the writer that made it.
    pub incarnation: Uuid,
    /// The node that writer ran on.
    pub node: NodeId,
    /// When it was made.
    pub created: Millis,
    /// The sequence of its first entry.
    pub first: Sequence,
    /// Whether a token was known then: a mark with it is the first frame.
    pub mark: bool,
    /// The file before it.
    pub before: Option<Before>,
    /// The last stamp that an event file's name was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<i64>,
}

/// The end of a file, as its successor's header has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The file's number.
    pub file: u64,
    /// Its length: what lies behind is not spool.
    pub len: u64,
    /// What its event files take, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// A header as a block.
///
/// # Errors
/// `User` if the node's name is too long for it.
pub fn encode(header: &Header) -> Result<Vec<u8>> {
    let mut block = serde_json::to_vec(header).map_err(|error| Fault::internal(format!("spool header: {error}")))?;
    if block.len() > TEXT {
        let most = header.node.as_str().len().saturating_sub(block.len() - TEXT);
        return Err(Fault::user(format!("node name {}: too long for a spool, {most} bytes at most", header.node)));
    }
    block.resize(TEXT, b' ');
    let crc = crc32c::crc32c(&block);
    block.extend_from_slice(format!("{crc:08x}\n").as_bytes());
    Ok(block)
}

/// Reads the header of a file that is `len` bytes long and begins with `block`; `None` if the file
/// was never begun.
///
/// # Errors
/// `User` for a format this howdah does not know, `Lost` for a damaged header. The caller names
/// the file.
pub fn decode(block: &[u8], len: u64) -> Result<Option<Header>> {
    // The block is one sector, but its length may be durable before its bytes.
    if block.len() < BLOCK || (len == HEADER_LEN && block.iter().all(|&byte| byte == 0)) {
        return Ok(None);
    }
    let lost = |what: String| Fault::data(what).kind(Kind::Lost);
    let (text, crc) = block[..BLOCK].split_at(TEXT);
    if crc != format!("{:08x}\n", crc32c::crc32c(text)).as_bytes() {
        return Err(lost("the header is damaged".to_owned()));
    }
    let json = |error: serde_json::Error| lost(format!("the header is damaged: {error}"));
    let Format { format } = serde_json::from_slice(text).map_err(json)?;
    if format != FORMAT && format != FORMAT_BESIDE_FILES {
        return Err(unknown_format(format));
    }
    serde_json::from_slice(text).map(Some).map_err(json)
}

/// The fault of a file whose format is another.
pub fn unknown_format(format: u32) -> Fault {
    Fault::user(format!("format {format}, which this howdah does not know: start the version that wrote it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Domain;

    fn header() -> Header {
        Header {
            format: 1,
            spool: Uuid::from_u128(1),
            replaces: None,
            file: 7,
            incarnation: Uuid::from_u128(2),
            node: NodeId::new("alpha"),
            created: 1_442_000_000_000,
            first: 12,
            mark: true,
            before: Some(Before { file: 6, len: 4_096, events: 0 }),
            stamp: None,
        }
    }

    #[test]
    fn a_header_is_a_block_that_people_can_read() {
        let block = encode(&header()).unwrap();
        assert_eq!(block.len() as u64, HEADER_LEN);
        let text = std::str::from_utf8(&block).unwrap();
        assert!(
            text.starts_with(
                "{\"format\":1,\"spool\":\"00000000-0000-0000-0000-000000000001\",\"replaces\":null,\"file\":7,"
            ),
            "{text}"
        );
        assert_eq!(decode(&block, 512).unwrap(), Some(header()));
        assert_eq!(decode(&block, 9_999).unwrap(), Some(header()));
    }

    /// Files as earlier builds wrote them, and as they can read them.
    #[test]
    fn a_header_says_of_event_files_only_where_there_are_some() {
        let text = String::from_utf8(encode(&header()).unwrap()).unwrap();
        assert!(text.contains("\"before\":{\"file\":6,\"len\":4096}}"), "{text}");
        let before = Some(Before { file: 6, len: 4_096, events: 9 });
        let header = Header { format: FORMAT_BESIDE_FILES, before, stamp: Some(5), ..header() };
        assert_eq!(decode(&encode(&header).unwrap(), 512).unwrap(), Some(header));
    }

    #[test]
    fn a_header_that_was_cut_was_never_written() {
        let block = encode(&header()).unwrap();
        for len in 0..block.len() {
            assert_eq!(decode(&block[..len], len as u64).unwrap(), None);
        }
        assert_eq!(decode(&[0; 512], 512).unwrap(), None);
    }

    #[test]
    fn a_changed_header_is_damage() {
        for at in 0..512 {
            let mut block = encode(&header()).unwrap();
            block[at] ^= 1;
            assert_eq!(decode(&block, 512).unwrap_err().kind, Kind::Lost, "byte {at}");
        }
        assert_eq!(decode(&[0; 512], 513).unwrap_err().kind, Kind::Lost);
    }

    #[test]
    fn another_format_is_the_users() {
        let block = encode(&Header { format: 3, ..header() }).unwrap();
        let fault = decode(&block, 512).unwrap_err();
        assert_eq!(fault.domain, Domain::User);
        assert!(fault.message.starts_with("format 3"), "{fault}");
    }

    #[test]
    fn a_node_name_that_does_not_fit_is_refused() {
        let node = NodeId::new("n".repeat(400));
        let fault = encode(&Header { node, ..header() }).unwrap_err();
        assert_eq!(fault.domain, Domain::User);
        let most: usize = fault.message.split_whitespace().rev().nth(3).unwrap().parse().unwrap();
        assert!(encode(&Header { node: NodeId::new("n".repeat(most)), ..header() }).is_ok(), "{fault}");
        assert!(encode(&Header { node: NodeId::new("n".repeat(most + 1)), ..header() }).is_err(), "{fault}");
    }
}
