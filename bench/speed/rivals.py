#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The sides of bench/speed/speed.py: each one process that holds one model and answers one question at a time.

    rivals.py SIDE JSON      SIDE llama.cpp or ik; questions as JSON lines on stdin, answers on stdout

A rival runs in its own process because two llama libraries cannot share one; both come from PyPI wheels
(xllamacpp; ik-llama-cpp-python).  Traps that are seen to here: ik's wrapper switches flash attention off on CPUs
without AVX-VNNI, and its sampler is a Python loop over the vocabulary, so its C interface is called with flash
attention on and an argmax of numpy; llama-server keeps a RAM cache of prompts and takes 4 slots by itself."""
import json
import os
import subprocess
import sys
import time
import urllib.request

DECODE_TOKENS = 64  # generated behind each prompt; the first comes out of the prefill

# Settings that a sweep tries; the first is what is used where no sweep was run.
SETTINGS = {
    "llama.cpp": [
        {"fa": True, "repack": True, "ubatch": 512},
        {"fa": False, "repack": True, "ubatch": 512},
        {"fa": True, "repack": False, "ubatch": 512},
        {"fa": True, "repack": True, "ubatch": 128},
    ],
    "ik": [
        {"fa": True, "repack": True, "ubatch": 512},
        {"fa": True, "repack": False, "ubatch": 512},
        {"fa": False, "repack": True, "ubatch": 512},
        {"fa": True, "repack": True, "ubatch": 128},
    ],
}


def post(url, body, timeout=600):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=timeout))


# ---- in the rival's process ----
class LlamaCpp:
    def __init__(self, options):
        import xllamacpp
        self.imported = time.monotonic()
        self.anonymous = anonymous_bytes(os.getpid())
        p = xllamacpp.CommonParams()
        setting = options["setting"]
        kinds = xllamacpp.llama_flash_attn_type
        p.model.path = options["model"]
        p.n_parallel = options["parallel"]
        p.n_ctx = options["ctx"] * options["parallel"]
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = options["threads"]
        p.flash_attn_type = (kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED if setting["fa"]
                             else kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        p.no_extra_bufts = not setting["repack"]
        p.n_ubatch = setting["ubatch"]
        p.cache_ram_mib = 0
        p.warmup = options["warmup"]
        p.port = 0
        self.server = xllamacpp.Server(p)

    def hello(self):
        return {"url": self.server.listening_address, "imported": self.imported, "anonymous": self.anonymous}

    def run(self, tokens):
        o = self.server.handle_completions({"prompt": tokens, "n_predict": DECODE_TOKENS, "temperature": 0,
                                            "ignore_eos": True, "cache_prompt": False})
        t = (o if isinstance(o, dict) else json.loads(o))["timings"]
        if t["cache_n"] != 0 or t["prompt_n"] != len(tokens) or t["predicted_n"] != DECODE_TOKENS:
            raise RuntimeError(f"not what was asked for: {t}")
        return {"prefill_ms": t["prompt_ms"], "decode_ms": t["predicted_ms"]}


class Ik:
    def __init__(self, options):
        import numpy
        from ik_llama_cpp import _ctypes_api as c
        self.c, self.numpy = c, numpy
        self.imported = time.monotonic()
        self.anonymous = anonymous_bytes(os.getpid())
        setting = options["setting"]
        c.llama_backend_init()
        model = c.llama_model_default_params()
        model.n_gpu_layers = 0
        model.repack_tensors = setting["repack"]
        model.flash_attn = setting["fa"]
        self.model = c.llama_model_load_from_file(options["model"].encode(), model)
        context = c.llama_context_default_params()
        context.n_ctx = options["ctx"]
        context.n_batch = 2048
        self.ubatch = context.n_ubatch = setting["ubatch"]
        context.n_threads = context.n_threads_batch = options["threads"]
        context.flash_attn = setting["fa"]
        self.context = c.llama_init_from_model(self.model, context)
        if not self.model or not self.context:
            raise RuntimeError("ik_llama.cpp: no model or no context")
        self.n_vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))

    def hello(self):
        return {"imported": self.imported, "anonymous": self.anonymous}

    def decode(self, tokens, position, wants_logits):
        batch = self.c.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position + i, 1, 0
            batch.logits[i] = wants_logits and i == len(tokens) - 1
        status = self.c.llama_decode(self.context, batch)
        self.c.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama_decode: {status}")

    def best(self):
        logits = self.c.llama_get_logits_ith(self.context, -1)
        return int(self.numpy.ctypeslib.as_array(logits, (self.n_vocab,)).argmax())

    def run(self, tokens):
        self.c.llama_kv_cache_clear(self.context)
        start, n = time.monotonic(), len(tokens)
        for i in range(0, n, self.ubatch):
            self.decode(tokens[i:i + self.ubatch], i, i + self.ubatch >= n)
        token = self.best()
        first = time.monotonic()
        for i in range(DECODE_TOKENS - 1):
            self.decode([token], n + i, True)
            token = self.best()
        return {"prefill_ms": (first - start) * 1e3, "decode_ms": (time.monotonic() - first) * 1e3}


def serve():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    side = {"llama.cpp": LlamaCpp, "ik": Ik}[sys.argv[1]](json.loads(sys.argv[2]))
    print(json.dumps(side.hello()), file=answers, flush=True)
    for line in sys.stdin:
        try:
            print(json.dumps(side.run(json.loads(line))), file=answers, flush=True)
        except RuntimeError as e:
            print(json.dumps({"error": str(e)}), file=answers, flush=True)
    os._exit(0)  # the wheels' own shutdown is slow and of no interest


# ---- in the bench's process ----
def anonymous_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Rival:
    """A rival's process.  setting: one of SETTINGS[name]."""

    def __init__(self, name, model, threads, ctx, setting, parallel=1, warmup=True):
        self.name, self.setting = name, setting
        options = {"model": model, "threads": threads, "ctx": ctx, "setting": setting, "parallel": parallel,
                   "warmup": warmup}
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), name, json.dumps(options)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        self.pid = self.process.pid
        hello = self.process.stdout.readline()
        if not hello:
            raise RuntimeError(f"{name} {setting}: did not start")
        self.hello = json.loads(hello)
        self.url = self.hello.get("url")
        self.generate_path = "/completion"

    def run(self, tokens):
        print(json.dumps(tokens), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "died"}
        if "error" in answer:
            raise RuntimeError(f"{self.name} {self.setting}: {answer['error']}")
        return answer

    def generate_body(self, tokens, n):
        return {"prompt": tokens, "n_predict": n, "temperature": 0, "ignore_eos": True, "cache_prompt": False}

    def close(self):
        self.process.kill()
        self.process.wait()


class Kvasir:
    """kvasir serve.  flags: further ones; home: a folder for all that it keeps, or None to keep nothing."""

    def __init__(self, program, model, threads, ctx, flags=(), home=None):
        self.name, self.setting = "kvasir", {"flags": list(flags)}
        environment = dict(os.environ)
        keep = ["--store", "none"]
        if home:
            keep = ["--store", os.path.join(home, "store")]
            environment["XDG_CACHE_HOME"] = environment["XDG_DATA_HOME"] = home
        self.started = time.monotonic()
        self.process = subprocess.Popen([program, "serve", "-m", model, "--port", "0", *keep, "--threads",
                                         str(threads), "--ctx", str(ctx),
                                         "--speculate", "off",  # random text repeats itself: no fair gain
                                         *flags], env=environment,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.pid = self.process.pid
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"kvasir {' '.join(flags)}: did not start")
        self.url = line.split()[-1]
        self.generate_path = "/v1/completions"

    def run(self, tokens):
        o = post(self.url + self.generate_path, self.generate_body(tokens, DECODE_TOKENS))
        if o["kvasir"]["tokens"]["computed"] != len(tokens):
            raise RuntimeError(f"kvasir: not all computed: {o['kvasir']['tokens']}")
        return {"prefill_ms": o["kvasir"]["ms"]["prefill"], "decode_ms": o["kvasir"]["ms"]["decode"]}

    def generate_body(self, tokens, n):
        return {"prompt": tokens, "max_tokens": n, "temperature": 0, "ignore_eos": True}

    def close(self):
        self.process.terminate()
        self.process.wait()


if __name__ == "__main__":
    serve()
