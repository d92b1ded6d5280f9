#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kvasir against llama.cpp and ik_llama.cpp: the same files, threads and prompts, in interleaved rounds.

    speed.py [--kvasir build/kvasir] [--out FILE] [--rounds 3] [--threads N] PART…
    speed.py --list            the parts, each a few minutes at most
    speed.py --report          the bars, from all that --out holds

Lines are added to --out (JSON), so that parts and rounds may be run one at a time; those of another kvasir
binary than the one at hand do not count.  A round asks every side the same question, one after the other, in an
order that turns; a figure is the median over the rounds of the ratio within a round.  A line during which more
than a tenth of the machine's CPU time went to other processes is thrown away and measured again.

    NAME-sweep    each rival's settings at 512 and 2,048 tokens, one round: the best ones are used from then on
    NAME-0 …      prefill of a cold prompt of 16, 512, 2,048, 8,192 − 256 tokens, and 64 tokens decoded behind it
    NAME-streams  8 streams of 16 + 192 tokens together, over HTTP
    NAME-start    process start to first token of a 16-token prompt, over HTTP, page cache warm
    NAME-memory   peak RssAnon of a server with 8,192 tokens of context over a prompt of 2,048
    kernels       8-bit matrix × matrix beside the machine's own peak of the same instructions
NAME-0 also measures what the machine reads from memory, in each round: a decoded token reads every weight
once, so (bytes of the GGUF's tensors that a token needs × tok/s) ÷ that is the share of the possible.
Bars are printed as met or not met, with what explains a missed one: shares of the machine's bandwidth and
peaks, and the processor's counters where perf can read them.  A bar that is missed is a figure, not an error:
the exit code is 0."""
import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rivals  # noqa: E402

MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma": "gemma-3-270m-q4_k_m.gguf"}
# 8k: SmolLM2's context is 8,192, and 64 tokens follow.
LENGTHS = {"0": 16, "512": 512, "2k": 2048, "8k": 7936}
CTX = 8192
STREAMS, STREAM_TOKENS = 8, 192
TRIES = 4  # of a line, where others kept the machine busy
RATIO_BARS = {
    "llama.cpp": {
        "prefill": {"smollm2": {"512": 3.0, "2k": 2.5, "8k": 2.2}, "gemma": {"512": 2.5, "2k": 2.2, "8k": 1.8}},
        "decode": {"smollm2": {"0": 1.4, "2k": 1.8, "8k": 3.0}, "gemma": {"0": 1.3, "2k": 1.35, "8k": 1.5}},
        "streams": {"smollm2": {"": 2.0}, "gemma": {"": 2.0}},
    },
    "ik": {
        "prefill": {name: {"512": 1.4, "2k": 1.4} for name in MODELS},
        "decode": {name: {"0": 1.1, "512": 1.1} for name in MODELS},
    },
}
# Time and memory: at most this share of llama.cpp's.
SHARE_BARS = {"start": 1 / 3, "memory": 1.1}
# At least this share of what the machine reads and multiplies.
READ_BARS = {"smollm2": 0.65, "gemma": 0.75}
KERNEL_BAR = 0.75
KERNEL_TYPES = ("Q8_0", "Q6_K", "Q5_0", "Q4_1", "Q4_K")  # of the two models


# ---- the machine ----
def busy_seconds():
    """CPU time of all processes and of the hypervisor's other guests."""
    with open("/proc/stat") as f:
        t = [int(x) for x in f.readline().split()[1:9]]
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


class Guard:
    """Which share of the machine went to others while a side worked.  Without a pid: while processes ran
    that began and ended inside."""

    def __init__(self, pid=None):
        self.pids = [pid, os.getpid()] if pid else [os.getpid()]

    def own_seconds(self):
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(map(rivals.cpu_seconds, self.pids)) + ended.ru_utime + ended.ru_stime

    def __enter__(self):
        self.wall, self.busy = time.monotonic(), busy_seconds()
        self.own = self.own_seconds()
        return self

    def __exit__(self, *_):
        own = self.own_seconds() - self.own
        wall = (time.monotonic() - self.wall) * os.cpu_count()
        self.foreign = max(0.0, (busy_seconds() - self.busy - own) / wall) if wall > 0 else 0.0


def cpu_flags():
    with open("/proc/cpuinfo") as f:
        return next((line.split() for line in f if line.startswith("flags")), [])


def cpu_name():
    with open("/proc/cpuinfo") as f:
        return next((line.partition(":")[2].strip() for line in f if line.startswith("model name")), "unknown")


def read_gbs(a):
    """GB/s that this machine reads from memory with all threads measured (one, two): the best of runs."""
    out = subprocess.run([os.path.join(os.path.dirname(a.kvasir), "peak"), "--read"], capture_output=True,
                         text=True, check=True).stdout
    return max(float(x) for x in re.findall(r"([0-9.]+) GB/s", out))


def counters(pid, ask):
    """The processor's own counters while ask() runs; {} where perf is not there or may not read them."""
    if not shutil.which("perf"):
        return {}
    perf = subprocess.Popen(["perf", "stat", "-x", ",", "-e", "cycles,instructions,cache-misses", "-p", str(pid)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.2)  # until it is attached
    ask()
    perf.send_signal(signal.SIGINT)
    lines = [line.split(",") for line in perf.communicate()[1].splitlines()]
    return {line[2]: int(line[0]) for line in lines if len(line) > 2 and line[0].isdigit()}


# ---- the model's file ----
# GGUF: type → (elements, bytes) of a block
TYPE_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
               11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136),
               30: (1, 2), 39: (32, 17)}
VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def token_bytes(path):
    """(bytes of tensors that decoding a token reads, weights that a token of a prompt multiplies with): every
    tensor whole, but of an embedding that is not the output matrix too, one row."""
    with open(path, "rb") as f:
        def number(form):
            return struct.unpack("<" + form, f.read(struct.calcsize(form)))[0]

        def skip_value(kind):
            if kind == 8:
                f.seek(number("Q"), os.SEEK_CUR)
            elif kind == 9:
                inner, n = number("I"), number("Q")
                if inner in VALUE_BYTES:
                    f.seek(n * VALUE_BYTES[inner], os.SEEK_CUR)
                else:
                    for _ in range(n):
                        skip_value(inner)
            else:
                f.seek(VALUE_BYTES[kind], os.SEEK_CUR)

        f.seek(8)  # magic, version
        n_tensors, n_values = number("Q"), number("Q")
        for _ in range(n_values):
            f.seek(number("Q"), os.SEEK_CUR)
            skip_value(number("I"))
        tensors = {}
        for _ in range(n_tensors):
            name = f.read(number("Q")).decode()
            shape = [number("Q") for _ in range(number("I"))]
            elements, size = TYPE_BLOCKS[number("I")]
            number("Q")
            row = shape[0] // elements * size
            rows = 1
            for n in shape[1:]:
                rows *= n
            tensors[name] = (row, rows, shape[0] * rows if len(shape) > 1 else 0)
    if "output.weight" in tensors:
        tensors["token_embd.weight"] = (tensors["token_embd.weight"][0], 1, 0)
    head = tensors.get("output.weight", tensors["token_embd.weight"])[2]
    return (sum(row * rows for row, rows, _ in tensors.values()), sum(n for _, _, n in tensors.values()) - head)


# ---- lines ----
class Book:
    """All lines measured, in one JSON file."""

    def __init__(self, path, program):
        self.path = path
        with open(program, "rb") as f:
            self.build = hashlib.sha256(f.read()).hexdigest()[:16]
        self.lines = []
        if os.path.exists(path):
            with open(path) as f:
                self.lines = json.load(f)["lines"]

    def add(self, **line):
        self.lines.append({"build": self.build, "cpu": cpu_name(), "when": int(time.time()), **line})

    def save(self, bars=None):
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path + ".new", "w") as f:
            json.dump({"lines": self.lines, "bars": bars or []}, f, indent=1)
        os.replace(self.path + ".new", self.path)

    def mine(self, **which):
        return [x for x in self.lines if x["build"] == self.build and x["cpu"] == cpu_name()
                and all(x.get(k) == v for k, v in which.items())]

    def next_round(self, part):
        return 1 + max((x["round"] for x in self.mine(part=part)), default=0)

    def best_setting(self, name, side, length):
        """The setting with the highest prefill × decode at the swept length next to this one."""
        swept = "512" if length in ("0", "512") else "2k"
        lines = [x for x in self.lines if x["part"] == f"{name}-sweep" and x["side"] == side
                 and x["length"] == swept and x["cpu"] == cpu_name()]
        if not lines:
            return rivals.SETTINGS[side][0]
        return max(lines, key=lambda x: x["prefill"] * x["decode"])["setting"]


def measured(a, side, question):
    """Answer of question(try) and the foreign share meanwhile, once that is low; None: it never was.
    A question must be another one in each try, since a server may remember the last."""
    for i in range(TRIES):
        with Guard(side.pid if side else None) as guard:
            answer = question(i)
        if guard.foreign <= a.foreign:
            return answer, round(guard.foreign, 3)
        who = side.name if side else "a process"
        print(f"    {who}: {100 * guard.foreign:.0f} % foreign CPU, thrown away", flush=True)
        time.sleep(2)
    return None, None


def rates(length, answer):
    n = LENGTHS[length]
    return {"prefill": n / answer["prefill_ms"] * 1e3,
            "decode": (rivals.DECODE_TOKENS - 1) / answer["decode_ms"] * 1e3}


# ---- parts ----
def our_sides(a):
    """What kvasir is run as: its best kernels and, where those are others, AVX2."""
    sides = [("kvasir", [])]
    if "avx512vl" in cpu_flags():
        sides.append(("kvasir-avx2", ["--isa", "avx2"]))
    return [(name, flags + a.flag) for name, flags in sides if not a.sides or name in a.sides]


def rival_names(a, known):
    return [name for name in known if not a.sides or name in a.sides]


def prompt_of(name, n):
    """The same n token ids for the same name, and others from the first token on for another."""
    rng = random.Random(name)
    return [rng.randrange(1000, 40000) for _ in range(n)]


def run_depth(a, book, name, length):
    part, model = f"{name}-{length}", a.models[name]
    sides = []
    try:
        for side, flags in our_sides(a):
            sides.append((side, rivals.Kvasir(a.kvasir, model, a.threads, CTX, flags)))
        for side in rival_names(a, ("llama.cpp", "ik")):
            sides.append((side, rivals.Rival(side, model, a.threads, CTX, book.best_setting(name, side, length))))
        first = book.next_round(part)
        for r in range(first, first + a.rounds):
            turned = sides[r % len(sides):] + sides[:r % len(sides)]
            for label, side in turned:
                answer, foreign = measured(
                    a, side, lambda i, s=side, r=r: s.run(prompt_of(f"{part} {r} {i}", LENGTHS[length])))
                if answer is None:
                    continue
                line = rates(length, answer)
                book.add(part=part, model=name, length=length, side=label, round=r, foreign=foreign,
                         setting=side.setting, **line)
                print(f"  round {r} {label:12} prefill {line['prefill']:8.1f}  decode {line['decode']:7.1f} tok/s"
                      f"   foreign {foreign:.2f}", flush=True)
            if length == "0":
                gbs, foreign = measured(a, None, lambda _: read_gbs(a))
                if gbs:
                    book.add(part=part, model=name, length=length, side="machine", round=r, foreign=foreign, read=gbs)
                    print(f"  round {r} the machine reads {gbs:.1f} GB/s   foreign {foreign:.2f}", flush=True)
            book.save()
        for label, side in sides:
            if side.name == "kvasir":
                seen = counters(side.pid, lambda s=side: s.run(prompt_of(f"{part} {label} counted", LENGTHS[length])))
                book.add(part=part, model=name, length=length, side=label, round=first, counters=seen)
        book.save()
    finally:
        for _, side in sides:
            side.close()


def run_sweep(a, book, name):
    for side in rival_names(a, ("llama.cpp", "ik")):
        for setting in rivals.SETTINGS[side]:
            try:
                rival = rivals.Rival(side, a.models[name], a.threads, CTX, setting)
            except RuntimeError as e:
                print(f"  {e}", flush=True)
                continue
            try:
                for length in ("512", "2k"):
                    answer, foreign = measured(
                        a, rival, lambda i, s=rival, n=length: s.run(prompt_of(f"sweep {n} {i}", LENGTHS[n])))
                    if answer is None:
                        continue
                    line = rates(length, answer)
                    book.add(part=f"{name}-sweep", model=name, length=length, side=side, round=1, foreign=foreign,
                             setting=setting, **line)
                    print(f"  {side:10} {length:>4} {json.dumps(setting)}: prefill {line['prefill']:.1f}  "
                          f"decode {line['decode']:.1f} tok/s", flush=True)
            except RuntimeError as e:
                print(f"  {e}", flush=True)
            finally:
                rival.close()
            book.save()


def stream_rate(side, prompts):
    """Tokens a second of all streams together, from the first request to the last answer."""
    errors = []

    def ask(prompt):
        try:
            rivals.post(side.url + side.generate_path, side.generate_body(prompt, STREAM_TOKENS))
        except (OSError, ValueError) as e:
            errors.append(str(e))

    threads = [threading.Thread(target=ask, args=(p,)) for p in prompts]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise RuntimeError(f"{side.name}: {errors[0]}")
    return len(prompts) * STREAM_TOKENS / (time.monotonic() - start)


def run_streams(a, book, name):
    part, sides = f"{name}-streams", []
    try:
        for side, flags in our_sides(a):
            sides.append((side, rivals.Kvasir(a.kvasir, a.models[name], a.threads, 512,
                                              ["--parallel", str(STREAMS), *flags])))
        for side in rival_names(a, ("llama.cpp",)):
            sides.append((side, rivals.Rival(side, a.models[name], a.threads, 512,
                                             book.best_setting(name, side, "0"), parallel=STREAMS)))
        first = book.next_round(part)
        for r in range(first, first + a.rounds):
            turned = sides[r % len(sides):] + sides[:r % len(sides)]
            for label, side in turned:
                rate, foreign = measured(a, side, lambda i, s=side, r=r: stream_rate(
                    s, [prompt_of(f"{part} {r} {i} {j}", 16) for j in range(STREAMS)]))
                if rate is None:
                    continue
                book.add(part=part, model=name, length="", side=label, round=r, foreign=foreign,
                         setting=side.setting, streams=rate)
                print(f"  round {r} {label:12} {rate:8.1f} tok/s together   foreign {foreign:.2f}", flush=True)
            book.save()
    finally:
        for _, side in sides:
            side.close()


def first_token_at(side, prompt):
    body = {**side.generate_body(prompt, 8), "stream": True}
    request = urllib.request.Request(side.url + side.generate_path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        while not reply.readline().startswith(b"data: "):
            pass
        return time.monotonic()


def run_start(a, book, name):
    """A rival's clock begins when its library is imported: what Python takes is not its time."""
    part, model = f"{name}-start", a.models[name]
    with open(model, "rb") as f:
        while f.read(1 << 24):
            pass
    with tempfile.TemporaryDirectory() as home:
        def ours(prompt, flags):
            side = rivals.Kvasir(a.kvasir, model, a.threads, CTX, flags, home)
            took = first_token_at(side, prompt) - side.started
            side.close()
            return took

        def theirs(prompt):
            side = rivals.Rival("llama.cpp", model, a.threads, CTX, book.best_setting(name, "llama.cpp", "0"),
                                warmup=False)
            took = first_token_at(side, prompt) - side.hello["imported"]
            side.close()
            return took

        sides = [(label, lambda p, f=flags: ours(p, f)) for label, flags in our_sides(a)]
        sides += [(label, theirs) for label in rival_names(a, ("llama.cpp",))]
        first = book.next_round(part)
        for label, start in sides:  # once before the clock counts: what a side keeps for its next start
            start(prompt_of(label, 16))
        for r in range(first, first + a.rounds):
            prompt = prompt_of(f"{part} {r}", 16)
            turned = sides[r % len(sides):] + sides[:r % len(sides)]
            for label, start in turned:
                took, foreign = measured(a, None, lambda _, s=start, p=prompt: s(p))
                if took is None:
                    continue
                book.add(part=part, model=name, length="", side=label, round=r, foreign=foreign, start=took)
                print(f"  round {r} {label:12} {1e3 * took:7.0f} ms from process start to first token", flush=True)
            book.save()


def peak_anonymous(side, prompt):
    """Most RssAnon seen, every 10 ms, while the side answers."""
    peak, is_over = rivals.anonymous_bytes(side.pid), threading.Event()

    def watch():
        nonlocal peak
        while not is_over.wait(0.01):
            peak = max(peak, rivals.anonymous_bytes(side.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    side.run(prompt)
    is_over.set()
    watcher.join()
    return peak


def run_memory(a, book, name):
    part = f"{name}-memory"
    r = book.next_round(part)
    prompt = prompt_of(part, 2048)
    with tempfile.TemporaryDirectory() as home:
        for label, flags in our_sides(a):
            for run in (1, 2):  # the first start of a model may convert weights; both are reported
                side = rivals.Kvasir(a.kvasir, a.models[name], a.threads, CTX, flags, home)
                bytes_ = peak_anonymous(side, prompt_of(f"{part} {label} {run}", 2048))
                side.close()
                print(f"  {label:12} start {run}: {bytes_ / 2**20:7.1f} MiB of RssAnon at most", flush=True)
            book.add(part=part, model=name, length="", side=label, round=r, memory=bytes_)
    for label in rival_names(a, ("llama.cpp",)):
        side = rivals.Rival(label, a.models[name], a.threads, CTX, book.best_setting(name, label, "2k"))
        bytes_ = peak_anonymous(side, prompt) - side.hello["anonymous"]
        side.close()
        book.add(part=part, model=name, length="", side=label, round=r, setting=side.setting, memory=bytes_)
        print(f"  {label:12}         : {bytes_ / 2**20:7.1f} MiB (without Python's own)", flush=True)
    book.save()


def run_kernels(a, book):
    """micro_kernels' own bars, of the least shape; one thread, the best of runs in CPU time."""
    program = os.path.join(os.path.dirname(a.kvasir), "micro_kernels")
    r = book.next_round("kernels")
    for kind in KERNEL_TYPES:
        out = subprocess.run([program, "--type", kind], capture_output=True, text=True, check=True).stdout
        for isa, percent, mix, state in re.findall(
                r"^bar (\S+) \S+: matrix x matrix at (\d+) % .*? peak of (.*);.*: (met|NOT met)$", out, re.M):
            why = re.search(rf"^bar {isa} .*NOT met\n((?:  .*\n)+)", out, re.M)
            book.add(part="kernels", model=kind, length="", side=isa, round=r, share=int(percent) / 100, mix=mix,
                     state=state.upper() if state != "met" else state,
                     why=why.group(1).split() if why else [])
            print(f"  {isa:12} {kind:5} {percent} % of the peak of {mix}", flush=True)
    book.save()


def part_of(part):
    """The function that runs a part, or None."""
    if part == "kernels":
        return run_kernels
    name, _, what = part.partition("-")
    if name not in MODELS:
        return None
    if what in LENGTHS:
        return lambda a, book: run_depth(a, book, name, what)
    kinds = {"sweep": run_sweep, "streams": run_streams, "start": run_start, "memory": run_memory}
    return (lambda a, book: kinds[what](a, book, name)) if what in kinds else None


def all_parts():
    return [f"{name}-{what}" for name in MODELS
            for what in ("sweep", *LENGTHS, "streams", "start", "memory")] + ["kernels"]


# ---- bars ----
def paired(book, part, ours, theirs, key):
    """[(ours, theirs)] of the rounds that hold both."""
    mine = {x["round"]: x[key] for x in book.mine(part=part, side=ours) if key in x}
    other = {x["round"]: x[key] for x in book.mine(part=part, side=theirs) if key in x}
    return [(mine[r], other[r]) for r in sorted(mine.keys() & other.keys())]


def bar_line(book, part, what, key, ours, theirs, bar, is_at_least, unit, factor=1.0):
    pairs = paired(book, part, ours, theirs, key)
    if not pairs:
        return {"what": what, "side": ours, "rival": theirs, "bar": bar, "state": "not measured"}
    ratio = statistics.median(x / y for x, y in pairs)
    met = ratio >= bar if is_at_least else ratio <= bar
    return {"what": what, "part": part, "key": key, "side": ours, "rival": theirs, "rounds": len(pairs), "unit": unit,
            "ours": factor * statistics.median(x for x, _ in pairs),
            "theirs": factor * statistics.median(y for _, y in pairs),
            "ratio": ratio, "bar": bar, "state": "met" if met else "NOT MET"}


def all_bars(a, book):
    bars = []
    for ours, _ in our_sides(a):
        for rival, kinds in RATIO_BARS.items():
            for kind, models in kinds.items():
                for name, lengths in models.items():
                    for length, bar in lengths.items():
                        part = f"{name}-{length or kind}"
                        bars.append(bar_line(book, part, f"{name} {kind} {length}".strip(), kind, ours, rival, bar,
                                             True, "tok/s"))
        for kind, bar in SHARE_BARS.items():
            for name in MODELS:
                unit, factor = ("ms", 1e3) if kind == "start" else ("MiB", 2**-20)
                bars.append(bar_line(book, f"{name}-{kind}", f"{name} {kind}", kind, ours, "llama.cpp", bar, False,
                                     unit, factor))
        for name, bar in READ_BARS.items():
            bars.append(read_bar(a, book, name, ours, bar))
    for kind in KERNEL_TYPES:
        lines = book.mine(part="kernels", model=kind)
        for isa in sorted({x["side"] for x in lines}):
            last = [x for x in lines if x["side"] == isa][-1]
            bars.append({"what": f"{kind} kernel", "side": isa, "rival": "peak", "rounds": 1, "unit": "%",
                         "ours": 100 * last["share"], "theirs": 100.0, "ratio": last["share"], "bar": KERNEL_BAR,
                         "why": " ".join(last["why"]), "state": last["state"]})
        if not lines:
            bars.append({"what": f"{kind} kernel", "side": "any", "rival": "peak", "bar": KERNEL_BAR,
                         "state": "not measured"})
    return bars


def read_bar(a, book, name, ours, bar):
    """Decode at depth 0: bytes that its tokens read a second over what the machine reads in the same round."""
    part, size = f"{name}-0", token_bytes(a.models[name])[0]
    decode = {x["round"]: x["decode"] for x in book.mine(part=part, side=ours) if "decode" in x}
    read = {x["round"]: x["read"] for x in book.mine(part=part, side="machine")}
    both = sorted(decode.keys() & read.keys())
    line = {"what": f"{name} decode bytes", "part": part, "key": "decode", "side": ours, "rival": "memory", "bar": bar,
            "state": "not measured"}
    if not both:
        return line
    ratio = statistics.median(size * 1e-9 * decode[r] / read[r] for r in both)
    return {**line, "rounds": len(both), "unit": "GB/s",
            "ours": size * 1e-9 * statistics.median(decode[r] for r in both),
            "theirs": statistics.median(read[r] for r in both), "ratio": ratio,
            "state": "met" if ratio >= bar else "NOT MET"}


def explain(a, book, b):
    """What a missed figure comes to on this machine."""
    if "why" in b:
        return b["why"]
    name = b["what"].split()[0]
    if b.get("key") not in ("prefill", "decode"):
        return ""
    size, weights = token_bytes(a.models[name])
    rate = statistics.median(x[b["key"]] for x in book.mine(part=b["part"], side=b["side"]) if b["key"] in x)
    if b["key"] == "decode":
        text = f"{size * 1e-9 * rate:.1f} GB/s of weights"
        read = [x["read"] for x in book.mine(part=f"{name}-0", side="machine")]
        if read:
            text += f", {100 * size * 1e-9 * rate / statistics.median(read):.0f} % of what the machine reads"
    else:
        text = f"{2e-9 * weights * rate:.0f} GOP/s in products (attention and the output matrix not counted)"
    seen = [x["counters"] for x in book.mine(part=b["part"], side=b["side"]) if x.get("counters")]
    if not seen:
        return text + "; perf reads no counters here"
    c = seen[-1]
    if c.get("cycles") and c.get("instructions"):
        text += f"; prompt and answer: {c['instructions'] / c['cycles']:.2f} instructions a cycle"
    if c.get("cache-misses"):
        text += f", {64e-9 * c['cache-misses']:.2f} GB of cache lines missed"
    return text


def report(a, book):
    bars = all_bars(a, book)
    book.save(bars)
    print(f"{cpu_name()}, {a.threads} threads, kvasir build {book.build}")
    for b in bars:
        if "ratio" not in b:
            print(f"  {b['side']:12} {b['what']:20} vs {b['rival']:10} bar {b['bar']:.2f}   not measured")
        else:
            print(f"  {b['side']:12} {b['what']:20} vs {b['rival']:10} {b['ours']:8.1f} : {b['theirs']:8.1f} "
                  f"{b['unit']:5} ratio {b['ratio']:5.2f}  bar {b['bar']:.2f}  {b['state']}  "
                  f"({b['rounds']} rounds)")
            if b["state"] == "NOT MET":
                why = explain(a, book, b)
                print(f"               {why}" if why else "", end="\n" if why else "")
    n = [sum(b["state"] == s for b in bars) for s in ("met", "NOT MET", "not measured")]
    print(f"bars: {n[0]} met, {n[1]} not met, {n[2]} not measured")


def models_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "kvasir", "models")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kvasir", default="build/kvasir")
    p.add_argument("--out", default="build/speed.json")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--models", default=models_folder(), help="folder of the two files")
    p.add_argument("--sides", default="", help="only these, by comma: kvasir, kvasir-avx2, llama.cpp, ik")
    p.add_argument("--flag", action="append", default=[], help="a further flag for kvasir; may be repeated")
    p.add_argument("--foreign", type=float, default=0.10, help="share of the machine that others may take")
    p.add_argument("--list", action="store_true")
    p.add_argument("--report", action="store_true")
    p.add_argument("parts", nargs="*", metavar="PART")
    a = p.parse_args()
    if a.list:
        print("\n".join(all_parts()))
        return
    a.sides = [s for s in a.sides.split(",") if s]
    a.models = {name: os.path.join(a.models, file) for name, file in MODELS.items()}
    a.kvasir = os.path.abspath(a.kvasir)
    for part in a.parts:
        if part_of(part) is None:
            p.error(f"no part {part}: see --list")
    book = Book(a.out, a.kvasir)
    for part in a.parts if a.parts or a.report else all_parts():
        print(f"{part}, 1-minute load {os.getloadavg()[0]:.1f}", flush=True)
        part_of(part)(a, book)
    report(a, book)


main()
