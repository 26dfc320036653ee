//! The grammar of an event stream (WHATWG HTML, section 9.2.6), parsed from chunks of bytes that
//! may be cut anywhere.
//!
//! - Lines end with LF, CR or CRLF. A line is a comment (`:` first), or a field: a name, and after
//!   the first colon a value, less one leading space. A line without a colon is a field with an
//!   empty value. Unknown fields are skipped.
//! - `data` values of one event are joined by LF; `event` names its kind; `id` sets the last event
//!   id (one that holds a NUL is ignored, an empty one resets it); `retry` counts only when it is
//!   all digits.
//! - An empty line ends an event. Without a `data` line there is no event, but its id counts.
//!   What stands after the last empty line when the stream ends is no event, and neither is its id.
//! - A byte order mark is skipped at the very start and nowhere else.
//!
//! The standard decodes UTF-8 first. Here bytes stay bytes: what is valid UTF-8 means the same
//! (the characters of the grammar are ASCII, and no part of a longer character looks like one),
//! and what is not is kept verbatim instead of being replaced by U+FFFD.
//!
//! Memory is bounded. An event whose data is larger than the bound is handed out in pieces as it
//! comes and never held whole; the other fields hold [`MAX_FIELD`] bytes at most. An event that
//! lies within one chunk is a slice of it: nothing is copied.

use std::{mem, time::Duration};

use bytes::{Bytes, BytesMut};

/// A value of `event`, `id` or `retry` with more bytes than this is ignored, as if its line were
/// not there. For `id` this is safe: the token before it stands, and a resume repeats more.
pub const MAX_FIELD: usize = 64 * 1024;

/// The kind of an event that names none.
const MESSAGE: &[u8] = b"message";

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The longest field name there is (`event`, `retry`).
const MAX_NAME: usize = 5;

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event.
    Event {
        /// Its kind; `message` if it names none.
        kind: Bytes,
        /// The last event id as of this event (its own, or one before); empty if there is none.
        id: Bytes,
        /// Its data, without the final LF.
        data: Bytes,
    },
    /// The next bytes of an event that is larger than the bound. Void unless
    /// [`OversizedEnd`](Self::OversizedEnd) follows.
    OversizedPart(Bytes),
    /// The event whose parts came before is complete.
    OversizedEnd {
        /// As of [`Item::Event`].
        kind: Bytes,
        /// As of [`Item::Event`].
        id: Bytes,
        /// How many bytes its parts have together.
        len: u64,
    },
    /// The server asks to wait this long before connecting again.
    Retry(Duration),
    /// A comment; servers send them to keep a connection alive.
    Comment,
}

/// The parser of one connection; a new connection takes a new one.
#[derive(Debug)]
pub struct Parser {
    max_event: u64,
    // How many bytes of a byte order mark were seen at the start; `None` once it is past.
    mark: Option<usize>,
    after_cr: bool,
    line: Line,
    event: Event,
    last_id: Bytes,
}

#[derive(Debug)]
enum Line {
    Name { bytes: [u8; MAX_NAME], len: usize },
    Skipped,
    Comment,
    Data { first: bool },
    Value { field: Field, first: bool, value: Pieces },
}

impl Default for Line {
    fn default() -> Self {
        Self::Name { bytes: [0; MAX_NAME], len: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Event,
    Id,
    Retry,
}

#[derive(Debug, Default)]
struct Event {
    kind: Bytes,
    // Kept over events: what the next one is given if it has no id of its own.
    id: Bytes,
    num_lines: u64,
    len: u64,
    data: Pieces,
    oversized: bool,
}

impl Parser {
    /// A parser at the start of a stream. Events with more than `max_event` bytes of data come in
    /// pieces.
    pub fn new(max_event: u64) -> Self {
        Self {
            max_event,
            mark: Some(0),
            after_cr: false,
            line: Line::default(),
            event: Event::default(),
            last_id: Bytes::new(),
        }
    }

    /// Takes the next bytes of the stream and adds to `items` what they complete.
    pub fn push(&mut self, chunk: &Bytes, items: &mut Vec<Item>) {
        let start = self.skip_mark(chunk, items);
        self.parse(&chunk.slice(start..), items);
    }

    /// The last event id: what the standard sends as `Last-Event-ID`. Empty if there is none.
    pub fn last_id(&self) -> &Bytes {
        &self.last_id
    }

    // Answers how many bytes of the chunk are spent.
    fn skip_mark(&mut self, chunk: &[u8], items: &mut Vec<Item>) -> usize {
        let Some(before) = self.mark else { return 0 };
        let wanted = &BYTE_ORDER_MARK[before..];
        let same = wanted.iter().zip(chunk).take_while(|(a, b)| a == b).count();
        if same == wanted.len() {
            self.mark = None;
            same
        } else if same == chunk.len() {
            self.mark = Some(before + same);
            same
        } else {
            // It only looked like one: what was held back is the beginning of the first line.
            self.mark = None;
            self.parse(&Bytes::from_static(&BYTE_ORDER_MARK[..before]), items);
            0
        }
    }

    fn parse(&mut self, chunk: &Bytes, items: &mut Vec<Item>) {
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            if mem::take(&mut self.after_cr) && byte == b'\n' {
                at += 1;
                continue;
            }
            if let Line::Name { bytes, len } = &mut self.line {
                at += 1;
                match byte {
                    b'\r' | b'\n' => self.end_line(byte, items),
                    b':' => {
                        let (bytes, len) = (*bytes, *len);
                        self.begin_value(&bytes[..len], items);
                    }
                    _ if *len == MAX_NAME => self.line = Line::Skipped,
                    _ => {
                        bytes[*len] = byte;
                        *len += 1;
                    }
                }
                continue;
            }
            let end = chunk[at..].iter().position(|b| matches!(b, b'\r' | b'\n')).map(|len| at + len);
            self.value(chunk.slice(at..end.unwrap_or(chunk.len())), items);
            match end {
                Some(end) => {
                    self.end_line(chunk[end], items);
                    at = end + 1;
                }
                None => return,
            }
        }
    }

    fn begin_value(&mut self, name: &[u8], items: &mut Vec<Item>) {
        let field = match name {
            b"" => {
                self.line = Line::Comment;
                return;
            }
            b"data" => {
                self.event.begin_line(self.max_event, items);
                self.line = Line::Data { first: true };
                return;
            }
            b"event" => Field::Event,
            b"id" => Field::Id,
            b"retry" => Field::Retry,
            _ => {
                self.line = Line::Skipped;
                return;
            }
        };
        self.line = Line::Value { field, first: true, value: Pieces::None };
    }

    // Takes bytes of a value (without its line end).
    fn value(&mut self, mut bytes: Bytes, items: &mut Vec<Item>) {
        if let Line::Data { first } | Line::Value { first, .. } = &mut self.line
            && !bytes.is_empty()
            && mem::take(first)
            && bytes[0] == b' '
        {
            bytes = bytes.slice(1..);
        }
        match &mut self.line {
            Line::Data { .. } => self.event.extend(bytes, self.max_event, items),
            Line::Value { value, .. } if value.len() + bytes.len() <= MAX_FIELD => value.push(bytes),
            Line::Value { .. } => self.line = Line::Skipped,
            Line::Name { .. } | Line::Skipped | Line::Comment => {}
        }
    }

    fn end_line(&mut self, end: u8, items: &mut Vec<Item>) {
        self.after_cr = end == b'\r';
        match mem::take(&mut self.line) {
            Line::Name { len: 0, .. } => self.dispatch(items),
            Line::Name { bytes, len } => match &bytes[..len] {
                b"data" => self.event.begin_line(self.max_event, items),
                b"event" => self.event.kind = Bytes::new(),
                b"id" => self.event.id = Bytes::new(),
                _ => {}
            },
            Line::Comment => items.push(Item::Comment),
            Line::Value { field: Field::Event, value, .. } => self.event.kind = value.into_bytes(),
            Line::Value { field: Field::Id, value, .. } => {
                let id = value.into_bytes();
                if !id.contains(&0) {
                    self.event.id = id;
                }
            }
            Line::Value { field: Field::Retry, value, .. } => items.extend(retry(&value.into_bytes())),
            Line::Skipped | Line::Data { .. } => {}
        }
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        let id = self.event.id.clone();
        self.last_id = id.clone();
        let event = mem::replace(&mut self.event, Event { id: id.clone(), ..Event::default() });
        if event.num_lines == 0 {
            return;
        }
        let kind =
            if event.kind.is_empty() || event.kind == MESSAGE { Bytes::from_static(MESSAGE) } else { event.kind };
        items.push(if event.oversized {
            Item::OversizedEnd { kind, id, len: event.len }
        } else {
            Item::Event { kind, id, data: event.data.into_bytes() }
        });
    }
}

fn retry(value: &[u8]) -> Option<Item> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |millis: u64, byte: &u8| millis.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    Some(Item::Retry(Duration::from_millis(value.iter().fold(0, digit))))
}

impl Event {
    fn begin_line(&mut self, max: u64, items: &mut Vec<Item>) {
        if self.num_lines > 0 {
            self.extend(Bytes::from_static(b"\n"), max, items);
        }
        self.num_lines += 1;
    }

    fn extend(&mut self, bytes: Bytes, max: u64, items: &mut Vec<Item>) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len() as u64;
        if self.len > max {
            let held = mem::take(&mut self.data);
            if held.len() > 0 {
                items.push(Item::OversizedPart(held.into_bytes()));
            }
            self.oversized = true;
            items.push(Item::OversizedPart(bytes));
        } else {
            self.data.push(bytes);
        }
    }
}

/// Bytes that come in pieces: one piece is kept as it is, more are copied together.
#[derive(Debug, Default)]
enum Pieces {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Pieces {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, more: Bytes) {
        match self {
            Self::None => *self = Self::One(more),
            Self::One(bytes) => {
                let mut many = BytesMut::with_capacity(2 * (bytes.len() + more.len()));
                many.extend_from_slice(bytes);
                many.extend_from_slice(&more);
                *self = Self::Many(many);
            }
            Self::Many(bytes) => bytes.extend_from_slice(&more),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}

#[cfg(test)]
mod tests;
