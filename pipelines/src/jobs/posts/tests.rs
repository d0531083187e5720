//! The newest posts of a partition.

use millrace_events::{Derived, LogTime, Micros, Position, TopicPartition};
use millrace_feature_store::OnlineWrite;
use millrace_log::Record;

use super::*;
use crate::job::Stage;
use crate::jobs::DerivedStage;
use crate::state::StateStore;
use crate::state::toy::ToyStateStore;

const OF: TopicPartition = TopicPartition::new(Topic::ReactionEvents, 3);

/// What is put into ranked lists: view, entity, member, score.
type Listed = (u8, Bytes, Bytes, i64);

/// Applies actions (kind, post, actor, event time) in one batch.
async fn check(actions: &[(ActionKind, &str, &str, Micros)], expected: &[(&str, Micros)]) {
    let stage = DerivedStage::new(1, 1, vec![Box::new(Posts)]);
    let mut state = State::new(OF, ToyStateStore::new().open(OF).await.unwrap());
    let mut writes = Writes::default();
    let mut previous = None;
    for (offset, &(kind, post, actor, event_time_us)) in (0..).zip(actions) {
        let position = Position { generation: 1, partition: 0, offset, index: 0 };
        let derived = Derived {
            position,
            previous: previous.replace(position),
            log_time_us: 1_000,
            kind: kind as i32,
            actor: actor.to_owned(),
            post_id: post.to_owned(),
            event_time_us,
            ..Derived::default()
        };
        let value = derived.encode_to_vec().into();
        let record = Record { offset, time: LogTime(1_000), key: Bytes::copy_from_slice(post.as_bytes()), value };
        stage.apply(OF, record, &mut state, &mut writes).unwrap();
    }
    let listed: Vec<Listed> = writes
        .take_online()
        .into_iter()
        .filter_map(|write| match write {
            OnlineWrite::Insert { list, item, .. } => Some((list.view, list.entity, item.member, item.score)),
            _ => None,
        })
        .collect();
    let key = views::fresh_key(OF.partition);
    let expected: Vec<Listed> = expected
        .iter()
        .map(|&(post, at)| (views::FRESH, key.entity.clone(), Bytes::copy_from_slice(post.as_bytes()), at))
        .collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_creation_lists_the_post_in_its_own_partition_by_event_time() {
    use ActionKind::{PostCreated, PostDeleted, PostEdited, PostLiked};
    check(&[(PostCreated, "p1", "ann", 7), (PostCreated, "p2", "bob", -3)], &[("p1", 7), ("p2", -3)]).await;
    // Neither a reaction nor a second creation, an edit or a deletion changes when it was made.
    let after = [(PostLiked, "p1", "bob", 8), (PostEdited, "p1", "ann", 9), (PostDeleted, "p1", "ann", 10)];
    check(&[&[(PostCreated, "p1", "ann", 7)], &after[..]].concat(), &[("p1", 7)]).await;
    check(&[(PostCreated, "p1", "ann", 7), (PostCreated, "p1", "eve", 99)], &[("p1", 7)]).await;
    check(&[(PostEdited, "p1", "ann", 7), (PostDeleted, "p2", "ann", 7)], &[]).await;
}
