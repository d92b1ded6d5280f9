#!/usr/bin/env python3
"""Vectors of token sequences by llama.cpp, for tests/unit/engine/vectors_test.c.

    python3 make_vectors.py ../tiny > tiny.jsonl         (needs: xllamacpp)
    python3 make_vectors.py --model M.gguf TOKENS.jsonl  (one model, sequences of its golden lines)

Each line: model, pooling, tokens, vector (not normalized)."""
import json, os, sys
import xllamacpp as xlc

POOLINGS = {"mean": xlc.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
            "cls": xlc.llama_pooling_type.LLAMA_POOLING_TYPE_CLS,
            "last": xlc.llama_pooling_type.LLAMA_POOLING_TYPE_LAST}


def vectors(path, name, sequences, out):
    for pooling, number in POOLINGS.items():
        p = xlc.CommonParams()
        p.model.path = path
        p.embedding = True
        p.pooling_type = number
        p.n_ctx = 1024
        p.n_batch = p.n_ubatch = 1024
        p.cpuparams.n_threads = 2
        p.warmup = False
        server = xlc.Server(p)
        for tokens in sequences:
            reply = server.handle_embeddings({"input": tokens, "embd_normalize": -1})
            vector = reply["data"][0]["embedding"]
            out.write(json.dumps({"model": name, "pooling": pooling, "tokens": tokens,
                                  "vector": [float("%.7g" % x) for x in vector]}) + "\n")
        del server


def sequences_of(path, n):
    return [json.loads(line)["tokens"] for line in open(path)][:n]


if sys.argv[1] == "--model":
    vectors(sys.argv[2], os.path.basename(sys.argv[2]), sequences_of(sys.argv[3], 2), sys.stdout)
else:
    for arch in "gemma3", "llama", "qwen2", "qwen3":
        base = os.path.join(sys.argv[1], "tiny-%s-F32" % arch)
        vectors(base + ".gguf", "tiny-%s-F32" % arch, sequences_of(base + ".jsonl", 3), sys.stdout)
