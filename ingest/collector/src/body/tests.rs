use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[track_caller]
fn check(body: Vec<u8>, encoding: Option<&str>, expected: Result<&str, &str>) {
    let unpacked = unpack(Bytes::from(body), encoding, 64, Code::BatchTooLarge);
    let text = unpacked.and_then(|bytes| text(&bytes).map(str::to_owned)).map_err(|r| r.code);
    assert_eq!(text.as_deref(), expected.as_ref().copied());
}

#[test]
fn bodies_are_unpacked() {
    check(b"{}".to_vec(), None, Ok("{}"));
    check(b"{}".to_vec(), Some("identity"), Ok("{}"));
    check(b"{}".to_vec(), Some(""), Ok("{}"));
    check(gzip(b"{}"), Some("gzip"), Ok("{}"));
    check(gzip(b"{}"), Some(" GZIP "), Ok("{}"));
    check(gzip(b"{}"), None, Ok("{}"));
    check(zlib(b"{}"), Some("deflate"), Ok("{}"));
    check([gzip(b"{"), gzip(b"}")].concat(), Some("gzip"), Ok("{}"));
    check(vec![b' '; 64], None, Err("empty_body"));
}

#[test]
fn bodies_that_cannot_be_read_are_refused() {
    check(vec![], None, Err("empty_body"));
    check(gzip(b""), Some("gzip"), Err("empty_body"));
    check(b"{}".to_vec(), Some("br"), Err("unsupported_encoding"));
    check(gzip(b"{}"), Some("gzip, gzip"), Err("unsupported_encoding"));
    check(b"{}".to_vec(), Some("gzip"), Err("invalid_encoding"));
    check(b"{}".to_vec(), Some("deflate"), Err("invalid_encoding"));
    let mut cut = gzip(b"{\"a\":1}");
    cut.truncate(cut.len() - 3);
    check(cut, Some("gzip"), Err("invalid_encoding"));
    check(vec![b'"', 0xff, b'"'], None, Err("invalid_utf8"));
}

#[test]
fn the_bound_holds_before_and_after_unpacking() {
    check(vec![b'1'; 64], None, Ok(&"1".repeat(64)));
    check(vec![b'1'; 65], None, Err("batch_too_large"));
    check(gzip(&[b'1'; 64]), None, Ok(&"1".repeat(64)));
    check(gzip(&[b'1'; 65]), None, Err("batch_too_large"));
}

/// A reader that counts what was asked of it: what was never read was never unpacked.
struct Endless(u64);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(0);
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }
}

#[test]
fn a_bomb_stops_at_the_bound() {
    let mut endless = Endless(0);
    assert_eq!(inflate(&mut endless, 10, 1000).unwrap().len(), 1001);
    assert!(endless.0 < 64 * 1024, "read {} bytes", endless.0);

    let bomb = gzip(&vec![0; 100 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    check(bomb, Some("gzip"), Err("batch_too_large"));
}

#[test]
fn depth_counts_brackets_outside_strings() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(!is_deeper_than(&deep(32), 32));
    assert!(is_deeper_than(&deep(33), 32));
    assert!(is_deeper_than(&"[".repeat(100_000), 32));
    assert!(!is_deeper_than(&format!(r#"{{"a":"\"{}"}}"#, "[".repeat(100)), 32));
    assert!(!is_deeper_than(&"[],".repeat(100), 32));
    assert!(!is_deeper_than(r#""unfinished\"#, 0));
    assert_eq!(depth(r#"{"a":[{"b":"]}"},[]]}"#), 3);
}
