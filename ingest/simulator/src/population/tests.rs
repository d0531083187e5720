use std::collections::{BTreeMap, BTreeSet};

use millrace_events::{ActionKind, check_id, fold_name, parse_rfc3339};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn options(seed: u64, users: u32, events: u64) -> Options {
    Options { seed, users, events, ..Options::default() }
}

fn bytes(options: &Options) -> Vec<u8> {
    let mut out = Vec::new();
    for call in Population::new(options.clone()) {
        call.write_json(&mut out);
        out.push(b'\n');
    }
    out
}

/// What CONTRACT asks of a known action, read here from the JSON as a stranger would.
#[track_caller]
fn check_call(json: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("not a string: {value} in {json}")).to_owned();
    assert_eq!(json["type"], "track");
    check_id(&text(&json["messageId"])).unwrap();
    check_id(&text(&json["userId"])).unwrap();
    parse_rfc3339(&text(&json["timestamp"])).unwrap();
    let event = text(&json["event"]);
    assert_eq!(fold_name(&event), event);
    let properties = &json["properties"];
    assert!(properties.is_object());
    let required = match ActionKind::from_folded(&event) {
        ActionKind::UserRegistered | ActionKind::Custom => None,
        ActionKind::UserFollowed
        | ActionKind::UserUnfollowed
        | ActionKind::UserBlocked
        | ActionKind::UserUnblocked
        | ActionKind::UserMuted
        | ActionKind::UserUnmuted => Some("target_id"),
        ActionKind::SearchPerformed => Some("query"),
        ActionKind::TagFollowed | ActionKind::TagUnfollowed => Some("tag"),
        _ => Some("post_id"),
    };
    if let Some(required) = required {
        check_id(&text(&properties[required])).unwrap();
    }
    if let Some(kind) = properties.get("kind") {
        assert!(["text", "image", "video", "link"].contains(&text(kind).as_str()));
    }
    if let Some(tags) = properties.get("tags") {
        tags.as_array().unwrap().iter().for_each(|tag| drop(text(tag)));
    }
    for number in ["dwell_ms", "results"] {
        assert!(properties.get(number).is_none_or(Value::is_u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_is_valid_and_the_same_options_give_the_same_bytes(
        seed: u64,
        users in 1..400_u32,
        events in 0..3_000_u64,
        rate in 1..2_000_000_u32,
        duplicates in prop_oneof![Just(0.0), 0.0..1.0],
    ) {
        let options = Options { rate, duplicates, ..options(seed, users, events) };
        let first = bytes(&options);
        prop_assert_eq!(&first, &bytes(&options));
        let mut ids = BTreeSet::new();
        for line in first.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            let json: Value = serde_json::from_slice(line).unwrap();
            check_call(&json);
            ids.insert(json["messageId"].as_str().unwrap().to_owned());
        }
        prop_assert_eq!(ids.len() as u64, events);
    }

    #[test]
    fn duplicates_only_repeat(seed: u64, share in 0.01..1.0) {
        let plain: Vec<Call> = Population::new(options(seed, 50, 1_000)).collect();
        let doubled: Vec<Call> = Population::new(Options { duplicates: share, ..options(seed, 50, 1_000) }).collect();
        let mut seen = BTreeMap::new();
        let mut first_sightings = Vec::new();
        for call in doubled {
            match seen.get(&call.message_id) {
                Some(before) => prop_assert_eq!(before, &call),
                None => {
                    seen.insert(call.message_id.clone(), call.clone());
                    first_sightings.push(call);
                }
            }
        }
        prop_assert_eq!(first_sightings, plain);
    }
}

#[test]
fn a_longer_run_starts_with_the_shorter_one() {
    let long = bytes(&options(7, 100, 5_000));
    assert!(long.starts_with(&bytes(&options(7, 100, 1_000))));
    assert_ne!(bytes(&options(7, 100, 1_000)), bytes(&options(8, 100, 1_000)));
}

#[test]
fn different_histories_share_no_message_and_no_post() {
    let ids = |options: Options| -> BTreeSet<String> { Population::new(options).map(|call| call.message_id).collect() };
    let base = ids(options(7, 100, 1_000));
    assert!(base.is_disjoint(&ids(options(8, 100, 1_000))));
    assert!(base.is_disjoint(&ids(options(7, 101, 1_000))));
    assert!(base.is_disjoint(&ids(Options { rate: 7, ..options(7, 100, 1_000) })));
    assert!(base.is_disjoint(&ids(Options { start_us: 0, ..options(7, 100, 1_000) })));
}

#[test]
fn time_never_goes_back_and_keeps_the_mean_rate() {
    let calls: Vec<Call> = Population::new(Options { rate: 50, ..options(3, 100, 20_000) }).collect();
    assert!(calls.windows(2).all(|pair| pair[0].time_us <= pair[1].time_us));
    let seconds = (calls[calls.len() - 1].time_us - calls[0].time_us) / 1_000_000;
    assert!((380..420).contains(&seconds), "20,000 calls at 50/s took {seconds} s of event time");
}

#[test]
fn every_known_action_happens() {
    let seen: BTreeSet<String> =
        Population::new(options(1, 500, 200_000)).map(|call| call.event.into_owned()).collect();
    let missing: Vec<&str> =
        ActionKind::KNOWN.iter().map(|kind| kind.as_str()).filter(|name| !seen.contains(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert!(seen.contains("app_opened"), "a custom event too");
}

#[test]
fn only_authors_edit_and_delete_and_nobody_reacts_to_what_is_not_there() {
    let mut author_of = BTreeMap::new();
    for call in Population::new(options(5, 200, 50_000)) {
        let properties: Value = serde_json::from_str(&call.properties).unwrap();
        let Some(post) = properties["post_id"].as_str() else { continue };
        match call.event.as_ref() {
            "post_created" => assert!(author_of.insert(post.to_owned(), call.user_id).is_none(), "{post} twice"),
            "post_edited" => assert_eq!(author_of.get(post), Some(&call.user_id)),
            "post_deleted" => assert_eq!(author_of.remove(post), Some(call.user_id)),
            _ => assert!(author_of.contains_key(post), "{} on {post}, which is not there", call.event),
        }
    }
}

#[test]
fn the_followed_are_followed_more() {
    let mut followers: BTreeMap<String, u32> = BTreeMap::new();
    for call in Population::new(options(2, 1_000, 100_000)).filter(|call| call.event == "user_followed") {
        *followers.entry(call.properties).or_default() += 1;
    }
    let mut counts: Vec<u32> = followers.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let total: u32 = counts.iter().sum();
    let top: u32 = counts.iter().take(counts.len() / 10).sum();
    assert!(top * 4 > total, "the top tenth has {top} of {total} follows");
}
