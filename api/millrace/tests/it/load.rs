//! Clients that send until they are told to stop, with a ledger on disk of what was acknowledged, and what must be seen then.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::{Server, batch, track};

/// How many clients send at the same time.
const CLIENTS: u64 = 3;
/// Between two batches of one client.
const PAUSE: Duration = Duration::from_millis(15);
/// Each post is liked by so many.
const LIKES: u64 = 7;
/// A batch that nobody takes for so long fails the test.
const PATIENCE: Duration = Duration::from_secs(240);
/// How many posts are looked at one by one.
const SAMPLED: usize = 40;

/// Clients at work. Each batch is a post and likes for it, and is sent again until it was answered with 200.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u64>>,
}

/// What was acknowledged, all of it.
pub(crate) struct Ledger {
    /// How many batches of each client.
    batches: Vec<u64>,
}

impl Load {
    /// Sends to a port on which a server listens, most of the time; the ledgers are in `folder`.
    pub(crate) fn start(port: u16, folder: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |nth| {
            let ledger = File::create(folder.join(format!("ledger-{nth}"))).unwrap();
            tokio::spawn(client(nth, port, ledger, stop.clone()))
        };
        Self { clients: (0..CLIENTS).map(client).collect(), stop }
    }

    /// Lets every client finish its batch: the server must be there.
    pub(crate) async fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut batches = Vec::new();
        for client in self.clients {
            batches.push(client.await.unwrap());
        }
        Ledger { batches }
    }
}

async fn client(nth: u64, port: u16, mut ledger: File, stop: Arc<AtomicBool>) -> u64 {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let body = batch(&calls(nth, done));
        let begun = Instant::now();
        loop {
            let url = format!("http://127.0.0.1:{port}/v1/batch");
            let answer = http.post(url).basic_auth("dev", Some("")).body(body.clone()).send().await;
            match answer.map(|answer| answer.status().as_u16()) {
                Ok(200) => break,
                Ok(503) | Err(_) => {}
                Ok(status) => panic!("a batch was answered with {status}"),
            }
            assert!(begun.elapsed() < PATIENCE, "nobody takes a batch");
            tokio::time::sleep(PAUSE).await;
        }
        // On disk before the next one is sent: what the ledger has was acknowledged, whatever happens.
        writeln!(ledger, "{done}").unwrap();
        ledger.sync_data().unwrap();
        done += 1;
        tokio::time::sleep(PAUSE).await;
    }
    done
}

fn post_id(client: u64, nth: u64) -> String {
    format!("p{client}-{nth}")
}

fn calls(client: u64, nth: u64) -> Vec<Value> {
    let post = post_id(client, nth);
    let created =
        track(&format!("author{client}"), "Post Created", json!({ "post_id": post, "text": "x", "tags": ["t"] }));
    let liked = |user| track(&format!("u{user}"), "Post Liked", json!({ "post_id": post, "author_id": "a" }));
    let calls = std::iter::once(created).chain((0..LIKES).map(liked));
    let with_id = |(at, mut call): (usize, Value)| {
        call["messageId"] = json!(format!("{post}-{at}"));
        call
    };
    calls.enumerate().map(with_id).collect()
}

impl Ledger {
    /// Waits until as much is in the warehouse as was acknowledged: where several processes archive, none knows of all.
    pub(crate) async fn archived(&self, server: &Server) {
        let begun = Instant::now();
        let wanted = self.batches.iter().sum::<u64>() * (1 + LIKES);
        loop {
            let (_, answer) = server.get("/v1/queries/events_by_name").await;
            let rows = answer["rows"].as_array().cloned().unwrap_or_default();
            let found: u64 = rows.iter().filter_map(|row| row[1].as_u64()).sum();
            if found >= wanted {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{found} of {wanted} events are in the warehouse: {answer}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Everything that was acknowledged is seen once, at every door; `server` has caught up.
    pub(crate) async fn check(&self, server: &Server) {
        let posts: u64 = self.batches.iter().sum();
        let (status, answer) = server.get("/v1/queries/events_by_name").await;
        assert_eq!(status, 200, "{answer}");
        let expected = json!([["post_created", posts], ["post_liked", posts * LIKES]]);
        let mut rows = answer["rows"].as_array().unwrap().clone();
        rows.sort_by_key(|row| row[0].to_string());
        assert_eq!(Value::Array(rows), expected, "in the warehouse");

        let all: BTreeSet<String> = (0..CLIENTS)
            .zip(&self.batches)
            .flat_map(|(client, n)| (0..*n).map(move |nth| post_id(client, nth)))
            .collect();
        for post in all.iter().step_by((all.len() / SAMPLED).max(1)) {
            let (_, engagement) = server.get(&format!("/v1/posts/{post}/engagement")).await;
            assert_eq!(engagement["totals"]["likes"], LIKES, "counters of {post}: {engagement}");
        }

        let (status, trends) = server.get("/v1/trends/posts?window=24h&limit=50").await;
        assert_eq!(status, 200, "{trends}");
        for item in trends["items"].as_array().unwrap() {
            let post = item["post_id"].as_str().unwrap();
            assert!(all.contains(post), "{post} trends and was never sent");
            assert_eq!(item["count"], LIKES, "trends: {item}");
        }

        // Who follows nobody is shown what is fresh and what rises, and of those a busy server leaves out what is late.
        let begun = Instant::now();
        let feed = loop {
            let feed = server.feed("reader").await;
            if !feed.is_empty() {
                break feed;
            }
            assert!(begun.elapsed() < PATIENCE, "a feed stays empty");
        };
        let shown: BTreeSet<String> = feed.iter().cloned().collect();
        assert_eq!(shown.len(), feed.len(), "a post is twice in a feed");
        let never_sent: Vec<&String> = shown.difference(&all).collect();
        assert!(never_sent.is_empty(), "a feed has what was never sent: {never_sent:?}");
    }
}
