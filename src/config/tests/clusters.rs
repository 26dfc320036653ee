//! Kafka and HDFS in a file, and the files that leave the choice to the environment.

use std::{path::PathBuf, time::Duration};

use super::{check_text, load, shipped, small};
use crate::{
    bus::kafka::{self, Compression, Mechanism, Sasl, Tls},
    config::{BusSettings, Pipeline, StoreSettings},
    store::hdfs,
};

const BUS: &str = "bus = { kind = \"embedded\", path = \"d/bus\" }";
const STORE: &str = "store = { kind = \"local\", path = \"d/store\" }";

fn with_bus(bus: &str) -> Result<Pipeline, Vec<String>> {
    check_text(&small(BUS, &format!("bus = {bus}")))
}

fn with_store(store: &str) -> Result<Pipeline, Vec<String>> {
    check_text(&small(STORE, &format!("store = {store}")))
}

#[test]
fn kafka_needs_nothing_but_brokers() {
    let pipeline = with_bus(r#"{ kind = "kafka", brokers = "a:1, b:2" }"#).unwrap();
    assert_eq!(pipeline.bus, BusSettings::Kafka(kafka::Settings::plain("a:1,b:2")));
}

#[test]
fn every_key_of_kafka_is_heard() {
    let pipeline = with_bus(
        r#"{ kind = "kafka", brokers = "a:1", durability = "required", compression = "zstd", linger = "1ms",
             batch = 20, deadline = "5s", tls = { ca = "ca.pem", certificate = "c.pem", key = "k.pem" },
             sasl = { mechanism = "SCRAM-SHA-512", user = "howdah", password_file = "secret" } }"#
            .replace('\n', " ")
            .as_str(),
    );
    let expected = kafka::Settings {
        durability: kafka::Durability::Required,
        compression: Compression::Zstd,
        linger_ms: 1,
        batch_records: 20,
        deadline: Duration::from_secs(5),
        tls: Some(Tls { ca: Some("ca.pem".into()), own: Some(("c.pem".into(), "k.pem".into())) }),
        sasl: Some(Sasl {
            mechanism: Mechanism::ScramSha512,
            user: "howdah".to_owned(),
            password_file: PathBuf::from("secret"),
        }),
        ..kafka::Settings::plain("a:1")
    };
    assert_eq!(pipeline.unwrap().bus, BusSettings::Kafka(expected));
}

#[test]
fn what_is_wrong_with_kafka_is_said_where_it_stands() {
    let check = |bus: &str, expected: &str| {
        let complaints = with_bus(bus).unwrap_err().join("\n");
        assert!(complaints.contains(expected), "{bus}: {complaints}");
    };
    check(r#"{ kind = "kafka" }"#, "bus.brokers: missing");
    check(r#"{ kind = "kafka", brokers = "" }"#, "bus.brokers: \"\" is no broker");
    check(r#"{ kind = "kafka", brokers = "a:1", path = "d" }"#, "bus.path: unknown key");
    check(
        r#"{ kind = "kafka", brokers = "a:1", tls = { key = "k" } }"#,
        "bus.tls: certificate and key belong together",
    );
    let plain = r#"sasl = { mechanism = "PLAIN", user = "u", password_file = "f" }"#;
    check(&format!(r#"{{ kind = "kafka", brokers = "a:1", {plain} }}"#), "shows the password to whoever listens");
    assert!(with_bus(&format!(r#"{{ kind = "kafka", brokers = "a:1", tls = {{}}, {plain} }}"#)).is_ok());
}

#[test]
fn with_nothing_named_the_choice_is_the_laptop() {
    let pipeline = with_bus(r#"{ kind = "auto", brokers = "", path = "d/bus" }"#).unwrap();
    assert_eq!(pipeline.bus, BusSettings::Embedded { path: "d/bus".into() });
    let pipeline = with_bus(r#"{ kind = "auto", brokers = "a:1", path = "d/bus", linger = "7ms" }"#).unwrap();
    assert_eq!(pipeline.bus, BusSettings::Kafka(kafka::Settings { linger_ms: 7, ..kafka::Settings::plain("a:1") }));
    let pipeline = with_store(r#"{ kind = "auto", url = "", path = "d/store" }"#).unwrap();
    assert_eq!(pipeline.store, StoreSettings::Local { root: "d/store".into() });
}

#[test]
fn every_key_of_hdfs_is_heard() {
    let pipeline = with_store(r#"{ kind = "hdfs", url = "hdfs://prod/" }"#).unwrap();
    assert_eq!(pipeline.store, StoreSettings::Hdfs(hdfs::Settings::plain("hdfs://prod")));
    let pipeline = with_store(
        r#"{ kind = "hdfs", url = "hdfs://n:1", conf_dir = "/etc/hadoop", user = "flume", replication = 2,
             block_size = "256MiB", durability = "hsync", file_mode = "0640", folder_mode = "0750",
             deadline = "20s", datanode_timeout = "2s" }"#
            .replace('\n', " ")
            .as_str(),
    );
    let expected = hdfs::Settings {
        conf_dir: Some("/etc/hadoop".into()),
        user: Some("flume".to_owned()),
        replication: Some(2),
        block_size: Some(256 << 20),
        durability: hdfs::Durability::Hsync,
        file_mode: 0o640,
        folder_mode: 0o750,
        deadline: Duration::from_secs(20),
        datanode_timeout: Duration::from_secs(2),
        ..hdfs::Settings::plain("hdfs://n:1")
    };
    assert_eq!(pipeline.unwrap().store, StoreSettings::Hdfs(expected));
}

#[test]
fn kerberos_takes_a_principal_and_its_keytab() {
    let guarded = r#"{ kind = "hdfs", url = "hdfs://n:1",
        kerberos = { principal = "howdah/n1@EXAMPLE.ORG", keytab = "/etc/howdah.keytab" } }"#;
    let kerberos =
        hdfs::Kerberos { principal: "howdah/n1@EXAMPLE.ORG".to_owned(), keytab: "/etc/howdah.keytab".into() };
    let expected = hdfs::Settings { kerberos: Some(kerberos), ..hdfs::Settings::plain("hdfs://n:1") };
    let pipeline = with_store(&guarded.replace('\n', " "));
    assert_eq!(pipeline.unwrap().store, StoreSettings::Hdfs(expected));
    for (keys, complaint) in [
        (r#"user = "x", kerberos = { principal = "h@E", keytab = "k" }"#, "both say as whom"),
        (r#"kerberos = { principal = "h", keytab = "k" }"#, "\"h\" is no principal"),
        (r#"kerberos = { principal = "h@E" }"#, "keytab"),
    ] {
        let said = with_store(&format!(r#"{{ kind = "hdfs", url = "hdfs://n:1", {keys} }}"#)).unwrap_err();
        assert!(said.iter().any(|one| one.contains(complaint)), "{said:?}");
    }
}

#[test]
fn the_shipped_files_run_on_a_laptop_and_on_a_cluster() {
    let cluster = |name: &str| match name {
        "KAFKA_BROKERS" => Some("k1:9092,k2:9092".to_owned()),
        "HDFS_URL" => Some("hdfs://prod".to_owned()),
        other => super::env(other),
    };
    for path in shipped() {
        let here = &load(std::slice::from_ref(&path), &super::env).unwrap()[0];
        let there = &load(std::slice::from_ref(&path), &cluster).unwrap()[0];
        assert!(matches!(here.bus, BusSettings::Embedded { .. }), "{:?}", here.bus);
        assert!(matches!(here.store, StoreSettings::Local { .. }), "{:?}", here.store);
        let plain = kafka::Settings::plain("k1:9092,k2:9092");
        let asked = kafka::Settings { batch_records: 20, linger_ms: 1, ..plain.clone() };
        let expected = if here.id.as_str() == "randomuser" { asked } else { plain };
        assert_eq!(there.bus, BusSettings::Kafka(expected));
        assert_eq!(there.store, StoreSettings::Hdfs(hdfs::Settings::plain("hdfs://prod")));
        assert_eq!(format!("{:?}", here.stages), format!("{:?}", there.stages), "nothing else changes");
    }
}

#[test]
fn two_files_on_one_cluster_share_their_topics_and_folders() {
    let cluster = |name: &str| {
        small(BUS, r#"bus = { kind = "kafka", brokers = "a:1" }"#)
            .replace(STORE, r#"store = { kind = "hdfs", url = "hdfs://prod" }"#)
            .replace("\"p\"", name)
            .replace("d/spool", &format!("d/{}", name.trim_matches('"')))
    };
    let files = ["\"p\"", "\"q\""].map(|name| (PathBuf::from(name), Ok(cluster(name).into_bytes())));
    let complaints: Vec<_> =
        super::check(files.into(), &super::env).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints.iter().all(|text| text.contains("each archive and table needs a folder")), "{complaints:?}");
}
