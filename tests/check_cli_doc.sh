#!/bin/sh
# SPDX-License-Identifier: MIT
# check_cli_doc.sh — docs/cli.md is what the program says of itself.
# Usage: tests/check_cli_doc.sh KVASIR
set -eu
kvasir=$1
cd "$(dirname "$0")/.."
if ! "$kvasir" help --markdown | diff -u docs/cli.md -; then
    echo "docs/cli.md is stale; write it anew: build/kvasir help --markdown > docs/cli.md"
    exit 1
fi
echo "docs/cli.md: ok"
