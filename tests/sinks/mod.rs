//! The second pipeline before real sinks: InfluxDB and OpenSearch.

mod hell;
mod http;
mod kills;
mod stand;
