#!/usr/bin/env python3
"""kvasir against llama.cpp (PyPI xllamacpp), same file, same threads, interleaved rounds, one run.

    llamacpp_speed.py KVASIR MODEL.gguf [--lengths 512,2048] [--rounds 3] [--threads 2]

Prefill tok/s of a cold prompt and decode tok/s of 64 tokens behind it, both as each side's own server
measures them; the prompt is random token ids, other ones in each round.  Prints medians and the ratio
kvasir / llama.cpp with the bar of 0.8; a figure is reported, not judged: the exit code is 0.
Needs: pip install xllamacpp."""
import argparse, json, os, random, statistics, subprocess, sys, urllib.request


def foreign_load():
    with open("/proc/stat") as f:
        t = list(map(int, f.readline().split()[1:]))
    return sum(t), t[3] + t[4]


def post(url, body):
    r = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(r, timeout=600))


class Kvasir:
    def __init__(self, program, model, threads, ctx):
        self.p = subprocess.Popen([program, "serve", "-m", model, "--port", "0", "--store", "none", "--threads",
                                   str(threads), "--ctx", str(ctx)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.p.stdout.readline().split()[-1]

    def run(self, tokens):
        o = post(self.url + "/v1/completions", {"prompt": tokens, "max_tokens": 64, "temperature": 0, "ignore_eos": True})
        ms = o["kvasir"]["ms"]
        assert o["kvasir"]["tokens"]["computed"] == len(tokens)
        return len(tokens) / ms["prefill"] * 1e3, 63 / ms["decode"] * 1e3

    def close(self):
        self.p.terminate()
        self.p.wait()


class LlamaCpp:
    def __init__(self, model, threads, ctx):
        import xllamacpp as x
        p = x.CommonParams()
        p.model.path = model
        p.n_ctx = ctx
        p.n_parallel = 1
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
        p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
        p.cache_ram_mib = 0
        p.warmup = True
        self.server = x.Server(p)

    def run(self, tokens):
        o = self.server.handle_completions({"prompt": tokens, "max_tokens": 64, "n_predict": 64, "temperature": 0,
                                            "ignore_eos": True, "cache_prompt": False})
        o = o if isinstance(o, dict) else json.loads(o)
        t = o["timings"]
        return t["prompt_per_second"], t["predicted_per_second"]

    def close(self):
        del self.server


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("kvasir")
    a.add_argument("model")
    a.add_argument("--lengths", default="512,2048")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--threads", type=int, default=2)
    a = a.parse_args()
    lengths = [int(x) for x in a.lengths.split(",")]
    ctx = max(lengths) + 128
    ours, theirs = Kvasir(os.path.abspath(a.kvasir), a.model, a.threads, ctx), LlamaCpp(a.model, a.threads, ctx)
    rng = random.Random(1)
    print(f"{os.path.basename(a.model)}, {a.threads} threads, {a.rounds} rounds, 1-minute load {os.getloadavg()[0]:.1f}")
    for n in lengths:
        rows = []
        for r in range(a.rounds):
            tokens = [rng.randrange(1000, 40000) for _ in range(n)]
            pair = [ours.run(tokens), theirs.run(tokens)] if r % 2 == 0 else [theirs.run(tokens), ours.run(tokens)][::-1]
            rows.append(pair)
        for i, what in enumerate(("prefill", "decode")):
            k = statistics.median(p[0][i] for p in rows)
            l = statistics.median(p[1][i] for p in rows)
            ratio = statistics.median(p[0][i] / p[1][i] for p in rows)
            print(f"  {what:8} at {n:5}: kvasir {k:7.1f}  llama.cpp {l:7.1f} tok/s   ratio {ratio:5.2f}  "
                  f"bar 0.80  {'ok' if ratio >= 0.8 else 'MISSED'}", flush=True)
    ours.close()
    theirs.close()


main()
