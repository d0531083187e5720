#!/usr/bin/env python3
"""Who is marked as a robot by the rate of what they do, against labels that the platform does not see.

    tests/robots/score.py simulate --binary target/release/millrace --seeds 3
    tests/robots/score.py wikipedia --binary target/release/millrace --data DIR

Each run starts a platform of its own in replay time, on a directory that is thrown away, sends a history in the order of its times
and asks the query `robot_actors` whom it marked. No user agent is sent and no label: what is found is found by rate alone.

  * simulate: a population of `millrace simulate` with robots among it, whose truth says who they are.
  * wikipedia: the edits of one day, as comments on pages; DIR holds wikiticker-2015-09-12.ndjson.gz, which labels robots. Most of
    them edit a few times a day, as people do, and cannot be told by their rate.

In both, the rule of pipelines/src/jobs/robots.rs is written again here, with no code in common, and what is marked must be the same,
event by event. Then precision and recall are shown, and must be as good as asked.

Exit codes: 0 the same and good enough, 1 not (it is said what), 2 could not run.
"""

import argparse
import collections
import datetime
import gzip
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "simulate"))
from score_trends import CannotRun, Platform  # noqa: E402

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
LATE_US = 5 * MINUTE_US
ACTORS_MAX = 100_000
# A pace per minute that may be kept up, and what may come beside it.
ACTS, DEEDS = (120, 120), (4, 120)
SEEN = {"post_viewed", "post_clicked", "search_performed"}
KNOWN = SEEN | {
    "user_registered", "user_followed", "user_unfollowed", "user_blocked", "user_unblocked", "user_muted", "user_unmuted",
    "post_created", "post_edited", "post_deleted", "post_liked", "post_unliked", "post_shared", "post_hidden", "post_saved",
    "post_commented", "post_reported", "tag_followed", "tag_unfollowed",
}  # fmt: skip


def micros(text):
    since = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return since // datetime.timedelta(microseconds=1)


class Rule:
    """The limits of every actor, kept for ever; with less room they are crossed earlier."""

    def __init__(self, room=1.0):
        self.room = room
        self.empty_at = ({}, {})
        self.until = {}
        self.marked = collections.Counter()

    def act(self, actor, event, now, late):
        counted = [] if late or event not in KNOWN else [0] if event in SEEN else [0, 1]
        for nth in counted:
            per_minute, beside = (ACTS, DEEDS)[nth]
            beside = round(beside * self.room)
            drain = MINUTE_US // per_minute
            filled = max(self.empty_at[nth].get(actor, now), now) + drain
            if filled - now > beside * drain:
                self.until[actor] = now + HOUR_US
            self.empty_at[nth][actor] = min(filled, now + (beside + 1) * drain)
        if self.until.get(actor, now) > now:
            self.marked[actor] += 1


def recount(calls):
    """How many events of each actor are a robot's, by the rule. A message that is sent twice counts once."""
    rule, newest, known = Rule(), None, set()
    for call in calls:
        at = micros(call["timestamp"])
        newest = at if newest is None else max(newest, at)
        identity = (call["userId"], call.get("messageId"))
        if identity in known:
            continue
        known.add(identity)
        event = call["event"] if call["type"] == "track" else call["type"]
        rule.act(call["userId"], event, newest, newest - at > LATE_US)
    return rule.marked


def platform_marks(binary, folder, lines):
    platform = Platform(binary, folder)
    try:
        platform.wait_ready()
        platform.send(lines)
        platform.wait_caught_up()
        answer = platform.get(f"/v1/queries/robot_actors?limit={ACTORS_MAX}")
    finally:
        platform.stop()
    names = [column["name"] for column in answer["columns"]]
    rows = [dict(zip(names, row)) for row in answer["rows"]]
    return {row["actor_id"]: row["marked"] for row in rows}


def edits(folder):
    """The edits as calls, and who is labelled as a robot."""
    path = pathlib.Path(folder) / "wikiticker-2015-09-12.ndjson.gz"
    try:
        with gzip.open(path, "rb") as lines:
            found = sorted((json.loads(line) for line in lines), key=lambda edit: edit["time"])
    except OSError as error:
        raise CannotRun(f"cannot read {path}: {error}") from error
    calls, robots = [], set()
    for nth, edit in enumerate(found):
        page = hashlib.sha256(f"{edit['channel']} {edit['page']}".encode()).hexdigest()[:32]
        if edit["isRobot"]:
            robots.add(edit["user"])
        calls.append({
            "type": "track", "event": "post_commented", "userId": edit["user"], "messageId": f"edit-{nth}", "timestamp": edit["time"],
            "properties": {"post_id": page},
        })  # fmt: skip
    return calls, robots


def simulated(options, seed, folder):
    events, truth = folder / "events.ndjson", folder / "truth.json"
    command = [options.binary, "simulate", "--seed", str(seed), "--out", events, "--truth", truth, "--users", str(options.users)]
    command += ["--pace", str(options.pace), "--events", str(options.events), "--robots", str(options.robots)]
    command += ["--robot-pace", str(options.robot_pace)]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0:
        raise CannotRun("the history could not be made")
    calls = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    users = json.loads(truth.read_text(encoding="utf-8"))["users"]
    return calls, {user["id"] for user in users if user["robot"]}


def share(part, whole):
    return part / whole if whole else 1.0


def score(name, options, calls, robots, folder):
    lines = [json.dumps(call).encode() for call in calls]
    marked = platform_marks(options.binary, folder, lines)
    problems = []
    expected = recount(calls)
    different = {actor for actor in set(expected) | set(marked) if expected.get(actor, 0) != marked.get(actor, 0)}
    if different:
        problems.append(f"{len(different)} actors are marked otherwise than by the rule")
    events = collections.Counter(call["userId"] for call in calls)
    right, wrong = set(marked) & robots, set(marked) - robots
    people = len(set(events) - robots)
    precision, recall = share(len(right), len(marked)), share(len(right), len(robots))
    of_robots = sum(events[actor] for actor in robots)
    caught = share(sum(marked[actor] for actor in right), of_robots)
    print(
        f"{name}: {len(calls)} events; precision {precision:.3f} ({len(right)}/{len(marked)} marked)"
        f"  recall {recall:.3f} ({len(right)}/{len(robots)} robots)  {caught:.3f} of the events of robots are marked"
        f"  people marked wrongly {len(wrong)}/{people}",
        flush=True,
    )
    for what, have, least in (
        ("precision", precision, options.min_precision),
        ("recall", recall, options.min_recall),
        ("the share of events", caught, options.min_events),
    ):
        if have < least:
            problems.append(f"{what} is {have:.3f}, below {least}")
    return [f"{name}: {problem}" for problem in problems]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    simulate = kinds.add_parser("simulate")
    simulate.add_argument("--seeds", type=int, default=3, help="how many histories (3)")
    simulate.add_argument("--users", type=int, default=500)
    simulate.add_argument("--robots", type=int, default=10)
    simulate.add_argument("--robot-pace", type=int, default=30, help="calls of one robot per minute (30)")
    simulate.add_argument("--pace", type=int, default=20, help="calls of all people per second (20)")
    simulate.add_argument("--events", type=int, default=60_000)
    wikipedia = kinds.add_parser("wikipedia")
    wikipedia.add_argument("--data", required=True, metavar="DIR", help="the folder with the edits")
    # Of the simulated robots nearly all are found, of those of Wikipedia the few that are fast, which make a quarter of the edits.
    for kind, precision, recall, events in ((simulate, 0.95, 0.95, 0.5), (wikipedia, 1.0, 0.01, 0.2)):
        kind.add_argument("--binary", required=True, help="the millrace to run")
        kind.add_argument("--min-precision", type=float, default=precision)
        kind.add_argument("--min-recall", type=float, default=recall)
        kind.add_argument("--min-events", type=float, default=events, help="of the events of robots, the share that is marked")
    return parser.parse_args()


def main():
    options = parse()
    problems = []
    seeds = range(1, options.seeds + 1) if options.kind == "simulate" else [None]
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="millrace-robots-") as folder:
            folder = pathlib.Path(folder)
            if seed is None:
                name, (calls, robots) = "wikipedia", edits(options.data)
            else:
                name, (calls, robots) = f"seed {seed}", simulated(options, seed, folder)
            problems += score(name, options, calls, robots, folder)
    for problem in problems:
        print(f"robots: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, ValueError, KeyError) as error:
        print(f"robots: cannot run: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
