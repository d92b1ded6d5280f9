#!/bin/sh
# SPDX-License-Identifier: MIT
# install_test.sh — what an installation brings: the program runs, groff takes the manual page without
#                   a warning, bash completes commands, options and choices, systemd takes the service.
# Method: installs into an empty folder; the judges are groff, bash and systemd-analyze, where there are.
# Usage:  tests/cli/install_test.sh BUILD
set -u
build=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0
miss() {
    printf 'FAIL: %s\n' "$*"
    bad=1
}

DESTDIR="$tmp" cmake --install "$build" --prefix /opt/k >"$tmp/log" 2>&1 || {
    cat "$tmp/log"
    exit 1
}
root="$tmp/opt/k"
"$root/bin/kvasir" --version | grep -q '^kvasir [0-9]' || miss "the installed program does not run"

echo "# manual page"
page="$root/share/man/man1/kvasir.1"
grep -q '^\.SH "KVASIR STORE EXPORT"' "$page" || miss "the manual page lacks a command"
if command -v groff >/dev/null; then
    groff -man -Tutf8 -ww -rLL=100n "$page" 2>"$tmp/warnings" |
        sed 's/.\x08//g; s/\x1b\[[0-9;]*m//g; s/−/-/g' >"$tmp/page"
    [ ! -s "$tmp/warnings" ] || miss "groff: $(head -n 3 "$tmp/warnings")"
    grep -aq -e '-np, --parallel N' "$tmp/page" || miss "the manual page lacks --parallel"
    grep -aq -e 'curl -s http' "$tmp/page" || miss "the manual page lacks an example"
fi

echo "# completion"
# complete WORD…: what bash offers for the last of them.
complete() {
    bash -c '. "$1"; shift; COMP_WORDS=(kvasir "$@"); COMP_CWORD=$#; _kvasir; echo "${COMPREPLY[*]}"' \
        bash "$root/share/bash-completion/completions/kvasir" "$@"
}
if command -v bash >/dev/null; then
    [ "$(complete se)" = serve ] || miss "se: $(complete se)"
    [ "$(complete store exp)" = "expire export explain" ] || miss "store exp: $(complete store exp)"
    [ "$(complete serve --par)" = --parallel ] || miss "serve --par: $(complete serve --par)"
    [ -z "$(complete models --par)" ] || miss "models --par: $(complete models --par)"
    [ "$(complete serve --isa avx5)" = "avx512 avx512-vnni" ] || miss "--isa: $(complete serve --isa avx5)"
    [ "$(complete store ls --js)" = --json ] || miss "store ls --js: $(complete store ls --js)"
fi

echo "# service"
unit="$root/lib/systemd/system/kvasir.service"
grep -q '^ExecStart=/opt/k/bin/kvasir serve$' "$unit" || miss "the service starts another program"
if command -v systemd-analyze >/dev/null; then
    # An exposure of 2.0 is "OK" in systemd's words; without hardening it would be 9.6.
    systemd-analyze security --offline=true --threshold=20 "$unit" >"$tmp/security" 2>&1 ||
        miss "systemd-analyze: $(tail -n 1 "$tmp/security")"
fi
exit "$bad"
