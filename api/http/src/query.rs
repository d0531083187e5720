//! The query of a URL, where a door looks for one thing or two and everything else is noise.

use axum::http::Uri;
use percent_encoding::percent_decode_str;

/// The first parameter of that name; `None` when there is none, or it is empty or not UTF-8.
pub(crate) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, value)| *key == name && !value.is_empty())?;
    let value = value.replace('+', " ");
    Some(percent_decode_str(&value).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_among_others() {
        let check = |uri: &str, expected: Option<&str>| {
            assert_eq!(parameter(&uri.parse().unwrap(), "key").as_deref(), expected, "{uri}");
        };
        check("/e?a=1&key=wk&b=2", Some("wk"));
        check("/e?key=a%20b%2Bc+d", Some("a b+c d"));
        check("/e?key=&key=second", Some("second"));
        check("/e?key=a=b", Some("a=b"));
        for none in ["/e", "/e?", "/e?key", "/e?key=", "/e?keys=1", "/e?Key=1", "/e?key=%ff", "/e?a=key=1"] {
            check(none, None);
        }
    }
}
