#!/bin/sh
# SPDX-License-Identifier: MIT
# check_style.sh — what clang-format does not see: licence lines, names that C made dangerous, switches
# that no table knows, work left for later.
# Method: one grep a rule over all C sources; each hit is printed with its rule.  No allow-list: when
#         a rule is wrong for a line, the rule changes.
set -eu
cd "$(dirname "$0")/.."
bad=0

sources() { find src bench tests -type f \( -name '*.c' -o -name '*.h' -o -name '*.S' \) 2>/dev/null | LC_ALL=C sort; }

# refuse RULE PATTERN PATH… : no line of these files may match.
refuse() {
    rule=$1 pattern=$2
    shift 2
    if hits=$(grep -nE -e "$pattern" "$@" /dev/null); then
        printf '%s\n' "$hits" | sed "s|^|$rule: |"
        bad=1
    fi
}

# shellcheck disable=SC2046 # our paths hold no blanks
set -- $(sources)
for file in "$@"; do
    head -n 1 "$file" | grep -q 'SPDX-License-Identifier: MIT' || { echo "licence line: $file:1"; bad=1; }
done
refuse "tab" "$(printf '\t')" "$@"
refuse "blank at the end of a line" ' $' "$@"
refuse "line longer than 120" '^.{121,}' "$@"
# shellcheck disable=SC2046
refuse "unbounded or unchecked function" '(^|[^_[:alnum:]])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof)\(' \
    $(sources | grep -v '^tests/')
refuse "work left for later" '(^|[^_[:alnum:]])(TODO|FIXME|XXX)([^_[:alnum:]]|$)' "$@"
# Switches are rows of the option table; nothing below app/ reads the environment.
# shellcheck disable=SC2046
refuse "getenv below app" '(^|[^_[:alnum:]])(secure_)?getenv\(' \
    $(find src -name '*.[ch]' ! -path 'src/app/*' | LC_ALL=C sort)
# A room's own memory goes through base/mem.h, where sizes are checked for overflow.
# shellcheck disable=SC2046
refuse "bare allocation" '(^|[^_[:alnum:]])(malloc|calloc|realloc|reallocarray)\(' \
    $(find src -name '*.[ch]' ! -path 'src/base/*' ! -path 'src/kernels/lab/*' | LC_ALL=C sort)

for door in src/*/; do
    room=$(basename "$door")
    [ -z "$(find "$door" -maxdepth 1 -name '*.h' ! -name '*_int.h')" ] || continue
    [ -z "$(find "$door" -name '*.c')" ] || { echo "no door: src/$room has sources and no header"; bad=1; }
done
[ "$bad" = 0 ] && echo "style: ok"
exit "$bad"
