//! From settings to a bus and a store: the only place that names every kind of them.

use std::sync::Arc;

use crate::{
    bus::{
        SharedBus,
        embedded::{self, EmbeddedBus},
        kafka,
    },
    config::{BusSettings, StoreSettings},
    fault::Result,
    model::SystemClock,
    store::{SharedStore, hdfs, local::LocalStore},
};

/// The store of these settings.
///
/// # Errors
/// Those of opening it.
pub async fn open_store(settings: &StoreSettings) -> Result<SharedStore> {
    match settings {
        StoreSettings::Local { root } => Ok(Arc::new(LocalStore::open(root.clone()).await?)),
        StoreSettings::Hdfs(settings) => open_hdfs(settings).await,
    }
}

/// The store of these settings, for a look that writes nothing.
///
/// # Errors
/// Those of opening it.
pub async fn open_store_to_read(settings: &StoreSettings) -> Result<SharedStore> {
    match settings {
        StoreSettings::Local { root } => Ok(Arc::new(LocalStore::open_to_read(root.clone()).await?)),
        StoreSettings::Hdfs(settings) => open_hdfs(settings).await,
    }
}

/// The bus of these settings, for a look beside a running or stopped process.
///
/// # Errors
/// Those of opening it.
pub fn open_bus_read_only(settings: &BusSettings) -> Result<SharedBus> {
    match settings {
        BusSettings::Embedded { path } => Ok(Arc::new(EmbeddedBus::open_read_only(path)?)),
        BusSettings::Kafka(settings) => open_kafka(settings),
    }
}

/// The bus of these settings, to write to it; the embedded one only while no other process does.
///
/// # Errors
/// Those of opening it; `User` if it is embedded and another process has it open.
pub fn open_bus(settings: &BusSettings) -> Result<SharedBus> {
    match settings {
        BusSettings::Embedded { path } => {
            let settings = embedded::Settings { path: path.clone() };
            Ok(Arc::new(EmbeddedBus::open(settings, Arc::new(SystemClock))?))
        }
        BusSettings::Kafka(settings) => open_kafka(settings),
    }
}

#[cfg(feature = "kafka")]
fn open_kafka(settings: &kafka::Settings) -> Result<SharedBus> {
    Ok(Arc::new(kafka::KafkaBus::new(settings.clone())?))
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(settings: &kafka::Settings) -> Result<SharedBus> {
    let text = "this howdah was built without Kafka: build it with the cargo feature `kafka`";
    Err(crate::fault::Fault::user(format!("kafka {}: {text}", settings.brokers)))
}

#[cfg(feature = "hdfs")]
async fn open_hdfs(settings: &hdfs::Settings) -> Result<SharedStore> {
    Ok(Arc::new(hdfs::HdfsStore::open(settings.clone()).await?))
}

#[cfg(not(feature = "hdfs"))]
async fn open_hdfs(settings: &hdfs::Settings) -> Result<SharedStore> {
    let text = "this howdah was built without HDFS: build it with the cargo feature `hdfs`";
    Err(crate::fault::Fault::user(format!("store {}: {text}", settings.url)))
}
