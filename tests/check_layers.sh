#!/bin/sh
# SPDX-License-Identifier: MIT
# check_layers.sh — includes go down the floors only: each #include "room/…" must be one that src/LAYERS
# allows, and another room's inner door (…_int.h) is never opened.
# Method: awk over every source, then the same over small trees that are wrong on purpose; each of
#         these must be refused, or the check itself is broken.
# Usage:  tests/check_layers.sh            all of it, on this repository
#         tests/check_layers.sh --only DIR the rule alone, on the tree at DIR
set -eu

# Prints one line a breach of the rule in the tree at $1; status 1 when there is one.
check_tree() (
    cd "$1"
    # bench lies beside src/ and obeys a row of LAYERS too; bench/ROOM_bench.c may open ROOM besides.
    find src bench -type f \( -name '*.c' -o -name '*.h' -o -name '*.S' \) 2>/dev/null | LC_ALL=C sort |
    awk '
        function breach(where, what) { print where ": " what; bad = 1 }
        FILENAME == "src/LAYERS" {
            sub(/#.*/, "")
            if (NF == 0) next
            if ($3 != ":" || $2 !~ /^[0-9]+$/) { breach("src/LAYERS:" FNR, "want: room floor : rooms"); next }
            floor[$1] = $2
            for (i = 4; i <= NF; i++) { may[$1, $i] = 1; asked[$1, $i] = FNR }
            next
        }
        FNR == 1 { check_floors() }
        { check_file($0) }
        END { if (!seen) breach("src", "no sources found"); exit bad }

        # A row may name rooms below its own floor only, so that the rows cannot make a circle.
        function check_floors(   pair, p) {
            for (pair in asked) {
                split(pair, p, SUBSEP)
                if (!(p[2] in floor)) breach("src/LAYERS:" asked[pair], "unknown room " p[2])
                else if (floor[p[2]] + 0 >= floor[p[1]] + 0)
                    breach("src/LAYERS:" asked[pair], p[1] " may not include " p[2] ": not on a lower floor")
            }
        }
        function check_file(path,   part, room, line, n, name, to) {
            seen = 1
            split(path, part, "/")
            room = part[1] == "bench" ? "bench" : part[2]
            if (!(room in floor)) { breach(path, "room " room " is not in src/LAYERS"); return }
            n = 0
            while ((getline line < path) > 0) {
                n++
                if (line !~ /^[ \t]*#[ \t]*include[ \t]*"/) continue
                name = line
                sub(/^[^"]*"/, "", name)
                sub(/".*$/, "", name)
                to = name
                sub(/\/.*$/, "", to)
                if (name !~ /\// && room != "bench")
                    breach(path ":" n, "\"" name "\" does not name its room")
                else if (name ~ /(^|\/)\.\.(\/|$)/)
                    breach(path ":" n, "\"" name "\" climbs with ..")
                else if (name ~ /\// && to != room) {
                    if (!(to in floor)) breach(path ":" n, "\"" name "\": no such room")
                    else if (!((room, to) in may) && path != "bench/" to "_bench.c")
                        breach(path ":" n, room " may not include " to)
                    else if (name ~ /_int\.h$/) breach(path ":" n, "\"" name "\" is the inner door of " to)
                }
            }
            close(path)
        }
    ' src/LAYERS -
)

# A tree with three rooms (low 0, side 1, high 1) and one include in one of them must be refused.
expect_refusal() {
    what=$1 room=$2 include=$3
    tree=$(mktemp -d)
    mkdir -p "$tree/src/low" "$tree/src/side" "$tree/src/high"
    printf 'low 0 :\nside 1 : low\nhigh 1 : low\n' >"$tree/src/LAYERS"
    for r in low side high; do echo "int ${r}_x;" >"$tree/src/$r/$r.c"; done
    check_tree "$tree" >/dev/null || { echo "self-test: a clean tree was refused"; exit 1; }
    if [ "$room" = LAYERS ]; then
        echo "$include" >>"$tree/src/LAYERS"
    else
        printf '#include "%s"\n' "$include" >"$tree/src/$room/$room.c"
    fi
    if check_tree "$tree" >/dev/null; then
        echo "self-test: $what was not refused"
        exit 1
    fi
    rm -r "$tree"
}

if [ "${1:-}" = --only ]; then
    check_tree "$2"
    exit
fi
root=$(cd "$(dirname "$0")/.." && pwd)
check_tree "$root"
expect_refusal "an upward include" low high/high.h
expect_refusal "a sideways include" side high/high.h
expect_refusal "an inner door" high low/low_int.h
expect_refusal "a room that does not exist" high attic/attic.h
expect_refusal "an include without a room" high low.h
expect_refusal "a row that looks sideways" LAYERS "side 1 : high"
expect_refusal "a path that climbs" high ../low/low.h
echo "layers: ok"
