use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use millrace_collector::{Collector, CollectorOptions, Key, Scope};
use millrace_events::{LogTime, ServedSlate, Topic, TopicPartition};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{self, ProgressRecord, SourceCounts};
use millrace_feature_store::{ListItem, OnlineStore as _, OnlineWrite, RecordKey, Version};
use millrace_log::{Clock, toy::ToyLog};
use millrace_ranking::{Ranker, RankerOptions};
use prost::Message;
use tokio::sync::Notify;

use crate::{
    Access, Api, ApiState, Backup, BackupTaker, JobPartition, LimitOptions, LogPartition, Readiness, SlateSink,
    StatusReport, StatusSource, Verification, Verifier,
};

/// 2026-01-01.
pub(crate) const NOW_US: i64 = 1_767_225_600_000_000;
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
pub(crate) const API_TOKEN: &str = "reader-token";
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
const PARTITIONS: u32 = 2;

struct Still;

impl Clock for Still {
    fn stamp(&self, _: i64) -> LogTime {
        self.now()
    }

    fn now(&self) -> LogTime {
        LogTime(NOW_US)
    }
}

/// What the status answers: a report, a wait for ever, or a panic.
#[derive(Clone, Default)]
pub(crate) enum Mood {
    #[default]
    Fine,
    Stuck,
    Broken,
}

#[derive(Default)]
pub(crate) struct Process {
    pub(crate) mood: Mutex<Mood>,
    pub(crate) missing: Mutex<Vec<String>>,
    pub(crate) queries: super::queries::Canned,
    /// The rate at which slates are recorded, and what was.
    pub(crate) slate_rate: Mutex<Option<f64>>,
    pub(crate) slates: Mutex<Vec<ServedSlate>>,
}

#[async_trait]
impl StatusSource for Process {
    async fn status(&self) -> StatusReport {
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Fine => {}
            Mood::Stuck => Notify::new().notified().await,
            Mood::Broken => panic!("on purpose"),
        }
        let mut report = StatusReport { caught_up: true, ..StatusReport::default() };
        report.log.entry("actions".to_owned()).or_default().insert(0, LogPartition { start: 0, end: 7 });
        let clock = Some(LogTime(NOW_US).to_string());
        let job = JobPartition { committed: 7, end: 7, lag: 0, clock };
        report.jobs.entry("stage-one".to_owned()).or_default().insert(0, job);
        report.late.insert("stage-one".to_owned(), 2);
        report
    }

    async fn sources(&self) -> Vec<SourceCounts> {
        let of = |source: &str, accepted| SourceCounts {
            source: source.to_owned(),
            accepted,
            duplicates: 3,
            late: 2,
            robots: 1,
            violations: 4,
            refused: 5,
            last_us: NOW_US,
        };
        vec![of("", 7), of("web", 90)]
    }
}

impl Readiness for Process {
    fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap().clone()
    }
}

impl SlateSink for Process {
    fn wants(&self, _viewer: &str) -> Option<f64> {
        *self.slate_rate.lock().unwrap()
    }

    fn record(&self, slate: ServedSlate) {
        self.slates.lock().unwrap().push(slate);
    }
}

impl BackupTaker for Process {
    fn begin(&self, dest: &str) -> Result<Backup, String> {
        match dest.strip_prefix('/') {
            Some(_) => Ok(Backup { state: "running", dest: dest.to_owned(), ..Backup::default() }),
            None => Err("dest is not absolute".to_owned()),
        }
    }

    fn state(&self) -> Backup {
        Backup { state: "none", ..Backup::default() }
    }
}

impl Verifier for Process {
    fn begin(&self) -> Verification {
        Verification { state: "running", ..Verification::default() }
    }

    fn state(&self) -> Verification {
        Verification { state: "none", ..Verification::default() }
    }
}

/// A secret key with this scope alone: `secret-` and the scope.
fn secret(scope: Scope) -> Key {
    Key { scopes: [scope].into_iter().collect(), ..Key::write("server", &format!("secret-{scope}")) }
}

pub(crate) struct Harness {
    pub(crate) api: Api,
    pub(crate) log: ToyLog,
    pub(crate) process: Arc<Process>,
    store: ToyStore,
    writes: u64,
}

impl Harness {
    /// A surface that everybody may read and where the write key `wk` is known.
    pub(crate) fn new() -> Self {
        Self::with_token(None)
    }

    pub(crate) fn with_token(api_token: Option<&str>) -> Self {
        Self::with(api_token, false, LimitOptions::default())
    }

    /// A surface for development, where any write key is taken.
    pub(crate) fn for_anybody() -> Self {
        Self::with(None, true, LimitOptions::default())
    }

    pub(crate) fn with_limits(limits: LimitOptions) -> Self {
        Self::with(None, false, limits)
    }

    fn with(api_token: Option<&str>, accept_any_key: bool, limits: LimitOptions) -> Self {
        let log = ToyLog::new(PARTITIONS);
        let store = ToyStore::new();
        let process = Arc::new(Process::default());
        let known = std::iter::once(Key::write("web", "wk")).chain(Scope::ALL.map(secret));
        // Any key is taken where there is none.
        let keys = known.filter(|_| !accept_any_key).collect();
        let options = CollectorOptions { keys, accept_any_key, ..CollectorOptions::default() };
        let ranker = Ranker::new(Arc::new(store.clone()), PARTITIONS, RankerOptions::default());
        let api = Api::new(ApiState {
            collector: Arc::new(Collector::new(Arc::new(log.clone()), Arc::new(Still), options)),
            body_bytes_max: BODY_BYTES_MAX,
            ranker: Arc::new(ranker),
            slates: process.clone(),
            status: process.clone(),
            log: Arc::new(log.clone()),
            readiness: process.clone(),
            verifier: process.clone(),
            backups: process.clone(),
            queries: Some(process.clone()),
            metrics: Arc::new(|| "millrace_up 1\n".to_owned()),
            access: Access {
                api_token: api_token.map(str::to_owned),
                admin_token: ADMIN_TOKEN.to_owned(),
                is_open: Arc::new(api_token.is_none().into()),
            },
            limits,
        });
        Self { api, log, process, store, writes: 0 }
    }

    pub(crate) async fn put(&mut self, key: RecordKey, value: impl Message) {
        self.writes += 1;
        let version = Version { generation: 0, offset: self.writes };
        let write = OnlineWrite::Put { key, value: value.encode_to_vec().into(), version };
        self.store.write(vec![write]).await.unwrap();
    }

    pub(crate) async fn insert(&mut self, view: u8, of: &str, member: &str, score: i64) {
        self.writes += 1;
        let version = Version { generation: 0, offset: self.writes };
        let item = ListItem { score, member: Bytes::copy_from_slice(member.as_bytes()) };
        self.store.write(vec![OnlineWrite::Insert { list: views::list(view, of), item, version }]).await.unwrap();
    }

    /// Everything up to [`NOW_US`] was applied.
    pub(crate) async fn applied(&mut self) {
        for topic in Topic::DERIVED {
            for partition in 0..PARTITIONS {
                let key = views::progress_key(TopicPartition::new(topic, partition));
                self.put(key, ProgressRecord { next: 1, clock_us: NOW_US, sources: Vec::new() }).await;
            }
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get_as(&self, path: &str, authorization: &str) -> Answer {
        self.send(Request::get(path).header("authorization", authorization).body(Body::empty()).unwrap()).await
    }

    /// Posts as `wk`.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        // `wk:` in Base64.
        self.send(Request::post(path).header("authorization", "Basic d2s6").body(body.into()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.api.answer(request).await).await
    }

    /// How many records a topic holds.
    pub(crate) fn records(&self, topic: Topic) -> usize {
        (0..topic.partitions(PARTITIONS)).map(|p| self.log.records(TopicPartition::new(topic, p)).len()).sum()
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), "application/json", "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The answer with its body laid out, for snapshots.
    pub(crate) fn shown(&self) -> String {
        format!("{}\n{}", self.status, serde_json::to_string_pretty(&self.json()).unwrap())
    }

    /// Checks that this is the error body with this status and code.
    #[track_caller]
    pub(crate) fn check_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        let problem = self.json();
        let text = |name: &str| problem[name].as_str().unwrap_or_else(|| panic!("{name} is missing: {problem}"));
        assert_eq!(text("code"), code);
        assert!(text("type").ends_with(&format!("/problems/{}", code.replace('_', "-"))));
        assert_eq!(problem["status"], status);
        assert!(text("instance").starts_with("req_") && !text("title").is_empty());
        assert!(!text("detail").is_empty() && text("detail") == text("message") && text("message") == text("error"));
        let retry_after = self.header("retry-after");
        assert_eq!(matches!(status, 429 | 503), retry_after.parse::<u32>().is_ok_and(|s| s > 0), "{retry_after:?}");
    }
}
