//! What every store must keep, as one suite that each of them runs.
//!
//! A store's tests say `store_contract!(subject)`, where `subject` is an async function without
//! arguments that makes a [`Subject`]: a store, an empty folder within it that the case may fill,
//! and whatever has to live as long. Each case becomes a test of its own.

use std::any::Any;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Put, Renamed, SharedStore, StorePath};
use crate::fault::Domain;

/// What a case is run on.
pub(crate) struct Subject {
    /// The store.
    pub(crate) store: SharedStore,
    /// A folder that is empty or missing.
    pub(crate) base: StorePath,
    /// Dropped at the end of the case: a temporary folder, a client.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

macro_rules! cases {
    ($dollar:tt $($case:ident)*) => {
        /// Runs the suite: a test per case. See the module's text.
        macro_rules! store_contract {
            ($dollar subject:path) => {
                $(
                    #[tokio::test]
                    async fn $case() {
                        $crate::store::contract::$case($dollar subject().await).await;
                    }
                )*
            };
        }
        pub(crate) use store_contract;
    };
}

cases! { $
    a_put_file_reads_back_and_is_alone_in_its_folder
    of_many_puts_one_creates_and_its_bytes_stand
    a_put_where_a_file_stands_changes_nothing
    puts_that_need_the_same_missing_folders_all_succeed
    an_empty_file_is_a_file
    a_rename_moves_bytes_and_makes_missing_folders
    a_rename_never_replaces
    a_rename_without_a_source_says_so
    a_file_renamed_to_itself_stays
    of_many_renames_to_one_target_one_wins_and_the_others_keep_their_source
    of_many_renames_of_one_source_to_one_target_one_has_done_it
    of_many_renames_of_one_source_to_many_targets_one_has_done_it
    what_is_missing_is_none_and_no_fault
    a_range_ends_where_the_file_ends
    a_listing_is_sorted_and_flags_folders
    a_file_written_in_odd_pieces_reads_back_whole
    an_unclosed_file_is_in_no_folder_of_data
    what_was_closed_may_be_renamed_into_data
    a_file_is_never_begun_where_readers_take_it_for_data
    a_file_is_never_begun_where_one_stands
    a_deleted_file_is_gone_and_its_place_is_free
    a_folder_is_no_file
    a_file_is_no_folder
    a_path_has_one_meaning_however_it_is_written
    names_may_hold_what_file_systems_allow
}

const RACERS: usize = 16;

impl Subject {
    fn at(&self, path: &str) -> StorePath {
        self.base.join(path)
    }

    async fn put(&self, path: &str, bytes: &'static str) -> Put {
        self.store.put_if_absent(&self.at(path), Bytes::from_static(bytes.as_bytes())).await.unwrap()
    }

    async fn rename(&self, from: &str, to: &str) -> Renamed {
        self.store.rename_if_absent(&self.at(from), &self.at(to)).await.unwrap()
    }

    async fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.store.read(&self.at(path)).await.unwrap().map(|bytes| bytes.to_vec())
    }

    /// Names in a folder, those of folders with a `/` behind.
    async fn names(&self, folder: &str) -> Vec<String> {
        let folder = if folder.is_empty() { self.base.clone() } else { self.at(folder) };
        let entries = self.store.list(&folder).await.unwrap();
        entries.into_iter().map(|entry| if entry.folder { entry.name + "/" } else { entry.name }).collect()
    }

    async fn write(&self, path: &str, bytes: &'static str) {
        let mut writer = self.store.create(&self.at(path)).await.unwrap();
        writer.append(Bytes::from_static(bytes.as_bytes())).await.unwrap();
        writer.close().await.unwrap();
    }
}

fn text(bytes: &str) -> Option<Vec<u8>> {
    Some(bytes.as_bytes().to_vec())
}

pub(crate) async fn a_put_file_reads_back_and_is_alone_in_its_folder(s: Subject) {
    assert_eq!(s.put("a/b/one.json", "{\"a\":1}").await, Put::Created);
    assert_eq!(s.read("a/b/one.json").await, text("{\"a\":1}"));
    assert_eq!(s.names("a/b").await, ["one.json"]);
    assert_eq!(s.names("a").await, ["b/"]);
    assert_eq!(s.names("").await, ["a/"]);
}

pub(crate) async fn of_many_puts_one_creates_and_its_bytes_stand(s: Subject) {
    for round in 0..4 {
        let path = s.at(&format!("chain/{round:020}.json"));
        // Of different lengths, so that a mixture would show.
        let bytes = |racer: usize| Bytes::from(format!("{racer},").repeat(1_000 * (racer + 1)));
        let puts = join_all((0..RACERS).map(|racer| s.store.put_if_absent(&path, bytes(racer)))).await;
        let puts = puts.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let winners = (0..RACERS).filter(|racer| puts[*racer] == Put::Created).collect::<Vec<_>>();
        assert_eq!(winners.len(), 1, "{puts:?}");
        assert_eq!(s.store.read(&path).await.unwrap(), Some(bytes(winners[0])));
    }
    assert_eq!(s.names("chain").await.len(), 4, "something else was left in the folder");
}

pub(crate) async fn a_put_where_a_file_stands_changes_nothing(s: Subject) {
    s.put("f", "first").await;
    let before = s.store.stat(&s.at("f")).await.unwrap();
    assert_eq!(s.put("f", "second").await, Put::Exists);
    assert_eq!(s.put("f", "first").await, Put::Exists, "the same bytes are no reason to say otherwise");
    assert_eq!(s.read("f").await, text("first"));
    assert_eq!(s.store.stat(&s.at("f")).await.unwrap(), before);
    assert_eq!(s.names("").await, ["f"]);
}

pub(crate) async fn puts_that_need_the_same_missing_folders_all_succeed(s: Subject) {
    let paths = (0..RACERS).map(|n| s.at(&format!("deep/er/still/{n:02}"))).collect::<Vec<_>>();
    let puts = join_all(paths.iter().map(|path| s.store.put_if_absent(path, Bytes::from_static(b"x")))).await;
    assert!(puts.into_iter().all(|put| put.unwrap() == Put::Created));
    assert_eq!(s.names("deep/er/still").await.len(), RACERS);
}

pub(crate) async fn an_empty_file_is_a_file(s: Subject) {
    assert_eq!(s.put("empty", "").await, Put::Created);
    assert_eq!(s.put("empty", "x").await, Put::Exists);
    assert_eq!(s.read("empty").await, text(""));
    let entry = s.store.stat(&s.at("empty")).await.unwrap().unwrap();
    assert_eq!((entry.name.as_str(), entry.len, entry.folder), ("empty", 0, false));

    s.store.create(&s.at("_staging/empty")).await.unwrap().close().await.unwrap();
    assert_eq!(s.rename("_staging/empty", "data/empty").await, Renamed::Done);
    assert_eq!(s.read("data/empty").await, text(""));
}

pub(crate) async fn a_rename_moves_bytes_and_makes_missing_folders(s: Subject) {
    s.write("_staging/1", "moved").await;
    assert_eq!(s.rename("_staging/1", "year/month/1.jsonl").await, Renamed::Done);
    assert_eq!(s.read("year/month/1.jsonl").await, text("moved"));
    assert_eq!(s.read("_staging/1").await, None);
    assert_eq!(s.names("_staging").await, [""; 0]);
    assert_eq!(s.names("year/month").await, ["1.jsonl"]);
}

pub(crate) async fn a_rename_never_replaces(s: Subject) {
    s.put("from", "new").await;
    s.put("to", "old").await;
    assert_eq!(s.rename("from", "to").await, Renamed::TargetExists);
    assert_eq!((s.read("from").await, s.read("to").await), (text("new"), text("old")));
}

pub(crate) async fn a_rename_without_a_source_says_so(s: Subject) {
    s.put("folder/there", "x").await;
    assert_eq!(s.rename("folder/gone", "folder/new").await, Renamed::SourceMissing);
    assert_eq!(s.rename("no/folder/gone", "folder/new").await, Renamed::SourceMissing);
    // Whoever repeats a rename that was done after all learns that the target stands.
    assert_eq!(s.rename("folder/gone", "folder/there").await, Renamed::TargetExists);
    assert_eq!(s.rename("no/folder/gone", "folder/there").await, Renamed::TargetExists);
    assert_eq!(s.names("folder").await, ["there"]);
}

pub(crate) async fn a_file_renamed_to_itself_stays(s: Subject) {
    s.put("same", "x").await;
    assert_eq!(s.rename("same", "same").await, Renamed::TargetExists);
    assert_eq!(s.read("same").await, text("x"));
}

pub(crate) async fn of_many_renames_to_one_target_one_wins_and_the_others_keep_their_source(s: Subject) {
    let source = |racer: usize| s.at(&format!("_staging/{racer}"));
    let bytes = |racer: usize| Bytes::from(format!("bytes of {racer}"));
    for racer in 0..RACERS {
        s.store.put_if_absent(&source(racer), bytes(racer)).await.unwrap();
    }
    let target = s.at("out/final");
    let sources = (0..RACERS).map(source).collect::<Vec<_>>();
    let renames = join_all(sources.iter().map(|source| s.store.rename_if_absent(source, &target))).await;
    let mut winner = None;
    for (racer, renamed) in renames.into_iter().enumerate() {
        match renamed.unwrap() {
            Renamed::Done => assert!(winner.replace(racer).is_none(), "two winners"),
            Renamed::TargetExists => {
                assert_eq!(s.store.read(&source(racer)).await.unwrap(), Some(bytes(racer)));
            }
            Renamed::SourceMissing => panic!("the source of {racer} stood there"),
        }
    }
    let winner = winner.expect("no winner");
    assert_eq!(s.store.read(&target).await.unwrap(), Some(bytes(winner)));
    assert_eq!(s.store.read(&source(winner)).await.unwrap(), None);
    assert_eq!(s.names("_staging").await.len(), RACERS - 1);
}

pub(crate) async fn of_many_renames_of_one_source_to_one_target_one_has_done_it(s: Subject) {
    s.put("_staging/one", "x").await;
    let (from, to) = (s.at("_staging/one"), s.at("out/one"));
    let renames = join_all((0..RACERS).map(|_| s.store.rename_if_absent(&from, &to))).await;
    let renames = renames.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(renames.iter().filter(|renamed| **renamed == Renamed::Done).count(), 1, "{renames:?}");
    assert_eq!(renames.iter().filter(|renamed| **renamed == Renamed::TargetExists).count(), RACERS - 1, "{renames:?}");
    assert_eq!((s.read("_staging/one").await, s.read("out/one").await), (None, text("x")));
}

pub(crate) async fn of_many_renames_of_one_source_to_many_targets_one_has_done_it(s: Subject) {
    s.put("_staging/one", "x").await;
    let from = s.at("_staging/one");
    let targets = (0..RACERS).map(|n| s.at(&format!("out/{n}"))).collect::<Vec<_>>();
    let renames = join_all(targets.iter().map(|to| s.store.rename_if_absent(&from, to))).await;
    let renames = renames.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    let winner = renames.iter().position(|renamed| *renamed == Renamed::Done).expect("no winner");
    assert_eq!(renames.iter().filter(|r| **r == Renamed::SourceMissing).count(), RACERS - 1, "{renames:?}");
    assert_eq!(s.names("out").await, [winner.to_string()]);
}

pub(crate) async fn what_is_missing_is_none_and_no_fault(s: Subject) {
    s.put("there/file", "x").await;
    for missing in ["there/other", "nowhere/at/all", "there/file/below"] {
        let path = s.at(missing);
        assert_eq!(s.store.read(&path).await.unwrap(), None, "{missing}");
        assert_eq!(s.store.read_range(&path, 0, 10).await.unwrap(), None, "{missing}");
        assert_eq!(s.store.stat(&path).await.unwrap(), None, "{missing}");
        assert_eq!(s.store.list(&path).await.unwrap(), [], "{missing}");
        assert!(!s.store.delete(&path).await.unwrap(), "{missing}");
    }
    assert_eq!(s.names("").await, ["there/"], "looking for a file makes nothing");
}

pub(crate) async fn a_range_ends_where_the_file_ends(s: Subject) {
    s.put("digits", "0123456789").await;
    let path = s.at("digits");
    for (offset, len, expected) in [
        (0, 10, "0123456789"),
        (0, 4, "0123"),
        (4, 3, "456"),
        (7, 100, "789"),
        (0, usize::MAX, "0123456789"),
        (9, 1, "9"),
        (10, 1, ""),
        (11, 5, ""),
        (1 << 40, 5, ""),
        (3, 0, ""),
    ] {
        let range = s.store.read_range(&path, offset, len).await.unwrap();
        assert_eq!(range, Some(Bytes::from_static(expected.as_bytes())), "{len} bytes from {offset} on");
    }
}

pub(crate) async fn a_listing_is_sorted_and_flags_folders(s: Subject) {
    for path in ["b", "a.jsonl", "_chain/1", "c/x", "b-2", "B", "_done", ".hidden", "c.d", "00000000000000000010", "9"]
    {
        s.put(path, "123").await;
    }
    let sorted = [".hidden", "00000000000000000010", "9", "B", "_chain/", "_done", "a.jsonl", "b", "b-2", "c/", "c.d"];
    assert_eq!(s.names("").await, sorted);
    for entry in s.store.list(&s.base).await.unwrap() {
        assert_eq!(entry.len, if entry.folder { 0 } else { 3 }, "{entry:?}");
        let alone = s.store.stat(&s.at(&entry.name)).await.unwrap().unwrap();
        assert_eq!(alone, entry);
    }
}

pub(crate) async fn a_file_written_in_odd_pieces_reads_back_whole(s: Subject) {
    const LEN: usize = 5_000_000;
    // A period of 251 fits no block, so that a lost or doubled piece shifts what follows.
    let expected = (0..LEN).map(|at| (at % 251) as u8).collect::<Bytes>();
    let mut writer = s.store.create(&s.at("_staging/big")).await.unwrap();
    let (mut at, mut piece) = (0, 1);
    while at < LEN {
        let end = LEN.min(at + piece);
        writer.append(expected.slice(at..end)).await.unwrap();
        if piece % 3 == 0 {
            writer.sync().await.unwrap();
        }
        (at, piece) = (end, piece * 2 + 1);
    }
    writer.append(Bytes::new()).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(s.rename("_staging/big", "big").await, Renamed::Done);
    assert_eq!(s.store.stat(&s.at("big")).await.unwrap().unwrap().len, LEN as u64);
    assert!(s.store.read(&s.at("big")).await.unwrap().unwrap() == expected, "other bytes");
    let middle = s.store.read_range(&s.at("big"), 4_194_300, 10).await.unwrap().unwrap();
    assert_eq!(middle, expected.slice(4_194_300..4_194_310));
}

pub(crate) async fn an_unclosed_file_is_in_no_folder_of_data(s: Subject) {
    let mut writer = s.store.create(&s.at("data/_staging/1")).await.unwrap();
    writer.append(Bytes::from_static(b"half")).await.unwrap();
    writer.sync().await.unwrap();
    assert_eq!(s.names("data").await, ["_staging/"]);
    drop(writer);
    assert_eq!(s.names("data").await, ["_staging/"]);
    // The reaper's business, who knows it by its name.
    assert_eq!(s.names("data/_staging").await, ["1"]);
    assert!(s.store.delete(&s.at("data/_staging/1")).await.unwrap());
}

pub(crate) async fn what_was_closed_may_be_renamed_into_data(s: Subject) {
    let mut writer = s.store.create(&s.at("_staging/t/1")).await.unwrap();
    for line in ["one\n", "two\n", "three\n"] {
        writer.append(Bytes::from_static(line.as_bytes())).await.unwrap();
    }
    writer.close().await.unwrap();
    assert_eq!(s.read("_staging/t/1").await, text("one\ntwo\nthree\n"));
    assert_eq!(s.rename("_staging/t/1", "1.jsonl").await, Renamed::Done);
    assert_eq!(s.read("1.jsonl").await, text("one\ntwo\nthree\n"));
}

pub(crate) async fn a_file_is_never_begun_where_readers_take_it_for_data(s: Subject) {
    for path in ["data", "folder/data", "folder/data_", "folder/a.b"] {
        let refused = s.store.create(&s.at(path)).await.err().unwrap_or_else(|| panic!("{path} was begun"));
        assert_eq!(refused.domain, Domain::Internal, "{refused}");
    }
    assert_eq!(s.names("").await, [""; 0]);
    for path in ["_data", "folder/.data", "_folder/data", ".folder/deeper/data"] {
        s.write(path, "x").await;
    }
}

pub(crate) async fn a_file_is_never_begun_where_one_stands(s: Subject) {
    s.write("_staging/1", "kept").await;
    let refused = s.store.create(&s.at("_staging/1")).await.err().expect("begun anew");
    assert_eq!(refused.domain, Domain::Internal, "{refused}");
    assert!(refused.message.contains("_staging/1"), "{refused}");
    assert_eq!(s.read("_staging/1").await, text("kept"));
}

pub(crate) async fn a_deleted_file_is_gone_and_its_place_is_free(s: Subject) {
    s.put("folder/f", "first").await;
    assert!(s.store.delete(&s.at("folder/f")).await.unwrap());
    assert!(!s.store.delete(&s.at("folder/f")).await.unwrap());
    assert_eq!(s.read("folder/f").await, None);
    assert_eq!(s.names("folder").await, [""; 0]);
    assert_eq!(s.put("folder/f", "second").await, Put::Created);
    assert_eq!(s.read("folder/f").await, text("second"));
}

pub(crate) async fn a_folder_is_no_file(s: Subject) {
    s.put("folder/f", "x").await;
    s.put("f", "y").await;
    let folder = s.at("folder");
    assert!(s.store.stat(&folder).await.unwrap().unwrap().folder);
    assert!(s.store.read(&folder).await.is_err());
    assert!(s.store.delete(&folder).await.is_err());
    assert!(s.store.put_if_absent(&folder, Bytes::from_static(b"x")).await.is_err());
    assert!(s.store.rename_if_absent(&s.at("f"), &folder).await.is_err());
    assert!(s.store.rename_if_absent(&folder, &s.at("other")).await.is_err());
    assert_eq!((s.names("").await, s.names("folder").await), (vec!["f".into(), "folder/".into()], vec!["f".into()]));
}

pub(crate) async fn a_file_is_no_folder(s: Subject) {
    s.put("_f", "x").await;
    let below = s.at("_f/below");
    assert!(s.store.put_if_absent(&below, Bytes::from_static(b"x")).await.is_err());
    assert!(s.store.create(&below).await.is_err());
    s.put("g", "y").await;
    assert!(s.store.rename_if_absent(&s.at("g"), &below).await.is_err());
    assert_eq!((s.read("_f").await, s.read("g").await), (text("x"), text("y")));
}

pub(crate) async fn a_path_has_one_meaning_however_it_is_written(s: Subject) {
    s.put("a/b", "x").await;
    for written in [format!("{}//a///b/", s.base), format!("{}/a/b", s.base.as_str().trim_start_matches('/'))] {
        let path = StorePath::new(&written).unwrap();
        assert_eq!(path, s.at("a/b"), "{written}");
        assert_eq!(s.store.read(&path).await.unwrap(), Some(Bytes::from_static(b"x")), "{written}");
    }
}

pub(crate) async fn names_may_hold_what_file_systems_allow(s: Subject) {
    for name in ["dt=2015-09-12", "with space", "ünïcödé-漢字", "a%2Fb", "-rf", "x".repeat(200).as_str()] {
        assert_eq!(s.put(&format!("{name}/{name}"), "x").await, Put::Created, "{name}");
        assert_eq!(s.names(name).await, [name]);
        assert_eq!(s.read(&format!("{name}/{name}")).await, text("x"));
    }
}
