use proptest::prelude::*;

use super::*;

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let time = prop_oneof![
        any::<i64>(),
        (0..i64::from(u32::MAX)).prop_map(|ms| ms * 1_000),
        (0..i64::from(u32::MAX)).prop_map(|s| s * 1_000_000),
    ];
    let entry = (any::<u16>(), any::<u32>(), time, 0..1_000_000u32)
        .prop_map(|(author, post, listed_us, score)| Entry { author, post, listed_us, score });
    prop::collection::vec(entry, 0..CANDIDATES_MAX).prop_map(|mut entries| {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.score));
        entries
    })
}

proptest! {
    #[test]
    fn a_home_cursor_reads_back(slate in any::<u64>(), position in 0..CANDIDATES_MAX, rest in entries()) {
        let cursor = HomeCursor { slate, position, rest };
        let text = cursor.encode("ann");
        prop_assert!(text.len() <= TEXT_MAX);
        prop_assert_eq!(HomeCursor::decode(&text, "ann").unwrap(), cursor);
        prop_assert!(HomeCursor::decode(&text, "bob").is_err());
    }

    #[test]
    fn an_author_cursor_reads_back(score in any::<i64>(), member in "\\PC{1,50}") {
        let item = ListItem { score, member: member.into() };
        let text = encode_author("ann", &item);
        prop_assert_eq!(decode_author("ann", &text).unwrap(), item);
        prop_assert!(decode_author("bob", &text).is_err());
        prop_assert!(HomeCursor::decode(&text, "ann").is_err());
    }

    #[test]
    fn garbage_is_refused(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(HomeCursor::decode(&text, "ann").is_err());
        prop_assert!(HomeCursor::decode(&URL_SAFE_NO_PAD.encode(&bytes), "ann").is_err());
        // With a right checksum the body is garbage still: an error or a cursor, never a panic.
        let read = HomeCursor::decode(&seal(HOME, "ann", &bytes), "ann");
        prop_assert!(read.is_err() || read.unwrap().rest.len() <= CANDIDATES_MAX);
    }
}

#[test]
fn a_full_cursor_of_usual_times_fits_a_request_line() {
    let entry = |nth: u32| Entry {
        author: nth as u16,
        post: nth.wrapping_mul(0x9e37_79b9),
        // A post every three minutes, stamped to the millisecond.
        listed_us: 1_767_225_600_000_000 - i64::from(nth) * 180_037_000,
        score: 1_000_000 - nth * 1_900,
    };
    let rest = (20..CANDIDATES_MAX as u32).map(entry).collect();
    let text = HomeCursor { slate: u64::MAX, position: 20, rest }.encode("ann");
    assert!(text.len() < 7_800, "{}", text.len());
}
