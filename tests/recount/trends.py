#!/usr/bin/env python3
"""Counts what rises in GH Archive files a second time, at stated moments, and compares with a server's trends.

Sends the files in by slices of time, each through `millrace import gharchive`, into a server with `--clock replay` that it
starts itself, and after each slice compares /v1/trends/posts for 5m, 1h and 24h:

    tests/recount/trends.py --binary PATH --data DIR [--moments 10]

What must hold at each moment, for each window:
  * everything listed has exactly the count that the files give it in the window that ends at `as_of`;
  * scores are those of the formula in pipelines/src/operators/rate.rs, written again here, and nothing that scores higher
    than what is listed is missing;
  * the order is that of the scores.

Trends leave out what robots do, and from which event on somebody is one hangs on the order in which an import sends what is of
one second. So repositories that somebody touched who comes near the limits are left out here; how many is said.

Exit codes: 0 equal, 1 different (the first differences are named), 2 could not run.
"""

import argparse
import collections
import gzip
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "archive"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "robots"))
from kill import Server, free_port  # noqa: E402
from recount import CannotRun, files_in, note, report  # noqa: E402
from score import Rule  # noqa: E402
from warehouse import LATENESS, seconds  # noqa: E402

HOUR = 3600
WIDTH = {"5m": 300, "1h": HOUR, "24h": 24 * HOUR}
PAST = {"5m": HOUR, "1h": 24 * HOUR, "24h": 7 * 24 * HOUR}
COUNTED = {"WatchEvent", "watch", "ForkEvent", "fork", "IssueCommentEvent", "icomment"}
# What else is done on purpose: a push by the owner is an edit.
PUSHES = {"PushEvent", "push"}
COUNT_MIN = 3
LISTED = 50
# Scores are cut to thousandths.
ROUNDING = 0.002


def bound(count, past, q):
    """-log10 of the Chernoff-Hoeffding bound on the tail of a binomial."""
    everything = count + past
    p = count / everything
    if p <= q:
        return 0.0
    rest = (1 - p) * math.log((1 - p) / (1 - q)) if past > 0 else 0.0
    return everything * (p * math.log(p / q) + rest) / math.log(10)


def score(count, past, width, past_width):
    share = lambda w, before: 2 * w / (2 * w + before)
    known = bound(count, past, share(width, past_width)) if past_width > 0 else 0.0
    if past_width >= width:
        return known
    imagined = bound(count, past + 1, share(width, width))
    return max(known, imagined / (1 + imagined))


def past_begin(window, as_of):
    return (as_of - WIDTH[window] - PAST[window]) // HOUR * HOUR


def names_of(event):
    repo = event["repo"]["name"] if isinstance(event["repo"], dict) else event["repo"]
    actor = event["actor"]["login"] if isinstance(event["actor"], dict) else event["actor"]
    return repo, actor


def doubtful(events):
    """The repositories of which something counted may be a robot's."""
    rule, seen = Rule(room=0.5), set()
    for when, _, event in events:
        repo, actor = names_of(event)
        owner, now = repo.split("/")[0], int(when * 1_000_000)
        if repo not in seen:
            seen.add(repo)
            rule.act(owner, "post_created", now, False)
        if event["type"] in COUNTED or (event["type"] in PUSHES and actor == owner):
            rule.act(actor, "post_liked", now, False)
    named = (names_of(event) for _, _, event in events if event["type"] in COUNTED)
    return {repo for repo, actor in named if actor in rule.marked}


class Truth:
    def __init__(self, first, doubtful):
        self.first = first
        self.doubtful = doubtful
        self.times = collections.defaultdict(list)

    def scores(self, window, as_of):
        width = WIDTH[window]
        begin = past_begin(window, as_of)
        known = as_of - width - max(begin - 1, self.first)
        step = width // 60
        # A partition knows the past from the first time that it was told, which run() makes the first second for all.
        past_width = max(known, 0) // step * step
        found = {}
        for post, times in self.times.items():
            count = sum(as_of - width < at <= as_of for at in times)
            if count >= COUNT_MIN:
                past = sum(begin <= at <= as_of - width for at in times)
                found[post] = (score(count, past, width, past_width), count)
        return found


def compare(truth, answer, window):
    as_of = seconds(answer["as_of"])
    want = truth.scores(window, int(as_of))
    differences = []
    listed = [item["post_id"] for item in answer["items"]]
    for item in answer["items"]:
        if item["post_id"] in truth.doubtful:
            continue
        have = (item["score"], item["count"])
        expected = want.get(item["post_id"])
        if expected is None:
            differences.append(f"{item['post_id']} is listed with {have} and should not be")
        elif expected[1] != have[1]:
            differences.append(f"{item['post_id']} has {have[1]} instead of {expected[1]} events")
        elif abs(have[0] - expected[0]) > ROUNDING:
            differences.append(f"{item['post_id']} scores {have[0]:.3f} instead of {expected[0]:.3f}")
    order = [item["score"] for item in answer["items"]]
    if order != sorted(order, reverse=True):
        differences.append("the order is not that of the scores")
    least = order[-1] if len(listed) == LISTED else 0.0
    for post, (wanted, _) in want.items():
        if post not in listed and post not in truth.doubtful and wanted - ROUNDING > least:
            differences.append(f"{post} scores {wanted:.3f} and is not listed; the least listed has {least:.3f}")
    return [f"{window} at {answer['as_of']}: {d}" for d in differences], len(listed)


def read(folder):
    """Every event with its line, in the order of time; one second may hold several, in the order of the files."""
    events = []
    for path in files_in(folder):
        opener = gzip.open if path.endswith(".gz") else open
        with opener(path, "rb") as lines:
            for line in lines:
                if line.strip():
                    event = json.loads(line)
                    events.append((seconds(event.get("created_at") or event["dt"]), line.rstrip(b"\n"), event))
    events.sort(key=lambda e: e[0])
    return events


def wait_at_rest(server):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.is_at_rest():
            return
        time.sleep(0.1)
    raise CannotRun("the jobs did not come to rest")


def run(args, folder):
    events = read(args.data)
    data = os.path.join(folder, "data")
    os.mkdir(data)
    server = Server(args.binary, data, free_port(), ["--clock", "replay"])
    server.start()
    truth = Truth(int(events[0][0]), doubtful(events))
    print(f"  left out, as robots may have touched them: {len(truth.doubtful)} repositories", flush=True)
    differences, compared = [], 0
    try:
        # The first second goes alone: at rest, every partition was told it, whichever batch of an import arrives first.
        edges = [1] + [len(events) * (n + 1) // args.moments for n in range(args.moments)]
        at, newest = 0, -math.inf
        for edge in edges:
            # A moment is whole: everything of its second is in.
            while edge < len(events) and events[edge][0] == events[edge - 1][0]:
                edge += 1
            part = os.path.join(folder, "slice.ndjson")
            with open(part, "wb") as out:
                for when, line, event in events[at:edge]:
                    out.write(line + b"\n")
                    newest = max(newest, when)
                    if event["type"] in COUNTED:
                        repo, _ = names_of(event)
                        if newest - when > LATENESS:
                            raise CannotRun("the events are not in the order of time")
                        truth.times[repo].append(int(when))
            at = edge
            url = f"http://127.0.0.1:{server.port}"
            done = subprocess.run([args.binary, "import", "gharchive", part, "--to", url, "--wait"], capture_output=True, text=True)
            if done.returncode != 0:
                raise CannotRun(f"the import ended with {done.returncode}: {done.stderr[-500:]}")
            wait_at_rest(server)
            listed = []
            for window in WIDTH:
                path = f"/v1/trends/posts?{urllib.parse.urlencode({'window': window, 'limit': LISTED})}"
                status, body = server.request("GET", path)
                if status != 200:
                    raise CannotRun(f"GET {path} was answered with {status}: {body[:300]!r}")
                answer = json.loads(body)
                if int(seconds(answer["as_of"])) != int(newest):
                    differences.append(f"{window}: as_of is {answer['as_of']}, the newest event is of {newest}")
                found, n = compare(truth, answer, window)
                differences += found
                listed.append(f"{window} {n}")
                compared += n
            print(f"  {answer['as_of']}: {at} events; listed {', '.join(listed)}", flush=True)
    finally:
        server.kill(signal.SIGKILL)
    return report(differences, f"equal: {compared} listed posts at {len(edges)} moments")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, metavar="PATH")
    parser.add_argument("--data", required=True, metavar="DIR", help="the folder with the *.ndjson.gz files")
    parser.add_argument("--moments", type=int, default=10, metavar="N")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="millrace-trends-")
    try:
        return run(args, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, ValueError, KeyError) as error:
        note(f"trends recount: cannot run: {type(error).__name__}: {error}")
        sys.exit(2)
