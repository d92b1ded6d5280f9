#!/bin/sh
# SPDX-License-Identifier: MIT
# matrix.sh KVASIR LLAMA_SERVER SMOLLM2.gguf GEMMA.gguf SKALD.gguf OUT [PART…]
#
# All scenarios on three models with all systems, as docs/benchmark.md shows them, in parts: each leaves
# OUT/PART/results.json, and one that ended is not run again, so an interrupted matrix goes on where it was.
# Then all parts as one: OUT/all/{results.json,report.html,report.md}; `./do bench publish OUT` puts that into
# docs/benchmark.md.
#   THREADS       of every server (default: all processors)
#   SECONDS_MOST  of all parts together (default: no limit): each gets its share of what is left, and one that needs
#                 more is ended, and keeps what it has
#   MLX_SERVER, MLX_MODEL   mlx_lm.server and SmolLM2 as a folder of MLX's (bench/mlx_folder.py): a row of its own
# Half an hour on two processors.
set -u
LAST_SECONDS=10 # to put all parts together
[ $# -ge 6 ] || { sed -n 's/^# \{0,1\}//p' "$0" | sed -n 3,13p; exit 2; }
kvasir=$(realpath "$1") llama=$(realpath "$2")
smol="SmolLM2 135M=$(realpath "$3")" gemma="Gemma 3 270M=$(realpath "$4")" skald="skald=$(realpath "$5")"
mkdir -p "$6" && out=$(realpath "$6")
shift 6
wanted=" $* " most=${SECONDS_MOST:-} begun=$(date +%s) does=count names="" todo=0

# ^C ends all of it; the part under way is run again the next time.
trap 'echo "matrix: interrupted" >&2; exit 130' INT TERM

run() { # NAME SECONDS SYSTEMS MODELS ARGS…: SECONDS is what it took on two processors
    name=$1 seconds=$2 systems=$3 models=$4
    shift 4
    limit=86400
    if [ -n "$most" ]; then
        limit=$(((begun + most - LAST_SECONDS - $(date +%s)) * seconds / todo))
        [ "$limit" -ge 5 ] || { echo "matrix: $name: no time left"; return 0; }
    fi
    for system in $systems; do
        case $system in
            kvasir) set -- "$@" --system kvasir ;;
            llama) set -- "$@" --system "llama-server=$llama" ;;
            whole) set -- "$@" --system "llama-server=$llama,swa-full" ;;
            mlx) set -- "$@" --system "mlx_lm.server=$MLX_SERVER,model=${MLX_MODEL:-},name=mlx_lm.server" ;;
        esac
    done
    mkdir -p "$out/$name"
    from=$(date +%s) code=0
    timeout -s INT -k 30 "$limit" "$kvasir" bench --models "$models" --threads "${THREADS:-0}" --cell-seconds 240 \
        --out "$out/$name" "$@" >"$out/$name/log" 2>&1 || code=$?
    echo "matrix: $name: $(($(date +%s) - from)) s of $limit$([ "$code" = 0 ] || echo ", ended with $code")"
    # 124: at its limit.  What failed before it had results is tried again the next time.
    case $code in 0 | 124) [ ! -s "$out/$name/results.json" ] || : >"$out/$name/ended" ;; esac
}

part() { # NAME SECONDS …
    case $wanted in "  " | *" $1 "*) ;; *) names="$names $1"; return 0 ;; esac
    if [ -f "$out/$1/ended" ]; then
        names="$names $1"
    elif [ "$does" = count ]; then
        todo=$((todo + $2))
    else
        names="$names $1"
        run "$@"
        todo=$((todo - $2))
    fi
}

parts() {
    two="kvasir llama" three="kvasir llama whole"
    part smol-context 230 "$two" "$smol" --scenario context --lengths 512,2048,7936 --repeat 2 --answer 16
    # Gemma's file is a base model without a template; each program would put another one around messages: plain text.
    part gemma-context 360 "$three" "$gemma" --text --scenario context --lengths 512,2048,8192,20000 --repeat 1 --answer 16
    part skald-context 125 "$three" "$skald" --scenario context --lengths 67,512,2048,8192,20000 --repeat 2 --answer 16
    part smol-sessions 45 "$two" "$smol" --scenario cold-start,resume,chat --prompt 1024 --repeat 2 --answer 16
    part gemma-sessions 95 "$three" "$gemma" --text --scenario cold-start,resume,chat --prompt 1024 --repeat 2 --answer 16
    part skald-sessions 25 "$three" "$skald" --scenario cold-start,resume,chat --prompt 1024 --repeat 3 --answer 16
    part smol-concurrency 80 "$two" "$smol" --scenario concurrency --streams 1,2,4,8 --repeat 1 --answer 16
    part gemma-concurrency 120 "$three" "$gemma" --text --scenario concurrency --streams 1,2,4,8 --repeat 1 --answer 16
    part skald-concurrency 20 "$three" "$skald" --scenario concurrency --streams 1,2,4,8 --repeat 1 --answer 16
    part gemma-branch 180 "$three" "$gemma" --text --scenario branch --branches 8 --prompt 2048 --repeat 1 --answer 8
    part skald-branch 25 "$three" "$skald" --scenario branch --branches 8 --prompt 2048 --repeat 1 --answer 8
    part smol-agents 125 "$two" "$smol" --scenario agents,tools,branch --prompt 1024 --branches 4 --repeat 1 --answer 16
    part gemma-agents 215 "$three" "$gemma" --text --scenario agents,tools --prompt 1024 --repeat 1 --answer 16
    part skald-agents 35 "$three" "$skald" --scenario agents,tools --prompt 2048 --repeat 1 --answer 16
    part sizes 40 "$two" "$smol,$gemma,$skald" --text --scenario sizes --prompt 2048 --repeat 1 --answer 8
    [ -z "${MLX_SERVER:-}" ] ||
        part mlx 60 "kvasir mlx" "$smol" --scenario cold-start,context --lengths 67 --repeat 1 --answer 8
}

parts
echo "matrix: about $(((todo + 59) / 60)) minutes on two processors${most:+, ended after $((most / 60))}"
does=run names=""
parts

list=""
for name in $names; do
    [ ! -s "$out/$name/results.json" ] || list="$list,$out/$name/results.json"
done
[ -n "$list" ] || { echo "matrix: no part has results" >&2; exit 1; }
"$kvasir" bench --report "${list#,}" --out "$out/all" >"$out/all.txt" || exit 1
echo "matrix: $out/all/report.html, report.md"
