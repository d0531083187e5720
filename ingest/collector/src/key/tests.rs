use proptest::prelude::*;

use super::*;

/// From SHA-256 and base 62 as Python has them.
#[test]
fn a_key_is_made_of_its_bytes_alone() {
    let counted: [u8; KEY_RANDOM_BYTES] = std::array::from_fn(|n| n as u8);
    for (kind, random, expected) in [
        (KeyKind::Write, [0; KEY_RANDOM_BYTES], "mr_wk_0000000000000000000000000000000000000000000_yG0ux"),
        (KeyKind::Write, [255; KEY_RANDOM_BYTES], "mr_wk_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1_zVKTm"),
        (KeyKind::Secret, counted, "mr_sk_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_VXVce"),
    ] {
        assert_eq!(make_key(kind, &random), expected);
        assert_eq!(expected.len(), 55);
    }
}

proptest! {
    #[test]
    fn a_key_that_was_mistyped_or_cut_is_told_apart(random: [u8; KEY_RANDOM_BYTES], at in 6_usize..55, digit in 0_usize..62) {
        for kind in KeyKind::ALL {
            let key = make_key(kind, &random);
            prop_assert!(!is_mistyped(key.as_bytes()));
            prop_assert!(is_mistyped(&key.as_bytes()[..at]));
            let mut wrong = key.clone().into_bytes();
            wrong[at] = DIGITS[digit];
            prop_assert_eq!(is_mistyped(&wrong), wrong != key.as_bytes());
        }
    }
}

#[test]
fn what_is_not_ours_is_not_mistyped() {
    for key in ["", "mr_", "mr_wk", "a-key-of-old", "mr_xx_0000", "MR_WK_0000", "sk_live_0000"] {
        assert!(!is_mistyped(key.as_bytes()), "{key}");
    }
    for key in ["mr_wk_", "mr_sk_", "mr_wk_éééé", &format!("mr_sk_{}", "0".repeat(10_000))] {
        assert!(is_mistyped(key.as_bytes()), "{key}");
    }
}

#[test]
fn a_hash_is_that_of_fips_180_and_is_not_shown() {
    let abc = KeyHash::of(b"abc");
    assert_eq!(abc.0[..4], [0xba, 0x78, 0x16, 0xbf]);
    assert_eq!(abc, KeyHash::new(abc.0));
    assert_eq!(format!("{abc:?}"), "KeyHash(..)");
}
