use super::*;

fn rejection() -> Rejection {
    Rejection::new(Reason::MissingEvent, "track needs event")
}

fn refused() -> Verdict {
    Verdict::Refused(Reason::MissingEvent, "track needs event".into())
}

/// Accepted events by their ids, and refused ones as they were sent.
#[track_caller]
fn check(events: &[Result<&str, &str>], expected: &[(&str, Verdict)]) {
    let mut verdicts = Verdicts::new("messageId");
    for event in events {
        match event {
            Ok(id) => verdicts.kept(id),
            Err(event) => verdicts.refused(event, &rejection()),
        }
    }
    let expected: BTreeMap<String, Verdict> = expected.iter().map(|(id, v)| ((*id).to_owned(), v.clone())).collect();
    assert_eq!(verdicts.into_inner(), expected, "{events:?}");
}

#[test]
fn an_event_is_named_by_its_id_or_its_place() {
    check(&[], &[]);
    check(&[Ok("a"), Err(r#"{"messageId":"b"}"#)], &[("a", Verdict::Kept), ("b", refused())]);
    check(&[Ok(""), Err("{}"), Ok("c")], &[("#0", Verdict::Kept), ("#1", refused()), ("c", Verdict::Kept)]);
    check(&[Err(r#"{"messageId":7}"#)], &[("7", refused())]);
    check(&[Err(r#"{"messageId":"\u00fc\""}"#)], &[("ü\"", refused())]);
    let long = format!(r#"{{"messageId":"{}"}}"#, "x".repeat(201));
    for unnamed in
        ["7", "null", "[]", r#"{"messageId":""}"#, r#"{"messageId":[1]}"#, r#"{"messageId":"\ud83d"}"#, &long]
    {
        check(&[Err(unnamed)], &[("#0", refused())]);
    }
}

#[test]
fn of_several_with_one_id_each_hears_the_worst() {
    let noted = Verdict::Noted(SAME_ID.into());
    check(&[Ok("a"), Ok("a")], &[("a", noted.clone())]);
    check(&[Ok("a"), Ok("a"), Ok("a")], &[("a", noted)]);
    check(&[Ok("a"), Err(r#"{"messageId":"a"}"#), Ok("a")], &[("a", refused())]);
    check(&[Err(r#"{"messageId":"a"}"#), Ok("a")], &[("a", refused())]);
}
