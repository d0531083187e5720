//! Rows as text: the one place that decides how a value reads in JSON and CSV, so that engines cannot differ in it.

use std::fmt;
use std::io::Write as _;

use arrow_array::{
    Array, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, TimeUnit};
use millrace_events::format_rfc3339;

use crate::{Error, ErrorKind, Result};

/// What a column of an answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Text. Arrow `Utf8`.
    String,
    /// A whole number. Arrow `Int64`.
    Long,
    /// A number. Arrow `Float64`.
    Double,
    /// Yes or no. Arrow `Boolean`.
    Boolean,
    /// A time, microseconds in UTC. Arrow `Timestamp(Microsecond, "UTC")`.
    Timestamp,
    /// A day. Arrow `Date32`.
    Date,
}

impl ColumnType {
    /// The type of a column; `None` for one that no answer may have.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Utf8 => Some(ColumnType::String),
            DataType::Int64 => Some(ColumnType::Long),
            DataType::Float64 => Some(ColumnType::Double),
            DataType::Boolean => Some(ColumnType::Boolean),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => Some(ColumnType::Timestamp),
            DataType::Date32 => Some(ColumnType::Date),
            _ => None,
        }
    }

    /// Its public name, as in the documentation of the tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            ColumnType::String => "string",
            ColumnType::Long => "long",
            ColumnType::Double => "double",
            ColumnType::Boolean => "boolean",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Date => "date",
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

enum Column<'a> {
    String(&'a StringArray),
    Long(&'a Int64Array),
    Double(&'a Float64Array),
    Boolean(&'a BooleanArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Date(&'a Date32Array),
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        let array_any = array.as_any();
        match ColumnType::of(array.data_type())? {
            ColumnType::String => array_any.downcast_ref().map(Column::String),
            ColumnType::Long => array_any.downcast_ref().map(Column::Long),
            ColumnType::Double => array_any.downcast_ref().map(Column::Double),
            ColumnType::Boolean => array_any.downcast_ref().map(Column::Boolean),
            ColumnType::Timestamp => array_any.downcast_ref().map(Column::Timestamp),
            ColumnType::Date => array_any.downcast_ref().map(Column::Date),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Column::String(array) => array.is_null(row),
            Column::Long(array) => array.is_null(row),
            Column::Double(array) => array.is_null(row),
            Column::Boolean(array) => array.is_null(row),
            Column::Timestamp(array) => array.is_null(row),
            Column::Date(array) => array.is_null(row),
        }
    }

    fn json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match self {
            Column::String(array) => json_text(array.value(row), out),
            // What is left is a number, a word or has no character to escape. JSON has no infinities.
            Column::Double(array) if !array.value(row).is_finite() => out.extend_from_slice(b"null"),
            Column::Timestamp(_) | Column::Date(_) => {
                out.push(b'"');
                self.plain(row, out);
                out.push(b'"');
            }
            Column::Long(_) | Column::Double(_) | Column::Boolean(_) => self.plain(row, out),
        }
    }

    /// A field of RFC 4180. Null is an empty field, empty text a pair of quotes.
    fn csv(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match self {
            Column::String(array) => csv_text(array.value(row), out),
            _ => self.plain(row, out),
        }
    }

    fn plain(&self, row: usize, out: &mut Vec<u8>) {
        const DAY_US: i64 = 24 * 3_600 * 1_000_000;
        match self {
            Column::String(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Column::Long(array) => display(array.value(row), out),
            // The shortest text that reads back as the same number, with a point even when it is whole.
            Column::Double(array) => {
                write!(out, "{:?}", array.value(row)).expect("a vector takes whatever is written");
            }
            Column::Boolean(array) => display(array.value(row), out),
            Column::Timestamp(array) => out.extend_from_slice(format_rfc3339(array.value(row)).as_bytes()),
            Column::Date(array) => {
                let midnight = format_rfc3339(i64::from(array.value(row)) * DAY_US);
                out.extend_from_slice(midnight.split_once('T').map_or("", |(date, _)| date).as_bytes());
            }
        }
    }
}

fn display(value: impl fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a vector takes whatever is written");
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a vector takes whatever is written, and text serialises");
}

fn csv_text(text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

/// The rows of a batch, to be written as text. Times are RFC 3339 in UTC.
pub struct Rows<'a> {
    /// Each with its name.
    columns: Vec<(&'a str, Column<'a>)>,
    len: usize,
}

impl<'a> Rows<'a> {
    /// The rows of `batch`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a column of a type that no answer may have.
    pub fn of(batch: &'a RecordBatch) -> Result<Self> {
        let fields = batch.schema_ref().fields().iter();
        let columns = fields.zip(batch.columns()).map(|(field, array)| {
            let column = Column::of(array.as_ref()).ok_or_else(|| {
                let message =
                    format!("column {} has type {}, which no answer may have", field.name(), field.data_type());
                Error::new(ErrorKind::Corrupt, message)
            })?;
            Ok((field.name().as_str(), column))
        });
        Ok(Self { columns: columns.collect::<Result<_>>()?, len: batch.num_rows() })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes a row as a JSON array.
    pub fn json_array(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        for (nth, (_, column)) in self.columns.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            column.json(row, out);
        }
        out.push(b']');
    }

    /// Writes a row as a JSON object, with nulls.
    pub fn json_object(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (nth, (name, column)) in self.columns.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            json_text(name, out);
            out.push(b':');
            column.json(row, out);
        }
        out.push(b'}');
    }

    /// Writes a row as a record of RFC 4180, with its line end.
    pub fn csv(&self, row: usize, out: &mut Vec<u8>) {
        for (nth, (_, column)) in self.columns.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            column.csv(row, out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the names of `schema`'s columns as a record of RFC 4180, with its line end.
    pub fn csv_header(schema: &arrow_schema::Schema, out: &mut Vec<u8>) {
        for (nth, field) in schema.fields().iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            csv_text(field.name(), out);
        }
        out.extend_from_slice(b"\r\n");
    }
}
