//! howdah: a distributed actor system for streaming ingestion on Hadoop clusters.

pub mod actors;
pub mod archive;
pub mod bus;
pub mod chain;
pub mod cli;
pub mod collect;
pub mod config;
pub mod failpoint;
pub mod fault;
pub mod model;
pub mod node;
pub mod recorded;
#[cfg(test)]
pub mod sim;
pub mod store;
pub mod supervise;
pub mod table;
pub mod vitals;
