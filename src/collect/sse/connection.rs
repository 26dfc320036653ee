//! Connections to a server of events: the requests, the reading, and the change from one to the
//! next. What to do when is [`super::session`]'s decision.
//!
//! Of a server's answer to a request only a refusal that is meant for us is final: any 4xx but 408 and 429.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{
    grammar::{Item, Parser},
    session::{Happening, Session},
    token,
};
use crate::{
    collect::{
        SseSettings,
        source::{RawEvent, Received, Resume, Source},
    },
    fault::{Fault, Result, Retry},
    model::Millis,
    web,
};

/// Events handed out in one go at most.
pub const MAX_EVENTS: usize = 500;

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
        let (url, shown) = web::address(&settings.url)?;
        let agent = web::user_agent(settings.contact.as_deref())?;
        // HTTP/1 and no pool: each stream is a TCP connection of its own. Over HTTP/2 the next
        // stream would share the connection that is about to be cut, and one that is not read
        // would hold up the other.
        let client = web::builder()
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(settings.silence)
            .build()
            .map_err(|error| Fault::user(format!("{shown}: no HTTP client: {}", web::chain(&error))))?;
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
                let _ = write!(fault.message, "{}", web::said(response).await);
                Err(fault.at(&self.shown))
            }
        }
    }

    fn not_sent(&self, error: reqwest::Error) -> Fault {
        let is_ours = error.is_builder() || error.is_redirect();
        let message = format!("{}: {}", self.shown, web::chain(&error.without_url()));
        if is_ours { Fault::user(message) } else { Fault::external(message) }
    }
}

// What is wrong with a response head, if anything.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<Fault> {
    let message = format!("the server answers {status}");
    let again = web::again(headers);
    Some(match status.as_u16() {
        200 => {
            let kind = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
            let kind = kind.unwrap_or_default();
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

fn iso_8601(time: Millis) -> Result<String> {
    jiff::Timestamp::from_millisecond(time)
        .map(|time| format!("{time:.3}"))
        .map_err(|error| Fault::internal(format!("since {time} ms: {error}")))
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

    async fn receive(&mut self) -> Result<Received> {
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
                    let said = data[..data.len().min(web::REFUSAL_BYTES)].escape_ascii();
                    return Some(self.over(&format!("the server reports an error: {said}")));
                }
                Item::Event { id, data, .. } => {
                    let mut events = vec![RawEvent { token: self.follow(id), data }];
                    let more = |item: &mut Item| matches!(item, Item::Event { kind, .. } if kind != "error");
                    while events.len() < MAX_EVENTS
                        && let Some(Item::Event { id, data, .. }) = self.items.pop_front_if(more)
                    {
                        events.push(RawEvent { token: self.follow(id), data });
                    }
                    self.note(Happening::Event);
                    return Some(Received::Events(events));
                }
                Item::OversizedPart(part) => return Some(Received::OversizedPart(part)),
                Item::OversizedEnd { id, .. } => {
                    let token = self.follow(id);
                    self.note(Happening::Event);
                    return Some(Received::OversizedEnd { token, unreadable: None });
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

#[async_trait]
impl Source for Stream {
    async fn next(&mut self) -> Result<Received> {
        self.receive().await
    }

    // The next call opens another connection at once.
    fn hang_up(&mut self) {
        (self.opening, self.reading) = (None, None);
        self.items.clear();
        self.session = Session::new(Instant::now(), self.reconnect_after);
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
        Ok(Err(error)) => Err(web::chain(&error.without_url())),
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
