//! Shapes of JSON that fit an event and would still hurt whoever reads it: thousands of keys, numbers of thousands of
//! digits. Few events come near, and what they cannot have is told cheaply.

use crate::body::{count_bytes, skip_string};

/// True when the objects of `json`, at every level, have more than `keys_max` keys.
pub(crate) fn has_more_keys_than(json: &str, keys_max: usize) -> bool {
    let colons = count_bytes(json.as_bytes(), |b| b == b':');
    // Each key has its colon; those inside texts are more common than events with that many keys.
    colons > keys_max && keys(json) > keys_max
}

fn keys(json: &str) -> usize {
    let (mut keys, mut bytes) = (0, json.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => keys += 1,
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    keys
}

/// True when a number of `json` is written with more than `bytes_max` characters, which is at least the stride below.
pub(crate) fn has_longer_number_than(json: &str, bytes_max: usize) -> bool {
    /// How far apart the looks are: times and ids in texts are digits too, and shorter than several of these.
    const STRIDE: usize = 16;
    debug_assert!(bytes_max >= STRIDE);
    // A number that is longer is met by at least so many looks in a row.
    let enough = bytes_max / STRIDE;
    let mut in_a_row = 0;
    let may_be = json.as_bytes().iter().step_by(STRIDE).any(|&byte| {
        in_a_row = if is_of_number(byte) { in_a_row + 1 } else { 0 };
        in_a_row >= enough
    });
    may_be && longest_number(json) > bytes_max
}

fn longest_number(json: &str) -> usize {
    let (mut longest, mut length, mut bytes) = (0, 0_usize, json.bytes());
    while let Some(byte) = bytes.next() {
        length = if is_of_number(byte) { length + 1 } else { 0 };
        longest = longest.max(length);
        if byte == b'"' {
            skip_string(&mut bytes);
        }
    }
    longest
}

/// The last letter of `true` and `false` is among them, which makes no number longer: neither stands beside one.
fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

#[cfg(test)]
mod tests;
