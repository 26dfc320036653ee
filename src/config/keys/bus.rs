//! The keys of `[bus]`.

use std::time::Duration;

use super::{build, lifted};
use crate::{
    bus::kafka::{Compression, Durability, Mechanism, Sasl, Settings, Tls},
    config::{
        BusSettings, clusters,
        complaint::At,
        quantity::{MINUTE, SECOND},
        section::{ReadKind, Section},
        values,
    },
};

pub(super) fn bus(mut section: Section<'_>) -> Option<At<BusSettings>> {
    let kinds: [(_, ReadKind<'_, _>); 3] = [("embedded", embedded), ("kafka", kafka), ("auto", auto)];
    let meaning = "the kind of bus: \"embedded\", \"kafka\", or \"auto\": Kafka if there are brokers, else embedded";
    let settings = section.kind("kind", meaning, &kinds);
    section.finish();
    settings?.1
}

fn embedded(section: &mut Section<'_>) -> Option<At<BusSettings>> {
    let path = section.key("path", "the embedded bus's folder on this machine, for it alone");
    let path = path.parse(values::LOCAL_PATH, values::local_path).required();
    path.map(|At { value: path, place }| At { value: BusSettings::Embedded { path }, place })
}

fn kafka(section: &mut Section<'_>) -> Option<At<BusSettings>> {
    let brokers = section.key("brokers", "some brokers of the cluster: \"host:port,host:port\"");
    let brokers = brokers.parse(clusters::BROKERS, clusters::brokers).required();
    let settings = options(section);
    let At { value, place } = brokers?;
    Some(At { value: BusSettings::Kafka(Settings { brokers: value, ..settings? }), place })
}

/// Kafka where its brokers are named, the embedded bus where they are not: one file for both.
fn auto(section: &mut Section<'_>) -> Option<At<BusSettings>> {
    let brokers = section.key("brokers", "some brokers of the cluster; if empty, the bus is the embedded one");
    let brokers = brokers.parse(clusters::BROKERS_OR_NONE, clusters::brokers_or_none).or(None);
    let settings = options(section);
    let embedded = embedded(section);
    match brokers? {
        At { value: None, .. } => embedded,
        At { value: Some(brokers), place } => {
            Some(At { value: BusSettings::Kafka(Settings { brokers, ..settings? }), place })
        }
    }
}

/// Everything about Kafka but where it is.
fn options(section: &mut Section<'_>) -> Option<Settings> {
    let plain = Settings::plain("");
    let words = [("required", Durability::Required), ("as-available", Durability::AsAvailable)];
    let durability = section.key("durability", "\"required\": no topic without three copies; or \"as-available\"");
    let durability = durability.word(&words).or(plain.durability);
    let compression = section.key("compression", "how records are compressed on their way and on the brokers' disks");
    let all = [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd, Compression::Gzip];
    let compression = compression.word(&all.map(|one| (one.word(), one))).or(plain.compression);
    let linger =
        section.key("linger", "how long a record waits at most for others of its transaction to share a request with");
    let linger = linger.duration(Duration::ZERO..=SECOND).or(Duration::from_millis(plain.linger_ms.into()));
    let batch = section.key("batch", "records that share a request at most");
    let batch = batch.integer(1..=100_000).or(plain.batch_records);
    let deadline = section.key("deadline", "a request without an answer for this long has failed");
    let deadline = deadline.duration(SECOND..=MINUTE).or(plain.deadline);
    let tls = section.key("tls", "encrypts connections: tls = { ca = \"…\" }").section().optional();
    let tls = tls.map(|found| found.map(|at| self::tls(at.value)));
    let sasl = section.key("sasl", "who this is, by name and password").section().optional();
    let sasl = sasl.map(|found| found.map(|at| self::sasl(at.value)));
    if let Some(Some(Some(sasl))) = &sasl
        && sasl.mechanism == Mechanism::Plain
        && matches!(tls, Some(None))
    {
        section.say("sasl.mechanism \"PLAIN\" shows the password to whoever listens: add tls, or use SCRAM");
    }
    build(|| {
        Some(Settings {
            durability: durability?.value,
            compression: compression?.value,
            linger_ms: u32::try_from(linger?.value.as_millis()).unwrap_or(u32::MAX),
            batch_records: batch?.value,
            deadline: deadline?.value,
            tls: lifted(tls?)?,
            sasl: lifted(sasl?)?,
            ..plain
        })
    })
}

fn tls(mut section: Section<'_>) -> Option<Tls> {
    let ca = section.key("ca", "who vouches for the brokers, a file (PEM); without it the system's authorities do");
    let ca = ca.parse(values::LOCAL_PATH, values::local_path).optional();
    let certificate = section.key("certificate", "this node's own certificate, a file (PEM), for brokers that ask");
    let certificate = certificate.parse(values::LOCAL_PATH, values::local_path).optional();
    let key = section.key("key", "the key to it, a file (PEM) without a passphrase");
    let key = key.parse(values::LOCAL_PATH, values::local_path).optional();
    if let (Some(certificate), Some(key)) = (&certificate, &key)
        && certificate.is_some() != key.is_some()
    {
        section.say("certificate and key belong together: give both or none");
    }
    section.finish();
    let own = certificate?.zip(key?).map(|(certificate, key)| (certificate.value, key.value));
    Some(Tls { ca: ca?.map(|at| at.value), own })
}

fn sasl(mut section: Section<'_>) -> Option<Sasl> {
    let all = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
    let mechanism = section.key("mechanism", "how the password is shown; \"PLAIN\" only together with tls");
    let mechanism = mechanism.word(&all.map(|one| (one.word(), one))).required();
    let user = section.key("user", "the user's name").parse(clusters::USER, clusters::user).required();
    let file = section.key("password_file", "the file that holds the password");
    let file = file.parse(values::LOCAL_PATH, values::local_path).required();
    section.finish();
    Some(Sasl { mechanism: mechanism?.value, user: user?.value, password_file: file?.value })
}
