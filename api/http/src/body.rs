//! Reading a body: bounded in bytes, in time, and over all bodies together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// How long a body may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// What all bodies that are being read or waiting for the log may hold together, in bytes.
pub const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// How much of a body that is too large is read and thrown away, in bytes. A client that is still sending reads no answer:
/// it would see a broken connection, take it for a network fault and send the same again.
pub const DRAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Counts the bytes of all bodies held.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: Arc::new(Semaphore::new(BODIES_BYTES_MAX)) }
    }
}

impl Budget {
    /// Whether `bytes` more can be held now.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.bytes.available_permits() >= bytes
    }

    fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes = u32::try_from(bytes).map_err(|_| ApiError::overloaded())?;
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(|_| ApiError::overloaded())
    }
}

/// A body and its share of the budget, which ends with it.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) share: Option<OwnedSemaphorePermit>,
}

/// Reads a body of at most `bytes_max` bytes.
pub(crate) async fn read<B>(budget: &Budget, headers: &HeaderMap, body: B, bytes_max: usize) -> Result<Held, ApiError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let declared = declared(headers);
    let reading = async {
        if declared.is_some_and(|length| length > bytes_max as u64) {
            if declared.is_some_and(|length| length <= DRAIN_BYTES_MAX) {
                drain(body, DRAIN_BYTES_MAX).await;
            }
            return Err(ApiError::body_too_large(bytes_max));
        }
        collect(budget, body, bytes_max).await
    };
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or_else(|_| Err(ApiError::body_timeout()))
}

async fn collect<B>(budget: &Budget, mut body: B, bytes_max: usize) -> Result<Held, ApiError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut held = Held { bytes: Bytes::new(), share: None };
    let mut buffer = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::body_unreadable())?.into_data() else { continue };
        let length = held.bytes.len() + buffer.len() + data.len();
        if length > bytes_max {
            // What was read so far is given back before the rest is thrown away.
            drop((held, buffer));
            drain(body, DRAIN_BYTES_MAX).await;
            return Err(ApiError::body_too_large(bytes_max));
        }
        let share = budget.reserve(data.len())?;
        match &mut held.share {
            Some(whole) => whole.merge(share),
            None => held.share = Some(share),
        }
        // A small body is one frame and stays as it came; more frames are copied together.
        if held.bytes.is_empty() && buffer.is_empty() {
            held.bytes = data;
        } else {
            if buffer.is_empty() {
                buffer.extend_from_slice(&std::mem::take(&mut held.bytes));
            }
            buffer.extend_from_slice(&data);
        }
    }
    if !buffer.is_empty() {
        held.bytes = buffer.freeze();
    }
    Ok(held)
}

/// How long a body that nobody wants may take to arrive.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of it is read, in bytes: the client that sends more than any SDK finds its connection closed.
const LET_GO_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Reads a body that nobody wants and throws it away, beside the answer, which need not wait for it: a client that is
/// still sending when the connection closes may never see why. One that asks first whether it should send is not let.
pub(crate) fn let_go<B>(headers: &HeaderMap, body: B)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    let is_too_large = declared(headers).is_some_and(|bytes| bytes > LET_GO_BYTES_MAX);
    if is_too_large || body.is_end_stream() || headers.contains_key(EXPECT) {
        return;
    }
    tokio::spawn(tokio::time::timeout(LET_GO_TIMEOUT, drain(body, LET_GO_BYTES_MAX)));
}

/// How long a body says it is.
pub(crate) fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok())
}

/// Throws the rest of a body away, as long as that is not more than `bytes_max`.
async fn drain<B>(mut body: B, bytes_max: u64)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut read_bytes = 0;
    while read_bytes <= bytes_max {
        let Some(Ok(frame)) = body.frame().await else { return };
        read_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
