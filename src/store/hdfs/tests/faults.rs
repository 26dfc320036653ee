//! NameNodes and DataNodes that hang, die and come back: what every call of the store does then.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{HdfsStore, Settings, fresh_folder, settings};
use crate::{
    fault::{Domain, Effect, Fault, Result, Retry},
    servers::Servers,
    store::{Put, Renamed, Store, StorePath},
};

const DEADLINE: Duration = Duration::from_secs(2);

/// An operation repeats itself for two deadlines, and its last attempt may take one more, or a few calls.
const LIMIT: Duration = Duration::from_secs(16);

async fn store(servers: &Servers) -> HdfsStore {
    let quick = Duration::from_secs(1);
    HdfsStore::open(Settings { deadline: DEADLINE, datanode_timeout: quick, ..settings(servers) }).await.unwrap()
}

/// The call fails as an outage does, and in time.
async fn ends<T>(what: &str, call: impl Future<Output = Result<T>>) -> Fault {
    let begun = Instant::now();
    let fault = tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| panic!("{what} hangs")).err();
    let fault = fault.unwrap_or_else(|| panic!("{what} went well without a server, in {:?}", begun.elapsed()));
    assert_eq!((fault.domain, fault.retry), (Domain::External, Retry::Backoff), "{what}: {fault}");
    fault
}

async fn every_call_ends(store: &HdfsStore, base: &StorePath) {
    let (there, other) = (base.join("there"), base.join("other"));
    ends("open", HdfsStore::open(store.calls().settings.clone())).await;
    ends("create", store.create(&base.join("_staging/1"))).await;
    ends("put_if_absent", store.put_if_absent(&other, Bytes::from_static(b"x"))).await;
    ends("rename_if_absent", store.rename_if_absent(&there, &other)).await;
    ends("read", store.read(&there)).await;
    ends("read_range", store.read_range(&there, 1, 1)).await;
    ends("stat", store.stat(&there)).await;
    ends("list", store.list(base)).await;
    ends("delete", store.delete(&there)).await;
}

#[tokio::test]
async fn no_call_hangs_while_the_name_node_does() {
    let servers = Servers::start(&["hdfs", "--datanodes", "1"]);
    let (store, base) = (store(&servers).await, fresh_folder());
    store.put_if_absent(&base.join("there"), Bytes::from_static(b"abc")).await.unwrap();
    let mut open = store.create(&base.join("_staging/open")).await.unwrap();
    open.append(Bytes::from_static(b"x")).await.unwrap();
    let closing = store.create(&base.join("_staging/closing")).await.unwrap();

    servers.order("pause", "nn-1");
    every_call_ends(&store, &base).await;
    ends("sync", open.sync()).await;
    ends("close", closing.close()).await;
    servers.order("resume", "nn-1");

    // A deletion without an answer may have been done, and so may a rename.
    let all: Vec<_> = [&base.join("there"), &base.join("other")].into_iter().cloned().collect();
    let mut found = Vec::new();
    for path in &all {
        found.extend(store.read(path).await.unwrap());
    }
    assert!(found.iter().all(|bytes| &bytes[..] == b"abc" || &bytes[..] == b"x"), "whole or not at all: {found:?}");
    assert_eq!(store.put_if_absent(&base.join("after"), Bytes::from_static(b"y")).await.unwrap(), Put::Created);

    servers.order("kill", "nn-1");
    every_call_ends(&store, &base).await;
    servers.order("start", "nn-1");
    // Also through safe mode, in which it takes no writes.
    let begun = Instant::now();
    while store.put_if_absent(&base.join("again"), Bytes::from_static(b"z")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the NameNode is back");
    }
    assert_eq!(store.read(&base.join("again")).await.unwrap(), Some(Bytes::from_static(b"z")));
}

#[tokio::test]
async fn a_data_node_that_dies_or_hangs_costs_attempts_and_no_file() {
    let servers = Servers::start(&["hdfs"]);
    let base = fresh_folder();
    let store = HdfsStore::open(Settings { replication: Some(2), ..settings(&servers) }).await.unwrap();
    for (order, node) in [("kill", "dn-1"), ("pause", "dn-2")] {
        servers.order(order, node);
        for n in 0..8 {
            let path = base.join(&format!("{node}/{n}"));
            assert_eq!(store.put_if_absent(&path, Bytes::from(vec![7; 10_000])).await.unwrap(), Put::Created);
            assert_eq!(store.read(&path).await.unwrap().unwrap().len(), 10_000);
        }
        let left = store.list(&base.join(node)).await.unwrap();
        let names: Vec<_> = left.iter().map(|entry| entry.name.as_str()).filter(|name| name.starts_with('.')).collect();
        // What failed on the way is deleted; the last ones may still be.
        assert!(names.len() <= 3, "{names:?}");
        if order == "kill" {
            servers.order("start", node);
            servers.settle();
        }
    }
    servers.order("resume", "dn-2");

    servers.order("kill", "dn-1");
    servers.order("kill", "dn-2");
    servers.order("kill", "dn-3");
    let mut writer = store.create(&base.join("_staging/nowhere")).await.unwrap();
    let written = async {
        writer.append(Bytes::from(vec![1; 1 << 20])).await?;
        writer.close().await
    };
    let fault = tokio::time::timeout(Duration::from_secs(30), written).await.expect("in time").unwrap_err();
    assert_eq!(fault.domain, Domain::External, "{fault}");
}

/// The other NameNode takes over, and nothing is set up anew.
#[tokio::test]
async fn a_name_service_is_followed_to_the_name_node_that_is_active() {
    let servers = Servers::start(&["hdfs", "--ha", "--datanodes", "1"]);
    let (store, base) = (HdfsStore::open(settings(&servers)).await.unwrap(), fresh_folder());
    assert_eq!(store.describe(), "store hdfs://howdahtest");
    store.put_if_absent(&base.join("before"), Bytes::from_static(b"1")).await.unwrap();
    servers.order("kill", "nn-1");
    let over = servers.tool("haadmin", &["-transitionToActive", "--forceactive", "nn2"], "");
    assert!(over.ok, "{}", over.errors);
    let begun = Instant::now();
    while store.put_if_absent(&base.join("after"), Bytes::from_static(b"2")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody takes writes");
    }
    assert_eq!(store.read(&base.join("before")).await.unwrap(), Some(Bytes::from_static(b"1")));
    assert_eq!(store.rename_if_absent(&base.join("after"), &base.join("moved")).await.unwrap(), Renamed::Done);
}

/// What the first attempt may have done, no later answer undoes.
#[tokio::test]
async fn a_refusal_after_an_unclear_attempt_is_unclear_too() {
    let store = HdfsStore::open(settings(&super::CLUSTER)).await.unwrap();
    let told = async |answers: Vec<Fault>| {
        let mut answers = answers.into_iter();
        let fault = store.persist(|| std::future::ready(Err::<(), _>(answers.next().unwrap()))).await.unwrap_err();
        (fault.message, fault.effect)
    };
    let refused = || Fault::user("refused");
    assert_eq!(told(vec![refused()]).await, ("refused".to_owned(), Effect::NotDone));
    let unclear = Fault::external("no answer").unknown_effect();
    assert_eq!(told(vec![unclear, refused()]).await, ("refused".to_owned(), Effect::Unknown));
}

/// Rights are a person's business: the fault says who lacks which, and waits.
#[tokio::test]
async fn a_right_that_is_lacking_is_named() {
    let servers = &super::CLUSTER;
    let root = HdfsStore::open(settings(servers)).await.unwrap();
    let base = fresh_folder();
    root.put_if_absent(&base.join("private/there"), Bytes::from_static(b"x")).await.unwrap();
    let closed = servers.tool("fs", &["-chmod", "700", base.join("private").as_str()], "");
    assert!(closed.ok, "{}", closed.errors);
    let bob = HdfsStore::open(Settings { user: Some("bob".to_owned()), ..settings(servers) }).await.unwrap();
    let check = |what: &str, fault: Fault| {
        assert_eq!((fault.domain, fault.retry), (Domain::User, Retry::Backoff), "{what}: {fault}");
        assert!(fault.message.contains("Permission denied: user=bob"), "{what}: {fault}");
    };
    check("put", bob.put_if_absent(&base.join("new"), Bytes::from_static(b"y")).await.unwrap_err());
    check("create", bob.create(&base.join("_staging/1")).await.err().unwrap());
    check("read", bob.read(&base.join("private/there")).await.unwrap_err());
    check("list", bob.list(&base.join("private")).await.unwrap_err());
    let mode = |path: &StorePath| servers.tool("fs", &["-stat", "%a %r %o", path.as_str()], "").output;
    let careful = Settings {
        file_mode: 0o640,
        folder_mode: 0o750,
        replication: Some(2),
        block_size: Some(1 << 20),
        ..settings(servers)
    };
    let careful = HdfsStore::open(careful).await.unwrap();
    let path = base.join("careful/file");
    careful.put_if_absent(&path, Bytes::from_static(b"y")).await.unwrap();
    assert_eq!(mode(&path).trim(), "640 2 1048576");
}
