#!/bin/sh
# SPDX-License-Identifier: MIT
# page_test.sh — report.html in a real browser: it is drawn, light and dark, without a network.
# Method: a page from recorded results (tests/golden/bench), opened from file:// by a headless Chromium
#         in both colour schemes, and printed; the screenshots must be PNGs of the right size with many colours in
#         them (a blank page compresses to nothing), differ between light and dark, and the page as the
#         browser read it must hold the headline, charts and the rows that went wrong.
# Usage:  tests/bench/page_test.sh KVASIR [FOLDER that keeps the pictures]
set -eu
kvasir=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*"; exit 1; }

"$kvasir" bench --report tests/golden/bench/results.json --out "$tmp" >"$tmp/table" 2>"$tmp/err" ||
    fail "no page: $(cat "$tmp/err")"
page="$tmp/report.html"
grep -q 'after a restart' "$tmp/table" || fail "no headline in the table"
! grep -Eq 'https?://[^<]*\.(js|css|woff)|<script|src=' "$page" || fail "the page needs something from elsewhere"

browser=""
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && browser=$name && break
done
[ -n "$browser" ] || { echo "no Chromium here: the page was made, but not looked at"; exit 77; }

shot() { # NAME SCHEME
    "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync \
        --disable-background-networking --disable-component-update --hide-scrollbars \
        --user-data-dir="$tmp/profile" --blink-settings=preferredColorScheme="$2" \
        --window-size=1000,2400 --screenshot="$tmp/$1.png" "file://$page" >"$tmp/$1.log" 2>&1 ||
        fail "the browser failed: $(tail -n 3 "$tmp/$1.log")"
    [ "$(head -c 4 "$tmp/$1.png" | tail -c 3)" = PNG ] || fail "$1: no picture"
    [ "$(wc -c <"$tmp/$1.png")" -gt 60000 ] || fail "$1: the picture is nearly empty"
}
shot dark 0
shot light 1
cmp -s "$tmp/dark.png" "$tmp/light.png" && fail "dark looks like light"

"$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-background-networking \
    --user-data-dir="$tmp/profile" --dump-dom "file://$page" >"$tmp/dom" 2>/dev/null || fail "no DOM"
for text in 'class="headline"' '<polyline class="line c0' 'What did not work' 'not reused' 'misconfigured' \
    'no first token after 90 s' 'left alone' 'How to reproduce'; do
    grep -qF "$text" "$tmp/dom" || fail "the browser did not see: $text"
done
"$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-sync --disable-background-networking \
    --user-data-dir="$tmp/profile" --print-to-pdf="$tmp/page.pdf" "file://$page" >"$tmp/pdf.log" 2>&1 ||
    fail "not printed: $(tail -n 3 "$tmp/pdf.log")"
[ "$(head -c 4 "$tmp/page.pdf")" = %PDF ] && [ "$(wc -c <"$tmp/page.pdf")" -gt 40000 ] || fail "an empty print"
if [ $# -gt 1 ]; then
    cp "$tmp/page.pdf" "$tmp/dark.png" "$tmp/light.png" "$page" "$2"
fi
echo "page: ok"
