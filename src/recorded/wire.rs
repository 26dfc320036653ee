//! Events as server-sent text, plain as Wikimedia writes it, or as hostile as the standard allows.
//!
//! Hostile text means the same to a reader that keeps to the standard: line ends of all three
//! kinds, a byte order mark, comments, fields nobody knows, a `retry`, an id with a NUL (which
//! does not count), no space behind the colon, chunks that end within a character.

use bytes::{Bytes, BytesMut};

/// Writes the text of one connection.
#[derive(Debug)]
pub(super) struct Writer {
    hostile: bool,
    rng: fastrand::Rng,
}

impl Writer {
    pub(super) fn new(hostile: bool, seed: u64) -> Self {
        Self { hostile, rng: fastrand::Rng::with_seed(seed) }
    }

    /// What a connection begins with.
    pub(super) fn greeting(&mut self) -> Bytes {
        let mark = if self.hostile && self.rng.bool() { "\u{feff}" } else { "" };
        self.with_line_ends(&[mark.to_owned() + ":ok"])
    }

    /// A comment, so that both sides know of each other.
    pub(super) fn comment(&mut self) -> Bytes {
        self.with_line_ends(&[":".to_owned()])
    }

    /// What a server says before it gives up by itself.
    pub(super) fn error(&mut self) -> Bytes {
        let lines = ["event: error", "data: {\"message\":\"the recording was interrupted\"}"].map(str::to_owned);
        self.with_line_ends(&lines)
    }

    /// An event with its id.
    pub(super) fn event(&mut self, id: &str, data: &[u8]) -> Bytes {
        let end = self.line_end();
        let space = if self.hostile && self.rng.bool() { "" } else { " " };
        let mut text = BytesMut::with_capacity(data.len() + id.len() + 64);
        let mut line = |field: &str, value: &[u8]| {
            for part in [field.as_bytes(), b":", space.as_bytes(), value, end.as_bytes()] {
                text.extend_from_slice(part);
            }
        };
        line("event", b"message");
        line("id", id.as_bytes());
        if self.hostile {
            match self.rng.u8(..8) {
                0 => line("", b"a comment: id: 7"),
                1 => line("retry", b"20"),
                2 => line("colour", b"grey"),
                3 => line("id", b"no\0id"),
                _ => {}
            }
        }
        line("data", data);
        text.extend_from_slice(end.as_bytes());
        text.freeze()
    }

    /// The text in the pieces in which it is sent: two, the first ending within a character if
    /// there is one, for a hostile writer; else one.
    pub(super) fn pieces(&mut self, text: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        let at = if self.hostile { self.cut(&text) } else { text.len() };
        let mut text = text;
        let first = text.split_to(at);
        [first, text].into_iter().filter(|piece| !piece.is_empty())
    }

    /// A place to cut a text: within a character, if there is one of several bytes and luck wills.
    pub(super) fn cut(&mut self, text: &[u8]) -> usize {
        let anywhere = self.rng.usize(1..text.len().max(2));
        let within = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
        match text[anywhere.min(text.len())..].iter().position(within) {
            Some(on) if self.rng.u8(..3) > 0 => anywhere + on,
            _ => anywhere,
        }
    }

    fn with_line_ends(&mut self, lines: &[String]) -> Bytes {
        let end = self.line_end();
        lines.iter().map(|line| line.clone() + end).chain([end.to_owned()]).collect::<String>().into()
    }

    /// One kind for a whole block: a CR and the LF of an empty line behind it would be one end.
    fn line_end(&mut self) -> &'static str {
        if self.hostile { ["\n", "\r\n", "\r"][self.rng.usize(..3)] } else { "\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_wikimedias() {
        let mut writer = Writer::new(false, 1);
        assert_eq!(writer.greeting(), ":ok\n\n");
        assert_eq!(writer.event("[{}]", b"{\"a\":1}"), "event: message\nid: [{}]\ndata: {\"a\":1}\n\n");
        assert_eq!(writer.comment(), ":\n\n");
        assert_eq!(writer.error(), "event: error\ndata: {\"message\":\"the recording was interrupted\"}\n\n");
        assert_eq!(writer.pieces(Bytes::from_static(b"abc")).collect::<Vec<_>>(), ["abc"]);
    }

    #[test]
    fn hostile_text_has_every_trait_and_is_cut_within_characters() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let mut writer = Writer::new(true, seed);
            if writer.greeting().starts_with("\u{feff}".as_bytes()) {
                seen.insert("mark");
            }
            let text = writer.event("[1]", "{\"t\":\"馬馬馬馬馬馬\"}".as_bytes());
            let string = String::from_utf8(text.to_vec()).unwrap();
            for (name, sign) in [
                ("comment", "\n:a comment"),
                ("comment", "\n: a comment"),
                ("retry", "retry"),
                ("unknown", "colour"),
                ("nul", "\0"),
                ("crlf", "\r\n\r\n"),
                ("cr", "\r\r"),
                ("lf", "}\n\n"),
                ("no space", "data:{"),
            ] {
                if string.contains(sign) {
                    seen.insert(name);
                }
            }
            assert!(!string.contains("\r\n\n") && !string.contains("\n\r\r"), "{string:?}");
            let pieces = writer.pieces(text.clone()).collect::<Vec<_>>();
            assert_eq!(pieces.concat(), text);
            if std::str::from_utf8(&pieces[0]).is_err() {
                seen.insert("within a character");
            }
        }
        let expected =
            ["comment", "cr", "crlf", "lf", "mark", "no space", "nul", "retry", "unknown", "within a character"];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    }
}
