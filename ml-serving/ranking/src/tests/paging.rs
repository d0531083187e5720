//! The law of cursors: what was eligible when the first page was served comes exactly once, whatever arrives in between;
//! what was taken away since does not come, and nothing comes twice.

use std::collections::{BTreeMap, BTreeSet};

use millrace_events::{ActionKind, Window};
use millrace_feature_store::views::{BLOCKED, EngagementRecord, FOLLOWING};
use proptest::prelude::*;

use super::world::{HOUR_US, NOW_US, World};

/// The viewer follows the first four of them.
const AUTHORS: usize = 7;
const FOLLOWED: usize = 4;

/// What happens between two pages. Numbers choose an author, a post of the first snapshot, or a time.
#[derive(Clone, Debug)]
enum Change {
    Post { author: usize, hours: i64 },
    PostAtTimeOf { post: usize },
    Like { post: usize, likes: u64 },
    React { post: usize },
    See { post: usize },
    Delete { post: usize },
    Block { author: usize },
    Unfollow { author: usize },
    Follow { author: usize },
    Rise { post: usize },
    Burst { author: usize },
    Clock { hours: i64 },
}

fn change() -> impl Strategy<Value = Change> {
    let (author, post) = (0..AUTHORS, 0..200usize);
    prop_oneof![
        6 => (author.clone(), -30..10i64).prop_map(|(author, hours)| Change::Post { author, hours }),
        3 => post.clone().prop_map(|post| Change::PostAtTimeOf { post }),
        6 => (post.clone(), 0..500u64).prop_map(|(post, likes)| Change::Like { post, likes }),
        3 => post.clone().prop_map(|post| Change::React { post }),
        2 => post.clone().prop_map(|post| Change::See { post }),
        2 => post.clone().prop_map(|post| Change::Delete { post }),
        2 => post.prop_map(|post| Change::Rise { post }),
        1 => author.clone().prop_map(|author| Change::Block { author }),
        1 => author.clone().prop_map(|author| Change::Unfollow { author }),
        // Only of strangers: to follow again brings back what the unfollow took away.
        1 => (FOLLOWED..AUTHORS).prop_map(|author| Change::Follow { author }),
        1 => author.prop_map(|author| Change::Burst { author }),
        1 => (0..100i64).prop_map(|hours| Change::Clock { hours }),
    ]
}

/// The world and what the test knows of it.
struct Reader {
    world: World,
    /// Post → author and time: what was eligible when the first page was served.
    eligible: BTreeMap<String, (String, i64)>,
    /// What was taken away since.
    gone: BTreeSet<String>,
    made: usize,
}

impl Reader {
    fn choose(&self, post: usize) -> Option<(String, String, i64)> {
        let (id, (author, at)) = self.eligible.iter().nth(post % self.eligible.len().max(1))?;
        Some((id.clone(), author.clone(), *at))
    }

    async fn new_post(&mut self, author: &str, at: i64) {
        self.made += 1;
        let id = format!("new{}", self.made);
        self.world.post(author, &id, at).await;
        self.world.fresh(&id, at).await;
    }

    fn lose_author(&mut self, author: &str) {
        let theirs = self.eligible.iter().filter(|(_, (a, _))| a == author).map(|(id, _)| id.clone());
        self.gone.extend(theirs);
    }

    async fn apply(&mut self, change: &Change) {
        match *change {
            Change::Post { author, hours } => self.new_post(&format!("a{author}"), NOW_US + hours * HOUR_US).await,
            Change::Burst { author } => {
                for nth in 0..40 {
                    self.new_post(&format!("a{author}"), NOW_US + nth).await;
                }
            }
            Change::Clock { hours } => self.world.clock(NOW_US + hours * HOUR_US).await,
            Change::Block { author } => {
                self.world.relate(BLOCKED, "ann", &format!("a{author}")).await;
                self.lose_author(&format!("a{author}"));
            }
            Change::Unfollow { author } => {
                self.world.remove(FOLLOWING, "ann", &format!("a{author}")).await;
                // What a stranger wrote came without a follow, and needs none.
                if author < FOLLOWED {
                    self.lose_author(&format!("a{author}"));
                }
            }
            Change::Follow { author } => self.world.relate(FOLLOWING, "ann", &format!("a{author}")).await,
            Change::PostAtTimeOf { post }
            | Change::Like { post, .. }
            | Change::React { post }
            | Change::See { post }
            | Change::Rise { post }
            | Change::Delete { post } => {
                let Some((id, author, at)) = self.choose(post) else { return };
                self.apply_to(change, &id, &author, at).await;
            }
        }
    }

    async fn apply_to(&mut self, change: &Change, id: &str, author: &str, at: i64) {
        match *change {
            Change::PostAtTimeOf { .. } => self.new_post(author, at).await,
            Change::Like { likes, .. } => {
                let totals = EngagementRecord { likes, unique_viewers: likes, ..Default::default() };
                self.world.engagement(id, totals).await;
            }
            Change::Rise { .. } => self.world.trend(Window::Hour, &[(id, 99.0)]).await,
            Change::React { .. } => self.world.react("ann", ActionKind::PostShared, id).await,
            Change::See { .. } => {
                self.world.seen("ann", id, false).await;
                self.gone.insert(id.to_owned());
            }
            _ => {
                self.world.record(author, id, at, true).await;
                self.gone.insert(id.to_owned());
            }
        }
    }
}

/// What brought a post: its author, or that it is one of every three that rose, or that it is new.
fn reason(author: &str, id: &str) -> &'static str {
    let number = |text: &str| text[1..].parse::<usize>().unwrap();
    match number(author) {
        author if author < FOLLOWED => "follows",
        _ if number(id).is_multiple_of(3) => "trending",
        _ => "fresh",
    }
}

async fn check(posts: &[(usize, i64, u64)], limit: usize, changes: &[Vec<Change>]) {
    let mut reader = Reader { world: World::new().await, eligible: BTreeMap::new(), gone: BTreeSet::new(), made: 0 };
    for author in 0..FOLLOWED {
        reader.world.relate(FOLLOWING, "ann", &format!("a{author}")).await;
    }
    for (nth, &(author, minutes, likes)) in posts.iter().enumerate() {
        let (author, id, at) = (format!("a{author}"), format!("p{nth:03}"), NOW_US - minutes * HOUR_US / 60);
        reader.world.post(&author, &id, at).await;
        reader.world.fresh(&id, at).await;
        if nth % 3 == 0 {
            reader.world.trend(Window::Day, &[(&id, likes as f64)]).await;
        }
        let totals = EngagementRecord { likes, unique_viewers: 2 * likes, ..Default::default() };
        reader.world.engagement(&id, totals).await;
        reader.eligible.insert(id, (author, at));
    }

    let mut served = BTreeMap::new();
    let first = reader.world.home("ann", limit, None).await;
    let (name, mut cursor, mut last_score) = (first.slate.clone(), None, f64::INFINITY);
    let mut page = Some(first);
    let mut changes = changes.iter().cycle();
    while let Some(slate) = page.take() {
        assert_eq!(slate.slate, name, "one name over all pages");
        for item in &slate.items {
            let author = &item.author_id;
            assert_eq!(reader.eligible.get(&item.post_id).map(|(a, _)| a), Some(author), "nothing new");
            assert!(!reader.gone.contains(&item.post_id), "{} was taken away before this page", item.post_id);
            assert!(served.insert(item.post_id.clone(), item.position).is_none(), "{} came twice", item.post_id);
            assert!(item.score <= last_score, "best first");
            assert_eq!(item.reason, reason(author, &item.post_id), "the reason of the first page");
            last_score = item.score;
        }
        assert!(slate.items.len() == limit || slate.next_cursor.is_none(), "a page is full unless it is the last");
        cursor = slate.next_cursor.or(cursor.take().filter(|_| false));
        if cursor.is_some() {
            for change in changes.next().into_iter().flatten() {
                reader.apply(change).await;
            }
            page = Some(reader.world.home("ann", limit, cursor.clone()).await);
        }
    }
    let missed: Vec<_> =
        reader.eligible.keys().filter(|id| !reader.gone.contains(*id) && !served.contains_key(*id)).collect();
    assert!(missed.is_empty(), "{missed:?} never came");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_eligible_post_comes_once(
        posts in prop::collection::vec((0..AUTHORS, 0..3000i64, 0..50u64), 0..120),
        limit in 1..25usize,
        changes in prop::collection::vec(prop::collection::vec(change(), 0..8), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&posts, limit, &changes));
    }
}
