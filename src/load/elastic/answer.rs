//! What the server says of each document.

use serde::Deserialize;

use crate::{
    fault::{Fault, Result, Retry},
    load::sink::{Answer, Verdicts},
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

/// Characters of a refusal's words at most: some servers repeat the whole value.
const MOST_WORDS: usize = 1_000;

impl Outcome {
    /// Whether the error says nothing of the document, though its status may: an index that is closed, a cluster that
    /// takes no more shards, an alias that leads nowhere, an ingest pipeline that is not there.
    fn is_of_the_index(&self) -> bool {
        let said = |key: &str| self.error.as_ref().and_then(|error| error.get(key)?.as_str()).unwrap_or_default();
        match said("type") {
            "index_closed_exception" | "cluster_block_exception" => true,
            // Such a reason may hold a part of the document, but does not begin with it.
            "validation_exception" | "illegal_argument_exception" => {
                let reason = said("reason");
                let has_shards = reason.starts_with("Validation Failed") && reason.contains("maximum shards open");
                let has_no_pipeline = reason.starts_with("pipeline with id [") && reason.ends_with("] does not exist");
                has_shards || has_no_pipeline || reason.starts_with("no write index is defined")
            }
            _ => false,
        }
    }

    fn words(&self) -> String {
        let error = self.error.as_ref().map(|error| match (error.get("type"), error.get("reason")) {
            (Some(kind), Some(reason)) => format!(": {}: {}", text(kind), text(reason)),
            _ => format!(": {}", text(error)),
        });
        let words = format!("{}{}", self.status, error.unwrap_or_default());
        match words.char_indices().nth(MOST_WORDS) {
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words,
        }
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
    let Verdicts { mut refused, mut later, mut unclear, mut fault } = Verdicts::default();
    for (at, Item { create }) in bulk.items.iter().enumerate() {
        match create.status {
            // There already: it was written before.
            200..=299 | 409 => {}
            429 | 503 => {
                later.push(at);
                fault.get_or_insert_with(|| Fault::external(create.words()));
            }
            500..=599 => {
                unclear.push((at, create.words()));
                fault.get_or_insert_with(|| Fault::external(create.words()));
            }
            // No index, or one that is closed to writers: not the document's mistake, and somebody mends it.
            401 | 403 | 404 => {
                later.push(at);
                fault.get_or_insert_with(|| Fault::user(create.words()).retry(Retry::Backoff));
            }
            _ if create.is_of_the_index() => {
                later.push(at);
                fault.get_or_insert_with(|| Fault::user(create.words()).retry(Retry::Backoff));
            }
            _ => refused.push((at, create.words())),
        }
    }
    Ok(Answer::Each(Verdicts { refused, later, unclear, fault }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_documents_mistake_is_waited_for_and_no_refusal_is_endless() {
        let item = |kind: &str, reason: &str| serde_json::json!({"create": {"status": 400, "error": {"type": kind, "reason": reason}}});
        let shards = "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has \
                      [1000]/[1000] maximum shards open;";
        let long = "ü".repeat(5_000);
        let items = [
            item("index_closed_exception", "closed"),
            item("validation_exception", shards),
            item("illegal_argument_exception", "no write index is defined for alias [u]"),
            item("illegal_argument_exception", "pipeline with id [p] does not exist"),
            item("mapper_parsing_exception", "failed to parse [index_closed_exception] maximum shards open"),
            item("mapper_parsing_exception", &long),
        ];
        let body = serde_json::json!({"errors": true, "items": items}).to_string();
        let Answer::Each(Verdicts { refused, later, fault, .. }) = read(body.as_bytes(), 6).unwrap() else { panic!() };
        assert_eq!((later, refused.iter().map(|(at, _)| *at).collect::<Vec<_>>()), (vec![0, 1, 2, 3], vec![4, 5]));
        assert_eq!(fault.unwrap().message, "400: index_closed_exception: closed");
        assert!(refused[1].1.chars().count() == MOST_WORDS + 1 && refused[1].1.ends_with('…'), "{}", refused[1].1);
    }

    #[test]
    fn each_document_has_its_own_answer() {
        let body = br#"{"took":3,"errors":true,"items":[
            {"create":{"_index":"u","_id":"1","status":201}},
            {"create":{"_index":"u","_id":"2","status":409,"error":{"type":"version_conflict_engine_exception","reason":"there"}}},
            {"create":{"_index":"u","_id":"3","status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse"}}},
            {"create":{"_index":"u","_id":"4","status":429,"error":{"type":"es_rejected_execution_exception","reason":"busy"}}},
            {"create":{"_index":"u","_id":"5","status":503}},
            {"create":{"_index":"u","_id":"6","status":403,"error":{"type":"cluster_block_exception","reason":"read-only"}}},
            {"create":{"_index":"u","_id":"7","status":500,"error":{"type":"null_pointer_exception","reason":"oh"}}}]}"#;
        let Answer::Each(Verdicts { refused, later, unclear, fault }) = read(body, 7).unwrap() else { panic!() };
        assert_eq!(refused, [(2, "400: mapper_parsing_exception: failed to parse".to_owned())]);
        assert_eq!(later, [3, 4, 5]);
        assert_eq!(unclear, [(6, "500: null_pointer_exception: oh".to_owned())]);
        assert_eq!(fault.unwrap().message, "429: es_rejected_execution_exception: busy");
    }

    #[test]
    fn an_answer_that_is_none_says_nothing() {
        let fine = br#"{"errors":false,"items":[{"create":{"status":201}}]}"#;
        assert!(
            matches!(read(fine, 1), Ok(Answer::Each(verdicts)) if verdicts.is_all_taken() && verdicts.fault.is_none())
        );
        for (body, documents) in [(&fine[..], 2), (b"<html>", 1), (b"{}", 1), (br#"{"errors":true,"items":[{}]}"#, 1)] {
            assert!(read(body, documents).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }
}
