#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What resuming costs, by length, and what keeping costs while tokens are generated.

    resume_length.py --kvasir PROGRAM [--model GGUF] [--lengths 67,512,…] [--runs N] [--dir FOLDER]

A black box over HTTP. Per length: the prompt is computed once, then asked again in the same process,
after a restart with the page cache as it is, and after a restart with the store's files dropped from
the page cache (posix_fadvise). Engine: look-up and prefill of the reply; wire: request sent to the
first streamed content. Medians. Then two servers, one with a store and one without, generate by turns:
the ratio of their tokens a second, the median over the rounds, beside its bar. Nothing is guessed
(--speculate off), so that a token is a step.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

DECODE_BAR = 0.98


def prompt_of(length, seed):
    """Token ids that every vocabulary has, another prompt for each seed."""
    return [300 + (seed * 104729 + i * i * 31 + i * 7919) % 3000 for i in range(length)]


class Server:
    running = []

    def __init__(self, args, store):
        line = [args.kvasir, "serve", "--port", "0", "--store", store, "--ctx", str(args.ctx), "--speculate", "off"]
        if args.model:
            line += ["-m", args.model]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        Server.running.append(self)
        first = self.process.stdout.readline()
        if "listening on" not in first:
            sys.exit("resume_length: the server did not start")
        self.url = first.split()[-1]

    def ask(self, tokens, n, stream=True):
        body = {"prompt": tokens, "max_tokens": n, "temperature": 0, "stream": stream, "ignore_eos": True}
        request = urllib.request.Request(self.url + "/v1/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        start, wire, last = time.perf_counter(), None, {}
        with urllib.request.urlopen(request) as answer:
            if not stream:
                last = json.loads(answer.read())
            for line in answer if stream else ():
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if wire is None and chunk.get("choices") and chunk["choices"][0].get("text"):
                    wire = (time.perf_counter() - start) * 1000
                last = chunk if "kvasir" in chunk else last
        return last["kvasir"], wire

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as answer:
            return json.loads(answer.read())

    def settle(self):
        while self.get("/v1/cache/stats")["store"]["since_open"]["queued"]:
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        Server.running.remove(self)


folders = []


def folder(args):
    folders.append(tempfile.mkdtemp(prefix="resume-length-", dir=args.dir))
    return folders[-1]


def leave_nothing():
    for server in list(Server.running):
        server.process.kill()
        server.process.wait()
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)


def drop(store):
    for root, _, names in os.walk(store):
        for name in names:
            fd = os.open(os.path.join(root, name), os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def engine(reply):
    return reply["ms"]["lookup"] + reply["ms"]["prefill"]


def lengths_part(args):
    print(f"{'tokens':>7} {'computed ms':>12} {'known ms':>10} {'wire':>8} {'restart ms':>11} {'wire':>8}"
          f" {'dropped ms':>11} {'wire':>8}")
    for length in args.lengths:
        store = folder(args)
        server = Server(args, store)
        tokens = prompt_of(length, length)
        cold, _ = server.ask(tokens, 2)
        server.settle()
        rows = {"known": [], "restart": [], "dropped": []}
        for _ in range(args.runs):
            rows["known"].append(server.ask(tokens, 2))
        for kind in ("restart", "dropped"):
            for _ in range(args.runs):
                server.stop()
                if kind == "dropped":
                    drop(store)
                server = Server(args, store)
                rows[kind].append(server.ask(tokens, 2))
        server.stop()
        shutil.rmtree(store)
        if any(reply["tokens"]["computed"] for replies in rows.values() for reply, _ in replies):
            sys.exit(f"resume_length: {length} tokens were computed again")
        text = f"{length:7} {engine(cold):12.1f}"
        for kind, width in (("known", 10), ("restart", 11), ("dropped", 11)):
            text += f" {statistics.median(engine(r) for r, _ in rows[kind]):{width}.3f}"
            text += f" {statistics.median(w for _, w in rows[kind]):8.2f}"
        print(text, flush=True)


def saving_part(args):
    store = folder(args)
    servers = {"kept": Server(args, store), "not": Server(args, "none")}
    ratios, rates = [], {"kept": [], "not": []}
    if not args.generated:  # about a second a turn, so that a lost time slice doesn't decide
        reply, _ = servers["not"].ask(prompt_of(256, 9999), 64, stream=False)
        args.generated = max(96, min(args.ctx - 300, int(63 / reply["ms"]["decode"] * 1000)))
    for turn in range(args.rounds):
        rate = {}
        for kind in ("kept", "not") if turn % 2 else ("not", "kept"):
            reply, _ = servers[kind].ask(prompt_of(256, turn), args.generated, stream=False)
            rate[kind] = (args.generated - 1) / reply["ms"]["decode"] * 1000
            rates[kind].append(rate[kind])
        ratios.append(rate["kept"] / rate["not"])
    for server in servers.values():
        server.stop()
    shutil.rmtree(store)
    ratio = statistics.median(ratios)
    print(f"decode with the store {statistics.median(rates['kept']):.1f} tok/s, without "
          f"{statistics.median(rates['not']):.1f}, {args.generated} tokens a turn: {ratio:.3f} (rounds {min(ratios):.3f} … {max(ratios):.3f})"
          f"  bar ≥ {DECODE_BAR}: {'met' if ratio >= DECODE_BAR else 'not met'}; the best rounds of each "
          f"{max(rates['kept']):.1f} and {max(rates['not']):.1f}: {max(rates['kept']) / max(rates['not']):.3f}")


def main():
    parser = argparse.ArgumentParser(description="resume time by length; what keeping costs")
    parser.add_argument("--kvasir", required=True)
    parser.add_argument("--model")
    parser.add_argument("--lengths", default="67,512,2048,8192,20000,32000",
                        type=lambda text: [int(n) for n in text.split(",") if n])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--generated", type=int, default=0)
    parser.add_argument("--dir")
    args = parser.parse_args()
    args.ctx = max(args.lengths + [2048]) + 256
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if args.lengths:
            lengths_part(args)
        if args.rounds:
            saving_part(args)
    finally:
        leave_nothing()


if __name__ == "__main__":
    main()
