//! JSON on one line, as an archive of lines wants it.

use bytes::Bytes;

/// The text without the white space around it, and without line breaks if it is JSON: there a raw line break stands
/// only between tokens, where a space means the same. What is no JSON stays as it is.
pub fn one_line(text: &Bytes) -> Bytes {
    let text = text.slice_ref(text.trim_ascii());
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !text.iter().any(is_break) || serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_err() {
        return text;
    }
    text.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }).collect::<Vec<_>>().into()
}
