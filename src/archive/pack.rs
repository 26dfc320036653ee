//! How the lines of a segment are compressed, and unpacked again.

use std::{
    fmt,
    io::{self, Read, Write},
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};

/// How the lines of a segment are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Not at all: `.jsonl`.
    #[default]
    Plain,
    /// gzip: `.jsonl.gz`.
    Gzip,
    /// Zstandard (RFC 8878): `.jsonl.zst`.
    Zstd,
}

/// What `gzip` itself does.
const GZIP_LEVEL: u32 = 6;

/// What `zstd` itself does.
const ZSTD_LEVEL: i32 = 3;

impl Codec {
    /// What the names of its files end with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Plain => "jsonl",
            Self::Gzip => "jsonl.gz",
            Self::Zstd => "jsonl.zst",
        }
    }

    /// The lines of a whole file; `None` where they are the file.
    ///
    /// # Errors
    /// The bytes are no such file.
    pub fn unpack(self, file: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut lines = Vec::new();
        match self {
            Self::Plain => return Ok(None),
            Self::Gzip => drop(MultiGzDecoder::new(file).read_to_end(&mut lines)?),
            Self::Zstd => drop(zstd::stream::read::Decoder::new(file)?.read_to_end(&mut lines)?),
        }
        Ok(Some(lines))
    }
}

/// Compresses the lines of one file, piece by piece.
pub enum Packer {
    /// gzip.
    Gzip(GzEncoder<Vec<u8>>),
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Packer {
    /// Begins a file; `None` for one that is not compressed.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(codec: Codec) -> io::Result<Option<Self>> {
        Ok(match codec {
            Codec::Plain => None,
            Codec::Gzip => Some(Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL)))),
            Codec::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                // A reader without our entry then knows of a torn or altered file.
                encoder.include_checksum(true)?;
                Some(Self::Zstd(encoder))
            }
        })
    }

    /// Takes lines and gives what there is of the file so far, beyond what it gave before.
    ///
    /// # Errors
    /// Those of the compressor, which is of no more use then.
    pub fn push(&mut self, lines: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(lines).map(|()| std::mem::take(encoder.get_mut())),
            Self::Zstd(encoder) => encoder.write_all(lines).map(|()| std::mem::take(encoder.get_mut())),
        }
    }

    /// The rest of the file.
    ///
    /// # Errors
    /// Those of the compressor.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_in_pieces_comes_back_whole() {
        let lines: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect();
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut packer = Packer::new(codec).unwrap().unwrap();
            let mut file: Vec<u8> = lines.chunks(300_001).flat_map(|piece| packer.push(piece).unwrap()).collect();
            file.extend(packer.finish().unwrap());
            assert!(file.len() < lines.len() / 2, "{codec:?}: {} of {}", file.len(), lines.len());
            assert_eq!(codec.unpack(&file).unwrap().as_ref(), Some(&lines), "{codec:?}");
            assert!(codec.unpack(&file[..file.len() - 1]).is_err(), "{codec:?}: torn");
            file[1000] ^= 0x10;
            assert!(codec.unpack(&file).is_err(), "{codec:?}: altered");
        }
        assert_eq!(Codec::Plain.unpack(&lines).unwrap(), None);
        assert!(Packer::new(Codec::Plain).unwrap().is_none());
    }
}
