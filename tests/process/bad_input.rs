//! Bad input through the whole pipeline: each event is in the archive or is a dead letter, and the
//! letters tell where they came from.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::Path,
    thread,
};

use howdah::{
    bus::letters::{DETAIL, FILE, REASON},
    model::Record,
    recorded::Options,
};

use super::{
    harness::{
        ARCHIVE, LETTERS, OVERSIZED, Running, Served, TOPIC, command, finish, judge_archive, judge_table, listener,
        make_events, records, repository, tempdir, url_of,
    },
    steer,
};

/// Above this an event is a dead letter, as the pipeline says.
const MAX_EVENT: usize = 1 << 20;

fn header(letter: &Record, name: &str) -> String {
    String::from_utf8(letter.header(name).unwrap_or_else(|| panic!("{name} of {letter:?}")).to_vec()).unwrap()
}

#[test]
fn every_bad_event_is_archived_or_a_dead_letter() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), folder.path().join("events.ndjson"));
    make_events(&events, "--limit 1500 --canary 20 --bare 21 --odd 17 --times 19 --broken 23 --big 400 --seed 5");
    let text = fs::read(&events).unwrap();
    let large: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| line.len() > MAX_EVENT).collect();
    assert_eq!(large.iter().filter(|line| line.len() > 5 << 20).count(), large.len());
    assert!(large.len() >= 3, "{}", large.len());

    let served = Served::start(&events, Options { cut_every: Some(400), ..Options::default() });
    let pipeline = repository("pipelines/wikimedia.toml");
    let mut howdah = Running::start(&pipeline, &data, &served.url, &folder.path().join("log"));
    howdah.await_records(&data, TOPIC, served.total - large.len() as u64);
    howdah.await_records(&data, LETTERS, large.len() as u64);
    let ended = howdah.terminate_in_order();
    assert!(!ended.log.contains("panic") && !ended.log.contains("ERROR"), "{}", ended.log);

    // Each letter names a file of exactly the event's bytes, and each large event has its letter.
    let mut kept = Vec::new();
    for letter in records(&data, LETTERS) {
        assert_eq!(header(&letter, REASON), "oversized");
        assert_eq!(letter.value.as_deref(), Some(&b""[..]));
        let file = header(&letter, FILE);
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let words = format!("an event of {} bytes is above max_event", bytes.len());
        assert!(header(&letter, DETAIL).contains(&words), "{letter:?}");
        kept.push(bytes);
    }
    kept.sort();
    let list = ["dead-letters", "list", pipeline.to_str().unwrap()];
    let (code, out, err) = finish(command(&list).env("HOWDAH_DATA", &data));
    assert_eq!(code, 0, "{err}");
    assert!(out.ends_with(&format!("\n{} dead letters\n", large.len())) && out.contains(" oversized (in "), "{out}");
    let mut large: Vec<_> = large.into_iter().map(<[u8]>::to_vec).collect();
    large.sort();
    assert!(kept == large, "{} files of {} events", kept.len(), large.len());
    let leftover = fs::read_dir(data.join(OVERSIZED)).unwrap().count();
    assert_eq!(leftover, large.len(), "files beside the letters'");

    judge_archive(&events, &data, &["--letters", data.join(OVERSIZED).to_str().unwrap()]);
    judge_table(&events, &data, &["--at-positions", data.join(ARCHIVE).to_str().unwrap()]);
    let (code, out, err) =
        finish(command(&["archive", "verify", "--deep", pipeline.to_str().unwrap()]).env("HOWDAH_DATA", &data));
    assert_eq!(code, 0, "{out}{err}");
}

/// Answers every request with the same text, and then says nothing more.
fn serve_text(text: String) -> String {
    let listener = listener();
    let url = url_of(listener.local_addr().unwrap());
    // It ends with the test's process; nobody waits for it.
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}");
            open.push(stream);
        }
    });
    url
}

fn event(nth: u32) -> String {
    let time = 1_442_039_761 + nth;
    format!(r#"{{"meta":{{"id":"e{nth}","domain":"x.org"}},"timestamp":{time},"wiki":"xwiki","n":{nth}}}"#)
}

/// `data` in two lines is one event with a newline in it, which is no line of an archive.
#[test]
fn an_event_with_a_newline_becomes_a_dead_letter_with_its_payload() {
    let folder = tempdir();
    let data = folder.path().join("data");
    let mut text = String::from(":ok\n\n");
    for nth in 0..30 {
        let id = format!(
            "[{{\"topic\":\"eqiad.x\",\"partition\":0,\"timestamp\":{}}}]",
            1_442_039_761_000_u64 + u64::from(nth)
        );
        let body = event(nth);
        let body = if nth % 10 == 7 { body.replacen(",\"timestamp\"", "\ndata: ,\"timestamp\"", 1) } else { body };
        text.push_str(&format!("event: message\nid: {id}\ndata: {body}\n\n"));
    }
    let pipeline = repository("pipelines/wikimedia.toml");
    let mut node = steer::start(folder.path(), &serve_text(text));
    node.running.await_records(&data, TOPIC, 30);
    node.awaits("wikimedia/archive/0", "all records", |actor| actor["in"]["records"] == 30);
    node.says(&["roll", "wikimedia/archive/0"]);
    let shown = node.get("/api/v1/pipelines/wikimedia/dead-letters")["dead_letters"].clone();
    node.running.terminate_in_order();

    let letters: BTreeMap<String, Record> = records(&data, LETTERS)
        .into_iter()
        .map(|letter| (String::from_utf8(letter.key.clone().unwrap().to_vec()).unwrap(), letter))
        .collect();
    assert_eq!(letters.len(), 3, "{letters:?}");
    for (coordinate, letter) in &letters {
        assert_eq!(header(letter, REASON), "newline");
        let offset: u32 = coordinate.rsplit('@').next().unwrap().parse().unwrap();
        assert_eq!(offset % 10, 7, "{coordinate}");
        assert!(coordinate.starts_with("wiki_changes/"), "{coordinate}");
        let expected = event(offset).replacen(",\"timestamp\"", "\n,\"timestamp\"", 1);
        assert_eq!(letter.value.as_deref(), Some(expected.as_bytes()));
        let show = ["dead-letters", "show", pipeline.to_str().unwrap(), coordinate];
        let (code, out, err) = finish(command(&show).env("HOWDAH_DATA", &data));
        assert_eq!((code, out), (0, expected), "{err}");
    }
    let list = ["dead-letters", "list", "--json", pipeline.to_str().unwrap()];
    let (code, out, err) = finish(command(&list).env("HOWDAH_DATA", &data));
    assert_eq!(code, 0, "{err}");
    let listed: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown, serde_json::Value::from(listed.clone()));
    let listed: Vec<_> = listed.iter().map(|letter| letter["coordinate"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|coordinate| letters.contains_key(coordinate)), "{listed:?}");
    let show = ["dead-letters", "show", pipeline.to_str().unwrap(), "nowhere"];
    let (code, out, err) = finish(command(&show).env("HOWDAH_DATA", &data));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no dead letter nowhere; `howdah dead-letters list "), "{err}");
    let expected: String = (0..30).filter(|nth| nth % 10 != 7).map(|nth| event(nth) + "\n").collect();
    assert_eq!(archived(&data), expected);
    let (code, out, err) =
        finish(command(&["archive", "verify", "--deep", pipeline.to_str().unwrap()]).env("HOWDAH_DATA", &data));
    assert_eq!(code, 0, "{out}{err}");
    // A newline between two members is no harm to JSON: such an event counts like any other.
    let (code, out, err) =
        finish(command(&["table", "show", "--json", pipeline.to_str().unwrap()]).env("HOWDAH_DATA", &data));
    assert_eq!(code, 0, "{err}");
    // One object a line and table; the first is the edits'.
    let table: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let edits: i64 = table["rows"].as_array().unwrap().iter().map(|row| row["edits"].as_i64().unwrap()).sum();
    assert_eq!(edits, 30, "{out}");
}

/// All archived lines in order.
fn archived(data: &Path) -> String {
    let files = fs::read_dir(data.join(ARCHIVE)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.is_file()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}
