use super::{has_longer_number_than, has_more_keys_than, has_number_beyond_doubles};

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

#[test]
fn numbers_are_beyond_doubles_when_no_reader_can_hold_them() {
    #[track_caller]
    fn check(value: &str, is_beyond: bool) {
        for json in [format!(r#"{{"a":[true,{value}],"b":"x"}}"#), format!(r#"{{"a": {value} }}"#)] {
            assert_eq!(has_number_beyond_doubles(&json), is_beyond, "{json}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&json).is_err(), is_beyond, "{json}");
        }
    }
    check("1e308", false);
    check("1e309", true);
    check("-1E+309", true);
    check("14411101100000000000000E0000000000900", true);
    check("1e-999", false);
    check("0e999", false);
    check("1.5e0000000000000001", false);
    check(&"9".repeat(64), false);
    check(r#""1e999""#, false);
    check(r#"["1e999",1e5,"\"1e999,"]"#, false);
    check(r#"["1e999,]",1e999]"#, true);
}
