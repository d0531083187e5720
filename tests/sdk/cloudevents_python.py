#!/usr/bin/env python3
"""cloudevents for Python, unmodified, against a running server: each of the ways HTTP has for events, and retries that count once.

The SDK writes messages and sends none: here `requests` does, and what got no 200 is sent again, as an application would.
tests/sdk/run.sh sets up the SDK and calls this. Exit codes: 0 passed, 1 failed, 2 could not run.
"""

import gzip
import sys
import time
import uuid
from datetime import datetime, timezone

try:
    import requests
    from cloudevents.core.bindings.http import to_binary_event, to_structured_event
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent
except ImportError:
    print("the SDK of CloudEvents is not there: run tests/sdk/run.sh", file=sys.stderr)
    sys.exit(2)

from support import Platform, arguments, check, run as run_tests

SOURCE = "https://example.com/sdk"
TRIES = 10
WAIT_SECONDS = 0.05


def messages(way, events):
    """The headers and the body of each request."""
    if way == "binary":
        return [(message.headers, message.body) for message in map(to_binary_event, events)]
    if way == "structured":
        return [(message.headers, message.body) for message in map(to_structured_event, events)]
    batch = b"[" + b",".join(map(JSONFormat().write, events)) + b"]"
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    if way == "gzip":
        return [({**headers, "Content-Encoding": "gzip"}, gzip.compress(batch))]
    return [(headers, batch)]


def post(session, url, headers, body):
    """Sends until it is taken."""
    for _ in range(TRIES):
        wait = WAIT_SECONDS
        try:
            response = session.post(url, data=body, headers=headers, timeout=15)
        except requests.ConnectionError:
            response = None
        if response is not None:
            if response.status_code == 200:
                return
            check(response.status_code == 503, f"POST {url}: {response.status_code} {response.text[:200]}")
            wait = int(response.headers.get("Retry-After", 0)) or wait
        time.sleep(wait)
    check(False, f"POST {url} was not taken in {TRIES} tries")


def sent_by(args, url, way, calls):
    events = []
    calls(events)
    with requests.Session() as session:
        session.auth = (args.write_key, "")
        for headers, body in messages(way, events):
            post(session, url + "/v1/cloudevents", headers, body)


def every_call(args, way):
    run = uuid.uuid4().hex[:12]
    platform = Platform(args.to, args.admin_token, args.api_token)
    user, author, post_id = f"reader-{run}", f"author-{run}", f"post-{run}"
    at = datetime.now(timezone.utc).replace(microsecond=0)

    def calls(events):
        def event(name, kind, data, **attributes):
            own = {"id": f"{run}-{name}", "source": SOURCE, "type": kind, "time": at, "datacontenttype": "application/json"}
            events.append(CloudEvent({**own, **attributes}, data))

        event("created", "Post Created", {"post_id": post_id, "text": "Grüße, „Zoë“ 100 %", "tags": ["sdk"]}, userid=author)
        event("liked", "postLiked", {}, subject=post_id, userid=user)
        event("viewed", "Post Viewed", {"post_id": post_id, "dwell_ms": 1200, "userId": user})
        event("custom", "com.example.signup", {"n": 1.5}, subject="Zoë 100 %", anonymousid=f"anon-{run}")
        event("text", "com.example.note", "plain words", datacontenttype="text/plain", userid=user)

    sent_by(args, args.to, way, calls)
    expected = {
        "created": (author, "post_created"),
        "liked": (user, "post_liked"),
        "viewed": (user, "post_viewed"),
        "custom": (None, None),
        "text": (user, None),
    }
    found = {}
    for name, (who, event) in expected.items():
        records = platform.with_id(f"{run}-{name}")
        check(len(records) == 1, f"{name} is in the log {len(records)} times")
        found[name] = record = records[0]
        check(record["message_id"] == f"{SOURCE} {run}-{name}", f"the id of {name} is {record['message_id']}")
        check(record["type"] == "track", f"{name} came in as {record['type']}")
        check((record.get("user_id") or None) == who, f"{name} is by {record.get('user_id')}")
        check(event is None or record["event"] == event, f"{name} is called {record.get('event')}")
        check(record["event_time"].startswith(at.isoformat()[:19]), f"{name} happened at {record['event_time']}, not at {at}")
        check(record["context"]["source"] == SOURCE, f"{name} has the context {record['context']}")
    check(found["created"]["properties"]["text"] == "Grüße, „Zoë“ 100 %", f"the text is {found['created']['properties']}")
    check(found["custom"]["anonymous_id"] == f"anon-{run}", "the anonymous id is kept")
    check(found["custom"]["context"]["subject"] == "Zoë 100 %", f"the subject is {found['custom']['context']}")
    check(found["text"]["properties"] == {"data": "plain words"}, f"the text is {found['text']['properties']}")
    counters = platform.engagement(post_id)
    totals = counters["totals"]
    check(counters["author_id"] == author, f"the author is {counters['author_id']}")
    check((totals["likes"], totals["views"], totals["unique_viewers"]) == (1, 1, 1), f"the counters are {totals}")


def track(events, who, event, properties, message_id):
    events.append(CloudEvent({"id": message_id, "source": SOURCE, "type": event, "userid": who}, properties))


if __name__ == "__main__":
    try:
        ways = ("binary", "structured", "batch", "gzip")
        sys.exit(run_tests("cloudevents-python", arguments(__doc__), every_call, sent_by, track, ways))
    except OSError as error:
        print(f"cloudevents-python: cannot reach the server: {error}", file=sys.stderr)
        sys.exit(2)
