#!/bin/sh
# SPDX-License-Identifier: MIT
# native_kernels.sh — all that says whether the kernels are right and fast on this processor, out of a
# build that may come from another machine: kernel tests (every set natively where the processor has
# it, and in plain C), golden digests, the exactness table on each set, then micro_kernels.
# Usage: tests/native_kernels.sh [BUILD]   (default build; run in the source root)
set -eu
build=${1:-build}
status=0

grep -m1 'model name' /proc/cpuinfo || true
grep -m1 flags /proc/cpuinfo | grep -o -w -E 'avx2|avx_vnni|avx512bw|avx512_vnni|amx_int8' | tr '\n' ' '
echo
for test in "$build"/tests/unit_kernels_* "$build/tests/unit_model_numerics"; do
    [ -x "$test" ] && [ ! -d "$test" ] || continue
    echo "== $test"
    "$test" || status=1
done
for isa in avx2 avx2-vnni avx512 avx512-vnni; do
    echo "== exactness on $isa"
    rc=0
    "$build/tests/unit_engine_exactness" --isa "$isa" || rc=$?
    [ "$rc" = 0 ] || [ "$rc" = 77 ] || status=1
done
"$build/micro_kernels" || status=1
[ "$status" = 0 ] && echo "native kernels: ok" || echo "native kernels: FAILED"
exit "$status"
