//! Elasticsearch and OpenSearch: `POST /_bulk`.
//!
//! A document is known by its index and `_id`, which is made of its record's place ([`id`]) and written with
//! `create`: what is there already answers 409, and that is a success. An index's name may hold fields of the
//! record's bus time, so that old ones can be dropped whole.
//!
//! What the server answers, by Elastic's "Bulk API" and by trial on OpenSearch 2.19.1: 200, with a status for
//! each document in the order of the request. There 201 and 409 are done, 429 and 503 are later, and so are 401,
//! 403 and 404 (no such index, or one that takes no writes); another 5xx is perhaps the document's fault; all else is
//! refused for good, in the server's words. A whole request is refused with 413 (too large), with 401, 403 or 404
//! (which a person mends; nothing is dropped), or with 429 and 503 (later). Other 5xx, 408, no answer or an endless one:
//! perhaps an outage, perhaps a document that the server fails on. A whole 400 is a mistake in the request's form.

mod answer;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{
    Client, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT},
    redirect::Policy,
};
use serde_json::{Map, Value as Json};

use super::{
    sink::{Answer, Place, Sink, Written, body},
    transform::{Row, Value},
};
use crate::{
    fault::{Fault, Result, Retry},
    model::{Millis, TopicId},
    web::{self, Header, Secret},
};

/// An answer's bytes at most: one for each document, with the reason of each refusal.
const LARGEST: usize = 64 << 20;

/// Where the documents go, and what they are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server: `http://host:9200`.
    pub url: String,
    /// The index; `%Y`, `%m`, `%d`, `%H` are the record's bus time, in UTC.
    pub index: String,
    /// What shows who this is.
    pub access: Access,
    /// More headers of each request.
    pub headers: Vec<Header>,
    /// The documents' fields: the columns, with these names; without any, a document is the element as it is.
    pub fields: Vec<String>,
    /// The field that takes the record's bus time, in milliseconds since 1970; or the element's own time.
    pub time_field: Option<String>,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// A request without an answer for this long has failed.
    pub timeout: Duration,
}

/// What shows who this is.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nothing.
    Open,
    /// A name and a password.
    Password(String, Secret),
    /// An API key, as the server gives it (encoded).
    Key(Secret),
}

/// See the module's text.
#[derive(Debug)]
pub struct Elastic {
    client: Client,
    url: Url,
    shown: String,
    agent: HeaderValue,
    settings: Settings,
}

impl Elastic {
    /// The sink of these settings; nothing is asked yet.
    ///
    /// # Errors
    /// `User`: the address cannot be used.
    pub fn new(settings: Settings) -> Result<Self> {
        let (mut url, shown) = web::address(&settings.url)?;
        let path = format!("{}/_bulk", url.path().trim_end_matches('/'));
        url.set_path(&path);
        // The server has a minute for a shard that is not there, by itself. Whose documents wait for one is known from
        // its own answer only.
        let patience = format!("{}ms", settings.timeout.as_millis() / 2);
        url.query_pairs_mut().append_pair("timeout", &patience);
        let client = web::builder()
            // A POST that is sent elsewhere becomes a GET on the way.
            .redirect(Policy::none())
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout)
            .build()
            .map_err(|error| Fault::user(format!("{shown}: no HTTP client: {}", web::chain(&error))))?;
        Ok(Self { client, url, shown, agent: web::user_agent(None)?, settings })
    }

    async fn ask(&self, rows: &[Bytes]) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, self.agent.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        web::put(&mut headers, &self.settings.headers).await?;
        if self.settings.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut request = self.client.post(self.url.clone());
        match &self.settings.access {
            Access::Open => {}
            Access::Password(user, password) => {
                let password = password.read().await.map_err(|fault| fault.at("password"))?;
                request = request.basic_auth(user, Some(password));
            }
            Access::Key(key) => {
                let text = key.read().await.map_err(|fault| fault.at("API key"))?;
                let unfit = |_| Fault::user("the API key cannot be sent").retry(Retry::Backoff);
                let mut value = HeaderValue::from_str(&format!("ApiKey {text}")).map_err(unfit)?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        let body = body(rows.to_vec(), self.settings.gzip).await?;
        let mut response = match request.headers(headers).body(body).send().await {
            Ok(response) => response,
            Err(error) => return Ok(Answer::none(web::unanswered(error))),
        };
        let status = response.status();
        if status == StatusCode::OK {
            let mut text = Vec::new();
            loop {
                match response.chunk().await {
                    Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                    Ok(None) => return Ok(answer::read(&text, rows.len()).unwrap_or_else(Answer::Unclear)),
                    Err(error) => return Ok(Answer::none(web::unanswered(error))),
                }
                if text.len() > LARGEST {
                    return Ok(Answer::Unclear(Fault::external("an answer of more than 64 MiB")));
                }
            }
        }
        let again = web::again(response.headers());
        // Another program's word, like a proxy's, says nothing of the documents.
        let kind =
            response.headers().get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
        let is_its_own = kind.is_some_and(|kind| kind.contains("json"));
        let said = web::said(response).await;
        let text = format!("{status}{said}");
        Err(match status {
            StatusCode::PAYLOAD_TOO_LARGE => return Ok(Answer::TooLarge(text)),
            StatusCode::BAD_REQUEST if is_its_own => return Ok(Answer::Bad(text)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Fault::user(format!("{text}: mend the password, the key or their rights")).retry(again)
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Fault::external(text).retry(again),
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                return Ok(Answer::Unclear(Fault::external(text).retry(again)));
            }
            _ => Fault::user(format!("{text}: is this its address?")).retry(again),
        })
    }
}

/// A document's `_id`: the topic's identity, the partition, the offset and the element.
pub fn id(topic: TopicId, place: &Place) -> String {
    format!("{topic}-{}-{}-{}", place.partition, place.offset, place.element)
}

/// The index's name at this time; a field that is none stays as it is.
fn index_at(template: &str, time: Millis) -> std::result::Result<String, String> {
    if !template.contains('%') {
        return Ok(template.to_owned());
    }
    let at = jiff::Timestamp::from_millisecond(time).map_err(|error| format!("the bus time {time} ms: {error}"))?;
    Ok(at.strftime(template).to_string())
}

#[async_trait]
impl Sink for Elastic {
    fn describe(&self) -> String {
        format!("Elasticsearch {}", self.shown)
    }

    fn write(&self, row: &Row<'_>, place: &Place) -> std::result::Result<Written, String> {
        let index = index_at(&self.settings.index, place.time)?;
        let action = serde_json::json!({"create": {"_index": index, "_id": id(place.topic, place)}}).to_string();
        let mut text = action.into_bytes();
        text.push(b'\n');
        if self.settings.fields.is_empty() && self.settings.time_field.is_none() {
            // A line break would end the document; within JSON it stands only between tokens.
            text.extend(row.element.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            return Ok(Written { text: text.into(), identity: None });
        }
        let mut document = match self.settings.fields.as_slice() {
            [] => serde_json::from_slice(row.element).map_err(|error| format!("is no object: {error}"))?,
            names => {
                let present = names.iter().zip(&row.values).filter_map(|(name, value)| Some((name, value.as_ref()?)));
                present.map(|(name, value)| (name.clone(), json(value))).collect::<Map<_, _>>()
            }
        };
        if document.is_empty() {
            return Err("no field has a value".to_owned());
        }
        if let Some(field) = &self.settings.time_field {
            let millis = row.time.map_or(place.time, |nanos| nanos.div_euclid(1_000_000));
            document.insert(field.clone(), millis.into());
        }
        text.extend_from_slice(Json::Object(document).to_string().as_bytes());
        Ok(Written { text: text.into(), identity: None })
    }

    // Who asks is looked at before the body, which has to have something in it.
    async fn probe(&self) -> Result<()> {
        match self.ask(&[]).await? {
            Answer::Later(fault) | Answer::Unclear(fault) => Err(fault),
            _ => Ok(()),
        }
    }

    async fn send(&self, rows: &[Bytes]) -> Answer {
        self.ask(rows).await.unwrap_or_else(Answer::Later).of(&self.describe())
    }
}

fn json(value: &Value<'_>) -> Json {
    match value {
        Value::Text(text) => Json::from(text.as_ref()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Boolean(truth) => Json::from(*truth),
    }
}
