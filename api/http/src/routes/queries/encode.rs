//! The formats of an answer that is a stream.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use millrace_warehouse::{Error, ErrorKind, Result, Rows};
use utoipa::ToSchema;

use crate::error::ApiError;

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Format {
    /// One object with every row.
    Json,
    /// RFC 4180 with a header. Null is an empty field, empty text is `""`.
    Csv,
    /// A JSON object a line.
    Ndjson,
    /// The Arrow IPC streaming format.
    Arrow,
}

impl Format {
    pub(super) fn of(text: &str) -> std::result::Result<Self, ApiError> {
        match text {
            "json" => Ok(Format::Json),
            "csv" => Ok(Format::Csv),
            "ndjson" => Ok(Format::Ndjson),
            "arrow" => Ok(Format::Arrow),
            _ => Err(ApiError::invalid("invalid_parameter", "format must be json, csv, ndjson or arrow")),
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Ndjson => "application/x-ndjson",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Turns batches into bytes.
pub(super) enum Encoder {
    Csv,
    Ndjson,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Encoder {
    /// The encoder, and what stands before the first row.
    pub(super) fn begin(format: Format, schema: &SchemaRef) -> Result<(Self, Vec<u8>)> {
        let mut head = Vec::new();
        let encoder = match format {
            Format::Csv => {
                Rows::csv_header(schema, &mut head);
                Encoder::Csv
            }
            Format::Json | Format::Ndjson => Encoder::Ndjson,
            Format::Arrow => {
                let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(unwritten)?;
                head = std::mem::take(writer.get_mut());
                Encoder::Arrow(Box::new(writer))
            }
        };
        Ok((encoder, head))
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes> {
        let mut out = Vec::new();
        match self {
            Encoder::Arrow(writer) => {
                writer.write(batch).map_err(unwritten)?;
                out = std::mem::take(writer.get_mut());
            }
            Encoder::Csv => {
                let rows = Rows::of(batch)?;
                (0..rows.len()).for_each(|row| rows.csv(row, &mut out));
            }
            Encoder::Ndjson => {
                let rows = Rows::of(batch)?;
                for row in 0..rows.len() {
                    rows.json_object(row, &mut out);
                    out.push(b'\n');
                }
            }
        }
        Ok(out.into())
    }

    /// What stands after the last row.
    pub(super) fn end(&mut self) -> Result<Bytes> {
        match self {
            Encoder::Csv | Encoder::Ndjson => Ok(Bytes::new()),
            Encoder::Arrow(writer) => {
                writer.finish().map_err(unwritten)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
        }
    }
}

fn unwritten(error: ArrowError) -> Error {
    Error::with_source(ErrorKind::Corrupt, "an answer could not be written as Arrow", error)
}
