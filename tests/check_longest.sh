#!/bin/sh
# SPDX-License-Identifier: MIT
# check_longest.sh — the twenty longest files and functions, so that the tail is a decision, not drift.
# Method: a function is what lies between a "{" and a "}" in the first column (clang-format puts
#         them there); its name is the last word before the first "(" of the lines above.
set -eu
cd "$(dirname "$0")/.."
sources() { find src bench tests -type f -name '*.[ch]' | LC_ALL=C sort; }

echo "twenty longest files (lines)"
sources | xargs wc -l | grep -v ' total$' | sort -k1,1nr | head -n 20
echo "twenty longest functions (lines)"
# shellcheck disable=SC2046 # our paths hold no blanks
awk '
    FNR == 1 { head = ""; start = 0 }
    /^\{/ { start = FNR; next }
    /^\}/ {
        if (start && head ~ /\(/) {
            name = head
            sub(/\(.*$/, "", name)
            sub(/^.*[ *]/, "", name)
            printf "%7d %s:%d %s\n", FNR - start + 1, FILENAME, start, name
        }
        start = 0
        head = ""
        next
    }
    !start && /^[A-Za-z_]/ { head = $0 }
' $(sources) | sort -k1,1nr | head -n 20
