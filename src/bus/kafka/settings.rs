//! What the Kafka bus is told, and what it tells librdkafka.

use std::{path::PathBuf, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

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
    /// How long a record waits for others to share a request with, in milliseconds.
    pub linger_ms: u32,
    /// Records that share a request at most.
    pub batch_records: u32,
    /// How long any request may take in all. What is not answered by then is a fault.
    pub deadline: Duration,
    /// How often a reader looks whether the topic is still the one it was.
    pub identity_every: Duration,
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
            linger_ms: 2,
            batch_records: 10_000,
            deadline: Duration::from_secs(15),
            identity_every: Duration::from_secs(30),
            tls: None,
            sasl: None,
        }
    }

    /// The largest record, key and headers included, that is sent or taken, in bytes.
    pub const MAX_RECORD: usize = 16 << 20;

    /// How long the brokers keep a transaction open whose producer says nothing, in milliseconds. It
    /// has to outlast any halt of this process or of a broker: a producer that it overtakes is told
    /// that it was fenced, which ends an ingester.
    const TRANSACTION_MS: u32 = 300_000;

    /// What all clients have in common. `password` is the content of the password's file.
    fn common(&self, password: Option<&str>) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "howdah")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            // A broker that answers nothing is given up well before the caller's own deadline.
            .set("socket.timeout.ms", (self.deadline.as_millis() * 2 / 3).max(1_000).to_string())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // As the default, but one request in flight is enough to notice a broker's return.
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set_log_level(RDKafkaLogLevel::Warning);
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            if let Some(ca) = &tls.ca {
                config.set("ssl.ca.location", ca.display().to_string());
            }
            if let Some((certificate, key)) = &tls.own {
                config.set("ssl.certificate.location", certificate.display().to_string());
                config.set("ssl.key.location", key.display().to_string());
            }
        }
        if let Some(sasl) = &self.sasl {
            config.set("sasl.mechanism", sasl.mechanism.word()).set("sasl.username", &sasl.user);
            config.set("sasl.password", password.unwrap_or_default());
        }
        config
    }

    /// For questions about topics, ends and times.
    pub(super) fn asking(&self, password: Option<&str>) -> ClientConfig {
        let mut config = self.common(password);
        config.set("isolation.level", "read_committed");
        config
    }

    /// For a group's offsets. No consumer of ours ever joins a group: who reads what is decided elsewhere.
    pub(super) fn grouped(&self, password: Option<&str>, group: &str) -> ClientConfig {
        let mut config = self.asking(password);
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config
    }

    /// For a reader of one partition.
    pub(super) fn reading(&self, password: Option<&str>) -> ClientConfig {
        // librdkafka hands out a consumer's queue only to one with a group; this one is never joined,
        // and nothing is committed to it.
        let mut config = self.grouped(password, "howdah-reader");
        config
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            // What is fetched ahead: of records that wait, so much memory at most.
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.message.max.bytes", "2097152")
            .set("fetch.max.bytes", Self::MAX_RECORD.max(8 << 20).to_string())
            .set("receive.message.max.bytes", (Self::MAX_RECORD * 2).to_string())
            // By default a full queue is looked at again only after a second.
            .set("fetch.queue.backoff.ms", "20")
            .set("fetch.wait.max.ms", "250")
            .set("fetch.error.backoff.ms", "200");
        config
    }

    /// For the producer of this transactional id.
    pub(super) fn sending(&self, password: Option<&str>, id: &str) -> ClientConfig {
        let mut config = self.common(password);
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", Self::TRANSACTION_MS.to_string())
            .set("acks", "all")
            .set("compression.type", self.compression.word())
            .set("linger.ms", self.linger_ms.to_string())
            .set("batch.num.messages", self.batch_records.to_string())
            .set("message.max.bytes", Self::MAX_RECORD.to_string())
            .set("message.timeout.ms", self.deadline.as_millis().to_string())
            .set("queue.buffering.max.kbytes", "131072");
        config
    }
}
