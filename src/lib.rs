//! howdah: a distributed actor system for streaming ingestion on Hadoop clusters.
//!
//! This page is the map: what the system is seen from above, where things are, and what is
//! deliberately never done.
//!
//! # Bird's eye view
//!
//! ```text
//! a source ─► collector ─► spool ─► ingester ─► bus ─┬─► archiver ───► store   raw files
//!                        (disk)                      ├─► aggregator ─► store   live table
//!                                                    └─► loader ─────► sink    points, documents
//! ```
//!
//! A source is a server of events, an API that is polled, or a folder of files; a sink InfluxDB, Elasticsearch or
//! OpenSearch.
//!
//! A *pipeline* is one configuration file; its vertices are *stages*, a running replica of a stage
//! is an *actor* (`wikimedia/archive/0`), and what an actor owns per partition is a *lane*. Stages
//! meet only on the bus (collector and ingester on the spool), so that any of them may die and
//! begin again from what is durable. The bus is embedded or Kafka, the store is the local file system or
//! HDFS; both are traits with a contract suite that every implementation passes.
//!
//! Four promises carry everything:
//! - what was received is on disk before it counts, and on the bus exactly once ([`collect`]);
//! - every record of a topic is in the archive exactly once, byte for byte, in order ([`archive`]);
//! - a table is a pure function of the records, and readers always see a consistent snapshot
//!   ([`table`]);
//! - every good record is in the sink, and sending it again changes nothing there ([`load`]).
//!
//! All of them rest on one primitive: *put if absent, then read back and adopt what stands there*
//! ([`chain`]). No clock, lease, lock service or epoch decides who is right.
//!
//! # Code map
//!
//! A part imports only what stands to its right (`tests/tidy.rs` holds it):
//!
//! `main → cli → recorded → node → api, actors, config → supervise → collect, archive, table, load → chain →
//! bus, store → vitals, trace, disk, health, web → model, fault`
//!
//! - [`cli`]: one file a command. [`recorded`]: recorded events and answers, served as their services do.
//! - [`node`]: wiring, the only place that names every kind of actor; ordered shutdown.
//! - [`api`]: the HTTP API, and what a node lets be asked of it ([`api::steer`]).
//! - [`actors`]: thin; they translate messages, call the heart, do the effect, count.
//! - [`config`]: TOML as written → as meant, all complaints at once.
//! - [`supervise`]: restart strategies, policies, back-off, escalation; bounded mailboxes.
//! - [`collect`], [`archive`], [`table`], [`load`]: the hearts: protocols as plain `async fn`s over the traits
//!   of bus and store, and pure functions below them. Nothing here knows an actor.
//! - [`chain`], [`bus`], [`store`]: what they stand on.
//! - [`vitals`]: every figure an actor counts, named once. [`trace`]: a sample of the batches, as spans over
//!   OTLP. [`disk`]: folders that outlive a power cut. [`health`]: what `howdah doctor` finds.
//!   [`web`]: asking other services over HTTP. [`model`], [`fault`]: the nouns.
//!
//! # Invariants
//!
//! - Memory never decides what is durable: after any unclear answer the store or the bus is read.
//! - A batch says from where to where it was read; a consumer takes it only if that begins where it
//!   stands. So a gap is seen by the reader itself or it is no gap.
//! - Nothing visible in a store ever changes (a rebuilt hour is another file, and the old one goes first);
//!   nothing is deleted that an entry or a log names.
//! - Bytes on disk or bus carry a format number.
//! - Every queue is bounded and waiting is measured; nothing is dropped because something is full.
//! - Handlers do no blocking work; only the parts that own files and SQLite block, on threads of
//!   their own.
//! - No ambient clock, no ambient environment, no `do_send` (`clippy.toml` bans them).
//!
//! # Why it is so
//!
//! - *Protocols are `async fn`s over the traits, not hand-written state machines.* The model
//!   histories run these very functions on an executor of their own, in which every call to bus or
//!   store may be delayed, lost, repeated or unclear, and every owner frozen, killed or without
//!   power. A state machine beside the code that runs would be a second description to keep true.
//! - *A fault that may pass never kills an actor; it waits, says on what, and opens its lane anew.*
//!   So an outage of a service is no restart, and restarts mean that something is wrong with us.
//! - *A send to Kafka ends when readers see it, not when it is committed*: the brokers write a transaction's
//!   marker after they have answered, and whoever reads back at once would miss what was acknowledged.
//! - *Kafka's records are handed out only after their topic has been asked for*: librdkafka goes on at the same
//!   offset in a topic that was made anew. One question serves many batches.
//! - *A producer of Kafka's that met anything unclear is of no more use*, also where the commit went well: a
//!   late request of it could meet the next transaction. Its holder opens anew and reads back as after a crash.
//! - *SQLite for the embedded bus*: its transactions cover records, positions and the comparison of
//!   the producer's epoch; a log of our own would need all of that proven again.
//! - *A commit of a table is proven by a marker, not by the version before it.* Who cleans the log says first
//!   up to where; a commit counts if no marker has passed what it was built on. That the version before
//!   still stands proves nothing: it may be the left-over of another sleeper.
//! - *An hour is closed in the log before its merged file gets its name.* Plain readers see the file at
//!   once, and a partition that is added in between must not add to it.
//! - *The archive comes in as one more bus* ([`archive::BackedBus`]): who reads a topic need not know where its
//!   records are by now, and a hole that it sees is one that nobody can fill.
//! - *A rebuilt hour has a generation, and it is part of the file's name.* Whoever clears an older one deletes
//!   first what is staged and then what is seen, and whoever brings a file looks at the log between staging
//!   and rename: a sleeper finds the newer generation there, or its own file gone.
//! - *The batch at work is remembered beside the actor, not by its supervisor*: only its reader can tell a
//!   batch from a record, and only a panic says something of either. After two deaths in the same batch its
//!   records are taken one by one, which finds the record in two more; halving would take ten.
//! - *A pause is a valve before what brings data to an actor, not a state of it*: handlers need not know of it, and
//!   what an actor has taken it brings to its end. It lies with the reference, so it outlives the actor's deaths.
//! - *What a person wants is written down before it is done*: a crash in between does it with the next start.
//! - *A step is noted beside the actor before it is done, and counted by whichever life learns that it is durable*:
//!   a life that ends in between would leave it uncounted, and figures that are nearly right are trusted once.
//! - *A row is known in its sink by its place in the topic, and the key index names the winner's place.* An index that
//!   only knew which keys are there would take a replayed winner for a repetition of itself, and lose it.
//! - *First the sink, then the bus*: position, won keys and dead letters are one transaction, after the sink has
//!   answered for every row. The keys' topic is kept by age, not compacted: a key is written once for each time it is won.
//! - *A file of a folder is done when its events are durable, not when it is read*: whoever reads it learns that
//!   from the spool's end ([`collect::source::Around`]), so an answer of the disk is part of the source's own loop.
//! - *A loader that is fenced opens anew*: two instances by mistake do the same work twice, which changes nothing in a
//!   sink. One that stopped would leave none once the other is mended.
//! - *Spans go past `tracing`*: they begin with data and end with its commit, in another actor minutes later. A span
//!   that is a scope of code ends with the function, and its life with the actor's.
//! - *A broker's word that a topic is gone counts only if it knows others*: with ZooKeeper, one that has just started
//!   knows none yet and says of each that it does not exist.
//! - *The Delta log is written by our own few hundred lines*: the libraries' conflict rules refuse
//!   each other's commits in this workload, and so Spark, DuckDB and `deltalake` stay independent
//!   judges of what we write.

pub mod actors;
pub mod api;
pub mod archive;
pub mod bus;
pub mod chain;
pub mod cli;
pub mod collect;
pub mod config;
pub mod disk;
pub mod failpoint;
pub mod fault;
pub mod health;
pub mod load;
pub mod model;
pub mod node;
pub mod recorded;
pub mod store;
pub mod supervise;
pub mod table;
pub mod trace;
pub mod vitals;
pub mod web;

#[cfg(test)]
pub mod sim;

/// The tests' real servers.
#[cfg(test)]
#[allow(
    dead_code,
    clippy::print_stdout,
    reason = "the integration tests need the rest, and tests say what they run against"
)]
#[path = "../tests/servers/client.rs"]
mod servers;
