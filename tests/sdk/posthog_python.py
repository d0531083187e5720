#!/usr/bin/env python3
"""posthog for Python, unmodified, against a running server: its calls, gzip, and retries that count once.

With `v1` in POSTHOG_CAPTURE_MODE by its newer protocol, whose answer has a verdict for each event. tests/sdk/run.sh sets up
the SDK and calls this. Exit codes: 0 passed, 1 failed, 2 could not run.
"""

import os
import sys
import uuid

try:
    from posthog import Posthog
except ImportError:
    print("PostHog's SDK is not there: run tests/sdk/run.sh", file=sys.stderr)
    sys.exit(2)

from support import Platform, arguments, check, run as run_tests

SDK = os.environ.get("MILLRACE_SDK", "posthog")
PROTOCOL = os.environ.get("POSTHOG_CAPTURE_MODE", "v0")


def sent_by(args, url, way, calls):
    """Runs `calls` with a client and waits until the client says that all is delivered."""
    errors = []
    client = Posthog(
        args.write_key,
        host=url,
        gzip=way == "gzip",
        flush_interval=0.2,
        on_error=lambda error, batch: errors.append(error),
        max_retries=10,
    )
    check(client.capture_mode == PROTOCOL, f"the SDK speaks {client.capture_mode}, not {PROTOCOL}")
    calls(client)
    client.flush()
    client.shutdown()
    check(not errors, f"the SDK reports {errors}")


def every_call(args, way):
    run = uuid.uuid4().hex[:12]
    platform = Platform(args.to, args.admin_token, args.api_token)
    user, author, post = f"reader-{run}", f"author-{run}", f"post-{run}"
    ids = {name: str(uuid.uuid4()) for name in ("created", "liked", "viewed", "page", "screen", "known")}

    def calls(client):
        def capture(event, who, properties, name):
            client.capture(event, distinct_id=who, properties=properties, uuid=ids[name])

        capture("Post Created", author, {"post_id": post, "text": "hello", "tags": ["sdk"]}, "created")
        capture("postLiked", user, {"post_id": post}, "liked")
        capture("Post Viewed", user, {"post_id": post, "dwell_ms": 1200}, "viewed")
        capture("$pageview", user, {"$current_url": "https://example.com/start"}, "page")
        capture("$screen", user, {"$screen_name": "Home"}, "screen")
        capture("$identify", user, {"$anon_distinct_id": f"anon-{run}", "$set": {"name": "Zoë"}}, "known")
        client.set(distinct_id=user, properties={"plan": "free"})
        client.group_identify("team", f"team-{run}", {"size": 3}, distinct_id=user)
        client.alias(f"anon-{run}", user)

    sent_by(args, args.to, way, calls)
    expected = {
        "created": ("track", author, "post_created"),
        "liked": ("track", user, "post_liked"),
        "viewed": ("track", user, "post_viewed"),
        "page": ("page", user, None),
        "screen": ("screen", user, None),
        "known": ("identify", user, None),
    }
    for name, (kind, who, event) in expected.items():
        found = platform.with_id(ids[name])
        check(len(found) == 1, f"{name} is in the log {len(found)} times")
        record = found[0]
        check(record["type"] == kind, f"{name} came in as {record['type']}")
        check((record.get("user_id") or None) == who, f"{name} is by {record.get('user_id')}")
        check(event is None or record["event"] == event, f"{name} is called {record.get('event')}")
    check(platform.with_id(ids["known"])[0]["anonymous_id"] == f"anon-{run}", "the anonymous id is kept")
    mine = [r for r in platform.read_on() if run in str(r)]
    by_type = lambda kind: [r for r in mine if r["type"] == kind]
    check(len(mine) == 9, f"{len(mine)} records came of nine calls")
    check(len(by_type("identify")) == 2, "identify and set came in once each")
    check([r["group_id"] for r in by_type("group")] == [f"team-{run}"], "the group came in once")
    check(len(by_type("alias")) == 1 and by_type("alias")[0]["previous_id"], "the alias came in once")
    counters = platform.engagement(post)
    totals = counters["totals"]
    check(counters["author_id"] == author, f"the author is {counters['author_id']}")
    check((totals["likes"], totals["views"], totals["unique_viewers"]) == (1, 1, 1), f"the counters are {totals}")


def track(client, who, event, properties, message_id):
    client.capture(event, distinct_id=who, properties=properties, uuid=message_id)


if __name__ == "__main__":
    try:
        sys.exit(run_tests(f"{SDK}-python", arguments(__doc__), every_call, sent_by, track))
    except OSError as error:
        print(f"{SDK}-python: cannot reach the server: {error}", file=sys.stderr)
        sys.exit(2)
