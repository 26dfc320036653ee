//! What the Kafka bus is told.

use std::{path::PathBuf, time::Duration};

/// How safe a topic has to be against the loss of a broker's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Three copies, of which two must have a record before it counts; otherwise the topic is refused.
    Required,
    /// As many copies as there are brokers, up to three; what a lost disk would cost is said once.
    AsAvailable,
}

/// How values are compressed on their way to Kafka and on its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy: fast, and read by every client.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard: smaller, for Kafka 2.1 and newer.
    Zstd,
    /// Gzip.
    Gzip,
}

impl Compression {
    /// The word of the configuration, which is librdkafka's too.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// Encryption by TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// The certificates of who may vouch for the brokers (PEM); `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and key (PEM), for brokers that ask for one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// How a password is shown to the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// As it is: only over TLS.
    Plain,
    /// Salted challenge and response with SHA-256.
    ScramSha256,
    /// Salted challenge and response with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// The name that Kafka and librdkafka know.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who we are, by SASL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sasl {
    /// How the password is shown.
    pub mechanism: Mechanism,
    /// The user's name.
    pub user: String,
    /// The file that holds the password (its last newline is no part of it).
    pub password_file: PathBuf,
}

/// What the Kafka bus is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Where to begin asking: `host:port`, separated by commas.
    pub brokers: String,
    /// How safe topics have to be.
    pub durability: Durability,
    /// How values are compressed.
    pub compression: Compression,
    /// How long a record waits at most for others to share a request with, in milliseconds. What a
    /// transaction holds when it ends is sent at once.
    pub linger_ms: u32,
    /// Records that share a request at most.
    pub batch_records: u32,
    /// How long any request may take in all. What is not answered by then is a fault.
    pub deadline: Duration,
    /// How often a reader looks whether the topic is still the one it was.
    pub identity_every: Duration,
    /// How long readers may stand before an open transaction until it is told as a fault. Longer than
    /// those of this program's own producers are left open by the brokers.
    pub open_transaction: Duration,
    /// Encryption, if any.
    pub tls: Option<Tls>,
    /// Authentication by name and password, if any.
    pub sasl: Option<Sasl>,
}

impl Settings {
    /// The settings of a plain connection to these brokers, everything else as it comes.
    pub fn plain(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            durability: Durability::AsAvailable,
            compression: Compression::Snappy,
            linger_ms: 100,
            batch_records: 10_000,
            deadline: Duration::from_secs(15),
            identity_every: Duration::from_secs(30),
            open_transaction: Duration::from_secs(360),
            tls: None,
            sasl: None,
        }
    }

    /// The largest record, key and headers included, that is sent or taken, in bytes.
    pub const MAX_RECORD: usize = 16 << 20;
}
