#!/usr/bin/env python3
"""Counts GH Archive files a second time, in another language and with no code in common, and compares with a server.

Run it after `millrace import gharchive FILE… --wait`:

    tests/recount/recount.py --data DIR --to http://127.0.0.1:8080 --admin-token "$(cat data/admin-token)"

What must hold:
  * the log's `actions` topic has every event once, under the name that ingest/simulator/README.md gives it, by the right
    actor; after importing everything again (--expect-duplicates) every event twice or more, each copy the same; after an
    import that was cut short and repeated (--allow-duplicates) every event at least once;
  * the likes, shares and comments of each repository are those of the files, and nothing else was counted.
A like is a state of (actor, repository): starring twice is one like.

Exit codes: 0 equal, 1 different (the first differences are named), 2 could not run.
"""

import argparse
import collections
import concurrent.futures
import gzip
import http.client
import json
import os
import random
import sys
import threading
import time
import urllib.parse

# Type in the full format, type in the compact one, name of the action. A push is decided by who pushes.
NAMES = [
    ("WatchEvent", "watch", "post_liked"),
    ("ForkEvent", "fork", "post_shared"),
    ("IssueCommentEvent", "icomment", "post_commented"),
    ("PushEvent", "push", None),
    ("CreateEvent", "create", "repo_ref_created"),
    ("DeleteEvent", "del", "repo_ref_deleted"),
    ("IssuesEvent", "issue", "repo_issue_changed"),
    ("PullRequestEvent", "pr", "repo_pull_request_changed"),
    ("PullRequestReviewCommentEvent", "prcomment", "repo_code_reviewed"),
    ("CommitCommentEvent", "ccomment", "repo_commit_commented"),
    ("GollumEvent", "golem", "repo_wiki_edited"),
    ("ReleaseEvent", "release", "repo_released"),
    ("MemberEvent", "member", "repo_member_added"),
    ("PublicEvent", "public", "repo_made_public"),
]
NAME_OF = {kind: name for full, compact, name in NAMES for kind in (full, compact)}
DIFFERENCES_SHOWN = 10
PAGE = 1000


class CannotRun(Exception):
    pass


class Expected:
    """What the files say."""

    def __init__(self):
        self.messages = {}  # message id -> (action, actor)
        self.likers = collections.defaultdict(set)
        self.shares = collections.Counter()
        self.comments = collections.Counter()
        self.repos = set()
        self.events = 0

    def add_file(self, path):
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rb") as lines:
            for line in lines:
                if line.strip():
                    self.add(json.loads(line))

    def add(self, event):
        kind = event["type"]
        if "created_at" in event:
            actor, repo = event["actor"]["login"], event["repo"]["name"]
        else:
            actor, repo = event["actor"], event["repo"]
        owner = repo.partition("/")[0]
        if kind not in NAME_OF:
            raise CannotRun(f"the files hold a type that this script does not know: {kind}")
        action = NAME_OF[kind] or ("post_edited" if actor == owner else "repo_pushed")
        if repo not in self.repos:
            self.repos.add(repo)
            self.messages["gh-repo-" + repo] = ("post_created", owner)
        if "gh-" + event["id"] in self.messages:
            raise CannotRun(f"event {event['id']} is in the files twice")
        self.messages["gh-" + event["id"]] = (action, actor)
        self.events += 1
        if action == "post_liked":
            self.likers[repo].add(actor)
        elif action == "post_shared":
            self.shares[repo] += 1
        elif action == "post_commented":
            self.comments[repo] += 1

    def totals(self, repo):
        """The engagement of one repository; an action that does not occur in the files must count nothing."""
        return {
            "likes": len(self.likers.get(repo, ())),
            "shares": self.shares.get(repo, 0),
            "comments": self.comments.get(repo, 0),
            "views": 0,
            "unique_viewers": 0,
            "clicks": 0,
            "saves": 0,
            "hides": 0,
            "reports": 0,
        }


class Refused(CannotRun):
    """An answer that says no."""

    def __init__(self, path, status, body):
        super().__init__(f"GET {path} was answered with {status}: {body[:500].decode(errors='replace')}")
        self.status, self.body = status, body


class Server:
    """One connection for each thread, kept open: there are tens of thousands of small requests."""

    def __init__(self, url, admin_token, api_token):
        self.at = urllib.parse.urlsplit(url)
        self.admin_token = admin_token
        self.api_token = api_token
        self.local = threading.local()

    def get(self, path, token=None):
        headers = {"Authorization": "Bearer " + token} if token else {}
        for attempt in range(5):
            try:
                if getattr(self.local, "connection", None) is None:
                    self.local.connection = http.client.HTTPConnection(self.at.hostname, self.at.port or 80, timeout=30)
                self.local.connection.request("GET", path, headers=headers)
                response = self.local.connection.getresponse()
                body = response.read()
                if response.status == 503:
                    time.sleep(1)
                    continue
                if response.status != 200:
                    raise Refused(path, response.status, body)
                return response, body
            except (OSError, http.client.HTTPException) as error:
                self.local.connection = None
                if attempt == 4:
                    raise CannotRun(f"cannot reach {self.at.geturl()}: {error}") from error
        raise CannotRun(f"GET {path} was answered with 503 again and again")

    def status(self):
        return json.loads(self.get("/v1/status", self.api_token)[1])

    def wait_until_caught_up(self, seconds):
        deadline = time.monotonic() + seconds
        while not self.status()["caught_up"]:
            if time.monotonic() > deadline:
                raise CannotRun(f"the jobs did not catch up within {seconds} s")
            time.sleep(0.2)

    def actions(self):
        """Every record of the topic, partition by partition."""
        for partition, held in sorted(self.status()["log"]["actions"].items(), key=lambda item: int(item[0])):
            at = held.get("start", 0)
            while at < held["end"]:
                path = f"/v1/log/actions?partition={partition}&from={at}&limit={PAGE}"
                response, body = self.get(path, self.admin_token)
                for line in body.splitlines():
                    yield json.loads(line)
                after = int(response.headers["x-millrace-next-offset"])
                if after <= at:
                    raise CannotRun(f"partition {partition} of actions ends at {at}, before its end {held['end']}")
                at = after

    def engagement(self, post):
        return json.loads(self.get(f"/v1/posts/{urllib.parse.quote(post, safe='')}/engagement", self.api_token)[1])


def note(text):
    print(text, file=sys.stderr, flush=True)


def compare_log(expected, server, least, most):
    """The differences between the files and the log, and what else the log holds."""
    copies = collections.Counter()
    by_action = collections.Counter()
    others = 0
    differences = []
    for record in server.actions():
        if record["type"] == "tick":
            continue
        message = record.get("message_id", "")
        want = expected.messages.get(message)
        if want is None:
            if message.startswith("gh-"):
                differences.append(f"{message} ({record.get('event')}) is in the log and not in the files")
            others += 1
            continue
        copies[message] += 1
        by_action[record.get("event")] += copies[message] == 1
        have = (record.get("event"), record.get("user_id"))
        if have != want:
            differences.append(f"{message}: the log says {have}, the files {want}")
    for message, want in expected.messages.items():
        times = copies[message]
        if times == 0:
            differences.append(f"{message} ({want[0]} by {want[1]}) is not in the log")
        elif times > most:
            differences.append(f"{message} is in the log {times} times")
        elif times < least:
            differences.append(f"{message} is in the log once: was everything imported again?")
    want_by_action = collections.Counter(action for action, _ in expected.messages.values())
    for action in sorted(want_by_action.keys() | by_action.keys()):
        mark = "" if by_action[action] == want_by_action[action] else "   <-- different"
        print(f"  {action:<28} log {by_action[action]:>8}   files {want_by_action[action]:>8}{mark}")
        if mark:
            differences.append(f"{action}: {by_action[action]} in the log, {want_by_action[action]} in the files")
    print(f"  copies beyond the first: {copies.total() - len(copies)}, records of other origin: {others}")
    return differences


def compare_engagement(expected, server, repos, threads):
    """The differences between the files and the counters of `repos`."""

    def compare(repo):
        have = server.engagement(repo)
        want = expected.totals(repo)
        # What the server counts beside these is its own business.
        totals = {name: have["totals"].get(name) for name in want}
        found = []
        if totals != want:
            wrong = ", ".join(f"{n} {totals[n]} instead of {want[n]}" for n in want if totals[n] != want[n])
            found.append(f"{repo}: {wrong}")
        owner = repo.partition("/")[0]
        if have["author_id"] != owner:
            found.append(f"{repo}: author {have['author_id']} instead of {owner}")
        return found, totals

    differences = []
    sums = collections.Counter()
    done = 0
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for found, totals in pool.map(compare, repos, chunksize=64):
            differences += found
            sums.update({name: count or 0 for name, count in totals.items()})
            done += 1
            if done % 10000 == 0:
                note(f"{done} of {len(repos)} repositories compared")
    print(f"  {len(repos)} repositories: {sums['likes']} likes, {sums['shares']} shares, {sums['comments']} comments")
    return differences


def parser_of(doc):
    """What every recount with a running server is told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    env = os.environ
    parser.add_argument("--data", required=True, metavar="DIR", help="the folder with the *.ndjson.gz files")
    parser.add_argument("--to", default=env.get("MILLRACE_TO", "http://127.0.0.1:8080"), metavar="URL")
    parser.add_argument("--admin-token", default=env.get("MILLRACE_ADMIN_TOKEN", ""), metavar="T")
    parser.add_argument("--api-token", default=env.get("MILLRACE_API_TOKEN", ""), metavar="T")
    return parser


def files_in(folder):
    """The GH Archive files of a folder, in the order of time."""
    found = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith((".ndjson", ".ndjson.gz")))
    if not found:
        raise CannotRun(f"no *.ndjson.gz in {folder}")
    return found


def report(differences, equal="equal"):
    """Prints the outcome; answers the exit code."""
    if not differences:
        print(equal)
        return 0
    print(f"different in {len(differences)} places, the first of them:")
    for difference in differences[:DIFFERENCES_SHOWN]:
        print("  " + difference)
    return 1


def arguments():
    parser = parser_of(__doc__)
    copies = parser.add_mutually_exclusive_group()
    copies.add_argument("--expect-duplicates", action="store_true", help="everything was imported more than once")
    copies.add_argument("--allow-duplicates", action="store_true", help="some of it may have been sent more than once")
    parser.add_argument("--sample", type=int, metavar="N", help="compare the counters of only N repositories, by a fixed draw")
    parser.add_argument("--skip-log", action="store_true", help="compare counters only")
    parser.add_argument("--threads", type=int, default=4, metavar="N")
    parser.add_argument("--wait", type=float, default=120, metavar="SECONDS", help="for the jobs to catch up (default 120)")
    return parser.parse_args()


def main():
    args = arguments()
    files = files_in(args.data)
    expected = Expected()
    for path in files:
        expected.add_file(path)
    print(f"{len(files)} files: {expected.events} events of {len(expected.repos)} repositories")
    server = Server(args.to, args.admin_token, args.api_token)
    server.wait_until_caught_up(args.wait)
    differences = []
    if not args.skip_log:
        print("the log, by action:")
        least = 2 if args.expect_duplicates else 1
        most = sys.maxsize if args.expect_duplicates or args.allow_duplicates else 1
        differences += compare_log(expected, server, least, most)
    repos = sorted(expected.repos)
    if args.sample is not None and args.sample < len(repos):
        repos = random.Random(1).sample(repos, args.sample)
    print("the counters:")
    differences += compare_engagement(expected, server, repos, args.threads)
    return report(differences)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, ValueError, KeyError) as error:
        note(f"recount: cannot run: {type(error).__name__}: {error}")
        sys.exit(2)
