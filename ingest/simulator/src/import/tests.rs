use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_events::{Micros, parse_rfc3339};
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
    assert_eq!(out[0].due_us, Some(1_546_300_800_000_000));
}

fn xml(dir: &tempfile::TempDir, root: &str, rows: &str) -> PathBuf {
    let content = format!("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<{root}>\n{rows}\n</{root}>");
    file(dir, &format!("{root}.xml.gz"), &gz(content.as_bytes()))
}

/// Imports `rows` as one file of `root` and returns each call as JSON.
fn stack(root: &str, rows: &str) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let path = xml(&dir, root, rows);
    stackexchange::calls(vec![path]).map(|call| serde_json::from_slice(&call.unwrap().encode().json).unwrap()).collect()
}

#[test]
fn each_kind_of_row_becomes_its_action() {
    #[track_caller]
    fn check(root: &str, row: &str, expected: Value) {
        let mut expected = expected;
        expected["type"] = json!("track");
        assert_eq!(stack(root, row), [expected]);
    }
    let noon = r#"CreationDate="2018-03-12T12:00:00.500""#;
    let at_noon = "2018-03-12T12:00:00.5Z";
    check(
        "users",
        &format!(r#"  <row Id="-1" {noon} DisplayName="Zoë &amp; Co" Location="x" />"#),
        json!({"messageId": "se-user--1", "userId": "se-u-1", "event": "user_registered", "timestamp": at_noon,
            "properties": {"handle": "Zoë & Co", "name": "Zoë & Co"}}),
    );
    check(
        "posts",
        &format!(
            r#"<row Id="3" PostTypeId="1" {noon} OwnerUserId="7" Title="Is 1 &lt; 2?" Tags="&lt;a&gt;&lt;b-c&gt;" Body="&lt;p&gt;&quot;x&quot;&#xA;y&lt;/p&gt;" />"#
        ),
        json!({"messageId": "se-post-3", "userId": "se-u7", "event": "post_created", "timestamp": at_noon, "properties": {
            "post_id": "se-p3", "text": "Is 1 < 2?\n\n<p>\"x\"\ny</p>", "tags": ["a", "b-c"], "kind": "text"}}),
    );
    check(
        "posts",
        &format!(r#"<row Id="4" PostTypeId="2" ParentId="3" {noon} OwnerDisplayName="user12" Body="yes" />"#),
        json!({"messageId": "se-post-4", "anonymousId": "se-name-user12", "event": "post_created", "timestamp": at_noon,
            "properties": {"post_id": "se-p4", "text": "yes", "tags": [], "kind": "text", "reply_to": "se-p3"}}),
    );
    check(
        "posts",
        &format!(r#"<row Id="5" PostTypeId="4" {noon} />"#),
        json!({"messageId": "se-post-5", "anonymousId": "se-post-5-actor", "event": "wiki_written", "timestamp": at_noon,
            "properties": {"post_id": "se-p5", "post_type": "4"}}),
    );
    check(
        "comments",
        &format!(r#"<row Id="9" PostId="3" Text="why&#x3F;" {noon} UserId="26" />"#),
        json!({"messageId": "se-comment-9", "userId": "se-u26", "event": "post_commented", "timestamp": at_noon,
            "properties": {"post_id": "se-p3", "comment_id": "se-c9", "text": "why?"}}),
    );
    check(
        "badges",
        r#"<row Id="1" UserId="13" Name="Informed" Date="2018-03-12T12:00:00.500" Class="3" TagBased="False" />"#,
        json!({"messageId": "se-badge-1", "userId": "se-u13", "event": "badge_awarded", "timestamp": at_noon,
            "properties": {"badge": "Informed"}}),
    );
    check(
        "postlinks",
        &format!(r#"<row Id="1" {noon} PostId="7" RelatedPostId="3" LinkTypeId="1" />"#),
        json!({"messageId": "se-link-1", "anonymousId": "se-link-1-actor", "event": "post_linked", "timestamp": at_noon,
            "properties": {"post_id": "se-p7", "target_post_id": "se-p3", "link_type": "1"}}),
    );
    assert_eq!(stack("tags", r#"<row Id="1" TagName="simulation" Count="26" />"#), Vec::<Value>::new());
}

#[test]
fn a_vote_is_a_like_only_when_the_voter_is_known() {
    #[track_caller]
    fn check(kind: u32, voter: &str, event: &str, properties: Value) {
        let row =
            format!(r#"<row Id="8" PostId="3" VoteTypeId="{kind}" {voter} CreationDate="2018-03-12T00:00:00.000" />"#);
        let call = stack("votes", &row).remove(0);
        assert_eq!((&call["event"], &call["properties"]), (&json!(event), &properties));
        assert_eq!(call["messageId"], "se-vote-8");
        assert_eq!(call["timestamp"], "2018-03-12T23:59:59.999Z", "the end of the day that is all the dump says");
        let actor = if voter.is_empty() { "anonymousId" } else { "userId" };
        assert!(call[actor].is_string(), "{call}");
    }
    let voted = |vote: &str| json!({"post_id": "se-p3", "vote": vote});
    check(2, r#"UserId="4""#, "post_liked", json!({"post_id": "se-p3"}));
    check(2, "", "post_voted", voted("up"));
    check(3, "", "post_voted", voted("down"));
    check(3, r#"UserId="4""#, "post_voted", voted("down"));
    check(5, r#"UserId="4""#, "post_saved", json!({"post_id": "se-p3"}));
    check(8, r#"UserId="4""#, "post_voted", voted("bounty_start"));
    check(99, "", "post_voted", voted("type_99"));
}

#[test]
fn rows_of_all_files_come_in_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: u32, second: u32, rest: &str| {
        format!(r#"<row Id="{id}" CreationDate="2018-01-01T00:00:{second:02}.000" {rest} />"#)
    };
    let comment = r#"PostId="1" UserId="1" Text="t""#;
    let post = r#"PostTypeId="1" OwnerUserId="1" Title="t" Body="b""#;
    let paths = vec![
        xml(&dir, "comments", &[row(1, 9, comment), row(2, 3, comment), row(3, 5, comment)].join("\n")),
        xml(&dir, "posts", &[row(1, 3, post), row(2, 4, post)].join("\n")),
        xml(&dir, "users", &[row(5, 3, ""), row(6, 1, "")].join("\n")),
    ];
    let ids = |paths: Vec<PathBuf>| -> Vec<String> {
        stackexchange::calls(paths).map(|call| call.unwrap().message_id).collect()
    };
    let by_time = ["se-user-6", "se-user-5", "se-post-1", "se-comment-2", "se-post-2", "se-comment-3", "se-comment-1"];
    assert_eq!(ids(paths.clone()), by_time);
    assert_eq!(ids(paths.into_iter().rev().collect()), by_time, "whichever file is named first");
}

#[test]
fn a_bad_row_is_named_and_costs_only_itself() {
    #[track_caller]
    fn check(bad: &str, reason: &str) {
        let dir = tempfile::tempdir().unwrap();
        let good = r#"<row Id="1" CreationDate="2018-01-01T00:00:00" DisplayName="a" />"#;
        let path = xml(&dir, "users", &format!("{good}\n{bad}\n{}", good.replace("\"1\"", "\"2\"")));
        let (good, bad): (Vec<_>, Vec<_>) = stackexchange::calls(vec![path]).partition(Result::is_ok);
        assert_eq!((good.len(), bad.len()), (2, 1));
        let error = bad.into_iter().next().unwrap().unwrap_err();
        assert!(error.is_one_line());
        assert!(error.to_string().contains(":4: ") && error.to_string().contains(reason), "{error}");
    }
    check("garbage", "not a <row …/>");
    check("<rows Id=\"1\" />", "not a <row …/>");
    check("<row Id=\"3\" DisplayName=\"a\" />", "no CreationDate");
    check("<row CreationDate=\"2018-01-01T00:00:00\" />", "no Id");
    check("<row Id=\"x\" CreationDate=\"2018-01-01T00:00:00\" />", "\"x\" is not a number");
    check("<row Id=\"3\" CreationDate=\"yesterday\" />", "CreationDate");
    check("<row Id=\"3\" CreationDate=\"2018-01-01T00:00:00\" DisplayName=\"&nope;\" />", "DisplayName");
    check("<row Id=\"3\" Id=\"3\" />", "not a row");
    check("<row Id=\"3 />", "not a row");
    check(&format!("<row Id=\"{}\" />", "1".repeat(LINE_BYTES_MAX)), "longer than");
}

#[test]
fn a_file_that_is_no_dump_is_the_end_and_one_that_is_cut_short_is_said() {
    #[track_caller]
    fn check(content: &str, calls: usize, is_one_line: bool, reason: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "a.xml", content.as_bytes());
        let (good, bad): (Vec<_>, Vec<_>) = stackexchange::calls(vec![path]).partition(Result::is_ok);
        assert_eq!((good.len(), bad.len()), (calls, 1));
        let error = bad.into_iter().next().unwrap().unwrap_err();
        assert_eq!(error.is_one_line(), is_one_line);
        let why = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(why.contains(reason), "{why}");
    }
    check("", 0, false, "is empty");
    check("{\"type\":\"track\"}", 0, false, "does not begin with an XML element");
    check("<posthistory>\n</posthistory>", 0, false, "only users, posts, comments");
    let row = r#"<row Id="1" CreationDate="2018-01-01T00:00:00" />"#;
    check(&format!("<?xml version=\"1.0\"?><users>\n{row}\n"), 1, true, "a.xml:2: the file is cut short after this");
    let dir = tempfile::tempdir().unwrap();
    let many = vec![xml(&dir, "users", row); stackexchange::FILES_MAX + 1];
    let error = stackexchange::calls(many).next().unwrap().unwrap_err();
    assert!(!error.is_one_line());
}

#[test]
fn a_recording_is_moved_to_now_and_its_distances_divided() {
    let second = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let row = |id: u32, at: &str| format!(r#"<row Id="{id}" CreationDate="2018-01-01T00:{at}" />"#);
    let path = xml(&dir, "users", &[row(1, "00:00"), row(2, "00:30"), row(3, "10:00")].join("\n"));
    let start_us = 1_700_000_000 * second;
    let mut retime = Retime::new(60.0, start_us);
    let times: Vec<Micros> =
        stackexchange::calls(vec![path]).map(|call| retime.call(call.unwrap()).time_us - start_us).collect();
    assert_eq!(times, [0, second / 2, 10 * second]);
    let mut slow = Retime::new(0.5, start_us);
    let path = xml(&dir, "users", &[row(1, "00:01"), row(2, "00:00")].join("\n"));
    let calls: Vec<crate::Call> = stackexchange::calls(vec![path]).map(|call| slow.call(call.unwrap())).collect();
    assert_eq!(calls[1].time_us - start_us, 2 * second);
    assert_eq!(calls[1].due_us, calls[1].time_us);
}

#[test]
fn a_re_timed_segment_call_keeps_how_late_and_how_misdated_it_was() {
    let retimed = |lines: &str, speed: f64| -> Vec<(Option<Micros>, Value)> {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "calls.ndjson", lines.as_bytes());
        let start_us = parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        segment::calls(vec![path])
            .retimed(Retime::new(speed, start_us))
            .map(Result::unwrap)
            .map(|out| (out.due_us.map(|us| us - start_us), serde_json::from_slice(&out.json).unwrap()))
            .collect()
    };
    let lines = [
        r#"{"messageId":"a","timestamp":"2019-01-01T00:00:10Z","sentAt":"2019-01-01T00:00:11Z","n":1.10}"#,
        r#"{"messageId":"b","timestamp":"2019-01-01T00:00:00Z","receivedAt":"2019-01-01T00:01:10Z"}"#,
        r#"{"messageId":"c","originalTimestamp":"2019-01-01T01:00:10Z","sentAt":"2019-01-01T01:00:20Z","receivedAt":"2019-01-01T00:01:20Z"}"#,
        r#"{"messageId":"d","timestamp":"nonsense"}"#,
        r#"{"messageId":"e"}"#,
    ];
    let out = retimed(&lines.join("\n"), 10.0);
    let dues: Vec<Option<Micros>> = out.iter().map(|(due, _)| *due).collect();
    assert_eq!(dues, [Some(0), Some(6_000_000), Some(7_000_000), None, None]);
    let jsons: Vec<Value> = out.into_iter().map(|(_, json)| json).collect();
    assert_eq!(
        jsons,
        [
            json!({"messageId": "a", "timestamp": "2026-01-01T00:00:00Z", "n": 1.10}),
            json!({"messageId": "b", "timestamp": "2025-12-31T23:59:59Z"}),
            json!({"messageId": "c", "originalTimestamp": "2026-01-01T00:06:00Z", "sentAt": "2026-01-01T00:06:01Z"}),
            json!({"messageId": "d", "timestamp": "nonsense"}),
            json!({"messageId": "e"}),
        ]
    );
}

/// The folder with the public data sets, named by `MILLRACE_REAL_DATA`.
fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("MILLRACE_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: set MILLRACE_REAL_DATA to the folder that holds the public data sets to run this test");
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

#[test]
fn the_dump_of_a_whole_site_has_the_known_numbers_and_comes_in_order() {
    let Some(folder) = real_data() else { return };
    let paths: Vec<PathBuf> = std::fs::read_dir(folder.join("stackexchange-quantum"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".xml"))
        .collect();
    assert_eq!(paths.len(), 7);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_us = Micros::MIN;
    let mut ids = std::collections::BTreeSet::new();
    for call in stackexchange::calls(paths) {
        let call = call.unwrap();
        assert!(call.time_us >= last_us);
        last_us = call.time_us;
        assert!(ids.insert(call.message_id), "a message id twice");
        *counts.entry(call.event.into_owned()).or_default() += 1;
    }
    let expected = [
        ("badge_awarded", 4_671),
        ("post_commented", 3_413),
        ("post_created", 612 + 1_060),
        ("post_linked", 327),
        ("post_saved", 710),
        ("post_voted", 12_560 - 710),
        ("user_registered", 3_461),
        ("wiki_written", 157 + 157),
    ];
    let counts: Vec<(&str, u64)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(counts, expected);
}
