//! One fault each, under load, and nothing is lost, repeated, swapped or left over; what waits says so
//! and is not restarted. Times are short here; `make torture` takes the full ones.

use std::{sync::LazyLock, thread, time::Duration};

use super::stand::{Case, Clusters};
use crate::torture::environment;

/// Whether there is time for what takes long.
static FULL: LazyLock<bool> = LazyLock::new(|| environment("HOWDAH_FULL_TIMES").is_some());

/// How long something lasts: here, and where there is time.
fn lasting(here: u64, full: u64) {
    thread::sleep(Duration::from_secs(if *FULL { full } else { here }));
}

/// Events for as long as it lasts.
fn load<'c>(clusters: &'c Clusters, name: &'static str) -> Case<'c> {
    Case::new(clusters, name, if *FULL { 12 } else { 2 }, 200.0)
}

/// Under load, the fault; then everything comes through, and no actor died of it.
pub fn weather(case: &Case<'_>, fault: impl FnOnce()) {
    let mut howdah = case.start();
    case.await_records(&mut howdah, 300);
    fault();
    case.await_records(&mut howdah, case.served.total);
    let ended = howdah.terminate_in_order();
    assert!(!ended.log.contains("actor died"), "{}: {}", case.name, ended.log);
    assert!(!ended.log.contains("ERROR"), "{}: {}", case.name, ended.log);
    case.judge();
}

#[test]
fn kafka_hangs_and_dies_and_nothing_is_lost_or_restarted() {
    let clusters = Clusters::start();
    let kafka = &clusters.kafka;
    weather(&load(&clusters, "broker_hangs"), || {
        kafka.order("pause", "1");
        lasting(8, 30);
        kafka.order("resume", "1");
    });
    weather(&load(&clusters, "broker_away"), || {
        kafka.order("kill", "1");
        lasting(15, 120);
        kafka.order("start", "1");
    });
}

#[test]
fn the_name_node_hangs_and_dies_and_data_nodes_do() {
    let clusters = Clusters::start();
    let hdfs = &clusters.hdfs;
    weather(&load(&clusters, "name_node_hangs"), || {
        hdfs.order("pause", "nn-1");
        lasting(15, 60);
        hdfs.order("resume", "nn-1");
    });
    weather(&load(&clusters, "name_node_away"), || {
        hdfs.order("kill", "nn-1");
        lasting(10, 120);
        // It comes back in safe mode, until the DataNodes have told what they have.
        hdfs.order("start", "nn-1");
    });
    weather(&load(&clusters, "data_node_dies"), || {
        hdfs.order("kill", "dn-1");
        lasting(5, 30);
    });
    hdfs.order("start", "dn-1");
    hdfs.settle();
    weather(&load(&clusters, "data_node_hangs"), || {
        hdfs.order("pause", "dn-2");
        lasting(5, 60);
    });
    hdfs.order("resume", "dn-2");
}
