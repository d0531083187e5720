//! The contract: what an event is, for every room.
//!
//! Rooms meet at the log, and this crate is what they agree on there: the envelope of an accepted event, the re-keyed
//! record that stage 1 derives from it, the closed list of known actions, ids, time and topics. The wire form is Protobuf
//! (`proto/millrace.proto` is published, so that other engines read the same topics); JSON would cost several times the
//! CPU on the hottest path and has no closed schema.
//!
//! This crate does no I/O, has no runtime and never reads a clock.

mod action;
mod codec;
mod id;
mod time;
mod topic;
mod window;

pub use action::{ActionKind, fold_name};
pub use codec::{
    Action, DeadLetter, DecodeError, Derived, Envelope, Kind, Link, Personal, Position, PostContent, ServedCandidate,
    ServedSlate, SlateSource, decode,
};
pub use id::{ID_BYTES_MAX, check_id};
pub use time::{LogTime, Micros, TimeError, format_rfc3339, parse_rfc3339};
pub use topic::{PARTITIONS_MAX, Topic, TopicPartition, UnknownTopic, partition_of};
pub use window::{UnknownWindow, Window};
