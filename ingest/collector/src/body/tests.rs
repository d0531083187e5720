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

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// `{}` in Brotli, and the same with a window that HTTP does not know.
const BROTLI: &[u8] = &[139, 0, 128, 123, 125, 3];
const BROTLI_LARGE: &[u8] = &[17, 30, 2, 0, 2, 123, 125, 3];

/// 64 and 65 times `1`, and 100 MiB of zeros.
const BROTLI_64: &[u8] = &[27, 63, 0, 248, 37, 98, 226, 140, 0, 192, 0];
const BROTLI_65: &[u8] = &[27, 64, 0, 248, 37, 98, 226, 140, 0, 224, 0];
const BROTLI_BOMB: &[u8] = &[
    207, 255, 255, 127, 248, 39, 0, 226, 177, 64, 32, 247, 254, 159, 255, 255, 255, 240, 79, 0, 196, 97, 1, 128, 238,
    253, 63, 255, 255, 255, 225, 159, 0, 136, 195, 34, 0, 221, 251, 127, 254, 255, 255, 195, 63, 1, 16, 135, 5, 0, 186,
    247, 255, 252, 255, 255, 135, 127, 2, 32, 14, 11, 0, 116, 239, 255, 249, 255, 255, 15, 255, 4, 64, 28, 22, 0, 232,
    222, 255, 231, 255, 255, 15, 254, 9, 128, 56, 44, 0, 208, 189, 255, 1,
];

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
    check(zstd(b"{}"), Some("zstd"), Ok("{}"));
    check([zstd(b"{"), zstd(b"}")].concat(), Some("ZSTD"), Ok("{}"));
    check(BROTLI.to_vec(), Some("br"), Ok("{}"));
    check("\u{feff}{}".into(), None, Ok("{}"));
    check(vec![b' '; 64], None, Err("empty_body"));
}

#[test]
fn bodies_that_cannot_be_read_are_refused() {
    check(vec![], None, Err("empty_body"));
    check(gzip(b""), Some("gzip"), Err("empty_body"));
    check(b"{}".to_vec(), Some("compress"), Err("unsupported_encoding"));
    check(gzip(b"{}"), Some("identity"), Err("invalid_utf8"));
    check("\u{feff} ".into(), None, Err("empty_body"));
    for encoding in ["zstd", "br", "gzip", "deflate"] {
        check(b"{}".to_vec(), Some(encoding), Err("invalid_encoding"));
        check(vec![0; 40], Some(encoding), Err("invalid_encoding"));
        check(vec![0xff; 40], Some(encoding), Err("invalid_encoding"));
    }
    check(zstd(b"{\"a\":1}")[..12].to_vec(), Some("zstd"), Err("invalid_encoding"));
    check(BROTLI[..4].to_vec(), Some("br"), Err("invalid_encoding"));
    check(BROTLI_LARGE.to_vec(), Some("br"), Err("invalid_encoding"));
    // A frame that says that it refers 128 MiB back: magic number, no size, no checksum, a window of 2^27, an empty last block.
    check(vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 1, 0, 0], Some("zstd"), Err("invalid_encoding"));
    check(vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 1, 0, 0], Some("zstd"), Err("empty_body"));
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
    check(zstd(&[b'1'; 64]), Some("zstd"), Ok(&"1".repeat(64)));
    check(zstd(&[b'1'; 65]), Some("zstd"), Err("batch_too_large"));
    check(BROTLI_64.to_vec(), Some("br"), Ok(&"1".repeat(64)));
    check(BROTLI_65.to_vec(), Some("br"), Err("batch_too_large"));
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
    check(BROTLI_BOMB.to_vec(), Some("br"), Err("batch_too_large"));
    check(zstd(&vec![0; 100 * 1024 * 1024]), Some("zstd"), Err("batch_too_large"));
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
