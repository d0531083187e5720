//! What an answer says about limits: `RateLimit-Policy` and `RateLimit` of the IETF draft, version 11.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::bucket::Verdict;

/// The limits themselves: what a bucket holds (`q`), and in how many seconds it fills (`w`).
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of it (`r`), and in how many seconds all of it is there again (`t`).
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Says what each limit is and what is left; nothing where no limit was asked.
pub(crate) fn tell<'v>(headers: &mut HeaderMap, verdicts: impl Iterator<Item = &'v Verdict>) {
    let (mut policy, mut state) = (String::new(), String::new());
    for verdict in verdicts {
        let (meter, separator) = (verdict.meter(), if policy.is_empty() { "" } else { ", " });
        let name = meter.name();
        // Writing to a string cannot fail.
        _ = write!(policy, "{separator}\"{name}\";q={};w={}", meter.rate().burst, meter.window_s());
        _ = write!(state, "{separator}\"{name}\";r={};t={}", verdict.remaining(), verdict.full_in_s());
    }
    for (name, text) in [(POLICY, policy), (STATE, state)] {
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}
