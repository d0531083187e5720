use super::{has_longer_number_than, has_more_keys_than};

#[test]
fn keys_are_counted_at_every_level_and_not_in_texts() {
    #[track_caller]
    fn check(json: &str, keys: usize) {
        assert!(!has_more_keys_than(json, keys), "{json}");
        assert!(keys == 0 || has_more_keys_than(json, keys - 1), "{json}");
    }
    check("{}", 0);
    check(r#"{"a":1,"b":{"c":[{"d":2}]}}"#, 4);
    check(r#"{"a":"x:y:z","b:c":"\":{\"d\":1}"}"#, 2);
    check(&format!("{{{}}}", vec![r#""k":0"#; 5_000].join(",")), 5_000);
    check(&format!(r#"{{"t":"{}"}}"#, ":".repeat(9_999)), 1);
}

#[test]
fn numbers_are_as_long_as_they_are_written_and_texts_are_none() {
    #[track_caller]
    fn check(number: &str, is_too_long: bool) {
        // Wherever it stands.
        for before in 0..70 {
            let json = format!(r#"{{"{}":{number},"b":"{}"}}"#, "k".repeat(before), "1".repeat(500));
            assert_eq!(has_longer_number_than(&json, 64), is_too_long, "{json}");
        }
    }
    check("1", false);
    check(&"9".repeat(64), false);
    check(&"9".repeat(65), true);
    check(&format!("-{}e+5", "1".repeat(61)), true);
    check(&format!("0.{}", "1".repeat(30_000)), true);
    check(&format!("[{}]", vec!["-1.5e9"; 100].join(",")), false);
    check("[true,false,true,false,null,true,false,true,false,true,false,true,false,true]", false);
    check(r#""9999999999999999999999999999999999999999999999999999999999999999999999999999999999""#, false);
}
