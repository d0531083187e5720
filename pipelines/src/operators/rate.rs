//! Is the rate of something above what its own past allows? The conditional test of two Poisson rates of Przyborowski
//! and Wilenski ("Homogeneity of results in testing samples from Poisson series", Biometrika 31, 1940), bounded in
//! closed form.
//!
//! `count` events fell into a window, `past` into the time `past_width` before it. Under the null hypothesis "the
//! rate in the window is at most [`RATE_RATIO`] times the rate before", and given that there were `count + past` in
//! all, the number in the window is at most binomial with `q = RATE_RATIO·width / (RATE_RATIO·width + past_width)`.
//! The score is −log10 of the Chernoff–Hoeffding bound on its tail, `exp(−N·KL(count/N ‖ q))` with `N = count + past`
//! (Hoeffding 1963, theorem 1), and 0 where `count/N <= q`. So one evaluation of something that does not rise scores
//! `s` or more with a probability of at most `10^−s`, whatever its rate. The bound is conservative: in truth it is
//! some three to ten times less.
//!
//! Why not the obvious others: a ratio of rates lets the smallest counts win; a z-score with a normal approximation
//! has no such bound at counts like 3, where most tags live; an exact binomial tail needs special functions and gains
//! less than a point.

/// A rate must be above its past by this factor before it surprises at all: people's days and hours differ by as much.
pub const RATE_RATIO: f64 = 2.0;

/// The score of `count` events within `width` after `past` events within `past_width`, in any unit of time, `width` >
/// 0.
///
/// While less than one `width` of past is known, the test has little or nothing to go by and everything is new. What
/// is busiest is then scored against one event that is imagined in a past of one `width`, pressed into 0 to 1: below
/// whatever may be called rising, but in order.
pub fn rising(count: u64, past: u64, width: f64, past_width: f64) -> f64 {
    let (count, past) = (count as f64, past as f64);
    let known = if past_width > 0.0 { score(count, past, share(width, past_width)) } else { 0.0 };
    if past_width >= width {
        return known;
    }
    let imagined = score(count, past + 1.0, share(width, width));
    known.max(imagined / (1.0 + imagined))
}

/// The largest share of all events that the null hypothesis leaves to the window.
fn share(width: f64, past_width: f64) -> f64 {
    RATE_RATIO * width / (RATE_RATIO * width + past_width)
}

/// −log10 of the bound on the probability that a binomial of `count + past` trials and probability `q` reaches `count`.
fn score(count: f64, past: f64, q: f64) -> f64 {
    let all = count + past;
    let p = count / all;
    if all <= 0.0 || p <= q {
        return 0.0;
    }
    // 0·ln 0 is 0.
    let rest = if past > 0.0 { (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln() } else { 0.0 };
    (all * (p * (p / q).ln() + rest) / std::f64::consts::LN_10).max(0.0)
}

#[cfg(test)]
mod tests;
