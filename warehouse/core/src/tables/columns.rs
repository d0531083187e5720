//! What a column can hold, and [`table!`], by which a table is declared once: its row, its schema and its builder.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_schema::{DataType, Field, TimeUnit};

/// How many bytes of text per row a builder makes room for at first.
const TEXT_BYTES: usize = 16;

/// The type of a column, and how a value gets into it.
pub(super) trait Column {
    type Value<'a>;
    type Builder: ArrayBuilder;
    const NULLABLE: bool = false;

    fn data_type() -> DataType;
    fn builder(rows: usize) -> Self::Builder;
    fn append(to: &mut Self::Builder, value: Self::Value<'_>);

    fn field(name: &str) -> Field {
        Field::new(name, Self::data_type(), Self::NULLABLE)
    }
}

pub(super) struct Text;

impl Column for Text {
    type Value<'a> = &'a str;
    type Builder = StringBuilder;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn builder(rows: usize) -> StringBuilder {
        StringBuilder::with_capacity(rows, rows * TEXT_BYTES)
    }

    fn append(to: &mut StringBuilder, value: &str) {
        to.append_value(value);
    }
}

/// Microseconds since 1970, UTC.
pub(super) struct Time;

impl Column for Time {
    type Value<'a> = i64;
    type Builder = TimestampMicrosecondBuilder;

    fn data_type() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
    }

    fn builder(rows: usize) -> TimestampMicrosecondBuilder {
        TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC")
    }

    fn append(to: &mut TimestampMicrosecondBuilder, value: i64) {
        to.append_value(value);
    }
}

/// A column of numbers or truths: how many there are is all that its builder must know.
macro_rules! plain {
    ($($(#[$doc:meta])* $column:ident: $value:ty => $builder:ident, $data_type:ident, $convert:expr;)*) => { $(
        $(#[$doc])*
        pub(super) struct $column;

        impl Column for $column {
            type Value<'a> = $value;
            type Builder = $builder;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn builder(rows: usize) -> $builder {
                $builder::with_capacity(rows)
            }

            fn append(to: &mut $builder, value: $value) {
                to.append_value($convert(value));
            }
        }
    )* };
}

plain! {
    /// Days since 1970, UTC.
    Date: i32 => Date32Builder, Date32, |days| days;
    /// A count or an offset. Delta and Parquet have no unsigned numbers; no offset or count reaches the sign bit.
    Long: u64 => Int64Builder, Int64, |n| i64::try_from(n).unwrap_or(i64::MAX);
    /// A partition, a position or an index: as of `Long`, and far below.
    Int: u32 => Int32Builder, Int32, |n| i32::try_from(n).unwrap_or(i32::MAX);
    Double: f64 => Float64Builder, Float64, |n| n;
    Bool: bool => BooleanBuilder, Boolean, |is| is;
}

/// A column in which null stands for nothing.
pub(super) struct OrNull<C>(std::marker::PhantomData<C>);

impl<C: Column> Column for OrNull<C>
where
    C::Builder: AppendNull,
{
    type Value<'a> = Option<C::Value<'a>>;
    type Builder = C::Builder;
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        C::data_type()
    }

    fn builder(rows: usize) -> C::Builder {
        C::builder(rows)
    }

    fn append(to: &mut C::Builder, value: Option<C::Value<'_>>) {
        match value {
            Some(value) => C::append(to, value),
            None => to.null(),
        }
    }
}

/// What arrow's builders all can and no trait of theirs says.
pub(super) trait AppendNull {
    fn null(&mut self);
}

macro_rules! append_null {
    ($($builder:ty),*) => { $(
        impl AppendNull for $builder {
            fn null(&mut self) {
                self.append_null();
            }
        }
    )* };
}
append_null!(StringBuilder, TimestampMicrosecondBuilder, Int32Builder, Float64Builder);

/// What a row has for a column: spelled out, so that the docs of a row show what to give.
macro_rules! value {
    ($a:lifetime Text) => { &$a str };
    ($a:lifetime Time) => { i64 };
    ($a:lifetime Long) => { u64 };
    ($a:lifetime Int) => { u32 };
    ($a:lifetime Double) => { f64 };
    ($a:lifetime Bool) => { bool };
    ($a:lifetime OrNull $column:ident) => { Option<value!($a $column)> };
}
pub(super) use value;

/// Declares a table: the struct of a row with borrowed values, the schema, and a builder that turns rows into columns. The
/// columns stand in the order of the table; `event_date` is the day of the time that it names.
macro_rules! table {
    (
        $(#[$row_doc:meta])*
        $row:ident<$a:lifetime> => $builder:ident {
            $($(#[$doc:meta])* $name:ident: $column:ident$(<$of:ident>)?,)*
            (event_date of $time:ident)
            $($(#[$doc_after:meta])* $name_after:ident: $column_after:ident$(<$of_after:ident>)?,)*
        }
    ) => {
        $(#[$row_doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $row<$a> {
            $($(#[$doc])* pub $name: value!($a $column $($of)?),)*
            $($(#[$doc_after])* pub $name_after: value!($a $column_after $($of_after)?),)*
        }

        pub(super) fn schema() -> arrow_schema::SchemaRef {
            static SCHEMA: std::sync::OnceLock<arrow_schema::SchemaRef> = std::sync::OnceLock::new();
            let make = || {
                std::sync::Arc::new(arrow_schema::Schema::new(vec![
                    $(<$column$(<$of>)?>::field(stringify!($name)),)*
                    Date::field(super::DATE_COLUMN),
                    $(<$column_after$(<$of_after>)?>::field(stringify!($name_after)),)*
                ]))
            };
            SCHEMA.get_or_init(make).clone()
        }

        /// Turns rows into columns.
        pub struct $builder {
            rows: usize,
            $($name: <$column$(<$of>)? as Column>::Builder,)*
            event_date: <Date as Column>::Builder,
            $($name_after: <$column_after$(<$of_after>)? as Column>::Builder,)*
        }

        impl $builder {
            /// With room for `rows` rows.
            pub fn with_capacity(rows: usize) -> Self {
                Self {
                    rows: 0,
                    $($name: <$column$(<$of>)?>::builder(rows),)*
                    event_date: Date::builder(rows),
                    $($name_after: <$column_after$(<$of_after>)?>::builder(rows),)*
                }
            }

            /// How many rows it holds.
            pub fn len(&self) -> usize {
                self.rows
            }

            /// True without rows.
            pub fn is_empty(&self) -> bool {
                self.rows == 0
            }

            /// Adds a row.
            pub fn push(&mut self, row: $row<'_>) {
                self.rows += 1;
                $(<$column$(<$of>)?>::append(&mut self.$name, row.$name);)*
                Date::append(&mut self.event_date, super::date_of(row.$time));
                $(<$column_after$(<$of_after>)?>::append(&mut self.$name_after, row.$name_after);)*
            }

            /// The rows so far; the builder is empty afterwards.
            pub fn finish(&mut self) -> arrow_array::RecordBatch {
                self.rows = 0;
                let columns: Vec<arrow_array::ArrayRef> = vec![
                    $(std::sync::Arc::new(self.$name.finish()),)*
                    std::sync::Arc::new(self.event_date.finish()),
                    $(std::sync::Arc::new(self.$name_after.finish()),)*
                ];
                arrow_array::RecordBatch::try_new(schema(), columns)
                    .expect("columns are built to the schema above, each row adds one to each")
            }
        }
    };
}
pub(super) use table;
