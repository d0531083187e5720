//! How a record stands in Kafka: key and value as they are, its log time as timestamp and header.
//!
//! Kafka keeps milliseconds, log time has microseconds. The timestamp is the log time cut to milliseconds, so that every
//! tool shows the right time and the broker can find records by it; the header holds all of it.

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

/// The header with the log time: 8 bytes, microseconds since 1970, signed, big end first. It comes before all others.
pub(crate) const TIME_HEADER: &str = "millrace-log-time";

const MICROS_PER_MS: i64 = 1000;
/// librdkafka takes 0 for "now" and brokers take -1 for "none": a log time before this one has its timestamp.
const TIMESTAMP_MIN: i64 = 1;

/// The timestamp of a record with this log time. Never falls where log time does not.
pub(crate) fn timestamp_of(time_us: i64) -> i64 {
    time_us.div_euclid(MICROS_PER_MS).max(TIMESTAMP_MIN)
}

/// The headers of a record with this log time, with room for `more`.
pub(crate) fn headers_of(time_us: i64, more: usize) -> OwnedHeaders {
    let value = time_us.to_be_bytes();
    OwnedHeaders::new_with_capacity(1 + more).insert(Header { key: TIME_HEADER, value: Some(&value[..]) })
}

/// The log time that a record was appended with, before anything is raised.
pub(crate) fn time_of(message: &BorrowedMessage<'_>) -> i64 {
    let header = message.headers().and_then(|headers| headers.try_get(0));
    let header = header.filter(|header| header.key == TIME_HEADER).and_then(|header| header.value);
    time_from(message.timestamp().to_millis(), header)
}

/// A record of another program has no header, and one with a header that its timestamp contradicts is believed only as far
/// as the timestamp goes: the index of the broker, which log time is looked up in, holds timestamps.
fn time_from(timestamp: Option<i64>, header: Option<&[u8]>) -> i64 {
    let timestamp = timestamp.unwrap_or(TIMESTAMP_MIN);
    let told = header.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map(i64::from_be_bytes);
    match told {
        Some(told) if timestamp_of(told) == timestamp => told,
        _ => timestamp.saturating_mul(MICROS_PER_MS),
    }
}

#[cfg(test)]
mod tests;
