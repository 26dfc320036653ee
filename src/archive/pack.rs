//! How the lines of a segment are compressed, and unpacked again.

use std::{
    fmt,
    io::{self, Write},
};

use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, MultiGzDecoder},
};
use zstd::stream::raw::Operation;

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

    /// The lines of a whole file.
    ///
    /// # Errors
    /// The bytes are no such file.
    pub fn unpack(self, file: Bytes) -> io::Result<Bytes> {
        let mut unpacker = Unpacker::new(self)?;
        let lines = unpacker.push(file)?;
        unpacker.finish()?;
        Ok(lines)
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

/// Unpacks one file, piece by piece.
pub enum Unpacker {
    /// The lines are the file.
    Plain,
    /// gzip.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// Zstandard, and whether there is more to come of a frame.
    Zstd(zstd::stream::raw::Decoder<'static>, bool),
}

/// Bytes that Zstandard unpacks at a time.
const UNPACKED: usize = 128 * 1024;

impl Unpacker {
    /// Begins a file.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(codec: Codec) -> io::Result<Self> {
        Ok(match codec {
            Codec::Plain => Self::Plain,
            Codec::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Codec::Zstd => Self::Zstd(zstd::stream::raw::Decoder::new()?, true),
        })
    }

    /// Takes a piece of the file and gives what lines it makes.
    ///
    /// # Errors
    /// The bytes are of no such file.
    pub fn push(&mut self, piece: Bytes) -> io::Result<Bytes> {
        match self {
            Self::Plain => Ok(piece),
            Self::Gzip(decoder) => {
                decoder.write_all(&piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()).into())
            }
            Self::Zstd(decoder, is_torn) => {
                let (mut lines, mut at) = (Vec::new(), 0);
                while at < piece.len() || *is_torn {
                    let from = lines.len();
                    lines.resize(from + UNPACKED, 0);
                    let status = decoder.run_on_buffers(&piece[at..], &mut lines[from..])?;
                    lines.truncate(from + status.bytes_written);
                    at += status.bytes_read;
                    *is_torn = status.remaining > 0;
                    if at == piece.len() && status.bytes_written < UNPACKED {
                        break;
                    }
                }
                Ok(lines.into())
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The file is torn.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Gzip(mut decoder) => decoder.try_finish(),
            Self::Zstd(_, true) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last frame is torn")),
            Self::Plain | Self::Zstd(_, false) => Ok(()),
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
            let mut unpacker = Unpacker::new(codec).unwrap();
            let pieces = file.chunks(10_007).map(Bytes::copy_from_slice);
            let unpacked: Vec<u8> = pieces.flat_map(|piece| unpacker.push(piece).unwrap()).collect();
            unpacker.finish().unwrap();
            assert!(unpacked == lines, "{codec:?}");
            assert!(codec.unpack(file.clone().into()).unwrap() == lines, "{codec:?}");
            let torn = Bytes::copy_from_slice(&file[..file.len() - 1]);
            assert!(codec.unpack(torn).is_err(), "{codec:?}: torn");
            assert!(codec.unpack(Bytes::new()).is_err(), "{codec:?}: empty");
            let twice = [&file[..], &file].concat();
            assert!(codec.unpack(twice.into()).unwrap() == [&lines[..], &lines].concat(), "{codec:?}: two in one");
            file[1000] ^= 0x10;
            assert!(codec.unpack(file.into()).is_err(), "{codec:?}: altered");
        }
        assert_eq!(Codec::Plain.unpack(lines.clone().into()).unwrap(), lines);
        assert!(Packer::new(Codec::Plain).unwrap().is_none());
    }
}
