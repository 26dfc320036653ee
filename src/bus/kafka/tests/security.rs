//! TLS, certificates on both sides, and users with passwords, against a real broker's listeners.

use std::{path::Path, sync::LazyLock, time::Duration};

use tempfile::TempDir;

use super::{KafkaBus, Settings};
use crate::{
    bus::{
        Bus, Cleanup, Outgoing, TopicSpec,
        kafka::{Mechanism, Sasl, Tls},
        read_range,
    },
    fault::{Domain, Fault, Retry},
    model::TopicName,
    servers::Servers,
};

static GUARDED: LazyLock<Servers> = LazyLock::new(|| Servers::start(&["kafka", "--secure"]));

fn plain(listener: &str) -> Settings {
    Settings { deadline: Duration::from_secs(5), ..Settings::plain(GUARDED.about(listener)) }
}

fn tls(ca: &str) -> Tls {
    Tls { ca: Some(ca.into()), own: None }
}

fn sasl(mechanism: Mechanism, password: &str, folder: &Path) -> Sasl {
    let password_file = folder.join("password");
    // As an editor writes it.
    std::fs::write(&password_file, format!("{password}\n")).unwrap();
    Sasl { mechanism, user: GUARDED.about("user").to_owned(), password_file }
}

/// Everything that a pipeline does with a bus.
async fn works(settings: Settings) {
    let bus = KafkaBus::new(settings).unwrap();
    let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
    let name = TopicName::new(format!("guarded-{:08x}", fastrand::u32(..)));
    let topic = bus.ensure_topic(&TopicSpec { name, num_partitions: 1, cleanup }).await.unwrap();
    let record =
        Outgoing { topic: topic.name.clone(), partition: 0, key: None, value: Some("x".into()), headers: Vec::new() };
    bus.producer("guarded").await.unwrap().send(vec![record]).await.unwrap();
    assert_eq!(read_range(&bus, &topic, 0, 0, 1).await.unwrap().len(), 1);
    bus.commit_offset("guarded", &topic, 0, 1).await.unwrap();
}

async fn refused(settings: Settings) -> Fault {
    let bus = KafkaBus::new(settings).unwrap();
    let fault = bus.topic(&TopicName::from("t")).await.unwrap_err();
    assert_eq!((fault.domain, fault.retry), (Domain::User, Retry::Backoff), "{fault}");
    let fault = bus.producer("p").await.err().unwrap();
    assert_eq!((fault.domain, fault.retry), (Domain::User, Retry::Backoff), "{fault}");
    fault
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let own = Some((GUARDED.about("certificate").into(), GUARDED.about("key").into()));
    works(Settings { tls: Some(Tls { own, ..tls(GUARDED.about("ca")) }), ..plain("ssl") }).await;
    // Without one of ours, the broker ends the connection.
    let bus = KafkaBus::new(Settings { tls: Some(tls(GUARDED.about("ca"))), ..plain("ssl") }).unwrap();
    bus.topic(&TopicName::from("t")).await.unwrap_err();
    // The broker's is vouched for by nobody we know.
    let fault = refused(Settings { tls: Some(tls(GUARDED.about("certificate"))), ..plain("sasl_ssl") }).await;
    assert!(fault.message.contains("certificate verify failed"), "{fault}");
}

#[tokio::test]
async fn users_show_their_passwords_by_plain_and_scram() {
    let folder = TempDir::new().unwrap();
    let password = GUARDED.about("password");
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let sasl = Some(sasl(mechanism, password, folder.path()));
        works(Settings { tls: Some(tls(GUARDED.about("ca"))), sasl: sasl.clone(), ..plain("sasl_ssl") }).await;
        if mechanism != Mechanism::Plain {
            works(Settings { sasl, ..plain("sasl_plaintext") }).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_without_being_shown() {
    let folder = TempDir::new().unwrap();
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha512] {
        let sasl = sasl(mechanism, "a-wrong-guess", folder.path());
        let settings = Settings { tls: Some(tls(GUARDED.about("ca"))), sasl: Some(sasl), ..plain("sasl_ssl") };
        assert!(!format!("{settings:?}").contains("a-wrong-guess"));
        let fault = refused(settings).await;
        assert!(fault.message.contains("uthentication failed"), "{fault}");
        assert!(!fault.message.contains("a-wrong-guess"), "{fault}");
    }
    let sasl = Sasl { password_file: folder.path().join("none"), ..sasl(Mechanism::Plain, "x", folder.path()) };
    let fault = KafkaBus::new(Settings { sasl: Some(sasl), ..plain("sasl_ssl") }).err().unwrap();
    assert!(fault.message.contains("password file") && fault.message.contains("none"), "{fault}");
}

/// What librdkafka counts arrives where metrics are made of it.
#[tokio::test]
async fn connections_are_counted() {
    let bus = KafkaBus::new(plain("brokers")).unwrap();
    bus.topic(&TopicName::from("t")).await.unwrap();
    let counts = bus.connections().unwrap();
    let mut looks = 0;
    while counts.bytes_received.get() == 0 || counts.brokers_up.get() == 0 {
        looks += 1;
        assert!(looks < 200, "nothing was counted in 20 s: {counts:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(counts.requests.get() > 0 && counts.bytes_sent.get() > 0, "{counts:?}");
    assert_eq!(counts.timeouts.get(), 0);
}
