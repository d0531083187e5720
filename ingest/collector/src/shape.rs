//! Shapes of JSON that fit an event and would still hurt whoever reads it: thousands of keys, numbers of thousands of
//! digits. Few events come near, and what they cannot have is told cheaply.

use memchr::memchr2_iter;

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

/// True when a number of `json` is beyond what a double holds: some readers take it for infinity, others refuse all of the text.
pub(crate) fn has_number_beyond_doubles(json: &str) -> bool {
    let bytes = json.as_bytes();
    // Within the bound on its length a number needs three digits of exponent for that, and nothing but JSON follows them;
    // in ids there are letters, digits or the end of the text.
    let may_be = memchr2_iter(b'e', b'E', bytes).any(|at| {
        let is_after_digit = at > 0 && bytes[at - 1].is_ascii_digit();
        let exponent = bytes[at + 1..].strip_prefix(b"+").unwrap_or(&bytes[at + 1..]);
        let digits = if is_after_digit { exponent.iter().take_while(|byte| byte.is_ascii_digit()).count() } else { 0 };
        digits >= 3 && exponent.get(digits).is_none_or(|next| b",]} \t\r\n".contains(next))
    });
    may_be && numbers(json).any(|number| serde_json::from_str::<serde_json::Number>(number).is_err())
}

/// What is written as numbers, outside of texts. The words of JSON leave an `e`, which is not among them.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut bytes = json.bytes();
    std::iter::from_fn(move || {
        loop {
            let start = json.len() - bytes.len();
            match bytes.next()? {
                b'"' => skip_string(&mut bytes),
                b'-' | b'0'..=b'9' => {
                    let rest = &json[start..];
                    let length = rest.bytes().take_while(|&byte| is_of_number(byte)).count();
                    bytes = json[start + length..].bytes();
                    return Some(&rest[..length]);
                }
                _ => {}
            }
        }
    })
}

/// The last letter of `true` and `false` is among them, which makes no number longer: neither stands beside one.
fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

#[cfg(test)]
mod tests;
