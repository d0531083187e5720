#!/usr/bin/env python3
"""Writes down what a running server answers: queries, trends, feeds, counters. Two servers that were sent the same events in
the same order must have the same lines, wherever they keep things; `diff` compares them.

    tests/recount/answers.py --data DIR --to http://127.0.0.1:8080 > answers

The viewers and posts that it asks for are the busiest of the files. What names a moment or a request (cursors, ids of slates,
`as_of`) is left out, and so is what the server's own clock decides.

Exit codes: 0 written, 2 could not run.
"""

import collections
import json
import sys
import urllib.parse

from recount import CannotRun, Expected, Server, files_in, note, parser_of

QUERIES = [
    ("events_by_name", {}),
    ("events_by_hour", {}),
    ("hourly_rate_by_action", {}),
    ("late_events", {}),
    ("active_users", {"every": "day"}),
    ("active_users", {"every": "week"}),
    ("actions_per_user_histogram", {}),
    ("tag_activity_by_hour", {}),
    ("dead_letters_by_reason", {}),
    *[("top_posts", {"by": by, "limit": 100}) for by in ("likes", "shares", "comments")],
    *[("closed_windows", {"window": window, "limit": 10_000}) for window in ("5m", "1h", "24h")],
]
# When the clock's next step reached a partition depends on what came with it.
LEFT_OUT = {"closed_at"}
VIEWERS = 40
POSTS = 200


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--wait", type=int, default=600, metavar="S", help="for how long the jobs may take to catch up")
    args = parser.parse_args()
    expected = Expected()
    for path in files_in(args.data):
        expected.add_file(path)
    actors = collections.Counter(actor for _, actor in expected.messages.values())
    server = Server(args.to, args.admin_token, args.api_token)
    server.wait_until_caught_up(args.wait)

    def get(path, **params):
        asked = f"{path}?{urllib.parse.urlencode(params)}" if params else path
        return asked, json.loads(server.get(asked, args.api_token)[1])

    def say(asked, answer):
        print(f"{asked} {json.dumps(answer, sort_keys=True)}")

    for name, params in QUERIES:
        asked, answer = get(f"/v1/queries/{name}", **params)
        columns = [column["name"] for column in answer["columns"]]
        if not answer["rows"]:
            say(asked, "no rows")
        for row in answer["rows"]:
            say(asked, {name: value for name, value in zip(columns, row) if name not in LEFT_OUT})

    posts = []
    for what in ("posts", "tags"):
        for window in ("5m", "1h", "24h"):
            asked, answer = get(f"/v1/trends/{what}", window=window, limit=50)
            say(asked, answer["items"])
            posts += [item["post_id"] for item in answer["items"] if what == "posts"]

    for viewer in sorted(actors, key=lambda actor: (-actors[actor], actor))[:VIEWERS]:
        asked, answer = get("/v1/feeds/home", viewer=viewer, limit=30)
        say(asked, answer["items"])

    _, answer = get("/v1/queries/top_posts", by="likes", limit=POSTS)
    for post in dict.fromkeys(posts + [row[0] for row in answer["rows"]]):
        say(*get(f"/v1/posts/{urllib.parse.quote(post, safe='')}/engagement"))


if __name__ == "__main__":
    try:
        main()
    except (CannotRun, OSError, ValueError, KeyError) as error:
        note(f"answers: cannot run: {type(error).__name__}: {error}")
        sys.exit(2)
