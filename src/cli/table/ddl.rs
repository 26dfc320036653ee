//! `howdah table ddl`: the statements that make a table known to Spark, Hive and Trino.
//!
//! Through Delta a program sees every commit at once; through plain Parquet it sees each hour once it is
//! final, and has to be told of a new day (the partitions).

use crate::table::{Columns, Settings};

/// For whom the statements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// Spark SQL with Delta Lake.
    Spark,
    /// Hive, over the final hours.
    Hive,
    /// Trino: the Delta Lake connector, and the Hive connector over the final hours.
    Trino,
}

/// The statements for one table that lies at this URL.
pub fn statements(dialect: Dialect, settings: &Settings, columns: &Columns, url: &str) -> String {
    let name = settings.path.name();
    match dialect {
        Dialect::Spark => format!(
            "-- {name} for Spark with Delta Lake: every commit\n\
             CREATE TABLE IF NOT EXISTS {name} USING delta LOCATION '{url}';\n"
        ),
        Dialect::Hive => format!(
            "-- {name} for Hive: final hours\n\
             CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{}\n)\n\
             PARTITIONED BY (`dt` STRING)\n\
             STORED AS PARQUET\n\
             LOCATION '{url}';\n\
             -- once a day, after its first final hour:\n\
             MSCK REPAIR TABLE {name};\n",
            list(columns, '`', ["TIMESTAMP", "STRING", "BIGINT", "DOUBLE"])
        ),
        Dialect::Trino => format!(
            "-- {name} for Trino's Delta Lake connector: every commit\n\
             CALL delta.system.register_table(schema_name => 'default', table_name => '{name}', table_location => '{url}');\n\
             -- {name} for Trino's Hive connector: final hours\n\
             CREATE TABLE IF NOT EXISTS hive.default.{name} (\n{},\n  \"dt\" VARCHAR\n)\n\
             WITH (external_location = '{url}', format = 'PARQUET', partitioned_by = ARRAY['dt']);\n\
             -- once a day, after its first final hour:\n\
             CALL hive.system.sync_partition_metadata('default', '{name}', 'ADD');\n",
            list(columns, '"', ["TIMESTAMP", "VARCHAR", "BIGINT", "DOUBLE"])
        ),
    }
}

/// The columns but `dt`, one a line; the types are those of a time, a text, a whole and another number.
fn list(columns: &Columns, quote: char, [time, text, whole, other]: [&str; 4]) -> String {
    let times = ["window_start", "window_end"].into_iter().map(|name| (name, time));
    let keys = columns.keys.iter().map(|name| (name.as_str(), text));
    let measures = columns.measures.iter().map(|c| (c.name.as_str(), if c.op.whole() { whole } else { other }));
    let line = |(name, of): (&str, &str)| format!("  {quote}{name}{quote} {of}");
    times.chain(keys).chain(measures).map(line).collect::<Vec<_>>().join(",\n")
}
