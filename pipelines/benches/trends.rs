//! What trends cost per reaction, with their share of commits: `cargo bench -p millrace-pipelines --bench trends`.
//! The claim is at most 1.5 us.

use divan::counter::ItemsCount;
use millrace_events::{ActionKind, Derived, LogTime, Topic, TopicPartition};
use millrace_pipelines::jobs::Trends;
use millrace_pipelines::state::toy::ToyStateStore;
use millrace_pipelines::state::{State, StateStore};
use millrace_pipelines::{Advance, Input, Job, Writes};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const OF: TopicPartition = TopicPartition::new(Topic::ReactionEvents, 0);
const BEGIN_US: i64 = 1_767_225_600_000_000;
const RECORDS: usize = 500_000;
const COMMIT_RECORDS: usize = 20_000;

fn main() {
    divan::main();
}

/// As live: 25,000 reactions a second to posts of which few get most, told the time once a second.
#[divan::bench(args = [1_000, 100_000], sample_count = 5)]
fn live(bencher: divan::Bencher<'_, '_>, posts: usize) {
    run(bencher, posts, 40);
}

/// As in a replay of a quiet log: every reaction enters a new second.
#[divan::bench(args = [1_000, 100_000], sample_count = 5)]
fn replay(bencher: divan::Bencher<'_, '_>, posts: usize) {
    run(bencher, posts, 1_000_000);
}

fn run(bencher: divan::Bencher<'_, '_>, posts: usize, step_us: i64) {
    let mut random = SmallRng::seed_from_u64(1);
    let records: Vec<(String, Derived)> = (0..RECORDS as i64)
        .map(|nth| {
            // The cube makes a tenth of the posts get nearly half of what happens.
            let post = (random.random::<f64>().powi(3) * posts as f64) as usize;
            let at = BEGIN_US + nth * step_us;
            let kind = ActionKind::PostLiked as i32;
            (format!("post-{post:08}"), Derived { kind, event_time_us: at, log_time_us: at, ..Derived::default() })
        })
        .collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers always builds");
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let job = Trends::posts();
        let opened = runtime.block_on(ToyStateStore::new().open(OF));
        let mut state = State::new(OF, opened.expect("nobody else opens this toy"));
        let mut writes = Writes::default();
        let mut clock = None;
        for (nth, (post, record)) in records.iter().enumerate() {
            let to = LogTime(record.log_time_us);
            writes.begin(1, 0, nth as u64, to);
            let input = Input { record, key: post, clock };
            job.apply(&input, &mut state, &mut writes).expect("the records are well formed");
            let advance = Advance { from: clock, to, by_tick: false };
            job.advance(advance, &mut state, &mut writes).expect("the state is what this job wrote");
            clock = Some(to);
            if nth % COMMIT_RECORDS == COMMIT_RECORDS - 1 {
                divan::black_box(writes.take_online());
                runtime.block_on(state.commit(nth as u64 + 1)).expect("nobody else owns this partition");
            }
        }
    });
}
