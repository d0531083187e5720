//! Column types that every table shares.

use std::sync::Arc;

use arrow_array::builder::TimestampMicrosecondBuilder;
use arrow_schema::{DataType, Field, TimeUnit};

/// How many bytes of text per row a builder makes room for at first.
pub(super) const TEXT_BYTES: usize = 16;

pub(super) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

pub(super) fn text_or_null(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

pub(super) fn time(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))), false)
}

pub(super) fn time_or_null(name: &str) -> Field {
    time(name).with_nullable(true)
}

pub(super) fn date(name: &str) -> Field {
    Field::new(name, DataType::Date32, false)
}

pub(super) fn int(name: &str) -> Field {
    Field::new(name, DataType::Int32, false)
}

pub(super) fn int_or_null(name: &str) -> Field {
    int(name).with_nullable(true)
}

pub(super) fn long(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

pub(super) fn double(name: &str) -> Field {
    Field::new(name, DataType::Float64, false)
}

pub(super) fn double_or_null(name: &str) -> Field {
    double(name).with_nullable(true)
}

pub(super) fn bool(name: &str) -> Field {
    Field::new(name, DataType::Boolean, false)
}

/// A builder of times in microseconds, UTC.
pub(super) fn times(rows: usize) -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC")
}

/// Delta and Parquet have no unsigned numbers; no offset or count reaches the sign bit.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// See [`signed`]; partitions and indexes are far below.
pub(super) fn small(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
