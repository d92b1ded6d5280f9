#!/bin/sh
# SPDX-License-Identifier: MIT
# matrix.sh KVASIR LLAMA_SERVER SMOLLM2.gguf GEMMA.gguf SKALD.gguf OUT [PART…]
#
# All scenarios on three models with all systems, as docs/benchmark.md shows them, in parts: each leaves
# OUT/PART/results.json, and one that is there is not run again, so an interrupted matrix goes on where it was.
# Then all parts as one: OUT/all/{results.json,report.html,report.md}.
#   THREADS       of every server (default: all processors)
#   SECONDS_MOST  of all parts together (default: no limit); the part under way is ended, what it has is kept
#   MLX_SERVER, MLX_MODEL   mlx_lm.server and SmolLM2 as a folder of MLX's (bench/mlx_folder.py): a row of its own
# Two hours on two processors.
set -u
[ $# -ge 6 ] || { sed -n 's/^# //p' "$0" | sed -n 2,11p; exit 2; }
kvasir=$(realpath "$1") llama=$(realpath "$2")
smol="SmolLM2 135M=$(realpath "$3")" gemma="Gemma 3 270M=$(realpath "$4")" skald="skald=$(realpath "$5")"
mkdir -p "$6" && out=$(realpath "$6")
shift 6
wanted=" $* " most=${SECONDS_MOST:-1000000} begun=$(date +%s) parts=""

part() { # NAME SYSTEMS MODELS ARGS…
    name=$1 systems=$2 models=$3 now=$(date +%s)
    shift 3
    parts="$parts $name"
    case $wanted in "  " | *" $name "*) ;; *) return 0 ;; esac
    [ ! -f "$out/$name/results.json" ] || return 0
    left=$((begun + most - now))
    [ "$left" -gt 20 ] || { echo "matrix: $name: no time left"; return 0; }
    for system in $systems; do
        case $system in
            kvasir) set -- "$@" --system kvasir ;;
            llama) set -- "$@" --system "llama-server=$llama" ;;
            whole) set -- "$@" --system "llama-server=$llama,swa-full" ;;
            mlx) set -- "$@" --system "mlx_lm.server=$MLX_SERVER,model=${MLX_MODEL:-},name=mlx_lm.server" ;;
        esac
    done
    mkdir -p "$out/$name"
    timeout -s INT -k 30 "$left" "$kvasir" bench --models "$models" --threads "${THREADS:-0}" --cell-seconds 95 \
        --out "$out/$name" "$@" >"$out/$name/log" 2>&1
    echo "matrix: $name: exit $?, $(($(date +%s) - now)) s"
}

two="kvasir llama" three="kvasir llama whole"
part smol-context "$two" "$smol" --scenario context --lengths 512,2048,7936 --repeat 2 --answer 16
# Gemma's file is a base model without a template; each program would put another one around messages: plain text.
part gemma-context "$three" "$gemma" --text --scenario context --lengths 512,2048,8192,20000 --repeat 1 --answer 16
part skald-context "$three" "$skald" --scenario context --lengths 67,512,2048,8192,20000 --repeat 2 --answer 16
part smol-sessions "$two" "$smol" --scenario cold-start,resume,chat --prompt 1024 --repeat 2 --answer 16
part gemma-sessions "$three" "$gemma" --text --scenario cold-start,resume,chat --prompt 1024 --repeat 2 --answer 16
part skald-sessions "$three" "$skald" --scenario cold-start,resume,chat --prompt 1024 --repeat 2 --answer 16
part smol-concurrency "$two" "$smol" --scenario concurrency --streams 1,2,4,8 --repeat 1 --answer 16
part gemma-concurrency "$two" "$gemma" --text --scenario concurrency --streams 1,2,4,8 --repeat 1 --answer 16
part skald-concurrency "$three" "$skald" --scenario concurrency --streams 1,2,4,8 --repeat 1 --answer 16
part gemma-branch "$three" "$gemma" --text --scenario branch --branches 8 --prompt 2048 --repeat 1 --answer 8
part skald-branch "$three" "$skald" --scenario branch --branches 8 --prompt 2048 --repeat 1 --answer 8
part smol-agents "$two" "$smol" --scenario agents,tools,branch --prompt 1024 --branches 4 --repeat 1 --answer 16
part gemma-agents "$two" "$gemma" --text --scenario agents,tools --prompt 1024 --repeat 1 --answer 16
part skald-agents "$three" "$skald" --scenario agents,tools --prompt 2048 --repeat 1 --answer 16
part sizes "$two" "$smol,$gemma,$skald" --text --scenario sizes --prompt 2048 --repeat 1 --answer 8
[ -z "${MLX_SERVER:-}" ] ||
    part mlx "kvasir mlx" "$smol" --scenario cold-start,context --lengths 67 --repeat 1 --answer 8

list=""
for name in $parts; do
    [ ! -s "$out/$name/results.json" ] || list="$list,$out/$name/results.json"
done
[ -n "$list" ] || { echo "matrix: no part has results" >&2; exit 1; }
"$kvasir" bench --report "${list#,}" --out "$out/all" >"$out/all.txt" || exit 1
echo "matrix: $out/all/report.html, report.md"
