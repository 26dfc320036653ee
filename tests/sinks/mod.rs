//! The second pipeline before real sinks: InfluxDB and OpenSearch.

mod kills;
mod stand;
