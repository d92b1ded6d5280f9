#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Do streams stall while the store copies live records out of half-empty segments?

    reclaim_stall.py --kvasir PROGRAM [--model GGUF] [--seconds N] [--fill-mib N]

A black box over HTTP. Sessions of about 2,000 tokens fill small segments; then tokens are streamed, one
request after another, for N seconds beside nothing, and, when two of three sessions were deleted, for N
seconds beside the copying. The gaps between the events of a stream are what a client sees.
"""
import argparse
import http.client
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

GAP_BAR = 2.0  # p99 beside the copying, as a multiple of p99 beside nothing


def words(seed, n=1500):
    r = random.Random(seed)
    return " ".join("".join(r.choice("abcdefghiklmnorstuw") for _ in range(r.randint(2, 6))) for _ in range(n))


class Server:
    def __init__(self, args, store):
        # A budget of 512 MiB makes segments of 32 MiB.
        line = [args.kvasir, "serve", "--port", "0", "--store", store, "--store-max-bytes", "512M", "--speculate", "off"]
        if args.model:
            line += ["-m", args.model]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        first = self.process.stdout.readline()
        if "listening on" not in first:
            sys.exit("reclaim_stall: the server did not start")
        self.url = first.split()[-1]

    def call(self, path, body=None, method=None, session=None):
        headers = {"Content-Type": "application/json"}
        if session:
            headers["X-Session-Id"] = session
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method)) as answer:
            return json.loads(answer.read())

    def store(self):
        return self.call("/v1/cache/stats")["store"]

    def stream(self, seconds):
        """Gaps in ms between the events of streams."""
        gaps, n, start = [], 0, time.time()
        connection = http.client.HTTPConnection(self.url.split("//")[1])
        while time.time() - start < seconds:
            n += 1
            connection.request("POST", "/v1/completions", json.dumps({
                "prompt": [300 + n * 31 % 2000, 301, 302, 5 + n], "max_tokens": 1000, "temperature": 0,
                "stream": True, "ignore_eos": True}), {"Content-Type": "application/json"})
            last = None
            for line in connection.getresponse():
                if line.startswith(b"data: {"):
                    now = time.perf_counter()
                    if last is not None:
                        gaps.append((now - last) * 1000)
                    last = now
        return sorted(gaps)


def tell(what, gaps, before, after):
    copied = after["compacted_bytes"] - before["compacted_bytes"]
    n = len(gaps)
    print(f"{what:20} {n} gaps: p50 {gaps[n // 2]:.2f} p99 {gaps[n * 99 // 100]:.2f} "
          f"p99.9 {gaps[n * 999 // 1000]:.2f} most {gaps[-1]:.1f} ms; {copied >> 20} MiB copied, "
          f"{after['compacted'] - before['compacted']} segments gone", flush=True)
    return gaps[n * 99 // 100]


def run(args, server):
    n = 0
    while server.store()["disk"]["segment_bytes"] < args.fill_mib << 20:
        server.call("/v1/chat/completions", {"messages": [{"role": "user", "content": words(n)}], "max_tokens": 1},
                    session=f"s-{n}")
        n += 1
    while server.store()["since_open"]["queued"]:
        time.sleep(0.05)
    before = server.store()["since_open"]
    alone = tell("beside nothing", server.stream(args.seconds), before, server.store()["since_open"])
    for i in range(n):
        if i % 3:
            server.call(f"/v1/sessions/s-{i}", method="DELETE")
    before = server.store()["since_open"]
    beside = tell("beside reclamation", server.stream(args.seconds), before, server.store()["since_open"])
    if server.store()["since_open"]["compacted_bytes"] == before["compacted_bytes"]:
        sys.exit("reclaim_stall: nothing was copied")
    print(f"p99 {beside / alone:.2f} of what it is alone  bar ≤ {GAP_BAR}: {'met' if beside <= GAP_BAR * alone else 'not met'}")


def main():
    parser = argparse.ArgumentParser(description="gaps of streams beside reclamation")
    parser.add_argument("--kvasir", required=True)
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--fill-mib", type=int, default=160)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    store = tempfile.mkdtemp(prefix="reclaim-stall-")
    server = None
    try:
        server = Server(args, store)
        run(args, server)
    finally:
        if server:
            server.process.kill()
            server.process.wait()
        shutil.rmtree(store, ignore_errors=True)


if __name__ == "__main__":
    main()
