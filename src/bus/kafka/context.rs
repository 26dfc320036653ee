//! What librdkafka tells beside its answers: its log, errors of connections, deliveries, statistics.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
    error::RDKafkaErrorCode, message::DeliveryResult, producer::ProducerContext,
};
use tokio::time::Instant;

use crate::{
    fault::{Domain, Fault, Retry},
    vitals::Connections,
};

/// What went wrong with a connection explains what fails within this time after it.
const EXPLAINS: Duration = Duration::from_secs(30);

/// Of one client.
#[derive(Default)]
pub(super) struct Context {
    /// What the clients of a bus count together.
    connections: Arc<Connections>,
    /// What of that this client has told already.
    told: Mutex<Totals>,
    /// Whether a connection failed since this was last asked.
    disturbed: AtomicBool,
    /// The last such failure.
    last: Mutex<Option<(Instant, Option<RDKafkaErrorCode>, String)>>,
    /// Where the readers of a partition stand before an open transaction, and since when.
    stable: Mutex<Option<(i64, Instant)>>,
    /// What has become of the records that a producer sends.
    deliveries: Mutex<Deliveries>,
}

/// What has become of a batch's records.
#[derive(Default)]
struct Deliveries {
    /// The number of the batch's first record: a producer numbers its records on.
    first: usize,
    /// Its records' offsets, as far as they are known.
    offsets: Vec<Option<i64>>,
    missing: usize,
    /// The first record that was given up, by its place, and why.
    failed: Option<(usize, RDKafkaErrorCode)>,
}

/// Why not all of a batch's records are on the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// This one, by its place in the batch, was given up.
    Failed(usize, RDKafkaErrorCode),
    /// So many are not answered.
    Missing(usize),
}

/// A client's counts since it was made.
#[derive(Clone, Copy, Default)]
struct Totals {
    requests: u64,
    bytes_sent: u64,
    bytes_received: u64,
    errors: u64,
    retries: u64,
    timeouts: u64,
    disconnects: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub(super) fn new(connections: Arc<Connections>) -> Self {
        Self { connections, ..Self::default() }
    }

    /// Whether a connection failed since the last call.
    pub(super) fn was_disturbed(&self) -> bool {
        self.disturbed.swap(false, Ordering::Relaxed)
    }

    /// Whether a connection failed a short time ago.
    pub(super) fn is_troubled(&self) -> bool {
        locked(&self.last).as_ref().is_some_and(|(at, ..)| at.elapsed() < EXPLAINS)
    }

    /// The fault with what is wrong with the connection, if something is: to librdkafka a wrong password
    /// is a request that was not answered.
    pub(super) fn explain(&self, mut fault: Fault) -> Fault {
        let last = locked(&self.last);
        let Some((_, code, reason)) = last.as_ref().filter(|(at, ..)| at.elapsed() < EXPLAINS) else { return fault };
        fault.message = format!("{} ({reason})", fault.message);
        let refused = matches!(
            code,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL)
        );
        if refused && fault.domain == Domain::External {
            (fault.domain, fault.retry) = (Domain::User, Retry::Backoff);
        }
        fault
    }

    /// The offset before which readers of this client's partition stand, because a transaction is open from there
    /// on, and for how long they have.
    pub(super) fn stable(&self) -> Option<(i64, Duration)> {
        locked(&self.stable).map(|(offset, since)| (offset, since.elapsed()))
    }

    /// Looks at the ends that the last fetch told, of the one partition that a reader's client has.
    fn look_at_ends(&self, statistics: &Statistics, is_up: bool) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let open = partitions.filter(|partition| partition.ls_offset >= 0 && partition.ls_offset < partition.hi_offset);
        // Whoever cannot ask the brokers knows nothing of their transactions.
        let open = open.map(|partition| partition.ls_offset).next().filter(|_| is_up);
        let mut stable = locked(&self.stable);
        *stable = open.map(|offset| stable.filter(|(before, _)| *before == offset).unwrap_or((offset, Instant::now())));
    }

    /// A batch of so many records begins; answers with the number of its first. What comes of earlier ones
    /// is not listened to any more.
    pub(super) fn expect(&self, records: usize) -> usize {
        let mut deliveries = locked(&self.deliveries);
        let first = deliveries.first + deliveries.offsets.len();
        *deliveries = Deliveries { first, offsets: vec![None; records], missing: records, ..Deliveries::default() };
        first
    }

    /// The offsets of the batch's records, if all are on the brokers.
    pub(super) fn delivered(&self) -> Result<Vec<i64>, Undelivered> {
        let deliveries = locked(&self.deliveries);
        match deliveries.failed {
            Some((place, code)) => Err(Undelivered::Failed(place, code)),
            None if deliveries.missing > 0 => Err(Undelivered::Missing(deliveries.missing)),
            None => Ok(deliveries.offsets.iter().copied().flatten().collect()),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        // Whatever it says comes as an error too, where somebody handles it.
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "a connection failed");
        self.disturbed.store(true, Ordering::Relaxed);
        let code = error.rdkafka_error_code();
        // "All brokers are down" says less than what came before it.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *locked(&self.last) = Some((Instant::now(), code, reason.to_owned()));
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut now = Totals::default();
        let (mut up, mut slowest_us) = (0, 0);
        for broker in statistics.brokers.values() {
            now.requests += broker.tx;
            now.bytes_sent += broker.txbytes;
            now.bytes_received += broker.rxbytes;
            now.errors += broker.txerrs + broker.rxerrs;
            now.retries += broker.txretries;
            now.timeouts += broker.req_timeouts;
            now.disconnects += broker.disconnects.map_or(0, i64::unsigned_abs);
            up += i64::from(broker.state == "UP" && broker.nodeid >= 0);
            slowest_us = slowest_us.max(broker.rtt.as_ref().map_or(0, |window| window.p99));
        }
        self.look_at_ends(&statistics, up > 0);
        let before = mem::replace(&mut *locked(&self.told), now);
        let counts = &self.connections;
        counts.requests.add(now.requests.saturating_sub(before.requests));
        counts.bytes_sent.add(now.bytes_sent.saturating_sub(before.bytes_sent));
        counts.bytes_received.add(now.bytes_received.saturating_sub(before.bytes_received));
        counts.errors.add(now.errors.saturating_sub(before.errors));
        counts.retries.add(now.retries.saturating_sub(before.retries));
        counts.timeouts.add(now.timeouts.saturating_sub(before.timeouts));
        counts.disconnects.add(now.disconnects.saturating_sub(before.disconnects));
        counts.brokers_up.set(up);
        counts.round_trip_us.set(slowest_us);
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let mut deliveries = locked(&self.deliveries);
        let Some(place) = number.checked_sub(deliveries.first).filter(|&place| place < deliveries.offsets.len()) else {
            return;
        };
        match result {
            Ok(message) => {
                if deliveries.offsets[place].replace(message.offset()).is_none() {
                    deliveries.missing -= 1;
                }
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                deliveries.failed.get_or_insert((place, code));
            }
        }
    }
}
