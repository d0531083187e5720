//! An answer for those for whom there is no place: it costs a few writes, and nothing that they send is looked at.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::metrics;

/// How many are told at one time; more are closed without a word.
const TURNED_AWAY_MAX: usize = 128;

/// How long telling one may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much of what they send meanwhile is read and thrown away, in bytes. Closing while something is unread would reset
/// the connection, and the answer could be lost.
const UNREAD_BYTES_MAX: u64 = 64 * 1024;

/// Tells those who come too late.
pub(crate) struct Porter {
    places: Arc<Semaphore>,
}

impl Default for Porter {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(TURNED_AWAY_MAX)) }
    }
}

impl Porter {
    pub(crate) fn turn_away(&self, stream: TcpStream) {
        metrics::turned_away();
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(FAREWELL, tell(stream)).await {
                tracing::debug!(%error, "a client was gone before it could be turned away");
            }
            drop(place);
        });
    }
}

async fn tell(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(&answer().await).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(UNREAD_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn answer() -> Vec<u8> {
    let (parts, body) = ApiError::overloaded().into_response().into_parts();
    // It is in memory, so nothing can fail.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", parts.status, body.len());
    for (name, value) in &parts.headers {
        if let Ok(value) = value.to_str() {
            // Writing to a string cannot fail.
            _ = write!(head, "{name}: {value}\r\n");
        }
    }
    head.push_str("\r\n");
    let mut answer = head.into_bytes();
    answer.extend_from_slice(&body);
    answer
}
