//! The contract, on a rename and on a link; then what only a disk can do: forget what was not
//! synced, be full, be read-only, be another one than before.

use std::{collections::BTreeMap, fs, path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use rustix::io::Errno;
use tempfile::TempDir;

use super::{LocalStore, disk::Disk, witness::Witness};
use crate::{
    fault::{Domain, Effect, Fault, Kind, Result},
    store::{
        Put, Renamed, Store, StorePath,
        contract::{Subject, store_contract},
    },
};

async fn renaming() -> Subject {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(LocalStore::open(folder.path().join("store")).await.unwrap());
    Subject { store, base: path("/base"), _keep: Box::new(folder) }
}

/// As on a kernel without a rename that refuses to replace.
async fn linking() -> Subject {
    let (store, witness, folder) = watched().await;
    witness.fail_always("rename", Errno::NOSYS);
    Subject { store: Arc::new(store), base: path("/base"), _keep: Box::new(folder) }
}

mod by_rename {
    use super::*;
    store_contract!(renaming);
}

mod by_link {
    use super::*;
    store_contract!(linking);
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn watched() -> (LocalStore, Arc<Witness>, TempDir) {
    let folder = TempDir::new().unwrap();
    let witness = Arc::new(Witness::default());
    let disk = Disk::watched_by(&witness);
    let store = LocalStore::open_on(disk, folder.path().join("made/on/opening")).await.unwrap();
    (store, witness, folder)
}

/// What a power cut would leave now, hidden temporary files aside; each file must be whole.
fn left(store: &LocalStore, witness: &Witness) -> Vec<String> {
    let left: BTreeMap<_, _> = witness.after_power_cut(store.root());
    let mut names = Vec::new();
    for (name, whole) in left {
        if !name.file_name().unwrap().to_str().unwrap().starts_with(".tmp-") {
            assert!(whole, "{} would be there, but not whole", name.display());
            names.push(name.to_str().unwrap().to_owned());
        }
    }
    names
}

/// Names of all files below a folder on the real disk.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

#[tokio::test]
async fn the_root_is_durable_once_the_store_is_open() {
    let (store, witness, folder) = watched().await;
    // A power cut is judged from the folder that was there before.
    let probes = witness.done().iter().filter(|done| done.name == "unlink").count();
    assert_eq!(probes, 1, "the test file goes again");
    store.put_if_absent(&path("/f"), bytes("x")).await.unwrap();
    let left = witness.after_power_cut(folder.path());
    assert_eq!(left.get(Path::new("made/on/opening/f")), Some(&true), "{left:?}");
    assert_eq!(files(folder.path()), ["f"]);
}

#[tokio::test]
async fn what_was_answered_survives_a_power_cut() {
    for without_rename in [false, true] {
        let (store, witness, _folder) = watched().await;
        if without_rename {
            witness.fail_always("rename", Errno::INVAL);
        }
        assert_eq!(store.put_if_absent(&path("/a/b/c/f"), bytes("x")).await.unwrap(), Put::Created);
        assert_eq!(left(&store, &witness), ["a/b/c/f"]);

        let mut writer = store.create(&path("/a/_staging/t/1")).await.unwrap();
        writer.append(bytes("one")).await.unwrap();
        writer.sync().await.unwrap();
        assert_eq!(left(&store, &witness), ["a/_staging/t/1", "a/b/c/f"]);
        writer.append(bytes("two")).await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(left(&store, &witness), ["a/_staging/t/1", "a/b/c/f"]);

        let renamed = store.rename_if_absent(&path("/a/_staging/t/1"), &path("/d/e/1")).await.unwrap();
        assert_eq!(renamed, Renamed::Done);
        assert_eq!(left(&store, &witness), ["a/b/c/f", "d/e/1"]);

        assert!(store.delete(&path("/a/b/c/f")).await.unwrap());
        assert_eq!(left(&store, &witness), ["d/e/1"]);
    }
}

#[tokio::test]
async fn the_witness_sees_a_missing_sync() {
    // What the test above rests on: bytes, name and folder each need their own.
    let folder = TempDir::new().unwrap();
    let witness = Arc::new(Witness::default());
    let disk = Disk::watched_by(&witness);
    let (sub, file) = (folder.path().join("sub"), folder.path().join("sub/f"));
    let left = || witness.after_power_cut(folder.path());
    disk.make_folder(&sub).unwrap();
    let open = disk.create(&file).unwrap();
    disk.write(&open, &file, b"x").unwrap();
    disk.sync_file(&open, &file).unwrap();
    assert_eq!(left().len(), 0, "no name is durable");
    disk.sync_folder(&sub).unwrap();
    assert_eq!(left().len(), 0, "nobody knows the folder");
    disk.sync_folder(folder.path()).unwrap();
    assert_eq!(left().into_values().collect::<Vec<_>>(), [true]);
    disk.write(&open, &file, b"y").unwrap();
    assert_eq!(left().into_values().collect::<Vec<_>>(), [false], "the new bytes are not");
    disk.unlink(&file).unwrap();
    assert_eq!(left().len(), 1, "the deletion is not durable either");
}

#[tokio::test]
async fn what_another_left_unsynced_is_synced_before_it_is_relied_on() {
    let (store, witness, _folder) = watched().await;
    let chain = path("/chain");
    store.put_if_absent(&path("/chain/0"), bytes("0")).await.unwrap();
    store.list(&chain).await.unwrap();
    let before = witness.done().len();
    store.list(&chain).await.unwrap();
    assert_eq!(witness.names_since(before), [""; 0], "a folder is settled once");

    // Another process over the same root, whose predecessor may have been killed anywhere.
    let second = Arc::new(Witness::default());
    let disk = Disk::watched_by(&second);
    let other = LocalStore::open_on(disk, store.root().to_owned()).await.unwrap();
    let before = second.done().len();
    other.list(&chain).await.unwrap();
    assert_eq!(second.names_since(before), ["sync_folder"]);
    let before = second.done().len();
    assert_eq!(other.put_if_absent(&path("/chain/0"), bytes("1")).await.unwrap(), Put::Exists);
    assert_eq!(second.names_since(before), ["sync_folder"]);
    let before = second.done().len();
    store.put_if_absent(&path("/_s/1"), bytes("0")).await.unwrap();
    let renamed = other.rename_if_absent(&path("/_s/1"), &path("/chain/0")).await.unwrap();
    assert_eq!(renamed, Renamed::TargetExists);
    assert_eq!(*second.names_since(before).last().unwrap(), "sync_folder");
}

#[tokio::test]
async fn a_known_folder_is_neither_made_nor_its_parents_synced_again() {
    let (store, witness, _folder) = watched().await;
    store.put_if_absent(&path("/a/b/1"), bytes("x")).await.unwrap();
    let before = witness.done().len();
    store.put_if_absent(&path("/a/b/2"), bytes("x")).await.unwrap();
    assert_eq!(witness.names_since(before), ["create", "write", "sync_file", "rename", "sync_folder"]);
    fs::remove_dir_all(store.root().join("a")).unwrap();
    assert_eq!(store.put_if_absent(&path("/a/b/3"), bytes("x")).await.unwrap(), Put::Created);
    let mut writer = store.create(&path("/a/_s/1")).await.unwrap();
    writer.append(bytes("x")).await.unwrap();
    writer.close().await.unwrap();
    fs::remove_dir_all(store.root().join("a/b")).unwrap();
    assert_eq!(store.rename_if_absent(&path("/a/_s/1"), &path("/a/b/4")).await.unwrap(), Renamed::Done);
}

#[tokio::test]
async fn a_failed_put_says_whether_it_may_have_happened_and_leaves_nothing() {
    for (call, expected) in [
        ("create", Effect::NotDone),
        ("write", Effect::NotDone),
        ("sync_file", Effect::NotDone),
        ("rename", Effect::Unknown),
        ("sync_folder", Effect::Unknown),
    ] {
        let (store, witness, _folder) = watched().await;
        store.put_if_absent(&path("/a/0"), bytes("x")).await.unwrap();
        witness.fail(call, 0, Errno::IO);
        let fault = store.put_if_absent(&path("/a/1"), bytes("x")).await.unwrap_err();
        assert_eq!((fault.domain, fault.effect), (Domain::External, expected), "{call}: {fault}");
        let there = store.stat(&path("/a/1")).await.unwrap().is_some();
        assert_eq!(there, call == "sync_folder", "{call}");
        assert!(files(store.root()).iter().all(|name| !name.starts_with(".tmp-")), "{call}");
        // Asked again, it stands durably, whatever the first call did.
        store.put_if_absent(&path("/a/1"), bytes("x")).await.unwrap();
        assert_eq!(left(&store, &witness), ["a/0", "a/1"], "{call}");
    }
}

#[tokio::test]
async fn a_failed_rename_says_whether_it_may_have_happened() {
    for (call, passing, errno, expected) in [
        ("rename", 0, Errno::IO, Effect::Unknown),
        ("rename", 0, Errno::NOSPC, Effect::NotDone),
        ("rename", 0, Errno::ROFS, Effect::NotDone),
        ("rename", 0, Errno::XDEV, Effect::NotDone),
        ("sync_folder", 0, Errno::IO, Effect::Unknown),
        ("sync_folder", 1, Errno::IO, Effect::Unknown),
    ] {
        let (store, witness, _folder) = watched().await;
        store.put_if_absent(&path("/_s/1"), bytes("x")).await.unwrap();
        store.put_if_absent(&path("/a/0"), bytes("x")).await.unwrap();
        witness.fail(call, passing, errno);
        let fault = store.rename_if_absent(&path("/_s/1"), &path("/a/1")).await.unwrap_err();
        assert_eq!(fault.effect, expected, "{call} {errno}: {fault}");
        let there = store.stat(&path("/a/1")).await.unwrap().is_some();
        assert_eq!(there, call == "sync_folder", "{call}");
        store.rename_if_absent(&path("/_s/1"), &path("/a/1")).await.unwrap();
        assert!(left(&store, &witness).contains(&"a/1".to_owned()), "{call}");
    }
}

#[tokio::test]
async fn a_rename_by_link_that_was_cut_off_is_finished_by_the_next() {
    let (store, witness, _folder) = watched().await;
    witness.fail_always("rename", Errno::INVAL);
    store.put_if_absent(&path("/_s/1"), bytes("x")).await.unwrap();
    witness.fail("unlink", 0, Errno::IO);
    let fault = store.rename_if_absent(&path("/_s/1"), &path("/a/1")).await.unwrap_err();
    assert_eq!(fault.effect, Effect::Unknown);
    assert!(store.stat(&path("/_s/1")).await.unwrap().is_some(), "both names stand");
    assert_eq!(store.rename_if_absent(&path("/_s/1"), &path("/a/1")).await.unwrap(), Renamed::Done);
    assert_eq!(left(&store, &witness), ["a/1"]);
    assert_eq!(files(store.root()), ["1"]);
}

#[tokio::test]
async fn a_writer_that_failed_is_of_no_more_use() {
    for call in ["write", "sync_file"] {
        let (store, witness, _folder) = watched().await;
        let mut writer = store.create(&path("/_s/1")).await.unwrap();
        witness.fail(call, 0, Errno::IO);
        let first = match writer.append(bytes("x")).await {
            Ok(()) => writer.sync().await,
            failed => failed,
        };
        assert_eq!(first.unwrap_err().domain, Domain::External);
        assert_eq!(writer.sync().await.unwrap_err().domain, Domain::Internal, "a second sync may lie");
        assert_eq!(writer.append(bytes("y")).await.unwrap_err().domain, Domain::Internal);
        assert_eq!(writer.close().await.unwrap_err().domain, Domain::Internal);
    }
}

#[tokio::test]
async fn a_writer_whose_caller_went_away_in_mid_call_is_of_no_more_use() {
    let (store, witness, _folder) = watched().await;
    let mut writer = store.create(&path("/_s/1")).await.unwrap();
    {
        let _disk_stands_still = witness.hold();
        let append = writer.append(bytes("x"));
        futures_util::pin_mut!(append);
        assert!(futures_util::poll!(append.as_mut()).is_pending());
    }
    assert_eq!(writer.append(bytes("y")).await.unwrap_err().domain, Domain::Internal);
}

#[tokio::test]
async fn a_temporary_file_that_a_killed_process_left_is_hidden_and_can_be_deleted() {
    let (store, _witness, _folder) = watched().await;
    store.put_if_absent(&path("/data/f"), bytes("x")).await.unwrap();
    fs::write(store.root().join("data/.tmp-0123"), "half").unwrap();
    let folder = path("/data");
    let listed = store.list(&folder).await.unwrap();
    let data = listed.iter().filter(|entry| !folder.join(&entry.name).is_hidden()).collect::<Vec<_>>();
    assert_eq!(data.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["f"]);
    assert_eq!(listed[0].name, ".tmp-0123", "the reaper sees it");
    assert!(store.delete(&folder.join(".tmp-0123")).await.unwrap());
    assert_eq!(store.list(&folder).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_opened_to_read_makes_nothing_and_writes_nothing() {
    let (store, _witness, folder) = watched().await;
    store.put_if_absent(&path("/f"), bytes("x")).await.unwrap();
    let reader = LocalStore::open_to_read(store.root().to_owned()).await.unwrap();
    assert_eq!(reader.read(&path("/f")).await.unwrap(), Some(bytes("x")));
    assert_eq!(reader.list(&path("/")).await.unwrap().len(), 1);
    assert!(reader.put_if_absent(&path("/g"), bytes("x")).await.is_err());
    assert!(reader.create(&path("/_s/g")).await.is_err());
    assert!(reader.rename_if_absent(&path("/f"), &path("/g")).await.is_err());
    assert!(reader.delete(&path("/f")).await.is_err());
    assert_eq!(files(folder.path()), ["f"]);
    let missing = LocalStore::open_to_read(folder.path().join("missing")).await.err().unwrap();
    assert_eq!(missing.domain, Domain::User);
    assert!(!folder.path().join("missing").exists());
}

#[tokio::test]
async fn a_root_that_is_a_file_is_the_users_fault() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    for root in ["file", "file/below"] {
        let fault = LocalStore::open(folder.path().join(root)).await.err().unwrap();
        assert_eq!(fault.domain, Domain::User, "{fault}");
        assert!(fault.message.contains("/file"), "{fault}");
    }
}

/// A small file system in memory, mounted for one test.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn new() -> Self {
        let tmpfs = Self(TempDir::new().unwrap());
        tmpfs.mount(tmpfs.0.path(), "size=1m");
        tmpfs
    }

    fn mount(&self, at: &Path, options: &str) {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "howdah-test"]).arg(at).status();
        let done = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        assert!(done, "this test mounts a small tmpfs and needs root for it (mount: {status:?})");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(self.0.path()).status();
    }
}

fn is_full(fault: &Fault, at: &str) {
    assert_eq!((fault.domain, fault.kind), (Domain::External, Kind::Full), "{fault}");
    assert!(fault.message.contains(at), "{fault}");
}

/// Fills a store's disk by a staging file; gives back what the append said.
async fn fill(store: &LocalStore) -> Fault {
    let mut writer = store.create(&path("/_staging/big")).await.unwrap();
    loop {
        if let Err(fault) = writer.append(Bytes::from(vec![0; 100_000])).await {
            return fault;
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_survived() -> Result<()> {
    let tmpfs = Tmpfs::new();
    let store = LocalStore::open(tmpfs.0.path().to_owned()).await?;
    store.put_if_absent(&path("/chain/0"), bytes("zero")).await?;
    is_full(&fill(&store).await, "/_staging/big");

    let fault = store.put_if_absent(&path("/chain/1"), Bytes::from(vec![1; 200_000])).await.unwrap_err();
    is_full(&fault, "/chain/1");
    assert_eq!(fault.effect, Effect::NotDone);
    assert_eq!(store.read(&path("/chain/1")).await?, None);
    assert_eq!(store.list(&path("/chain")).await?.len(), 1, "no half file takes the last room");
    // What stands is still found, by a put as well.
    assert_eq!(store.put_if_absent(&path("/chain/0"), Bytes::from(vec![1; 200_000])).await?, Put::Exists);
    assert_eq!(store.read(&path("/chain/0")).await?, Some(bytes("zero")));

    assert!(store.delete(&path("/_staging/big")).await?);
    assert_eq!(store.put_if_absent(&path("/chain/1"), Bytes::from(vec![1; 200_000])).await?, Put::Created);
    Ok(())
}

#[tokio::test]
async fn a_full_disk_is_said_on_opening() {
    let tmpfs = Tmpfs::new();
    fs::write(tmpfs.0.path().join("ballast"), vec![0; 2_000_000]).unwrap_err();
    is_full(&LocalStore::open(tmpfs.0.path().to_owned()).await.err().unwrap(), tmpfs.0.path().to_str().unwrap());
}

#[tokio::test]
async fn an_unwritable_folder_is_named_with_the_uid() -> Result<()> {
    let tmpfs = Tmpfs::new();
    let root = tmpfs.0.path().join("store");
    let store = LocalStore::open(root.clone()).await?;
    store.put_if_absent(&path("/a/1"), bytes("x")).await?;
    tmpfs.mount(tmpfs.0.path(), "remount,ro");
    let faults = [
        LocalStore::open(root.clone()).await.err().unwrap(),
        LocalStore::open(tmpfs.0.path().join("other")).await.err().unwrap(),
        store.put_if_absent(&path("/a/2"), bytes("x")).await.unwrap_err(),
        store.delete(&path("/a/1")).await.unwrap_err(),
        store.rename_if_absent(&path("/a/1"), &path("/a/2")).await.unwrap_err(),
        store.create(&path("/a/_s")).await.err().unwrap(),
    ];
    for fault in faults {
        assert_eq!((fault.domain, fault.effect), (Domain::User, Effect::NotDone), "{fault}");
        let uid = format!("uid {}", rustix::process::geteuid().as_raw());
        assert!(fault.message.contains(&uid), "{fault}");
        assert!(fault.message.contains(tmpfs.0.path().to_str().unwrap()), "{fault}");
    }
    assert_eq!(store.read(&path("/a/1")).await?, Some(bytes("x")));
    Ok(())
}

#[tokio::test]
async fn a_folder_on_another_mount_is_refused() -> Result<()> {
    let tmpfs = Tmpfs::new();
    let store = LocalStore::open(tmpfs.0.path().join("store")).await?;
    let inner = store.root().join("inner");
    fs::create_dir(&inner).unwrap();
    tmpfs.mount(&inner, "size=1m");
    for deep in ["/inner/f", "/inner/deeper/f"] {
        let fault = store.put_if_absent(&path(deep), bytes("x")).await.unwrap_err();
        assert_eq!(fault.domain, Domain::User, "{fault}");
        assert!(fault.message.contains("mount") && fault.message.contains("inner"), "{fault}");
    }
    assert_eq!(files(&inner), [""; 0]);
    Ok(())
}
