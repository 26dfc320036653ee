//! What tests of loaders have in common.

use std::time::Duration;

use super::{
    Settings, SinkSettings, elastic,
    keys::Horizon,
    transform::{self, Column, From, Kind},
};
use crate::{bus::Start, model::Pointer};

/// A loader of topic `t`, a row `n` of each element of `/r`, known by `/key`; its sink is not looked at, since a model
/// stands in its place.
pub fn settings() -> Settings {
    let pointer = |text: &str| Pointer::parse(text).unwrap();
    let n = Column { name: "n".to_owned(), from: From::Element(pointer("/n")), kind: Kind::Integer, required: true };
    Settings {
        topic: "t".into(),
        transform: transform::Settings {
            explode: Some(pointer("/r")),
            columns: vec![n],
            key: Some(pointer("/key")),
            ..transform::Settings::default()
        },
        horizon: Some(Horizon { age: Duration::from_secs(1_000_000), most: 10_000 }),
        keys_kept: None,
        sink: SinkSettings::Elastic(elastic::Settings {
            url: String::new(),
            index: String::new(),
            access: elastic::Access::Open,
            headers: Vec::new(),
            fields: Vec::new(),
            time_field: None,
            gzip: false,
            timeout: Duration::ZERO,
        }),
        batch_rows: 4,
        batch_bytes: 1_000,
        linger: Duration::ZERO,
        start: Start::Earliest,
        follows_recreated: false,
    }
}
