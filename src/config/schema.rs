//! The JSON Schema of a pipeline's file, for editors.
//!
//! It is made of what the readers ask for ([`keys::outline`]), so a key, a form or a default cannot
//! be in one and not in the other. It says what a single value or table must look like; what sections
//! have to say about each other, and the bounds of sizes and durations, only `howdah check` knows.
//! The schema never refuses what that takes.
//!
//! It is of draft 7, which Taplo reads, and through it editors. Those look for descriptions and words
//! to offer in `properties`, `anyOf` and `oneOf`, and not behind conditions or references: so there
//! are none.

use serde_json::{Map, Value, json};

use super::{
    form::{Form, STRING},
    keys,
    outline::{Absence, Contents, Declared, Outline},
    variables::VARIABLE,
};

/// The schema of a pipeline's file.
pub fn schema() -> Value {
    let mut schema = table(&keys::outline());
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("howdah pipeline");
    schema
}

/// A table with these keys and no others.
pub(super) fn table(outline: &Outline) -> Value {
    outline.look(|contents| {
        let mut keys = Keys::of(contents);
        let kinds = contents.kinds.as_ref().map(|(key, kinds)| {
            let kinds = kinds.iter().map(|(word, kind)| (*word, kind.look(Keys::of_kind)));
            keys.widen(key, kinds.collect())
        });
        let mut schema = keys.schema();
        schema["type"] = json!("object");
        schema["additionalProperties"] = json!(false);
        if let Some(kinds) = kinds.filter(|kinds| kinds.len() > 1) {
            schema["anyOf"] = kinds.iter().map(Keys::schema).collect();
        }
        if !contents.either.is_empty() {
            schema["oneOf"] = contents.either.iter().map(|name| json!({ "required": [name] })).collect();
        }
        schema
    })
}

/// Keys of a table and which of them it must have.
#[derive(PartialEq)]
struct Keys {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Keys {
    fn of(contents: &Contents) -> Self {
        let required = contents.keys.iter().filter(|key| key.absence == Absence::Refused);
        Self {
            properties: contents.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect(),
            required: required.map(|key| key.name).collect(),
        }
    }

    fn of_kind(contents: &Contents) -> Self {
        debug_assert!(contents.kinds.is_none() && contents.either.is_empty(), "a kind has keys and nothing else");
        Self::of(contents)
    }

    fn schema(&self) -> Value {
        json!({ "properties": self.properties, "required": self.required })
    }

    /// Adds the keys of all kinds, so that each is known to the table; answers with what is besides
    /// true of the single kinds, of which those with the same keys are one.
    fn widen(&mut self, key: &str, kinds: Vec<(&'static str, Self)>) -> Vec<Self> {
        let mut alike: Vec<(Vec<&'static str>, Self)> = Vec::new();
        for (word, kind) in kinds {
            match alike.iter_mut().find(|(_, other)| *other == kind) {
                Some((words, _)) => words.push(word),
                None => alike.push((vec![word], kind)),
            }
        }
        let mut all = Map::new();
        for (name, property) in alike.iter().flat_map(|(_, kind)| &kind.properties) {
            match all.get(name) {
                Some(common) if common == property => {}
                // What differs between kinds is said at each of them.
                Some(common) => drop(all.insert(name.clone(), json!({ "description": common["description"] }))),
                None => drop(all.insert(name.clone(), property.clone())),
            }
        }
        let narrow = |(words, kind): (Vec<&'static str>, Self)| {
            let differs = |(name, common): (&String, &Value)| match kind.properties.get(name) {
                Some(own) => (own != common).then(|| (name.clone(), own.clone())),
                None => Some((name.clone(), json!(false))),
            };
            let mut properties: Map<_, _> = all.iter().filter_map(differs).collect();
            properties.insert(key.to_owned(), value(&Form::Word(words)));
            Self { properties, required: kind.required }
        };
        let kinds: Vec<_> = alike.into_iter().map(narrow).collect();
        self.properties.extend(all);
        if let [only] = kinds.as_slice() {
            self.required.extend(&only.required);
        }
        kinds
    }
}

/// What may stand at a key, with what an editor shows about it.
fn property(key: &Declared) -> Value {
    let mut schema = value(&key.form);
    let mut details = Vec::new();
    match &key.form {
        Form::Text { bounds: Some((low, high)), .. } => details.push(format!("{}; from {low:?} to {high:?}", key.form)),
        Form::Text { .. } | Form::Word(_) | Form::Integer(..) | Form::Boolean => details.push(key.form.to_string()),
        Form::Named { .. } => {
            // An editor shows it at each name too.
            let each = schema["patternProperties"].as_object_mut().into_iter().flat_map(Map::values_mut);
            each.for_each(|each| each["description"] = json!(key.meaning));
        }
        Form::Table(_) | Form::Tables(_) | Form::Texts => {}
    }
    if let Absence::Default(default) = &key.absence {
        details.push(format!("by default {default}"));
        schema["default"] = default.clone();
    }
    if key.filled {
        schema["minItems"] = json!(1);
    }
    let details = if details.is_empty() { String::new() } else { format!("\n\n{}", details.join("; ")) };
    schema["description"] = json!(format!("{}{details}", key.meaning));
    schema
}

fn value(form: &Form) -> Value {
    match form {
        Form::Text { pattern, .. } => text(pattern),
        Form::Word(words) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": format!("^{VARIED}{VARIABLE}") }] })
        }
        Form::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Form::Boolean => json!({ "type": "boolean" }),
        Form::Table(outline) => table(outline),
        Form::Named { names, each, .. } => json!({
            "type": "object",
            "patternProperties": { format!("^(?:{})$", names.pattern): table(each) },
            "additionalProperties": false,
        }),
        Form::Tables(each) => json!({ "type": "array", "items": table(each) }),
        Form::Texts => json!({ "type": "array", "items": text(STRING.pattern) }),
    }
}

/// What may come before a variable.
const VARIED: &str = r"(?:[^$]|\$\$)*";

/// A string of this form, or with a variable in it: what that brings is not known here.
pub(super) fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^(?:{pattern})$|^{VARIED}{VARIABLE}") })
}
