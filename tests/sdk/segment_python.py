#!/usr/bin/env python3
"""segment-analytics-python, unmodified, against a running server: six calls, gzip, and retries that count once.

With `rudder` in MILLRACE_SDK the same with rudder-sdk-python, which has the same calls. tests/sdk/run.sh sets up the SDKs and
calls this. Exit codes: 0 passed, 1 failed, 2 could not run.
"""

import os
import sys
import uuid

SDK = os.environ.get("MILLRACE_SDK", "segment")
try:
    if SDK == "rudder":
        from rudderstack.analytics.client import Client
    else:
        from segment.analytics.client import Client
except ImportError:
    print(f"the SDK of {SDK} is not there: run tests/sdk/run.sh", file=sys.stderr)
    sys.exit(2)

from support import Platform, arguments, check, run as run_tests


def sent_by(args, url, way, calls):
    """Runs `calls` with a client and waits until the client says that all is delivered."""
    errors = []
    client = Client(args.write_key, host=url, gzip=way == "gzip", on_error=lambda error, batch: errors.append(error), upload_interval=0.2)
    calls(client)
    client.flush()
    client.shutdown()
    check(not errors, f"the SDK reports {errors}")


def six_calls(args, way):
    run = uuid.uuid4().hex[:12]
    platform = Platform(args.to, args.admin_token, args.api_token)
    user, author, post = f"reader-{run}", f"author-{run}", f"post-{run}"

    def calls(client):
        client.identify(user, {"plan": "free", "name": "Zoë"}, message_id=f"{run}-identify")
        client.track(author, "Post Created", {"post_id": post, "text": "hello", "tags": ["sdk"]}, message_id=f"{run}-created")
        client.track(user, "postLiked", {"post_id": post}, message_id=f"{run}-liked")
        client.track(user, "Post Viewed", {"post_id": post, "dwell_ms": 1200}, message_id=f"{run}-viewed")
        client.track(None, "Signup Started", {"n": 1.5}, anonymous_id=f"anon-{run}", message_id=f"{run}-custom")
        client.page(user, "docs", "Start", {"path": "/start"}, message_id=f"{run}-page")
        client.screen(user, "app", "Home", {"n": 1}, message_id=f"{run}-screen")
        client.group(user, f"team-{run}", {"size": 3}, message_id=f"{run}-group")
        client.alias(f"anon-{run}", user, message_id=f"{run}-alias")

    sent_by(args, args.to, way, calls)
    expected = {
        "identify": ("identify", user, None),
        "created": ("track", author, "post_created"),
        "liked": ("track", user, "post_liked"),
        "viewed": ("track", user, "post_viewed"),
        "custom": ("track", None, "signup_started"),
        "page": ("page", user, None),
        "screen": ("screen", user, None),
        "group": ("group", user, None),
        "alias": ("alias", user, None),
    }
    for name, (kind, who, event) in expected.items():
        found = platform.with_id(f"{run}-{name}")
        check(len(found) == 1, f"{name} is in the log {len(found)} times")
        record = found[0]
        check(record["type"] == kind, f"{name} came in as {record['type']}")
        check((record.get("user_id") or None) == who, f"{name} is by {record.get('user_id')}")
        check(event is None or record["event"] == event, f"{name} is called {record.get('event')}")
    custom = platform.with_id(f"{run}-custom")[0]
    check(custom["anonymous_id"] == f"anon-{run}", "the anonymous id is kept")
    check(platform.with_id(f"{run}-group")[0].get("group_id") == f"team-{run}", "the group id is kept")
    check(platform.with_id(f"{run}-alias")[0].get("previous_id") == f"anon-{run}", "the previous id is kept")
    counters = platform.engagement(post)
    totals = counters["totals"]
    check(counters["author_id"] == author, f"the author is {counters['author_id']}")
    check((totals["likes"], totals["views"], totals["unique_viewers"]) == (1, 1, 1), f"the counters are {totals}")


def track(client, who, event, properties, message_id):
    client.track(who, event, properties, message_id=message_id)


if __name__ == "__main__":
    try:
        sys.exit(run_tests(f"{SDK}-python", arguments(__doc__), six_calls, sent_by, track))
    except OSError as error:
        print(f"{SDK}-python: cannot reach the server: {error}", file=sys.stderr)
        sys.exit(2)
