//! A sink that does everything a sink may do to a loader, with the bodies of InfluxDB 2: at the end it holds every
//! good point once, the two bad ones are dead letters with its words, and nobody was restarted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use influxdb_line_protocol::{FieldValue, parse_lines};
use serde_json::{Value, json};

use super::http::{Http, Reply, Request};
use crate::{
    process::{
        harness::{Running, command, finish, listener, tempdir, wait_for},
        memory::peak,
    },
    torture::environment,
};

/// Users that the service tells of, a page of them at a time.
const USERS: usize = 60_000;
const PAGE: usize = 500;

/// The one whose point is said to be no line, and the one whose age is of another type.
const BAD: usize = 17_017;
const OTHER_TYPE: usize = 21_021;

const FIRST_TOKEN: &str = "the-first-token";
const SECOND_TOKEN: &str = "the-second-token";

/// What may be in memory while the sink is away, whatever waits for it.
const MAX_MIB: u64 = 256;

/// What the sink is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Fine,
    TooMany(Option<u32>),
    Away,
    /// The body is taken, and then the connection is reset.
    Reset,
    /// Bodies of more lines than this are too large.
    Small(usize),
    /// It fails on bodies of more lines than this.
    Failing(usize),
    Unauthorized,
    NotFound,
}

struct Hell {
    mood: Mood,
    /// Whether the next request finds it in no mood: what passes once has passed.
    relieved: bool,
    /// Requests answered so in this mood.
    answered: u32,
    /// By series and time, so that what is written twice is there once.
    points: BTreeMap<(String, i64), String>,
    /// Points that were written again and were other ones.
    changed: Vec<String>,
    largest: usize,
}

fn lock(hell: &Mutex<Hell>) -> MutexGuard<'_, Hell> {
    hell.lock().unwrap()
}

fn v2(status: &'static str, code: &str, message: &str) -> Reply {
    Reply::plain(status, &json!({ "code": code, "message": message }).to_string())
}

impl Hell {
    fn answer(&mut self, request: &Request) -> Reply {
        assert!(request.target.starts_with("/api/v2/write?org=o&bucket=b&precision=ns"), "{}", request.target);
        let text = std::str::from_utf8(&request.body).unwrap();
        let mood = if std::mem::take(&mut self.relieved) { Mood::Fine } else { self.mood };
        self.answered += u32::from(mood != Mood::Fine);
        let token = request.headers.get("authorization").map(String::as_str);
        match mood {
            Mood::Unauthorized if token != Some(&format!("Token {SECOND_TOKEN}")) => {
                return v2("401 Unauthorized", "unauthorized", "unauthorized access");
            }
            Mood::TooMany(None) => {
                return v2("429 Too Many Requests", "too many requests", "you have exceeded your rate");
            }
            Mood::TooMany(Some(seconds)) => {
                let told = vec![("Retry-After", seconds.to_string())];
                return Reply::Answer("429 Too Many Requests", told, String::new());
            }
            Mood::Away => return Reply::plain("503 Service Unavailable", "<html>upstream is away</html>"),
            Mood::NotFound => return v2("404 Not Found", "not found", "bucket \"b\" not found"),
            Mood::Failing(most) if text.lines().count() > most => {
                return v2("500 Internal Server Error", "internal error", "engine: out of memory");
            }
            Mood::Small(most) if text.lines().count() > most => {
                return v2("413 Request Entity Too Large", "request too large", "the body is too large");
            }
            _ => {}
        }
        self.largest = self.largest.max(text.lines().count());
        let (mut bad, mut other) = (None, None);
        for line in text.lines() {
            if line.contains(&format!("last=\"Name {BAD}\"")) {
                bad = Some(line);
            } else if line.contains(&format!("last=\"Name {OTHER_TYPE}\"")) {
                other = Some(line);
            }
        }
        // One version takes nothing of a request with a bad line, another all but that line.
        if let Some(line) = bad {
            return v2("400 Bad Request", "invalid", &format!("unable to parse '{line}': invalid field format"));
        }
        for line in parse_lines(text) {
            let line = line.expect("a line that another reader reads");
            let is_other = |name: &str| *name == format!("Name {OTHER_TYPE}");
            if matches!(line.field_value("last"), Some(FieldValue::String(name)) if is_other(name)) {
                continue;
            }
            let series = format!("{}{:?}", line.series.measurement, line.series.tag_set);
            let fields = format!("{:?}", line.field_set);
            if let Some(before) = self.points.insert((series.clone(), line.timestamp.unwrap()), fields.clone())
                && before != fields
            {
                self.changed.push(series);
            }
        }
        if other.is_some() {
            let why = "failure writing points to database: partial write: field type conflict: input field \"age\" on \
                       measurement \"users\" is type integer, already exists as type float dropped=1";
            return v2("422 Unprocessable Entity", "unprocessable entity", why);
        }
        if mood == Mood::Reset { Reply::Reset } else { Reply::plain("204 No Content", "") }
    }
}

/// Pages of users, each once; after the last one, empty pages.
fn service() -> Http {
    let asked = Mutex::new(0);
    Http::start(move |_| {
        let mut asked = asked.lock().unwrap();
        let page = *asked;
        *asked += PAGE;
        let user = |n: usize| {
            json!({
                "gender": if n.is_multiple_of(2) { "female" } else { "male" },
                "name": { "title": "Dr", "first": format!("F,=\"{n}\\"), "last": format!("Name {n}") },
                "email": format!("u{n}@example.com"),
                "dob": { "age": n % 90 },
            })
        };
        let users: Vec<_> = (page..USERS.min(page + PAGE)).map(user).collect();
        Reply::plain("200 OK", &json!({ "results": users }).to_string())
    })
}

const PIPELINE: &str = r#"format = 1
pipeline.name = "p"
bus = { kind = "embedded", path = "FOLDER/bus" }
store = { kind = "local", path = "FOLDER/store" }
[topics.t]
[collector.collect]
poll = { url = "SERVICE", period = "100ms", max_answer = "1MiB" }
spool = { path = "FOLDER/spool" }
[ingester.ingest]
collector = "collect"
topic = "t"
[loader.users]
kind = "influxdb"
url = "SINK"
org = "o"
bucket = "b"
token_file = "FOLDER/token"
topic = "t"
explode = "/results"
key = "/email"
measurement = "users"
tags = [{ name = "email", pointer = "/email" }, { name = "gender", pointer = "/gender" }]
fields = [
    { name = "first", pointer = "/name/first" },
    { name = "last", pointer = "/name/last" },
    { name = "age", pointer = "/dob/age", type = "integer" },
]
linger = "200ms"
"#;

fn get(url: &str) -> String {
    let (code, out, err) = finish(std::process::Command::new("curl").args(["-sf", url]));
    assert_eq!(code, 0, "{url}: {err}");
    out
}

/// The value of a metric with these labels.
fn metric(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_sink_that_does_its_worst_holds_every_good_point_once() {
    let folder = tempdir();
    let path = |name: &str| folder.path().join(name);
    let hell = Arc::new(Mutex::new(Hell {
        mood: Mood::TooMany(None),
        relieved: false,
        answered: 0,
        points: BTreeMap::new(),
        changed: Vec::new(),
        largest: 0,
    }));
    let (service, answering) = (service(), hell.clone());
    let sink = Http::start(move |request| lock(&answering).answer(&request));
    fs::write(path("token"), format!("{FIRST_TOKEN}\n")).unwrap();
    let text = PIPELINE
        .replace("FOLDER", folder.path().to_str().unwrap())
        .replace("SERVICE", &format!("http://{}/", service.addr))
        .replace("SINK", &format!("http://{}", sink.addr));
    fs::write(path("p.toml"), text).unwrap();
    let api = listener().local_addr().unwrap().to_string();
    let mut run = command(&["run", path("p.toml").to_str().unwrap()]);
    run.env("HOWDAH_LISTEN", &api).env("HOWDAH_DATA", folder.path());
    let mut howdah = Running::spawn(run, &path("log"));
    howdah.await_line(&["started", "actors=3"]);
    let actor = || -> Value {
        let all: Value = serde_json::from_str(&get(&format!("http://{api}/api/v1/actors"))).unwrap();
        all["actors"].as_array().unwrap().iter().find(|actor| actor["id"] == "p/users/0").unwrap().clone()
    };
    let log = |path: &Path| fs::read_to_string(path).unwrap();

    // Each mood until it has been met so often; what the actor says that it waits for is the sink's words.
    let away: u64 = environment("HOWDAH_FULL_TIMES").map_or(10, |_| 120);
    for (mood, times, words) in [
        (Mood::TooMany(None), 3, Some("429")),
        (Mood::TooMany(Some(1)), 2, Some("429")),
        (Mood::TooMany(Some(0)), 2, Some("429")),
        (Mood::Away, 3, Some("503")),
        (Mood::Reset, 2, None),
        (Mood::NotFound, 2, Some("bucket \"b\" not found")),
        (Mood::Unauthorized, 2, Some("unauthorized access")),
        (Mood::Failing(700), 7, None),
        (Mood::Small(700), 20, None),
    ] {
        {
            let mut hell = lock(&hell);
            (hell.mood, hell.answered, hell.relieved) = (mood, 0, mood != Mood::TooMany(None));
        }
        wait_for(&format!("{mood:?}"), || (lock(&hell).answered >= times).then_some(()), || log(&path("log")));
        if let Some(words) = words {
            let says = || actor()["waiting_on"].as_str().is_some_and(|on| on.contains(words)).then_some(());
            wait_for(words, says, || actor().to_string());
        }
        if mood == Mood::Away {
            thread::sleep(Duration::from_secs(away));
        }
        if mood == Mood::Unauthorized {
            fs::write(path("token"), format!("{SECOND_TOKEN}\n")).unwrap();
        }
    }
    lock(&hell).mood = Mood::Fine;
    let good = USERS - 2;
    let held = || (lock(&hell).points.len() >= good).then_some(());
    wait_for("every point", held, || format!("{} of {good}\n{}", lock(&hell).points.len(), log(&path("log"))));
    // The bus knows it, too, a moment later.
    let page = || get(&format!("http://{api}/metrics"));
    let labels = "{pipeline=\"p\",stage=\"users\",replica=\"0\"}";
    let out = format!("howdah_records_out_total{labels}");
    #[allow(clippy::cast_precision_loss)]
    wait_for("the last load", || (metric(&page(), &out) >= good as f64).then_some(()), page);

    let page = page();
    let of = |name: &str| metric(&page, &format!("{name}{labels}"));
    #[allow(clippy::cast_precision_loss)]
    let expected = (good as f64, 2.0);
    assert_eq!((of("howdah_records_out_total"), of("howdah_dead_letters_total")), expected);
    assert!(of("howdah_sink_failures_total") >= 12.0 && of("howdah_sink_requests_total") >= 40.0, "{page}");
    let restarts: f64 = page
        .lines()
        .filter(|line| line.starts_with("howdah_actor_restarts_total"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!(restarts == 0.0, "somebody was restarted:\n{page}");
    let megabytes = peak(howdah.id()) >> 10;
    println!("{USERS} users, {} points, at most {megabytes} MiB", lock(&hell).points.len());
    assert!(megabytes <= MAX_MIB, "{megabytes} MiB");
    howdah.terminate_in_order();

    let hell = lock(&hell);
    assert_eq!(hell.changed, [""; 0], "points were written again as others");
    let emails: BTreeSet<_> = hell.points.keys().map(|(series, _)| series.clone()).collect();
    assert_eq!((hell.points.len(), emails.len()), (good, good), "every good point once");
    for bad in [BAD, OTHER_TYPE] {
        assert!(!emails.iter().any(|series| series.contains(&format!("u{bad}@"))), "{bad} is there");
    }
    assert!(hell.largest > 2_000, "requests have {} lines at most", hell.largest);
    let (code, out, err) = finish(&mut command(&["dead-letters", "list", path("p.toml").to_str().unwrap()]));
    assert!(code == 0 && out.contains("2 dead letters"), "{out}{err}");
    for words in ["unable to parse 'users,email=u17017@example.com", "field type conflict: input field"] {
        assert!(out.contains(words), "{words:?} is not in\n{out}");
    }
    // Their records are in the topic, and so is what its other readers have of them.
    let pipeline = path("p.toml");
    let off = path("off.toml");
    let text = fs::read_to_string(&pipeline).unwrap();
    fs::write(&off, text.replace(&format!("\"http://{}\"", sink.addr), "\"\"")).unwrap();
    for file in [&pipeline, &off] {
        let resend = ["dead-letters", "resend", file.to_str().unwrap(), "--all"];
        let (code, _, err) = finish(&mut command(&resend));
        assert!(code == 1 && err.contains("a loader could not use it: sent again"), "{code}: {err}");
    }
    let mut resend = vec!["dead-letters", "resend", pipeline.to_str().unwrap(), "--all"];
    resend.push("--twice");
    let (code, out_again, err) = finish(&mut command(&resend));
    assert!(code == 0 && out_again.contains("2 dead letters sent again"), "{code}: {out_again}{err}");
    assert!(!out.contains(FIRST_TOKEN) && !log(&path("log")).contains(SECOND_TOKEN));
}
