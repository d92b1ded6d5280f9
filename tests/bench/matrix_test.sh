#!/bin/sh
# SPDX-License-Identifier: MIT
# matrix_test.sh — the matrix goes through all its parts, whatever one of them does, ends in time, goes on where it
# was, and its report gets into a document.
# Method: a program in the place of kvasir that logs how it was called, and fails or hangs in two parts.
# Usage:  tests/bench/matrix_test.sh
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }

cat >"$tmp/kvasir" <<'FAKE'
#!/bin/sh
echo "$*" >>"$LOG"
out="" report=""
while [ $# -gt 0 ]; do
    case $1 in --out) out=$2; shift ;; --report) report=$2; shift ;; esac
    shift
done
part=$(basename "$out")
mkdir -p "$out"
[ -z "$report" ] || { printf 'A line.\n\n## A model\n\n| a | b |\n' >"$out/report.md"; exit 0; }
[ "$part" != "$FAILS" ] || exit 1
echo '{}' >"$out/results.json"
[ "$part" != "$HANGS" ] || sleep 600
FAKE
chmod +x "$tmp/kvasir"
: >"$tmp/model"
matrix() { # OUT [PART…]
    place=$1
    shift
    bench/matrix.sh "$tmp/kvasir" "$tmp/kvasir" "$tmp/model" "$tmp/model" "$tmp/model" "$place" "$@" >"$tmp/said" 2>&1
}
export LOG="$tmp/log" FAILS=smol-sessions HANGS=skald-branch

# One part fails, one hangs: the others run, and what there is is put together.
begun=$(date +%s)
SECONDS_MOST=1200 HANGS="" matrix "$tmp/out" || fail "the matrix failed: $(cat "$tmp/said")"
n=$(grep -c -- --models "$LOG")
[ "$n" -ge 15 ] || fail "$n parts of at least 15: $(cat "$LOG")"
tail -n 1 "$LOG" | grep -q -- "--report .*/smol-context/results.json,.*,.*/sizes/results.json" || fail "not put together"
tail -n 1 "$LOG" | grep -q "smol-sessions" && fail "a part without results was put in"
grep -q "smol-sessions: .* ended with 1" "$tmp/said" || fail "the failure is not told: $(cat "$tmp/said")"
grep "gemma" "$LOG" | grep -v sizes | grep -vq -- ",swa-full" && fail "a windowed model without the rival's whole windows"

# Again: only what failed.
: >"$LOG"
FAILS="" HANGS="" matrix "$tmp/out"
[ "$(grep -c -- --models "$LOG")" = 1 ] && grep -q smol-sessions "$LOG" || fail "not only the part that failed: $(cat "$LOG")"

# A part that hangs has its share of the time, and keeps its results.
rm -rf "$tmp/out"
FAILS="" SECONDS_MOST=22 matrix "$tmp/out" skald-branch || fail "$(cat "$tmp/said")"
grep -q "skald-branch: .* ended with 124" "$tmp/said" || fail "not ended: $(cat "$tmp/said")"
[ -s "$tmp/out/skald-branch/results.json" ] || fail "its results are gone"
[ $(($(date +%s) - begun)) -lt 90 ] || fail "too long"

# Into a document: between the marks, headings a level lower, and twice is once.
printf '# Doc\n<!-- matrix: begin -->\nold\n<!-- matrix: end -->\nafter\n' >"$tmp/doc.md"
bench/publish.sh "$tmp/out/all/report.md" "$tmp/doc.md" >/dev/null && bench/publish.sh "$tmp/out/all/report.md" "$tmp/doc.md" >/dev/null
printf '# Doc\n<!-- matrix: begin -->\nA line.\n\n### A model\n\n| a | b |\n<!-- matrix: end -->\nafter\n' >"$tmp/wanted"
cmp -s "$tmp/doc.md" "$tmp/wanted" || fail "published as: $(cat "$tmp/doc.md")"
printf '# Doc\n<!-- matrix: begin -->\nold\n' >"$tmp/doc.md"
cp "$tmp/doc.md" "$tmp/wanted"
! bench/publish.sh "$tmp/out/all/report.md" "$tmp/doc.md" 2>/dev/null && cmp -s "$tmp/doc.md" "$tmp/wanted" || fail "a document without marks was changed"
grep -q '^<!-- matrix: begin -->$' docs/benchmark.md && grep -q '^<!-- matrix: end -->$' docs/benchmark.md || fail "docs/benchmark.md has no marks"
echo "matrix: ok"
