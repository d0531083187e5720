//! Where the binary reads clocks and counts processor time, for explanations and benchmarks. Nothing is decided by it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Microseconds since the process first asked.
#[expect(clippy::disallowed_methods, reason = "measuring is what this file is for")]
pub(crate) fn stopwatch_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Processor time and memory of a process, as the kernel counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time so far.
    pub(crate) cpu: Duration,
    /// Resident memory now, bytes.
    pub(crate) resident_bytes: u64,
}

/// The usage of a process; `None` where the kernel does not tell.
pub(crate) fn usage(process: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold spaces; what follows it does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let pages = fields.get(21)?.parse::<u64>().ok()?;
    // 100 ticks a second and 4 KiB pages on every Linux that this is built for.
    Some(Usage { cpu: Duration::from_millis(ticks * 10), resident_bytes: pages * 4096 })
}

/// The median, the 99th percentile and the maximum, after sorting.
pub(crate) fn percentiles(samples: &mut [Duration]) -> Option<(Duration, Duration, Duration)> {
    samples.sort_unstable();
    let at =
        |share: f64| samples.get(((samples.len() as f64 * share) as usize).min(samples.len().checked_sub(1)?)).copied();
    Some((at(0.5)?, at(0.99)?, at(1.0)?))
}
