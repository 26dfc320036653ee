//! Connections to a server of events: the requests, the reading, and the change from one to the
//! next. What to do when is [`super::session`]'s decision.
//!
//! [`Stream::next`] hands out what was received; it may be dropped at any await and called again,
//! nothing is lost by that. Faults that time may heal are told as [`Received::Disconnected`] and
//! healed by the following calls; an error is final.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{
    grammar::{Item, Parser},
    session::{Happening, Session},
    token,
};
use crate::{
    collect::SseSettings,
    fault::{Fault, Result, Retry},
    model::{Millis, without_secrets},
};

/// Events handed out in one go at most.
pub const MAX_EVENTS: usize = 500;

/// Bytes of a refusal's body that are read for the message.
const REFUSAL_BYTES: usize = 300;

/// A server's `Retry-After` is believed up to a day.
const LONGEST_NAMED: Duration = Duration::from_secs(86_400);

/// How long a refusal's body is waited for.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);

/// Where a stream is taken up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The id of the last event taken; empty for none. Sent as `Last-Event-ID`.
    pub token: Bytes,
    /// Without a token: ask for events since then (`?since=`); `None` asks for what comes.
    pub since: Option<Millis>,
    /// An event that is repeated is surely known if no more than so many were taken after it.
    pub known_for: u64,
}

/// An event as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The resume token as of this event. Empty if the source gives none.
    pub id: Bytes,
    /// Its kind, usually `message`.
    pub kind: Bytes,
    /// Its data, verbatim.
    pub data: Bytes,
}

/// What [`Stream::next`] answers.
#[derive(Debug)]
pub enum Received {
    /// A connection is open and is the one that is read from now on. Parts of an oversized event
    /// that has not ended are void.
    Connected {
        /// Whether it was resumed by an event's id.
        resumed: bool,
    },
    /// Events in order, at least one, [`MAX_EVENTS`] at most.
    Events(Vec<RawEvent>),
    /// The next bytes of an event above the bound; void unless an end follows.
    OversizedPart(Bytes),
    /// An event above the bound is complete.
    OversizedEnd {
        /// As of [`RawEvent::id`].
        id: Bytes,
        /// As of [`RawEvent::kind`].
        kind: Bytes,
        /// How many bytes its parts have together.
        len: u64,
    },
    /// The connection is over, or the next one could not be opened. The following calls go on by
    /// themselves.
    Disconnected {
        /// Why. Log it.
        fault: Fault,
        /// Whether a connection is still read (the attempt to open the next one failed).
        reading: bool,
        /// The next attempt begins after this time; zero if one is under way.
        again_in: Duration,
    },
}

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Connector {
    client: Client,
    url: Url,
    /// The address for people: without what may be a password.
    shown: String,
    agent: HeaderValue,
    silence: Duration,
}

impl Connector {
    /// A connector; nothing is opened yet.
    ///
    /// # Errors
    /// `User` for a URL or contact that cannot be used.
    pub fn new(settings: &SseSettings) -> Result<Self> {
        let shown = without_secrets(&settings.url);
        let url = Url::parse(&settings.url).map_err(|error| Fault::user(format!("url {shown:?}: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::user(format!("url {shown}: write http:// or https://")));
        }
        let version = env!("CARGO_PKG_VERSION");
        let agent = settings
            .contact
            .as_ref()
            .map_or_else(|| format!("howdah/{version}"), |contact| format!("howdah/{version} ({contact})"));
        let agent = HeaderValue::from_bytes(agent.as_bytes())
            .map_err(|_| Fault::user(format!("contact {:?} cannot stand in a User-Agent", settings.contact)))?;
        // Only the first one counts; another part of the process may have been here before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // HTTP/1 and no pool: each stream is a TCP connection of its own. Over HTTP/2 the next
        // stream would share the connection that is about to be cut, and one that is not read
        // would hold up the other.
        let client = Client::builder()
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(settings.silence)
            .build()
            .map_err(|error| Fault::user(format!("{shown}: no HTTP client: {}", chain(&error))))?;
        Ok(Self { client, url, shown, agent, silence: settings.silence })
    }

    /// Opens a connection and waits for its response head; its body stays unread.
    ///
    /// # Errors
    /// `User`, never again: the server refuses (any 4xx but 408 and 429). `External`: everything
    /// that may pass, with the time to wait if the server named one.
    pub async fn open(&self, resume: &Resume) -> Result<Response> {
        let mut url = self.url.clone();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(USER_AGENT, self.agent.clone());
        if !resume.token.is_empty() {
            let token = HeaderValue::from_bytes(&token::ask(&resume.token, resume.known_for)).map_err(|_| {
                let token = resume.token.escape_ascii();
                Fault::data(format!(
                    "{}: the event id \"{token}\" cannot stand in a header, so it cannot be resumed",
                    self.shown
                ))
            })?;
            headers.insert(HeaderName::from_static("last-event-id"), token);
        } else if let Some(since) = resume.since {
            url.query_pairs_mut().append_pair("since", &iso_8601(since)?);
        }
        let request = self.client.get(url).headers(headers);
        let response = timeout(self.silence, request.send())
            .await
            .map_err(|_| Fault::external(format!("{}: no response within {:?}", self.shown, self.silence)))?
            .map_err(|error| self.not_sent(error))?;
        match refusal(response.status(), response.headers()) {
            None => Ok(response),
            Some(mut fault) => {
                let _ = write!(fault.message, "{}", body(response).await);
                Err(fault.at(&self.shown))
            }
        }
    }

    fn not_sent(&self, error: reqwest::Error) -> Fault {
        let is_ours = error.is_builder() || error.is_redirect();
        let message = format!("{}: {}", self.shown, chain(&error.without_url()));
        if is_ours { Fault::user(message) } else { Fault::external(message) }
    }
}

// What is wrong with a response head, if anything.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<Fault> {
    let text =
        |name| headers.get(&name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let message = format!("the server answers {status}");
    let named = text(RETRY_AFTER).and_then(|value| retry_after(&value, text(DATE).as_deref()));
    let named = named.map(|named| named.min(LONGEST_NAMED));
    let again = named.map_or(Retry::Backoff, Retry::After);
    Some(match status.as_u16() {
        200 => {
            let kind = text(CONTENT_TYPE).unwrap_or_default();
            let essence = kind.split(';').next().unwrap_or_default().trim();
            if essence.eq_ignore_ascii_case("text/event-stream") {
                return None;
            }
            // Often the page of a proxy whose server is away.
            Fault::external(format!("the server answers with content type {kind:?}, not text/event-stream"))
        }
        // The standard's way to say: do not come back.
        204 => Fault::external(format!("{message}: it asks not to connect again")).retry(Retry::Never),
        408 | 429 => Fault::external(message).retry(again),
        400..=499 => Fault::user(message),
        _ => Fault::external(message).retry(again),
    })
}

// RFC 9110, section 10.2.3: seconds, or a date. The date is read against the response's own.
fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let parse = |date: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok();
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Duration::try_from(parse(value)?.duration_since(parse(date?)?)).ok(),
    }
}

async fn body(mut response: Response) -> String {
    let chunk = timeout(REFUSAL_WAIT, response.chunk()).await.ok().and_then(Result::ok).flatten().unwrap_or_default();
    match String::from_utf8_lossy(&chunk[..chunk.len().min(REFUSAL_BYTES)]).trim() {
        "" => String::new(),
        text => format!(": {}", text.escape_debug()),
    }
}

fn iso_8601(time: Millis) -> Result<String> {
    jiff::Timestamp::from_millisecond(time)
        .map(|time| format!("{time:.3}"))
        .map_err(|error| Fault::internal(format!("since {time} ms: {error}")))
}

// reqwest says little itself; its causes say what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

type Opening = Pin<Box<dyn Future<Output = (bool, Result<Response>)> + Send>>;

/// A stream of events over as many connections as it takes.
pub struct Stream {
    connector: Connector,
    max_event: u64,
    reconnect_after: Duration,

    resume: Resume,
    session: Session,
    opening: Option<Opening>,
    reading: Option<Response>,
    parser: Parser,
    items: VecDeque<Item>,
    last_byte: Instant,
}

impl Stream {
    /// A stream that is taken up at `resume`; nothing is opened before the first
    /// [`next`](Self::next).
    ///
    /// # Errors
    /// Those of [`Connector::new`].
    pub fn new(settings: &SseSettings, resume: Resume) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            connector: Connector::new(settings)?,
            max_event: settings.max_event,
            reconnect_after: settings.reconnect_after,
            resume,
            session: Session::new(now, settings.reconnect_after),
            opening: None,
            reading: None,
            parser: Parser::new(settings.max_event),
            items: VecDeque::new(),
            last_byte: now,
        })
    }

    /// Where the stream would be taken up now: after the last event handed out.
    pub fn resume(&self) -> &Resume {
        &self.resume
    }

    /// Closes the connection. The next call opens another one at once, which goes on after the last event handed
    /// out, as far as the source can.
    pub fn hang_up(&mut self) {
        (self.opening, self.reading) = (None, None);
        self.items.clear();
        self.session = Session::new(Instant::now(), self.reconnect_after);
    }

    /// What is received next. Opens, reads, waits and changes connections as needed; dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// Only what time does not heal; the stream is of no more use then.
    pub async fn next(&mut self) -> Result<Received> {
        loop {
            if let Some(received) = self.take_items() {
                return Ok(received);
            }
            if self.session.begin_opening(Instant::now()) {
                let (connector, resume) = (self.connector.clone(), self.resume.clone());
                self.opening = Some(Box::pin(async move { (!resume.token.is_empty(), connector.open(&resume).await) }));
            }
            let silent = self.last_byte + self.connector.silence;
            let happened = tokio::select! {
                (resumed, opened) = opened(&mut self.opening) => Happened::Opened(resumed, opened),
                chunk = read(&mut self.reading, silent) => Happened::Read(chunk),
                () = due(self.session.due_at()) => Happened::Due,
            };
            match happened {
                Happened::Opened(resumed, opened) => return self.take_opened(resumed, opened),
                Happened::Read(Ok(Some(chunk))) => {
                    self.last_byte = Instant::now();
                    let mut items = Vec::new();
                    self.parser.push(&chunk, &mut items);
                    self.items = items.into();
                }
                Happened::Read(Ok(None)) => return Ok(self.over("the server ended the stream")),
                Happened::Read(Err(reason)) => return Ok(self.over(&reason)),
                Happened::Due => {}
            }
        }
    }

    fn take_opened(&mut self, resumed: bool, opened: Result<Response>) -> Result<Received> {
        self.opening = None;
        match opened {
            Ok(response) => {
                self.reading = Some(response);
                self.parser = Parser::new(self.max_event);
                self.last_byte = Instant::now();
                self.note(Happening::Opened);
                Ok(Received::Connected { resumed })
            }
            // While another connection is read, even a refusal is no reason to stop.
            Err(fault) if fault.retry == Retry::Never && self.reading.is_none() => Err(fault),
            Err(fault) => {
                let named = if let Retry::After(named) = fault.retry { Some(named) } else { None };
                self.note(Happening::NotOpened(named));
                Ok(self.disconnected(fault))
            }
        }
    }

    fn take_items(&mut self) -> Option<Received> {
        loop {
            match self.items.pop_front()? {
                Item::Event { kind, data, .. } if kind == "error" => {
                    let said = data[..data.len().min(REFUSAL_BYTES)].escape_ascii();
                    return Some(self.over(&format!("the server reports an error: {said}")));
                }
                Item::Event { kind, id, data } => {
                    let mut events = vec![RawEvent { id: self.follow(id), kind, data }];
                    let more = |item: &mut Item| matches!(item, Item::Event { kind, .. } if kind != "error");
                    while events.len() < MAX_EVENTS
                        && let Some(Item::Event { kind, id, data }) = self.items.pop_front_if(more)
                    {
                        events.push(RawEvent { id: self.follow(id), kind, data });
                    }
                    self.note(Happening::Event);
                    return Some(Received::Events(events));
                }
                Item::OversizedPart(part) => return Some(Received::OversizedPart(part)),
                Item::OversizedEnd { kind, id, len } => {
                    let id = self.follow(id);
                    self.note(Happening::Event);
                    return Some(Received::OversizedEnd { id, kind, len });
                }
                Item::Retry(base) => self.note(Happening::Retry(base)),
                Item::Comment => {}
            }
        }
    }

    // Moves the token behind an event, and answers with it; an event without an id moves nothing.
    fn follow(&mut self, id: Bytes) -> Bytes {
        if id.is_empty() {
            return id;
        }
        self.resume.token = token::follow(&self.resume.token, id, self.resume.since);
        self.resume.token.clone()
    }

    // The connection that was read is over; what it still had to say is void.
    fn over(&mut self, reason: &str) -> Received {
        self.reading = None;
        self.items.clear();
        self.note(Happening::Over);
        self.disconnected(Fault::external(format!("{}: {reason}", self.connector.shown)))
    }

    fn disconnected(&self, fault: Fault) -> Received {
        let again_in = self.session.due_at().map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        Received::Disconnected { fault, reading: self.reading.is_some(), again_in }
    }

    fn note(&mut self, happening: Happening) {
        self.session.note(Instant::now(), happening);
    }
}

enum Happened {
    Opened(bool, Result<Response>),
    Read(Result<Option<Bytes>, String>),
    Due,
}

async fn opened(opening: &mut Option<Opening>) -> (bool, Result<Response>) {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}

async fn read(reading: &mut Option<Response>, silent: Instant) -> Result<Option<Bytes>, String> {
    let Some(response) = reading else { return pending().await };
    match timeout_at(silent, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(chain(&error.without_url())),
        Err(_) => Err("no byte for longer than the silence bound".to_owned()),
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
