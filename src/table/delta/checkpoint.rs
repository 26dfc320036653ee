//! Checkpoints: the state of one version as a Parquet file, so that readers need not replay the log
//! from its beginning and its beginning may go.
//!
//! `_delta_log/<version, 20 digits>.checkpoint.parquet`, one row an action, in the schema of the Delta
//! protocol (section "Checkpoint Schema"). Written once and never over: `_last_checkpoint`, which would
//! have to be overwritten, is not written; readers list the folder.
//!
//! A file's nested columns are shredded as Dremel does it (`Shape` is the little of it that a
//! checkpoint needs): each leaf has a definition level, which says how deep there is a value, and a
//! repetition level, which says whether it goes on the map or list of the leaf before.

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::{ParquetError, Result as ParquetResult},
    file::{
        properties::WriterProperties,
        reader::{FileReader, SerializedFileReader},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    record::{Field, Row},
    schema::types::{Type, TypePtr},
};
use serde_json::{Map, Value};

use super::actions::Action;
use crate::fault::{Fault, Kind, Result};

/// What can stand in a column of a checkpoint; every one of them may be null.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    Bool,
    Int,
    Long,
    /// A map of texts.
    Map,
    /// A list of texts.
    List,
    Struct(&'static [(&'static str, Shape)]),
}

use Shape::{Bool, Int, List, Long, Struct, Text};

/// The columns, by the actions' own names.
const COLUMNS: &[(&str, Shape)] = &[
    ("txn", Struct(&[("appId", Text), ("version", Long), ("lastUpdated", Long)])),
    (
        "add",
        Struct(&[
            ("path", Text),
            ("partitionValues", Shape::Map),
            ("size", Long),
            ("modificationTime", Long),
            ("dataChange", Bool),
            ("stats", Text),
            ("tags", Shape::Map),
        ]),
    ),
    (
        "remove",
        Struct(&[
            ("path", Text),
            ("deletionTimestamp", Long),
            ("dataChange", Bool),
            ("extendedFileMetadata", Bool),
            ("partitionValues", Shape::Map),
            ("size", Long),
            ("tags", Shape::Map),
        ]),
    ),
    (
        "metaData",
        Struct(&[
            ("id", Text),
            ("name", Text),
            ("description", Text),
            ("format", Struct(&[("provider", Text), ("options", Shape::Map)])),
            ("schemaString", Text),
            ("partitionColumns", List),
            ("createdTime", Long),
            ("configuration", Shape::Map),
        ]),
    ),
    ("protocol", Struct(&[("minReaderVersion", Int), ("minWriterVersion", Int)])),
];

/// The file of these actions, in this order.
///
/// # Errors
/// `Internal`, which would be a mistake in this file.
pub fn encode(actions: impl Iterator<Item = Action>) -> Result<Bytes> {
    let wrong = |error: &dyn std::fmt::Display| Fault::internal(format!("checkpoint: {error}"));
    let mut leaves = Vec::new();
    COLUMNS.iter().for_each(|(_, shape)| shape.leaves(&mut leaves));
    for action in actions {
        let row = serde_json::to_value(&action).map_err(|error| wrong(&error))?;
        let mut leaves = leaves.iter_mut();
        COLUMNS.iter().for_each(|(name, shape)| shape.shred(&row[name], 0, 0, &mut leaves));
    }
    write(&leaves).map_err(|error| wrong(&error))
}

/// The actions of a checkpoint, ours or another program's.
///
/// # Errors
/// [`Kind::Lost`] if it cannot be read as one.
pub fn decode(file: Bytes) -> Result<Vec<Action>> {
    let rows = read(file).map_err(|error| lost(&error))?;
    rows.into_iter().map(|row| serde_json::from_value(row).map_err(|error| lost(&error))).collect()
}

fn lost(error: &dyn std::fmt::Display) -> Fault {
    Fault::data(format!("no checkpoint: {error}")).kind(Kind::Lost)
}

fn write(leaves: &[Leaf]) -> ParquetResult<Bytes> {
    let fields = COLUMNS.iter().map(|(name, shape)| shape.schema(name)).collect::<ParquetResult<_>>()?;
    let schema = Type::group_type_builder("spark_schema").with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(None)
        .set_created_by(concat!("howdah version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for leaf in leaves {
        let column = group.next_column()?;
        leaf.write(column.ok_or_else(|| ParquetError::General("fewer columns than leaves".to_owned()))?)?;
    }
    group.close()?;
    Ok(writer.into_inner()?.into())
}

/// A column on its way: the values that are there, and the levels of all.
struct Leaf {
    values: Values,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

enum Values {
    Texts(Vec<ByteArray>),
    Bools(Vec<bool>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
}

impl Leaf {
    fn of(values: Values) -> Self {
        Self { values, definition: Vec::new(), repetition: Vec::new() }
    }

    /// Adds what stands there; `null` is the level of nothing standing there.
    fn push(&mut self, value: &Value, null: i16, repetition: i16) {
        let there = match (&mut self.values, value) {
            (Values::Texts(texts), Value::String(text)) => {
                texts.push(ByteArray::from(text.as_str()));
                true
            }
            (Values::Bools(bools), Value::Bool(bool)) => {
                bools.push(*bool);
                true
            }
            (Values::Ints(ints), Value::Number(number)) => {
                ints.extend(number.as_i64().and_then(|number| i32::try_from(number).ok()));
                true
            }
            (Values::Longs(longs), Value::Number(number)) => {
                longs.extend(number.as_i64());
                true
            }
            _ => false,
        };
        self.definition.push(null + i16::from(there));
        self.repetition.push(repetition);
    }

    fn write(&self, mut column: SerializedColumnWriter<'_>) -> ParquetResult<()> {
        let (definition, repetition) = (Some(&self.definition[..]), Some(&self.repetition[..]));
        match (column.untyped(), &self.values) {
            (ColumnWriter::ByteArrayColumnWriter(out), Values::Texts(texts)) => {
                out.write_batch(texts, definition, repetition)?
            }
            (ColumnWriter::BoolColumnWriter(out), Values::Bools(bools)) => {
                out.write_batch(bools, definition, repetition)?
            }
            (ColumnWriter::Int32ColumnWriter(out), Values::Ints(ints)) => {
                out.write_batch(ints, definition, repetition)?
            }
            (ColumnWriter::Int64ColumnWriter(out), Values::Longs(longs)) => {
                out.write_batch(longs, definition, repetition)?
            }
            _ => return Err(ParquetError::General("a column of another type than its leaf".to_owned())),
        };
        column.close()
    }
}

impl Shape {
    fn schema(self, name: &str) -> ParquetResult<TypePtr> {
        let leaf = |name: &str, physical, repetition, text: bool| {
            let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
            builder.with_logical_type(text.then_some(LogicalType::String)).build().map(Arc::new)
        };
        let group = |name: &str, repetition, fields, logical, converted| {
            let builder = Type::group_type_builder(name).with_fields(fields).with_repetition(repetition);
            builder.with_logical_type(logical).with_converted_type(converted).build().map(Arc::new)
        };
        let (optional, repeated) = (Repetition::OPTIONAL, Repetition::REPEATED);
        let text = |name, repetition| leaf(name, Physical::BYTE_ARRAY, repetition, true);
        match self {
            Text => text(name, optional),
            Bool => leaf(name, Physical::BOOLEAN, optional, false),
            Int => leaf(name, Physical::INT32, optional, false),
            Long => leaf(name, Physical::INT64, optional, false),
            Shape::Map => {
                let pair = vec![text("key", Repetition::REQUIRED)?, text("value", optional)?];
                let pairs = group("key_value", repeated, pair, None, ConvertedType::NONE)?;
                group(name, optional, vec![pairs], Some(LogicalType::Map), ConvertedType::MAP)
            }
            List => {
                let items = group("list", repeated, vec![text("element", optional)?], None, ConvertedType::NONE)?;
                group(name, optional, vec![items], Some(LogicalType::List), ConvertedType::LIST)
            }
            Struct(fields) => {
                let fields = fields.iter().map(|(name, shape)| shape.schema(name)).collect::<ParquetResult<_>>()?;
                group(name, optional, fields, None, ConvertedType::NONE)
            }
        }
    }

    fn leaves(self, leaves: &mut Vec<Leaf>) {
        match self {
            Text | List => leaves.push(Leaf::of(Values::Texts(Vec::new()))),
            Bool => leaves.push(Leaf::of(Values::Bools(Vec::new()))),
            Int => leaves.push(Leaf::of(Values::Ints(Vec::new()))),
            Long => leaves.push(Leaf::of(Values::Longs(Vec::new()))),
            Shape::Map => leaves.extend([(); 2].map(|()| Leaf::of(Values::Texts(Vec::new())))),
            Struct(fields) => fields.iter().for_each(|(_, shape)| shape.leaves(leaves)),
        }
    }

    /// Distributes a value over the leaves below this shape, which `leaves` has next.
    fn shred<'l>(
        self,
        value: &Value,
        definition: i16,
        repetition: i16,
        leaves: &mut impl Iterator<Item = &'l mut Leaf>,
    ) {
        match self {
            Text | Bool | Int | Long => {
                if let Some(leaf) = leaves.next() {
                    leaf.push(value, definition, repetition);
                }
            }
            Struct(fields) => {
                let below = definition + i16::from(value.is_object());
                fields.iter().for_each(|(name, shape)| shape.shred(&value[name], below, repetition, leaves));
            }
            List => {
                let Some(leaf) = leaves.next() else { return };
                match value.as_array() {
                    Some(items) if !items.is_empty() => {
                        items.iter().enumerate().for_each(|(at, item)| {
                            leaf.push(item, definition + 2, if at == 0 { repetition } else { 1 });
                        });
                    }
                    empty => leaf.push(&Value::Null, definition + i16::from(empty.is_some()), repetition),
                }
            }
            Shape::Map => {
                let (Some(keys), Some(values)) = (leaves.next(), leaves.next()) else { return };
                match value.as_object() {
                    Some(pairs) if !pairs.is_empty() => {
                        for (at, (key, value)) in pairs.iter().enumerate() {
                            let repetition = if at == 0 { repetition } else { 1 };
                            // A key is never null, so its level is that of the pair.
                            keys.push(&Value::String(key.clone()), definition + 1, repetition);
                            values.push(value, definition + 2, repetition);
                        }
                    }
                    empty => {
                        let level = definition + i16::from(empty.is_some());
                        keys.push(&Value::Null, level, repetition);
                        values.push(&Value::Null, level, repetition);
                    }
                }
            }
        }
    }
}

fn read(file: Bytes) -> ParquetResult<Vec<Value>> {
    let reader = SerializedFileReader::new(file)?;
    reader.get_row_iter(None)?.map(|row| object(&row?)).collect()
}

/// A row's columns that are not null.
fn object(row: &Row) -> ParquetResult<Value> {
    let mut members = Map::new();
    for (name, field) in row.get_column_iter() {
        match value(field)? {
            Value::Null => {}
            value => drop(members.insert(name.clone(), value)),
        }
    }
    Ok(Value::Object(members))
}

fn value(field: &Field) -> ParquetResult<Value> {
    Ok(match field {
        Field::Bool(bool) => (*bool).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::Str(text) => text.as_str().into(),
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<ParquetResult<_>>()?,
        Field::MapInternal(map) => {
            let pair = |(key, of): &(Field, Field)| match key {
                Field::Str(key) => Ok((key.clone(), value(of)?)),
                key => Err(ParquetError::General(format!("a map's key is {key}"))),
            };
            Value::Object(map.entries().iter().map(pair).collect::<ParquetResult<_>>()?)
        }
        // Statistics in columns of their own, as others write them: none of ours.
        _ => Value::Null,
    })
}
