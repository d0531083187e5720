use super::*;

#[test]
fn an_overlap_is_a_number_and_a_unit() {
    let seconds = |text| duration(text).map(|overlap| overlap.as_secs());
    for (text, expected) in [("2s", 2), ("90m", 5_400), ("24h", 86_400), ("7d", 604_800), ("0", 0), ("0h", 0)] {
        assert_eq!(seconds(text), Ok(expected), "{text}");
    }
    for bad in ["", "s", "24", "-1h", "1.5h", "1w", "91d", "99999999999999999999d", "18446744073709551615d", "1 h", "é"]
    {
        assert!(seconds(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_are_those_of_the_catalog() {
    assert_eq!(named::<Scope>("feeds:read"), Ok(Scope::FeedsRead));
    assert_eq!(named::<KeyKind>("secret"), Ok(KeyKind::Secret));
    let refused = named::<Scope>("feeds").unwrap_err();
    assert!(refused.contains("feeds:read") && refused.contains("admin"), "{refused}");
}

#[test]
fn a_key_is_listed_with_its_use_and_without_itself() {
    let hashed = |key: &str| HashedKey::of(key).unwrap();
    let scopes = BTreeSet::from([Scope::StatusRead, Scope::FeedsRead]);
    let mut record = ApiKey::new("app".to_owned(), KeyKind::Secret, scopes, hashed("an-old-key-of-mine"), 1_000);
    record.rotate(hashed("the-newest-key"), 2_000, 9_000).unwrap();
    let mut uses = KeyUse::default();
    uses.merge(&[(record.old[0].key.id.clone(), 5_000)].into());
    let old: Vec<&OldKey> = record.old.iter().collect();
    let lines = lines(&record, &old, &uses);
    assert_eq!(lines.len(), 2);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let newest = ["active", "secret", &record.key.id, "1970-01-01T00:00:02Z", "never", "feeds:read,status:read", "app"];
    assert_eq!(words(&lines[0]), newest);
    let ending =
        ["old", "secret", &old[0].key.id, "until", "1970-01-01T00:00:09Z", "1970-01-01T00:00:05Z", newest[5], "app"];
    assert_eq!(words(&lines[1]), ending);
    let value = as_value(&record, &old, &uses);
    assert_eq!(value["old"][0]["last_used_at"], "1970-01-01T00:00:05Z");
    assert_eq!((&value["last_used_at"], &value["state"]), (&Value::Null, &json!("active")));
    assert_eq!(value["scopes"], json!(["feeds:read", "status:read"]));
    let shown = format!("{value} {lines:?}");
    assert!(!shown.contains("of-mine") && !shown.contains("newest-key"), "{shown}");
}
