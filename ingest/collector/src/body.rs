//! From the bytes of a request to text within its bounds.

use std::io::Read;

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};

use crate::refusal::{Code, Refusal};

/// The content encoding that says that a body is not packed, whatever it looks like.
pub(crate) const IDENTITY: &str = "identity";

/// How a body is packed.
enum Packing {
    Plain,
    Gzip,
    Zlib,
    Zstd,
    Brotli,
}

/// How far back a body may refer, as a power of two, in bytes: 8 MiB, more than a body may unpack to. Its own word would
/// be enough for the decoder to reserve 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What the decoder of Brotli reads at a time, in bytes.
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Unpacks `body`, reading no more than one byte beyond `bytes_max`, so that a small body cannot unfold into a large one.
/// `too_large` is what it is called when it would.
pub(crate) fn unpack(body: Bytes, encoding: Option<&str>, bytes_max: usize, too_large: Code) -> Result<Bytes, Refusal> {
    let unpacked = match packing(&body, encoding)? {
        Packing::Plain => body,
        Packing::Gzip => inflate(MultiGzDecoder::new(body.as_ref()), body.len(), bytes_max)?,
        Packing::Zlib => inflate(ZlibDecoder::new(body.as_ref()), body.len(), bytes_max)?,
        Packing::Zstd => inflate(zstd_decoder(&body)?, body.len(), bytes_max)?,
        Packing::Brotli => inflate(brotli_decoder(&body)?, body.len(), bytes_max)?,
    };
    if unpacked.len() > bytes_max {
        return Err(Refusal::new(too_large, format!("the body is larger than {bytes_max} bytes: send less at once")));
    }
    Ok(unpacked)
}

fn zstd_decoder(body: &[u8]) -> Result<impl Read, Refusal> {
    let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(decoder)
    });
    decoder.map_err(|_| unpackable())
}

fn brotli_decoder(body: &[u8]) -> Result<impl Read, Refusal> {
    let mut decoder = Decompressor::new(body, BROTLI_BUFFER_BYTES);
    // Windows of up to a gigabyte are not what `br` means in HTTP, and the decoder would reserve them.
    if decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0) {
        return Ok(decoder);
    }
    Err(unpackable())
}

fn unpackable() -> Refusal {
    Refusal::new(Code::InvalidEncoding, "the body is not compressed as its content encoding or its first bytes say")
}

/// What editors and shells of one maker put before UTF-8. No part of the JSON, and whoever sends it does not see it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The body as text.
pub(crate) fn text(body: &[u8]) -> Result<&str, Refusal> {
    let text = simdutf8::basic::from_utf8(body)
        .map_err(|_| Refusal::new(Code::InvalidUtf8, "the body is not UTF-8: encode it as UTF-8 JSON"))?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Err(Refusal::new(Code::EmptyBody, "the body is empty: send a JSON object"));
    }
    Ok(text)
}

/// True when the brackets of `json` nest more than `depth_max` levels.
///
/// Few events hold more brackets than they may nest levels, and counting those is many times cheaper than following them.
pub(crate) fn is_deeper_than(json: &str, depth_max: usize) -> bool {
    openings(json.as_bytes()) > depth_max && depth(json) > depth_max
}

/// How many brackets open, inside strings too.
fn openings(json: &[u8]) -> usize {
    // `{` and `[` differ in one bit.
    count_bytes(json, |b| b | 0x20 == b'{')
}

/// How many bytes are such.
pub(crate) fn count_bytes(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    /// So many bytes that their count fits a byte: the compiler then counts sixteen at once.
    const LANE: usize = 128;
    let count = |lane: &[u8]| usize::from(lane.iter().fold(0_u8, |n, &b| n + u8::from(is(b))));
    bytes.chunks(LANE).map(count).sum()
}

/// The deepest nesting of brackets outside strings.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Passes over a text whose first quote was taken, its last one included.
pub(crate) fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

fn packing(body: &[u8], encoding: Option<&str>) -> Result<Packing, Refusal> {
    let encoding = encoding.unwrap_or_default().trim();
    let is = |name: &str| encoding.eq_ignore_ascii_case(name);
    if is("gzip") || is("x-gzip") {
        return Ok(Packing::Gzip);
    }
    if is("deflate") {
        return Ok(Packing::Zlib);
    }
    if is("zstd") {
        return Ok(Packing::Zstd);
    }
    if is("br") {
        return Ok(Packing::Brotli);
    }
    if is(IDENTITY) {
        return Ok(Packing::Plain);
    }
    if !encoding.is_empty() {
        return Err(Refusal::new(
            Code::UnsupportedEncoding,
            "the content encoding is not one of gzip, deflate, zstd, br and identity",
        ));
    }
    // Some clients compress without saying so; no JSON starts with these bytes.
    Ok(if body.starts_with(&[0x1f, 0x8b]) { Packing::Gzip } else { Packing::Plain })
}

fn inflate(decoder: impl Read, packed_bytes: usize, bytes_max: usize) -> Result<Bytes, Refusal> {
    /// What JSON events usually shrink by.
    const RATIO: usize = 6;
    let mut unpacked = Vec::with_capacity(packed_bytes.saturating_mul(RATIO).min(bytes_max));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(limit).read_to_end(&mut unpacked).map_err(|_| unpackable())?;
    Ok(Bytes::from(unpacked))
}

#[cfg(test)]
mod tests;
