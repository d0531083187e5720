use std::net::IpAddr;

use axum::http::HeaderMap;

use super::addresses::Addresses;
use super::bucket::{Bucket, Meter, Rate, Verdict};
use super::keys::Keys;
use super::{ADDRESSES_MAX, forwarded, headers};

const SECOND_NS: u64 = 1_000_000_000;

fn meter(rate: &str) -> Meter {
    Meter::new("test", rate.parse().unwrap())
}

#[test]
fn a_rate_is_a_number_and_perhaps_a_burst() {
    let check = |text: &str, expected: Option<(u32, u32)>| {
        let rate = text.parse::<Rate>().ok().map(|rate| (rate.per_second, rate.burst));
        assert_eq!(rate, expected, "{text}");
    };
    check("5", Some((5, 50)));
    check(" 5 / 7 ", Some((5, 7)));
    check("1000000/1000000000", Some((1_000_000, 1_000_000_000)));
    for wrong in ["", "0", "5/0", "/5", "5/", "-1", "1.5", "1000001", "1/1000000001", "x"] {
        check(wrong, None);
    }
}

/// What a bucket says to requests at these times and costs: let in, left, how long to wait.
#[track_caller]
fn check(rate: &str, asked: &[(u64, u32, bool, u64, u32)]) {
    let (meter, mut bucket) = (meter(rate), Bucket::default());
    for &(at_ms, cost, is_let_in, remaining, retry_after_s) in asked {
        let verdict = meter.take(&mut bucket, cost, at_ms * 1_000_000);
        assert_eq!((verdict.is_let_in(), verdict.remaining()), (is_let_in, remaining), "{cost} at {at_ms} ms");
        if !is_let_in {
            assert_eq!(verdict.retry_after_s(), retry_after_s, "{cost} at {at_ms} ms");
        }
    }
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    check(
        "2/3",
        &[
            (0, 1, true, 2, 0),
            (0, 1, true, 1, 0),
            (0, 1, true, 0, 0),
            (0, 1, false, 0, 1),
            (499, 1, false, 0, 1),
            (500, 1, true, 0, 0),
            (500, 1, false, 0, 1),
            (10_000, 1, true, 2, 0),
        ],
    );
}

#[test]
fn what_is_larger_than_the_bucket_passes_and_is_a_debt() {
    // 100 of a bucket of 10, at 10 a second: nine seconds of debt, and the tenth of a second for one more.
    check("10/10", &[(0, 100, true, 0, 0), (0, 1, false, 0, 10), (9_099, 1, false, 0, 1), (9_100, 1, true, 0, 0)]);
    // The same for one that comes with little left.
    check("10/10", &[(0, 9, true, 1, 0), (0, 9, true, 0, 0), (899, 1, false, 0, 1), (900, 1, true, 0, 0)]);
}

#[test]
fn over_time_the_rate_holds_whatever_the_batches_are() {
    for batch in [1, 7, 300] {
        let (meter, mut bucket) = (meter("50/20"), Bucket::default());
        let mut passed = 0_u64;
        for at_ms in 0..600_000_u64 {
            passed += u64::from(batch) * u64::from(meter.take(&mut bucket, batch, at_ms * 1_000_000).is_let_in());
        }
        let owed = 50 * 600;
        assert!((owed..=owed + 20 + u64::from(batch)).contains(&passed), "{passed} passed in batches of {batch}");
    }
}

#[test]
fn waiting_as_long_as_told_is_enough() {
    for (rate, cost) in [("1/1", 1), ("3/2", 50), ("7/1", 7), ("1000000/5", 999)] {
        let (meter, mut bucket) = (meter(rate), Bucket::default());
        let mut now_ns = 17;
        for _ in 0..100 {
            let verdict = meter.take(&mut bucket, cost, now_ns);
            if !verdict.is_let_in() {
                now_ns += u64::from(verdict.retry_after_s()) * SECOND_NS;
                assert!(meter.look(bucket, now_ns).is_let_in(), "{rate} at cost {cost}");
            }
        }
    }
}

#[test]
fn addresses_do_not_share_and_their_number_is_bounded() {
    let addresses = Addresses::new(meter("1/1"));
    let let_in = |ip: &str, now_ns: u64| addresses.take(ip.parse::<IpAddr>().unwrap(), now_ns).is_let_in();
    assert!(let_in("192.0.2.1", 0) && !let_in("192.0.2.1", 0));
    assert!(let_in("192.0.2.2", 0), "another one");
    assert!(!let_in("::ffff:192.0.2.1", 0), "the same one, written as IPv6");
    assert!(let_in("2001:db8::1", 0) && !let_in("2001:db8::ffff:1", 0), "a /64 is one");
    assert!(let_in("2001:db8:0:1::1", 0));
    assert!(let_in("192.0.2.1", SECOND_NS));

    // Many more than are remembered: each finds a place, and the table has not grown since it has no way to.
    for n in 0..4 * u32::try_from(ADDRESSES_MAX).unwrap() {
        assert!(addresses.take(IpAddr::from(n.to_be_bytes()), 2 * SECOND_NS + u64::from(n)).is_let_in());
    }
}

#[test]
fn who_asks_a_lot_is_not_forgotten_for_those_who_ask_once() {
    let addresses = Addresses::new(meter("10/100"));
    let busy = "192.0.2.1".parse::<IpAddr>().unwrap();
    while addresses.take(busy, 0).is_let_in() {}
    for n in 0..4 * u32::try_from(ADDRESSES_MAX).unwrap() {
        addresses.take(IpAddr::from(n.to_be_bytes()), 0);
    }
    assert!(!addresses.take(busy, 0).is_let_in());
}

#[test]
fn a_key_pays_for_both_or_for_nothing() {
    let keys = Keys::new(Some(meter("1/2")), Some(meter("10/10")));
    let take = |source: &str, events: u32| {
        let verdicts = keys.take(source, events, 0);
        verdicts.map(|verdict: Option<Verdict>| verdict.map(|v| (v.is_let_in(), v.remaining())).unwrap())
    };
    assert_eq!(take("web", 4), [(true, 1), (true, 6)]);
    assert_eq!(take("app", 4), [(true, 1), (true, 6)], "each for itself");
    assert_eq!(take("web", 6), [(true, 0), (true, 0)]);
    assert_eq!(take("web", 1), [(false, 0), (false, 0)]);
    assert_eq!(take("app", 40), [(true, 0), (true, 0)]);
    let only_events = Keys::new(None, Some(meter("10/10")));
    assert_eq!(only_events.take("web", 1, 0)[0], None);
}

#[test]
fn only_trusted_proxies_say_for_whom_they_ask() {
    #[track_caller]
    fn check(peer: &str, lines: &[(&'static str, &str)], expected: &str) {
        let trusted = ["10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32"].map(|net| net.parse::<ipnet::IpNet>().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let trusts = |ip| trusted.iter().any(|net| net.contains(&ip));
        let client = forwarded::client(peer.parse().unwrap(), &headers, trusts);
        assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{peer} with {lines:?}");
    }
    let xff = "x-forwarded-for";
    check("192.0.2.9", &[(xff, "198.51.100.1")], "192.0.2.9");
    check("10.0.0.1", &[], "10.0.0.1");
    check("10.0.0.1", &[(xff, "198.51.100.1")], "198.51.100.1");
    check("::ffff:10.0.0.1", &[(xff, "198.51.100.1")], "198.51.100.1");
    // The left end is what the client wrote.
    check("10.0.0.1", &[(xff, "203.0.113.7, 198.51.100.1")], "198.51.100.1");
    check("10.0.0.1", &[(xff, "203.0.113.7, 198.51.100.1, 10.0.0.2,127.0.0.1")], "198.51.100.1");
    check("10.0.0.1", &[(xff, "203.0.113.7"), (xff, "198.51.100.1")], "198.51.100.1");
    check("10.0.0.1", &[(xff, "198.51.100.1, nonsense, 10.0.0.2")], "10.0.0.2");
    check("10.0.0.1", &[(xff, "")], "10.0.0.1");
    check("10.0.0.1", &[(xff, "198.51.100.1:1234")], "198.51.100.1");
    check("10.0.0.1", &[(xff, "[2001:470::1]:1234")], "2001:470::1");
    check("10.0.0.1", &[(xff, "[2001:470::1]")], "2001:470::1");
    let forwarded = "forwarded";
    check("10.0.0.1", &[(forwarded, "for=198.51.100.1;proto=https")], "198.51.100.1");
    check("10.0.0.1", &[(forwarded, "proto=https; For=\"[2001:470::1]:80\", for=10.0.0.3")], "2001:470::1");
    check("10.0.0.1", &[(forwarded, "for=_hidden")], "10.0.0.1");
    check("10.0.0.1", &[(forwarded, "for=198.51.100.2"), (xff, "198.51.100.1")], "198.51.100.1");
    let many = vec!["10.0.0.2"; 1_000].join(",");
    check("10.0.0.1", &[(xff, &format!("198.51.100.1,{many}"))], "10.0.0.2");
}

#[test]
fn an_answer_says_what_the_limits_are_and_what_is_left() {
    let mut answer = HeaderMap::new();
    headers::tell(&mut answer, [].iter());
    assert!(answer.is_empty());
    let (small, large) = (meter("2/3"), meter("100/1000"));
    let verdicts = [small.take(&mut Bucket::default(), 1, 0), large.take(&mut Bucket::default(), 250, 0)];
    headers::tell(&mut answer, verdicts.iter());
    assert_eq!(answer["ratelimit-policy"], r#""test";q=3;w=2, "test";q=1000;w=10"#);
    assert_eq!(answer["ratelimit"], r#""test";r=2;t=1, "test";r=750;t=3"#);
}
