#!/usr/bin/env python3
"""Vocabulary-only copy of a GGUF: general.architecture and the tokenizer.* keys, no tensors.

    strip_tensors.py model.gguf out.gguf      then: xz -9e out.gguf
No packages needed.
"""
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


def skip_string(b, at):
    return at + 8 + struct.unpack_from("<Q", b, at)[0]


def skip_value(b, at, kind):
    if kind == STRING:
        return skip_string(b, at)
    if kind != ARRAY:
        return at + SIZES[kind]
    of, count = struct.unpack_from("<IQ", b, at)
    at += 12
    if of != STRING:
        return at + SIZES[of] * count
    for _ in range(count):
        at = skip_string(b, at)
    return at


src, out = sys.argv[1:]
b = memoryview(open(src, "rb").read())
n_keys = struct.unpack_from("<Q", b, 16)[0]
at, kept = 24, []
for _ in range(n_keys):
    start = at
    at = skip_string(b, at)
    name = bytes(b[start + 8:at]).decode()
    at = skip_value(b, at + 4, struct.unpack_from("<I", b, at)[0])
    if name == "general.architecture" or name.startswith("tokenizer.") and name != "tokenizer.chat_template":
        kept.append(bytes(b[start:at]))
open(out, "wb").write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(kept)) + b"".join(kept))
