#!/bin/sh
# SPDX-License-Identifier: MIT
# mcp_npm_test.sh — the tools scenario with a real MCP server over stdio, out of npm: all systems see
# the same bytes.
# Method: two stubs as two systems; each logs a digest of every prompt it is sent, and the digests of
#         the steps must be the same, one by one.
# Usage:  tests/bench/mcp_npm_test.sh KVASIR STUB
set -eu
kvasir=$1 stub=$2
package=@modelcontextprotocol/server-filesystem version=2026.8.31
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kvasir/mcp-$version
tmp=$(mktemp -d)
pids=""
trap 'kill $pids 2>/dev/null || true; rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }
skip() { echo "skipped: $*"; exit 77; }

command -v node >/dev/null && command -v npm >/dev/null || skip "no node and npm here"
server=$cache/node_modules/$package/dist/index.js
if [ ! -f "$server" ]; then
    mkdir -p "$cache"
    timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache" "$package@$version" \
        >"$tmp/npm" 2>&1 || skip "npm could not install $package@$version: $(tail -n 1 "$tmp/npm")"
fi
[ -f "$server" ] || fail "$package has no dist/index.js"
mkdir "$tmp/files"
for i in 1 2 3; do seq "$i" 400 >"$tmp/files/notes$i.txt"; done

for name in a b; do # not in a subshell: the trap must know them
    "$stub" --dialect openai --token-us 5 >"$tmp/$name.log" 2>&1 &
    pids="$pids $!"
done
port() { # NAME
    for _ in $(seq 100); do
        grep -q listening "$tmp/$1.log" && break
        sleep 0.05
    done
    sed -n 's/^stub: listening on //p' "$tmp/$1.log"
}
a=$(port a)
b=$(port b)
"$kvasir" bench --system "openai=http://127.0.0.1:$a,name=a" --system "openai=http://127.0.0.1:$b,name=b" \
    --scenario tools --steps 12 --repeat 1 --answer 4 --mcp "exec node '$server' '$tmp/files'" --out "$tmp/out" \
    >"$tmp/table" 2>"$tmp/err" || fail "$(cat "$tmp/err")"
# The two warm-ups are others.
for name in a b; do sed -n 's/^request \([0-9]*\) .* \([0-9a-f]*\) [^ ]*$/\1 \2/p' "$tmp/$name.log" | sed 1,2d >"$tmp/$name"; done
[ "$(wc -l <"$tmp/a")" = 12 ] || fail "$(wc -l <"$tmp/a") steps: $(cat "$tmp/table" "$tmp/err")"
cmp -s "$tmp/a" "$tmp/b" || fail "two systems saw other bytes: $(diff "$tmp/a" "$tmp/b")"
[ "$(cut -d' ' -f2 "$tmp/a" | sort -u | wc -l)" = 12 ] || fail "steps with the same prompt"
# Twelve results of tools of that server, and its schemas, are more than the questions alone.
prompt=$(sed -n 's/^request 14 [0-9]* \([0-9]*\) .*/\1/p' "$tmp/a.log")
[ "$prompt" -gt 2000 ] || fail "the last step's prompt has $prompt tokens: no schemas and results in it"
echo "mcp: ok, $package@$version, last prompt $prompt tokens"
