#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh KVASIR — goal: clients that people use can't tell this server from the ones they know.
# Method: the pinned packages of package.json and requirements.txt, installed once below the cache
# folder, are driven against the real program with its own model: lists, chats, streams, tools,
# structured output, errors, cancel.  What can't be installed is skipped, and said.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kvasir=$1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kvasir/clients
work=$(mktemp -d)
trap 'cat "$work"/*.pid 2>/dev/null | xargs -r kill 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$cache"

have_node() {
    command -v node >/dev/null && command -v npm >/dev/null || { echo "skipped: no node and npm here"; return 1; }
    modules=$cache/node-$(cksum <"$here/package.json" | cut -d' ' -f1)
    [ -d "$modules" ] && return 0
    mkdir "$work/node" && cp "$here/package.json" "$work/node"
    (cd "$work/node" && timeout 120 npm install --silent --no-audit --no-fund >"$work/npm.log" 2>&1) ||
        { echo "skipped: npm could not install the clients (is the registry reachable?)"; return 1; }
    # As a whole or not at all; who else was at it meanwhile has the same.
    cp -R "$work/node" "$modules.$$" && { mv -T "$modules.$$" "$modules" || rm -rf "$modules.$$"; }
}

have_python() {
    command -v python3 >/dev/null || { echo "skipped: no python3 here"; return 1; }
    cmp -s "$here/requirements.txt" "$cache/requirements.txt" && return 0
    [ -x "$cache/python/bin/python" ] || python3 -m venv "$cache/python" >"$work/venv.log" 2>&1 ||
        { echo "skipped: python3 -m venv does not work here"; return 1; }
    timeout 120 "$cache/python/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r "$here/requirements.txt" >"$work/pip.log" 2>&1 ||
        { echo "skipped: pip could not install the clients (is the registry reachable?)"; return 1; }
    cp "$here/requirements.txt" "$cache/requirements.txt"
}

status=0
node=no python=no
have_node && node=yes
have_python && python=yes
if [ "$node$python" = nono ]; then exit 77; fi

# start NAME OPTION… — a server; then its URL is in $url and its process in NAME.pid.
start() {
    name=$1
    shift
    "$kvasir" serve --port 0 --store "$work/$name.store" --log-level warn "$@" \
        >"$work/$name.out" 2>"$work/$name.err" &
    echo $! >"$work/$name.pid"
    for _ in $(seq 100); do
        url=$(sed -n 's/^kvasir: listening on //p' "$work/$name.out")
        [ -z "$url" ] || return 0
        sleep 0.1
    done
    cat "$work/$name.err"
    exit 1
}

mkdir "$work/models"
cp "$here/../../models/skald/skald.gguf" "$work/models/other.gguf"
start many --models-dir "$work/models"
url2=$url
start one

if [ "$node" = yes ]; then
    ln -s "$modules/node_modules" "$work/node_modules" # imports are looked up from their folder on
    cp "$here"/*.mjs "$work"
    for test in clients ai mcp lmstudio schema; do
        timeout 60 node "$work/$test.mjs" "$url" "$url2" || status=1
    done
fi
# After all that traffic; Debian has it in the package prometheus.
if command -v promtool >/dev/null; then
    curl -fsS "$url/metrics" | promtool check metrics || status=1
else
    echo "no promtool here: unit_server_server checks the metrics' text alone"
fi
if [ "$python" = yes ]; then
    timeout 60 "$cache/python/bin/python" "$here/clients.py" "$url" || status=1
fi
for name in one many; do
    pid=$(cat "$work/$name.pid")
    rm "$work/$name.pid"
    kill "$pid"
    wait "$pid" || status=1
done
exit "$status"
