use super::*;
use crate::key::{KeyKind, make_key};
use crate::last_use::CoarseClock;
use crate::refusal::RefusalKind;

fn secret(random: u8) -> String {
    make_key(KeyKind::Secret, &[random; 32])
}

fn scoped(name: &str, key: &str, scopes: &[Scope]) -> Key {
    Key { scopes: scopes.iter().copied().collect(), ..Key::write(name, key) }
}

fn keys(accept_any_key: bool) -> Keys {
    let known = vec![
        Key::write("web", "wk_web"),
        Key::write("ios", "wk_ios"),
        Key::write("second", "wk_web"),
        scoped("server", &secret(1), &[Scope::EventsWrite]),
        scoped("both", &secret(2), &[Scope::EventsWrite, Scope::FeedsRead]),
        scoped("reader", &secret(3), &[Scope::FeedsRead, Scope::StatusRead]),
        scoped("boss", &secret(4), &[Scope::Admin]),
    ];
    Keys::new(known, accept_any_key)
}

#[track_caller]
fn check(authorization: Option<&str>, body: Option<&str>, expected: Result<&str, &str>) {
    check_in(&keys(false), authorization, body, expected);
}

#[track_caller]
fn check_in(keys: &Keys, authorization: Option<&str>, body: Option<&str>, expected: Result<&str, &str>) {
    let found = match keys.by_header(authorization) {
        Ok(Some(source)) => Ok(source),
        Ok(None) => keys.by_body(body),
        Err(refusal) => Err(refusal),
    };
    assert_eq!(found.map_err(|r| r.code), expected);
}

fn basic_of(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

#[test]
fn a_key_is_found_in_the_header_before_the_body() {
    check(Some(&basic_of("wk_web:")), None, Ok("web"));
    check(Some(&basic_of("wk_web")), None, Ok("web"));
    check(Some(&basic_of("wk_web:secret")), None, Ok("web"));
    check(Some(&basic_of("wk_ios:")), Some("wk_web"), Ok("ios"));
    check(Some(&basic_of("wk_ios:").replace("Basic", "bAsIc ")), None, Ok("ios"));
    check(Some("bearer  wk_ios "), Some("wk_web"), Ok("ios"));
    check(None, Some("wk_ios"), Ok("ios"));
    check(Some("Bearer token"), Some("wk_ios"), Ok("ios"));
    check(Some("Digest token"), Some("wk_ios"), Ok("ios"));
    check(Some(&basic_of(":")), Some("wk_ios"), Ok("ios"));
}

#[test]
fn an_unknown_key_is_not_a_missing_one() {
    check(Some(&basic_of("wk_we:")), Some("wk_web"), Err("invalid_write_key"));
    check(Some("Basic ***"), Some("wk_web"), Err("invalid_write_key"));
    check(None, Some("wk_webb"), Err("invalid_write_key"));
    check(None, Some("WK_WEB"), Err("invalid_write_key"));
    check(None, None, Err("missing_write_key"));
    check(None, Some(""), Err("missing_write_key"));
    check(Some("Bearer token"), None, Err("missing_write_key"));
    check(Some("Bearer"), None, Err("missing_write_key"));
    check(Some("Basic"), None, Err("missing_write_key"));
    check_in(&Keys::new(Vec::new(), false), Some(&basic_of("wk_web:")), None, Err("invalid_write_key"));
}

#[test]
fn a_secret_key_sends_when_it_may_and_from_the_header_alone() {
    for header in [format!("Bearer {}", secret(1)), basic_of(&format!("{}:", secret(1)))] {
        check(Some(&header), None, Ok("server"));
    }
    check(Some(&format!("Bearer {}", secret(2))), None, Ok("both"));
    check(Some(&format!("Bearer {}", secret(4))), None, Ok("boss"));
    check(Some(&format!("Bearer {}", secret(3))), Some("wk_web"), Err("insufficient_scope"));
    check(Some(&basic_of(&secret(3))), None, Err("insufficient_scope"));
    for random in [1, 2, 4, 5] {
        check(None, Some(&secret(random)), Err("invalid_write_key"));
    }
    check(None, Some(&secret(3)), Err("insufficient_scope"));
    let refusal = keys(false).by_body(Some(&secret(1))).unwrap_err();
    assert!(refusal.message.contains("in the header") && !refusal.message.contains("mr_sk_"), "{refusal}");
    let refusal = keys(false).by_header(Some(&format!("Bearer {}", secret(3)))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Forbidden);
    assert!(refusal.message.contains("lacks the scope events:write"), "{refusal}");
}

#[test]
fn a_mistyped_key_is_told_so() {
    let cut = &make_key(KeyKind::Write, &[9; 32])[..40];
    for answer in [
        keys(false).by_header(Some(&basic_of(cut))).unwrap_err(),
        keys(false).by_header(Some(&format!("Bearer {cut}"))).unwrap_err(),
        keys(false).by_body(Some(cut)).unwrap_err(),
    ] {
        assert_eq!(answer.code, "invalid_write_key");
        assert!(answer.message.contains("invalid key: its checksum is wrong"), "{answer}");
        assert!(!answer.message.contains(cut), "{answer}");
    }
    let whole = make_key(KeyKind::Write, &[9; 32]);
    assert!(keys(false).by_body(Some(&whole)).unwrap_err().message.contains("not known here"));
}

#[test]
fn in_development_any_key_will_do_but_one_there_must_be() {
    let keys = keys(true);
    assert_eq!(keys.by_body(Some("whatever")).unwrap(), DEV_SOURCE);
    assert_eq!(keys.by_body(Some("mr_wk_cut")).unwrap(), DEV_SOURCE);
    assert_eq!(keys.by_body(Some("wk_web")).unwrap(), "web");
    assert_eq!(keys.by_header(Some(&basic_of("x:"))).unwrap(), Some(DEV_SOURCE));
    assert_eq!(keys.by_header(Some("Bearer token")).unwrap(), None);
    assert_eq!(keys.by_body(None).unwrap_err().code, "missing_write_key");
}

#[test]
fn a_key_does_what_its_scopes_say() {
    let keys = keys(false);
    for scope in Scope::ALL {
        let of = |key: &str| keys.allow(key.as_bytes(), scope).map(|key| &*key.name);
        let may = |may: bool, name| if may { Ok(name) } else { Err(Denied::Lacks(scope)) };
        assert_eq!(of("wk_web"), may(scope == Scope::EventsWrite, "web"));
        assert_eq!(of(&secret(3)), may(matches!(scope, Scope::FeedsRead | Scope::StatusRead), "reader"));
        assert_eq!(of(&secret(4)), Ok("boss"));
        assert_eq!(of(&secret(5)), Err(Denied::Unknown));
        assert_eq!(of(&secret(5)[..54]), Err(Denied::Mistyped));
        assert_eq!(of(""), Err(Denied::Unknown));
    }
    assert!(!Scopes::WRITE.reads() && [Scope::Admin].into_iter().collect::<Scopes>().reads());
    assert_eq!(format!("{:?}", Scopes::WRITE), r#"{"events:write"}"#);
}

#[test]
fn a_use_is_remembered_by_the_second_and_a_refusal_is_none() {
    let clock = CoarseClock::default();
    let used = LastUse::by(&clock);
    let keys = Keys::new(vec![Key { used: used.clone(), ..Key::write("web", "wk_web") }], false);
    clock.set(100);
    assert_eq!(used.at_s(), None);
    assert_eq!(keys.allow(b"wk_web", Scope::FeedsRead).unwrap_err(), Denied::Lacks(Scope::FeedsRead));
    assert_eq!(used.at_s(), None);
    for now_s in [100, 100, 160] {
        clock.set(now_s);
        keys.by_body(Some("wk_web")).unwrap();
        assert_eq!(used.at_s(), Some(now_s));
    }
}

#[test]
fn debug_output_holds_no_key() {
    let shown = format!("{:?}", keys(false));
    assert!(shown.contains("web") && !shown.contains("wk_") && !shown.contains("mr_"), "{shown}");
}
