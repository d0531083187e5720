//! Reading a body: bounded in bytes, in time, and over all bodies together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
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
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let reading = async {
        if declared.is_some_and(|length| length > bytes_max as u64) {
            if declared.is_some_and(|length| length <= DRAIN_BYTES_MAX) {
                drain(body, 0).await;
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
            drain(body, length as u64).await;
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

/// Throws the rest of a body away, up to [`DRAIN_BYTES_MAX`] in all.
async fn drain<B>(mut body: B, mut read_bytes: u64)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    while read_bytes <= DRAIN_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { return };
        read_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
