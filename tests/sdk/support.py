"""What the tests of SDKs for Python share: what the server says, and a proxy that loses answers."""

import argparse
import http.client
import http.server
import json
import os
import threading
import time
import urllib.parse
import uuid

WAIT_SECONDS = 30
PAGE = 1000
LOST = b'{"code":"unavailable","message":"the answer was lost"}'


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


class Platform:
    """What the server says, for comparison. Reads only what was appended since this object was made."""

    def __init__(self, url, admin_token, api_token):
        self.at = urllib.parse.urlsplit(url)
        self.admin_token = admin_token
        self.api_token = api_token
        self.places = {p: held["end"] for p, held in self.json("/v1/status")["log"]["actions"].items()}
        self.records = []

    def get(self, path, token):
        connection = http.client.HTTPConnection(self.at.hostname, self.at.port or 80, timeout=15)
        try:
            connection.request("GET", path, headers={"Authorization": "Bearer " + token} if token else {})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        check(response.status == 200, f"GET {path}: {response.status} {body[:200]!r}")
        return response, body

    def json(self, path):
        return json.loads(self.get(path, self.api_token)[1])

    def read_on(self):
        """Everything in `actions` since the start, ticks left out."""
        for partition in self.places:
            while True:
                at = self.places[partition]
                path = f"/v1/log/actions?partition={partition}&from={at}&limit={PAGE}"
                response, body = self.get(path, self.admin_token)
                self.records += [r for r in map(json.loads, body.splitlines()) if r["type"] != "tick"]
                self.places[partition] = int(response.headers["x-millrace-next-offset"])
                if self.places[partition] <= at:
                    break
        return self.records

    def with_id(self, message_id):
        """Its records. The id of a CloudEvent has its source before it."""
        return [r for r in self.read_on() if r.get("message_id", "").split(" ")[-1] == message_id]

    def settle(self):
        """Until the jobs have done what was sent so far; what others send meanwhile is not waited for."""
        # How much stage 1 publishes for the others is known once it is done.
        for is_awaited in (lambda job: job == "stage-one", lambda job: True):
            ends = {job: at for job, at in self.json("/v1/status")["jobs"].items() if is_awaited(job)}

            def is_done():
                now = self.json("/v1/status")["jobs"]
                return all(now[job][p]["committed"] >= at["end"] for job, parts in ends.items() for p, at in parts.items())

            until(is_done, "the jobs catch up")

    def engagement(self, post):
        """The counters, once everything sent so far counts."""
        self.settle()
        return self.json(f"/v1/posts/{urllib.parse.quote(post, safe='')}/engagement")


def until(true, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        check(time.monotonic() < deadline, f"waited {WAIT_SECONDS} s for: {what}")
        time.sleep(0.05)


class FlakyProxy:
    """Hands requests on to the server. The first `times` answers are lost on the way back, after the server took the batch.

    mode "drop": the connection is closed instead of an answer; "503": a 503 instead; "503-wait": the same with Retry-After;
    "shut": the same, and the server never sees the request.
    """

    def __init__(self, url, mode, times=1):
        at = urllib.parse.urlsplit(url)
        left = [times]
        self.requests = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                proxy.requests.append(dict(self.headers))
                if mode == "shut" and left[0] > 0:
                    left[0] -= 1
                    self.say(503, LOST, "1")
                    return
                server = http.client.HTTPConnection(at.hostname, at.port or 80, timeout=15)
                server.request("POST", self.path, body, dict(self.headers))
                response = server.getresponse()
                status, answer, after = response.status, response.read(), response.headers.get("Retry-After")
                server.close()
                if left[0] > 0:
                    left[0] -= 1
                    if mode == "drop":
                        self.close_connection = True
                        self.connection.close()
                        return
                    status, answer, after = 503, LOST, "1" if mode == "503-wait" else None
                self.say(status, answer, after)

            def say(self, status, answer, after):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                if after:
                    self.send_header("Retry-After", after)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def arguments(doc):
    """Where the server is, and what it asks for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    env = os.environ
    parser.add_argument("--to", default=env.get("MILLRACE_TO", "http://127.0.0.1:8080"))
    parser.add_argument("--write-key", default=env.get("MILLRACE_WRITE_KEY", "dev"))
    parser.add_argument("--admin-token", default=env.get("MILLRACE_ADMIN_TOKEN", ""))
    parser.add_argument("--api-token", default=env.get("MILLRACE_API_TOKEN", ""))
    return parser.parse_args()


# How answers are lost, and how many.
LOSSES = [("drop", 1), ("drop", 3), ("503", 2), ("503-wait", 1), ("shut", 2)]


def a_retry_counts_once(args, way, mode, times, sent_by, track):
    """Loses answers, so that the SDK sends again what has arrived, and compares the counters."""
    run = uuid.uuid4().hex[:12]
    platform = Platform(args.to, args.admin_token, args.api_token)
    author, post = f"author-{run}", f"post-{run}"
    ids = [str(uuid.uuid4()) for _ in range(22)]

    def calls(client):
        track(client, author, "post_created", {"post_id": post, "text": "hello"}, ids[0])
        for n in range(1, 21):
            track(client, f"reader-{run}-{n % 5}", "post_commented", {"post_id": post, "text": "x"}, ids[n])
        track(client, author, "post_shared", {"post_id": post}, ids[21])

    with FlakyProxy(args.to, mode, times) as proxy:
        sent_by(args, proxy.url, way, calls)
    check(len(proxy.requests) > times, f"the SDK sent {len(proxy.requests)} requests: no retry took place")
    if way == "gzip":
        check(all(r.get("Content-Encoding") == "gzip" for r in proxy.requests), "every request was compressed")
    copies = [len(platform.with_id(message_id)) for message_id in ids]
    check(min(copies) >= 1, f"an event is missing from the log: {copies}")
    if mode == "shut":
        check(max(copies) == 1, f"an event was sent again that had been taken: {copies}")
    else:
        check(max(copies) >= 1 + times, f"the log holds no duplicate, so this proved nothing: {copies}")
    totals = platform.engagement(post)["totals"]
    check((totals["comments"], totals["shares"]) == (20, 1), f"comments and shares are {totals}, not 20 and 1")


def run(sdk, args, calls, sent_by, track, ways=("plain", "gzip")):
    """Runs all tests in each of the ways that the SDK sends, and says how it went; 1 when something failed."""
    tests = [("every call", lambda way: calls(args, way))]
    for mode, times in LOSSES:
        name = f"a retry counts once ({mode}, {times} answers lost)"
        tests.append((name, lambda way, mode=mode, times=times: a_retry_counts_once(args, way, mode, times, sent_by, track)))
    failed = 0
    for name, test in tests:
        for way in ways:
            label = f"{sdk}: {name}, {way}"
            try:
                test(way)
                print(f"ok      {label}", flush=True)
            except Failed as why:
                failed += 1
                print(f"FAILED  {label}: {why}", flush=True)
    return 1 if failed else 0
