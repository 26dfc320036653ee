//! Brokers that hang, die and come back: what every call of the bus does then.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::time::Instant;

use super::{KafkaBus, Settings, Subject, contract, subject};
use crate::{
    bus::{Bus, Cleanup, Outgoing, Reader, TopicInfo, TopicSpec},
    fault::{Domain, Effect, Fault, Kind, Result, Retry},
    model::TopicName,
    servers::Servers,
};

mod three_brokers {
    use std::sync::LazyLock;

    use super::{Servers, Subject, contract, subject};

    static THREE: LazyLock<Servers> = LazyLock::new(|| Servers::start(&["kafka", "--brokers", "3"]));

    async fn fresh() -> Subject {
        subject(&THREE)
    }

    contract::suite!(fresh);
}

const KEEP: Cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
const DEADLINE: Duration = Duration::from_secs(3);

/// What a call may take beyond its deadline, on a machine that does something else besides: its own
/// doubts, a second request, a thread that waits for its turn.
const LIMIT: Duration = Duration::from_secs(12);

fn bus(servers: &Servers) -> KafkaBus {
    KafkaBus::new(Settings { deadline: DEADLINE, ..Settings::plain(servers.about("brokers")) }).unwrap()
}

async fn make(bus: &KafkaBus, name: &str) -> TopicInfo {
    bus.ensure_topic(&TopicSpec { name: TopicName::from(name), num_partitions: 1, cleanup: KEEP }).await.unwrap()
}

fn plain(topic: &TopicInfo, value: &'static str) -> Outgoing {
    let value = Some(value.as_bytes().into());
    Outgoing { topic: topic.name.clone(), partition: 0, key: None, value, headers: Vec::new() }
}

/// The call fails as an outage does, and in time.
async fn ends<T>(what: &str, call: impl Future<Output = Result<T>>) -> Fault {
    let begun = Instant::now();
    let fault = tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| panic!("{what} hangs")).err();
    let fault = fault.unwrap_or_else(|| panic!("{what} went well on a stopped broker, in {:?}", begun.elapsed()));
    assert_eq!((fault.domain, fault.retry), (Domain::External, Retry::Backoff), "{what}: {fault}");
    fault
}

#[tokio::test]
async fn no_call_hangs_while_the_broker_does() {
    let servers = Servers::start(&["kafka"]);
    let (bus, name) = (bus(&servers), TopicName::from("hangs"));
    let topic = make(&bus, "hangs").await;
    let mut producer = bus.producer("p").await.unwrap();
    let mut spare = bus.producer("spare").await.unwrap();
    producer.send(vec![plain(&topic, "a")]).await.unwrap();
    let mut reader = bus.reader(&topic, 0, 0).await.unwrap();
    assert_eq!(reader.next().await.unwrap().records.len(), 1);

    servers.order("pause", "1");
    let spec = |name: &str| TopicSpec { name: TopicName::from(name), num_partitions: 1, cleanup: KEEP };
    ends("topic", bus.topic(&name)).await;
    ends("ensure_topic", bus.ensure_topic(&spec("other"))).await;
    ends("watermarks", bus.watermarks(&topic, 0)).await;
    ends("offset_before", bus.offset_before(&topic, 0, 0)).await;
    ends("commit_offset", bus.commit_offset("g", &topic, 0, 1)).await;
    ends("committed_offset", bus.committed_offset("g", &topic, 0)).await;
    ends("producer", bus.producer("q")).await;
    // A transaction that never came to its commit has not happened.
    assert_eq!(ends("send", producer.send(vec![plain(&topic, "b")])).await.effect, Effect::NotDone);
    assert_eq!(ends("delete_topic", bus.delete_topic(&name)).await.effect, Effect::Unknown);
    let silence = async {
        loop {
            if let Err(fault) = reader.next().await {
                return fault;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(60), silence).await.expect("a reader says that nobody answers");
    assert_eq!((told.domain, told.retry), (Domain::External, Retry::Backoff), "{told}");
    servers.order("resume", "1");

    // The deletion was on its way and may have been done; nothing else was.
    spare.send(vec![]).await.unwrap();
    let after = make(&bus, "after").await;
    let fault = producer.send(vec![plain(&after, "c")]).await.unwrap_err();
    assert_eq!(fault.effect, Effect::Unknown, "to be opened anew: {fault}");
    let mut anew = bus.producer("p").await.unwrap();
    anew.send(vec![plain(&after, "d")]).await.unwrap();
}

/// The producer's holder reads back and sends again; readers go on where they stand.
#[tokio::test]
async fn a_killed_leader_loses_nothing_that_was_acknowledged() {
    let servers = Servers::start(&["kafka", "--brokers", "3"]);
    let bus = KafkaBus::new(Settings::plain(servers.about("brokers"))).unwrap();
    let topic = make(&bus, "leaders").await;
    let mut acknowledged = Vec::new();
    for broker in ["1", "2", "3"] {
        let mut producer = bus.producer("p").await.unwrap();
        for _ in 0..5 {
            acknowledged.extend(producer.send(vec![plain(&topic, "x"), plain(&topic, "y")]).await.unwrap());
        }
        servers.order("kill", broker);
        let begun = Instant::now();
        // Two of three are enough for both of what a record needs and what the cluster needs.
        loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "no producer in a minute");
            let Ok(mut producer) = bus.producer("p").await else { continue };
            if let Ok(offsets) = producer.send(vec![plain(&topic, "z")]).await {
                acknowledged.extend(offsets);
                break;
            }
        }
        servers.order("start", broker);
    }
    let high = bus.watermarks(&topic, 0).await.unwrap().high;
    let records = crate::bus::read_range(&bus, &topic, 0, 0, high).await.unwrap();
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert!(acknowledged.iter().all(|offset| offsets.contains(offset)), "{acknowledged:?}\n{offsets:?}");
}

/// Brokers of the time of ZooKeeper answer before they have heard of any topic.
#[tokio::test]
async fn a_broker_that_has_just_come_back_is_not_believed_that_a_topic_is_gone() {
    let servers = Arc::new(Servers::start(&["kafka"]));
    let bus = KafkaBus::new(Settings::plain(servers.about("brokers"))).unwrap();
    let topic = make(&bus, "remembered").await;
    for _ in 0..5 {
        // Killed, it would be kept from its name in ZooKeeper until its session there is over.
        servers.order("stop", "1");
        let starter = Arc::clone(&servers);
        let start = tokio::task::spawn_blocking(move || starter.order("start", "1"));
        while !start.is_finished() {
            look(&bus, &topic).await;
        }
        start.await.unwrap();
        for _ in 0..10 {
            look(&bus, &topic).await;
        }
    }
}

/// The topic is the one it was, as far as anybody answers.
async fn look(bus: &KafkaBus, topic: &TopicInfo) {
    match bus.topic(&topic.name).await {
        Ok(found) => assert_eq!(found.as_ref(), Some(topic)),
        Err(fault) => assert_eq!((fault.domain, fault.retry), (Domain::External, Retry::Backoff), "{fault}"),
    }
    if let Err(fault) = bus.watermarks(topic, 0).await {
        assert_eq!((fault.domain, fault.kind), (Domain::External, Kind::Other), "{fault}");
    }
}

/// What was read before a topic was made anew is handed out, and nothing of the new one.
#[tokio::test]
async fn a_reader_never_mixes_a_topic_with_the_one_made_in_its_place() {
    let servers = Servers::start(&["kafka"]);
    let bus = KafkaBus::new(Settings::plain(servers.about("brokers"))).unwrap();
    for round in 0..5 {
        let name = format!("anew-{round}");
        let old = make(&bus, &name).await;
        let mut producer = bus.producer("p").await.unwrap();
        producer.send(vec![plain(&old, "old"), plain(&old, "old")]).await.unwrap();
        let mut reader = bus.reader(&old, 0, 0).await.unwrap();
        assert_eq!(reader.next().await.unwrap().records.len(), 2);
        bus.delete_topic(&old.name).await.unwrap();
        let new = make(&bus, &name).await;
        let mut producer = bus.producer("p").await.unwrap();
        // Longer than the old one, so that where the reader stands is no place out of range.
        for _ in 0..10 {
            producer.send(vec![plain(&new, "new"), plain(&new, "new")]).await.unwrap();
        }
        let fault = loop {
            match tokio::time::timeout(Duration::from_secs(60), reader.next()).await.expect("a minute is enough") {
                Ok(batch) => {
                    let values = batch.records.iter().filter_map(|record| record.value.clone());
                    assert!(values.into_iter().all(|value| value == "old"), "mixed: {batch:?}");
                }
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.kind, Kind::Recreated, "{fault}");
    }
}

/// Another program's transaction that is never ended holds readers up: they say so, and go on once it is.
#[tokio::test]
async fn a_transaction_that_nobody_ends_is_told() {
    let short = Duration::from_secs(1);
    let plainly = Settings::plain(super::ONE.about("brokers"));
    let bus =
        KafkaBus::new(Settings { identity_every: short, open_transaction: 3 * short, ..plainly.clone() }).unwrap();
    let topic = make(&bus, &format!("hanging-{:08x}", fastrand::u32(..))).await;
    let mut ours = bus.producer(&format!("ours-{}", topic.name)).await.unwrap();
    let before = ours.send(vec![plain(&topic, "before")]).await.unwrap()[0];

    let foreign: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &plainly.brokers)
        .set("transactional.id", format!("foreign-{}", topic.name))
        .create()
        .unwrap();
    foreign.init_transactions(LIMIT).unwrap();
    foreign.begin_transaction().unwrap();
    let record: BaseRecord<'_, (), str> = BaseRecord::to(topic.name.as_str()).partition(0).payload("open");
    foreign.send(record).unwrap();
    foreign.flush(LIMIT).unwrap();
    let behind = ours.send(vec![plain(&topic, "behind")]).await.unwrap()[0];

    let mut reader = bus.reader(&topic, 0, 0).await.unwrap();
    let read = async |reader: &mut Box<dyn Reader>| {
        let batch = tokio::time::timeout(10 * LIMIT, reader.next()).await.expect("a word of it")?;
        Ok::<_, Fault>(batch.records.into_iter().map(|record| record.offset).collect::<Vec<_>>())
    };
    assert_eq!(read(&mut reader).await.unwrap(), [before]);
    let fault = loop {
        match read(&mut reader).await {
            Ok(markers) => assert_eq!(markers, [0; 0]),
            Err(fault) => break fault,
        }
    };
    // The first transaction's marker lies between.
    let open = before + 2;
    assert!(fault.message.contains(&format!("a transaction is open from offset {open} on")), "{fault}");
    assert_eq!((fault.domain, fault.retry), (Domain::External, Retry::Backoff), "{fault}");

    foreign.abort_transaction(LIMIT).unwrap();
    let mut found = Vec::new();
    while found.is_empty() {
        found = read(&mut reader).await.unwrap();
    }
    assert_eq!(found, [behind]);
}
