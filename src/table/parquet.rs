//! Rows of one hour as a Parquet file, and back.
//!
//! Written with the low-level writer (no Arrow): `window_start` and `window_end` as UTC
//! microseconds, which every reader takes for an instant; keys as texts; whole measures as
//! 64-bit integers, the others as doubles. Only the smallest and the largest of no numbers can be
//! null. The partition column `dt` is not in the file: readers take it from the log or the folder.
//! One row group a file, snappy, statistics for each column.

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl},
    column::writer::ColumnWriter,
    data_type::{ByteArray, DataType},
    errors::{ParquetError, Result as ParquetResult},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::types::Type,
};

use super::{
    definition::Columns,
    window::{Cell, Row},
};
use crate::{
    fault::{Fault, Kind, Result},
    model::Millis,
};

const MICROS: i64 = 1000;

/// A file that holds these rows, in this order.
///
/// # Errors
/// `Internal`: the rows are not of these columns.
pub fn write(columns: &Columns, rows: &[Row]) -> Result<Bytes> {
    encode(columns, rows).map_err(|error| Fault::internal(format!("parquet: {error}")))
}

/// The rows of a file that [`write`] made.
///
/// # Errors
/// [`Kind::Lost`] if it is no such file, or one of other columns.
pub fn read(columns: &Columns, file: Bytes) -> Result<Vec<Row>> {
    decode(columns, file)
        .map_err(|error| Fault::data(format!("no parquet file of this table: {error}")).kind(Kind::Lost))
}

fn encode(columns: &Columns, rows: &[Row]) -> ParquetResult<Bytes> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None)
        .set_created_by(concat!("howdah version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema(columns)?), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        match column.untyped() {
            ColumnWriter::Int64ColumnWriter(out) => {
                out.write_batch(&rows.iter().map(|row| long(columns, row, at)).collect::<Vec<_>>(), None, None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(out) => {
                let texts = rows.iter().map(|row| ByteArray::from(row.keys[at - 2].as_str())).collect::<Vec<_>>();
                out.write_batch(&texts, None, None)?;
            }
            ColumnWriter::DoubleColumnWriter(out) => {
                let cells = || rows.iter().map(|row| row.cells[at - 2 - columns.keys.len()]);
                let numbers: Vec<_> = cells()
                    .filter_map(|cell| if let Cell::Double(number) = cell { Some(number) } else { None })
                    .collect();
                let present: Vec<i16> = cells().map(|cell| i16::from(cell != Cell::Null)).collect();
                out.write_batch(&numbers, Some(&present), None)?;
            }
            _ => return Err(ParquetError::General(format!("column {at} has a type that no table has"))),
        }
        column.close()?;
        at += 1;
    }
    group.close()?;
    Ok(writer.into_inner()?.into())
}

// The whole number of a row in the file's column `at`.
fn long(columns: &Columns, row: &Row, at: usize) -> i64 {
    match at {
        0 => row.window_start * MICROS,
        1 => (row.window_start + columns.window) * MICROS,
        _ => match row.cells[at - 2 - columns.keys.len()] {
            Cell::Long(number) => number,
            _ => 0,
        },
    }
}

fn schema(columns: &Columns) -> ParquetResult<Type> {
    let column = |name: &str, physical, logical: Option<LogicalType>, repetition| {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        builder.with_logical_type(logical).build().map(Arc::new)
    };
    let time = || Some(LogicalType::timestamp(true, TimeUnit::MICROS));
    let mut fields = vec![
        column("window_start", Physical::INT64, time(), Repetition::REQUIRED)?,
        column("window_end", Physical::INT64, time(), Repetition::REQUIRED)?,
    ];
    for key in &columns.keys {
        fields.push(column(key, Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED)?);
    }
    for measure in &columns.measures {
        fields.push(if measure.op.whole() {
            column(&measure.name, Physical::INT64, None, Repetition::REQUIRED)?
        } else {
            column(&measure.name, Physical::DOUBLE, None, Repetition::OPTIONAL)?
        });
    }
    Type::group_type_builder("howdah").with_fields(fields).build()
}

fn decode(columns: &Columns, file: Bytes) -> ParquetResult<Vec<Row>> {
    let reader = SerializedFileReader::new(file)?;
    let found = reader.metadata().file_metadata().schema();
    let expected = schema(columns)?;
    if found.get_fields() != expected.get_fields() {
        return Err(ParquetError::General(format!("its columns are {found:?}, not {expected:?}")));
    }
    let mut rows = Vec::new();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let num_rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut starts = Vec::new();
        let mut keys = Vec::new();
        let mut cells = Vec::new();
        for at in 0..group.num_columns() {
            match group.get_column_reader(at)? {
                ColumnReader::Int64ColumnReader(values) => match at {
                    0 => starts = column(values, num_rows)?,
                    1 => {}
                    _ => cells.push(column(values, num_rows)?.into_iter().map(Cell::Long).collect()),
                },
                ColumnReader::ByteArrayColumnReader(values) => keys.push(column(values, num_rows)?),
                ColumnReader::DoubleColumnReader(values) => cells.push(nullable(values, num_rows)?),
                _ => return Err(ParquetError::General(format!("column {at} has a type that no table has"))),
            }
        }
        for (at, start) in starts.into_iter().enumerate() {
            rows.push(Row {
                window_start: Millis::div_euclid(start, MICROS),
                keys: keys.iter().map(|key| Ok(key[at].as_utf8()?.to_owned())).collect::<ParquetResult<_>>()?,
                cells: cells.iter().map(|column: &Vec<Cell>| column[at]).collect(),
            });
        }
    }
    Ok(rows)
}

fn column<T: DataType>(mut reader: ColumnReaderImpl<T>, num_rows: usize) -> ParquetResult<Vec<T::T>> {
    let mut values = Vec::new();
    reader.read_records(num_rows, None, None, &mut values)?;
    if values.len() == num_rows { Ok(values) } else { Err(short(values.len(), num_rows)) }
}

fn nullable<T: DataType<T = f64>>(mut reader: ColumnReaderImpl<T>, num_rows: usize) -> ParquetResult<Vec<Cell>> {
    let mut present = Vec::new();
    let mut values = Vec::new();
    reader.read_records(num_rows, Some(&mut present), None, &mut values)?;
    let mut values = values.into_iter();
    let cells =
        present.iter().map(|&level| if level == 0 { Some(Cell::Null) } else { values.next().map(Cell::Double) });
    let cells: Vec<_> = cells.flatten().collect();
    if cells.len() == num_rows { Ok(cells) } else { Err(short(cells.len(), num_rows)) }
}

fn short(found: usize, expected: usize) -> ParquetError {
    ParquetError::General(format!("a column has {found} values, not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::definition::{Column, Op};

    fn columns() -> Columns {
        let column = |name: &str, op| Column { name: name.to_owned(), op };
        Columns {
            window: 60_000,
            keys: vec!["wiki".into(), "kind".into()],
            measures: vec![column("edits", Op::CountRecords), column("size", Op::Sum), column("least", Op::Min)],
        }
    }

    fn row(start: Millis, wiki: &str, edits: i64, size: f64, least: Option<f64>) -> Row {
        let cells = vec![Cell::Long(edits), Cell::Double(size), least.map_or(Cell::Null, Cell::Double)];
        Row { window_start: start, keys: vec![wiki.into(), String::new()], cells }
    }

    fn check(rows: &[Row]) {
        let file = write(&columns(), rows).unwrap();
        assert_eq!(read(&columns(), file).unwrap(), rows);
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        check(&[]);
        check(&[row(1_442_018_760_000, "enwiki", 1, 0.5, None)]);
        check(&[row(0, "a\0b", i64::MAX, f64::MAX, Some(-0.0)), row(-60_000, "ä", 0, 0.0, Some(f64::MIN))]);
        check(&(0..20_000).map(|n| row(n * 60_000, &format!("wiki {}", n % 700), n, 0.1, None)).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let rows: Vec<_> = (0..100).map(|n| row(n * 60_000, "x", n, 1.0, None)).collect();
        assert_eq!(write(&columns(), &rows).unwrap(), write(&columns(), &rows).unwrap());
    }

    #[test]
    fn what_is_no_file_of_this_table_is_refused() {
        let file = write(&columns(), &[row(0, "a", 1, 1.0, None)]).unwrap();
        let refused = |columns: &Columns, file: Bytes| assert_eq!(read(columns, file).unwrap_err().kind, Kind::Lost);
        refused(&columns(), Bytes::new());
        refused(&columns(), file.slice(..file.len() - 1));
        let mut other = columns();
        other.measures[1].name = "bytes".into();
        refused(&other, file.clone());
        let mut other = columns();
        other.keys.pop();
        refused(&other, file);
    }
}
