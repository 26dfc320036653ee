//! The server, read by a client of a few lines on a bare socket.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    collect::sse::token,
    recorded::feed::{Layout, tests::recording},
};

async fn served(n: usize, per_millisecond: usize, options: Options) -> (Served, JoinSet<()>) {
    let feed = Feed::load(recording(n, per_millisecond).as_bytes(), Layout::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (served, work) = serve(listener, Arc::new(feed), options, std::future::pending()).unwrap();
    let mut running = JoinSet::new();
    running.spawn(work);
    (served, running)
}

/// An open connection and what came over it.
struct Client {
    stream: TcpStream,
    raw: Vec<u8>,
    since: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    n: usize,
    id: String,
}

impl Client {
    async fn send(served: &Served, request: &str) -> Self {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, raw: Vec::new(), since: Instant::now() }
    }

    /// By HTTP/1.0, whose answers have no chunks.
    async fn get(served: &Served, path: &str, headers: &str) -> Self {
        Self::send(served, &format!("GET {path} HTTP/1.0\r\nUser-Agent: test (a@b.c)\r\n{headers}\r\n")).await
    }

    /// Reads on; whether there was anything.
    async fn more(&mut self) -> bool {
        assert!(self.since.elapsed() < Duration::from_secs(20), "what was waited for never came");
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read(&mut buffer)).await;
        let read = read.expect("what was waited for never came").unwrap_or(0);
        self.raw.extend_from_slice(&buffer[..read]);
        read > 0
    }

    async fn until_its_end(mut self) -> Self {
        while self.more().await {}
        self
    }

    /// Reads until there are so many events, or the stream ends.
    async fn events(&mut self, n: usize) -> Vec<Got> {
        while self.got().len() < n && self.more().await {}
        self.got()
    }

    fn status(&self) -> u16 {
        String::from_utf8_lossy(&self.raw).split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn body(&self) -> Vec<u8> {
        let head = self.raw.windows(4).position(|four| four == b"\r\n\r\n");
        head.map_or(Vec::new(), |head| self.raw[head + 4..].to_vec())
    }

    /// The whole events of the body, by the standard's rules.
    fn got(&self) -> Vec<Got> {
        let text = String::from_utf8_lossy(&self.body()).replace("\r\n", "\n").replace('\r', "\n");
        let (mut got, mut id, mut data, mut kind) = (Vec::new(), String::new(), String::new(), String::new());
        let Some(end) = text.rfind("\n\n") else { return got };
        for line in text[..end + 2].trim_start_matches('\u{feff}').split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" if !value.contains('\0') => id = value,
                "data" => data = value,
                "event" => kind = value,
                "" if line.is_empty() && !data.is_empty() => {
                    if kind == "message" {
                        let event: serde_json::Value = serde_json::from_str(&data).expect(&data);
                        assert_eq!(event["title"], "Žluťoučký kůň 馬");
                        got.push(Got { n: event["n"].as_u64().unwrap() as usize, id: id.clone() });
                    }
                    data.clear();
                }
                _ => {}
            }
        }
        got
    }
}

fn numbers(got: &[Got]) -> Vec<usize> {
    got.iter().map(|got| got.n).collect()
}

/// As a client has to ask that loses nothing.
fn resume(got: &Got) -> String {
    let token = token::follow(&Bytes::new(), Bytes::copy_from_slice(got.id.as_bytes()), Some(0));
    format!("Last-Event-ID: {}\r\n", std::str::from_utf8(&token::ask(&token, 1_000)).unwrap())
}

const ENDING: Options =
    Options { speed: 0.0, cut_every: None, max_connections: 2, keep_open: false, hostile: false, seed: 7 };

#[tokio::test]
async fn a_stream_begins_as_wikimedias_and_holds_every_event() {
    let (served, _running) = served(300, 4, ENDING).await;
    let client = Client::get(&served, "/v2/stream/recentchange", "").await.until_its_end().await;
    let head = String::from_utf8_lossy(&client.raw).to_lowercase();
    assert!(head.starts_with("http/1.0 200 ok\r\n"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(client.body().starts_with(b":ok\n\nevent: message\nid: [{\"topic\":\"eqiad."));
    let mut all = numbers(&client.got());
    all.sort_unstable();
    assert_eq!(all, (0..300).collect::<Vec<_>>());
    let progress = served.progress();
    assert_eq!((progress.released, progress.sent, progress.connections, progress.resumes), (300, 300, 1, 0));
}

#[tokio::test]
async fn a_resume_repeats_the_last_millisecond_and_goes_on() {
    let (served, _running) = served(200, 5, Options { keep_open: true, ..ENDING }).await;
    let mut first = Client::get(&served, "/", "").await;
    let before = first.events(50).await[..50].to_vec();
    drop(first);
    let last = before.last().unwrap();
    let mut second = Client::get(&served, "/", &resume(last)).await;
    let mut after = numbers(&second.events(150).await);
    while after.iter().chain(&numbers(&before)).collect::<BTreeSet<_>>().len() < 200 {
        let wanted = after.len() + 1;
        after = numbers(&second.events(wanted).await);
    }
    assert!(after.contains(&last.n), "the last event comes again");
    let repeated = after.iter().filter(|n| numbers(&before).contains(n)).count();
    assert!((1..=10).contains(&repeated), "{repeated}");
    assert_eq!((served.progress().resumes, served.progress().connections), (1, 2));
}

#[tokio::test]
async fn two_connections_interleave_differently_and_keep_each_topics_order() {
    let (served, _running) = served(300, 4, ENDING).await;
    let one = numbers(&Client::get(&served, "/", "").await.until_its_end().await.got());
    let other = numbers(&Client::get(&served, "/", "").await.until_its_end().await.got());
    assert_ne!(one, other);
    for order in [one, other] {
        for topic in served.shared.feed.topics() {
            let of_topic = order.iter().copied().filter(|n| topic.events.contains(n)).collect::<Vec<_>>();
            assert_eq!(of_topic, topic.events);
        }
    }
}

#[tokio::test]
async fn since_is_where_it_starts() {
    let (served, _running) = served(100, 1, ENDING).await;
    for (query, expected) in [
        ("", 0),
        ("?since=1442018818040", 40),
        ("?x=y&since=2015-09-12T00%3A46%3A58.040Z", 40),
        ("?since=2015-09-12T00:46:58.099Z", 99),
        ("?since=1760000000000", 0),
    ] {
        let got = Client::get(&served, &format!("/{query}"), "").await.until_its_end().await.got();
        assert_eq!(numbers(&got).into_iter().collect::<BTreeSet<_>>(), (expected..100).collect(), "{query}");
    }
}

#[tokio::test]
async fn what_it_cannot_follow_is_400_and_a_nameless_client_403() {
    let (served, _running) = served(10, 1, ENDING).await;
    for (path, headers) in [
        ("/?since=yesterday", ""),
        ("/?since=", ""),
        ("/", "Last-Event-ID: 7\r\n"),
        ("/", "Last-Event-ID: [{\"topic\":\"eqiad.other\",\"partition\":0,\"timestamp\":1}]\r\n"),
    ] {
        let client = Client::get(&served, path, headers).await.until_its_end().await;
        assert_eq!(client.status(), 400, "{path} {headers}");
    }
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nUser-Agent: \r\n\r\n"] {
        assert_eq!(Client::send(&served, request).await.until_its_end().await.status(), 403);
    }
    let post = Client::send(&served, "POST / HTTP/1.0\r\nUser-Agent: x\r\n\r\n").await.until_its_end().await;
    assert_eq!(post.status(), 405);
    assert_eq!(served.progress().connections, 0, "none of these is a stream");
}

#[tokio::test]
async fn one_connection_too_many_is_429_until_another_ends() {
    let (served, _running) = served(10, 1, Options { keep_open: true, ..ENDING }).await;
    let mut one = Client::get(&served, "/", "").await;
    let mut two = Client::get(&served, "/", "").await;
    assert_eq!((one.events(10).await.len(), two.events(10).await.len()), (10, 10));
    assert_eq!(Client::get(&served, "/", "").await.until_its_end().await.status(), 429);
    drop(one);
    while served.progress().open > 1 {
        tokio::task::yield_now().await;
    }
    let mut three = Client::get(&served, "/", "").await;
    assert_eq!(three.events(10).await.len(), 10);
}

#[tokio::test]
async fn a_cut_is_no_proper_end_and_following_it_loses_nothing() {
    for hostile in [false, true] {
        let options = Options { cut_every: Some(12), keep_open: true, hostile, ..ENDING };
        let (served, _running) = served(300, 3, options).await;
        let (mut seen, mut header) = (BTreeSet::new(), String::new());
        let (mut connections, mut within, mut within_character) = (0, 0, 0);
        while seen.len() < 300 {
            connections += 1;
            let mut client = Client::get(&served, "/", &header).await;
            // The last connection has too few events left for a cut.
            while client.more().await && seen.len() < 300 {
                seen.extend(numbers(&client.got()));
            }
            let body = client.body();
            within += usize::from(!body.ends_with(b"\n\n") && !body.ends_with(b"\r\r") && !body.ends_with(b"\n\r\n"));
            within_character += usize::from(std::str::from_utf8(&body).is_err());
            if let Some(last) = client.got().last() {
                header = resume(last);
            }
        }
        assert!((300 / 18..300 / 4).contains(&connections), "{connections} connections");
        assert!(within > connections / 4, "{within} of {connections} cut within an event");
        assert!(within_character > 0, "none of {connections} cut within a character");
        assert_eq!(served.progress().resumes, connections as u64 - 1);
    }
}

#[tokio::test]
async fn a_cut_shows_in_http_as_well() {
    let request = "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: x\r\n\r\n";
    let (cut, _cutting) = served(50, 1, Options { cut_every: Some(5), ..ENDING }).await;
    assert!(!Client::send(&cut, request).await.until_its_end().await.raw.ends_with(b"0\r\n\r\n"));
    let (whole, _running) = served(50, 1, ENDING).await;
    let mut client = Client::send(&whole, request).await;
    while !client.raw.ends_with(b"\r\n0\r\n\r\n") {
        assert!(client.more().await, "ended without a last chunk");
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_released_on_one_clock_for_all_connections() {
    let (served, _running) = served(100, 1, Options { speed: 10.0, keep_open: true, ..ENDING }).await;
    assert_eq!(served.progress().released, 0, "the clock starts with the first connection");
    let mut first = Client::get(&served, "/", "").await;
    let started = Instant::now();
    let before = first.events(21).await;
    let took = started.elapsed().as_secs_f64();
    assert!((1.9..3.0).contains(&took), "21 events at 10 a second took {took} s");
    drop(first);

    sleep(Duration::from_secs(3)).await;
    let again = Instant::now();
    let mut second = Client::get(&served, "/", &resume(before.last().unwrap())).await;
    assert!(second.events(28).await.len() >= 28, "what was released meanwhile");
    assert!(again.elapsed() < Duration::from_millis(800), "is there at once: {:?}", again.elapsed());
    second.events(79).await;
    let took = started.elapsed().as_secs_f64();
    assert!((9.5..11.0).contains(&took), "all after {took} s");
    assert_eq!(served.progress().released, 100);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_a_stream_lives_on_by_comments() {
    let (served, _running) = served(5, 1, Options { keep_open: true, ..ENDING }).await;
    let mut client = Client::get(&served, "/", "").await;
    client.events(5).await;
    let started = Instant::now();
    while !client.body().ends_with(b"\n\n:\n\n:\n\n:\n\n") {
        assert!(client.more().await);
    }
    let took = started.elapsed().as_secs_f64();
    assert!((2.9..3.2).contains(&took), "three comments took {took} s");
}

#[tokio::test]
async fn progress_is_told_to_anybody() {
    let (served, _running) = served(5, 1, ENDING).await;
    let ask = "GET /_progress HTTP/1.0\r\n\r\n";
    let before = Client::send(&served, ask).await.until_its_end().await;
    let expected = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let told = |client: &Client| serde_json::from_slice::<serde_json::Value>(&client.body()).unwrap();
    let nothing = "{\"released\":0,\"total\":5,\"connections\":0,\"open\":0,\"resumes\":0,\"sent\":0}";
    assert_eq!(told(&before), expected(nothing));
    let got = Client::get(&served, "/", "").await.until_its_end().await.got();
    Client::get(&served, "/", &resume(&got[4])).await.until_its_end().await;
    let after = Client::send(&served, ask).await.until_its_end().await;
    let told = told(&after);
    assert_eq!((&told["released"], &told["connections"], &told["resumes"]), (&5.into(), &2.into(), &1.into()));
}

#[tokio::test]
async fn shutdown_ends_the_server_and_its_connections() {
    let feed = Feed::load(recording(5, 1).as_bytes(), Layout::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (served, work) = serve(listener, Arc::new(feed), Options::default(), async {
        let _ = stopped.await;
    })
    .unwrap();
    let mut client = Client::get(&served, "/", "").await;
    let (got, ()) = tokio::join!(
        async {
            let got = client.events(5).await.len();
            stop.send(()).unwrap();
            got
        },
        work
    );
    assert_eq!(got, 5);
    client.until_its_end().await;
    assert_eq!(served.progress().open, 0);
}
