//! Every bound of the front door, in one place.

/// What is read of one request body before the door gives up, compressed or not, in bytes.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The largest batch after decompression, in bytes: Segment's 500 KB. Its SDKs stop at 475 000 and 480 KiB.
pub const BATCH_BYTES_MAX: usize = 512_000;

/// The largest event, in bytes of its JSON: Segment's 32 KB.
pub const EVENT_BYTES_MAX: usize = 32 * 1024;

/// The most events in one batch. Real SDKs send 15 to 100; the byte bound alone would allow some 100 000 empty ones.
pub const EVENTS_PER_BATCH_MAX: usize = 2_500;

/// How deeply the JSON of an event may nest, the event itself being 1: readers of the log may recurse safely.
pub const DEPTH_MAX: usize = 32;

/// What copying a batch's own `context` into each of its events may add up to, in bytes. Without it half a megabyte could
/// become a gigabyte in the log.
pub const MERGED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most keys of an event as sent, at all levels together, and of the `context` of a batch: whoever makes columns of
/// them must not get thousands from one event.
pub const KEYS_MAX: usize = 1_000;

/// The longest number as written, in bytes. No type that anybody reads it into holds more; a text can.
pub const NUMBER_BYTES_MAX: usize = 64;

/// The longest event name as sent, in bytes.
pub const EVENT_NAME_BYTES_MAX: usize = 200;

/// The most tags on one post: each becomes a record of its own further down.
pub const TAGS_MAX: usize = 100;

/// The longest time on screen of one view, in milliseconds: 30 days. Sums of it then cannot overflow.
pub const DWELL_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// How long ago a client may say that an event without a time happened, in milliseconds: a year.
pub const OFFSET_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

/// The bounds that a deployment may change. The defaults are the constants of this crate with the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// See [`BATCH_BYTES_MAX`].
    pub batch_bytes_max: usize,
    /// See [`EVENT_BYTES_MAX`]. Keep it well below half of `millrace_log::VALUE_BYTES_MAX`: a post's text is stored twice.
    pub event_bytes_max: usize,
    /// See [`EVENTS_PER_BATCH_MAX`].
    pub events_per_batch_max: usize,
    /// See [`DEPTH_MAX`].
    pub depth_max: usize,
    /// See [`MERGED_BYTES_MAX`].
    pub merged_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            event_bytes_max: EVENT_BYTES_MAX,
            events_per_batch_max: EVENTS_PER_BATCH_MAX,
            depth_max: DEPTH_MAX,
            merged_bytes_max: MERGED_BYTES_MAX,
        }
    }
}
