//! What an answer's body is, without I/O.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    collect::one_line::one_line,
    model::{Pointer, json},
};

/// How an answer is read. Pointers lead into its JSON; without any the body need not be JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The list whose elements are events; without it the whole answer is one.
    pub items: Option<Pointer>,
    /// Where the service says that the answer is an error, whatever the status.
    pub error: Option<Pointer>,
    /// Where it says that there is another page.
    pub next: Option<Next>,
    /// Whether an event that is JSON is put on one line: each line break between its tokens becomes a space.
    pub one_line: bool,
}

/// Another page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// What stands there: the page's address (or what to put behind the first one's), or a value; nothing, null,
    /// `false` and an empty text mean that there is none.
    pub pointer: Pointer,
    /// The parameter of the query that takes the value; without it the value is an address.
    pub parameter: Option<String>,
}

/// What an answer is.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Events, and what leads to the next page.
    Events(Vec<Bytes>, Option<String>),
    /// The service says that something is wrong, in these words.
    Error(String),
    /// Not what it should be, and why.
    Unreadable(String),
}

/// What a service says of an error is shown up to so many bytes.
const SAID_BYTES: usize = 300;

impl Reading {
    /// Reads a body; an empty one has no event.
    pub fn read(&self, body: &Bytes) -> Answer {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Answer::Events(Vec::new(), None);
        }
        if self.items.is_none() && self.error.is_none() && self.next.is_none() {
            return Answer::Events(vec![self.event(body)], None);
        }
        let root: &RawValue = match serde_json::from_slice(body) {
            Ok(root) => root,
            Err(error) => return Answer::Unreadable(format!("the answer is no JSON: {error}")),
        };
        let at = |pointer: &Pointer| json::at(root, pointer).filter(|found| found.get() != "null");
        if let Some(said) = self.error.as_ref().and_then(at).filter(|said| !matches!(said.get(), "false" | "\"\"")) {
            let words: String = serde_json::from_str(said.get()).unwrap_or_else(|_| said.get().to_owned());
            return Answer::Error(words.chars().take(SAID_BYTES).collect());
        }
        let next = self.next.as_ref().and_then(|next| value(at(&next.pointer)?));
        let Some(items) = &self.items else { return Answer::Events(vec![self.event(body)], next) };
        match json::at(root, items).map(json::elements) {
            Some(Some(found)) => Answer::Events(
                found.into_iter().map(|item| self.event(&body.slice_ref(item.get().as_bytes()))).collect(),
                next,
            ),
            Some(None) => Answer::Unreadable(format!("what stands at {items} is no list")),
            None => Answer::Unreadable(format!("nothing stands at {items}")),
        }
    }

    /// The event as it goes on: without white space around it, and on one line if that is wanted and means the
    /// same.
    fn event(&self, text: &Bytes) -> Bytes {
        if self.one_line { one_line(text) } else { text.clone() }
    }
}

/// What leads to the next page, as a text.
fn value(found: &RawValue) -> Option<String> {
    let text = match serde_json::from_str(found.get()).ok()? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Option<Pointer> {
        Some(Pointer::parse(text).unwrap())
    }

    fn whole() -> Reading {
        Reading { one_line: true, ..Reading::default() }
    }

    fn items() -> Reading {
        let next = Next { pointer: pointer("/info/next").unwrap(), parameter: None };
        Reading { items: pointer("/results"), error: pointer("/error"), next: Some(next), one_line: true }
    }

    fn check(reading: &Reading, body: &str, events: &[&str], next: Option<&str>) {
        let events = events.iter().map(|event| Bytes::copy_from_slice(event.as_bytes())).collect();
        let expected = Answer::Events(events, next.map(str::to_owned));
        assert_eq!(reading.read(&Bytes::copy_from_slice(body.as_bytes())), expected, "{body}");
    }

    #[test]
    fn a_whole_answer_is_one_event_byte_for_byte() {
        check(&Reading::default(), "{\"a\" : 1}\n", &["{\"a\" : 1}\n"], None);
        check(&whole(), "{\"a\" :\t1}", &["{\"a\" :\t1}"], None);
        check(&whole(), "no json", &["no json"], None);
        check(&whole(), " \r\n", &[], None);
        check(&whole(), "", &[], None);
    }

    #[test]
    fn json_is_put_on_one_line_and_means_the_same() {
        check(&whole(), "{\r\n  \"a\\n\": \"b\"\n}\n", &["{    \"a\\n\": \"b\" }"], None);
        check(&whole(), "two\nlines\n", &["two\nlines"], None);
        check(&items(), "{\"results\": [\n {\"a\":\n1},\n 2\n]}", &["{\"a\": 1}", "2"], None);
    }

    #[test]
    fn elements_are_events_as_they_stand() {
        check(
            &items(),
            r#"{"results":[{"b" : 1.50, "a":"é"}, "x",null, [ ]]}"#,
            &[r#"{"b" : 1.50, "a":"é"}"#, "\"x\"", "null", "[ ]"],
            None,
        );
        check(&items(), r#"{"results":[],"error":null}"#, &[], None);
        check(&items(), r#"{"results":[1],"error":false,"info":{"next":""}}"#, &["1"], None);
    }

    #[test]
    fn another_page_is_an_address_or_a_value() {
        check(&items(), r#"{"results":[1],"info":{"next":"/api?page=2"}}"#, &["1"], Some("/api?page=2"));
        check(&items(), r#"{"results":[1],"info":{"next":17}}"#, &["1"], Some("17"));
        for none in ["null", "false", "true", "{}", "\"\""] {
            check(&items(), &format!(r#"{{"results":[1],"info":{{"next":{none}}}}}"#), &["1"], None);
        }
    }

    #[test]
    fn an_error_is_one_whatever_else_stands_there() {
        let error = |body: &str| match items().read(&Bytes::copy_from_slice(body.as_bytes())) {
            Answer::Error(said) => said,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            error(r#"{"error":"Uh oh, \"something\" has gone wrong","results":[1]}"#),
            "Uh oh, \"something\" has gone wrong"
        );
        assert_eq!(error(r#"{"error":{"code":17}}"#), r#"{"code":17}"#);
        assert_eq!(error(r#"{"error":true}"#), "true");
        assert_eq!(error(&format!("{{\"error\":\"{}\"}}", "é".repeat(1_000))).chars().count(), SAID_BYTES);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_not_taken() {
        let why = |body: &[u8]| match items().read(&Bytes::copy_from_slice(body)) {
            Answer::Unreadable(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(b"<html>").contains("no JSON"));
        assert!(why(b"{\"results\":[1]").contains("no JSON"));
        assert!(why(b"{\"results\":[\"\xff\"]}").contains("no JSON"));
        assert_eq!(why(b"{\"result\":[1]}"), "nothing stands at /results");
        assert_eq!(why(b"{\"results\":{}}"), "what stands at /results is no list");
    }
}
