//! The thread that writes: all that is queued becomes one frame and one sync, while the next group gathers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame;
use crate::queue::{Next, Queue, Request};
use crate::segments::Segments;

/// The most bytes of batches in one frame, give or take the last batch.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How often a disk that failed is asked whether it takes anything again.
const PROBE: Duration = Duration::from_millis(250);
/// What it must take then.
const PROBE_BYTES: u64 = 1024 * 1024;
/// A buffer that grew beyond this is given back after its group.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// The files, for the thread that writes and the task that drains.
pub(crate) type Files = Arc<Mutex<Segments>>;

/// Whoever has them may wait for the disk: never a task.
pub(crate) fn lock(files: &Files) -> MutexGuard<'_, Segments> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes until the queue is closed and empty.
pub(crate) fn run(queue: &Queue, files: &Files) {
    let (mut requests, mut buffer) = (Vec::new(), Vec::new());
    loop {
        match queue.take(&mut requests, GROUP_BYTES, PROBE) {
            Next::Closed => return,
            Next::Requests => group(queue, files, std::mem::take(&mut requests), &mut buffer),
            Next::Probe => {
                if lock(files).allows(PROBE_BYTES).is_ok() {
                    queue.recovered();
                }
            }
        }
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
    }
}

fn group(queue: &Queue, files: &Files, requests: Vec<Request>, buffer: &mut Vec<u8>) {
    let mut segments = lock(files);
    let first = segments.next();
    let batches = requests.iter().map(|request| &request.batch[..]);
    let written = match frame::write(buffer, first, batches) {
        Some(count) => segments.write(buffer, count),
        None => Err(std::io::Error::other("a group is too large for a frame")),
    };
    match written {
        // Whoever drains cannot see it before the queue knows of it: the files are still locked.
        Ok(bytes) => {
            millrace_failpoints::reach("spool-kept");
            queue.kept(requests, first, bytes);
        }
        Err(error) => queue.not_kept(requests, &error.to_string()),
    }
}
