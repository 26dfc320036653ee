//! What the server says of each document.

use serde::Deserialize;

use crate::{
    fault::{Fault, Result, Retry},
    load::sink::Answer,
};

#[derive(Deserialize)]
struct Bulk {
    errors: bool,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

impl Outcome {
    fn words(&self) -> String {
        let error = self.error.as_ref().map(|error| match (error.get("type"), error.get("reason")) {
            (Some(kind), Some(reason)) => format!(": {}: {}", text(kind), text(reason)),
            _ => format!(": {}", text(error)),
        });
        format!("{}{}", self.status, error.unwrap_or_default())
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reads the answer to a request of so many documents.
///
/// # Errors
/// `External`: it is none, or not about as many. Then nothing is known.
pub fn read(body: &[u8], documents: usize) -> Result<Answer> {
    let bulk: Bulk =
        serde_json::from_slice(body).map_err(|error| Fault::external(format!("the answer cannot be read: {error}")))?;
    if bulk.items.len() != documents {
        let text = format!("the answer is about {} documents, {documents} were sent", bulk.items.len());
        return Err(Fault::external(text));
    }
    if !bulk.errors {
        return Ok(Answer::all_taken());
    }
    let (mut refused, mut later, mut fault) = (Vec::new(), Vec::new(), None);
    for (at, Item { create }) in bulk.items.iter().enumerate() {
        match create.status {
            // There already: it was written before.
            200..=299 | 409 => {}
            429 | 500..=599 => {
                later.push(at);
                fault.get_or_insert_with(|| Fault::external(create.words()));
            }
            // No index, or one that is closed to writers: not the document's mistake, and somebody mends it.
            401 | 403 | 404 => {
                later.push(at);
                fault.get_or_insert_with(|| Fault::user(create.words()).retry(Retry::Backoff));
            }
            _ => refused.push((at, create.words())),
        }
    }
    Ok(Answer::Taken { refused, later, fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_has_its_own_answer() {
        let body = br#"{"took":3,"errors":true,"items":[
            {"create":{"_index":"u","_id":"1","status":201}},
            {"create":{"_index":"u","_id":"2","status":409,"error":{"type":"version_conflict_engine_exception","reason":"there"}}},
            {"create":{"_index":"u","_id":"3","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse"}}},
            {"create":{"_index":"u","_id":"4","status":429,"error":{"type":"es_rejected_execution_exception","reason":"busy"}}},
            {"create":{"_index":"u","_id":"5","status":503}},
            {"create":{"_index":"u","_id":"6","status":403,"error":{"type":"cluster_block_exception","reason":"read-only"}}}]}"#;
        let Answer::Taken { refused, later, fault } = read(body, 6).unwrap() else { panic!() };
        assert_eq!(refused, [(2, "400: mapper_parsing_exception: failed to parse".to_owned())]);
        assert_eq!(later, [3, 4, 5]);
        assert_eq!(fault.unwrap().message, "429: es_rejected_execution_exception: busy");
    }

    #[test]
    fn an_answer_that_is_none_says_nothing() {
        let fine = br#"{"errors":false,"items":[{"create":{"status":201}}]}"#;
        assert!(
            matches!(read(fine, 1), Ok(Answer::Taken { refused, later, fault: None }) if refused.is_empty() && later.is_empty())
        );
        for (body, documents) in [(&fine[..], 2), (b"<html>", 1), (b"{}", 1), (br#"{"errors":true,"items":[{}]}"#, 1)] {
            assert!(read(body, documents).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
