//! Loaders: a topic's records as points of InfluxDB or documents of Elasticsearch, each once.
//!
//! From the inside out:
//!
//! - [`transform`]: a record's rows: explode, filter, select, rename, type. No I/O, no clock.
//! - [`keys`]: which rows repeat a key that an earlier one has won.
//! - [`sink`]: what a sink is; [`influx`], [`elastic`]: how rows are written for each, and what it answers.
//! - [`deliver`](deliver()): every row is taken or refused, whatever the sink answers.
//! - [`state`]: what lies on the bus: where a lane stands, and the keys that were won.
//! - [`Witness`]: a row that tells an outage from rows that a sink fails on.
//! - `buried`: the dead letters about what cannot be loaded.
//! - [`Lane`]: one partition: takes batches, and brings what they gave into the sink.
//!
//! Nothing tells whether a sink has taken what it was sent, so everything may be sent twice, and twice must be
//! once: a row is a function of its record and of the keys won before it, and its identity in the sink (time and
//! tags, or `_id`) is a function of the record's place. Then the order is: first the sink, then one transaction
//! of the bus with the new position, the keys won, and the dead letters. A crash in between sends the same again.

mod buried;
mod deliver;
pub mod elastic;
#[cfg(test)]
mod histories;
pub mod influx;
pub mod keys;
mod lane;
pub mod sink;
pub mod state;
#[cfg(test)]
pub mod testing;
pub mod transform;
mod witness;

use std::{sync::Arc, time::Duration};

pub use deliver::deliver;
pub use lane::{Lane, Loaded, Parts};
pub use sink::Around;
pub use witness::Witness;

use self::{elastic::Elastic, influx::Influx, keys::Horizon, sink::Sink};
use crate::{
    bus::Start,
    fault::Result,
    model::{Millis, TopicName, without_secrets},
};

/// What a loader is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The topic it reads.
    pub topic: TopicName,
    /// What rows are made of.
    pub transform: transform::Settings,
    /// For how long a key is known, if rows have one.
    pub horizon: Option<Horizon>,
    /// When keys may be gone from the bus, by its time, in milliseconds; `None` is never.
    pub keys_kept: Option<Millis>,
    /// Where the rows go.
    pub sink: SinkSettings,
    /// Rows in one request at most …
    pub batch_rows: usize,
    /// … and bytes of them, before compression (a larger row goes alone).
    pub batch_bytes: usize,
    /// A row waits for others no longer than this.
    pub linger: Duration,
    /// Where it begins on a partition that it never read.
    pub start: Start,
    /// Whether it begins anew on a topic that was deleted and created again.
    pub follows_recreated: bool,
}

/// Which sink.
#[derive(Clone, Debug)]
pub enum SinkSettings {
    /// InfluxDB.
    Influx(influx::Settings),
    /// Elasticsearch or OpenSearch.
    Elastic(elastic::Settings),
}

impl SinkSettings {
    /// What it is and where, as it may be shown.
    pub fn shown(&self) -> String {
        match self {
            Self::Influx(settings) => format!("InfluxDB {}", without_secrets(&settings.url)),
            Self::Elastic(settings) => format!("Elasticsearch {}", without_secrets(&settings.url)),
        }
    }
}

/// Opens the sink of these settings; nothing is asked of it yet.
///
/// # Errors
/// `User`: the settings cannot be used.
pub fn open(settings: &SinkSettings) -> Result<Arc<dyn Sink>> {
    Ok(match settings {
        SinkSettings::Influx(settings) => Arc::new(Influx::new(settings.clone())?),
        SinkSettings::Elastic(settings) => Arc::new(Elastic::new(settings.clone())?),
    })
}
