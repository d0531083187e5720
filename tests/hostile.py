#!/usr/bin/env python3
"""How fast a healthy client is answered alone, and beside each of several attacks on the same server.

    python3 tests/hostile.py ~/.cache/millrace-target/release/millrace [--requests 2000] [--connections 2000]

Starts a server of its own on a folder that is thrown away. The healthy client sends one event at a time on one kept
connection and must be answered 200 every time; the attackers are in another process, on another address of the loopback.
Alone is measured before and after every attack, because a machine is not equally quiet all the time. Exits with 1 when the
healthy client is not answered, 2 when the server does not start.
"""

import argparse
import asyncio
import gzip
import http.client
import json
import multiprocessing
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

KEY = "Basic d2ViLWtleS0xOg=="  # web-key-1
ATTACKER = "127.0.0.2"
HEAD = f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\n"
TRICKLE_S = 0.5
START_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def percentile(samples, share):
    return sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]


def memory(pid):
    fields = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    of = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in fields if line.startswith(("VmHWM", "VmRSS"))}
    return of["VmRSS"], of["VmHWM"]


def healthy(port, requests):
    """The time of each answer, in milliseconds."""
    body = json.dumps({"batch": [{"type": "track", "userId": "ada", "event": "Post Shared", "properties": {"post_id": "p"}}]})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took = []
    for _ in range(requests):
        begun = time.perf_counter()
        connection.request("POST", "/v1/batch", body, {"Authorization": KEY})
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - begun) * 1000)
        if answer.status != 200:
            sys.exit(f"the healthy client was answered {answer.status}")
    connection.close()
    return took


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0), limit=2**16)


async def forever(port, once):
    """Does it again and again, whatever the server says."""
    while True:
        try:
            reader, writer = await connect(port)
            try:
                await once(reader, writer)
            finally:
                writer.close()
        except OSError:
            await asyncio.sleep(TRICKLE_S)


async def trickle(writer, first, rest):
    writer.write(first)
    while True:
        for byte in rest:
            await asyncio.sleep(TRICKLE_S)
            writer.write(bytes([byte]))
            await writer.drain()


async def slow_head(reader, writer):
    await trickle(writer, b"P", b"OST /v1/batch HTTP/1.1\r\nX: 0123456789")


async def slow_body(reader, writer):
    await trickle(writer, (HEAD + "Content-Length: 2000\r\n\r\n").encode(), b"x")


async def silent(reader, writer):
    await reader.read()


async def unread(reader, writer):
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    while True:
        writer.write(request * 100)
        await writer.drain()


async def nonsense(reader, writer):
    writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    await reader.read()


def posted(body, headers=""):
    whole = (HEAD + headers + f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    async def once(reader, writer):
        while True:
            writer.write(whole)
            await writer.drain()
            if not await reader.readuntil(b"\r\n\r\n"):
                return
            # What follows is the error body, which ends before the next head is asked for.
            await reader.readuntil(b"}")

    return once


def events(n, properties="{}"):
    event = '{"type":"track","userId":"a","event":"x","properties":%s}' % properties
    return ('{"batch":[' + ",".join([event] * n) + "]}").encode()


def attacks(connections):
    """The name of each attack, what one connection does, and how many do it at once. One that costs the server work does
    not come from thousands: then every request is work, an attack or not, and rates are what bounds it."""
    bomb = gzip.compress(b" " * (200 * 1024 * 1024), 9)
    deep = "[" * 400_000
    return [
        ("slow heads", slow_head, connections),
        ("slow bodies", slow_body, connections),
        ("silence", silent, connections),
        ("answers not read", unread, 50),
        ("nonsense", nonsense, 4),
        ("gzip bombs", posted(bomb, "Content-Encoding: gzip\r\n"), 1),
        ("bodies of 2 MiB + 1", posted(b" " * (2 * 1024 * 1024 + 1)), 1),
        ("unclosed nesting", posted(deep.encode()), 1),
        ("2,501 events", posted(events(2501)), 1),
    ]


def attack(port, nth, connections, ready):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    _, once, count = attacks(connections)[nth]

    async def everybody():
        tasks = [asyncio.create_task(forever(port, once)) for _ in range(count)]
        await asyncio.sleep(3)
        ready.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(everybody())


def start(binary, folder, port):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    server = subprocess.Popen(
        [binary, "up", "--data-dir", folder, "--listen", f"127.0.0.1:{port}", "--write-keys", "web:web-key-1"],
        stdout=subprocess.DEVNULL, env=environment,
    )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return server
        except OSError:
            pass
        time.sleep(0.05)
    server.kill()
    print("the server did not start", file=sys.stderr)
    sys.exit(2)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("binary")
    args.add_argument("--requests", type=int, default=2000, help="of the healthy client, for each figure")
    args.add_argument("--connections", type=int, default=2000, help="of the attackers who are slow or silent")
    args = args.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = start(args.binary, folder, port)
        try:
            healthy(port, args.requests)
            print(f"load {os.getloadavg()[0]:.1f}; milliseconds per answer; memory in MiB")
            print(f"{'beside':<22}{'alone p50':>10}{'p99':>8}{'beside p50':>12}{'p99':>8}{'p99 ratio':>11}{'rss':>7}{'peak':>7}")
            for nth, (name, _, count) in enumerate(attacks(args.connections)):
                before = healthy(port, args.requests)
                ready = multiprocessing.Event()
                attackers = multiprocessing.Process(target=attack, args=(port, nth, args.connections, ready))
                attackers.start()
                try:
                    ready.wait()
                    beside = healthy(port, args.requests)
                    rss, peak = memory(server.pid)
                finally:
                    attackers.kill()
                    attackers.join()
                # The connections of those who are gone have to be noticed first.
                time.sleep(1)
                alone = before + healthy(port, args.requests)
                ratio = percentile(beside, 0.99) / percentile(alone, 0.99)
                print(
                    f"{f'{count} {name}':<22}{percentile(alone, 0.5):>10.2f}{percentile(alone, 0.99):>8.2f}"
                    f"{percentile(beside, 0.5):>12.2f}{percentile(beside, 0.99):>8.2f}{ratio:>11.2f}{rss:>7}{peak:>7}",
                    flush=True,
                )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


if __name__ == "__main__":
    main()
