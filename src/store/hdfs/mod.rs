//! HDFS as the store, by way of hdfs-native: no JVM of ours.
//!
//! HDFS makes `rename` without overwriting atomic, and that is all that is asked of it
//! (*Hadoop FileSystem specification*, "Atomicity"). A file is written under a temporary name and closed
//! before it gets its own; nothing is ever appended to, and no lease is taken for a lock. After an error
//! on the way the file is given up and written from scratch under another name: the NameNode goes on
//! offering a dead DataNode for up to ten minutes, and hdfs-native asks for no other.
//!
//! An error of a rename or a deletion may come after it was done. Both are repeated until the answer
//! is clear: a temporary name is used once, so the second rename tells what became of the first.
//!
//! Every call has a deadline ([`Settings::deadline`]), and no call is made on its caller's thread
//! (`calls`).
//!
//! On a cluster that is guarded by Kerberos, MIT's library is loaded at run time (`libgssapi_krb5.so.2`);
//! it reads `KRB5_CONFIG` or `/etc/krb5.conf`. Tickets are got from the keytab when a connection to a NameNode
//! is opened; an open one outlives its ticket, and DataNodes ask for none.
//!
//! The settings are known to every howdah, so that a file means the same to all of them; one that was
//! built without the cargo feature `hdfs` refuses to open such a store.

mod settings;

#[cfg(feature = "hdfs")]
mod calls;
#[cfg(feature = "hdfs")]
mod faults;
#[cfg(feature = "hdfs")]
mod store;
#[cfg(test)]
#[cfg(feature = "hdfs")]
mod tests;
#[cfg(feature = "hdfs")]
mod writer;

pub use settings::{Durability, Kerberos, Settings};
#[cfg(feature = "hdfs")]
pub use store::HdfsStore;
