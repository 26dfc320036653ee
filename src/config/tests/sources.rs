//! What a collector's source may be, and what is wrong with one.

use super::{complaints::check, *};
use crate::{
    collect::{
        PollSettings,
        poll::{Next, Reading},
    },
    web::{Header, Secret},
};

const SSE: &str = "sse = { url = \"http://localhost:1/s\" }";
const ONE: &str =
    "7:12: collector.c: a collector has one source, allowed: either sse = { url = \"…\" } or poll = { url = \"…\" }";

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
    check(SSE, "", &[&ONE.replace("7:12", "6:12")]);
    check(SSE, &format!("{SSE}\n{}", poll("period = \"1s\"")), &[&ONE.replace("7:12", "6:12")]);
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
