#!/usr/bin/env python3
"""Counts GH Archive files a second time and compares with the archive: named queries, closed windows, and the tables
themselves as other programs read them.

Run it after `millrace import gharchive FILE… --wait` into a server with `--clock replay`:

    tests/recount/warehouse.py --data DIR --to URL --admin-token T [--tables DATA_DIR/warehouse]

What must hold:
  * events by name and by hour, the top posts by likes, shares and comments, and the active users of each day, as the named
    queries answer them, are those of the files;
  * `engagement_windows` has exactly the windows that the clock has closed, each once, with the counts of the events in the
    log that were on time;
  * with --tables: `deltalake`, `duckdb` and `polars`, each that is installed, read the tables and count the same rows, no
    place in the log twice. --readers deltalake,duckdb,polars says which must be there.

Exit codes: 0 equal, 1 different (the first differences are named), 2 could not run.
"""

import collections
import datetime
import importlib
import json
import os
import sys
import urllib.parse

from recount import CannotRun, Expected, Refused, Server, files_in, note, parser_of, report

MINUTE = 60
WINDOWS = {"5m": 5 * MINUTE, "1h": 60 * MINUTE, "24h": 24 * 60 * MINUTE}
LATENESS = 5 * MINUTE
ASKED_AT_MOST = 10
REACTIONS = {"post_liked": "likes", "post_shared": "shares", "post_commented": "comments"}


def seconds(text):
    """RFC 3339 to seconds since 1970, exactly for whole seconds."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.timestamp()


def hour_of(at):
    return at // 3600 * 3600


class Timed(Expected):
    """What the files say, with when."""

    def __init__(self):
        super().__init__()
        self.times = {}  # message id -> seconds
        self.reposts = {}  # message id -> repository

    def add(self, event):
        at = seconds(event.get("created_at") or event["dt"])
        repo = event["repo"]["name"] if isinstance(event["repo"], dict) else event["repo"]
        self.times.setdefault("gh-repo-" + repo, at)
        super().add(event)
        self.times["gh-" + event["id"]] = at
        self.reposts["gh-" + event["id"]] = repo


class Queries:
    def __init__(self, server):
        self.server = server

    def rows(self, name, **params):
        path = f"/v1/queries/{name}?{urllib.parse.urlencode(params)}"
        answer = json.loads(self.answer(path))
        columns = [column["name"] for column in answer["columns"]]
        return [dict(zip(columns, row)) for row in answer["rows"]]

    def answer(self, path):
        """Queries step back for everything else that wants the processor: beside other tests one may run out of its time."""
        for again in range(ASKED_AT_MOST):
            try:
                return self.server.get(path, self.server.api_token)[1]
            except Refused as refused:
                code = json.loads(refused.body).get("code")
                if (refused.status, code) != (422, "query_too_large") or again + 1 == ASKED_AT_MOST:
                    raise
                note(f"  {path} ran out of its time on this busy machine; asked again")


def differ(what, have, want):
    """The differences of two mappings."""
    found = []
    for key in sorted(have.keys() | want.keys(), key=str):
        if have.get(key) != want.get(key):
            found.append(f"{what} {key}: {have.get(key)} instead of {want.get(key)}")
    return found


def compare_queries(expected, queries):
    differences = []
    by_name = collections.Counter(action for action, _ in expected.messages.values())
    have = {row["event"]: row["events"] for row in queries.rows("events_by_name")}
    differences += differ("events_by_name", have, dict(by_name))

    by_hour = collections.Counter()
    users = collections.defaultdict(set)
    by_day = collections.Counter()
    for message, (action, actor) in expected.messages.items():
        at = expected.times[message]
        by_hour[(hour_of(at), action)] += 1
        users[at // 86400].add(actor)
        by_day[at // 86400] += 1
    have = {(seconds(row["hour"]), row["event"]): row["events"] for row in queries.rows("events_by_hour")}
    differences += differ("events_by_hour", have, dict(by_hour))
    stars = {key: n for key, n in by_hour.items() if key[1] == "post_liked"}
    rows = queries.rows("events_by_hour", event="post_liked")
    differences += differ("events_by_hour?event=post_liked", {(seconds(r["hour"]), r["event"]): r["events"] for r in rows}, stars)

    # Half-open, and not at the edge of a day.
    middle = sorted(expected.times.values())[len(expected.times) // 2]
    edge = datetime.datetime.fromtimestamp(middle, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, params, inside in [
        ("before", {"to": edge}, lambda at: at < middle),
        ("from", {"from": edge}, lambda at: at >= middle),
    ]:
        want = collections.Counter(a for m, (a, _) in expected.messages.items() if inside(expected.times[m]))
        have = {row["event"]: row["events"] for row in queries.rows("events_by_name", **params)}
        differences += differ(f"events_by_name {name} {edge}", have, dict(want))

    have = {seconds(r["start"]) // 86400: (r["users"], r["events"]) for r in queries.rows("active_users", every="day")}
    differences += differ("active_users", have, {day: (len(users[day]), by_day[day]) for day in users})

    for action, by in REACTIONS.items():
        count = collections.Counter()
        actors = collections.defaultdict(set)
        for message, (name, actor) in expected.messages.items():
            if name == action:
                count[expected.reposts[message]] += 1
                actors[expected.reposts[message]].add(actor)
        top = sorted(count.items(), key=lambda item: (-item[1], item[0].encode()))[:50]
        want = [(post, n, len(actors[post])) for post, n in top]
        have = [(r["post_id"], r["events"], r["actors"]) for r in queries.rows("top_posts", by=by, limit=50)]
        if have != want:
            first = next((pair for pair in zip(have, want) if pair[0] != pair[1]), (len(have), len(want)))
            differences.append(f"top_posts by {by}: {first[0]} instead of {first[1]}")
    print(f"  five queries over {len(expected.messages)} events, {len(by_hour)} hours and names, {len(users)} days")
    return differences


def expected_windows(server, clock):
    """The windows that the clock has closed, from the log itself: which events were on time is decided there."""
    seen = set()
    likers = set()
    windows = collections.defaultdict(collections.Counter)
    late = 0
    # The order of one actor's likes is the order of their partition.
    for record in server.actions():
        if record["type"] == "tick":
            continue
        identity = (record.get("source"), record.get("user_id"), record["message_id"])
        if identity in seen:
            continue
        seen.add(identity)
        field = REACTIONS.get(record.get("event"))
        if field is None:
            continue
        post = record["action"]["post_id"] if "action" in record else record["post_id"]
        if field == "likes":
            if (record["user_id"], post) in likers:
                continue
            likers.add((record["user_id"], post))
        at = seconds(record["event_time"])
        if seconds(record["log_time"]) - at > LATENESS:
            late += 1
            continue
        for name, width in WINDOWS.items():
            start = at // width * width
            if start + width + LATENESS <= clock:
                windows[(name, start, post)][field] += 1
    return windows, late


def compare_windows(server, queries):
    status = server.status()
    clocks = [part["clock"] for part in status["jobs"]["engagement"].values()]
    if None in clocks or len(set(clocks)) != 1:
        raise CannotRun(f"the partitions of engagement are not at one time yet: {clocks}")
    want, late = expected_windows(server, seconds(clocks[0]))
    have = {}
    differences = []
    for name, width in WINDOWS.items():
        starts = sorted({start for (window, start, _) in want if window == name})
        rows = []
        for start in starts:
            edges = [datetime.datetime.fromtimestamp(s, datetime.timezone.utc).isoformat() for s in (start, start + width)]
            page = queries.rows("closed_windows", **{"window": name, "from": edges[0], "to": edges[1], "limit": 10000})
            if len(page) == 10000:
                raise CannotRun(f"more windows of {name} from {edges[0]} than one answer holds")
            rows += page
        for row in rows:
            key = (name, seconds(row["window_start"]), row["post_id"])
            if key in have:
                differences.append(f"window {key} is there twice")
            have[key] = {field: row[field] for field in REACTIONS.values()}
            others = {f: row[f] for f in ("views", "clicks", "unlikes", "saves", "hides", "reports") if row[f]}
            if others:
                differences.append(f"window {key} has {others}")
    want = {key: {field: counts[field] for field in REACTIONS.values()} for key, counts in want.items()}
    differences += differ("window", have, want)
    print(f"  {len(want)} closed windows up to {clocks[0]}; {late} late reactions in none of them")
    return differences


def read_deltalake(path):
    table = importlib.import_module("deltalake").DeltaTable(path)
    columns = table.to_pyarrow_table(columns=["event", "topic", "partition", "offset"]).to_pydict()
    return list(zip(columns["event"], columns["topic"], columns["partition"], columns["offset"]))


def read_duckdb(path):
    database = importlib.import_module("duckdb").connect()
    try:
        return database.execute(f"SELECT event, topic, partition, \"offset\" FROM delta_scan('{path}')").fetchall()
    except Exception as error:  # The extension comes over the network; the files themselves do not.
        note(f"duckdb has no delta extension here ({type(error).__name__}); it reads the files that the Delta log names")
        table = importlib.import_module("deltalake").DeltaTable(path)
        return database.execute('SELECT event, topic, partition, "offset" FROM read_parquet($1)', [table.file_uris()]).fetchall()


def read_polars(path):
    frame = importlib.import_module("polars").read_delta(path)
    return frame.select(["event", "topic", "partition", "offset"]).rows()


READERS = {"deltalake": read_deltalake, "duckdb": read_duckdb, "polars": read_polars}


def compare_tables(expected, tables, required):
    path = os.path.join(tables, "events")
    want = collections.Counter(action for action, _ in expected.messages.values())
    differences = []
    for name, read in READERS.items():
        try:
            importlib.import_module(name)
            rows = read(path)
        except ImportError:
            if name in required:
                raise CannotRun(f"{name} is not installed: pip install deltalake duckdb polars pyarrow") from None
            print(f"  SKIPPED {name}: not installed")
            continue
        have = collections.Counter(row[0] for row in rows)
        differences += differ(f"{name}: events by name", dict(have), dict(want))
        places = collections.Counter(row[1:] for row in rows)
        twice = [place for place, n in places.items() if n > 1]
        if twice:
            differences.append(f"{name}: {len(twice)} places of the log are there twice, such as {twice[0]}")
        print(f"  {name}: {len(rows)} rows")
    return differences


def arguments():
    parser = parser_of(__doc__)
    parser.add_argument("--tables", metavar="DIR", help="the folder of the warehouse, to be read by other programs")
    parser.add_argument("--readers", default="", metavar="NAMES", help="readers that must be installed")
    parser.add_argument("--wait", type=float, default=120, metavar="SECONDS", help="for the archive to catch up")
    return parser.parse_args()


def main():
    args = arguments()
    expected = Timed()
    for path in files_in(args.data):
        expected.add_file(path)
    server = Server(args.to, args.admin_token, args.api_token)
    server.wait_until_caught_up(args.wait)
    queries = Queries(server)
    print("the named queries:")
    differences = compare_queries(expected, queries)
    print("the closed windows:")
    differences += compare_windows(server, queries)
    if args.tables:
        print("the tables, as others read them:")
        differences += compare_tables(expected, args.tables, args.readers.split(","))
    return report(differences)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, ValueError, KeyError) as error:
        note(f"warehouse recount: cannot run: {type(error).__name__}: {error}")
        sys.exit(2)
