#!/bin/sh
# SPDX-License-Identifier: MIT
# store_order.sh — a record is durable before the index names it, by the kernel's own account.
# Method: strace follows a kvasir that answers one prompt and keeps its pages; in each thread's
#         calls, no byte may go to index.db or its log while a segment has bytes that no fdatasync
#         or fsync has followed.  Then the check is shown an account that is wrong on purpose.
# Usage:  tests/store_order.sh KVASIR     77: no strace here, or it may not trace
set -eu

# Reads one thread's calls; prints what is out of order; status 1 when something is.
check() {
    awk '
        function path(line) { return match(line, /<[^>]*>/) ? substr(line, RSTART + 1, RLENGTH - 2) : "" }
        /^pwrite64\(|^write\(|^ftruncate\(/ {
            p = path($0)
            if (p ~ /\.seg(\.tmp)?$/) { if (!(p in dirty)) n++; dirty[p] = 1; segments++ }
            else if (p ~ /\/index\.db/) {
                index_writes++
                if (n > 0) { print "index written before the segment was synced: " $0; bad = 1 }
            }
        }
        /^(fdatasync|fsync)\(/ && / = 0$/ {
            p = path($0)
            if (p in dirty) { delete dirty[p]; n--; syncs++ }
        }
        END { print segments + 0, syncs + 0, index_writes + 0; exit bad }
    ' "$1"
}

command -v strace >/dev/null || { echo "no strace"; exit 77; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
strace -ff -y -o "$place/calls" -e trace=pwrite64,write,ftruncate,fdatasync,fsync \
    "$1" run --store "$place/store" --max-tokens 8 "who are you?" >"$place/out" 2>&1 || {
    grep -qi 'ptrace\|not permitted' "$place/out" && { echo "strace may not trace here"; exit 77; }
    cat "$place/out"
    exit 1
}
segments=0 syncs=0 index=0
for calls in "$place"/calls.*; do
    counts=$(check "$calls") || { echo "$counts"; exit 1; }
    # shellcheck disable=SC2086 # three numbers
    set -- $counts
    segments=$((segments + $1)) syncs=$((syncs + $2)) index=$((index + $3))
done
echo "$segments writes to segments, $syncs syncs behind them, $index writes to the index"
[ "$segments" -gt 0 ] && [ "$syncs" -gt 0 ] && [ "$index" -gt 0 ]

cat >"$place/wrong" <<'TEXT'
pwrite64(5</x/segments/0000000000000001.seg>, "kvasirRC"..., 4096, 4096) = 4096
pwrite64(7</x/index.db-wal>, "7"..., 4096, 32) = 4096
fdatasync(5</x/segments/0000000000000001.seg>) = 0
TEXT
if check "$place/wrong" >/dev/null; then
    echo "the check does not see a wrong order"
    exit 1
fi
