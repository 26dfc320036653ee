//! What the HDFS store is told.

use std::{path::PathBuf, time::Duration};

/// When a closed file counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Once every DataNode of its pipeline has the bytes, in memory at least: what Hive, Spark and
    /// Flume do. A power cut that takes all of them at once may take bytes that were written just before.
    Close,
    /// Once every DataNode has them on its disk.
    Hsync,
}

/// Who we are, by Kerberos.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kerberos {
    /// The name with its realm: `howdah@EXAMPLE.ORG`, or `howdah/host@EXAMPLE.ORG`.
    pub principal: String,
    /// The file that holds its keys.
    pub keytab: PathBuf,
}

/// What the HDFS store is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// `hdfs://host:port`, or `hdfs://name` of a name service that `core-site.xml` and `hdfs-site.xml` explain.
    pub url: String,
    /// The folder of these two files; `None`: that of the environment's `HADOOP_CONF_DIR`, if any.
    pub conf_dir: Option<PathBuf>,
    /// As whom; `None`: `HADOOP_USER_NAME`, or who the process is.
    pub user: Option<String>,
    /// As whom on a cluster that is guarded by Kerberos. `None`: if its files say that it is, whoever the
    /// process's own tickets name (`KRB5CCNAME`), which somebody else has to renew.
    pub kerberos: Option<Kerberos>,
    /// Copies of each block; `None`: as the cluster has it.
    pub replication: Option<u32>,
    /// Bytes of a block; `None`: as the cluster has it.
    pub block_size: Option<u64>,
    /// When a closed file counts.
    pub durability: Durability,
    /// Permission of new files, such as `0o640`.
    pub file_mode: u32,
    /// Permission of new folders.
    pub folder_mode: u32,
    /// How long one call may take in all. What is not answered by then is a fault.
    pub deadline: Duration,
    /// How long a DataNode may be silent in a transfer before another is asked. A small part of the
    /// deadline, so that some can be tried in it.
    pub datanode_timeout: Duration,
}

impl Settings {
    /// The settings of this cluster, everything else as it comes.
    pub fn plain(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            conf_dir: None,
            user: None,
            kerberos: None,
            replication: None,
            block_size: None,
            durability: Durability::Close,
            file_mode: 0o644,
            folder_mode: 0o755,
            deadline: Duration::from_secs(10),
            datanode_timeout: Duration::from_secs(3),
        }
    }
}
