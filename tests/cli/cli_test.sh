#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_test.sh — what scripts rely on: exit codes, one-line reasons, JSON lines that go on after a bad one.
# Method: runs the program and compares exit code, stdout and stderr; the embedded model where one is
#         needed, the store in a folder of its own.  All sections run, then it fails if one did.
# Usage:  tests/cli/cli_test.sh KVASIR
set -u
kvasir=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HOME="$tmp/home" XDG_DATA_HOME="$tmp/data" XDG_CONFIG_HOME="$tmp/config" XDG_CACHE_HOME="$tmp/cache"
bad=0

# run CODE ARGS…: stdin is inherited; out and err hold what it wrote.
run() {
    want=$1
    shift
    "$kvasir" "$@" >"$tmp/out" 2>"$tmp/err"
    code=$?
    [ "$code" = "$want" ] || miss "kvasir $*: exit $code, expected $want; stderr: $(cat "$tmp/err")"
}
miss() {
    printf 'FAIL: %s\n' "$*"
    bad=1
}
out_is() { [ "$(cat "$tmp/out")" = "$1" ] || miss "stdout is: $(cat "$tmp/out"); expected: $1"; }
out_has() { grep -qF -e "$1" "$tmp/out" || miss "stdout lacks: $1; it is: $(head -c 600 "$tmp/out")"; }
err_has() { grep -qF -e "$1" "$tmp/err" || miss "stderr lacks: $1; it is: $(cat "$tmp/err")"; }
err_is_one_line() { [ "$(wc -l <"$tmp/err")" = 1 ] || miss "stderr has not one line: $(cat "$tmp/err")"; }

echo "# usage"
run 2 </dev/null
run 2 frobnicate </dev/null;              err_has 'no command "frobnicate"'; err_is_one_line
run 2 eval </dev/null;                    err_has "eval tokenize"
run 2 eval frobnicate </dev/null;         err_has "there is no eval frobnicate"
run 2 serve --frobnicate </dev/null;      err_has "unknown option --frobnicate"; err_is_one_line
run 2 serve --port </dev/null;            err_has "--port wants a value: PORT"
run 2 serve --port 99999 </dev/null;      err_has "from 0 to 65535"
run 2 serve --port=12a </dev/null;        err_has "12a"
run 2 serve --kv-type q3 </dev/null;      err_has "one of: f16 f32 q8_0 q4 q4_0"
run 2 serve -ctk f16 -ctv f32 </dev/null; err_has "K and V have one type"
run 2 serve one </dev/null;               err_has "one word too many"
run 2 eval perplexity </dev/null;         err_has "-f FILE is required"
run 2 chat --session ../x </dev/null;     err_has "--session wants"
KVASIR_PORT=x run 2 serve </dev/null;     err_has "KVASIR_PORT"
run 0 --version;                          out_has "kvasir "
run 0 version;                            out_has "kvasir "
run 0 --help;                             out_has "eval perplexity"
run 0 eval --help;                        out_has "eval jinja"
run 0 help serve;                         out_has "--port PORT"
run 0 serve --help;                       out_has "-np, --parallel N"
for command in run chat "eval tokenize" "eval logits" "eval generate" "eval nll" "eval perplexity" \
    "eval render" "eval jinja" "store ls" "store stat" "store verify" models pull bench version; do
    # shellcheck disable=SC2086 # two words
    run 0 $command --help;                out_has "usage: kvasir $command"
done

run 2 pull </dev/null;                    err_has "which model?"; err_is_one_line
run 1 pull model.bin </dev/null;          err_has "OWNER/REPO:FILE.gguf"; err_is_one_line
run 2 pull --sha256 12 a/b </dev/null;    err_has "64 hexadecimal digits"
run 2 pull --connections 17 a/b </dev/null; err_has "from 1 to 16"
# Port 9 (discard) listens nowhere that tests run; the folder is made, no model appears in it.
run 1 pull --base-url http://127.0.0.1:9 a/b </dev/null; err_has "127.0.0.1:9/api/models/a/b"; err_is_one_line
[ -z "$(ls "$tmp/cache/kvasir/models")" ] || miss "pull left something behind"

run 2 bench --frobnicate </dev/null;      err_has "unknown option --frobnicate"; err_is_one_line
run 2 bench --repeat 0 </dev/null;        err_has "--repeat wants a number from 1"
run 2 bench --scenario x </dev/null;      err_has 'no scenario "x"'
run 2 bench --system x </dev/null;        err_has 'no system "x"; known: kvasir'
run 2 bench --system kvasir,x=1 </dev/null; err_has 'unknown option "x=1"'
run 0 bench --plan --quick </dev/null;    out_has "cold-start"
run 0 bench --compute --rate 219 </dev/null; out_has "91.32 s"

echo "# files that are not there, or not what they should be"
run 1 eval tokenize -m "$tmp/absent.gguf" </dev/null; err_has "absent.gguf: no such file"; err_is_one_line
echo "no model" >"$tmp/bad.gguf"
run 1 eval tokenize -m "$tmp/bad.gguf" </dev/null;    err_has "bad.gguf"; err_is_one_line
run 1 run -m "$tmp/bad.gguf" hello </dev/null;        err_has "bad.gguf"; err_is_one_line
run 1 store stat </dev/null;                          err_has "no store there"; err_is_one_line
run 1 store verify --store "$tmp/nowhere" </dev/null; err_is_one_line

echo "# the file of --config"
mkdir -p "$XDG_CONFIG_HOME/kvasir"
printf '# a comment\nport = 12345\n\nkv-type = q9\n' >"$XDG_CONFIG_HOME/kvasir/config"
run 2 serve </dev/null;                   err_has "config:4: kv-type is one of: f16 f32 q8_0 q4 q4_0"
printf 'colour = red\n' >"$XDG_CONFIG_HOME/kvasir/config"
run 2 serve </dev/null;                   err_has 'no option has the key "colour"'
rm "$XDG_CONFIG_HOME/kvasir/config"
run 1 serve --config "$tmp/absent" </dev/null

echo "# eval: a bad line is answered, and the next one too"
printf '%s\n' '{"template":"{{ a + 1 }}","context":{"a":1}}' 'no json' '[]' '{"template":"{% include x %}"}' \
    '{"template":"{{ strftime_now(\"%Y-%m-%d %H:%M\") }}","now":"2024-07-26 12:34:56"}' \
    '{"template":"x","now":"yesterday"}' '{"template":"last"}' >"$tmp/in"
run 0 eval jinja <"$tmp/in"
[ "$(wc -l <"$tmp/out")" = 7 ] || miss "jinja: $(wc -l <"$tmp/out") answers to 7 lines"
[ "$(grep -c '"error"' "$tmp/out")" = 4 ] || miss "jinja: not four errors: $(cat "$tmp/out")"
out_has '{"text":"2"}'
out_has '{"text":"2024-07-26 12:34"}'
[ "$(tail -n 1 "$tmp/out")" = '{"text":"last"}' ] || miss "jinja: the last line was not answered"

printf '%s' '{"text":"Hello world","add_special":true}' >"$tmp/in" # without a newline at the end
run 0 eval tokenize <"$tmp/in"
err_has "embedded model skald"
cp "$tmp/out" "$tmp/tokens"
out_has '{"tokens":[2,'
run 0 eval tokenize --detokenize <"$tmp/tokens"
out_is '{"text":"<bos>Hello world"}'
printf '{"tokens":[4294967295]}\n{"tokens":[-1]}\n{"tokens":"x"}\n{"text":7}\n{"tokens":[]}\n' >"$tmp/in"
run 0 eval tokenize --detokenize <"$tmp/in"
[ "$(grep -c '"error"' "$tmp/out")" = 4 ] || miss "detokenize: not four errors: $(cat "$tmp/out")"
[ "$(tail -n 1 "$tmp/out")" = '{"text":""}' ] || miss "detokenize: no tokens are no text"

printf '%s\n' '{"messages":[{"role":"user","content":"Hi"}],"add_generation_prompt":true}' '{"messages":7}' >"$tmp/in"
run 0 eval render <"$tmp/in"
out_has '<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n'
[ "$(grep -c '"error"' "$tmp/out")" = 1 ] || miss "render: not one error"
echo '{{ bos_token }}{{ messages[0].content }}{{ extra }}' >"$tmp/chat.jinja"
echo '{"messages":[{"role":"user","content":"Hi"}],"variables":{"extra":"!","bos_token":"<b>"}}' >"$tmp/in"
run 0 eval render --template "$tmp/chat.jinja" <"$tmp/in"
out_is '{"text":"<b>Hi!"}'
echo '{% frob %}' >"$tmp/chat.jinja"
run 1 eval render --template "$tmp/chat.jinja" <"$tmp/in"
err_has "line 1"

echo "# eval: the model"
printf '%s\n' '{"tokens":[2,100,101,102],"positions":[0,3],"top":3,"digest":true}' '{"tokens":[]}' \
    '{"tokens":[2],"positions":[1]}' '{"tokens":[2,100],"positions":[1,0]}' '{"tokens":[2,100,101,102],"top":1}' >"$tmp/in"
run 0 eval logits <"$tmp/in"
[ "$(grep -c '"error"' "$tmp/out")" = 2 ] || miss "logits: not two errors: $(cat "$tmp/out")"
head -n 1 "$tmp/out" | grep -qE '^\{"positions":\[\{"pos":0,"logsumexp":[-0-9.e]+,"top":(\[?\[[0-9]+,[-0-9.e]+\],?){3}\],"digest":"[0-9a-f]{64}"\},\{"pos":3,' ||
    miss "logits: $(head -n 1 "$tmp/out")"
first=$(head -n 1 "$tmp/out")
# Positions in any order, and twice: answered as they were asked.
echo '{"tokens":[5,6,7],"positions":[2,0,2],"top":1}' >"$tmp/one"
run 0 eval logits <"$tmp/one"
[ "$(grep -o '"pos":[0-9]*' "$tmp/out" | tr '\n' ' ')" = '"pos":2 "pos":0 "pos":2 ' ] ||
    miss "positions came in another order: $(cat "$tmp/out")"

for isa in ref auto; do
    head -n 1 "$tmp/in" >"$tmp/one"
    run 0 eval logits --isa "$isa" --threads 1 --chunk 1 <"$tmp/one"
    out_is "$first"
done
echo '{"tokens":[2,100,101,102]}' >"$tmp/in"
run 0 eval nll <"$tmp/in"
grep -qE '^\{"nll":\[[-0-9.e]+,[-0-9.e]+,[-0-9.e]+\]\}$' "$tmp/out" || miss "nll: $(cat "$tmp/out")"

printf '%s\n' '{"tokens":[2,100,101,102],"n":8}' 'oops' '{"tokens":[2,100,101,102],"n":8,"temperature":1,"seed":5}' \
    '{"tokens":[2,100,101,102],"n":8,"temperature":1,"seed":5}' '{"tokens":[2,7],"n":4}' >"$tmp/in"
run 0 eval generate --store none <"$tmp/in"
sed 's/,"cached".*//' "$tmp/out" >"$tmp/serial"
[ "$(sed -n 3p "$tmp/serial")" = "$(sed -n 4p "$tmp/serial")" ] || miss "generate: one seed, two texts"
[ "$(grep -c '"error"' "$tmp/out")" = 1 ] || miss "generate: not one error: $(cat "$tmp/out")"
[ "$(sed -n 1p "$tmp/out" | sed 's/.*"tokens":\[\([^]]*\)\].*/\1/' | tr ',' '\n' | wc -l)" = 8 ] || miss "generate: not 8 tokens"
run 0 eval generate --store none --parallel 3 <"$tmp/in"
sed 's/,"cached".*//' "$tmp/out" | cmp -s - "$tmp/serial" || miss "generate: --parallel 3 answers otherwise"

echo "# the store: kept by one process, found by the next"
i=0
{
    printf '{"n":4,"tokens":[2'
    while [ $i -lt 400 ]; do
        printf ',%d' $((300 + i * 7 % 1000))
        i=$((i + 1))
    done
    printf ']}\n'
} >"$tmp/in"
run 0 eval generate --store "$tmp/kv" <"$tmp/in"
cold=$(cat "$tmp/out")
case $cold in *'"cached":0,'*) ;; *) miss "store: the first run found something: $cold" ;; esac
run 0 eval generate --store "$tmp/kv" <"$tmp/in"
out_has '"disk":401,"computed":0'
[ "${cold%%,\"cached\"*}" = "$(sed 's/,"cached".*//' "$tmp/out")" ] || miss "store: resumed otherwise"
run 0 store stat --store "$tmp/kv";        out_has "page"
run 0 store stat --json --store "$tmp/kv"; out_has '"live_bytes"'
run 0 store ls --records --store "$tmp/kv";          out_has "head"
run 0 store ls --records --json --store "$tmp/kv";   out_has '"kind":"page"'
run 0 store verify --store "$tmp/kv";      out_has "0 bad"

echo "# talking"
run 0 run --temperature 0 --store none "who are you?" </dev/null
out_is "I am skald, a tiny recall model."
echo "who are you?" >"$tmp/in"
run 0 run --temperature 0 --store none --timings <"$tmp/in"
out_is "I am skald, a tiny recall model."
err_has "prompt tokens"
run 0 chat --temperature 0 --store "$tmp/kv" --session s <"$tmp/in"
out_is "I am skald, a tiny recall model."
run 0 chat --temperature 0 --store "$tmp/kv" --session s --timings <"$tmp/in"
[ "$(wc -l <"$tmp/kv/chats/s.jsonl")" = 4 ] || miss "chat: the session holds $(wc -l <"$tmp/kv/chats/s.jsonl") messages, expected 4"
run 0 store ls --store "$tmp/kv"
grep -qE '^20[0-9]{2}-.* tokens .* s  \(' "$tmp/out" || miss "store ls: no session s: $(head -n 3 "$tmp/out")"
run 0 models
out_has "skald"

[ "$bad" = 0 ] && echo "cli: ok"
exit "$bad"
