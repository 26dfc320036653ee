//! What everything that asks other services over HTTP has in common: clients, headers with secrets,
//! how long a server asks to wait, and what it says when it refuses.
//!
//! A secret is read from its file at each use, so that a new one counts without a restart, and it is
//! never shown: [`Secret`] prints as dots, and addresses are shown by
//! [`without_secrets`].

mod secret;

use std::{fmt::Write as _, time::Duration};

use reqwest::{
    Client, ClientBuilder, Response, Url,
    header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::timeout;

pub use secret::Secret;

use crate::{
    fault::{Fault, Result, Retry},
    model::without_secrets,
};

/// Bytes of a refusal's body that are read for the message.
pub const REFUSAL_BYTES: usize = 300;

/// How long a refusal's body is waited for.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);

/// A server's `Retry-After` is believed up to a day.
const LONGEST_NAMED: Duration = Duration::from_secs(86_400);

/// How many redirections are followed, all to the same host.
const MAX_REDIRECTS: usize = 5;

/// A header that goes with each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: Secret,
}

/// A client's settings, with TLS in order.
pub fn builder() -> ClientBuilder {
    // Only the first one counts; another part of the process may have been here before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
}

/// Follows redirections within a host only: headers may hold secrets.
pub fn within_host() -> Policy {
    Policy::custom(|attempt| {
        let is_same = attempt.previous().first().is_some_and(|first| may_follow(first, attempt.url()));
        match (is_same, attempt.previous().len() > MAX_REDIRECTS) {
            (true, false) => attempt.follow(),
            _ => attempt.stop(),
        }
    })
}

/// Whether a request that was meant for `from` may go to `to`: to the same host and port, or from HTTP to the
/// same host's HTTPS.
pub fn may_follow(from: &Url, to: &Url) -> bool {
    let is_raised = (from.scheme(), to.scheme()) == ("http", "https");
    let is_same = from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    from.host() == to.host() && (is_same || is_raised)
}

/// An address to ask, and the same as it may be shown.
///
/// # Errors
/// `User`: it is none.
pub fn address(text: &str) -> Result<(Url, String)> {
    let shown = without_secrets(text);
    let url = Url::parse(text).map_err(|error| Fault::user(format!("url {shown:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Fault::user(format!("url {shown}: write http:// or https://")));
    }
    Ok((url, shown))
}

/// Who asks: the program, its version, and whom to reach.
///
/// # Errors
/// `User`: the contact cannot stand in a header.
pub fn user_agent(contact: Option<&str>) -> Result<HeaderValue> {
    let version = env!("CARGO_PKG_VERSION");
    let agent = contact.map_or_else(|| format!("howdah/{version}"), |contact| format!("howdah/{version} ({contact})"));
    HeaderValue::from_bytes(agent.as_bytes())
        .map_err(|_| Fault::user(format!("contact {contact:?} cannot stand in a User-Agent")))
}

/// Adds these headers, their secrets read now.
///
/// # Errors
/// `User`, again with back-off: a secret's file cannot be read, or holds what no header can.
pub async fn put(headers: &mut HeaderMap, more: &[Header]) -> Result<()> {
    for Header { name, value } in more {
        let unfit = || Fault::user(format!("header {name}: cannot be sent")).retry(Retry::Backoff);
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
        let text = value.read().await.map_err(|fault| fault.at(format!("header {name}")))?;
        let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(())
}

/// How long the server asks to wait, if it does; a day at most (RFC 9110, section 10.2.3: seconds, or a date,
/// which is read against the response's own).
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(&name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let parse = |date: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok();
    let value = text(RETRY_AFTER)?;
    let named = match value.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => Duration::try_from(parse(&value)?.duration_since(parse(&text(DATE)?)?)).ok()?,
    };
    Some(named.min(LONGEST_NAMED))
}

/// When to try again after an answer with these headers.
pub fn again(headers: &HeaderMap) -> Retry {
    retry_after(headers).map_or(Retry::Backoff, Retry::After)
}

/// What a refusal's body says, as far as its first bytes, to be put behind a message; empty if it says nothing.
pub async fn said(mut response: Response) -> String {
    let chunk = timeout(REFUSAL_WAIT, response.chunk()).await.ok().and_then(Result::ok).flatten().unwrap_or_default();
    match String::from_utf8_lossy(&chunk[..chunk.len().min(REFUSAL_BYTES)]).trim() {
        "" => String::new(),
        // On one line, whatever it is.
        text => format!(": {}", words(text).replace(char::is_control, " ")),
    }
}

/// The sentence in a body that is JSON, as most services have it; else the body.
fn words(text: &str) -> String {
    let found = serde_json::from_str::<serde_json::Value>(text).ok().and_then(|body| {
        let sentence = ["message", "error", "reason"].iter().find_map(|name| body.get(name)?.as_str());
        sentence.map(str::to_owned)
    });
    found.unwrap_or_else(|| text.to_owned())
}

/// Why a request has no answer, and whether its server was reached.
pub fn unanswered(error: reqwest::Error) -> (Fault, bool) {
    let is_reached = !error.is_connect();
    (Fault::external(chain(&error.without_url())), is_reached)
}

/// What went wrong, in full: reqwest says little itself, and its causes say what happened.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_seconds_or_a_date_to_be_read_against_its_own() {
        let check = |value: &str, date: Option<&str>, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            date.map(|date| headers.insert(DATE, date.parse().unwrap()));
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{value} {date:?}");
        };
        check("17", None, Some(17));
        check(" 17 ", None, Some(17));
        check("999999999", None, Some(86_400));
        let at = "Sat, 12 Sep 2015 00:00:30 GMT";
        check("Sat, 12 Sep 2015 00:02:00 GMT", Some(at), Some(90));
        check("Sat, 12 Sep 2015 00:00:00 GMT", Some(at), None);
        check("Sat, 12 Sep 2015 00:02:00 GMT", None, None);
        check("soon", Some(at), None);
        check("-1", None, None);
    }

    #[test]
    fn a_refusal_is_said_in_its_own_words() {
        assert_eq!(words(r#"{"code":"not found","message":"bucket \"b\" not found"}"#), "bucket \"b\" not found");
        assert_eq!(words(r#"{"error":"sorry"}"#), "sorry");
        for plain in ["<html>away</html>", "{\"error\":{\"type\":\"x\"}}", "{\"error\":\"cut o", "7"] {
            assert_eq!(words(plain), plain);
        }
    }

    #[test]
    fn a_request_follows_no_redirection_to_another_host() {
        let check = |from: &str, to: &str, expected: bool| {
            assert_eq!(may_follow(&from.parse().unwrap(), &to.parse().unwrap()), expected, "{from} to {to}");
        };
        check("http://a/x", "http://a/y", true);
        check("http://a/x", "https://a/y", true);
        check("http://a/x", "http://a:80/y", true);
        check("http://a/x", "http://a:8080/y", false);
        check("https://a/x", "http://a/y", false);
        check("http://a/x", "http://b/x", false);
    }
}
