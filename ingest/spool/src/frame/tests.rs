use proptest::prelude::*;

use super::*;

fn append(topic: Topic, partition: u32, time: i64, key: &str, value: &[u8]) -> Append {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value));
    Append { to: TopicPartition::new(topic, partition), time: LogTime(time), key, value }
}

fn framed(first: u64, batches: &[Vec<Append>]) -> Bytes {
    let mut bytes = Vec::new();
    let count = write(&mut bytes, first, batches.iter().map(|batch| &batch[..])).unwrap();
    assert_eq!(count as usize, batches.len());
    let expected = HEADER_BYTES + batches.iter().map(|batch| bytes_of(batch)).sum::<usize>();
    assert_eq!(bytes.len(), expected);
    bytes.into()
}

#[track_caller]
fn check(bytes: &Bytes, first: u64, batches: &[Vec<Append>]) {
    let Found::Frame { batches: found, next } = read(bytes, 0) else { panic!("{:?}", read(bytes, 0)) };
    assert_eq!(next, bytes.len());
    let numbers: Vec<u64> = found.iter().map(|batch| batch.number).collect();
    assert_eq!(numbers, (first..first + batches.len() as u64).collect::<Vec<_>>());
    let found: Vec<Vec<Append>> = found.into_iter().map(|batch| batch.batch).collect();
    assert_eq!(format!("{found:?}"), format!("{batches:?}"));
}

fn any_append() -> impl Strategy<Value = Append> {
    let topic = prop::sample::select(&Topic::ALL);
    (topic, any::<u32>(), any::<i64>(), "[a-z]{0,8}", prop::collection::vec(any::<u8>(), 0..64))
        .prop_map(|(topic, partition, time, key, value)| append(topic, partition, time, &key, &value))
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        first in 0..u64::MAX / 2,
        batches in prop::collection::vec(prop::collection::vec(any_append(), 0..6), 0..6),
    ) {
        check(&framed(first, &batches), first, &batches);
    }

    #[test]
    fn a_frame_that_lacks_or_changes_anything_is_broken(
        batches in prop::collection::vec(prop::collection::vec(any_append(), 1..4), 1..4),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let whole = framed(7, &batches);
        let at = place.index(whole.len());
        let short = whole.slice(..at);
        prop_assert!(matches!(read(&short, 0), Found::Broken | Found::End), "cut at {at}");
        prop_assert!(at > 0 || matches!(read(&short, 0), Found::End));
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << bit;
        prop_assert!(matches!(read(&flipped.into(), 0), Found::Broken), "bit {bit} of byte {at}");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut marked = MARK.to_vec();
        marked.extend(bytes);
        let marked = Bytes::from(marked);
        prop_assert!(matches!(read(&marked, 0), Found::Broken));
        prop_assert!(!any_from(&marked, 0));
    }
}

#[test]
fn a_whole_frame_is_found_behind_what_is_broken() {
    let frame = framed(3, &[vec![append(Topic::Actions, 1, 5, "ann", b"x")]]);
    let mut damaged = b"broken".to_vec();
    damaged.extend_from_slice(&MARK);
    damaged.extend_from_slice(&frame);
    assert!(any_from(&damaged.clone().into(), 0));
    damaged.pop();
    assert!(!any_from(&damaged.into(), 0));
    assert!(!any_from(&frame, frame.len() + 1));
}
