//! What texts about other services must look like.

use regex::Regex;

use super::url;
use crate::config::{complaint::quoted, form::Text};

/// How a text is written that must not be empty.
pub const TEXT: Text = Text { words: "a string that is not empty", pattern: r"(?:[^$]|\$\$)+" };

/// How a header is named.
pub const HEADER: Text = Text { words: "a header's name, like \"X-Api-Key\"", pattern: r"[!#%&'*+.^_`|~0-9A-Za-z-]+" };

/// How it is written what a header says.
pub const HEADER_VALUE: Text = Text { words: "printable ASCII characters", pattern: r"(?:[\t -#%-~]|\$\$)*" };

/// A text, or nothing.
pub const TEXT_OR_NONE: Text = Text { words: "a string, or nothing", pattern: r"(?:[^$]|\$\$)*" };

/// How an address is written that may be left out.
pub const URL_OR_NONE: Text = Text {
    words: "an address like \"https://host/path\", or nothing",
    pattern: r"\s*|[Hh][Tt][Tt][Pp][Ss]?:(?:[^$\s\x00-\x1f\x7f-\x9f]|\$\$)+",
};

/// How a measurement, a tag or a field of InfluxDB is named.
pub const LINE_NAME: Text = Text {
    words: "a name without control characters and backslashes, which does not begin with \"_\" or \"#\"",
    pattern: r"(?:[^$_#\x00-\x1f\x7f-\x9f\\]|\$\$)(?:[^$\x00-\x1f\x7f-\x9f\\]|\$\$)*",
};

/// How an index is named.
pub const INDEX: Text = Text {
    words: "an index's name: lower case, no spaces and none of \\ / * ? \" < > | , # :, not beginning with - _ + or a \
            dot; %Y, %m, %d and %H are of the time",
    pattern: r"(?:[^$A-Z\s\\/*?\x22<>|,#:%_.+-]|%[YmdH])(?:[^$A-Z\s\\/*?\x22<>|,#:%]|%[YmdH])*",
};

/// How a template of a text is written.
pub const TEMPLATE: Text =
    Text { words: "a text with parts like {/name/first}", pattern: r"(?:[^$]|\$\$)*\{/(?:[^$]|\$\$)*" };

/// A text; nothing is `None`.
///
/// # Errors
/// What is wrong with it, as for all of them.
pub fn text_or_none(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// An address; nothing is `None`.
pub fn url_or_none(text: &str) -> Result<Option<String>, String> {
    if text.trim().is_empty() { Ok(None) } else { url(text).map(Some) }
}

/// The name of a measurement, a tag or a field. InfluxDB keeps names that begin with `_` for itself, and a line that
/// begins with `#` is a comment.
pub fn line_name(text: &str) -> Result<String, String> {
    let fine =
        !text.is_empty() && !text.starts_with(['_', '#']) && !text.contains(|c: char| c.is_control() || c == '\\');
    match (fine, text) {
        (true, "time") => Err("\"time\" is InfluxDB's own name for the time of a point".to_owned()),
        (true, _) => Ok(text.to_owned()),
        (false, _) => Err(format!("{} is not {LINE_NAME}", quoted(text))),
    }
}

/// The name of an index, with fields of the time (Elastic's "Create index API").
pub fn index(text: &str) -> Result<String, String> {
    let wrong = || format!("{} is not {INDEX}", quoted(text));
    let mut fields = text.split('%');
    let first = fields.next().unwrap_or_default();
    let has_fields = text.contains('%');
    let plain = |part: &str| {
        part == part.to_lowercase()
            && !part.contains(|c: char| c.is_whitespace() || c.is_control() || "\\/*?\"<>|,#:".contains(c))
    };
    let known = |part: &str| part.starts_with(['Y', 'm', 'd', 'H']) && plain(&part[1..]);
    let fine = plain(first) && fields.all(known) && !text.starts_with(['-', '_', '+', '.']) && text.len() <= 200;
    if text.is_empty() || (first.is_empty() && !has_fields) || !fine { Err(wrong()) } else { Ok(text.to_owned()) }
}

/// How a regular expression is written.
pub const REGEX: Text = Text { words: "a regular expression, like \".*\\\\.tmp\"", ..TEXT };

/// How the end of a name is written.
pub const SUFFIX: Text =
    Text { words: "the end of a file's name, like \".COMPLETED\"", pattern: r"(?:[^$/\x00-\x1f\x7f-\x9f]|\$\$)+" };

/// A regular expression that has to match the whole of a text.
///
/// # Errors
/// What is wrong with it, as for all of them.
pub fn regex(text: &str) -> Result<Regex, String> {
    // By itself first, for what is said of it.
    Regex::new(text).and_then(|_| Regex::new(&format!(r"\A(?:{text})\z"))).map_err(|error| {
        // The parser draws a picture; its last line says what it is.
        let said = error.to_string();
        format!("{} is no regular expression: {}", quoted(text), said.lines().last().unwrap_or_default().trim())
    })
}

/// The end of a file's name.
pub fn suffix(text: &str) -> Result<String, String> {
    let fine = !text.is_empty() && text.len() <= 100 && !text.contains(|c: char| c == '/' || c.is_control());
    if fine { Ok(text.to_owned()) } else { Err(format!("{} is not {SUFFIX}", quoted(text))) }
}

/// A text that is not empty.
///
/// # Errors
/// What is wrong with it, as for all of them.
pub fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("\"\" says nothing, allowed: {TEXT}")) } else { Ok(text.to_owned()) }
}

/// A header's name (RFC 9110, section 5.6.2), of one that is not howdah's to write.
pub fn header(text: &str) -> Result<String, String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.is_empty() || !text.bytes().all(fine) {
        return Err(format!("{} is not {HEADER}", quoted(text)));
    }
    for own in ["user-agent", "host", "content-length", "content-encoding", "transfer-encoding", "connection"] {
        if text.eq_ignore_ascii_case(own) {
            return Err(format!("{} is written by howdah itself", quoted(text)));
        }
    }
    Ok(text.to_owned())
}

/// What a header says. It may be a secret, so it is not shown.
pub fn header_value(text: &str) -> Result<String, String> {
    if text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
        return Ok(text.to_owned());
    }
    Err(format!("holds what no header can, allowed: {HEADER_VALUE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_matches_the_whole() {
        let either = regex("a|ab").unwrap();
        assert_eq!(["a", "ab", "b", "abc", "xa"].map(|text| either.is_match(text)), [true, true, false, false, false]);
        assert!(regex("a)(b").unwrap_err().contains("is no regular expression: "));
    }

    #[test]
    fn a_header_is_one_that_can_be_sent() {
        assert_eq!(header("X-Api-Key"), Ok("X-Api-Key".to_owned()));
        for bad in ["", "X Key", "Key:", "Schlüssel", "host", "User-Agent"] {
            assert!(header(bad).is_err(), "{bad:?}");
        }
        assert_eq!(header_value("Bearer a~b"), Ok("Bearer a~b".to_owned()));
        for bad in ["a\nb", "é", "\u{7f}"] {
            let said = header_value(bad).unwrap_err();
            assert!(!said.contains(bad), "{said}");
        }
    }
}
