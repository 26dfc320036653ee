//! The pipeline that ships on a real Kafka and a real HDFS, in good days and in bad ones; what is left
//! there is judged by `tests/judge`, which shares no code with howdah.

mod commands;
mod faults;
mod kerberos;
mod kills;
mod owners;
mod stand;
mod topics;
