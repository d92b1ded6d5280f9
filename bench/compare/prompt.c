/* SPDX-License-Identifier: MIT
 * prompt.c — conversations, and the words in them.
 * A prompt is a permutation of the corpus's paragraphs, drawn by its seed and headed by a line of
 * its own: prompts of two seeds share no beginning, so none warms a prefix cache for another by
 * accident, and the text is as diverse as prose, lists, figures and names are. */
#include "base/mem.h"
#include "base/prng.h"
#include "bench/client/passage.h"
#include "bench/compare/compare_int.h"

#define PARAGRAPHS_MAX  4096u
#define TRIES_MAX       4u
#define SAMPLE_BYTES    16384u
#define BYTES_A_TOKEN   4.0 /* where no tokenizer is at hand */
#define TEMPLATE_TOKENS 32u /* what a chat template puts around */
#define FEWEST_TOKENS   16u

extern const char bench_corpus_begin[], bench_corpus_end[];

/* ---- conversations ---- */
void talk_init(struct talk *t)
{
    buf_init(&t->json, TALK_BYTES_MAX);
    buf_init(&t->text, TALK_BYTES_MAX);
}

void talk_release(struct talk *t)
{
    buf_release(&t->json);
    buf_release(&t->text);
}

void talk_copy(struct talk *to, const struct talk *from)
{
    talk_init(to);
    buf_add_slice(&to->json, buf_slice(&from->json));
    buf_add_slice(&to->text, buf_slice(&from->text));
}

void talk_add(struct talk *t, const char *role, struct slice content)
{
    if (t->json.len) /* "[a]" becomes "[a,b]" */
        t->json.ptr[t->json.len - 1] = ',';
    else
        buf_add_char(&t->json, '[');
    struct json_writer w;
    jw_init(&w, &t->json);
    jw_begin_object(&w);
    jw_key(&w, "role");
    jw_text(&w, role);
    jw_key(&w, "content");
    jw_string(&w, content);
    jw_end_object(&w);
    buf_add_char(&t->json, ']');
    /* As text an answer stands exactly as it was generated, right behind "Assistant:". */
    bool is_answer = strcmp(role, "assistant") == 0;
    if (strcmp(role, "user") == 0)
        buf_add_text(&t->text, "User: ");
    buf_add_slice(&t->text, content);
    buf_add_text(&t->text, is_answer || strcmp(role, "system") == 0 ? "\n\n" : "\n\nAssistant:");
}

/* ---- words ---- */
struct paragraphs {
    uint32_t n;
    struct slice each[PARAGRAPHS_MAX];
};

static const struct paragraphs *corpus(void)
{
    static struct paragraphs p;
    const char *at = bench_corpus_begin, *end = bench_corpus_end;
    if (p.n)
        return &p;
    while (at < end && p.n < PARAGRAPHS_MAX) {
        const char *stop = memmem(at, (size_t)(end - at), "\n\n", 2);
        if (!stop)
            stop = end;
        if (stop > at)
            p.each[p.n++] = (struct slice){at, (size_t)(stop - at)};
        at = stop + 2;
    }
    return &p;
}

static void shuffled(uint32_t *order, uint32_t n, struct prng *p)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)prng_below(p, i), k = order[i - 1];
        order[i - 1] = order[j];
        order[j] = k;
    }
}

static const char *const words[] = {"amber", "basin", "cedar",  "delta", "ember", "fjord",
                                    "gable", "heron", "island", "jetty", "krill", "larch",
                                    "maple", "north", "otter",  "prism", "quill", "ridge",
                                    "slate", "thorn", "umber",  "vault", "wharf", "yarrow"};
static const char *word(struct prng *p)
{
    return words[prng_below(p, sizeof words / sizeof words[0])];
}

void prompts_write(struct buf *out, size_t bytes, uint64_t seed)
{
    static uint32_t order[PARAGRAPHS_MAX];
    const struct paragraphs *c = corpus();
    struct prng p = {.seed = seed * 0x9e3779b97f4a7c15u + 1};
    uint32_t at = c->n;
    buf_clear(out);
    buf_printf(out, "%s %s %s %s, number %u.", word(&p), word(&p), word(&p), word(&p),
               (unsigned)prng_below(&p, 1000000));
    while (out->len < bytes && !out->failed) {
        if (at == c->n) {
            shuffled(order, c->n, &p);
            at = 0;
        }
        buf_add_text(out, "\n\n");
        buf_add_slice(out, c->each[order[at++]]);
    }
    if (out->len <= bytes || out->failed)
        return;
    size_t n = bytes;
    while (n && out->ptr[n] != ' ' && out->ptr[n] != '\n')
        n--;
    out->len = n ? n : bytes;
    out->ptr[out->len] = '\0';
}

void prompts_init(struct prompts *p, const struct options *o, const char *model)
{
    struct buf text;
    size_t count = 0;
    struct err e = {0};
    *p = (struct prompts){.options = o, .model = model, .bytes_a_token = BYTES_A_TOKEN};
    buf_init(&text, TALK_BYTES_MAX);
    prompts_write(&text, SAMPLE_BYTES, 1);
    if (passage_count_tokens(o->program, model, buf_slice(&text), &count, &e) == OK && count) {
        p->bytes_a_token = (double)text.len / (double)count;
        p->counts = true;
    }
    buf_release(&text);
}

enum status prompts_text(struct prompts *p, uint32_t n_tokens, uint64_t seed, struct buf *out,
                         struct err *e)
{
    uint32_t wanted =
        n_tokens > TEMPLATE_TOKENS + FEWEST_TOKENS ? n_tokens - TEMPLATE_TOKENS : FEWEST_TOKENS;
    double bytes = wanted * p->bytes_a_token;
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        size_t count = 0;
        prompts_write(out, (size_t)bytes, seed);
        if (out->failed)
            return err_set(e, E_LIMIT, "a prompt of %u tokens is too long", n_tokens);
        if (!p->counts)
            return OK;
        enum status st =
            passage_count_tokens(p->options->program, p->model, buf_slice(out), &count, e);
        if (st != OK)
            return st;
        if (count <= wanted && count + wanted / 64 + 4 >= wanted)
            return OK;
        bytes = bytes * ((double)wanted - 2) / (double)(count ? count : 1);
    }
    return OK; /* near enough; the server's own count is what is reported */
}

/* Sixteen tokens and a few more: 18 to 22 with real vocabularies, 25 with skald's. */
void prompts_question(uint64_t seed, struct buf *out)
{
    struct prng p = {.seed = seed ^ 0x5157u};
    char text[200];
    const char *a = word(&p), *b = word(&p);
    switch (prng_below(&p, 4)) { /* each format a literal, so that the compiler checks it */
    case 0:
        snprintf(text, sizeof text, "Why the %s in the text above, and not the %s?", a, b);
        break;
    case 1:
        snprintf(text, sizeof text, "What does the %s add to all this for the %s?", a, b);
        break;
    case 2:
        snprintf(text, sizeof text, "Which point above speaks for the %s and the %s?", a, b);
        break;
    default:
        snprintf(text, sizeof text, "What follows from this for the %s and the %s?", a, b);
    }
    buf_printf(out, "Question %04u. %s", (unsigned)(seed % 10000), text);
}
