#!/usr/bin/env python3
"""Holds `kvasir eval` against the reference outputs of real models (tests/golden/logits, perplexity).

    golden_models.py KVASIR MODEL.gguf [--windows N]

For the f32 path and the 8-bit path: mean KL over the listed positions, equal argmax where the reference
is decided, greedy continuations step by step with the reference's tokens forced, and the mean NLL of the
perplexity windows; then what the quantized KV types cost.  Prints one line a figure with its bar; exits 1 if any is missed.
KL is computed from the reference's 64 best logits and its log-sum-exp (what is left out weighs < 1e-3)."""
import json, math, os, struct, subprocess, sys

BARS = {  # mean KL, margin above which the argmax must agree, |mean NLL - reference|
    "f32": (1e-5, 0.05, 0.0005),
    "q8": {"SmolLM2": (0.005, 0.6, 0.01), "gemma": (0.010, 0.6, 0.01)},
}


def npy(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<H", raw[8:10])[0]
    header = eval(raw[10:10 + size].decode())  # our own committed file
    fmt = {"<f4": "f", "<i4": "i"}[header["descr"]]
    rows, cols = header["shape"]
    flat = struct.unpack(f"<{rows * cols}{fmt}", raw[10 + size:10 + size + 4 * rows * cols])
    return [flat[r * cols:(r + 1) * cols] for r in range(rows)]


def ask(kvasir, command, model, path, lines):
    flags = ["--activations", path] + (["--kv-type", "f32"] if path == "f32" else [])
    run = subprocess.run([kvasir, "eval", command, "-m", model, "--store", "none", *flags],
                         input="".join(json.dumps(x) + "\n" for x in lines), capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"eval {command}: {run.stderr}")
    answers = [json.loads(x) for x in run.stdout.splitlines()]
    for a in answers:
        if "error" in a:
            sys.exit(f"eval {command}: {a['error']}")
    return answers


def kl(ids, logits, lse, ours):
    top = dict(ours["top"])
    total = 0.0
    for i, logit in zip(ids, logits):
        log_p = logit - lse
        if i in top:
            total += math.exp(log_p) * (log_p - (top[i] - ours["logsumexp"]))
        elif math.exp(log_p) > 1e-4:
            return float("inf")
    return total


def check(name, value, bar, ok, results):
    results.append(ok)
    print(f"{name:58} {value:>14} bar {bar:>10}  {'ok' if ok else 'MISSED'}", flush=True)


def logits(kvasir, model, stem, path, results, kl_bar, margin):
    rows = [json.loads(x) for x in open(f"tests/golden/logits/{stem}.jsonl")]
    lines = [{"tokens": r["tokens"], "positions": [p["pos"] for p in r["positions"]], "top": 512} for r in rows]
    kls, wrong = [], 0
    for row, answer in zip(rows, ask(kvasir, "logits", model, path, lines)):
        for p, ours in zip(row["positions"], answer["positions"]):
            assert p["pos"] == ours["pos"]
            kls.append(kl(p["ids"], p["logits"], p["logsumexp"], ours))
            wrong += p["ids"][0] != ours["top"][0][0] and p["logits"][0] - p["logits"][1] > margin
    mean = sum(kls) / len(kls)
    check(f"{stem} {path}: mean KL, {len(kls)} positions", f"{mean:.3g}", f"{kl_bar:g}", mean <= kl_bar, results)
    check(f"{stem} {path}: other argmax at margin > {margin}", wrong, 0, wrong == 0, results)
    lines = [{"tokens": r["tokens"] + r["greedy"]["tokens"][:-1],
              "positions": list(range(len(r["tokens"]) - 1, len(r["tokens"]) + 63)), "top": 2} for r in rows]
    wrong = 0
    for row, answer in zip(rows, ask(kvasir, "logits", model, path, lines)):
        for token, m, ours in zip(row["greedy"]["tokens"], row["greedy"]["margin"], answer["positions"]):
            wrong += ours["top"][0][0] != token and m > margin
    check(f"{stem} {path}: greedy steps off at margin > {margin}", wrong, 0, wrong == 0, results)


def perplexity(kvasir, model, stem, path, results, bar, n):
    windows = npy(f"tests/golden/perplexity/{stem}.tokens.npy")[:n]
    reference = npy(f"tests/golden/perplexity/{stem}.nll_ref_f32.npy")[:n]
    ours = [a["nll"] for a in ask(kvasir, "nll", model, path, [{"tokens": list(w)} for w in windows])]
    mean = lambda rows: sum(map(sum, rows)) / sum(map(len, rows))
    a, b = mean(ours), mean(reference)
    check(f"{stem} {path}: mean NLL {a:.5f}, reference {b:.5f}", f"{abs(a - b):.5f}", f"{bar:g}", abs(a - b) <= bar, results)
    ratio = math.exp(a - b)
    if path == "q8":
        check(f"{stem} {path}: perplexity / reference", f"{ratio:.5f}", 1.005, ratio <= 1.005, results)


def kv_types(kvasir, model, stem, results):
    """Perplexity of the whole golden text at 2k over that with f16 KV.  With f32 activations: 8-bit ones
    answer any small change, of f16 to f32 KV too, with 0.1 % either way (docs/numerics.md)."""
    def perplexity_with(kv_type):
        run = subprocess.run([kvasir, "eval", "perplexity", "-m", model, "--store", "none", "--ctx", "2048",
                              "--activations", "f32", "--kv-type", kv_type,
                              "-f", "tests/golden/perplexity/public.txt"], capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"eval perplexity: {run.stderr}")
        return json.loads(run.stdout)["perplexity"]
    f16 = perplexity_with("f16")
    for kv_type, bar in (("q8_0", 1.001), ("q4", 1.01)):
        ratio = perplexity_with(kv_type) / f16
        check(f"{stem}: perplexity, KV {kv_type} / f16", f"{ratio:.5f}", f"{bar:g}", ratio <= bar, results)


def main():
    args = sys.argv[1:]
    n = 5
    if "--windows" in args:
        at = args.index("--windows")
        n = int(args[at + 1])
        del args[at:at + 2]
    if len(args) != 2:
        sys.exit(__doc__)
    kvasir, model = args
    if not os.path.exists(model):
        print(f"skipped: no {model} (./do soak fetches it)")
        sys.exit(77)
    stem = "gemma-3-270m-q4_k_m" if "gemma" in model else "SmolLM2-135M-Instruct.Q4_1"
    results = []
    for path in ("q8", "f32"):
        kl_bar, margin, nll_bar = BARS["f32"] if path == "f32" else BARS["q8"]["gemma" if "gemma" in stem else "SmolLM2"]
        logits(kvasir, model, stem, path, results, kl_bar, margin)
        perplexity(kvasir, model, stem, path, results, nll_bar, n)
    kv_types(kvasir, model, stem, results)
    sys.exit(0 if all(results) else 1)


main()
