//! The HTTP side of a recording: `GET` any path is the stream, `GET /_progress` tells how far it is.
//!
//! The recording is *released* on one clock that all connections share and that starts with the
//! first of them: event `i` can be seen from `i / speed` seconds on. Who connects again gets at
//! once what was released meanwhile, and then waits for what comes, as with a live stream.
//!
//! Of Wikimedia's ways it keeps those that a client stumbles over: 403 without a User-Agent, 429
//! beyond so many connections, 400 for an id or a `since` it cannot follow, and connections that
//! end in the middle of anything. A connection's text is made as the client reads it; a slow
//! client costs no memory here.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, USER_AGENT},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    cursor::{Cursor, Next, parse_since},
    feed::Feed,
    wire::Writer,
};
use crate::fault::{Fault, Result};

/// How a recording is served.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events released per second; 0 releases all at once, to be read as fast as one can.
    pub speed: f64,
    /// Cut each connection after about so many events that it did not merely repeat (from half to
    /// one and a half times as many), at any byte.
    pub cut_every: Option<usize>,
    /// Streams open at once; one more is refused with 429.
    pub max_connections: usize,
    /// At the end of the recording, keep connections open with comments, as a stream on which
    /// nothing happens; else end them.
    pub keep_open: bool,
    /// Write the stream as badly as the standard allows.
    pub hostile: bool,
    /// Decides everything that is left to chance, with the number of the connection.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { speed: 0.0, cut_every: None, max_connections: 2, keep_open: true, hostile: false, seed: 0 }
    }
}

/// How far a server is; also the answer to `GET /_progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Events that can be seen by now.
    pub released: usize,
    /// Events there are.
    pub total: usize,
    /// Streams begun so far.
    pub connections: u64,
    /// Streams open now.
    pub open: usize,
    /// Streams that began with a `Last-Event-ID`.
    pub resumes: u64,
    /// Whole events written to streams, repeated ones included; the client need not have got them.
    pub sent: u64,
}

/// A server that runs; clones look at the same one.
#[derive(Clone)]
pub struct Served {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Served {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }
}

/// Serves a recording on `listener` until `shutdown`: what to look at it with, and the work, which
/// is to be awaited or spawned. Its end drops all connections.
///
/// # Errors
/// `External` if the listener has no address.
pub fn serve(
    listener: TcpListener,
    feed: Arc<Feed>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(Served, impl Future<Output = ()> + Send + 'static)> {
    let addr = listener.local_addr().map_err(|e| Fault::io("address of the recording's server", &e))?;
    let shared = Arc::new(Shared {
        feed,
        options,
        started: OnceLock::new(),
        connections: AtomicU64::new(0),
        open: AtomicUsize::new(0),
        resumes: AtomicU64::new(0),
        sent: AtomicU64::new(0),
    });
    let served = Served { addr, shared: Arc::clone(&shared) };
    Ok((served, accept(listener, shared, shutdown)))
}

struct Shared {
    feed: Arc<Feed>,
    options: Options,
    started: OnceLock<Instant>,
    connections: AtomicU64,
    open: AtomicUsize,
    resumes: AtomicU64,
    sent: AtomicU64,
}

impl Shared {
    fn total(&self) -> usize {
        self.feed.events().len()
    }

    fn released(&self) -> usize {
        let Some(started) = self.started.get() else { return 0 };
        if self.options.speed <= 0.0 {
            return self.total();
        }
        // Saturating, and the first event is there from the start.
        let released = (started.elapsed().as_secs_f64() * self.options.speed) as usize;
        released.saturating_add(1).min(self.total())
    }

    /// When so many events are released; some time far off if that never happens.
    fn released_at(&self, needed: usize) -> Instant {
        let now = Instant::now();
        let seconds = needed.saturating_sub(1) as f64 / self.options.speed;
        let after = Duration::try_from_secs_f64(seconds).unwrap_or(IDLE);
        // A little later, so that rounding never makes it a little earlier.
        self.started.get().unwrap_or(&now).checked_add(after + Duration::from_micros(100)).unwrap_or(now + IDLE)
    }

    fn progress(&self) -> Progress {
        Progress {
            released: self.released(),
            total: self.total(),
            connections: self.connections.load(Ordering::SeqCst),
            open: self.open.load(Ordering::SeqCst),
            resumes: self.resumes.load(Ordering::SeqCst),
            sent: self.sent.load(Ordering::SeqCst),
        }
    }
}

/// A stream without an event for so long gets a comment.
const IDLE: Duration = Duration::from_secs(1);

/// Events are written together up to so many bytes, when there are as many.
const BATCH_BYTES: usize = 32 * 1024;

/// Between the last bytes and the cut, so that they leave before it.
const BEFORE_CUT: Duration = Duration::from_millis(5);

type Body = UnsyncBoxBody<Bytes, io::Error>;

async fn accept(listener: TcpListener, shared: Arc<Shared>, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                // Out of descriptors, or the peer is gone again: neither is a reason to end.
                Err(error) => {
                    tracing::warn!(%error, "recording: cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = answer(&shared, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    // It ends with an error whenever a client goes away or a cut is made: both are daily bread.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Body> {
    let uri = request.uri();
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET".to_owned());
    }
    if uri.path() == "/_progress" {
        let progress = serde_json::to_string(&shared.progress()).unwrap_or_default();
        return text(StatusCode::OK, "application/json", progress);
    }
    if request.headers().get(USER_AGENT).is_none_or(|agent| agent.as_bytes().trim_ascii().is_empty()) {
        return text(StatusCode::FORBIDDEN, "text/plain", "set a User-Agent with a contact".to_owned());
    }
    let id = request.headers().get("last-event-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
    let id = id.as_deref().filter(|id| !id.is_empty());
    let since = query(uri.query().unwrap_or_default(), "since");
    match Stream::open(shared, id, since.as_deref()) {
        Ok(stream) => {
            let frames = stream::unfold(stream, |mut stream| async { stream.frame().await.map(|f| (f, stream)) });
            let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache, no-store"));
            response
        }
        Err((status, message)) => text(status, "text/plain", message),
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A parameter of a query, decoded.
fn query(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// One stream: what is next for its client.
struct Stream {
    shared: Arc<Shared>,
    cursor: Cursor,
    writer: Writer,
    ready: VecDeque<Bytes>,
    /// How many events that are no repetition may still go out.
    left: Option<usize>,
    end: Option<End>,
    rng: fastrand::Rng,
}

#[derive(Clone, Copy)]
enum End {
    Proper,
    Cut,
}

impl Stream {
    fn open(shared: &Arc<Shared>, id: Option<&str>, since: Option<&str>) -> Result<Self, (StatusCode, String)> {
        let refuse = |fault: Fault| (StatusCode::BAD_REQUEST, fault.message);
        // The stream gives its place back when it is dropped; so it is taken last.
        let number = shared.connections.load(Ordering::SeqCst);
        let mut rng = fastrand::Rng::with_seed(shared.options.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let seed = rng.u64(..);
        shared.started.get_or_init(Instant::now);
        let released = shared.released();
        let cursor = match (id, since) {
            (Some(id), _) => Cursor::resume(Arc::clone(&shared.feed), id, released, seed).map_err(refuse)?,
            (None, since) => {
                let since = since.map(parse_since).transpose().map_err(refuse)?;
                Cursor::since(Arc::clone(&shared.feed), since, released, seed)
            }
        };
        let limit = shared.options.max_connections;
        let place =
            shared.open.try_update(Ordering::SeqCst, Ordering::SeqCst, |open| (open < limit).then_some(open + 1));
        if place.is_err() {
            let refusal = "Too Many Concurrent Connections From Your Client IP".to_owned();
            return Err((StatusCode::TOO_MANY_REQUESTS, refusal));
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.resumes.fetch_add(u64::from(id.is_some()), Ordering::SeqCst);
        let left = shared.options.cut_every.map(|every| rng.usize(every / 2..=every + every / 2).max(1));
        let mut writer = Writer::new(shared.options.hostile, rng.u64(..));
        let ready = VecDeque::from([writer.greeting()]);
        Ok(Self { shared: Arc::clone(shared), cursor, writer, ready, left, end: None, rng })
    }

    /// The next piece of the stream; `None` at its end.
    async fn frame(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(Frame::data(piece)));
            }
            match self.end {
                Some(End::Proper) => return None,
                Some(End::Cut) => {
                    self.end = Some(End::Proper);
                    sleep(BEFORE_CUT).await;
                    return Some(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                None => self.fill().await,
            }
        }
    }

    /// Makes something ready, or an end.
    async fn fill(&mut self) {
        let mut batch = BytesMut::new();
        let until = loop {
            if self.left == Some(0) {
                self.cut(&mut batch);
                break None;
            }
            match self.cursor.next(self.shared.released()) {
                Next::Event(event, repeated) => {
                    let data = event.data.clone();
                    if let Some(left) = self.left.as_mut().filter(|_| !repeated) {
                        *left -= 1;
                    }
                    batch.extend_from_slice(&self.writer.event(&self.cursor.id(), &data));
                    self.shared.sent.fetch_add(1, Ordering::SeqCst);
                    if batch.len() >= BATCH_BYTES || self.shared.options.hostile {
                        break None;
                    }
                }
                Next::Wait(needed) => break Some(self.shared.released_at(needed)),
                Next::End if self.shared.options.keep_open => break Some(Instant::now() + 2 * IDLE),
                Next::End => {
                    self.end = Some(End::Proper);
                    break None;
                }
            }
        };
        if !batch.is_empty() {
            let pieces = self.writer.pieces(batch.freeze());
            self.ready.extend(pieces);
        } else if let Some(until) = until {
            let idle = Instant::now() + IDLE;
            sleep_until(until.min(idle)).await;
            if until > idle {
                let comment = self.writer.comment();
                self.ready.push_back(comment);
            }
        }
    }

    /// Ends the stream here, or within an event that would come next.
    fn cut(&mut self, batch: &mut BytesMut) {
        self.end = Some(End::Cut);
        if self.shared.options.hostile && self.rng.u8(..4) == 0 {
            batch.extend_from_slice(&self.writer.error());
            self.end = Some(End::Proper);
        } else if self.rng.u8(..4) > 0
            && let Next::Event(event, _) = self.cursor.next(self.shared.released())
        {
            let data = event.data.clone();
            let text = self.writer.event(&self.cursor.id(), &data);
            let at = self.writer.cut(&text);
            batch.extend_from_slice(&text[..at]);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
