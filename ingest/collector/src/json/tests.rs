use proptest::prelude::*;

use super::*;

fn raw(text: &str) -> Raw<'_> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn strings_and_ids_are_read() {
    assert_eq!(raw(r#""a b""#).string().unwrap(), "a b");
    assert_eq!(raw(r#" "\u00fc\n" "#).string().unwrap(), "ü\n");
    assert_eq!(raw(r#""\ud83d""#).string(), None);
    assert_eq!(raw(r#""a\ud83d""#).text().unwrap().trim_end_matches('\u{fffd}'), "a");
    assert_eq!(raw(r#""\ud83d\ude00""#).text().unwrap(), "😀");
    assert_eq!(raw("12").text(), None);
    assert_eq!(raw("12").string(), None);
    assert_eq!(raw("12").id().unwrap(), "12");
    assert_eq!(raw("-7").id().unwrap(), "-7");
    assert_eq!(raw("123456789012345678901234567890").id().unwrap(), "123456789012345678901234567890");
    assert_eq!(raw("true").id(), None);
    assert_eq!(raw("[1]").id(), None);
}

#[test]
fn integers_are_exact_or_none() {
    let check = |text: &str, expected: Option<u64>| assert_eq!(raw(text).integer(1000), expected, "{text}");
    check("0", Some(0));
    check("1000", Some(1000));
    check("3.0", Some(3));
    check("1e3", Some(1000));
    for bad in ["1001", "1e4", "-1", "-0.5", "1.5", "1e400", "\"3\"", "true", "[3]", "18446744073709551616"] {
        check(bad, None);
    }
}

#[test]
fn the_last_of_two_fields_counts_and_null_is_absent() {
    let fields: Fields<'_> = serde_json::from_str(r#"{"userId":"a","x":[{}],"userId":"b","traits":null}"#).unwrap();
    assert_eq!(fields.user_id.unwrap().as_str(), "\"b\"");
    assert_eq!(fields.traits, None);
}

#[track_caller]
fn check_merge(over: &str, under: &str, expected: &str) {
    let under: Pairs<'_> = serde_json::from_str(under).unwrap();
    let merged = merge(over, &under).unwrap();
    assert_eq!(merged, expected);
    serde_json::from_str::<serde_json::Value>(&merged).unwrap();
}

#[test]
fn merging_keeps_what_is_above() {
    check_merge(r#"{"a":1}"#, r#"{"a":2,"b":{"c":3}}"#, r#"{"a":1,"b":{"c":3}}"#);
    check_merge("{ }", r#"{"a":2,"q\"":3}"#, r#"{"a":2,"q\"":3}"#);
    check_merge(r#"{"\u0061":1}"#, r#"{"a":2}"#, r#"{"\u0061":1}"#);
    check_merge(r#"{"a":1}"#, r#"{"b":null}"#, r#"{"a":1}"#);
    check_merge(r#"{"a":null}"#, r#"{"a":1}"#, r#"{"a":null}"#);
    check_merge("{}", "{}", "{}");
}

#[test]
fn a_half_of_a_surrogate_pair_is_replaced_and_nothing_else() {
    for (sent, kept) in [
        (r#"{"a":"x"}"#, r#"{"a":"x"}"#),
        (r#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\ud83d\ude00"}"#),
        (r#"{"a":"\uD83D"}"#, r#"{"a":"\ufffd"}"#),
        (r#"{"a":"\ude00\ud83d"}"#, r#"{"a":"\ufffd\ufffd"}"#),
        (r#"{"a":"\ud83d\ud83d\ude00"}"#, r#"{"a":"\ufffd\ud83d\ude00"}"#),
        (r#"{"\uDDDDDDDD":["\udbff\n"]}"#, r#"{"\ufffdDDDD":["\ufffd\n"]}"#),
        // A backslash that is itself escaped, before what only looks like an escape.
        (r#"{"a":"\\ud83d","b":"\\\ud83d"}"#, r#"{"a":"\\ud83d","b":"\\\ufffd"}"#),
        (r#"{"a":"\u00e9\ud83d"}"#, r#"{"a":"\u00e9\ufffd"}"#),
        (r#"{"a":"\ud83d😀é"}"#, r#"{"a":"\ufffd😀é"}"#),
    ] {
        assert_eq!(readable(Cow::Borrowed(sent)), kept, "{sent}");
        assert!(serde_json::from_str::<serde_json::Value>(kept).is_ok(), "{kept}");
    }
}

proptest! {
    #[test]
    fn what_is_readable_stays_and_what_is_not_becomes_so(
        parts in prop::collection::vec(prop_oneof![
            Just(r"\ud83d"), Just(r"\uDE00"), Just(r"\\"), Just(r"\n"), Just(r"\u0041"), Just("u"), Just("é"), Just(r#"":""#), Just("d"),
        ], 0..12),
    ) {
        let json = format!(r#"["{}"]"#, parts.concat().replace(r#"":""#, r#"",""#));
        let kept = readable(Cow::Borrowed(&json));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&kept).is_ok(), "{} became {}", json, kept);
        if serde_json::from_str::<serde_json::Value>(&json).is_ok() {
            prop_assert_eq!(&kept, &json);
        }
    }
}
