//! Who may ask. With a token, everybody who shows it. Without one the API is on this machine alone, and then a
//! browser on it must not be led to us by a page from elsewhere: so whom a request is meant for, and where
//! the page came from that made it, have to be this machine too.

use actix_web::{
    HttpRequest,
    http::{StatusCode, header},
};
use subtle::ConstantTimeEq;

use super::steer::By;

/// In this header a person may say who gives an order.
pub const USER: &str = "x-howdah-user";

/// Characters of a name that are kept.
const LONGEST_NAME: usize = 64;

/// See the module's text.
#[derive(Clone)]
pub struct Access {
    token: Option<Vec<u8>>,
}

/// Why a request is not answered.
pub type Refusal = (StatusCode, &'static str);

impl Access {
    /// With this token, or without one for loopback.
    pub fn new(token: Option<String>) -> Self {
        Self { token: token.map(String::into_bytes) }
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// It may not.
    pub fn admit(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let text = |name: header::HeaderName| request.headers().get(name).map(header::HeaderValue::as_bytes);
        let Some(token) = &self.token else {
            let host = text(header::HOST).unwrap_or_default();
            let origin = text(header::ORIGIN);
            let is_here = |authority: &[u8]| std::str::from_utf8(authority).is_ok_and(is_loopback);
            let from_here = origin.is_none_or(|origin| {
                let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
                authority.is_some_and(is_here)
            });
            return if is_here(host) && from_here {
                Ok(())
            } else {
                Err((StatusCode::FORBIDDEN, "without a token only this machine may ask, by its own name"))
            };
        };
        let shown = text(header::AUTHORIZATION).and_then(bearer);
        if shown.is_some_and(|shown| bool::from(shown.ct_eq(token))) {
            return Ok(());
        }
        Err((StatusCode::UNAUTHORIZED, "the token is missing or not the right one: Authorization: Bearer …"))
    }
}

/// Who gives an order.
pub fn by(request: &HttpRequest) -> By {
    let named = request.headers().get(USER).and_then(|name| name.to_str().ok());
    let who: String = named.unwrap_or("somebody").chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    let from = request.peer_addr().map_or_else(|| "nowhere".to_owned(), |from| from.ip().to_string());
    By { who: if who.trim().is_empty() { "somebody".to_owned() } else { who }, from }
}

/// RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = header.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// Whether `host:port` names this machine by its loopback.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn admitted(access: &Access, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = TestRequest::get();
        for &(name, value) in headers {
            request = request.insert_header((name, value));
        }
        access.admit(&request.to_http_request()).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_who_shows_the_token_is_admitted() {
        let access = Access::new(Some("s3cret".into()));
        for good in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            assert_eq!(admitted(&access, &[("authorization", good), ("host", "anywhere")]), None, "{good}");
        }
        for bad in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "s3cret", "Basic s3cret", ""] {
            assert_eq!(admitted(&access, &[("authorization", bad)]), Some(401), "{bad}");
        }
        assert_eq!(admitted(&access, &[("host", "localhost")]), Some(401));
    }

    #[test]
    fn without_a_token_a_page_from_elsewhere_gets_nothing() {
        let access = Access::new(None);
        for good in ["localhost:7070", "127.0.0.1:7070", "[::1]:7070", "LOCALHOST", "127.0.0.1"] {
            assert_eq!(admitted(&access, &[("host", good)]), None, "{good}");
            let origin = format!("http://{good}");
            assert_eq!(admitted(&access, &[("host", good), ("origin", &origin)]), None, "{origin}");
        }
        for bad in ["evil.example:7070", "localhost.evil.example", "10.0.0.1:7070", ""] {
            assert_eq!(admitted(&access, &[("host", bad)]), Some(403), "{bad}");
        }
        for bad in ["http://evil.example", "null", "file://localhost"] {
            assert_eq!(admitted(&access, &[("host", "localhost:7070"), ("origin", bad)]), Some(403), "{bad}");
        }
    }

    #[test]
    fn a_name_is_what_was_said_without_what_would_break_a_log() {
        let by_header = |value: &str| by(&TestRequest::get().insert_header((USER, value)).to_http_request()).who;
        assert_eq!(by_header("anna"), "anna");
        assert_eq!(by_header(&"x".repeat(100)), "x".repeat(64));
        assert_eq!(by_header("  "), "somebody");
        assert_eq!(by(&TestRequest::get().to_http_request()).who, "somebody");
    }
}
