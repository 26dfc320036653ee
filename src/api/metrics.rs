//! `/metrics`: every figure of the vitals, as Prometheus wants it: base units, `_total` on counters, labels with
//! few values. A figure has one line here, with the kinds of actors that have it.

use std::time::Duration;

use prometheus::{
    Encoder, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    process,
    steer::{BusFigures, Steer},
    views::{lag_seconds, word},
};
use crate::{
    fault::{Fault, Result},
    model::Millis,
    vitals::{Connections, Death, Kind, Reason, State, Vitals},
};

use Kind::{Aggregator, Archiver, Collector as Source, Ingester, Loader};

/// A figure of an actor: its name without the prefix, what it says, who has it, and how it is read.
type Figure = (&'static str, &'static str, &'static [Kind], fn(&Vitals) -> f64);

const EVERYBODY: &[Kind] = &[Source, Ingester, Archiver, Aggregator, Loader];
const READERS: &[Kind] = &[Archiver, Aggregator, Loader];
const TABLES: &[Kind] = &[Aggregator];
const SOURCES: &[Kind] = &[Source];
const LOADERS: &[Kind] = &[Loader];

#[rustfmt::skip]
const COUNTERS: &[Figure] = &[
    ("records_in_total", "Records taken in, from the source, the spool or the bus.", EVERYBODY, |v| count(v.records_in.get())),
    ("bytes_in_total", "Bytes taken in.", EVERYBODY, |v| count(v.bytes_in.get())),
    ("records_out_total", "Records handed on durably, to the spool, the bus, the archive or the table; rows that a sink has.", EVERYBODY, |v| count(v.records_out.get())),
    ("bytes_out_total", "Bytes handed on durably.", EVERYBODY, |v| count(v.bytes_out.get())),
    ("commits_total", "Durable steps done: spool syncs, bus transactions, segments, table commits, loads.", EVERYBODY, |v| count(v.commits.get())),
    ("dead_letters_total", "Records kept as dead letters.", EVERYBODY, |v| count(v.dead_letters.get())),
    ("stale_batches_total", "Batches dropped because they were meant for an earlier life or place; they are read again.", EVERYBODY, |v| count(v.stale_batches.get())),
    ("mailbox_wait_seconds_total", "How long senders waited for room in the mailbox.", EVERYBODY, |v| Duration::from_millis(v.mailbox_waited_ms.get()).as_secs_f64()),
    ("duplicates_total", "Events known already and dropped, since a resume repeats; rows whose key an earlier one has.", &[Source, Loader], |v| count(v.duplicates.get())),
    ("possible_gaps_total", "Resumes whose overlap could not be proven.", SOURCES, |v| count(v.possible_gaps.get())),
    ("source_connections_total", "Connections opened to the source.", SOURCES, |v| count(v.connections.get())),
    ("source_failures_total", "Connections to the source that ended, and requests without a good answer.", SOURCES, |v| count(v.source_failures.get())),
    ("missed_polls_total", "Times at which the source should have been asked and was not: the answer before took too long, or nobody was there.", SOURCES, |v| count(v.missed_polls.get())),
    ("skipped_records_total", "Records that the table leaves out because they have no key or time.", TABLES, |v| count(v.skipped.get())),
    ("filtered_records_total", "Records, or their elements, that a filter left out of the table or the sink.", &[Aggregator, Loader], |v| count(v.filtered.get())),
    ("sink_requests_total", "Requests to the sink.", LOADERS, |v| count(v.sink_requests.get())),
    ("sink_failures_total", "Requests to the sink that are to be made again.", LOADERS, |v| count(v.sink_failures.get())),
    ("late_records_total", "Records whose hour was final already.", TABLES, |v| count(v.late.get())),
    ("future_records_total", "Records too far ahead of their bus time.", TABLES, |v| count(v.future.get())),
    ("final_files_total", "Files of final hours, brought to where plain readers of the table see them.", TABLES, |v| count(v.final_hours.get())),
    ("deleted_files_total", "Files of the table deleted because nobody can need them any more.", TABLES, |v| count(v.deleted_files.get())),
];

#[rustfmt::skip]
const GAUGES: &[Figure] = &[
    ("actor_incarnation", "Which of its lives in this process the actor is in, from 1.", EVERYBODY, |v| count(v.life().incarnation.0)),
    ("actor_since_timestamp_seconds", "Since when the actor is in its state.", EVERYBODY, |v| seconds(v.life().since)),
    ("last_success_timestamp_seconds", "When the last durable step was done; 0 for never.", EVERYBODY, |v| seconds(v.last_success.get())),
    ("mailbox_messages", "Messages in the mailbox.", EVERYBODY, |v| signed(v.mailbox_depth.get())),
    ("mailbox_capacity_messages", "Messages that the mailbox holds at most.", EVERYBODY, |v| signed(v.mailbox_capacity.get())),
    ("abandoned_threads", "Blocked threads that were given up and have not come back.", EVERYBODY, |v| signed(v.abandoned.get())),
    ("lag_records", "Records on the bus, or in the spool, that were not taken yet.", &[Ingester, Archiver, Aggregator, Loader], |v| signed(v.lag.get())),
    ("parked_partitions", "Partitions that stand still before a record of which the actor died, until a person restarts it.", &[Archiver], |v| signed(v.parked.get())),
    ("unacknowledged_lost_records", "Records lost for good, by this process or one before, of which nobody has said that they know.", READERS, |v| v.life().losses.iter().map(|loss| count(loss.number)).sum()),
    ("topic_retention_seconds", "How long the bus keeps a record of the topic that is read; +Inf for as long as there is room.", READERS, retention),
    ("spool_full_in_seconds", "Until the spool is full, at the rate of the last minute; +Inf while it does not fill.", SOURCES, |v| v.spool_full_in.get().map_or(f64::INFINITY, count)),
    ("open_windows", "Windows that are not final, those of each partition by themselves.", TABLES, |v| signed(v.open_windows.get())),
    ("watermark_timestamp_seconds", "The smallest committed watermark of the partitions; 0 for none.", TABLES, |v| seconds(v.watermark.get())),
    ("final_until_timestamp_seconds", "Before it every hour of the table is final; 0 for none.", TABLES, |v| seconds(v.final_until.get())),
];

/// A figure of a bus's clients.
type Connected = (&'static str, &'static str, MetricType, fn(&Connections) -> f64);

#[rustfmt::skip]
const BUSES: &[Connected] = &[
    ("bus_requests_total", "Requests sent to the bus.", MetricType::COUNTER, |c| count(c.requests.get())),
    ("bus_sent_bytes_total", "Bytes sent to the bus.", MetricType::COUNTER, |c| count(c.bytes_sent.get())),
    ("bus_received_bytes_total", "Bytes received from the bus.", MetricType::COUNTER, |c| count(c.bytes_received.get())),
    ("bus_errors_total", "Requests that could not be sent, and answers that could not be read.", MetricType::COUNTER, |c| count(c.errors.get())),
    ("bus_retries_total", "Requests sent once more.", MetricType::COUNTER, |c| count(c.retries.get())),
    ("bus_timeouts_total", "Requests that were not answered in time.", MetricType::COUNTER, |c| count(c.timeouts.get())),
    ("bus_disconnects_total", "Connections that ended.", MetricType::COUNTER, |c| count(c.disconnects.get())),
    ("bus_brokers", "Servers that the client which told last is connected to.", MetricType::GAUGE, |c| signed(c.brokers_up.get())),
    ("bus_round_trip_seconds", "How long 99 of 100 requests take at most, to the slowest server.", MetricType::GAUGE, |c| signed(c.round_trip_us.get()) / 1e6),
];

/// Everything that a state may be, for a figure that is 1 for one of them.
const STATES: [State; 6] =
    [State::Starting, State::Running, State::Waiting(String::new()), State::Restarting, State::Stopped, State::GaveUp];

/// The text that Prometheus reads.
///
/// # Errors
/// `Internal`: a figure is not as Prometheus wants it.
pub fn render(steer: &dyn Steer, now: Millis) -> Result<Vec<u8>> {
    let mut families = of_actors(steer, now);
    families.extend(of_buses(&steer.buses()));
    families.push(build());
    families.extend(of_process());
    // The encoder takes one without figures for a mistake: a figure that nobody here has is none.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    let written = TextEncoder::new().encode(&families, &mut text);
    written.map_err(|error| Fault::internal(format!("metrics: {error}")))?;
    Ok(text)
}

fn of_actors(steer: &dyn Steer, now: Millis) -> Vec<MetricFamily> {
    let actors = steer.actors();
    let mut families = Vec::new();
    for (kind, figures) in [(MetricType::COUNTER, COUNTERS), (MetricType::GAUGE, GAUGES)] {
        for &(name, help, of, read) in figures {
            let having = actors.iter().filter(|vitals| of.contains(&vitals.kind));
            let metrics = having.map(|vitals| metric(kind, labels(vitals, &[]), read(vitals)));
            families.push(family(name, help, kind, metrics.collect()));
        }
    }
    let readers = || actors.iter().filter(|vitals| READERS.contains(&vitals.kind));
    let lags = readers().map(|vitals| metric(MetricType::GAUGE, labels(vitals, &[]), lag_seconds(vitals, now)));
    let help = "How old the last record is that was read, where there are more; else 0.";
    families.push(family("lag_seconds", help, MetricType::GAUGE, lags.collect()));
    let lost = readers().flat_map(|vitals| {
        Reason::ALL.map(|reason| {
            let labels = labels(vitals, &[("reason", reason.word())]);
            metric(MetricType::COUNTER, labels, count(vitals.lost.of(reason)))
        })
    });
    let help = "Records lost for good: deleted by the bus before they were read, or missing where they should be.";
    families.push(family("lost_records_total", help, MetricType::COUNTER, lost.collect()));
    let states = actors.iter().flat_map(|vitals| {
        let present = word(&vitals.life().state);
        STATES.each_ref().map(|state| {
            let is_present = f64::from(u8::from(word(state) == present));
            metric(MetricType::GAUGE, labels(vitals, &[("state", word(state))]), is_present)
        })
    });
    families.push(family("actor_state", "1 for the state that the actor is in.", MetricType::GAUGE, states.collect()));
    let restarts = actors.iter().flat_map(|vitals| {
        let life = vitals.life();
        Death::ALL.map(|death| {
            let number = life.restarts.get(&death).copied().unwrap_or(0);
            metric(MetricType::COUNTER, labels(vitals, &[("cause", death.word())]), count(number))
        })
    });
    let help = "Restarts by how the life before ended.";
    families.push(family("actor_restarts_total", help, MetricType::COUNTER, restarts.collect()));
    for (kind, name, help) in [
        (Ingester, "source_to_bus_seconds", "From the receipt of an event until it is on the bus."),
        (Archiver, "bus_to_archive_seconds", "From when a record was written to the bus until readers see it."),
        (Aggregator, "event_to_table_seconds", "From when an event happened until the table counts it."),
        (Loader, "bus_to_sink_seconds", "From when a record was written to the bus until the sink has its rows."),
    ] {
        let metrics = actors.iter().filter(|vitals| vitals.kind == kind).map(|vitals| histogram(vitals));
        families.push(family(name, help, MetricType::HISTOGRAM, metrics.collect()));
    }
    families
}

fn of_buses(buses: &[BusFigures]) -> Vec<MetricFamily> {
    let families = BUSES.iter().map(|&(name, help, kind, read)| {
        let metrics =
            buses.iter().map(|figures| metric(kind, vec![label("bus", &figures.bus)], read(&figures.connections)));
        family(name, help, kind, metrics.collect())
    });
    families.collect()
}

fn build() -> MetricFamily {
    let labels = vec![label("version", env!("CARGO_PKG_VERSION"))];
    let one = metric(MetricType::GAUGE, labels, 1.0);
    family("build_info", "1, with the version as a label.", MetricType::GAUGE, vec![one])
}

/// As the Prometheus client libraries name them.
fn of_process() -> Vec<MetricFamily> {
    let Some(found) = process::look() else { return Vec::new() };
    let figures = [
        ("cpu_seconds_total", "User and system time.", MetricType::COUNTER, found.cpu_seconds),
        ("resident_memory_bytes", "Memory that is in RAM.", MetricType::GAUGE, found.resident_bytes),
        ("virtual_memory_bytes", "Address space.", MetricType::GAUGE, found.virtual_bytes),
        (
            "start_time_seconds",
            "When the process began, in seconds since 1970.",
            MetricType::GAUGE,
            found.start_seconds,
        ),
        ("threads", "Threads.", MetricType::GAUGE, found.threads),
        ("open_fds", "Open files and connections.", MetricType::GAUGE, found.open_fds),
        ("max_fds", "Files and connections that may be open.", MetricType::GAUGE, found.max_fds),
    ];
    let families = figures.map(|(name, help, kind, value)| {
        named(format!("process_{name}"), help, kind, vec![metric(kind, Vec::new(), value)])
    });
    families.into()
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    named(format!("howdah_{name}"), help, kind, metrics)
}

fn named(name: String, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name);
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn metric(kind: MetricType, labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::default();
    metric.set_label(labels);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn histogram(vitals: &Vitals) -> Metric {
    let held = vitals.latency.get();
    let bounds = crate::vitals::Histogram::BOUNDS.iter().zip(held.within);
    let buckets = bounds.map(|(&bound, within)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(Duration::from_millis(bound).as_secs_f64());
        bucket.set_cumulative_count(within);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(held.count);
    histogram.set_sample_sum(Duration::from_millis(held.sum_ms).as_secs_f64());
    let mut metric = Metric::default();
    metric.set_label(labels(vitals, &[]));
    metric.set_histogram(histogram);
    metric
}

fn labels(vitals: &Vitals, more: &[(&str, &str)]) -> Vec<LabelPair> {
    let id = &vitals.id;
    let mut labels = vec![
        label("pipeline", id.pipeline.as_str()),
        label("stage", id.stage.as_str()),
        label("replica", &id.replica.to_string()),
    ];
    labels.extend(more.iter().map(|(name, value)| label(name, value)));
    labels
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn retention(vitals: &Vitals) -> f64 {
    match vitals.retention_ms.get() {
        0 => f64::INFINITY,
        limit => seconds(limit),
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 2⁵³, which no count here reaches")]
fn count(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "as `count`")]
fn signed(number: i64) -> f64 {
    number as f64
}

fn seconds(time: Millis) -> f64 {
    signed(time) / 1000.0
}
