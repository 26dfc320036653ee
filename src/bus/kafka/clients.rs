//! What librdkafka's clients are told, by what they are for.

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::{Settings, portion::BATCH_BYTES};

/// How long the brokers keep a transaction open whose producer says nothing, in milliseconds. It
/// has to outlast any halt of this process or of a broker: a producer that it overtakes is told
/// that it was fenced, which ends an ingester.
const TRANSACTION_MS: u32 = 300_000;

/// How often a client tells what it has counted. Building and reading that costs about as much as a request.
const STATISTICS_MS: u32 = 5_000;

impl Settings {
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
            .set("statistics.interval.ms", STATISTICS_MS.to_string())
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // New leaders and partitions are heard of within a minute, not five.
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
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Of no other meaning to who never joins: so long a commit waits for the group's coordinator.
            .set("session.timeout.ms", self.deadline.as_millis().max(6_000).to_string());
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
            .set("transaction.timeout.ms", TRANSACTION_MS.to_string())
            .set("acks", "all")
            .set("compression.type", self.compression.word())
            .set("linger.ms", self.linger_ms.to_string())
            .set("batch.num.messages", self.batch_records.to_string())
            // Portions are cut a little below it, so that none is left with a rest.
            .set("batch.size", (BATCH_BYTES + BATCH_BYTES / 40).to_string())
            .set("message.max.bytes", Self::MAX_RECORD.to_string())
            .set("message.timeout.ms", self.deadline.as_millis().to_string())
            .set("queue.buffering.max.kbytes", "131072");
        config
    }
}
