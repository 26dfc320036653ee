//! The second pipeline before real sinks: InfluxDB and OpenSearch.

mod counts;
mod dashboards;
mod guarded;
mod hell;
mod http;
mod kills;
mod stand;
