use super::*;

fn keys(accept_any_key: bool) -> Keys {
    let source = |name: &str, key: &str| Source { name: name.to_owned(), write_key: key.to_owned() };
    Keys { sources: vec![source("web", "wk_web"), source("broken", ""), source("ios", "wk_ios")], accept_any_key }
}

#[track_caller]
fn check(authorization: Option<&str>, body: Option<&str>, expected: Result<&str, &str>) {
    let keys = keys(false);
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
    check(None, Some("wk_ios"), Ok("ios"));
    check(Some("Bearer token"), Some("wk_ios"), Ok("ios"));
    check(Some(&basic_of(":")), Some("wk_ios"), Ok("ios"));
}

#[test]
fn an_unknown_key_is_not_a_missing_one() {
    check(Some(&basic_of("wk_we:")), Some("wk_web"), Err("invalid_write_key"));
    check(Some("Basic ***"), Some("wk_web"), Err("invalid_write_key"));
    check(None, Some("wk_webb"), Err("invalid_write_key"));
    check(None, None, Err("missing_write_key"));
    check(None, Some(""), Err("missing_write_key"));
    check(Some("Bearer token"), None, Err("missing_write_key"));
    check(Some("Basic"), None, Err("missing_write_key"));
}

#[test]
fn in_development_any_key_will_do_but_one_there_must_be() {
    let keys = keys(true);
    assert_eq!(keys.by_body(Some("whatever")).unwrap(), DEV_SOURCE);
    assert_eq!(keys.by_body(Some("wk_web")).unwrap(), "web");
    assert_eq!(keys.by_header(Some(&basic_of("x:"))).unwrap(), Some(DEV_SOURCE));
    assert_eq!(keys.by_body(None).unwrap_err().code, "missing_write_key");
}

#[test]
fn debug_output_holds_no_key() {
    assert!(!format!("{:?}", keys(false)).contains("wk_"));
}
