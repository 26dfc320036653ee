//! What the clients of a bus count of their connections.

use super::{Counter, Gauge};

/// What the clients of a bus count together of their connections to its servers.
#[derive(Debug, Default)]
pub struct Connections {
    /// Requests sent.
    pub requests: Counter,
    /// Bytes sent.
    pub bytes_sent: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Requests that could not be sent, and answers that could not be read.
    pub errors: Counter,
    /// Requests sent once more.
    pub retries: Counter,
    /// Requests that were not answered in time.
    pub timeouts: Counter,
    /// Connections that ended.
    pub disconnects: Counter,
    /// Servers that the client which told last is connected to.
    pub brokers_up: Gauge,
    /// Of the client which told last: how long 99 of 100 requests take at most, to the slowest server, in
    /// microseconds.
    pub round_trip_us: Gauge,
}
