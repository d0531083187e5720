//! The messages of the log.

use bytes::Bytes;
use millrace_events::{DeadLetter, Derived, Envelope, ServedSlate, decode};
use prost::Message;

/// Bytes of another program, or of a damaged disk, as each message of the log: they are refused, or they are a message that
/// written and read again is the same.
pub fn protobuf(data: &[u8]) {
    let value = Bytes::copy_from_slice(data);
    again::<Envelope>(&value);
    again::<Derived>(&value);
    again::<DeadLetter>(&value);
    again::<ServedSlate>(&value);
    if let Ok(envelope) = decode::<Envelope>("an action", value) {
        // What jobs ask of it first: neither may depend on the numbers being known ones.
        let _ = (envelope.kind(), envelope.action_kind(), envelope.key());
    }
}

fn again<M: Message + Default>(value: &Bytes) {
    let Ok(read) = decode::<M>("a message", value.clone()) else { return };
    let written = read.encode_to_vec();
    let again = decode::<M>("a message", Bytes::from(written.clone()));
    // Compared as bytes: a number that is none (NaN) is not equal to itself.
    assert_eq!(again.map(|m| m.encode_to_vec()).ok(), Some(written), "a message is the same when read again");
}
