//! A source that is polled, before a service whose every answer the test writes by hand.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    collect::source::{Received, Resume, Source},
    fault::{Fault, Retry},
    model::{Pointer, SystemClock},
    web::Secret,
};

/// What the service answers, one after another, and what it was asked.
struct Service {
    listener: TcpListener,
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn status(line: &str, more: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\nConnection: close\r\n{more}\r\nsorry")
}

impl Service {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn settings(&self) -> PollSettings {
        PollSettings {
            url: format!("http://{}/api?nat=us&key=s3cret", self.listener.local_addr().unwrap()),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            contact: None,
            period: Duration::from_millis(100),
            jitter: Duration::ZERO,
            timeout: Duration::from_secs(20),
            max_pause: Duration::from_secs(300),
            max_answer: 1_000,
            max_kept: MAX_KEPT,
            max_pages: 3,
            reading: Reading { one_line: true, ..Reading::default() },
        }
    }

    /// Answers so many requests with these texts; what was asked, heads in lower case and bodies.
    async fn answer(&self, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
        let mut asked = Vec::new();
        for text in texts {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(socket.read_u8().await.unwrap());
            }
            let mut head = String::from_utf8(request).unwrap().to_lowercase();
            let length =
                head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            let mut body = vec![0; length];
            socket.read_exact(&mut body).await.unwrap();
            head.push_str(std::str::from_utf8(&body).unwrap());
            asked.push(head);
            // Who has heard enough may have hung up.
            let _ = socket.write_all(text.as_ref().as_bytes()).await;
        }
        asked
    }
}

fn polling(settings: &PollSettings, token: &'static str) -> Polling {
    let resume = Resume { token: Bytes::from_static(token.as_bytes()), ..Resume::default() };
    Polling::new(settings, &resume, Arc::new(SystemClock)).unwrap()
}

async fn events(polling: &mut Polling) -> Vec<(Bytes, String)> {
    loop {
        match polling.next().await.unwrap() {
            Received::Events(events) => {
                return events.into_iter().map(|e| (e.token, String::from_utf8(e.data.to_vec()).unwrap())).collect();
            }
            Received::Missed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn failure(polling: &mut Polling) -> (Fault, Duration) {
    loop {
        match polling.next().await.unwrap() {
            Received::Disconnected { fault, reading: false, again_in } => return (fault, again_in),
            Received::Missed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn texts(events: Vec<(Bytes, String)>) -> Vec<String> {
    events.into_iter().map(|(_, text)| text).collect()
}

#[tokio::test]
async fn each_slot_is_asked_for_and_equal_answers_are_different_events() {
    let service = Service::start().await;
    let mut polling = polling(&service.settings(), "");
    let (same, other) = (ok("{\"a\":\n1}\n"), ok("no json"));
    let (asked, taken) = tokio::join!(service.answer([&same, &same, &other]), async {
        [events(&mut polling).await, events(&mut polling).await, events(&mut polling).await]
    });
    let version = env!("CARGO_PKG_VERSION");
    assert!(asked[0].starts_with("get /api?nat=us&key=s3cret http/1.1\r\n"), "{asked:?}");
    assert!(asked[0].contains(&format!("\r\nuser-agent: howdah/{version}\r\n")), "{asked:?}");
    let slots: Vec<u64> = taken
        .iter()
        .map(|events| String::from_utf8(events[0].0.to_vec()).unwrap().split('/').next().unwrap().parse().unwrap())
        .collect();
    assert!(slots.iter().all(|slot| slot % 100 == 0) && slots[0] < slots[1] && slots[1] < slots[2], "{slots:?}");
    assert_eq!(taken.map(texts), [["{\"a\": 1}"], ["{\"a\": 1}"], ["no json"]]);
}

#[tokio::test]
async fn a_request_bears_what_it_is_told_and_a_new_secret_counts_at_once() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "first\n").unwrap();
    let mut settings = service.settings();
    settings.method = "POST".to_owned();
    settings.body = Some("{\"q\":1}".to_owned());
    settings.contact = Some("me@example.org".to_owned());
    settings.headers = vec![
        Header { name: "Content-Type".to_owned(), value: Secret::Text("application/json".to_owned()) },
        Header { name: "X-Key".to_owned(), value: Secret::File { path: key.clone(), prefix: "Bearer ".to_owned() } },
    ];
    let mut polling = polling(&settings, "");
    let answer = ok("{}");
    let (asked, _) = tokio::join!(service.answer([&answer]), events(&mut polling));
    assert!(asked[0].starts_with("post /api"), "{asked:?}");
    for said in
        ["\r\ncontent-type: application/json\r\n", "\r\nx-key: bearer first\r\n", "(me@example.org)", "{\"q\":1}"]
    {
        assert!(asked[0].contains(said), "{said:?} in {asked:?}");
    }
    std::fs::write(&key, "second\n").unwrap();
    let (asked, _) = tokio::join!(service.answer([&answer]), events(&mut polling));
    assert!(asked[0].contains("\r\nx-key: bearer second\r\n"), "{asked:?}");
    std::fs::remove_file(&key).unwrap();
    let (fault, _) = failure(&mut polling).await;
    assert!(fault.message.contains("header X-Key") && fault.retry == Retry::Backoff, "{fault}");
    assert!(!fault.message.contains("s3cret"), "{fault}");
}

#[tokio::test]
async fn what_is_no_good_answer_is_said_and_backed_off_from() {
    let service = Service::start().await;
    let mut settings = service.settings();
    settings.reading.error = Some(Pointer::parse("/error").unwrap());
    let mut polling = polling(&settings, "");
    let answers = [
        status("429 Too Many Requests", ""),
        status("429 Too Many Requests", "Retry-After: 1\r\n"),
        status("404 Not Found", ""),
        ok("{\"error\":\"Uh oh, something has gone wrong\"}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_owned(),
        ok("{}"),
        status("500 Oh", ""),
    ];
    let (_, told) = tokio::join!(service.answer(answers), async {
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(failure(&mut polling).await);
        }
        events(&mut polling).await;
        told.push(failure(&mut polling).await);
        told
    });
    let pauses: Vec<_> = told.iter().map(|(_, pause)| pause.as_millis()).collect();
    assert_eq!(pauses, [100, 1_000, 400, 800, 1_600, 100], "one success and the first pause is a period again");
    let said = ["429 Too Many Requests: sorry", "429", "404 Not Found", "Uh oh, something", "body", "500"];
    for ((fault, _), said) in told.iter().zip(said) {
        assert!(fault.message.contains(said) && fault.message.contains("/api: "), "{fault} says {said}");
        assert!(!fault.message.contains("s3cret") && fault.retry != Retry::Never, "{fault}");
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_cannot_be_read_is_kept_whole() {
    let service = Service::start().await;
    let mut settings = service.settings();
    settings.reading.items = Some(Pointer::parse("/results").unwrap());
    let mut polling = polling(&settings, "");
    let large = format!("{{\"results\":[\"{}\"]}}", "x".repeat(200_000));
    let broken = "<html>it is late</html>";
    let (first, second, third) = (ok(&large), ok(broken), ok("{\"results\":[1]}"));
    let kept = async |polling: &mut Polling| {
        let mut body = Vec::new();
        loop {
            match polling.next().await.unwrap() {
                Received::OversizedPart(part) => body.extend_from_slice(&part),
                Received::OversizedEnd { token, unreadable } => {
                    assert!(!token.is_empty());
                    return (String::from_utf8(body).unwrap(), unreadable);
                }
                Received::Missed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let read = async {
        let taken = [kept(&mut polling).await, kept(&mut polling).await];
        let (fault, _) = failure(&mut polling).await;
        assert!(fault.message.contains("no JSON"), "{fault}");
        (taken, texts(events(&mut polling).await))
    };
    let (_, (taken, after)) = tokio::join!(service.answer([&first, &second, &third]), read);
    assert_eq!([&*taken[0].0, &*taken[1].0], [&*large, broken]);
    assert_eq!((taken[0].1.as_deref(), taken[1].1.is_some()), (None, true));
    assert_eq!(after, ["1"]);
}

#[tokio::test]
async fn pages_follow_one_another_and_only_on_the_same_host() {
    let service = Service::start().await;
    let mut settings = service.settings();
    settings.period = Duration::from_secs(3_600);
    settings.reading.items = Some(Pointer::parse("/r").unwrap());
    let pointer = Pointer::parse("/next").unwrap();
    settings.reading.next = Some(Next { pointer: pointer.clone(), parameter: None });
    let mut polling = polling(&settings, "");
    let (one, two) =
        (ok("{\"r\":[1,2],\"next\":\"/more?p=2\"}"), ok("{\"r\":[3],\"next\":\"http://example.org/steal\"}"));
    let (asked, (taken, (fault, _))) = tokio::join!(service.answer([&one, &two]), async {
        let taken = [events(&mut polling).await, events(&mut polling).await];
        (taken, failure(&mut polling).await)
    });
    assert!(asked[1].starts_with("get /more?p=2 "), "{asked:?}");
    assert!(fault.message.contains("another host"), "{fault}");
    let tokens: Vec<_> = taken.iter().flatten().map(|(token, _)| token.clone()).collect();
    let is_more: Vec<_> = tokens.iter().map(|token| token.ends_with(b"+")).collect();
    assert_eq!(is_more, [true, true, true], "there was a page behind each, whatever it is");
    let places: Vec<_> = tokens
        .iter()
        .map(|token| String::from_utf8_lossy(token).split('@').next().unwrap().split_once('/').unwrap().1.to_owned())
        .collect();
    assert_eq!(places, ["0/0", "0/1", "1/0"]);

    settings.reading.next = Some(Next { pointer, parameter: Some("page".to_owned()) });
    settings.url.push_str("&page=1");
    let mut polling = self::polling(&settings, "");
    let endless = ok("{\"r\":[1],\"next\":2}");
    let (asked, (fault, _)) = tokio::join!(service.answer([&endless, &endless, &endless]), async {
        for _ in 0..3 {
            events(&mut polling).await;
        }
        failure(&mut polling).await
    });
    assert!(asked[1].starts_with("get /api?nat=us&key=s3cret&page=2 "), "{asked:?}");
    assert!(fault.message.contains("more than 3 pages"), "{fault}");
}

#[tokio::test]
async fn a_restart_asks_for_the_slot_behind_the_last_one_and_says_what_passed() {
    let service = Service::start().await;
    let mut settings = service.settings();
    settings.period = Duration::from_secs(1);
    let now = crate::model::Clock::now(&SystemClock);
    let token = format!("{}/0/0@{now}", (now / 1_000 - 10) * 1_000);
    let resume = Resume { token: token.into(), ..Resume::default() };
    let mut polling = Polling::new(&settings, &resume, Arc::new(SystemClock)).unwrap();
    let Received::Missed(times) = polling.next().await.unwrap() else { panic!("nothing was missed") };
    assert!((9..=11).contains(&times), "{times}");
    // In the middle of its pages.
    let token = format!("{}/0/0@{now}+", now / 1_000 * 1_000);
    let resume = Resume { token: token.into(), ..Resume::default() };
    let mut polling = Polling::new(&settings, &resume, Arc::new(SystemClock)).unwrap();
    let Received::Missed(1) = polling.next().await.unwrap() else { panic!("the other pages were missed") };
}

#[tokio::test]
async fn an_answer_that_never_ends_is_kept_in_part_and_backed_off_from() {
    let service = Service::start().await;
    let mut settings = service.settings();
    let check = async |polling: &mut Polling, chunk: usize| {
        let drip = async {
            let (mut socket, _) = service.listener.accept().await.unwrap();
            while socket.read_u8().await.unwrap() != b'\r' {}
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while socket.write_all(&vec![b'x'; chunk]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let heard = async {
            let mut bytes = 0;
            loop {
                match polling.next().await.unwrap() {
                    Received::OversizedPart(part) => bytes += part.len(),
                    Received::OversizedEnd { unreadable, .. } => break (bytes, unreadable),
                    Received::OversizedVoid => break (bytes, None),
                    Received::Missed(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let (bytes, why) = tokio::select! {
            heard = heard => heard,
            () = drip => panic!("nobody listened"),
        };
        let (fault, _) = failure(polling).await;
        let said = format!("an answer that does not end, of {bytes} bytes so far");
        assert!(fault.message.ends_with(&said), "{fault}");
        (bytes, why.map(|why| why == said))
    };
    // For long, and for much.
    settings.timeout = Duration::from_millis(200);
    let (bytes, is_kept) = check(&mut polling(&settings, ""), 500).await;
    assert!(bytes > 1_000 && is_kept == Some(true), "{bytes}");
    settings.timeout = Duration::from_secs(20);
    settings.max_kept = 50_000;
    let mut polling = polling(&settings, "");
    let (bytes, is_kept) = check(&mut polling, 10_000).await;
    assert!((50_000..200_000).contains(&bytes) && is_kept == Some(true), "{bytes}");
    // The next one is as the first, and the disk is not for all of them.
    assert_eq!(check(&mut polling, 10_000).await.1, None);
    let ((), taken) = tokio::join!(async { drop(service.answer([ok("{}")]).await) }, events(&mut polling));
    assert_eq!(texts(taken), ["{}"]);
    assert_eq!(check(&mut polling, 10_000).await.1, Some(true), "after a success it is the first again");
}

#[tokio::test]
async fn an_answer_under_way_survives_that_nobody_waits_for_it() {
    let service = Service::start().await;
    let mut polling = polling(&service.settings(), "");
    let answer = ok("{}");
    let (mut served, mut asked) = (std::pin::pin!(service.answer([answer])), Vec::new());
    while asked.is_empty() {
        // Dropped and begun anew, again and again.
        tokio::select! {
            done = &mut served => asked = done,
            received = polling.next() => assert!(matches!(received, Ok(Received::Missed(_))), "{received:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    polling.hang_up();
    assert_eq!(texts(events(&mut polling).await), ["{}"]);
}
