#!/bin/sh
# SPDX-License-Identifier: MIT
# check_cli_doc.sh — docs/cli.md and docs/api/conformance.md are what the program says of itself.
# Usage: tests/check_cli_doc.sh KVASIR
set -eu
kvasir=$1
cd "$(dirname "$0")/.."
compare() {
    if ! "$kvasir" help "$1" | diff -u "$2" -; then
        echo "$2 is stale; write it anew: build/kvasir help $1 > $2"
        exit 1
    fi
    echo "$2: ok"
}
compare --markdown docs/cli.md
compare --api docs/api/conformance.md
