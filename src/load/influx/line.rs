//! Line protocol: how InfluxDB wants a point written.
//!
//! ```text
//! measurement,tag=value,other=value field="text",count=1i,share=0.5,good=true 1442018818771000000
//! ```
//!
//! By InfluxData's "Line protocol reference": in the measurement commas and spaces are escaped with a
//! backslash, in keys and tags' values equals signs too, in texts quotes and backslashes. Not everything can
//! be said in a tag. A line break or a tabulator becomes a space. A backslash is left out before another one,
//! before what is escaped, and at the end: 1.x and 2.x take the first of two for itself, 3.x for an escape. And a
//! tag without a value is left out, which InfluxDB takes for the same. Tags stand in the order of their names,
//! which saves the server sorting them. Names have neither control characters nor backslashes: whoever makes
//! [`Lines`] sees to that.

use std::io::Write;

use crate::load::transform::{Row, Value};

/// How rows become lines.
#[derive(Clone, Debug)]
pub struct Lines {
    measurement: Vec<u8>,
    // The name as it is written, and which of the row's columns it is; tags by name.
    tags: Vec<(Vec<u8>, usize)>,
    fields: Vec<(Vec<u8>, usize)>,
}

/// The tag that tells partitions apart, where there are several.
pub const PARTITION: &str = "partition";

impl Lines {
    /// Lines of this measurement; `tags` and `fields` name columns of the rows, in their order, tags first.
    pub fn new(measurement: &str, tags: &[String], fields: &[String]) -> Self {
        let mut written = Vec::new();
        escape(measurement, b", ", &mut written);
        let named = |(at, name): (usize, &String)| {
            let mut written = Vec::new();
            escape(name, b",= ", &mut written);
            (written, at)
        };
        let mut named_tags: Vec<_> = tags.iter().enumerate().map(named).collect();
        named_tags.sort();
        let fields = fields.iter().enumerate().map(|(at, name)| named((at + tags.len(), name))).collect();
        Self { measurement: written, tags: named_tags, fields }
    }

    /// Adds a row's line to `out`, with the partition as a tag if one is given; answers with how many bytes of it
    /// say which series the point is of.
    ///
    /// # Errors
    /// No field has a value: nothing is added.
    pub fn write(&self, row: &Row<'_>, partition: Option<u32>, nanos: i64, out: &mut Vec<u8>) -> Result<usize, String> {
        let begin = out.len();
        out.extend_from_slice(&self.measurement);
        let mut partition = partition;
        for (name, at) in &self.tags {
            if partition.is_some() && name.as_slice() > PARTITION.as_bytes() {
                put_partition(partition.take(), out);
            }
            if let Some(value) = &row.values[*at] {
                put_tag(name, value, out);
            }
        }
        put_partition(partition, out);
        let series = out.len() - begin;
        let mut before = b' ';
        for (name, at) in &self.fields {
            let Some(value) = &row.values[*at] else { continue };
            out.push(before);
            before = b',';
            out.extend_from_slice(name);
            out.push(b'=');
            put_field(value, out);
        }
        if before == b' ' {
            out.truncate(begin);
            return Err("no field has a value".to_owned());
        }
        let _ = write!(out, " {nanos}");
        Ok(series)
    }
}

fn put_partition(partition: Option<u32>, out: &mut Vec<u8>) {
    if let Some(partition) = partition {
        let _ = write!(out, ",{PARTITION}={partition}");
    }
}

fn put_tag(name: &[u8], value: &Value<'_>, out: &mut Vec<u8>) {
    let begin = out.len();
    out.push(b',');
    out.extend_from_slice(name);
    out.push(b'=');
    let empty = out.len();
    match value {
        Value::Text(text) => escape(text, b",= ", out),
        Value::Integer(number) => drop(write!(out, "{number}")),
        Value::Float(number) => drop(write!(out, "{number}")),
        Value::Boolean(truth) => drop(write!(out, "{truth}")),
    }
    if out.len() == empty {
        out.truncate(begin);
    }
}

fn put_field(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            out.push(b'"');
            for &byte in text.as_bytes() {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
        }
        Value::Integer(number) => drop(write!(out, "{number}i")),
        Value::Float(number) => drop(write!(out, "{number}")),
        Value::Boolean(truth) => drop(write!(out, "{truth}")),
    }
}

fn escape(text: &str, special: &[u8], out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let is_plain = |byte: &u8| !special.contains(byte) && !matches!(byte, b'\n' | b'\r' | b'\t' | b'\\');
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' | b'\r' | b'\t' => out.extend_from_slice(b"\\ "),
            b'\\' if !bytes.get(at + 1).is_some_and(is_plain) => {}
            byte if special.contains(&byte) => out.extend_from_slice(&[b'\\', byte]),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests;
