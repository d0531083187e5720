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

/// Everything at once, densely, so that a short history has some of each.
fn lively(seed: u64, users: u32, events: u64) -> Options {
    Options {
        rhythm: 1.0,
        robots: 3,
        robot_pace: 600,
        bursts: 1_000,
        burst_seconds: 40,
        burst_every_seconds: 100,
        ..options(seed, users, events)
    }
}

fn disturbed(plain: &Options) -> Options {
    Options { late: 0.05, duplicates: 0.05, skewed: 0.3, ..plain.clone() }
}

/// The truth as its reader gets it.
fn truth(population: &Population) -> Value {
    let mut out = Vec::new();
    population.truth().write_json(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn run(options: Options) -> (Vec<Call>, Value) {
    let mut population = Population::new(options);
    let calls: Vec<Call> = population.by_ref().collect();
    let truth = truth(&population);
    (calls, truth)
}

/// The ids of users whose clock is wrong, according to the truth.
fn misdating(truth: &Value) -> BTreeSet<String> {
    let users = truth["users"].as_array().unwrap().iter();
    users
        .filter(|user| !user["clock_offset_ms"].is_null())
        .map(|user| user["id"].as_str().unwrap().to_owned())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lively_history_is_valid_and_its_truth_counts_what_was_sent(
        seed: u64,
        users in 1..200_u32,
        events in 1..4_000_u64,
        late in 0.0..0.5,
        duplicates in 0.0..0.5,
        skewed in 0.0..1.0,
        rate in 1..500_u32,
    ) {
        let options = Options { late, duplicates, skewed, rate, ..lively(seed, users, events) };
        prop_assert_eq!(bytes(&options), bytes(&options));
        let (calls, truth) = run(options);
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for call in &calls {
            let mut json = Vec::new();
            call.write_recorded(&mut json);
            check_call(&serde_json::from_slice(&json).unwrap());
            if seen.insert(&call.message_id) {
                *counted.entry(call.event.to_string()).or_default() += 1;
            }
        }
        prop_assert_eq!(seen.len() as u64, events);
        prop_assert_eq!(&truth["totals"]["events"], events);
        let told: BTreeMap<String, u64> = serde_json::from_value(truth["totals"]["actions"].clone()).unwrap();
        prop_assert_eq!(told, counted);
        prop_assert_eq!(truth["duplicates"]["sent"].as_u64().unwrap(), calls.len() as u64 - events);
        let wrong = misdating(&truth);
        let misdated: BTreeSet<&str> =
            calls.iter().filter(|call| wrong.contains(&call.user_id)).map(|call| call.message_id.as_str()).collect();
        prop_assert_eq!(truth["skewed"]["users"].as_u64().unwrap(), wrong.len() as u64);
        prop_assert_eq!(truth["skewed"]["events"].as_u64().unwrap(), misdated.len() as u64);
    }

    #[test]
    fn disturbances_change_how_calls_are_sent_and_not_what_happened(seed: u64, users in 2..100_u32) {
        let plain = lively(seed, users, 2_000);
        let (calm, calm_truth) = run(plain.clone());
        let (rough, rough_truth) = run(disturbed(&plain));
        let mut seen = BTreeSet::new();
        let rough_firsts: Vec<Call> = rough.into_iter().filter(|call| seen.insert(call.message_id.clone())).collect();
        let wrong = misdating(&rough_truth);
        let happened = |calls: &[Call]| -> BTreeMap<String, Call> {
            let timeless = |call: &Call| Call { due_us: 0, sent_at_us: None, ..call.clone() };
            let misdated = |call: &Call| Call { time_us: 0, ..timeless(call) };
            let told = |call: &Call| if wrong.contains(&call.user_id) { misdated(call) } else { timeless(call) };
            calls.iter().map(|call| (call.message_id.clone(), told(call))).collect()
        };
        prop_assert_eq!(happened(&calm), happened(&rough_firsts));
        for name in ["totals", "bursts", "tags", "span"] {
            prop_assert_eq!(&calm_truth[name], &rough_truth[name]);
        }
        let order_of = |calls: &[Call]| -> BTreeMap<String, Vec<String>> {
            let mut by_user: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for call in calls.iter().filter(|call| !["post_created", "user_registered"].contains(&call.event.as_ref())) {
                by_user.entry(call.user_id.clone()).or_default().push(call.message_id.clone());
            }
            by_user
        };
        prop_assert_eq!(order_of(&calm), order_of(&rough_firsts), "a device sends in the order in which things happened");
    }
}

#[test]
fn posts_are_there_before_anybody_reacts_however_late_devices_are() {
    let (calls, _) = run(Options { late: 0.3, ..lively(4, 200, 30_000) });
    let mut there = BTreeSet::new();
    for call in calls {
        let properties: Value = serde_json::from_str(&call.properties).unwrap();
        let Some(post) = properties["post_id"].as_str() else { continue };
        match call.event.as_ref() {
            "post_created" => assert!(there.insert(post.to_owned())),
            name => assert!(there.contains(post), "{name} on {post} before it is there"),
        }
    }
}

#[test]
fn a_lively_history_that_goes_on_starts_with_the_shorter_one() {
    let long = bytes(&lively(7, 100, 30_000));
    assert!(long.starts_with(&bytes(&lively(7, 100, 10_000))));
}

#[test]
fn histories_with_other_robots_bursts_or_rhythm_share_no_message() {
    let ids = |options: Options| -> BTreeSet<String> { Population::new(options).map(|call| call.message_id).collect() };
    let base = ids(lively(7, 100, 500));
    assert!(base.is_disjoint(&ids(Options { robots: 2, ..lively(7, 100, 500) })));
    assert!(base.is_disjoint(&ids(Options { bursts: 2, ..lively(7, 100, 500) })));
    assert!(base.is_disjoint(&ids(Options { burst_factor: 2.0, ..lively(7, 100, 500) })));
    assert!(base.is_disjoint(&ids(Options { rhythm: 0.3, ..lively(7, 100, 500) })));
    let sent_otherwise: BTreeSet<String> = ids(disturbed(&lively(7, 100, 500)));
    assert_eq!(base, sent_otherwise);
}

#[test]
fn shares_are_about_what_was_asked() {
    #[track_caller]
    fn check(what: &str, found: u64, of: usize, share: f64) {
        let found = found as f64 / of as f64;
        assert!((found - share).abs() < share * 0.25, "{what}: {found} instead of {share}");
    }
    let asked = Options { late: 0.05, duplicates: 0.03, skewed: 0.2, rate: 20, ..options(11, 2_000, 200_000) };
    let (calls, truth) = run(asked);
    check("late", truth["late"]["held"].as_u64().unwrap(), 200_000, 0.05);
    check("duplicates", truth["duplicates"]["sent"].as_u64().unwrap(), 200_000, 0.03);
    check("skewed", truth["skewed"]["users"].as_u64().unwrap(), truth["users"].as_array().unwrap().len(), 0.2);
    let ahead = truth["skewed"]["ahead"].as_u64().unwrap();
    let with_sent_at = truth["skewed"]["with_sent_at"].as_u64().unwrap();
    let skewed = truth["skewed"]["users"].as_u64().unwrap() as usize;
    check("ahead", ahead, skewed, 0.5);
    check("with sentAt", with_sent_at, skewed, 0.5);
    // Held for minutes to hours.
    let late: Vec<i64> = calls.iter().filter(|call| call.sent_at_us.is_none()).map(|c| c.due_us - c.time_us).collect();
    assert!(late.iter().any(|&us| (300_000_000..900_000_000).contains(&us)));
    assert!(late.iter().any(|&us| us > 3_600_000_000));
    let over = &truth["late"]["over"];
    let counts = ["over_60s", "over_300s", "over_3600s"].map(|name| over[name].as_u64().unwrap());
    assert!(counts[0] >= counts[1] && counts[1] >= counts[2] && counts[2] > 0);
    assert!(counts[1] * 10 > truth["late"]["held"].as_u64().unwrap() * 6, "most of it is late: {counts:?}");
}

#[test]
fn sent_at_says_how_wrong_the_clock_is() {
    let (calls, truth) = run(Options { skewed: 0.5, late: 0.05, ..options(3, 200, 20_000) });
    let mut with = 0;
    let clocks: BTreeMap<&str, (i64, bool)> = truth["users"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|user| {
            let offset = user["clock_offset_ms"].as_i64()?;
            Some((user["id"].as_str()?, (offset, user["sends_sent_at"].as_bool()?)))
        })
        .collect();
    for call in &calls {
        match (clocks.get(call.user_id.as_str()), call.sent_at_us) {
            (None, sent_at) => assert_eq!(sent_at, None),
            (Some((_, false)), sent_at) => assert_eq!(sent_at, None),
            (Some((offset_ms, true)), sent_at) => {
                with += 1;
                assert_eq!((sent_at.unwrap() - call.due_us) / 1000, *offset_ms);
                assert!(offset_ms.abs() >= 120_000);
                // What the server works out: the time by a right clock.
                let corrected = call.due_us - (sent_at.unwrap() - call.time_us);
                assert!(corrected <= call.due_us);
            }
        }
    }
    assert!(with > 1_000);
}

/// How often `id` comes in `calls` from `from` to `to`: a tag on new posts, a post in anything done to it.
fn uses(calls: &[Call], kind: &str, id: &str, from: Micros, to: Micros) -> u64 {
    calls
        .iter()
        .filter(|call| (from..to).contains(&call.time_us))
        .filter(|call| {
            let properties: Value = serde_json::from_str(&call.properties).unwrap();
            match kind {
                "tag" => {
                    call.event == "post_created" && properties["tags"].as_array().unwrap().contains(&Value::from(id))
                }
                _ => {
                    let made = ["post_created", "post_edited", "post_deleted", "post_unliked"];
                    !made.contains(&call.event.as_ref()) && properties["post_id"] == *id
                }
            }
        })
        .count() as u64
}

#[test]
fn bursts_are_in_the_data_when_and_as_strong_as_the_truth_says() {
    let options = Options { bursts: 6, burst_every_seconds: 600, burst_seconds: 120, ..options(21, 500, 400_000) };
    let (calls, truth) = run(options);
    let bursts = truth["bursts"].as_array().unwrap();
    assert_eq!(
        bursts.iter().map(|burst| burst["kind"].as_str().unwrap()).collect::<Vec<_>>(),
        ["tag", "post", "tag", "post", "tag", "post"]
    );
    for burst in bursts.iter().filter(|burst| burst["complete"] == true) {
        let (kind, id) = (burst["kind"].as_str().unwrap(), burst["id"].as_str().unwrap());
        let at = |name: &str| parse_rfc3339(burst[name].as_str().unwrap()).unwrap();
        let (start, end) = (at("start"), at("end"));
        assert_eq!(end - start, 120_000_000);
        let during = uses(&calls, kind, id, start, end);
        let told = burst["events"].as_u64().unwrap();
        // The end is noticed by the call after it.
        assert!(during.abs_diff(told) <= 1, "{burst}: counted {during}");
        let before = uses(&calls, kind, id, start - 240_000_000, start);
        assert!(during > 6 * before.max(1), "{burst}: {before} in four minutes before, {during} in two of the burst");
        let after = uses(&calls, kind, id, end + 10_000_000, end + 130_000_000);
        assert!(during > 4 * after, "{burst}: {after} in as long a time after it");
    }
    // A tag's rate is the factor asked for, give or take what chance does to a hundred events.
    for burst in bursts.iter().filter(|burst| burst["kind"] == "tag" && burst["added_share"].as_f64().unwrap() < 0.5) {
        let factor = burst["per_hour"].as_f64().unwrap() / burst["baseline_per_hour"].as_f64().unwrap();
        assert!((10.0..40.0).contains(&factor), "{burst} has a factor of {factor}");
    }
}

#[test]
fn people_like_follow_and_look_at_what_suits_them() {
    let (calls, truth) = run(options(5, 500, 100_000));
    let vector = |value: &Value| -> Taste { Taste(serde_json::from_value(value["taste"].clone()).unwrap()) };
    let tastes: BTreeMap<String, Taste> = truth["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["id"].as_str().unwrap().to_owned(), vector(user)))
        .collect();
    let tags: BTreeMap<String, Taste> = truth["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| (tag["id"].as_str().unwrap().to_owned(), vector(tag)))
        .collect();
    for taste in tastes.values().chain(tags.values()) {
        assert_eq!(taste.0.iter().map(|&percent| u32::from(percent)).sum::<u32>(), 100);
    }
    let mut posts: BTreeMap<String, Taste> = BTreeMap::new();
    let (mut seen, mut liked, mut hidden, mut followed, mut tagged) = (vec![], vec![], vec![], vec![], vec![]);
    let mut dwell: [(u64, u64); 2] = [(0, 0); 2];
    for call in &calls {
        let properties: Value = serde_json::from_str(&call.properties).unwrap();
        let actor = &tastes[&call.user_id];
        let to_post = || actor.overlap(&posts[properties["post_id"].as_str().unwrap()]);
        match call.event.as_ref() {
            "post_created" => {
                let own = properties["tags"].as_array().unwrap().iter().map(|tag| tags[tag.as_str().unwrap()]);
                let taste = Taste::mean(own).unwrap_or(*actor);
                posts.insert(properties["post_id"].as_str().unwrap().to_owned(), taste);
            }
            "post_viewed" => {
                let overlap = to_post();
                seen.push(overlap);
                let (sum, count) = &mut dwell[usize::from(overlap > 40)];
                *sum += properties["dwell_ms"].as_u64().unwrap();
                *count += 1;
            }
            "post_liked" => liked.push(to_post()),
            "post_hidden" => hidden.push(to_post()),
            "user_followed" => {
                followed.extend(tastes.get(properties["target_id"].as_str().unwrap()).map(|t| actor.overlap(t)));
            }
            "tag_followed" => tagged.push(actor.overlap(&tags[properties["tag"].as_str().unwrap()])),
            _ => {}
        }
    }
    let mean = |overlaps: &[u32]| f64::from(overlaps.iter().sum::<u32>()) / overlaps.len() as f64;
    let all: Vec<Taste> = tastes.values().copied().collect();
    let strangers: Vec<u32> = all.iter().zip(all.iter().skip(1)).map(|(a, b)| a.overlap(b)).collect();
    assert!(mean(&liked) > mean(&seen) + 5.0, "liked {} of seen {}", mean(&liked), mean(&seen));
    assert!(mean(&hidden) < mean(&seen) - 5.0, "hidden {} of seen {}", mean(&hidden), mean(&seen));
    assert!(mean(&followed) > mean(&strangers) + 8.0, "followed {}, strangers {}", mean(&followed), mean(&strangers));
    assert!(mean(&tagged) > 35.0, "tags followed {}", mean(&tagged));
    let [low, high] = dwell.map(|(sum, count)| sum / count);
    assert!(high > low * 3 / 2, "dwell {low} ms below, {high} ms above");
    assert!((30.0..50.0).contains(&mean(&seen)), "OVERLAP_MEAN is off: {}", mean(&seen));
    assert!(liked.len() > seen.len() / 10 && seen.len() > 50_000, "{} likes of {} views", liked.len(), seen.len());
}

#[test]
fn a_robot_is_as_regular_as_a_machine_and_likes_everything() {
    let (calls, truth) = run(Options { robots: 2, robot_pace: 60, ..options(9, 300, 60_000) });
    let robots: Vec<&str> = truth["users"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|user| user["robot"] == true)
        .map(|user| user["id"].as_str().unwrap())
        .collect();
    assert_eq!(robots.len(), 2);
    for robot in robots {
        let own: Vec<&Call> = calls.iter().filter(|call| call.user_id == robot).collect();
        let gaps: BTreeSet<i64> = own.windows(2).map(|pair| pair[1].time_us - pair[0].time_us).collect();
        // One second each; two when there was nothing new to like.
        assert!(gaps.contains(&1_000_000) && gaps.iter().all(|gap| gap % 1_000_000 == 0), "{gaps:?}");
        assert_eq!(own[0].event, "user_registered");
        let of = |name: &str| own.iter().filter(|call| call.event == name).count();
        assert!(of("post_liked") > 300 && of("post_created") >= 40, "{} likes", of("post_liked"));
        assert_eq!(of("post_liked") + of("post_created") + 1, own.len());
        let links = own.iter().filter(|call| call.properties.contains("\"kind\":\"link\"")).count();
        assert_eq!(links, of("post_created"));
    }
}

#[test]
fn days_have_their_rhythm_and_nights_are_quiet() {
    let day = 86_400;
    let options = Options { rhythm: 1.0, rate: 2, ..options(2, 500, 3 * day * 2) };
    let (calls, truth) = run(options);
    let span = (calls[calls.len() - 1].time_us - calls[0].time_us) / 1_000_000;
    assert!(
        (span - 3 * day as i64).abs() < day as i64 / 10,
        "the pace holds over days: {span} s instead of {}",
        3 * day
    );
    let zones: BTreeMap<&str, i64> = truth["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| (user["id"].as_str().unwrap(), user["utc_offset_minutes"].as_i64().unwrap()))
        .collect();
    assert!(zones.values().collect::<BTreeSet<_>>().len() >= 5, "people live in several zones");
    let mut by_hour = [0_u64; 24];
    for call in &calls {
        let local_us = call.time_us + zones[call.user_id.as_str()] * 60_000_000;
        by_hour[usize::try_from(local_us / 3_600_000_000 % 24).unwrap()] += 1;
    }
    let (evening, night) = (by_hour[20] + by_hour[21], by_hour[3] + by_hour[4]);
    assert!(evening > 4 * night, "{evening} calls in the evening, {night} at night, by the hour: {by_hour:?}");
}

#[test]
fn no_option_breaks_it() {
    let mad = Options {
        users: 1,
        rate: 0,
        rhythm: f64::NAN,
        robots: u32::MAX,
        robot_pace: 0,
        bursts: u32::MAX,
        burst_factor: f64::INFINITY,
        burst_seconds: u32::MAX,
        burst_every_seconds: 0,
        late: f64::NAN,
        duplicates: -1.0,
        skewed: 7.0,
        start_us: Micros::MAX,
        ..options(0, 1, 2_000)
    };
    let (calls, truth) = run(mad);
    assert_eq!(calls.len(), 2_000);
    assert_eq!(truth["totals"]["events"], 2_000);
}
