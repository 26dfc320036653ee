//! Torn tails, flipped bits, missing files.

use super::*;

/// Cuts the newest file of a spool at every byte from `from` on and opens each; what was synced is
/// there, and nothing that was not written.
fn check_cuts(spool: &Spool, from: u64, least: Sequence, written: &[&str]) {
    let last = spool.files().pop().unwrap();
    let len = fs::metadata(&last).unwrap().len();
    let mut ends = Vec::new();
    for cut in from..=len {
        let folder = TempDir::new().unwrap();
        copy(spool.path(), folder.path());
        let copied = folder.path().join(last.file_name().unwrap());
        OpenOptions::new().write(true).open(copied).unwrap().set_len(cut).unwrap();
        let found = found_at(folder.path());
        let (mut writer, recovered) = found.open();
        assert!(recovered.next >= least, "cut at {cut}: {recovered:?}");
        assert_eq!(found.payloads(0), written[..usize::try_from(recovered.next).unwrap()], "cut at {cut}");
        append(&mut writer, &["next"]);
        writer.sync().unwrap();
        assert_eq!(found.payloads(recovered.next), ["next"], "cut at {cut}");
        ends.push(recovered.next);
    }
    ends.dedup();
    assert_eq!(ends, (least..=written.len() as u64).collect::<Vec<_>>(), "every length was met");
}

#[test]
fn a_tail_torn_at_any_byte_ends_the_spool_there() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["synced", "too"]);
    writer.sync().unwrap();
    let synced = fs::metadata(&spool.files()[0]).unwrap().len();
    append(&mut writer, &["a", "bb"]);
    append(&mut writer, &["ccc"]);
    check_cuts(&spool, synced, 2, &["synced", "too", "a", "bb", "ccc"]);
}

#[test]
fn a_file_torn_while_it_was_begun_is_nothing() {
    let spool = new(300);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    append(&mut writer, &["b"]);
    assert_eq!(spool.files().len(), 2);
    check_cuts(&spool, 0, 1, &["a", "b"]);
}

#[test]
fn the_first_file_torn_while_it_was_begun_is_nothing() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    check_cuts(&spool, 0, 0, &["a"]);
}

/// Flips a bit of each `step`-th byte of `file` in a copy of the spool: what is read is a beginning of what was
/// written, and what was `durable` is there or the fault says that it is lost.
fn check_flips(spool: &Spool, file: &Path, step: usize, durable: Sequence, written: &[&str]) -> [u32; 2] {
    let text = fs::read(file).unwrap();
    let folder = TempDir::new().unwrap();
    copy(spool.path(), folder.path());
    let mut outcomes = [0; 2];
    for at in (0..text.len()).step_by(step) {
        fs::remove_dir_all(folder.path()).unwrap();
        copy(spool.path(), folder.path());
        let mut changed = text.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(folder.path().join(file.file_name().unwrap()), changed).unwrap();
        let found = found_at(folder.path());
        let read = found.try_open().and_then(|(_, recovered)| Ok((recovered, found.read_from(0)?)));
        match read {
            Ok((recovered, frames)) => {
                assert_eq!(recovered.next, frames.len() as u64, "byte {at}");
                assert!(recovered.next >= durable, "byte {at}: {recovered:?}");
                for (frame, payload) in frames.iter().zip(written) {
                    assert_eq!(frame.entry, entry(payload), "byte {at}");
                }
                outcomes[0] += 1;
            }
            Err(fault) => {
                assert_eq!(fault.kind, Fate::Lost, "byte {at}: {fault}");
                assert!(fault.message.contains(".spool"), "byte {at}: {fault}");
                outcomes[1] += 1;
            }
        }
    }
    outcomes
}

#[test]
fn no_flipped_bit_yields_a_wrong_entry_or_a_silent_loss() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a", "bb"]);
    writer.sync().unwrap();
    append(&mut writer, &["ccc"]);
    writer.sync().unwrap();
    append(&mut writer, &["d"]);
    let file = &spool.files()[0];
    let written = ["a", "bb", "ccc", "d"];
    let len = fs::metadata(file).unwrap().len();
    // The frames of the last sync could be torn as well: a flip there ends the spool.
    let [fine, lost] = check_flips(&spool, file, 1, 3, &written);
    assert_eq!(u64::from(fine + lost), len);
    assert!(fine > 50 && lost > 500, "{fine} {lost}");
    drop(writer);
    spool.open();
    let (writer, _) = spool.open();
    drop(writer);
    let [fine, lost] = check_flips(&spool, file, 3, 4, &written);
    assert_eq!((fine, u64::from(lost)), (0, len.div_ceil(3)), "a file with a successor is durable whole");
}

#[test]
fn damage_is_named_with_file_and_byte() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    let file = spool.files().remove(0);
    let second = fs::metadata(&file).unwrap().len();
    append(&mut writer, &["b"]);
    writer.sync().unwrap();
    append(&mut writer, &["c"]);
    let mut text = fs::read(&file).unwrap();
    text[usize::try_from(second).unwrap() + 3] ^= 0x10;
    fs::write(&file, &text).unwrap();
    let named = format!("{}: damaged at byte {second}, where entry 1 should be", file.display());
    check_fault(found_at(spool.path()).try_open(), Fate::Lost, &named);
}

#[test]
fn a_file_that_is_shorter_than_its_successor_says_is_a_loss() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a", "b"]);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["c"]);
    let first = OpenOptions::new().write(true).open(&spool.files()[0]).unwrap();
    first.set_len(600).unwrap();
    check_fault(found_at(spool.path()).try_open(), Fate::Lost, "600 bytes long, but it held");
}

#[test]
fn entries_that_are_gone_or_never_were_are_a_loss() {
    let spool = new(600);
    let (mut writer, _) = spool.open();
    for n in 0..10 {
        append(&mut writer, &[&n.to_string()]);
    }
    writer.sync().unwrap();
    check_fault(Reader::open(spool.path(), 11, &spool.link), Fate::Lost, "entry 11 is asked for");
    let mut reader = Reader::open(spool.path(), 10, &Link::new()).unwrap();
    check_fault(reader.read(9, 9, 8), Fate::Lost, "durable up to entry 8");
    fs::remove_file(&spool.files()[2]).unwrap();
    let fault = check_fault(Reader::open(spool.path(), 0, &spool.link), Fate::Lost, "entry 0 is asked for");
    assert!(fault.message.contains("the oldest file begins with entry"), "{fault}");
    fs::remove_file(spool.files().last().unwrap()).unwrap();
    check_fault(writer.sync(), Fate::Lost, "deleted while in use");
    check_fault(spool.try_open(), Fate::Lost, "but was durable up to 10");
}

#[test]
fn a_spool_that_has_lost_all_its_files_is_another_spool() {
    let spool = new(u64::MAX);
    let (mut writer, first) = spool.open();
    append(&mut writer, &["a", "b"]);
    writer.sync().unwrap();
    fs::remove_file(&spool.files()[0]).unwrap();
    spool.clock.advance(60_000);
    let (mut writer, second) = spool.open();
    assert_ne!(first.spool, second.spool);
    assert_eq!((second.next, second.created), (0, START));
    append(&mut writer, &["c"]);
    writer.sync().unwrap();
    assert_eq!(spool.payloads(0), ["c"]);
    assert_eq!(spool.open().1.spool, second.spool);
}

#[test]
fn another_source_or_format_is_refused_by_name() {
    let spool = new(u64::MAX);
    drop(spool.open());
    let identity = spool.path().join("spool.json");
    let text = fs::read_to_string(&identity).unwrap();
    assert!(text.starts_with("{\"format\":1,\"uuid\":\""), "{text}");
    let user = |named: &str| {
        let fault = check_fault(spool.try_open(), Fate::Other, named);
        assert_eq!(fault.domain, Domain::User, "{fault}");
        assert_eq!(spool.files().len(), 1, "a refused writer leaves nothing");
        fault
    };
    fs::write(&identity, text.replace("wikimedia", "other")).unwrap();
    user("the spool of \"other\"");
    fs::write(&identity, text.replace("\"format\":1", "\"format\":2")).unwrap();
    user("spool.json: format 2");
    fs::write(&identity, &text).unwrap();
    let file = spool.files().remove(0);
    let block = fs::read_to_string(&file).unwrap();
    let own = if layout() == Layout::Packed { "\"format\":1" } else { "\"format\":2" };
    let mut block = block.replace(own, "\"format\":3").into_bytes();
    let crc = format!("{:08x}\n", crc32c::crc32c(&block[..503]));
    block[503..512].copy_from_slice(crc.as_bytes());
    fs::write(&file, block).unwrap();
    user("00000000000000000000.spool: format 3");
    fs::write(&identity, "{").unwrap();
    check_fault(spool.try_open(), Fate::Lost, "spool.json: damaged");
}

#[test]
fn an_identity_that_was_never_written_or_renewed_is_known_from_the_files() {
    let spool = new(u64::MAX);
    let identity = spool.path().join("spool.json");
    let (mut writer, first) = spool.open();
    append(&mut writer, &["a"]);
    fs::remove_file(&identity).unwrap();
    spool.clock.advance(60_000);
    assert_eq!(spool.open().1, Recovered { next: 1, token: entry("a").token, ..first });
    let text = fs::read(&identity).unwrap();
    spool.files().iter().for_each(|file| fs::remove_file(file).unwrap());
    let (mut writer, second) = spool.open();
    assert_ne!(second.spool, first.spool);
    append(&mut writer, &["b"]);
    for _ in 0..2 {
        fs::write(&identity, &text).unwrap();
        let (_, third) = spool.open();
        assert_eq!((third.spool, third.next), (second.spool, 1));
    }
    assert_eq!(spool.payloads(0), ["b"]);
}

#[test]
fn a_spool_that_lost_its_end_goes_on_behind_what_the_bus_bears() {
    let spool = new(u64::MAX);
    let (mut writer, _) = spool.open();
    append(&mut writer, &["a"]);
    writer.sync().unwrap();
    let kept = fs::metadata(&spool.files()[0]).unwrap().len();
    append(&mut writer, &["b", "c", "d"]);
    writer.sync().unwrap();
    drop(writer);
    OpenOptions::new().write(true).open(&spool.files()[0]).unwrap().set_len(kept).unwrap();

    // Another process; the bus bears the entries below 4.
    let spool = Spool { link: Link::new(), ..spool };
    let (mut writer, recovered) = spool.open();
    assert_eq!((recovered.next, &recovered.token[..]), (1, &b"token of a"[..]));
    writer.skip_to(4).unwrap();
    assert_eq!(spool.link.durable().borrow().unwrap().next, 4);
    writer.skip_to(2).unwrap();
    assert_eq!(append(&mut writer, &["e"]), 4..5);
    writer.sync().unwrap();
    assert_eq!(spool.payloads(4), ["e"]);
    check_fault(Reader::open(spool.path(), 1, &spool.link), Fate::Lost, "the oldest file begins with entry 4");
    drop(writer);

    // The next start finds it so, with or without entries behind the gap.
    let spool = Spool { link: Link::new(), ..spool };
    let (mut writer, recovered) = spool.open();
    assert_eq!((recovered.first, recovered.next, &recovered.token[..]), (4, 5, &b"token of e"[..]));
    writer.skip_to(9).unwrap();
    drop(writer);
    let (_, recovered) = Spool { link: Link::new(), ..spool }.open();
    assert_eq!((recovered.first, recovered.next), (9, 9));
}
