#!/usr/bin/env python3
"""Kills a server with -9 again and again while it archives, merges and writes checkpoints, and reads its table from outside
all the while.

    tests/archive/kill.py --binary PATH [--kills 50] [--seed N]

What must hold:
  * every event that was acknowledged stands in the table exactly once in the end, and no event ever stands there twice;
  * the table opens and reads at every moment, and never holds less than it held before;
  * the log of the table was summed up in a checkpoint at least once: it goes on, first killing, then without, until then,
    and kills once more;
  * `millrace verify` says equal.

Needs `pip install deltalake pyarrow`. Exit codes: 0 all held, 1 something did not, 2 could not run.
"""

import argparse
import collections
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BATCH = 50
# Between two batches of a sender, seconds: what is measured is not how much a debug build can take.
REST = 0.005
READY_WITHIN = 60
# A checkpoint comes after a hundred commits. A machine that is too busy to reach them between kills gets so much time to do
# it without, seconds.
PATIENCE = 600
# Between two batches then.
EASY_REST = 0.2


class CannotRun(Exception):
    pass


class Server:
    def __init__(self, binary, data, port, options=()):
        self.binary, self.data, self.port, self.options = binary, data, port, list(options)
        self.process = None

    def start(self):
        log = open(os.path.join(self.data, "..", "up.log"), "ab")
        command = [self.binary, "up", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}", *self.options]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise CannotRun(f"the server ended with {self.process.returncode}; see {log.name}")
            try:
                if self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise CannotRun(f"not ready within {READY_WITHIN} s; see {log.name}")

    def request(self, method, path, body=None, token=None):
        authorization = f"Bearer {token}" if token else "Basic ZGV2Og=="
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers={"Authorization": authorization})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def is_at_rest(self):
        """In a replay: everything is applied, and in every partition the last event was followed by a tick with the newest
        time, so that what is shown depends on nothing but the events."""
        token = os.environ.get("MILLRACE_ADMIN_TOKEN")
        if not token:
            with open(os.path.join(self.data, "admin-token"), encoding="ascii") as file:
                token = file.read().strip()
        status = json.loads(self.request("GET", "/v1/status")[1])
        last = []
        for partition, bounds in status["log"]["actions"].items():
            if bounds["end"] > 0:
                path = f"/v1/log/actions?partition={partition}&from={bounds['end'] - 1}&limit=1"
                last.append(json.loads(self.request("GET", path, token=token)[1]))
        is_told = all(not record.get("message_id") for record in last) and len({record["log_time"] for record in last}) <= 1
        return status["caught_up"] and is_told

    def kill(self, how):
        self.process.send_signal(how)
        self.process.wait()


class Sender(threading.Thread):
    """Sends batches for ever; remembers what was acknowledged, and what may have arrived all the same."""

    def __init__(self, server, nth):
        super().__init__(daemon=True)
        self.server, self.nth = server, nth
        self.acknowledged, self.unknown, self.rest = set(), set(), REST
        self.stopped = threading.Event()

    def run(self):
        number = 0
        while not self.stopped.is_set():
            ids = [f"s{self.nth}-{number}-{i}" for i in range(BATCH)]
            number += 1
            events = [
                {"type": "track", "messageId": m, "userId": f"u{i % 37}", "event": "Post Viewed", "properties": {"post_id": f"p{i % 50}"}}
                for i, m in enumerate(ids)
            ]
            body = json.dumps({"batch": events})
            # The same batch until it is answered: what a client does.
            while not self.stopped.is_set():
                try:
                    status, _ = self.server.request("POST", "/v1/batch", body)
                except (OSError, http.client.HTTPException):
                    self.unknown.update(ids)
                    time.sleep(0.02)
                    continue
                if status == 200:
                    self.acknowledged.update(ids)
                    time.sleep(self.rest)
                    break
                time.sleep(0.05)


class Reader(threading.Thread):
    """Opens the table as a stranger would, for ever."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.reads, self.rows, self.problem = 0, 0, None
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set() and not self.problem:
            try:
                ids = read_ids(self.path)
            except FileNotFoundError:
                time.sleep(0.1)
                continue
            except Exception as error:
                self.problem = f"the table could not be read: {type(error).__name__}: {error}"
                return
            self.reads += 1
            if len(ids) < self.rows:
                self.problem = f"the table went back from {self.rows} to {len(ids)} rows"
            if len(set(ids)) != len(ids):
                twice = [m for m, n in collections.Counter(ids).items() if n > 1]
                self.problem = f"{len(twice)} events stand in the table twice, such as {twice[0]}"
            self.rows = len(ids)


def read_ids(path):
    import deltalake

    if not os.path.isdir(os.path.join(path, "_delta_log")) or not os.listdir(os.path.join(path, "_delta_log")):
        raise FileNotFoundError(path)
    table = deltalake.DeltaTable(path)
    return table.to_pyarrow_table(columns=["message_id"]).column(0).to_pylist()


def checkpoints(path):
    try:
        return sum(name.endswith(".checkpoint.parquet") for name in os.listdir(os.path.join(path, "_delta_log")))
    except FileNotFoundError:
        return 0


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run(args, folder):
    data = os.path.join(folder, "data")
    os.mkdir(data)
    server = Server(args.binary, data, free_port())
    table = os.path.join(data, "warehouse", "events")
    chance = random.Random(args.seed)
    server.start()
    senders = [Sender(server, nth) for nth in range(2)]
    reader = Reader(table)
    for thread in [*senders, reader]:
        thread.start()
    kills = 0
    while kills < args.kills or (checkpoints(table) == 0 and kills < 2 * args.kills):
        time.sleep(chance.uniform(0.2, 3.0))
        server.kill(signal.SIGKILL)
        if reader.problem:
            break
        server.start()
        kills += 1
        if kills % 10 == 0:
            print(f"{kills} kills, {sum(len(s.acknowledged) for s in senders)} acknowledged, {reader.rows} rows", flush=True)
    if checkpoints(table) == 0 and not reader.problem:
        for sender in senders:
            sender.rest = EASY_REST
        deadline = time.monotonic() + PATIENCE
        while checkpoints(table) == 0 and time.monotonic() < deadline:
            time.sleep(1)
        server.kill(signal.SIGKILL)
        server.start()
        kills += 1
    for sender in senders:
        sender.stopped.set()
        sender.join()
    reader.stopped.set()
    reader.join()
    if reader.problem:
        print(f"after {reader.reads} reads from outside: {reader.problem}")
        return 1
    url = f"http://127.0.0.1:{server.port}"
    waited = subprocess.run([args.binary, "status", "--to", url, "--wait-caught-up"], stdout=subprocess.DEVNULL, timeout=900)
    if waited.returncode != 0:
        raise CannotRun(f"millrace status --wait-caught-up ended with {waited.returncode}")
    ids = read_ids(table)
    acknowledged = set().union(*(s.acknowledged for s in senders))
    unknown = set().union(*(s.unknown for s in senders))
    problems = []
    if len(set(ids)) != len(ids):
        problems.append(f"{len(ids) - len(set(ids))} rows too many")
    missing = acknowledged - set(ids)
    if missing:
        problems.append(f"{len(missing)} acknowledged events are missing, such as {min(missing)}")
    foreign = set(ids) - acknowledged - unknown
    if foreign:
        problems.append(f"{len(foreign)} rows that nobody sent, such as {min(foreign)}")
    server.kill(signal.SIGTERM)
    verified = subprocess.run([args.binary, "verify", "--data-dir", data], capture_output=True, text=True)
    print(verified.stdout.strip())
    if verified.returncode != 0:
        problems.append(f"verify ended with {verified.returncode}: {verified.stdout}{verified.stderr}")
    summed = checkpoints(table)
    if summed == 0:
        problems.append(f"no checkpoint was written within {kills} kills")
    files = sum(name.endswith(".parquet") for _, _, names in os.walk(table) for name in names) - summed
    print(
        f"{kills} kills, {len(acknowledged)} events acknowledged, {len(ids)} rows, {reader.reads} reads from outside, "
        f"{files} files and {summed} checkpoints on disk"
    )
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, metavar="PATH")
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    args = parser.parse_args()
    try:
        import deltalake  # noqa: F401
    except ImportError:
        raise CannotRun("deltalake is not installed: pip install deltalake pyarrow") from None
    folder = tempfile.mkdtemp(prefix="millrace-kill-")
    print(f"seed {args.seed}, {args.kills} kills")
    code = 2
    try:
        code = run(args, folder)
    finally:
        if code == 0:
            shutil.rmtree(folder)
        else:
            print(f"what it left is in {folder}", file=sys.stderr)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CannotRun, OSError, subprocess.SubprocessError) as error:
        print(f"archive kill: cannot run: {error}", file=sys.stderr)
        sys.exit(2)
