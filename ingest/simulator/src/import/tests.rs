use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;

fn file(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(content).unwrap();
    out.finish().unwrap()
}

/// Imports `lines` as one file and returns (event, user, message id, properties) of each call.
fn github(lines: &str) -> Vec<(String, String, String, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.ndjson", lines.as_bytes());
    gharchive::calls(vec![path])
        .map(|call| {
            let call = call.unwrap();
            let properties = serde_json::from_str(&call.properties).unwrap();
            (call.event.into_owned(), call.user_id, call.message_id, properties)
        })
        .collect()
}

fn compact(event_type: &str, actor: &str) -> String {
    json!({"id": "5", "dt": "2015-02-22T21:00:00Z", "repo": "ann/app", "type": event_type, "actor": actor}).to_string()
}

fn full(event_type: &str, actor: &str) -> String {
    json!({"id": "5", "type": event_type, "actor": {"id": 1, "login": actor}, "repo": {"id": 2, "name": "ann/app"},
        "payload": {"size": 3, "commits": [{"sha": "x"}]}, "public": true, "created_at": "2015-01-01T00:00:00Z"})
    .to_string()
}

#[test]
fn each_type_becomes_its_action_in_both_formats() {
    #[track_caller]
    fn check(compact_type: &str, full_type: &str, actor: &str, event: &str) {
        for line in [compact(compact_type, actor), full(full_type, actor)] {
            let calls = github(&line);
            assert_eq!(calls.len(), 2, "the made-up post and the event");
            let (name, user, id, properties) = &calls[1];
            assert_eq!((name.as_str(), user.as_str(), id.as_str()), (event, actor, "gh-5"));
            assert_eq!(properties["post_id"], "ann/app");
        }
    }
    check("watch", "WatchEvent", "bob", "post_liked");
    check("fork", "ForkEvent", "bob", "post_shared");
    check("icomment", "IssueCommentEvent", "ann", "post_commented");
    check("push", "PushEvent", "ann", "post_edited");
    check("push", "PushEvent", "bob", "repo_pushed");
    check("push", "PushEvent", "Ann", "repo_pushed");
    check("create", "CreateEvent", "ann", "repo_ref_created");
    check("del", "DeleteEvent", "ann", "repo_ref_deleted");
    check("issue", "IssuesEvent", "bob", "repo_issue_changed");
    check("pr", "PullRequestEvent", "bob", "repo_pull_request_changed");
    check("prcomment", "PullRequestReviewCommentEvent", "bob", "repo_code_reviewed");
    check("ccomment", "CommitCommentEvent", "bob", "repo_commit_commented");
    check("golem", "GollumEvent", "bob", "repo_wiki_edited");
    check("release", "ReleaseEvent", "ann", "repo_released");
    check("member", "MemberEvent", "ann", "repo_member_added");
    check("public", "PublicEvent", "ann", "repo_made_public");
    check("SponsorEvent", "SponsorEvent", "ann", "repo_sponsor_event");
}

#[test]
fn a_repository_is_announced_once_before_its_first_event() {
    let calls = github(&[compact("watch", "bob"), compact("fork", "cy"), full("PushEvent", "ann")].join("\n"));
    let names: Vec<&str> = calls.iter().map(|call| call.0.as_str()).collect();
    assert_eq!(names, ["post_created", "post_liked", "post_shared", "post_edited"]);
    let (_, author, id, properties) = &calls[0];
    assert_eq!((author.as_str(), id.as_str()), ("ann", "gh-repo-ann/app"));
    let content = json!({"post_id": "ann/app", "text": "ann/app", "kind": "link", "url": "https://github.com/ann/app"});
    assert_eq!(properties, &content);
    let mut edited = content;
    edited["commits"] = json!(3);
    assert_eq!(calls[3].3, edited, "an edit repeats the content, or it would be emptied");
}

#[test]
fn details_are_kept_where_they_mean_something() {
    let with_action =
        |name: &str| format!("{}\n", compact(name, "bob").replace("\"type\"", "\"action\":\"opened\",\"type\""));
    let calls = github(&(with_action("watch") + &with_action("issue") + &with_action("icomment")));
    assert_eq!(calls[1].3, json!({"post_id": "ann/app"}));
    assert_eq!(calls[2].3, json!({"post_id": "ann/app", "action": "opened"}));
    assert_eq!(calls[3].3, json!({"post_id": "ann/app", "comment_id": "gh-5"}));
}

#[test]
fn files_come_in_the_order_given_plain_or_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let line = |id: &str| compact("watch", "bob").replace("\"5\"", &format!("\"{id}\"")) + "\n";
    let paths = vec![
        file(&dir, "b.ndjson.gz", &gz((line("1") + "\n" + &line("2")).as_bytes())),
        file(&dir, "a", line("3").as_bytes()),
        // Two members in one file, as `cat a.gz b.gz` makes it.
        file(&dir, "c", &[gz(line("4").as_bytes()), gz(line("5").as_bytes())].concat()),
        file(&dir, "empty", b""),
    ];
    let ids: Vec<String> = gharchive::calls(paths).map(|call| call.unwrap().message_id).collect();
    assert_eq!(ids, ["gh-repo-ann/app", "gh-1", "gh-2", "gh-3", "gh-4", "gh-5"]);
}

#[test]
fn a_bad_line_is_named_and_costs_only_itself() {
    #[track_caller]
    fn check(line: &[u8], reason: &str) {
        let dir = tempfile::tempdir().unwrap();
        let good = compact("watch", "bob");
        let path = file(&dir, "a", &[good.as_bytes(), b"\n", line, b"\n", good.as_bytes()].concat());
        let mut calls = gharchive::calls(vec![path]).skip(2);
        let error = calls.next().unwrap().unwrap_err();
        assert!(error.is_one_line());
        assert!(error.to_string().contains("a:2: ") && error.to_string().contains(reason), "{error}");
        assert!(calls.next().unwrap().is_ok());
        assert!(calls.next().is_none());
    }
    let good = compact("watch", "bob");
    check(b"garbage", "not an event of GH Archive");
    check(b"[1,2]", "not an event of GH Archive");
    check(b"\xff\xfe", "not an event of GH Archive");
    check(good.replace("ann/app", "no-owner").as_bytes(), "not owner/name");
    check(good.replace("ann/app", "/app").as_bytes(), "not owner/name");
    check(good.replace("bob", "").as_bytes(), "actor must not be empty");
    check(good.replace("2015-02-22T21:00:00Z", "yesterday").as_bytes(), "time: not an RFC 3339");
    check(good.replace("ann/app", &format!("ann/{}", "x".repeat(195))).as_bytes(), "must leave room");
    check(&vec![b'x'; LINE_BYTES_MAX + 10], "longer than");
}

#[test]
fn a_missing_file_ends_with_its_name() {
    let error = gharchive::calls(vec![PathBuf::from("no-such-file")]).next().unwrap().unwrap_err();
    assert!(!error.is_one_line());
    assert_eq!(error.to_string(), "cannot read no-such-file");
}

fn segment(lines: &str) -> Vec<crate::Outgoing> {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "calls.ndjson", lines.as_bytes());
    segment::calls(vec![path]).map(Result::unwrap).collect()
}

#[test]
fn a_segment_call_goes_out_as_it_stands() {
    #[track_caller]
    fn check(line: &str, key: &str) {
        let out = segment(line);
        assert_eq!(out[0].key, key);
        assert_eq!(out[0].json, line.as_bytes());
    }
    check(r#"{"type":"track","messageId":"m","userId":"ann","event":"x","properties":{"n":1.10}}"#, "ann");
    check(r#"{"type":"page","messageId":"m","userId":null,"anonymousId":"a1"}"#, "a1");
    check(r#"{"type":"track","messageId":7,"userId":12,"event":"x"}"#, "12");
    check(r#"{"type":"track","messageId":"m"}"#, "");
}

#[test]
fn a_segment_call_without_an_id_gets_the_same_one_each_time() {
    let lines =
        "{\"type\":\"track\",\"userId\":\"ann\",\"n\":1.10}\n{\"type\":\"track\",\"userId\":\"ann\",\"n\":1.10}";
    let first = segment(lines);
    assert_eq!(first, segment(lines));
    let ids: Vec<Value> =
        first.iter().map(|out| serde_json::from_slice::<Value>(&out.json).unwrap()["messageId"].clone()).collect();
    assert!(ids[0].is_string() && ids[0] != ids[1], "equal lines are two events: {ids:?}");
    assert!(String::from_utf8_lossy(&first[0].json).contains("1.10"), "numbers are kept as written");
}

#[test]
fn when_it_was_sent_is_not_passed_on() {
    let out = segment(r#"{"messageId":"m","sentAt":"2020-01-01T00:00:00Z","timestamp":"2019-01-01T00:00:00Z"}"#);
    let json: Value = serde_json::from_slice(&out[0].json).unwrap();
    assert_eq!(json, json!({"messageId": "m", "timestamp": "2019-01-01T00:00:00Z"}));
    assert_eq!(out[0].time_us, Some(1_546_300_800_000_000));
}

/// The folder with the public data sets, named by `MILLRACE_REAL_DATA`.
fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("MILLRACE_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set MILLRACE_REAL_DATA to the folder that holds gharchive/ to run this test");
    }
    folder
}

#[test]
fn the_seven_files_of_gh_archive_have_the_known_number_of_events() {
    let Some(folder) = real_data() else { return };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder.join("gharchive")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut events = 0;
    for call in gharchive::calls(paths) {
        let call = call.unwrap();
        events += u64::from(!call.message_id.starts_with("gh-repo-"));
        *counts.entry(call.event.into_owned()).or_default() += 1;
    }
    assert_eq!(events, 15_129 + 127_397);
    assert_eq!(counts["post_liked"], 1_291 + 9_327);
    assert_eq!(counts["post_shared"], 435 + 4_149);
    assert_eq!(counts["post_commented"], 1_301 + 14_113);
    assert_eq!(counts["post_edited"] + counts["repo_pushed"], 8_430 + 64_424);
}
