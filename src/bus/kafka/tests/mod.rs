//! The Kafka bus against real brokers.

mod cluster;
mod security;

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;

use super::{KafkaBus, Settings};
use crate::{
    bus::{Bus, Cleanup, TopicSpec, contract},
    fault::Result,
    model::ManualClock,
    servers::Servers,
};

/// One broker for the tests that do it no harm.
static ONE: LazyLock<Servers> = LazyLock::new(|| Servers::start(&["kafka"]));

/// A bus on brokers that other tests use too: all names are its own.
struct Subject {
    bus: KafkaBus,
    suffix: String,
    forgets_within: Duration,
}

fn subject(servers: &Servers) -> Subject {
    let mut settings = Settings::plain(servers.about("brokers"));
    settings.identity_every = Duration::from_secs(1);
    let extra = if servers.about("small_segments") == "segment.bytes" { old_forgetful } else { forgetful };
    let bus = KafkaBus::with_extra(settings, extra).unwrap();
    let forgets_within = Duration::from_secs(servers.about("forgets_within").parse().unwrap());
    Subject { bus, suffix: format!("{:08x}", fastrand::u32(..)), forgets_within }
}

/// Brokers forget whole segments only, and never the one that is written: so these are small.
fn forgetful(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let bytes = match spec.cleanup {
        Cleanup::Delete { retention_ms: None, retention_bytes: None } => return Vec::new(),
        Cleanup::Delete { .. } => 120_000,
        // Room for one send and its marker.
        Cleanup::Compact => 200,
    };
    vec![("internal.segment.bytes", bytes.to_string()), ("min.cleanable.dirty.ratio", "0.001".to_owned())]
}

/// The same for brokers that bound the size otherwise.
fn old_forgetful(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let rename = |(key, value)| (if key == "internal.segment.bytes" { "segment.bytes" } else { key }, value);
    forgetful(spec).into_iter().map(rename).collect()
}

#[async_trait]
impl contract::Subject for Subject {
    fn bus(&self) -> &dyn Bus {
        &self.bus
    }

    fn clock(&self) -> Option<&ManualClock> {
        None
    }

    fn markers(&self) -> bool {
        true
    }

    fn name(&self, base: &str) -> String {
        format!("{base}-{}", self.suffix)
    }

    async fn retain(&self) -> Result<()> {
        // Brokers say nothing when they have looked: how often they do is in `tests/servers`.
        tokio::time::sleep(self.forgets_within).await;
        Ok(())
    }

    async fn compact(&self) -> Result<()> {
        tokio::time::sleep(self.forgets_within).await;
        Ok(())
    }
}

mod one_broker {
    use super::{ONE, contract, subject};

    async fn fresh() -> super::Subject {
        subject(&ONE)
    }

    contract::suite!(fresh);
}
