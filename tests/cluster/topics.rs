//! Topics that are deleted and made anew, and topics that forget before anybody has read.

use std::fs;

use howdah::{
    bus::{
        Bus, Cleanup, TopicSpec,
        kafka::{KafkaBus, Settings},
    },
    model::TopicName,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
};

use super::stand::{Case, Clusters};
use crate::process::harness::{block_on, finish, wait_for};

#[test]
fn a_topic_made_anew_stops_the_pipeline_and_retention_is_told_as_loss() {
    let clusters = Clusters::start();
    made_anew(&clusters);
    retention(&clusters);
}

fn made_anew(clusters: &Clusters) {
    let case = Case::changed(
        clusters,
        "made_anew",
        1,
        0.0,
        &[("codec = \"plain\"             # or \"zstd\", or \"gzip\"", "codec = \"zstd\"")],
    );
    let mut howdah = case.start();
    case.await_records(&mut howdah, case.served.total);
    wait_for("all to be archived", || case.has_archived_all().then_some(()), || howdah.log());
    // What a table has not counted when its topic goes is in the archive, and another's to count.
    wait_for("all to be counted", || case.has_counted_all().then_some(()), || howdah.log());
    let bus = KafkaBus::new(Settings::plain(clusters.kafka.about("brokers"))).unwrap();
    let name = TopicName::from(case.name);
    block_on(async {
        bus.delete_topic(&name).await.unwrap();
        let cleanup = Cleanup::Delete { retention_ms: None, retention_bytes: None };
        bus.ensure_topic(&TopicSpec { name: name.clone(), num_partitions: 1, cleanup }).await.unwrap();
    });
    let ended = howdah.end();
    assert_eq!(ended.status.code(), Some(70), "{}", ended.log);
    assert!(ended.log.contains("was deleted and created anew"), "{}", ended.log);
    // Whole as it was; the other topic is another history.
    case.judge();
    let (code, _, err) = finish(&mut case.run(None));
    assert_eq!(code, 70, "{err}");
    assert!(
        err.contains("say recreated = \\\"new-chain\\\"") || err.contains("say recreated = \"new-chain\""),
        "{err}"
    );
}

/// The archiver is away while the topic forgets what it has not read: that much is lost, and said so.
fn retention(clusters: &Clusters) {
    let case = Case::new(clusters, "forgets", 2, 300.0);
    let mut howdah = case.start();
    case.await_records(&mut howdah, 400);
    howdah.terminate_in_order();
    let (archived, _) = archived(&case, 0);

    // Collecting goes on without the sinks …
    let whole = fs::read_to_string(&case.pipeline).unwrap();
    let sinks = whole.find("# The events as they came").unwrap();
    fs::write(&case.pipeline, &whole[..sinks]).unwrap();
    let mut howdah = case.start();
    case.await_records(&mut howdah, case.served.total);
    howdah.terminate_in_order();
    fs::write(&case.pipeline, &whole).unwrap();

    // … and the brokers delete what is older than they may keep.
    let low = block_on(async {
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", clusters.kafka.about("brokers")).create().unwrap();
        let bus = KafkaBus::new(Settings::plain(clusters.kafka.about("brokers"))).unwrap();
        let topic = bus.topic(&TopicName::from(case.name)).await.unwrap().unwrap();
        let high = bus.watermarks(&topic, 0).await.unwrap().high;
        let low = high - high / 4;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(case.name, 0, Offset::Offset(low.cast_signed())).unwrap();
        admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
        assert_eq!(bus.watermarks(&topic, 0).await.unwrap().low, low);
        low
    });

    let mut howdah = case.start();
    howdah.await_line(&["ERROR", "records lost: the bus had deleted them before they were archived"]);
    case.await_end(&mut howdah);
    let ended = howdah.terminate_in_order();
    assert!(!ended.log.contains("actor died"), "{}", ended.log);
    let (lines, report) = self::archived(&case, 4);
    assert!(lines > archived, "what the topic still had is archived");
    let lost: Vec<_> = report["findings"].as_array().unwrap().iter().filter(|one| one["what"] == "lost").collect();
    assert_eq!(lost.len(), 1, "{report}");
    let told = lost[0].to_string();
    assert!(told.contains(&low.to_string()), "the gap ends at {low}: {told}");
}

/// How many lines the archive has, by howdah's own report, which ends with this exit code.
fn archived(case: &Case<'_>, expected: i32) -> (u64, serde_json::Value) {
    let verify = ["archive", "verify", "--deep", "--json", case.pipeline.to_str().unwrap()];
    let (code, out, err) = finish(&mut case.howdah(&verify, "data"));
    assert_eq!(code, expected, "{out}{err}");
    let reports: serde_json::Value = serde_json::from_str(&out).unwrap();
    (reports[0][1]["lines"].as_u64().unwrap(), reports[0][1].clone())
}
