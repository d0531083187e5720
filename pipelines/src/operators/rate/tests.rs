use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{RATE_RATIO, rising};

/// The exact probability that a binomial of `n` trials reaches `k`.
fn binomial_tail(n: u64, k: u64, q: f64) -> f64 {
    let mut ln_choose = 0.0;
    let mut tail = 0.0;
    for i in 0..=n {
        if i > 0 {
            ln_choose += ((n - i + 1) as f64 / i as f64).ln();
        }
        if i >= k {
            tail += (ln_choose + i as f64 * q.ln() + (n - i) as f64 * (1.0 - q).ln()).exp();
        }
    }
    tail
}

/// How many events of a Poisson process with this mean (Knuth; in halves, so that the exponential does not vanish).
fn poisson(random: &mut StdRng, mean: f64) -> u64 {
    if mean > 30.0 {
        return poisson(random, mean / 2.0) + poisson(random, mean / 2.0);
    }
    let limit = (-mean).exp();
    let (mut product, mut count) = (random.random::<f64>(), 0);
    while product > limit {
        product *= random.random::<f64>();
        count += 1;
    }
    count
}

proptest! {
    /// The score never promises more than the exact test would.
    #[test]
    fn the_bound_is_above_the_exact_tail(count in 0..60_u64, past in 0..60_u64, past_width in 1.0..50.0_f64) {
        let q = RATE_RATIO / (RATE_RATIO + past_width);
        let bound = 10_f64.powf(-rising(count, past, 1.0, past_width));
        let exact = binomial_tail(count + past, count, q);
        prop_assert!(bound * (1.0 + 1e-9) >= exact, "bound {bound}, exact {exact}");
    }

    #[test]
    fn more_now_surprises_more_and_more_before_less(
        count in 0..1_000_000_u64, past in 0..1_000_000_u64, past_width in 0.0..500.0_f64, more in 1..1_000_u64,
    ) {
        let score = rising(count, past, 1.0, past_width);
        prop_assert!(score.is_finite() && score >= 0.0);
        prop_assert!(rising(count + more, past, 1.0, past_width) >= score - 1e-9);
        prop_assert!(rising(count, past + more, 1.0, past_width) <= score + 1e-9);
    }

    /// Without a past of its own nothing can be called rising, but the busiest still comes first.
    #[test]
    fn a_young_log_scores_below_one_in_order(count in 0..1_000_000_u64, more in 1..1_000_u64) {
        let (score, higher) = (rising(count, 0, 1.0, 0.0), rising(count + more, 0, 1.0, 0.0));
        prop_assert!(score <= higher && higher <= 1.0);
    }
}

#[test]
fn false_alarms_stay_below_the_bound() {
    const EVALUATIONS: u64 = 200_000;
    let mut random = StdRng::seed_from_u64(7);
    for (rate, past_width, ratio) in
        [(0.2, 24.0, 1.0), (3.0, 24.0, RATE_RATIO), (40.0, 12.0, RATE_RATIO), (1.0, 2.0, 1.0)]
    {
        let mut above = [0_u64; 4];
        for _ in 0..EVALUATIONS {
            let past = poisson(&mut random, rate * past_width);
            let score = rising(poisson(&mut random, ratio * rate), past, 1.0, past_width);
            (1..4).filter(|s| score >= f64::from(*s)).for_each(|s| above[s as usize] += 1);
        }
        for s in 1..4_i32 {
            let allowed = EVALUATIONS as f64 * 10_f64.powi(-s);
            assert!(above[s as usize] as f64 <= allowed, "rate {rate}: {above:?} of {EVALUATIONS}");
        }
    }
}

#[test]
fn a_small_burst_beats_a_constant_giant() {
    assert_eq!(rising(100_000, 24 * 100_000, 1.0, 24.0), 0.0);
    let burst = rising(30, 72, 1.0, 24.0);
    assert!(burst > 6.0, "{burst}");
    assert!(rising(6, 72, 1.0, 24.0) < 1.0);
}
