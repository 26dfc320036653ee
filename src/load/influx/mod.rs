//! InfluxDB: `POST /api/v2/write`, as 2.x and Cloud have it and 1.8 too.
//!
//! A point is known by measurement, tags and time; written again it changes nothing. So its time is a pure
//! function of its record: the bus time in milliseconds, and in the six digits below them the offset and the
//! element ([`point_time`]), unless the element has a time of its own.
//!
//! What the server answers, by InfluxData's "API reference" and by trial on 1.8.10: 204 is done. 400 and 422:
//! something cannot be taken; whether the rest was, differs between versions, and the text rarely says which it
//! is. 413: too large. 401, 403, 404: the token, the rights or the bucket are not as they should be, which a
//! person mends: nothing is dropped, and the token is read anew with each request. 429 and 503: later. Other
//! 5xx, 408, no answer: perhaps an outage, perhaps something that the server fails on.

pub mod line;
mod time;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{
    Client, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT},
    redirect::Policy,
};

pub use time::point_time;

use self::line::Lines;
use super::{
    sink::{Answer, Place, Sink, Written, body},
    transform::Row,
};
use crate::{
    fault::{Fault, Result, Retry},
    web::{self, Header, Secret},
};

/// Where the points go, and what they are called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server: `http://host:8086`.
    pub url: String,
    /// The organisation; 1.8 has none.
    pub org: String,
    /// The bucket; of 1.8 `database/retention-policy`.
    pub bucket: String,
    /// The token; of 1.8 `user:password`.
    pub token: Option<Secret>,
    /// More headers of each request.
    pub headers: Vec<Header>,
    /// The measurement.
    pub measurement: String,
    /// Which columns are tags: the first ones, with these names.
    pub tags: Vec<String>,
    /// Which are fields: those behind them.
    pub fields: Vec<String>,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// A request without an answer for this long has failed.
    pub timeout: Duration,
}

/// See the module's text.
#[derive(Debug)]
pub struct Influx {
    client: Client,
    url: Url,
    shown: String,
    agent: HeaderValue,
    settings: Settings,
    lines: Lines,
}

impl Influx {
    /// The sink of these settings; nothing is asked yet.
    ///
    /// # Errors
    /// `User`: the address cannot be used.
    pub fn new(settings: Settings) -> Result<Self> {
        let (mut url, shown) = web::address(&settings.url)?;
        let path = format!("{}/api/v2/write", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.query_pairs_mut()
            .append_pair("org", &settings.org)
            .append_pair("bucket", &settings.bucket)
            .append_pair("precision", "ns");
        let client = web::builder()
            // A POST that is sent elsewhere becomes a GET on the way.
            .redirect(Policy::none())
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .build()
            .map_err(|error| Fault::user(format!("{shown}: no HTTP client: {}", web::chain(&error))))?;
        let lines = Lines::new(&settings.measurement, &settings.tags, &settings.fields);
        Ok(Self { client, url, shown, agent: web::user_agent(None)?, settings, lines })
    }

    async fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, self.agent.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(token) = &self.settings.token {
            let text = token.read().await.map_err(|fault| fault.at("token"))?;
            let unfit = |_| Fault::user("the token cannot be sent").retry(Retry::Backoff);
            let mut value = HeaderValue::from_str(&format!("Token {text}")).map_err(unfit)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        web::put(&mut headers, &self.settings.headers).await?;
        if self.settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(headers)
    }

    async fn ask(&self, rows: &[Bytes]) -> Result<Answer> {
        let (headers, body) = (self.headers().await?, body(rows.to_vec(), self.settings.gzip).await?);
        let response = match self.client.post(self.url.clone()).headers(headers).body(body).send().await {
            Ok(response) => response,
            Err(error) => return Ok(Answer::none(web::unanswered(error))),
        };
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(Answer::all_taken());
        }
        let again = web::again(response.headers());
        let said = web::said(response).await;
        let text = format!("{status}{said}");
        Ok(match status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Answer::Bad(text),
            StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge(text),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Fault::user(format!("{text}: mend the token or its rights")).retry(again));
            }
            StatusCode::NOT_FOUND => {
                return Err(Fault::user(format!("{text}: mend the bucket or the organisation")).retry(again));
            }
            // A proxy's page may come with 200, and a redirection is another address's answer.
            status if status.is_success() || status.is_redirection() => {
                return Err(Fault::user(format!("{text}: InfluxDB answers 204, is this its address?")).retry(again));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(Fault::external(text).retry(again));
            }
            _ => Answer::Unclear(Fault::external(text).retry(again)),
        })
    }
}

#[async_trait]
impl Sink for Influx {
    fn describe(&self) -> String {
        format!("InfluxDB {}", self.shown)
    }

    fn write(&self, row: &Row<'_>, place: &Place) -> std::result::Result<Written, String> {
        let nanos = row.time.map_or_else(|| point_time(place), Ok)?;
        let mut text = Vec::with_capacity(256);
        let partition = place.has_others.then_some(place.partition);
        let series = self.lines.write(row, partition, nanos, &mut text)?;
        // An element's own time is the user's word for which points are the same.
        let identity = row.time.is_none().then(|| [&text[..series], b" ", nanos.to_string().as_bytes()].concat());
        Ok(Written { text: text.into(), identity })
    }

    // Who asks and the bucket are looked at before the lines, and a comment is none.
    async fn probe(&self) -> Result<()> {
        match self.ask(&[Bytes::from_static(b"# is it there?")]).await? {
            Answer::Later(fault) | Answer::Unclear(fault) => Err(fault),
            _ => Ok(()),
        }
    }

    async fn send(&self, rows: &[Bytes]) -> Answer {
        self.ask(rows).await.unwrap_or_else(Answer::Later).of(&self.describe())
    }
}
