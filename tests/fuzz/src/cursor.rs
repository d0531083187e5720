//! Cursors of feeds.

use millrace_ranking::testing;

/// A cursor that somebody made up: as text, and with the checksum that only we should know. It is refused, or it is one that
/// names the same place when it is written again.
pub fn cursor(data: &[u8]) {
    let Some((owner_bytes, rest)) = data.split_first() else { return };
    let (owner, body) = rest.split_at(usize::from(owner_bytes % 32).min(rest.len()));
    let owner = String::from_utf8_lossy(owner);
    if let Ok(text) = str::from_utf8(body) {
        testing::reread_cursor(text, &owner);
    }
    for text in testing::sealed_cursors(body, &owner) {
        testing::reread_cursor(&text, &owner);
    }
}
