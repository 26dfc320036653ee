//! What a collector's source may be, and what is wrong with one.

use super::{
    complaints::{check, check as complain},
    *,
};
use crate::{
    collect::{
        FileHeaders, PollSettings,
        folder::{Done, Order, RecordOf},
        poll::{Next, Reading},
    },
    web::{Header, Secret},
};

const SSE: &str = "sse = { url = \"http://localhost:1/s\" }";
const ONE: &str = "6:12: collector.c: a collector has one source, allowed: either sse = { url = \"…\" }, poll = { url = \"…\" } \
                   or folder = { path = \"…\" }";

fn poll(keys: &str) -> String {
    format!("poll = {{ url = \"http://localhost:1/api\", {keys} }}")
}

fn read(keys: &str) -> PollSettings {
    let pipeline = check_text(&small(SSE, &poll(keys))).unwrap();
    let StageKind::Collector(settings) = &pipeline.stages[0].kind else { panic!() };
    let SourceSettings::Poll(settings) = &settings.source else { panic!("{:?}", settings.source) };
    (**settings).clone()
}

#[test]
fn a_service_is_asked_as_it_is_written() {
    let plain = read("period = \"1s\"");
    assert_eq!((plain.url.as_str(), plain.method.as_str()), ("http://localhost:1/api", "GET"));
    assert_eq!((plain.headers, plain.body, plain.contact), (vec![], None, None));
    let times = [plain.period, plain.jitter, plain.timeout, plain.max_pause].map(|time| time.as_secs());
    assert_eq!((times, plain.max_answer, plain.max_pages), ([1, 0, 10, 300], 1 << 20, 100));
    assert_eq!(plain.reading, Reading { one_line: true, ..Reading::default() });

    let full = read(
        r#"period = "1h", jitter = "5m", timeout = "1m", max_pause = "2h", max_answer = "2MiB", max_pages = 7,
           method = "POST", body = "{}", contact = "me@example.org",
           headers = [{ name = "X-A", value = "one" }, { name = "X-B", file = "/key", prefix = "Bearer " }],
           items = "/results", error = "/error", next = "/info/next", next_parameter = "page", one_line = false"#
            .replace('\n', " ")
            .as_str(),
    );
    let times = [full.period, full.jitter, full.timeout, full.max_pause].map(|time| time.as_secs());
    assert_eq!((times, full.max_answer, full.max_pages), ([3_600, 300, 60, 7_200], 2 << 20, 7));
    assert_eq!(
        (full.method.as_str(), full.body.as_deref(), full.contact.as_deref()),
        ("POST", Some("{}"), Some("me@example.org"))
    );
    let secret = Secret::File { path: "/key".into(), prefix: "Bearer ".to_owned() };
    let header = |name: &str, value| Header { name: name.to_owned(), value };
    assert_eq!(full.headers, [header("X-A", Secret::Text("one".to_owned())), header("X-B", secret)]);
    let at = |text: &str| Pointer::parse(text).unwrap();
    let next = Next { pointer: at("/info/next"), parameter: Some("page".to_owned()) };
    let reading = Reading { items: Some(at("/results")), error: Some(at("/error")), next: Some(next), one_line: false };
    assert_eq!(full.reading, reading);
}

#[test]
fn a_collector_has_one_source() {
    check(SSE, "", &[ONE]);
    check(SSE, &format!("{SSE}\n{}", poll("period = \"1s\"")), &[ONE]);
}

#[test]
fn what_is_wrong_with_a_polled_source_is_said_at_its_key() {
    // The place of `mark` in the line is where the complaint stands.
    let check = |keys: &str, mark: &str, said: &str| {
        let line = poll(keys);
        let column = line.find(mark).unwrap() + 1;
        check(SSE, &line, &[&format!("7:{column}: collector.c.poll{said}")]);
    };
    let all = "\"url\", \"method\", \"headers\", \"body\", \"contact\", \"period\", \"jitter\", \"timeout\", \
               \"max_pause\", \"max_answer\", \"max_pages\", \"items\", \"error\", \"next\", \"next_parameter\", \
               \"one_line\"";
    check("x = 1, period = \"1s\"", "x =", &format!(".x: unknown key; allowed: {all}"));
    check("period = \"1ms\"", "\"1ms", ".period: \"1ms\" is out of bounds, allowed: from \"100ms\" to \"7d\"");
    let later = ".jitter: a request would begin in a later slot, allowed: less than \"1s\"";
    check("period = \"1s\", jitter = \"2s\"", "\"2s", later);
    let get = ".body: a GET has no body, allowed: with method = \"POST\" or \"PUT\"";
    check("period = \"1s\", body = \"x\"", "\"x", get);
    let only = ".next_parameter: is only for next = \"/…\": it takes what stands there";
    check("period = \"1s\", next_parameter = \"x\"", "\"x", only);
    let header = |keys: &str| format!("period = \"1s\", headers = [{{ {keys} }}]");
    let own = ".headers[0].name: \"Host\" is written by howdah itself";
    check(&header("name = \"Host\", value = \"x\""), "\"Host", own);
    let unfit = ".headers[0].value: holds what no header can, allowed: printable ASCII characters";
    check(&header("name = \"A\", value = \"s3cret\\n\""), "\"s3cret", unfit);
    check(&header("name = \"A\""), "{ name", ".headers[0]: a header has either value = \"…\" or file = \"…\"");
    let only = ".headers[0].prefix: is only for file = \"…\"";
    check(&header("name = \"A\", value = \"x\", prefix = \"y\""), "\"y", only);
}

#[test]
fn a_service_of_wikimedias_wants_a_contact_too() {
    let poll = poll("period = \"1s\"").replace("localhost:1", "en.wikipedia.wikimedia.org");
    let said = "7:1: collector.c.poll.contact: en.wikipedia.wikimedia.org asks to know whom to reach: set HOWDAH_CONTACT to an \
                e-mail address or a URL (with contact = \"${HOWDAH_CONTACT}\" here); it is sent in the User-Agent";
    check(SSE, &poll, &[said]);
}

#[test]
fn a_folder_is_read_as_it_is_written() {
    let read = |keys: &str| {
        let pipeline = check_text(&small(SSE, &format!("folder = {{ path = \"in\"{keys} }}"))).unwrap();
        let StageKind::Collector(settings) = &pipeline.stages[0].kind else { panic!() };
        let SourceSettings::Folder(settings) = &settings.source else { panic!("{:?}", settings.source) };
        (**settings).clone()
    };
    let plain = read("");
    assert_eq!((plain.path, plain.sub_folders, plain.order), (PathBuf::from("in"), false, Order::Oldest));
    assert!(plain.include.is_none() && plain.ignore.is_none());
    assert_eq!((plain.record, plain.done), (RecordOf::Line, Done::Rename(".COMPLETED".to_owned())));
    assert_eq!((plain.settle.as_millis(), plain.look.as_millis(), plain.max_event), (1_000, 500, 1 << 20));
    let full = read(
        ", sub_folders = true, include = '.*\\.log', ignore = 'x', order = \"name\", record = \"file\", one_line = false, \
         done = \"move\", done_folder = \"out\", settle = \"0s\", look = \"1s\", max_event = \"2MiB\"",
    );
    assert_eq!((full.sub_folders, full.order, full.record), (true, Order::Name, RecordOf::File { one_line: false }));
    assert_eq!((full.include.unwrap().as_str(), full.ignore.unwrap().as_str()), (r"\A(?:.*\.log)\z", r"\A(?:x)\z"));
    assert_eq!((full.done, full.max_event), (Done::Move("out".into()), 2 << 20));
    assert_eq!((full.settle.as_millis(), full.look.as_millis()), (0, 1_000));
    assert_eq!(read(", done = \"delete\"").done, Done::Delete);
    assert_eq!(read(", suffix = \".done\"").done, Done::Rename(".done".to_owned()));
}

#[test]
fn headers_that_tell_the_file_want_one() {
    let keys = "file_header = \"file\"\nbasename_header = \"base.name\"";
    let folder = "folder = { path = \"in\" }";
    let pipeline = check_text(&small(SSE, &format!("{folder}\n{keys}"))).unwrap();
    let StageKind::Collector(settings) = &pipeline.stages[0].kind else { panic!() };
    let headers = FileHeaders { path: Some("file".into()), name: Some("base.name".into()) };
    assert_eq!(settings.file_headers, headers);
    let none = "an event has no file: the source is no folder, and the spool has no layout = \"file-per-event\"";
    let said = ["8:15: collector.c.file_header", "9:19: collector.c.basename_header"];
    complain(
        SSE,
        &format!("{SSE}\n{keys}"),
        &said.map(|place| format!("{place}: {none}")).each_ref().map(String::as_str),
    );
    let own = "8:15: collector.c.file_header: \"howdah.x\": headers that begin with \"howdah.\" are howdah's own";
    complain(SSE, &format!("{folder}\nfile_header = \"howdah.x\""), &[own]);
    let unfit = "8:15: collector.c.file_header: \"a b\" is not a header's name: 1 to 100 letters, digits, \"_\", \"-\" and \".\"";
    complain(SSE, &format!("{folder}\nfile_header = \"a b\""), &[unfit]);
}

#[test]
fn what_is_wrong_with_a_folder_is_said_at_its_key() {
    let check = |keys: &str, mark: &str, said: &str| {
        let line = format!("folder = {{ path = \"in\", {keys} }}");
        let column = line.find(mark).unwrap() + 1;
        check(SSE, &line, &[&format!("7:{column}: collector.c.folder{said}")]);
    };
    check("one_line = true", "true", ".one_line: is only for record = \"file\": a line is one");
    check("done = \"delete\", suffix = \"x\"", "\"x", ".suffix: is only for done = \"rename\"");
    check("done_folder = \"x\"", "\"x", ".done_folder: is only for done = \"move\"");
    check("done = \"move\"", "\"move", ".done: wants to know where to: done_folder = \"…\"");
    check("suffix = \"a/b\"", "\"a/b", ".suffix: \"a/b\" is not the end of a file's name, like \".COMPLETED\"");
    let regex = ".ignore: \"(\" is no regular expression: error: unclosed group";
    check("ignore = \"(\"", "\"(", regex);
    let few = "after a restart a folder repeats up to 10000 events, allowed: at least 20000";
    complain(SSE, "folder = { path = \"in\" }\ndedupe_ids = 5", &[&format!("8:14: collector.c.dedupe_ids: {few}")]);
    let alone = "each bus, store, spool and source needs a folder for it alone";
    let path = format!("{}/d/bus", env!("CARGO_MANIFEST_DIR"));
    let said = check_text(&small(SSE, "folder = { path = \"d/bus\" }")).map(|_| ()).unwrap_err();
    assert!(said.len() == 1 && said[0].contains(&path) && said[0].ends_with(alone), "{said:?}");
}
