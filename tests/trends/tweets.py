#!/usr/bin/env python3
"""Are real bursts found, and no false ones? Replays the tweets of one evening by the minute and looks at the trends.

    tests/trends/tweets.py --binary target/release/millrace --data DIR

DIR holds tweets.csv.gz. Each run starts a server of its own in replay time, sends one post a tweet with its hashtags,
and asks for /v1/trends/tags?window=5m after every minute. What must hold:

  * bursts: a tag that bursts by the rule below, which shares no code with the server and knows the whole evening, is
    called rising at one of the questions asked within five minutes of its true start;
  * no false ones: with the times shuffled among the tweets nothing bursts, and over all questions no more tags are
    called rising than `evaluations x 10^-3`, which is what the documentation promises for a score of 3;
  * exact: every count that is listed is that of a recount of the window that ends at `as_of`.

The rule: a tag's burst is the span of five minutes, begun by one of its uses after the first five minutes of the
evening, with at least 10 uses, at least 4 times the rate of all its time before, whose likelihood gains most from a
rate of its own (Poisson), when that gain is 15 or more in natural logarithms. Its true start is the first use in it.

Exit codes: 0 all hold, 1 something does not (it is named), 2 could not run.
"""

import argparse
import base64
import collections
import csv
import datetime
import gzip
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

WIDTH_S = 300
STEP_S = 60
RISING_SCORE = 3.0
COUNT_MIN = 3
TAGS_MAX = 32
LISTED_MAX = 100
BATCH = 500
PATIENCE_S = 60


class CannotRun(Exception):
    pass


def tweets(folder):
    """(second, actor, id, text, tags) of every tweet, in order of time."""
    path = os.path.join(folder, "tweets.csv.gz")
    try:
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error}") from error
    found = []
    for row in rows:
        at = datetime.datetime.strptime(row["created_at"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=datetime.timezone.utc)
        tags = list(dict.fromkeys(re.findall(r"#(\w+)", row["text"].lower())))[:TAGS_MAX]
        found.append((int(at.timestamp()), row["screen_name"], row["id"], row["text"], tags))
    return sorted(found, key=lambda tweet: (tweet[0], tweet[2]))


def uses(evening):
    by_tag = collections.defaultdict(list)
    for second, _, _, _, tags in evening:
        for tag in tags:
            by_tag[tag].append(second)
    return by_tag


def bursts(evening):
    """The true start of each burst, by tag."""
    begin = evening[0][0]
    found = {}
    for tag, seconds in uses(evening).items():
        best = None
        for before, start in enumerate(seconds):
            past = start - begin
            count = sum(1 for second in seconds[before:] if second < start + WIDTH_S)
            if past < WIDTH_S or count < 10 or count / WIDTH_S < 4 * (before + 1) / past:
                continue
            pooled = (before + count) / (past + WIDTH_S)
            gain = count * math.log(count / WIDTH_S / pooled)
            if before:
                gain += before * math.log(before / past / pooled)
            best = max(best or (0, 0), (gain, start))
        if best and best[0] >= 15:
            found[tag] = best[1]
    return found


def shuffled(evening, seed):
    seconds = [tweet[0] for tweet in evening]
    random.Random(seed).shuffle(seconds)
    moved = [(second, *tweet[1:]) for second, tweet in zip(seconds, evening)]
    return sorted(moved, key=lambda tweet: (tweet[0], tweet[2]))


class Server:
    """A platform of its own, on replay time."""

    def __init__(self, binary, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{listen}"
        self.log = open(os.path.join(folder, "up.log"), "wb")
        command = [binary, "up", "--listen", listen, "--data-dir", os.path.join(folder, "data"), "--clock", "replay"]
        try:
            self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        except OSError as error:
            raise CannotRun(f"cannot start {binary}: {error}") from error

    def __enter__(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                    return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            raise CannotRun(f"the server did not become ready; it said:\n{log.read()[-2000:]}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def send(self, some):
        for at in range(0, len(some), BATCH):
            body = json.dumps({"batch": [call(tweet) for tweet in some[at : at + BATCH]]}).encode()
            key = base64.b64encode(b"dev:").decode()
            headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
            request = urllib.request.Request(f"{self.url}/v1/batch", data=body, headers=headers)
            urllib.request.urlopen(request, timeout=30).close()

    def trends_at(self, second):
        """What is listed once everything up to `second` has been applied."""
        wanted = stamp(second)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            # In this order: what was caught up stays so, as nobody else sends.
            if self.get("/v1/status")["caught_up"]:
                listed = self.get(f"/v1/trends/tags?window=5m&limit={LISTED_MAX}")
                if listed["as_of"] == wanted:
                    return listed["items"]
            time.sleep(0.05)
        raise CannotRun(f"the trends did not reach {wanted} within {PATIENCE_S} seconds")


def call(tweet):
    second, actor, number, text, tags = tweet
    properties = {"post_id": f"t{number}", "text": text, "tags": tags}
    who = {"userId": actor, "messageId": number, "timestamp": stamp(second)}
    return {"type": "track", "event": "post_created", "properties": properties, **who}


def stamp(second):
    return datetime.datetime.fromtimestamp(second, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def within(seconds, as_of):
    return sum(1 for second in seconds if as_of - WIDTH_S < second <= as_of)


def replay(binary, evening):
    """Sends the evening minute by minute; first rising by tag, how many evaluations, and what was counted wrongly."""
    rising, evaluations, wrong = {}, 0, []
    by_tag = uses(evening)
    with tempfile.TemporaryDirectory(prefix="millrace-trends-") as folder, Server(binary, folder) as server:
        sent = 0
        while sent < len(evening):
            minute = (evening[sent][0] - evening[0][0]) // STEP_S
            end = sent
            while end < len(evening) and (evening[end][0] - evening[0][0]) // STEP_S == minute:
                end += 1
            server.send(evening[sent:end])
            as_of = evening[end - 1][0]
            sent = end
            counts = {tag: within(seconds, as_of) for tag, seconds in by_tag.items()}
            evaluations += sum(1 for count in counts.values() if count >= COUNT_MIN)
            for item in server.trends_at(as_of):
                where, count = f"#{item['tag']} at {stamp(as_of)}", counts[item["tag"]]
                if item["count"] != count:
                    wrong.append(f"{where}: {item['count']} listed, {count} in the file")
                if item["rising"] != (item["score"] >= RISING_SCORE):
                    wrong.append(f"{where}: rising is {item['rising']} at a score of {item['score']}")
                if item["rising"]:
                    rising.setdefault(item["tag"], (as_of, item["score"]))
            if sys.stderr.isatty():
                print(f"\r{stamp(as_of)} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return rising, evaluations, wrong


def check(binary, evening, seeds):
    failures = []
    truth = bursts(evening)
    if not truth:
        raise CannotRun("the rule finds no burst in these tweets: is this the right file?")
    rising, evaluations, wrong = replay(binary, evening)
    failures += wrong
    print(f"as recorded: {len(truth)} burst(s), {len(rising)} tag(s) called rising, {evaluations} evaluations")
    for tag, start in truth.items():
        found = rising.get(tag, (math.inf, 0))[0] - start
        print(f"  #{tag} bursts at {stamp(start)}: " + (f"found after {found} s" if found < math.inf else "not found"))
        if not 0 <= found <= WIDTH_S:
            failures.append(f"#{tag} was not found within {WIDTH_S} s of its start at {stamp(start)}")
    for tag, (as_of, score) in rising.items():
        if tag not in truth:
            print(f"  #{tag} called rising at {stamp(as_of)} with {score}: no burst by the rule")
    false, evaluations = 0, 0
    for seed in seeds:
        random_evening = shuffled(evening, seed)
        if bursts(random_evening):
            raise CannotRun(f"seed {seed} happens to burst: take another one")
        rising, looked, wrong = replay(binary, random_evening)
        failures += wrong
        false += len(rising)
        evaluations += looked
        print(f"shuffled with seed {seed}: {len(rising)} tag(s) called rising, {looked} evaluations")
    promised = evaluations * 10**-RISING_SCORE
    print(f"false trends: {false}, promised: at most {promised:.2f}")
    if false > promised:
        failures.append(f"{false} false trends are more than the {promised:.2f} promised")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, metavar="FILE", help="the millrace binary")
    parser.add_argument("--data", required=True, metavar="DIR", help="the folder that holds tweets.csv.gz")
    parser.add_argument("--shuffles", type=int, default=3, metavar="N", help="how many shuffled evenings (default 3)")
    args = parser.parse_args()
    try:
        failures = check(args.binary, tweets(args.data), range(1, args.shuffles + 1))
    except (CannotRun, urllib.error.URLError, OSError) as error:
        print(f"tweets: could not run: {error}", file=sys.stderr)
        return 2
    for failure in failures[:20]:
        print(f"tweets: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
