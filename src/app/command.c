/* SPDX-License-Identifier: MIT
 * command.c — the table of commands, and the way from argv to one of them. */
#include <signal.h>
#include <string.h>

#include "app/app.h"
#include "app/app_int.h"
#include "base/check.h"
#include "base/log.h"
#include "os/heap.h"

const struct command commands[COMMAND_COUNT] = {
    [COMMAND_SERVE] =
        {"serve", "", 0, "the server: OpenAI's API over HTTP, prompts kept on disk",
         "Prints \"kvasir: listening on http://HOST:PORT\" once it is ready. A prompt, or the "
         "beginning of one,\n"
         "that was ever computed is not computed again: not in another conversation, not after a "
         "restart.\n"
         "\n"
         "  kvasir serve                              the embedded model skald\n"
         "  kvasir serve -m model.gguf -c 32768       another model, its context limited\n"
         "  kvasir serve -m model.gguf --store /fast/disk/kvasir --store-max-bytes 50G\n"
         "  kvasir serve --models-dir ~/models --model-ttl 600    several, loaded when asked for\n"
         "  curl -s http://127.0.0.1:8080/v1/chat/completions \\\n"
         "      -d '{\"messages\":[{\"role\":\"user\",\"content\":\"who are you?\"}]}'\n",
         command_serve},
    [COMMAND_RUN] = {"run", "[PROMPT …]", 4096, "one prompt, one answer",
                     "The words of the prompt are joined by blanks; without any, or with \"-\", it "
                     "is read from stdin.\n"
                     "\n"
                     "  kvasir run \"who are you?\"\n"
                     "  kvasir run -m model.gguf --temperature 0 < question.txt\n"
                     "  kvasir run --raw -n 40 \"Once upon a time\"\n",
                     command_run},
    [COMMAND_CHAT] =
        {"chat", "", 0, "a conversation in the terminal",
         "^C stops an answer; ^D, ^C at the prompt, or /quit leaves; /new begins again. With "
         "--session the\n"
         "conversation is kept and goes on where it ended, without computing it again.\n"
         "\n"
         "  kvasir chat\n"
         "  kvasir chat -m model.gguf --session travel --system \"Answer in one sentence.\"\n",
         command_chat},
    [COMMAND_EVAL_TOKENIZE] =
        {"eval tokenize", "", 0, "text to token ids, and back",
         "stdin:  {\"text\": \"…\", \"add_special\": false, \"parse_special\": false}\n"
         "stdout: {\"tokens\": [ids]}\n"
         "With --detokenize: {\"tokens\": [ids], \"special\": true} to {\"text\"}; special false "
         "leaves control tokens out.\n"
         "The file may hold a vocabulary only. A bad line is answered by {\"error\": \"…\"}.\n"
         "\n"
         "  echo '{\"text\":\"Hello\"}' | kvasir eval tokenize -m model.gguf\n"
         "  echo '{\"tokens\":[1,2]}' | kvasir eval tokenize -m model.gguf --detokenize\n",
         command_eval_tokenize},
    [COMMAND_EVAL_LOGITS] = {"eval logits", "", 0, "logits after given positions",
                             "stdin:  {\"tokens\": [ids], \"positions\": [indices, default the "
                             "last], \"top\": 64, \"digest\": false}\n"
                             "stdout: {\"positions\": [{\"pos\", \"logsumexp\", \"top\": [[id, "
                             "logit], …]}], \"cached\": n}\n"
                             "\"digest\": true adds the SHA-256 of all logits' bytes to each "
                             "position: equal digests, equal bits.\n"
                             "\n"
                             "  echo '{\"tokens\":[2,10,11],\"top\":3}' | kvasir eval logits -m "
                             "model.gguf --activations f32 --kv-type f32\n",
                             command_eval_logits},
    [COMMAND_EVAL_GENERATE] = {"eval generate", "", 0, "tokens that follow tokens",
                               "stdin:  {\"tokens\": [ids], \"n\": 64, \"temperature\": 0, "
                               "\"seed\": …, \"top_k\": …, \"top_p\": …, \"min_p\": …,\n"
                               "         \"typical_p\": …, \"repeat_penalty\": …, \"ignore_eos\": "
                               "true}, or \"text\" in the place of tokens\n"
                               "stdout: {\"tokens\": [ids], \"text\": \"…\", \"cached\": n, "
                               "\"memory\": n, \"disk\": n, \"computed\": n,\n"
                               "         \"finish\": \"length\", \"seed\": n, \"lookup_ms\", "
                               "\"prefill_ms\", \"fault_in_ms\", \"verify_ms\", \"decode_ms\"}\n"
                               "Ends of text do not end it unless \"ignore_eos\" is false. With "
                               "--parallel N so many lines run together;\n"
                               "the answers come in order all the same.\n"
                               "\n"
                               "  echo '{\"tokens\":[2,10,11],\"n\":8}' | kvasir eval generate -m "
                               "model.gguf --store /tmp/kv\n",
                               command_eval_generate},
    [COMMAND_EVAL_NLL] =
        {"eval nll", "", 0, "how surprising each token is",
         "stdin:  {\"tokens\": [ids]}\n"
         "stdout: {\"nll\": [n - 1 values]}, the i-th being -ln p(token i+1 | tokens 0..i)\n"
         "\n"
         "  echo '{\"tokens\":[2,10,11]}' | kvasir eval nll -m model.gguf\n",
         command_eval_nll},
    [COMMAND_EVAL_PERPLEXITY] =
        {"eval perplexity", "", 0, "perplexity of a text",
         "The text is cut into windows of --ctx tokens (default 2048) that do not overlap, each "
         "with BOS in front\n"
         "where the model wants one; tokens that do not fill the last one are left out. One JSON "
         "object:\n"
         "{\"nll_sum\", \"count\", \"mean_nll\", \"perplexity\", \"ctx\", \"tokens_left_out\",\n"
         " \"windows\": [{\"nll_sum\", \"count\"}]}\n"
         "\n"
         "  kvasir eval perplexity -m model.gguf -f book.txt --ctx 2048\n",
         command_eval_perplexity},
    [COMMAND_EVAL_RENDER] =
        {"eval render", "", 0, "messages through a chat template",
         "stdin:  {\"messages\": […], \"tools\": […], \"add_generation_prompt\": false, "
         "\"continue_final_message\": false,\n"
         "         \"now\": \"YYYY-MM-DD HH:MM:SS\", \"variables\": {…}}\n"
         "stdout: {\"text\"}\n"
         "\"variables\" go to the template as they are, \"now\" is what strftime_now sees. With "
         "-m, bos_token and\n"
         "eos_token come from the vocabulary unless \"variables\" has them.\n"
         "\n"
         "  echo "
         "'{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"add_generation_prompt\":true}' "
         "| kvasir eval render\n"
         "  … | kvasir eval render --template chat.jinja\n",
         command_eval_render},
    [COMMAND_EVAL_JINJA] =
        {"eval jinja", "", 0, "any template with any variables",
         "stdin:  {\"template\": \"…\", \"context\": {…}, \"now\": \"YYYY-MM-DD HH:MM:SS\"}\n"
         "stdout: {\"text\"}\n"
         "\n"
         "  echo '{\"template\":\"{{ a + 1 }}\",\"context\":{\"a\":1}}' | kvasir eval jinja\n",
         command_eval_jinja},
    [COMMAND_STORE_LS] =
        {"store ls", "", 0, "the sessions, newest first",
         "With --records: everything that is stored, by kind. Works while a server "
         "runs.\n"
         "\n"
         "  kvasir store ls --tag work\n"
         "  kvasir store ls --store /fast/disk/kvasir --records\n",
         command_store_ls},
    [COMMAND_STORE_SHOW] = {"store show", "NAME", 1, "one session, and what was forked from it",
                            "NAME is a session's name or id, or a response's id. JSON; works while "
                            "a server runs.\n"
                            "\n"
                            "  kvasir store show travel --history | jq .history\n",
                            command_store_show},
    [COMMAND_STORE_CREATE] = {"store create", "NAME [TAG]", 2, "an empty session",
                              "It has tokens, and a model, from its first turn on. While a server "
                              "runs, that server does it.\n"
                              "\n"
                              "  kvasir store create travel holidays\n",
                              command_store_change},
    [COMMAND_STORE_FORK] = {"store fork", "NAME", 1, "another session that begins as this one",
                            "One record of 4 KiB, however long it is. While a server runs, that "
                            "server does it.\n"
                            "\n"
                            "  kvasir store fork travel --as travel-by-train --at-message 3\n",
                            command_store_change},
    [COMMAND_STORE_PIN] = {"store pin", "NAME [REASON …]", 64, "keeps a session's pages",
                           "Others are evicted first. While a server runs, that server does it.\n"
                           "\n"
                           "  kvasir store pin travel asked for every day\n",
                           command_store_change},
    [COMMAND_STORE_UNPIN] = {"store unpin", "NAME", 1, "lets its pages be evicted again",
                             "\n  kvasir store unpin travel\n", command_store_change},
    [COMMAND_STORE_TAG] = {"store tag", "NAME [TAG]", 2, "a word to list it by; none: takes it off",
                           "\n  kvasir store tag travel holidays\n", command_store_change},
    [COMMAND_STORE_RENAME] = {"store rename", "NAME NEW", 2, "another name",
                              "\n  kvasir store rename travel journey\n", command_store_change},
    [COMMAND_STORE_RM] = {"store rm", "NAME", 1, "forgets a session",
                          "What forks share with it stays with them. Its bytes leave the disk with "
                          "store gc.\n"
                          "\n"
                          "  kvasir store rm travel && kvasir store gc\n",
                          command_store_change},
    [COMMAND_STORE_EXPIRE] =
        {"store expire", "", 0, "forgets sessions that nobody used for some days",
         "Pinned ones stay. Token ids of chats without a session go likewise, those of all "
         "tenants. While a server runs,\n"
         "that server does it; with --session-days and --history-days it does so by itself.\n"
         "\n"
         "  kvasir store expire --days 90\n",
         command_store_change},
    [COMMAND_STORE_PUBLIC] =
        {"store public", "NAME", 1, "lets every tenant begin with a session's pages",
         "For a system prompt that all share: its full pages serve all tenants from now on. What a "
         "tenant adds stays\n"
         "its own. Take a session that holds nothing else, or say with --at how much of it.\n"
         "\n"
         "  kvasir store public handbook --at 2048\n",
         command_store_change},
    [COMMAND_STORE_EXPORT] =
        {"store export", "NAME", 1, "a session as one file, to stdout",
         "Its tokens, messages and KV pages; with --tree also what was forked from it. Works while "
         "a server runs.\n"
         "\n"
         "  kvasir store export travel > travel.kvx\n"
         "  kvasir store export travel | ssh elsewhere kvasir store import\n",
         command_store_export},
    [COMMAND_STORE_IMPORT] =
        {"store import", "", 0, "such a file, from stdin",
         "All of it or nothing. Its pages serve that session and its forks only, unless --trust. A "
         "file of another\n"
         "model is refused, unless --tokens-only.\n"
         "\n"
         "  kvasir store import --as journey < travel.kvx\n",
         command_store_import},
    [COMMAND_STORE_EXPLAIN] =
        {"store explain", "", 0, "why a prompt is, or is not, in the cache",
         "stdin: {\"messages\": […], \"tools\": […], \"session\": NAME}, or {\"prompt\": \"…\"}. "
         "Asks the server that has the\n"
         "store; without one, opens the model that -m names. docs/api/cache.md explains the "
         "answer.\n"
         "\n"
         "  kvasir store explain < request.json | jq .reason,.divergence\n",
         command_store_explain},
    [COMMAND_STORE_GC] = {"store gc", "", 0,
                          "gives space back now, and erases what was deleted or damaged",
                          "It also happens by itself. While a server runs, that server does it.\n"
                          "\n"
                          "  kvasir store gc\n",
                          command_store_change},
    [COMMAND_STORE_REBUILD] = {"store rebuild", "", 0, "makes index.db again from the segments",
                               "For when it was lost or is not believed; no server may run.\n"
                               "\n"
                               "  kvasir store rebuild\n",
                               command_store_rebuild},
    [COMMAND_STORE_STAT] = {"store stat", "", 0, "how much is stored",
                            "Works while a server runs.\n"
                            "\n"
                            "  kvasir store stat\n"
                            "  kvasir store stat --json | jq .live_bytes\n",
                            command_store_stat},
    [COMMAND_STORE_VERIFY] =
        {"store verify", "[NAME]", 1, "reads everything, compares all checksums",
         "With a NAME (a session's or response's): what that session needs, nothing else. Exits 0 "
         "when it is clean, 1 when\n"
         "a record is damaged, or was set aside as damaged and is still on disk. Works while a "
         "server runs.\n"
         "\n"
         "  kvasir store verify && echo clean\n"
         "  kvasir store verify agent-7\n",
         command_store_verify},
    [COMMAND_MODELS] = {"models", "[rm NAME … | prune]", 4096, "the models that -m knows by name",
                        "The embedded one, and the .gguf files in $XDG_CACHE_HOME/kvasir/models "
                        "(default ~/.cache/kvasir/models);\n"
                        "then the side files in kvasir/packed beside it: a model's weights as this "
                        "program reads them, made at its\n"
                        "first start and mapped by later ones. \"rm\" removes those of a model or "
                        "of that name (never a model), \"prune\"\n"
                        "those whose model is gone or changed. What is missing is made again when "
                        "it is needed.\n"
                        "\n"
                        "  kvasir models\n"
                        "  kvasir models rm gemma-3-270m-q4_k_m.gguf\n"
                        "  kvasir models prune\n",
                        command_models},
    [COMMAND_PULL] =
        {"pull", "MODEL …", 64, "fetches models into the models folder",
         "MODEL is the address of a .gguf file, or OWNER/REPO:FILE.gguf of a hub; "
         "OWNER/REPO:Q4_K_M "
         "where one file\n"
         "there is named so, OWNER/REPO where it is the only one. Of a model in pieces "
         "(-00001-of-00003) all come.\n"
         "Broken off, by whatever, it goes on where it was when called again. The file appears "
         "under its name once\n"
         "it is whole and checked; -m knows it by that name. For what asks for a login, a token in "
         "HF_TOKEN.\n"
         "\n"
         "  kvasir pull https://example.org/models/tiny.gguf\n"
         "  kvasir pull ggml-org/gemma-3-270m-GGUF:Q8_0\n"
         "  kvasir pull --base-url https://mirror.example ggml-org/gemma-3-270m-GGUF\n",
         command_pull},
    [COMMAND_BENCH] =
        {"bench", "", 0, "kvasir and other local servers compared, the same work",
         "Starts each system, asks the same questions, times the first token on the wire, writes\n"
         "results.json and report.html. The method and figures are in docs/benchmark.md.\n"
         "\n"
         "  kvasir bench --quick\n"
         "  kvasir bench --models model.gguf --system kvasir --system llama-server=PATH\n",
         NULL, command_bench},
    [COMMAND_VERSION] = {"version", "", 0, "the version of this program", "\n  kvasir version\n",
                         command_version},
};

/* The longest name that the first words spell; *n_words of them.  NULL: none. */
static const struct command *find_command(int argc, char **argv, int *n_words)
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const char *name = commands[i].name, *blank = strchr(name, ' ');
        size_t first = blank ? (size_t)(blank - name) : strlen(name);
        if (strlen(argv[0]) != first || memcmp(argv[0], name, first) != 0)
            continue;
        if (!blank || (argc > 1 && strcmp(argv[1], blank + 1) == 0)) {
            *n_words = blank ? 2 : 1;
            return &commands[i];
        }
    }
    return NULL;
}

static bool is_group(const char *word)
{
    return strcmp(word, "eval") == 0 || strcmp(word, "store") == 0;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* argv[0] is the first word after "kvasir", and names no command. */
static int without_command(int argc, char **argv)
{
    static const struct {
        const char *word;
        void (*write)(FILE *out);
    } documents[] = {{"--api", help_api},
                     {"--markdown", help_markdown},
                     {"--man", help_man},
                     {"--bash", help_bash}};
    for (size_t i = 0; is_help(argv[0]) && argc > 1 && i < ARRAY_COUNT(documents); i++) {
        if (strcmp(argv[1], documents[i].word) != 0)
            continue;
        documents[i].write(stdout);
        return EXIT_DONE;
    }
    if (is_help(argv[0])) {
        int n_words;
        const struct command *command =
            argc > 1 ? find_command(argc - 1, argv + 1, &n_words) : NULL;
        if (command)
            help_command(stdout, command);
        else if (argc > 1 && is_group(argv[1]))
            help_group(stdout, argv[1]);
        else
            help_overview(stdout);
        return EXIT_DONE;
    }
    if (is_group(argv[0])) {
        bool asked = argc > 1 && is_help(argv[1]);
        if (argc > 1 && !asked)
            complain("there is no %s %s", argv[0], argv[1]);
        help_group(asked ? stdout : stderr, argv[0]);
        return asked ? EXIT_DONE : EXIT_USAGE;
    }
    complain("there is no command \"%s\"; kvasir --help lists them", argv[0]);
    return EXIT_USAGE;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct config c;
    struct err e = {0};
    bool wants_help;
    int code;
    if (command->run_words)
        return command->run_words(argc, argv);
    if (config_read(&c, command, argc, argv, &wants_help, &e) != OK) {
        complain("%s: %s (kvasir %s --help)", command->name, e.msg, command->name);
        code = e.code == E_INVALID ? EXIT_USAGE : EXIT_FAILED;
    } else if (wants_help) {
        help_command(stdout, command);
        code = EXIT_DONE;
    } else {
        log_set_format((enum log_format)c.values[OPTION_LOG_FORMAT].number);
        config_set_log(&c);
        code = command->run(&c);
    }
    config_release(&c);
    return code;
}

int app_main(int argc, char **argv)
{
    heap_prepare();
    /* A reader that went away is an error of write(2), told like any other. */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        help_overview(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return command_version(NULL);
    int n_words = 0;
    const struct command *command = find_command(argc - 1, argv + 1, &n_words);
    if (!command)
        return without_command(argc - 1, argv + 1);
    int code = run_command(command, argc - 1 - n_words, argv + 1 + n_words);
    if (fflush(stdout) != 0 && code == EXIT_DONE) {
        complain("stdout: cannot write; is its reader gone, or the disk full?");
        return EXIT_FAILED;
    }
    return code;
}
