//! What became of each event, as clients read it: the answer of PostHog's newer protocol, and of our own batch.

use std::collections::BTreeMap;

use millrace_collector::Verdict;
use serde::Serialize;
use utoipa::ToSchema;

/// What became of each event of a request, by its `uuid` or `messageId`; one that has none is named by `#` and its place in
/// the batch, from 0.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Results)]
pub(crate) struct Results<'a> {
    /// An event of which nothing is said here was not in the request.
    #[schema(value_type = BTreeMap<String, EventResult<'static>>)]
    results: BTreeMap<&'a str, EventResult<'a>>,
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventResult)]
pub(crate) struct EventResult<'a> {
    /// `ok` and `warning`: it is durable; `drop`: it is in the dead letters, sending it again leads there again. `retry` is not
    /// said: what the log cannot take now is answered with 503 for the whole request.
    result: Outcome,
    /// A stable name for machines, of what was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    code: Option<&'static str>,
    /// What is wrong and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    details: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Warning,
    Drop,
}

/// The answer as JSON.
pub(crate) fn json(verdicts: &BTreeMap<String, Verdict>) -> String {
    let results = verdicts.iter().map(|(id, verdict)| (id.as_str(), result(verdict))).collect();
    // Strings always serialise.
    serde_json::to_string(&Results { results }).unwrap_or_default()
}

fn result(verdict: &Verdict) -> EventResult<'_> {
    match verdict {
        Verdict::Kept => EventResult { result: Outcome::Ok, code: None, details: None },
        Verdict::Noted(details) => EventResult { result: Outcome::Warning, code: None, details: Some(details) },
        Verdict::Refused(reason, details) => {
            EventResult { result: Outcome::Drop, code: Some(reason.as_str()), details: Some(details) }
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_collector::Reason;

    use super::*;

    #[test]
    fn each_event_is_answered_by_its_id() {
        let refused = Verdict::Refused(Reason::MissingId, "an event needs userId or anonymousId".into());
        let verdicts = [("a", Verdict::Kept), ("b\"", Verdict::Noted("twice".into())), ("#2", refused)];
        let verdicts = verdicts.into_iter().map(|(id, verdict)| (id.to_owned(), verdict)).collect();
        assert_eq!(
            json(&verdicts),
            r##"{"results":{"#2":{"result":"drop","code":"missing_id","details":"an event needs userId or anonymousId"},"a":{"result":"ok"},"b\"":{"result":"warning","details":"twice"}}}"##
        );
        assert_eq!(json(&BTreeMap::new()), r#"{"results":{}}"#);
    }
}
