//! Recorded answers of an HTTP API: each request gets the next one, and after the last one the first again.
//!
//! Of a busy service's ways it keeps those that a client stumbles over, if it is told to: every so many
//! requests it is out of sorts, and then it says so in another way each time: 429 with and without a time to
//! wait, 500, an error dressed as a success, an answer that breaks off. An answer that was not given is given
//! to the next request.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use super::feed::lines;
use crate::fault::{Fault, Result};

/// Between an answer's beginning and its break, so that the beginning leaves before it.
const BEFORE_BREAK: Duration = Duration::from_millis(5);

/// A recording of answers.
#[derive(Clone, Debug)]
pub struct Answers(Arc<[Bytes]>);

impl Answers {
    /// Opens a file of answers, one a line, plain or gzip.
    ///
    /// # Errors
    /// As [`Answers::load`], with the file's name.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || format!("recording {}", path.display());
        let file = File::open(path).map_err(|error| Fault::io(place(), &error))?;
        Self::load(BufReader::new(file)).map_err(|fault| fault.at(place()))
    }

    /// Loads answers, one a line, plain or gzip. Empty lines are none.
    ///
    /// # Errors
    /// `Data` if it is no whole gzip, or if there is no answer.
    pub fn load(reader: impl BufRead) -> Result<Self> {
        Ok(Self(lines(reader)?.into()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, which never is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A server that runs.
#[derive(Clone)]
pub struct Serving {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Serving {
    /// How many answers it has given whole.
    pub fn given(&self) -> usize {
        self.shared.given.load(Ordering::SeqCst)
    }
}

struct Shared {
    answers: Answers,
    moody_every: usize,
    requests: AtomicUsize,
    given: AtomicUsize,
}

/// Serves answers on `listener` until `shutdown`; every `moody_every`-th request finds the service out of sorts, 0
/// for never. Answers with what to look at it with, and with the work, which is to be awaited or spawned.
///
/// # Errors
/// `External` if the listener has no address.
pub fn serve_answers(
    listener: TcpListener,
    answers: Answers,
    moody_every: usize,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(Serving, impl Future<Output = ()> + Send + 'static)> {
    let addr = listener.local_addr().map_err(|error| Fault::io("address of the answers' server", &error))?;
    let (requests, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shared = Arc::new(Shared { answers, moody_every, requests, given });
    let serving = Serving { addr, shared: Arc::clone(&shared) };
    let work = async move {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let shared = Arc::clone(&shared);
                    let service = service_fn(move |_: Request<Incoming>| {
                        let answer = shared.answer();
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            }
        }
    };
    Ok((serving, work))
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl Shared {
    fn answer(&self) -> Response<Body> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if self.moody_every > 0 && number.is_multiple_of(self.moody_every) {
            return moody(number / self.moody_every);
        }
        let nth = self.given.fetch_add(1, Ordering::SeqCst);
        respond(StatusCode::OK, self.answers.0[nth % self.answers.len()].clone())
    }
}

fn moody(time: usize) -> Response<Body> {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let busy = text(r#"{"error":"Whoa, ease up there. You've made too many requests."}"#);
    match time % 5 {
        0 => respond(StatusCode::OK, text(r#"{"error":"Something has gone wrong."}"#)),
        1 => respond(StatusCode::TOO_MANY_REQUESTS, busy),
        2 => respond(StatusCode::INTERNAL_SERVER_ERROR, text("sorry")),
        3 => {
            let mut response = respond(StatusCode::TOO_MANY_REQUESTS, busy);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        _ => {
            // The connection ends before all of it has come.
            let begin = stream::iter([Ok(Frame::data(text(r#"{"results":[{"gender":"#)))]);
            let end = stream::once(async {
                tokio::time::sleep(BEFORE_BREAK).await;
                Err(io::Error::other("broken off"))
            });
            Response::new(StreamBody::new(begin.chain(end)).boxed_unsync())
        }
    }
}

fn respond(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{
        PollSettings, poll,
        source::{Received, Resume, Source},
    };

    #[tokio::test]
    async fn each_request_gets_the_next_answer_and_moods_pass() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let answers = Answers::load(&b"{\"n\":1}\n{\"n\":2}\n\n{\"n\":3}\n"[..]).unwrap();
        assert_eq!(answers.len(), 3);
        let (serving, work) = serve_answers(listener, answers, 2, std::future::pending()).unwrap();
        tokio::spawn(work);
        let settings = PollSettings {
            url: format!("http://{}/api/", serving.addr),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            contact: None,
            period: Duration::from_millis(1),
            jitter: Duration::ZERO,
            timeout: Duration::from_secs(20),
            max_pause: Duration::from_millis(1),
            max_answer: 1_000,
            max_kept: 1_000,
            max_pages: 1,
            reading: poll::Reading {
                error: Some(crate::model::Pointer::parse("/error").unwrap()),
                ..poll::Reading::default()
            },
        };
        let clock = Arc::new(crate::model::SystemClock);
        let mut polling = poll::Polling::new(&settings, &Resume::default(), clock).unwrap();
        let (mut taken, mut moods) = (Vec::new(), Vec::new());
        while taken.len() < 6 {
            match polling.next().await.unwrap() {
                Received::Events(events) => taken.extend(events.into_iter().map(|event| event.data)),
                Received::Disconnected { fault, .. } => moods.push(fault.message),
                Received::Missed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(taken, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]);
        let expected = ["429", "500", "429", "body", "gone wrong"];
        assert_eq!(moods.len(), expected.len(), "{moods:?}");
        assert!(moods.iter().zip(expected).all(|(mood, expected)| mood.contains(expected)), "{moods:?}");
        assert_eq!(serving.given(), 6);
    }
}
