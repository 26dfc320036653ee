//! What texts about other services must look like.

use crate::config::{complaint::quoted, form::Text};

/// How a text is written that must not be empty.
pub const TEXT: Text = Text { words: "a string that is not empty", pattern: r"(?:[^$]|\$\$)+" };

/// How a header is named.
pub const HEADER: Text = Text { words: "a header's name, like \"X-Api-Key\"", pattern: r"[!#%&'*+.^_`|~0-9A-Za-z-]+" };

/// How it is written what a header says.
pub const HEADER_VALUE: Text = Text { words: "printable ASCII characters", pattern: r"(?:[\t -#%-~]|\$\$)*" };

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
