use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::ipc::reader::StreamReader;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use futures::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use millrace_events::LogTime;
use millrace_warehouse::{Answer, Error, ErrorKind, NamedQuery, Params, Value};

use super::harness::{API_TOKEN, Harness, NOW_US, Process};
use crate::Queries;
use crate::routes::queries::JSON_ROWS_MAX;

/// What every query is answered with, and what was asked.
#[derive(Default)]
pub(crate) struct Canned {
    batches: Mutex<Vec<Result<RecordBatch, ErrorKind>>>,
    refusal: Mutex<Option<ErrorKind>>,
    asked: Mutex<Vec<(String, Params)>>,
    /// How many batches were taken.
    taken: Arc<AtomicUsize>,
    /// Alive as long as an answer is.
    answers: Arc<()>,
}

fn batch(texts: &[Option<&str>]) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
    let times = TimestampMicrosecondArray::from_iter_values(texts.iter().map(|_| NOW_US)).with_timezone("UTC");
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("event", Arc::new(StringArray::from(texts.to_vec())), true),
        ("events", Arc::new(numbers), false),
        ("at", Arc::new(times), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[async_trait]
impl Queries for Process {
    async fn query(&self, query: &NamedQuery, params: &Params) -> millrace_warehouse::Result<Answer> {
        let canned = &self.queries;
        canned.asked.lock().unwrap().push((query.name.clone(), params.clone()));
        if let Some(kind) = *canned.refusal.lock().unwrap() {
            return Err(Error::new(kind, "on purpose"));
        }
        let (taken, alive) = (Arc::clone(&canned.taken), Arc::clone(&canned.answers));
        let batches = std::mem::take(&mut *canned.batches.lock().unwrap());
        let rows = stream::iter(batches).map(move |batch| {
            let _ = &alive;
            taken.fetch_add(1, Ordering::Relaxed);
            batch.map_err(|kind| Error::new(kind, "on purpose"))
        });
        Ok(Answer { schema: batch(&[]).schema(), rows: rows.boxed() })
    }

    fn as_of(&self) -> Option<LogTime> {
        Some(LogTime(NOW_US))
    }
}

fn answering(batches: Vec<Result<RecordBatch, ErrorKind>>) -> Harness {
    let harness = Harness::new();
    *harness.process.queries.batches.lock().unwrap() = batches;
    harness
}

fn two_batches() -> Harness {
    answering(vec![Ok(batch(&[Some("post_liked"), None])), Ok(batch(&[Some("say \"hi\", ü")]))])
}

#[tokio::test]
async fn the_list_says_what_each_query_takes() {
    let list = Harness::new().get("/v1/queries").await.json();
    let queries = list["queries"].as_array().unwrap();
    let top_posts = queries.iter().find(|query| query["name"] == "top_posts").unwrap();
    let params = serde_json::to_string(&top_posts["params"]).unwrap();
    insta::assert_snapshot!(params.replace("},{", "},\n{"), @r#"
    [{"default":null,"doc":"Only what happened at this time or later.","name":"from","required":false,"type":"timestamp"},
    {"default":null,"doc":"Only what happened before this time.","name":"to","required":false,"type":"timestamp"},
    {"default":"likes","doc":"The action to count.","name":"by","one_of":["views","clicks","likes","comments","shares","saves","hides","reports"],"required":false,"type":"text"},
    {"default":"include","doc":"Whether what robots did counts too.","name":"robots","one_of":["include","exclude"],"required":false,"type":"text"},
    {"default":20,"doc":"How many posts at most.","maximum":1000,"minimum":1,"name":"limit","required":false,"type":"integer"}]
    "#);
    let post_reach = queries.iter().find(|query| query["name"] == "post_reach").unwrap();
    assert_eq!(post_reach["params"][0]["required"], true);
}

#[tokio::test]
async fn the_shape_of_an_answer_in_json() {
    let harness = two_batches();
    let answer = harness.get("/v1/queries/events_by_name?from=2026-01-01&to=").await;
    assert_eq!(
        answer.json().to_string(),
        serde_json::json!({
            "name": "events_by_name",
            "columns": [
                {"name": "event", "type": "string"},
                {"name": "events", "type": "long"},
                {"name": "at", "type": "timestamp"},
            ],
            "rows": [
                ["post_liked", 0, "2026-01-01T00:00:00Z"],
                [null, 1, "2026-01-01T00:00:00Z"],
                ["say \"hi\", ü", 0, "2026-01-01T00:00:00Z"],
            ],
            "as_of": "2026-01-01T00:00:00Z",
        })
        .to_string()
    );
    let asked = harness.process.queries.asked.lock().unwrap().pop().unwrap();
    let robots = Value::Text("include".to_owned());
    let params = [("from", Value::Timestamp(NOW_US)), ("to", Value::Null), ("robots", robots)];
    let params = params.map(|(n, v)| (n.to_owned(), v));
    assert_eq!(asked, ("events_by_name".to_owned(), params.into()));
}

#[tokio::test]
async fn an_answer_without_rows_is_complete() {
    let answer = Harness::new().get("/v1/queries/events_by_name?format=json").await;
    assert!(answer.json()["rows"].as_array().unwrap().is_empty() && answer.json()["columns"][0]["name"] == "event");
    let answer = Harness::new().get("/v1/queries/events_by_name?format=csv").await;
    assert_eq!(answer.body, "event,events,at\r\n");
}

#[tokio::test]
async fn the_same_rows_as_csv_and_ndjson() {
    let answer = two_batches().get("/v1/queries/events_by_name?format=csv").await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(answer.header("x-millrace-as-of"), "2026-01-01T00:00:00Z");
    let lines = [
        "event,events,at",
        "post_liked,0,2026-01-01T00:00:00Z",
        ",1,2026-01-01T00:00:00Z",
        "\"say \"\"hi\"\", ü\",0,2026-01-01T00:00:00Z",
        "",
    ];
    assert_eq!(answer.body, lines.join("\r\n"));
    let answer = two_batches().get("/v1/queries/events_by_name?format=ndjson").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines = [
        r#"{"event":"post_liked","events":0,"at":"2026-01-01T00:00:00Z"}"#,
        r#"{"event":null,"events":1,"at":"2026-01-01T00:00:00Z"}"#,
        r#"{"event":"say \"hi\", ü","events":0,"at":"2026-01-01T00:00:00Z"}"#,
        "",
    ];
    assert_eq!(answer.body, lines.join("\n"));
}

#[tokio::test]
async fn the_same_rows_as_arrow() {
    let request = Request::get("/v1/queries/events_by_name?format=arrow").body(Body::empty()).unwrap();
    let response = two_batches().api.answer(request).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.arrow.stream");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let read: Vec<_> = StreamReader::try_new(body.as_ref(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [batch(&[Some("post_liked"), None]), batch(&[Some("say \"hi\", ü")])]);
    let end_of_stream = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    assert!(body.ends_with(&end_of_stream), "a reader can tell that it has everything");
}

#[tokio::test]
async fn wrong_questions_say_what_is_wrong() {
    let harness = Harness::new();
    harness.get("/v1/queries/events_by_nam").await.check_problem(404, "unknown_query");
    for wrong in [
        "?frm=2026-01-01",
        "?from=yesterday",
        "?from=2026-01-01&from=2026-01-02",
        "?format=xml",
        "?format=csv&format=json",
    ] {
        harness.get(&format!("/v1/queries/events_by_name{wrong}")).await.check_problem(400, "invalid_parameter");
    }
    let answer = harness.get("/v1/queries/post_reach").await;
    answer.check_problem(400, "invalid_parameter");
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("post_id is missing"));
    assert!(harness.process.queries.asked.lock().unwrap().is_empty(), "the warehouse was not asked");
}

#[tokio::test]
async fn a_refused_query_has_its_status() {
    let cases = [
        (ErrorKind::Busy, 503, "queries_busy"),
        (ErrorKind::Retry, 503, "warehouse_unavailable"),
        (ErrorKind::TooLarge, 422, "query_too_large"),
        (ErrorKind::Invalid, 400, "invalid_parameter"),
        (ErrorKind::Corrupt, 500, "internal_error"),
    ];
    for (kind, status, code) in cases {
        for format in ["json", "csv", "ndjson", "arrow"] {
            let harness = Harness::new();
            *harness.process.queries.refusal.lock().unwrap() = Some(kind);
            let path = format!("/v1/queries/events_by_name?format={format}");
            harness.get(&path).await.check_problem(status, code);
            answering(vec![Err(kind)]).get(&path).await.check_problem(status, code);
        }
    }
}

#[tokio::test]
async fn an_answer_that_fails_on_the_way_does_not_look_complete() {
    let batches = || vec![Ok(batch(&[None])), Err(ErrorKind::TooLarge)];
    for format in ["csv", "ndjson", "arrow"] {
        let path = format!("/v1/queries/events_by_name?format={format}");
        let response = answering(batches()).api.answer(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "{format}");
    }
    answering(batches()).get("/v1/queries/events_by_name").await.check_problem(422, "query_too_large");
}

#[tokio::test]
async fn json_is_bounded_and_streams_are_not() {
    let many = || answering(vec![Ok(batch(&vec![None; JSON_ROWS_MAX])), Ok(batch(&[None]))]);
    many().get("/v1/queries/events_by_name").await.check_problem(422, "answer_too_large");
    let answer = many().get("/v1/queries/events_by_name?format=ndjson").await;
    assert_eq!(answer.body.lines().count(), JSON_ROWS_MAX + 1);
}

#[tokio::test]
async fn a_reader_who_leaves_cancels_and_a_slow_one_holds_back() {
    let harness = answering((0..100).map(|_| Ok(batch(&[None]))).collect());
    let canned = &harness.process.queries;
    let request = Request::get("/v1/queries/events_by_name?format=ndjson").body(Body::empty()).unwrap();
    let mut body = harness.api.answer(request).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(canned.taken.load(Ordering::Relaxed) <= 2, "no more is computed than is read");
    assert_eq!(Arc::strong_count(&canned.answers), 2);
    drop(body);
    assert_eq!(Arc::strong_count(&canned.answers), 1, "nothing of the answer is left");
}

#[tokio::test]
async fn queries_are_for_readers() {
    let harness = Harness::with_token(Some(API_TOKEN));
    for path in ["/v1/queries", "/v1/queries/events_by_name"] {
        harness.get(path).await.check_problem(401, "missing_token");
        assert_eq!(harness.get_as(path, &format!("Bearer {API_TOKEN}")).await.status, 200);
    }
}
