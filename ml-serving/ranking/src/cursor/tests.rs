use proptest::prelude::*;

use super::*;

fn listed() -> impl Strategy<Value = EntryPost> {
    let time = prop_oneof![
        any::<i64>(),
        (0..i64::from(u32::MAX)).prop_map(|ms| ms * 1_000),
        (0..i64::from(u32::MAX)).prop_map(|s| s * 1_000_000),
    ];
    (any::<u16>(), any::<u32>(), time)
        .prop_map(|(author, post, listed_us)| EntryPost::Listed(Listed { author, post, listed_us }))
}

fn named() -> impl Strategy<Value = EntryPost> {
    let source = prop_oneof![Just(Source::Trending), Just(Source::Fresh)];
    (source, "\\PC{1,50}").prop_map(|(source, post_id)| EntryPost::Named { source, post_id })
}

/// Any order that is within the bound.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry =
        (prop_oneof![3 => listed(), 1 => named()], 0..1_000_000u32).prop_map(|(post, score)| Entry { post, score });
    prop::collection::vec(entry, 0..CANDIDATES_MAX).prop_map(|mut entries| {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.score));
        let mut bytes = 0;
        entries.retain(|entry| {
            bytes += entry.cost();
            bytes <= ORDER_BYTES_MAX
        });
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
        for kind in [HOME, HOME_V1] {
            let read = HomeCursor::decode(&seal(kind, "ann", &bytes), "ann");
            prop_assert!(read.is_err() || read.unwrap().rest.len() <= CANDIDATES_MAX);
        }
    }

    /// An order whose score falls from entry to entry, cut anywhere, within a body that says something about itself.
    #[test]
    fn a_cut_body_is_refused(rest in entries(), at in any::<prop::sample::Index>()) {
        let text = HomeCursor { slate: 1, position: 2, rest }.encode("ann");
        let (_, body) = open(&[HOME], "ann", &text).unwrap();
        let cut = &body[..at.index(body.len())];
        prop_assert!(HomeCursor::decode(&seal(HOME, "ann", cut), "ann").is_err());
    }
}

#[test]
fn a_full_cursor_of_usual_times_fits_a_request_line() {
    let entry = |nth: u32| Entry {
        post: EntryPost::Listed(Listed {
            author: nth as u16,
            post: nth.wrapping_mul(0x9e37_79b9),
            // A post every three minutes, stamped to the millisecond.
            listed_us: 1_767_225_600_000_000 - i64::from(nth) * 180_037_000,
        }),
        score: 1_000_000 - nth * 1_900,
    };
    let rest = (20..FOLLOWED_CANDIDATES_MAX as u32).map(entry).collect();
    let text = HomeCursor { slate: u64::MAX, position: 20, rest }.encode("ann");
    assert!(text.len() < 7_800, "{}", text.len());

    let stranger = |nth: u32| Entry {
        post: EntryPost::Named { source: Source::Fresh, post_id: format!("{nth:036}") },
        score: 1_000_000 - nth * 1_900,
    };
    let mut bytes = 0;
    let order = (0..).map(stranger).take_while(|entry| {
        bytes += entry.cost();
        bytes <= ORDER_BYTES_MAX
    });
    let rest: Vec<_> = order.skip(1).collect();
    assert!(rest.len() > 140, "{}", rest.len());
    let text = HomeCursor { slate: u64::MAX, position: 1, rest }.encode("ann");
    assert!(text.len() < 8_100, "{}", text.len());
}

/// Written by version 1 for "ann": what a reader holds must still work after an update.
#[test]
fn a_cursor_of_the_version_before_reads_as_followed_posts() {
    let text = "Acp317YHAAAAAAAAABQCAQBAIEZIRwYAoPc2AAECBwAAAADsDgQA_____-DUAw";
    let read = HomeCursor::decode(text, "ann").unwrap();
    let listed = |author, post, listed_us| EntryPost::Listed(Listed { author, post, listed_us });
    let rest = vec![
        Entry { post: listed(513, 7, 1_767_225_600_000_000), score: 900_000 },
        Entry { post: listed(4, 0xffff_ffff, 1_767_225_540_000_000), score: 898_100 },
    ];
    assert_eq!(read, HomeCursor { slate: 7, position: 20, rest });
}
