#!/usr/bin/env python3
"""Precision, recall, delay and place of what the platform calls rising, on simulated bursts whose times are known.

    tests/simulate/score_trends.py --binary target/release/millrace --seeds 10
    tests/simulate/score_trends.py --truth truth.json --answers answers.ndjson

The first form makes a history for each seed (`millrace simulate --out --truth`), starts a platform in replay time on a directory
that is thrown away, sends the history in slices of event time and asks `/v1/trends/tags` and `/v1/trends/posts` after each one.
With --record DIR each seed's truth and answers are kept there, for the second form, which scores them again without a server.
What counts as found, missed and made up is said in scoring.py.

Exit codes: 0 scored (and at least --min-precision and --min-recall where given, of tags over 5m), 1 scored below them, 2 could
not run.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from scoring import Score, answer_of, bursts_of, score, seconds

BATCH_CALLS = 500
KINDS = ("tag", "post")
READY_SECONDS = 60
CAUGHT_UP_SECONDS = 120


class CannotRun(Exception):
    pass


class Platform:
    """`millrace up --clock replay` on a free port and a directory of its own."""

    def __init__(self, binary, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log_path = folder / "up.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
        command = [binary, "up", "--clock", "replay", "--data-dir", folder / "data", "--listen", f"127.0.0.1:{self.port}"]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.connection = None

    def wait_ready(self):
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise CannotRun("the platform ended: " + self.log_path.read_text(errors="replace")[-2000:])
            try:
                if self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise CannotRun(f"the platform was not ready within {READY_SECONDS} s")

    def request(self, method, path, body=None):
        headers = {"Authorization": "Basic " + base64.b64encode(b"dev:").decode(), "Content-Type": "application/json"}
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self.connection.request(method, path, body=body, headers=headers)
            response = self.connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            raise OSError(f"{method} {path}: {error}") from error

    def get(self, path):
        status, body = self.request("GET", path)
        if status != 200:
            raise CannotRun(f"GET {path} was answered with {status}: {body[:300].decode(errors='replace')}")
        return json.loads(body)

    def send(self, lines):
        for at in range(0, len(lines), BATCH_CALLS):
            body = b'{"batch":[' + b",".join(lines[at : at + BATCH_CALLS]) + b"]}"
            for _ in range(100):
                status, answer = self.request("POST", "/v1/batch", body)
                if status != 503:
                    break
                time.sleep(0.1)
            if status != 200:
                raise CannotRun(f"a batch was answered with {status}: {answer[:300].decode(errors='replace')}")

    def wait_caught_up(self):
        until = time.monotonic() + CAUGHT_UP_SECONDS
        while not self.get("/v1/status")["caught_up"]:
            if time.monotonic() > until:
                raise CannotRun(f"the platform did not catch up within {CAUGHT_UP_SECONDS} s")
            time.sleep(0.005)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def slices(path, width):
    """The lines of a history, in the order of the file, cut where event time first passes another multiple of `width` s."""
    lines, until = [], None
    with open(path, "rb") as file:
        for line in file:
            call = json.loads(line)
            # What is late has been in the past for a while.
            at = seconds(call["timestamp"])
            until = until or at + width
            if at >= until:
                yield lines
                lines = []
                while at >= until:
                    until += width
            lines.append(line.strip())
    if lines:
        yield lines


def run_seed(options, seed, folder):
    events, truth_path = folder / "events.ndjson", folder / "truth.json"
    command = [options.binary, "simulate", "--seed", str(seed), "--out", events, "--truth", truth_path]
    command += ["--users", str(options.users), "--pace", str(options.pace), "--bursts", str(options.bursts)]
    command += ["--burst-every", str(options.burst_every), "--burst-seconds", str(options.burst_seconds)]
    command += ["--burst-factor", str(options.burst_factor), "--rhythm", str(options.rhythm)]
    command += ["--events", str(options.pace * options.burst_every * (options.bursts + 2))]
    if subprocess.run(command, check=False).returncode != 0:
        raise CannotRun("the history could not be made")
    answers, bodies = [], []
    platform = Platform(options.binary, folder)
    try:
        platform.wait_ready()
        for lines in slices(events, options.slice):
            platform.send(lines)
            platform.wait_caught_up()
            for kind in KINDS:
                for window in options.windows:
                    body = platform.get(f"/v1/trends/{kind}s?window={window}&limit={options.limit}")
                    bodies.append({"kind": kind, **body})
                    answers.append(answer_of(kind, body))
    finally:
        platform.stop()
    if options.record:
        kept = pathlib.Path(options.record)
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(truth_path, kept / f"truth-{seed}.json")
        with open(kept / f"answers-{seed}.ndjson", "w", encoding="utf-8") as out:
            out.writelines(json.dumps(body) + "\n" for body in bodies)
    return bursts_of(json.loads(truth_path.read_text())), [answer for answer in answers if answer]


def show(name, kind, window, result):
    def number(value, form="{:.3f}"):
        return "-" if value is None else form.format(value)

    told = result.as_json()
    print(
        f"{name:8} {kind:5} {window:4} precision {number(result.precision)} ({result.right_episodes}/{result.episodes} episodes)"
        f"  recall {number(result.recall)} ({result.found}/{result.bursts} bursts)"
        f"  delay {number(told['delay_seconds_median'], '{:.0f}')} s median, {number(told['delay_seconds_max'], '{:.0f}')} s at most"
        f"  first place {told['first_places']}/{result.found}, worst {number(told['place_worst'], '{}')}"
        f"  {result.answers} answers",
        flush=True,
    )


def recorded(options):
    with open(options.truth, encoding="utf-8") as file:
        bursts = bursts_of(json.load(file))
    with open(options.answers, encoding="utf-8") as file:
        answers = [answer_of(body["kind"], body) for body in map(json.loads, file)]
    return bursts, [answer for answer in answers if answer]


def histories(options):
    """(name, bursts, answers) of each history to be scored."""
    if options.truth:
        yield "recorded", *recorded(options)
        return
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        with tempfile.TemporaryDirectory(prefix="millrace-trends-") as folder:
            yield f"seed {seed}", *run_seed(options, seed, pathlib.Path(folder))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the millrace to run")
    parser.add_argument("--seeds", type=int, default=10, help="how many histories (10)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--pace", type=int, default=20, help="events per second of event time (20)")
    parser.add_argument("--bursts", type=int, default=6, help="per history; every second one is of a post (6)")
    parser.add_argument("--burst-every", type=int, default=1800, help="seconds from one to the next (1800)")
    parser.add_argument("--burst-seconds", type=int, default=600)
    parser.add_argument("--burst-factor", type=float, default=20.0)
    parser.add_argument("--rhythm", type=float, default=0.5)
    parser.add_argument("--slice", type=int, default=30, help="seconds of event time between two polls (30)")
    parser.add_argument("--windows", nargs="+", default=["5m", "1h"])
    parser.add_argument("--limit", type=int, default=100, help="items asked for (100)")
    parser.add_argument("--record", help="keep truths and answers in this folder")
    parser.add_argument("--truth", help="score a recording: the truth of simulate")
    parser.add_argument("--answers", help="and the answers, one a line, each with its kind")
    parser.add_argument("--min-precision", type=float)
    parser.add_argument("--min-recall", type=float)
    parser.add_argument("--json", action="store_true", help="print the totals as JSON at the end")
    options = parser.parse_args()
    if bool(options.truth) != bool(options.answers) or bool(options.truth) == bool(options.binary):
        parser.error("give either --binary or both --truth and --answers")
    return options


def main():
    options = parse()
    totals = {}
    for name, bursts, answers in histories(options):
        windows = options.windows if options.binary else sorted({answer.window for answer in answers})
        for kind in KINDS:
            for window in windows:
                result = score(bursts, answers, kind, window)
                show(name, kind, window, result)
                totals.setdefault((kind, window), Score()).add(result)
    for (kind, window), result in totals.items():
        show("total", kind, window, result)
    if options.json:
        print(json.dumps({f"{kind} {window}": result.as_json() for (kind, window), result in totals.items()}))
    for subject, result in totals.items():
        if subject != ("tag", "5m"):
            continue
        for least, found in ((options.min_precision, result.precision), (options.min_recall, result.recall)):
            if least is not None and (found is None or found < least):
                return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, KeyError, ValueError) as error:
        print(f"score_trends: {error}", file=sys.stderr)
        sys.exit(2)
