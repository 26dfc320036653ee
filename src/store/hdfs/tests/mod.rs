//! The HDFS store against a real NameNode and three DataNodes.

mod faults;

use std::sync::LazyLock;

use super::{HdfsStore, Settings};
use crate::{
    servers::Servers,
    store::{
        StorePath,
        contract::{Subject, store_contract},
    },
};

/// A cluster for the tests that do it no harm.
static CLUSTER: LazyLock<Servers> = LazyLock::new(|| Servers::start(&["hdfs"]));

fn settings(servers: &Servers) -> Settings {
    Settings { conf_dir: Some(servers.about("conf").into()), ..Settings::plain(servers.about("url")) }
}

fn fresh_folder() -> StorePath {
    StorePath::new(&format!("/tests/{}", uuid::Uuid::new_v4().simple())).unwrap()
}

mod contract {
    use super::{CLUSTER, HdfsStore, Subject, fresh_folder, settings, store_contract};

    async fn subject() -> Subject {
        let store = HdfsStore::open(settings(&CLUSTER)).await.unwrap();
        Subject { store: std::sync::Arc::new(store), base: fresh_folder(), _keep: Box::new(()) }
    }

    store_contract!(subject);
}
