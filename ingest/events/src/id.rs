//! Ids are opaque strings; this is the one place that bounds them.

/// The longest id, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 200;

/// Checks that `id` can name a user, a post or a message: 1 to [`ID_BYTES_MAX`] bytes, no control characters.
///
/// # Errors
/// A sentence that says what is wrong, for the one who sent it.
pub fn check_id(id: &str) -> Result<(), &'static str> {
    if id.is_empty() {
        return Err("must not be empty");
    }
    if id.len() > ID_BYTES_MAX {
        return Err("must be at most 200 bytes");
    }
    if id.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err("must not contain control characters");
    }
    Ok(())
}
