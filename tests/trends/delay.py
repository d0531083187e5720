#!/usr/bin/env python3
"""How long after the answer to the records that make it one a burst is listed as rising.

    tests/trends/delay.py --binary PATH [--bursts 20]

Three hours of steady use of twenty tags, then again and again one new tag in sixty posts at once, asked about until it is
listed. Prints the delays; a timing is no test, so only a burst that is never listed fails.

Exit codes: 0 measured, 1 a burst was not listed, 2 could not run.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "archive"))
from kill import CannotRun, Server, free_port  # noqa: E402

START = 1767225600
MINUTES = 180
TAGS = 20
POSTS_OF_A_BURST = 60
# So that bursts come at any moment of the server's own beat, seconds.
REST = 0.37
GIVE_UP_SECONDS = 20


def posts(tags, name, at):
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    for i, tag in enumerate(tags):
        one = f"{name}-{i}"
        properties = {"post_id": one, "text": "x", "tags": [tag]}
        call = {"type": "track", "userId": f"u-{one}", "event": "Post Created", "messageId": one, "properties": properties}
        yield {**call, "timestamp": moment, "sentAt": moment}


def send(server, calls):
    status, body = server.request("POST", "/v1/batch", json.dumps({"batch": list(calls)}))
    if status != 200:
        raise CannotRun(f"a batch was answered with {status}: {body[:300]!r}")


def is_listed(server, tag):
    status, body = server.request("GET", "/v1/trends/tags?window=5m&limit=100")
    if status != 200:
        raise CannotRun(f"trends were answered with {status}: {body[:300]!r}")
    return any(item["tag"] == tag and item["rising"] for item in json.loads(body)["items"])


def run(args, folder):
    data = os.path.join(folder, "data")
    os.mkdir(data)
    server = Server(args.binary, data, free_port(), ["--clock", "replay"])
    server.start()
    delays = []
    try:
        for minute in range(MINUTES):
            tags = [f"steady{i % TAGS}" for i in range(2 * TAGS)]
            send(server, posts(tags, f"steady-{minute}", START + 60 * minute))
        for burst in range(args.bursts):
            tag = f"burst{burst}"
            send(server, posts([tag] * POSTS_OF_A_BURST, tag, START + 60 * MINUTES + 30 * burst))
            begun = time.perf_counter()
            while not is_listed(server, tag):
                if time.perf_counter() - begun > GIVE_UP_SECONDS:
                    print(f"{tag} was not listed within {GIVE_UP_SECONDS} s")
                    return 1
                time.sleep(0.002)
            delays.append(time.perf_counter() - begun)
            time.sleep(REST)
    finally:
        server.kill(signal.SIGKILL)
    median, worst = statistics.median(delays) * 1000, max(delays) * 1000
    print(f"{len(delays)} bursts listed, {median:.0f} ms after their records (median), {worst:.0f} ms at most")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, metavar="PATH")
    parser.add_argument("--bursts", type=int, default=20, metavar="N")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="millrace-delay-")
    try:
        return run(args, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, ValueError, KeyError) as error:
        print(f"trends delay: cannot run: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
