//! The windows over which things are counted and compared.

use std::fmt;
use std::str::FromStr;

use crate::Micros;

/// A width of time. Tumbling windows of it are `[start, end)` with `start` a multiple of the width since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Window {
    /// Five minutes.
    FiveMinutes = 1,
    /// An hour.
    Hour = 2,
    /// A day.
    Day = 3,
}

impl Window {
    /// Every window, narrow to wide.
    pub const ALL: [Window; 3] = [Window::FiveMinutes, Window::Hour, Window::Day];

    /// The public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Window::FiveMinutes => "5m",
            Window::Hour => "1h",
            Window::Day => "24h",
        }
    }

    /// Its width in microseconds.
    pub const fn width_us(self) -> Micros {
        const MINUTE_US: Micros = 60 * 1_000_000;
        match self {
            Window::FiveMinutes => 5 * MINUTE_US,
            Window::Hour => 60 * MINUTE_US,
            Window::Day => 24 * 60 * MINUTE_US,
        }
    }

    /// The start of the tumbling window that holds `time`.
    pub const fn start_of(self, time: Micros) -> Micros {
        time.div_euclid(self.width_us()).saturating_mul(self.width_us())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A window that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("unknown window {0:?}: use 5m, 1h or 24h")]
pub struct UnknownWindow(String);

impl FromStr for Window {
    type Err = UnknownWindow;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Window::ALL.into_iter().find(|w| w.as_str() == name).ok_or_else(|| UnknownWindow(name.to_owned()))
    }
}
