//! How fast calls are made and encoded: `cargo bench -p millrace-simulator`. The claim is at least 300,000 calls/s on one core.

use divan::counter::ItemsCount;
use millrace_simulator::population::{Options, Population};

fn main() {
    divan::main();
}

#[divan::bench(args = [1_000, 100_000])]
fn population(bencher: divan::Bencher<'_, '_>, users: u32) {
    let events = 200_000;
    let options = Options { users, events, ..Options::default() };
    let mut json = Vec::new();
    bencher.counter(ItemsCount::new(events)).bench_local(|| {
        for call in Population::new(options.clone()) {
            json.clear();
            call.write_json(&mut json);
            divan::black_box(&json);
        }
    });
}
