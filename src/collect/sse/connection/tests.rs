use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::fault::Domain;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";

/// A server whose every answer the test writes by hand.
struct Server {
    listener: TcpListener,
}

struct Visitor {
    socket: TcpStream,
    request: String,
}

impl Server {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn settings(&self) -> SseSettings {
        SseSettings {
            url: format!("http://{}/v2/stream", self.listener.local_addr().unwrap()),
            contact: None,
            reconnect_after: Duration::from_secs(3_600),
            silence: Duration::from_secs(30),
            max_event: 1_000,
        }
    }

    /// The next connection, with its request head, in lower case.
    async fn visitor(&self) -> Visitor {
        let (mut socket, _) = self.listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        Visitor { socket, request: String::from_utf8(request).unwrap().to_lowercase() }
    }
}

impl Visitor {
    async fn say(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    async fn left(mut self) {
        let _ = self.socket.read(&mut [0]).await;
    }
}

async fn events(stream: &mut Stream) -> Vec<String> {
    let Received::Events(events) = stream.next().await.unwrap() else { panic!("no events") };
    let text = |event: &RawEvent| format!("[{}]={}", event.token.escape_ascii(), event.data.escape_ascii());
    events.iter().map(text).collect()
}

async fn connected(stream: &mut Stream) -> bool {
    match stream.next().await.unwrap() {
        Received::Connected { resumed } => resumed,
        other => panic!("{other:?}"),
    }
}

async fn disconnected(stream: &mut Stream) -> (Fault, bool, Duration) {
    match stream.next().await.unwrap() {
        Received::Disconnected { fault, reading, again_in } => (fault, reading, again_in),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_request_says_who_asks_and_from_where() {
    let server = Server::start().await;
    let request = async |settings: SseSettings, resume: Resume| {
        let connector = Connector::new(&settings).unwrap();
        let (opened, visitor) = tokio::join!(connector.open(&resume), async {
            let mut visitor = server.visitor().await;
            visitor.say(HEAD).await;
            visitor
        });
        opened.unwrap();
        visitor.request
    };
    let version = env!("CARGO_PKG_VERSION");

    let plain = request(server.settings(), Resume::default()).await;
    assert!(plain.starts_with("get /v2/stream http/1.1\r\n"), "{plain}");
    assert!(plain.contains("\r\naccept: text/event-stream\r\n"), "{plain}");
    assert!(plain.contains(&format!("\r\nuser-agent: howdah/{version}\r\n")), "{plain}");
    assert!(!plain.contains("last-event-id"), "{plain}");

    let settings = SseSettings { contact: Some("me@example.org".to_owned()), ..server.settings() };
    let since = request(settings, Resume { since: Some(1_441_929_600_123), ..Resume::default() }).await;
    assert!(since.starts_with("get /v2/stream?since=2015-09-11t00%3a00%3a00.123z http/1.1\r\n"), "{since}");
    assert!(since.contains(&format!("\r\nuser-agent: howdah/{version} (me@example.org)\r\n")), "{since}");

    let token = Bytes::from_static(br#"[{"topic":"a","timestamp":1}]"#);
    let settings = SseSettings { url: format!("{}?a=b", server.settings().url), ..server.settings() };
    let resumed = request(settings, Resume { token, since: Some(0), ..Resume::default() }).await;
    assert!(resumed.starts_with("get /v2/stream?a=b http/1.1\r\n"), "{resumed}");
    assert!(resumed.contains("\r\nlast-event-id: [{\"topic\":\"a\",\"timestamp\":1}]\r\n"), "{resumed}");
}

#[tokio::test]
async fn events_come_in_order_and_move_the_token() {
    let server = Server::start().await;
    let mut stream = Stream::new(&server.settings(), Resume::default()).unwrap();
    let (resumed, mut visitor) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(HEAD).await;
        visitor
    });
    assert!(!resumed);
    visitor.say(":ok\n\nid: 1\ndata: a\n\nid: 2\nevent: k\ndata: b\n\nid: 3\ndata: c").await;
    assert_eq!(events(&mut stream).await, ["[1]=a", "[2]=b"]);
    assert_eq!(stream.resume().token, "2");
    visitor.say("c\n\n").await;
    assert_eq!(events(&mut stream).await, ["[3]=cc"]);
    assert_eq!(stream.resume().token, "3");
}

#[tokio::test]
async fn a_chunk_of_many_events_is_handed_out_in_bounded_batches() {
    let server = Server::start().await;
    let mut stream = Stream::new(&server.settings(), Resume::default()).unwrap();
    let mut received = Vec::new();
    let serve = async {
        let mut visitor = server.visitor().await;
        let many: String = (0..2_000).map(|n| format!("id: {n}\ndata: x\n\n")).collect();
        visitor.say(HEAD).await;
        visitor.say(&many).await;
        visitor
    };
    let read = async {
        connected(&mut stream).await;
        while received.len() < 2_000 {
            let batch = events(&mut stream).await;
            assert!(batch.len() <= MAX_EVENTS);
            received.extend(batch);
        }
    };
    let (_visitor, ()) = tokio::join!(serve, read);
    let expected: Vec<_> = (0..2_000).map(|n| format!("[{n}]=x")).collect();
    assert_eq!(received, expected);
}

#[tokio::test]
async fn an_event_above_the_bound_comes_in_pieces_and_moves_the_token() {
    let server = Server::start().await;
    let mut stream = Stream::new(&server.settings(), Resume::default()).unwrap();
    let serve = async {
        let mut visitor = server.visitor().await;
        visitor.say(&format!("{HEAD}id: 9\ndata: {}\n\n", "y".repeat(5_000))).await;
        visitor
    };
    let read = async {
        connected(&mut stream).await;
        let mut got = 0;
        loop {
            match stream.next().await.unwrap() {
                Received::OversizedPart(part) => got += part.len() as u64,
                Received::OversizedEnd { token, .. } => return (token, got),
                other => panic!("{other:?}"),
            }
        }
    };
    let (_visitor, end) = tokio::join!(serve, read);
    assert_eq!(end, (Bytes::from_static(b"9"), 5_000));
    assert_eq!(stream.resume().token, "9");
}

#[tokio::test]
async fn a_cut_is_resumed_by_the_id_of_the_last_event_taken() {
    let server = Server::start().await;
    let mut stream = Stream::new(&server.settings(), Resume { since: Some(0), ..Resume::default() }).unwrap();
    let (_, ()) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(&format!("{HEAD}retry: 10\nid: 1\ndata: a\n\nid: 2\ndata: never ended\n")).await;
    });
    assert_eq!(events(&mut stream).await, ["[1]=a"]);
    let (fault, reading, again_in) = disconnected(&mut stream).await;
    assert_eq!((fault.domain, reading), (Domain::External, false));
    assert!(again_in <= Duration::from_millis(100), "{again_in:?}");
    let (resumed, mut visitor) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(HEAD).await;
        visitor
    });
    assert!(resumed);
    assert!(visitor.request.contains("\r\nlast-event-id: 1\r\n"), "{}", visitor.request);
    assert!(!visitor.request.contains("since"), "{}", visitor.request);
    // What the first connection left open is not of the second one.
    visitor.say("data: b\n\n").await;
    assert_eq!(events(&mut stream).await, ["[]=b"]);
}

#[tokio::test]
async fn the_next_connection_is_read_only_after_the_present_one_is_left() {
    let server = Server::start().await;
    let settings = SseSettings { reconnect_after: Duration::from_millis(20), ..server.settings() };
    let mut stream = Stream::new(&settings, Resume::default()).unwrap();
    let (_, mut old) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(&format!("{HEAD}id: 1\ndata: a\n\n")).await;
        visitor
    });
    assert_eq!(events(&mut stream).await, ["[1]=a"]);
    // The second one is open, its head has not come: the first one is read on.
    let (second, mut new) = tokio::join!(events(&mut stream), async {
        let visitor = server.visitor().await;
        old.say("id: 2\ndata: b\n\n").await;
        visitor
    });
    assert_eq!(second, ["[2]=b"]);
    assert!(new.request.contains("\r\nlast-event-id: 1\r\n"), "{}", new.request);
    // The head comes, with events behind it: the old one is left, the new one read from its first
    // byte, known events included, and the token goes back with it.
    new.say(&format!("{HEAD}id: 1\ndata: a\n\n")).await;
    assert!(connected(&mut stream).await);
    old.left().await;
    assert_eq!(events(&mut stream).await, ["[1]=a"]);
    assert_eq!(stream.resume().token, "1");
}

#[tokio::test]
async fn a_refused_next_connection_leaves_the_present_one_as_it_is() {
    let server = Server::start().await;
    let settings = SseSettings { reconnect_after: Duration::from_millis(20), ..server.settings() };
    let mut stream = Stream::new(&settings, Resume::default()).unwrap();
    let (_, mut old) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(HEAD).await;
        visitor
    });
    for (status, retry, least) in [("403 Forbidden", "", 0), ("429 Too Many Requests", "Retry-After: 70\r\n", 60)] {
        let ((_, reading, again_in), ()) = tokio::join!(disconnected(&mut stream), async {
            let mut visitor = server.visitor().await;
            visitor.say(&format!("HTTP/1.1 {status}\r\n{retry}Content-Length: 0\r\n\r\n")).await;
        });
        assert!(reading, "{status}");
        assert!(again_in > Duration::from_secs(least), "{status}: {again_in:?}");
    }
    old.say("id: 1\ndata: a\n\n").await;
    assert_eq!(events(&mut stream).await, ["[1]=a"]);
}

#[tokio::test]
async fn an_error_event_ends_the_connection_after_what_came_before_it() {
    let server = Server::start().await;
    let mut stream = Stream::new(&server.settings(), Resume::default()).unwrap();
    let (_, visitor) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor
            .say(&format!("{HEAD}id: 1\ndata: a\n\nevent: error\nid: 2\ndata: no broker\n\nid: 3\ndata: c\n\n"))
            .await;
        visitor
    });
    assert_eq!(events(&mut stream).await, ["[1]=a"]);
    let (fault, reading, again_in) = disconnected(&mut stream).await;
    assert!(fault.message.ends_with("the server reports an error: no broker"), "{fault}");
    assert!(!reading && again_in > Duration::from_millis(900), "{again_in:?}");
    assert_eq!(stream.resume().token, "1");
    visitor.left().await;
    // What came behind the error is void: the next thing is the next connection.
    let (resumed, visitor) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(HEAD).await;
        visitor
    });
    assert!(resumed && visitor.request.contains("\r\nlast-event-id: 1\r\n"), "{}", visitor.request);
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let server = Server::start().await;
    let settings = SseSettings { silence: Duration::from_millis(300), ..server.settings() };
    let mut stream = Stream::new(&settings, Resume::default()).unwrap();
    let (_, visitor) = tokio::join!(connected(&mut stream), async {
        let mut visitor = server.visitor().await;
        visitor.say(&format!("{HEAD}:\n")).await;
        visitor
    });
    let (fault, ..) = disconnected(&mut stream).await;
    assert!(fault.message.contains("silence"), "{fault}");
    visitor.left().await;
}

#[tokio::test]
async fn dropping_the_future_loses_nothing() {
    let server = Server::start().await;
    let mut stream = Stream::new(&server.settings(), Resume::default()).unwrap();
    let mut received = Vec::new();
    let serve = async {
        let mut visitor = server.visitor().await;
        for byte in
            HEAD.chars().chain((0..20).flat_map(|n| format!("id: {n}\ndata: x\n\n").chars().collect::<Vec<_>>()))
        {
            visitor.say(&byte.to_string()).await;
            tokio::task::yield_now().await;
        }
        visitor
    };
    let read = async {
        while received.len() < 20 {
            // Polled a few times, then dropped.
            let few = async {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                next = stream.next() => if let Received::Events(events) = next.unwrap() {
                    received.extend(events.into_iter().map(|event| event.token));
                },
                () = few => {}
            }
        }
    };
    let (_visitor, ()) = tokio::join!(serve, read);
    assert_eq!(received, (0..20).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>());
}

async fn check_refusal(head: &str, domain: Domain, retry: Retry, message: &str) {
    let server = Server::start().await;
    let connector = Connector::new(&server.settings()).unwrap();
    let resume = Resume::default();
    let (opened, ()) = tokio::join!(connector.open(&resume), async {
        server.visitor().await.say(&format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\ntoo bad\n")).await;
    });
    let fault = opened.unwrap_err();
    assert_eq!((fault.domain, fault.retry), (domain, retry), "{head}: {fault}");
    assert!(fault.message.contains(message), "{head}: {fault}");
}

#[tokio::test]
async fn refusals_are_classified() {
    let seconds = |n| Retry::After(Duration::from_secs(n));
    check_refusal("429 Slow Down\r\nRetry-After: 7", Domain::External, seconds(7), "429 Too Many Requests: too bad")
        .await;
    check_refusal("429 Slow Down", Domain::External, Retry::Backoff, "429").await;
    check_refusal("503 Away\r\nRetry-After: 120", Domain::External, seconds(120), "503").await;
    let dates = "Date: Fri, 11 Sep 2015 10:00:00 GMT\r\nRetry-After: Fri, 11 Sep 2015 10:00:30 GMT";
    check_refusal(&format!("503 Away\r\n{dates}"), Domain::External, seconds(30), "503").await;
    check_refusal("503 Away\r\nRetry-After: soon", Domain::External, Retry::Backoff, "503").await;
    check_refusal("500 Oh", Domain::External, Retry::Backoff, "500").await;
    check_refusal("408 Late", Domain::External, Retry::Backoff, "408").await;
    check_refusal("404 No", Domain::User, Retry::Never, "404 Not Found: too bad").await;
    check_refusal("400 No", Domain::User, Retry::Never, "400").await;
    check_refusal("200 OK\r\nContent-Type: text/html", Domain::External, Retry::Backoff, "text/html").await;
    check_refusal("204 Gone", Domain::External, Retry::Never, "204").await;
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again_and_a_refusal_is_final() {
    let server = Server::start().await;
    let settings = server.settings();
    let mut away = Stream::new(&settings, Resume::default()).unwrap();
    let mut refused = Stream::new(&settings, Resume::default()).unwrap();
    let (fault, ()) = tokio::join!(refused.next(), async {
        server.visitor().await.say("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").await;
    });
    assert_eq!(fault.unwrap_err().domain, Domain::User);
    drop(server);
    let (fault, reading, again_in) = disconnected(&mut away).await;
    assert_eq!((fault.domain, fault.retry, reading), (Domain::External, Retry::Backoff, false), "{fault}");
    assert!(again_in > Duration::from_millis(900), "{again_in:?}");
}

fn settings(url: &str, contact: &str) -> SseSettings {
    SseSettings {
        url: url.to_owned(),
        contact: Some(contact.to_owned()),
        reconnect_after: Duration::from_secs(1),
        silence: Duration::from_secs(1),
        max_event: 1,
    }
}

#[tokio::test]
async fn no_fault_tells_the_secrets_of_an_address() {
    // Nobody listens at port 9; the others are no addresses for us.
    for url in [
        "http://anna:s3cret@127.0.0.1:9/v2?token=s3cret#s3cret",
        "ftp://anna:s3cret@x/?s3cret",
        "http://anna:s3cret@x:port?s3cret",
    ] {
        let fault = match Connector::new(&settings(url, "me")) {
            Ok(connector) => connector.open(&Resume::default()).await.unwrap_err(),
            Err(fault) => fault,
        };
        assert!(!fault.to_string().contains("s3cret") && !format!("{fault:?}").contains("s3cret"), "{fault:?}");
    }
}

#[test]
fn settings_that_cannot_work_are_the_users() {
    for (url, contact) in [("stream", "me"), ("ftp://x/", "me"), ("http://x/", "a\nb")] {
        assert_eq!(Connector::new(&settings(url, contact)).unwrap_err().domain, Domain::User, "{url} {contact:?}");
    }
    assert!(Connector::new(&settings("https://stream.wikimedia.org/v2/stream/recentchange", "me@example.org")).is_ok());
}
