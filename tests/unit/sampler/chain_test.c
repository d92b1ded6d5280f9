/* SPDX-License-Identifier: MIT
 * chain_test.c — filters in any order, DRY, XTC, dynamic temperature, mirostat, adaptive_p.
 * Method: a naive model with qsort and libm in double takes the same uniform numbers, so that the
 *         token must be equal in each of thousands of random cases; what each filter leaves is
 *         also worked out by hand for a few tokens and compared as a distribution. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"
#include "sampler/sampler.h"

#define NEAR 1e-5

static const struct kernels *kernels(void)
{
    const struct kernels *k;
    struct err e = {0};
    if (kernels_select(ISA_REF, &k, &e) != OK)
        fail_msg("%s", e.msg);
    return k;
}

static struct sampler *sampler_of(const struct sampler_params *p, uint32_t n_vocab)
{
    struct sampler *s = NULL;
    struct err e = {0};
    if (sampler_new(p, n_vocab, kernels(), &s, &e) != OK)
        fail_msg("%s", e.msg);
    return s;
}

/* Nothing is on; the distribution is told. */
static struct sampler_params all_off(void)
{
    struct sampler_params p = sampler_defaults();
    p.temperature = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    p.n_context = 4096;
    p.wants_drawn = true;
    p.n_top_logprobs = SAMPLER_TOP_LOGPROBS_MAX;
    return p;
}

static struct filter_order order_of(const char *letters)
{
    static const char all[] = "edskypmxta"; /* llama-server's, in the order of the enum */
    struct filter_order o = {.is_given = true};
    for (; *letters; letters++)
        o.at[o.n++] = (uint8_t)(strchr(all, *letters) - all);
    return o;
}

static struct sampled sample(struct sampler *s, const float *logits, uint64_t position)
{
    struct sampled out;
    sampler_sample(s, logits, NULL, NULL, position, &out);
    return out;
}

static double probability_of(const struct sampled *out, uint32_t token)
{
    for (uint32_t i = 0; i < out->n_top; i++)
        if (out->top_tokens[i] == token)
            return exp((double)out->top_logprobs[i]);
    return 0;
}

/* What p draws from these logits is this, token by token; history was said before. */
static void expect_drawn(const struct sampler_params *p, const float *logits, uint32_t n,
                         const uint32_t *history, uint32_t n_history, const double *expected)
{
    struct sampler *s = sampler_of(p, n);
    for (uint32_t i = 0; i < n_history; i++)
        sampler_accept(s, history[i], false);
    const struct sampled out = sample(s, logits, 17);
    for (uint32_t i = 0; i < n; i++)
        if (fabs(probability_of(&out, i) - expected[i]) > NEAR)
            fail_msg("token %u has %.6f, not %.6f", i, probability_of(&out, i), expected[i]);
    assert_true(fabs(exp((double)out.logprob) - probability_of(&out, out.token)) < NEAR);
    sampler_free(s);
}

#define EXPECT(p, logits, ...)                                          \
    expect_drawn(p, logits, sizeof(logits) / sizeof *(logits), NULL, 0, \
                 (const double[sizeof(logits) / sizeof *(logits)]){__VA_ARGS__})

/* ---- by hand ---- */
/* Probabilities 0.4, 0.3, 0.2, 0.1. */
static const float four[] = {-0.91629073f, -1.20397280f, -1.60943791f, -2.30258509f};

static void what_was_drawn_from_is_told(void **state)
{
    (void)state;
    struct sampler_params p = all_off();
    EXPECT(&p, four, 0.4, 0.3, 0.2, 0.1);
    p.top_k = 3;
    EXPECT(&p, four, 4 / 9.0, 3 / 9.0, 2 / 9.0, 0);
    p.temperature = 0.5f; /* squares: 16, 9, 4 */
    EXPECT(&p, four, 16 / 29.0, 9 / 29.0, 4 / 29.0, 0);
    p.temperature = 0;
    EXPECT(&p, four, 1, 0, 0, 0);
}

static void the_order_matters(void **state)
{
    (void)state;
    struct sampler_params p = all_off();
    p.temperature = 0.5f;
    p.top_p = 0.65f;
    p.order = order_of("pt"); /* 0.4 + 0.3 reach 0.65; squares 16, 9 */
    EXPECT(&p, four, 16 / 25.0, 9 / 25.0, 0, 0);
    p.order = order_of("tp"); /* squares 16, 9, 4, 1 of 30: 25/30 reach it, 16/30 don't */
    EXPECT(&p, four, 16 / 25.0, 9 / 25.0, 0, 0);
    p.top_p = 0.5f;
    p.order = order_of("pt"); /* 0.4 does not reach 0.5 */
    EXPECT(&p, four, 16 / 25.0, 9 / 25.0, 0, 0);
    p.order = order_of("tp"); /* 16/30 does */
    EXPECT(&p, four, 1, 0, 0, 0);
    p.order = order_of("t"); /* what is not in it is off */
    EXPECT(&p, four, 16 / 30.0, 9 / 30.0, 4 / 30.0, 1 / 30.0);
    p.order = order_of("tt"); /* fourth powers: 256, 81, 16, 1 */
    EXPECT(&p, four, 256 / 354.0, 81 / 354.0, 16 / 354.0, 1 / 354.0);
    p.order = order_of("");
    EXPECT(&p, four, 0.4, 0.3, 0.2, 0.1);
}

static void min_keep_keeps_more(void **state)
{
    (void)state;
    struct sampler_params p = all_off();
    p.min_keep = 3;
    p.top_p = 0.1f;
    EXPECT(&p, four, 4 / 9.0, 3 / 9.0, 2 / 9.0, 0);
    p.top_p = 1;
    p.min_p = 0.9f;
    EXPECT(&p, four, 4 / 9.0, 3 / 9.0, 2 / 9.0, 0);
    p.min_p = 0;
    p.typical_p = 0.1f; /* entropy 1.28 nats: 0.3 (1.20) is nearest, then 0.2 (1.61), 0.4 (0.92) */
    p.min_keep = 2;
    EXPECT(&p, four, 0, 3 / 5.0, 2 / 5.0, 0);
    p.min_keep = 1;
    EXPECT(&p, four, 0, 1, 0, 0);
}

/* Logits 3, 1, 1, −1: mean 1, deviation √2, so that 1 sigma reaches down to 1.59, 1.5 to 0.88. */
static void top_n_sigma_counts_deviations(void **state)
{
    (void)state;
    const float logits[] = {3, 1, 1, -1};
    const double e2 = exp(2);
    struct sampler_params p = all_off();
    p.top_n_sigma = 1;
    EXPECT(&p, logits, 1, 0, 0, 0);
    p.top_n_sigma = 1.5f;
    EXPECT(&p, logits, e2 / (e2 + 2), 1 / (e2 + 2), 1 / (e2 + 2), 0);
    p.top_n_sigma = -1;
    EXPECT(&p, logits, e2 * e2 / (e2 * e2 + 2 * e2 + 1), e2 / (e2 * e2 + 2 * e2 + 1),
           e2 / (e2 * e2 + 2 * e2 + 1), 1 / (e2 * e2 + 2 * e2 + 1));
}

/* All at least as likely as the threshold go, but for the least likely of them. */
static void xtc_excludes_top_choices(void **state)
{
    (void)state;
    struct sampler_params p = all_off();
    p.xtc_probability = 1;
    p.xtc_threshold = 0.25f;
    EXPECT(&p, four, 0, 0.5, 2 / 6.0, 1 / 6.0);
    p.xtc_threshold = 0.15f;
    EXPECT(&p, four, 0, 0, 2 / 3.0, 1 / 3.0);
    p.xtc_threshold = 0.35f; /* one alone stays */
    EXPECT(&p, four, 0.4, 0.3, 0.2, 0.1);
    p.xtc_threshold = 0.51f; /* off */
    EXPECT(&p, four, 0.4, 0.3, 0.2, 0.1);
    p.xtc_threshold = 0.15f;
    p.min_keep = 3; /* two would be left */
    EXPECT(&p, four, 0.4, 0.3, 0.2, 0.1);
    p.min_keep = 0;
    p.temperature = 0; /* of what it leaves the likeliest */
    EXPECT(&p, four, 0, 0, 1, 0);
    p.order = order_of("tx"); /* one is left, and stays */
    EXPECT(&p, four, 1, 0, 0, 0);
}

/* 20,000 positions: an event of probability 0.3 comes 6,000 ± 195 times (3 σ). */
static void xtc_happens_as_often_as_asked(void **state)
{
    (void)state;
    struct sampler_params p = all_off();
    p.seed = 5;
    p.xtc_probability = 0.3f;
    p.xtc_threshold = 0.25f;
    struct sampler *s = sampler_of(&p, 4);
    uint32_t n = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        const struct sampled out = sample(s, four, i);
        n += out.n_top == 3;
    }
    print_message("%u of 20000, expected 6000 ± 195\n", n);
    assert_in_range(n, 5805, 6195);
    sampler_free(s);
}

/* Two tokens of 0.8 and 0.2: entropy 0.500402 of at most 0.693147 nats, 0.721928 of it. */
static void dynamic_temperature_follows_entropy(void **state)
{
    (void)state;
    const float two[] = {1.38629436f, 0}; /* ln 4 */
    struct sampler_params p = all_off();
    p.dynatemp_range = 0.5f;
    double t = 0.5 + 1.0 * 0.721928, w = pow(4, 1 / t);
    EXPECT(&p, two, w / (w + 1), 1 / (w + 1));
    p.dynatemp_exponent = 2;
    t = 0.5 + 0.721928 * 0.721928;
    w = pow(4, 1 / t);
    EXPECT(&p, two, w / (w + 1), 1 / (w + 1));
    p.dynatemp_range = 3; /* from 0 to 4 */
    p.dynatemp_exponent = 1;
    t = 4 * 0.721928;
    w = pow(4, 1 / t);
    EXPECT(&p, two, w / (w + 1), 1 / (w + 1));
    const float alike[] = {2, 2};
    EXPECT(&p, alike, 0.5, 0.5);
    p.dynatemp_exponent = 0;
    w = pow(4, 1 / 4.0);
    EXPECT(&p, two, w / (w + 1), 1 / (w + 1));
}

/* ---- DRY ---- */
static struct slice piece(const void *arg, uint32_t token)
{
    const char *const *texts = arg;
    return slice_of(texts[token]);
}

static void expect_penalties(const struct sampler_params *p, const char *said,
                             const double *lengths, uint32_t n)
{
    float logits[16] = {0};
    uint32_t history[64], n_history = 0;
    double expected[16], sum = 0;
    for (; said[n_history]; n_history++)
        history[n_history] = (uint32_t)(said[n_history] - 'a');
    for (uint32_t i = 0; i < n; i++)
        sum += expected[i] =
            lengths[i] < 0 ? 1
                           : exp(-(double)p->dry_multiplier * pow((double)p->dry_base, lengths[i]));
    for (uint32_t i = 0; i < n; i++)
        expected[i] /= sum;
    expect_drawn(p, logits, n, history, n_history, expected);
}

/* Tokens a … e; the exponent of each one's penalty, −1: none. */
#define PENALTIES(p, said, ...) expect_penalties(p, said, (const double[5]){__VA_ARGS__}, 5)

static void dry_punishes_what_goes_on_with_a_repeat(void **state)
{
    (void)state;
    struct sampler_params p = all_off();
    p.dry_multiplier = 1;
    p.dry_base = 1.1f;
    PENALTIES(&p, "", -1, -1, -1, -1, -1);
    PENALTIES(&p, "ab", -1, -1, -1, -1, -1);
    PENALTIES(&p, "abcab", -1, -1, 0, -1, -1);     /* ab → c: two, and two are allowed */
    PENALTIES(&p, "abcdabc", -1, -1, -1, 1, -1);   /* abc → d */
    PENALTIES(&p, "abcebcdabc", -1, -1, -1, 0, 1); /* abc → e; bc → d */
    PENALTIES(&p, "aaaa", 1, -1, -1, -1, -1);      /* aaa → a */
    p.dry_allowed_length = 1;
    PENALTIES(&p, "bab", 0, -1, -1, -1, -1);
    p.dry_allowed_length = 0; /* all that was said, but what was said last */
    PENALTIES(&p, "bab", 1, 0, -1, -1, -1);
    p.dry_allowed_length = 2;
    p.dry_penalty_last_n = 6; /* the first a is forgotten */
    PENALTIES(&p, "abcdabc", -1, -1, -1, 0, -1);
    p.dry_penalty_last_n = -1;
    p.n_context = 6; /* likewise */
    PENALTIES(&p, "abcdabc", -1, -1, -1, 0, -1);
}

/* Token d is a line feed. */
static void dry_stops_at_breakers(void **state)
{
    (void)state;
    static const char *const texts[] = {"aa", "ba", "c", "\n", "e"};
    struct sampler_params p = all_off();
    p.dry_multiplier = 1;
    p.piece = piece;
    p.piece_arg = texts;
    PENALTIES(&p, "abceabc", -1, -1, -1, -1, 1);
    PENALTIES(&p, "abcedabc", -1, -1, -1, -1, 1);
    PENALTIES(&p, "abceadbc", -1, -1, -1, -1, 0); /* two behind the line feed */
    PENALTIES(&p, "abceabdc", -1, -1, -1, -1, -1);
    PENALTIES(&p, "abcdabc", -1, -1, -1, -1, -1); /* it breaks, so it may be said again */
    const struct dry_breaker inside = {.text = SLICE_LIT("c")};
    p.breakers = &inside;
    p.n_breakers = 1;
    PENALTIES(&p, "abeceabeab", -1, -1, -1, -1, 1); /* eab → e */
    PENALTIES(&p, "abcab", -1, -1, -1, -1, -1);     /* c breaks, too */
    /* "ac" lies across tokens: a's text ends as it begins, and the rest of it is token c. */
    const uint32_t rest_tokens[] = {2};
    const struct dry_rest rests[] = {{NULL, 0}, {rest_tokens, 1}};
    const struct dry_breaker across = {.text = SLICE_LIT("ac"), .rests = rests};
    p.breakers = &across;
    PENALTIES(&p, "beabebe", 0, 0, -1, -1, -1);
    PENALTIES(&p, "beaeacbe", 0, -1, -1, -1, -1); /* …a, c | b e: two are free */
}

/* ---- the naive model of chains ---- */
struct naive {
    double logit, p, distance;
    uint32_t token;
};
struct list {
    struct naive *c;
    size_t n;
};

static int by_logit(const void *a, const void *b)
{
    const struct naive *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->token < y->token ? -1 : 1;
}

static int by_distance(const void *a, const void *b)
{
    const struct naive *x = a, *y = b;
    float dx = (float)x->distance, dy = (float)y->distance;
    if (dx != dy)
        return dx < dy ? -1 : 1;
    return by_logit(a, b);
}

static void naive_softmax(struct list *l, double temperature)
{
    double sum = 0;
    qsort(l->c, l->n, sizeof *l->c, by_logit);
    for (size_t i = 0; i < l->n; i++)
        sum += l->c[i].p = exp((l->c[i].logit - l->c[0].logit) / temperature);
    for (size_t i = 0; i < l->n; i++)
        l->c[i].p /= sum;
}

static double naive_entropy(const struct list *l)
{
    double entropy = 0;
    for (size_t i = 0; i < l->n; i++)
        entropy -= l->c[i].p > 0 ? l->c[i].p * log(l->c[i].p) : 0;
    return entropy;
}

static void naive_typical(struct list *l, const struct sampler_params *p)
{
    double entropy = naive_entropy(l), sum = 0, log_mass = -log(l->c[0].p), max = l->c[0].logit;
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        l->c[i].distance = fabs(log_mass - (l->c[i].logit - max) - entropy);
    qsort(l->c, l->n, sizeof *l->c, by_distance);
    do
        sum += l->c[n++].p;
    while (n < l->n && (n < p->min_keep || sum <= (double)p->typical_p));
    l->n = n;
}

static void naive_cut(struct list *l, size_t n, const struct sampler_params *p)
{
    size_t keep = p->min_keep < l->n ? p->min_keep : l->n;
    l->n = n > keep ? n : keep;
}

static void naive_sigma(struct list *l, const struct sampler_params *p)
{
    double mean = 0, squares = 0;
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        mean += l->c[i].logit / (double)l->n;
    for (size_t i = 0; i < l->n; i++)
        squares += pow(l->c[i].logit - mean, 2) / (double)l->n;
    while (n < l->n && l->c[n].logit >= l->c[0].logit - (double)p->top_n_sigma * sqrt(squares))
        n++;
    l->n = n ? n : 1;
}

static void naive_xtc(struct list *l, const struct sampler_params *p, uint64_t position)
{
    size_t n = 0;
    if (l->n < 2 || p->xtc_threshold > 0.5f ||
        prng_uniform(p->seed, p->choice, position, 1) > (double)p->xtc_probability)
        return;
    while (n < l->n && l->c[n].p >= (double)p->xtc_threshold)
        n++;
    if (n < 2 || l->n - (n - 1) < p->min_keep)
        return;
    l->n -= n - 1;
    memmove(l->c, l->c + n - 1, l->n * sizeof *l->c);
}

static void naive_temperature(struct list *l, const struct sampler_params *p)
{
    double t = p->temperature;
    if (p->dynatemp_range > 0) {
        const double low = fmax(0, t - (double)p->dynatemp_range);
        if (l->n < 2)
            return;
        t = low + (t + (double)p->dynatemp_range - low) *
                      pow(naive_entropy(l) / log((double)l->n), (double)p->dynatemp_exponent);
    }
    for (size_t i = 0; t > 0 && i < l->n; i++)
        l->c[i].logit = (double)(float)(l->c[i].logit / t);
    l->n = t > 0 ? l->n : 1;
}

static void naive_apply(struct list *l, const struct sampler_params *p, uint8_t filter,
                        uint64_t position)
{
    size_t n = 0;
    double sum = 0;
    naive_softmax(l, 1);
    switch ((enum sampler_filter)filter) {
    case FILTER_TOP_N_SIGMA:
        if (p->top_n_sigma > 0)
            naive_sigma(l, p);
        break;
    case FILTER_TOP_K:
        l->n = p->top_k > 0 && (size_t)p->top_k < l->n ? (size_t)p->top_k : l->n;
        break;
    case FILTER_TYPICAL_P:
        if (p->typical_p < 1)
            naive_typical(l, p);
        break;
    case FILTER_TOP_P:
        do
            sum += l->c[n++].p;
        while (n < l->n && sum < (double)p->top_p);
        if (p->top_p < 1)
            naive_cut(l, n, p);
        break;
    case FILTER_MIN_P:
        while (n < l->n && l->c[n].logit >= l->c[0].logit + log((double)p->min_p))
            n++;
        if (p->min_p > 0)
            naive_cut(l, n, p);
        break;
    case FILTER_XTC:
        naive_xtc(l, p, position);
        break;
    case FILTER_TEMPERATURE:
        naive_temperature(l, p);
        break;
    default:
        fail_msg("the model has no filter %u", filter);
    }
}

static uint32_t naive_draw(const struct sampler_params *p, struct list *l, uint64_t position)
{
    const double u = prng_uniform(p->seed, p->choice, position, 0);
    double sum = 0;
    size_t at = 0;
    naive_softmax(l, 1);
    while (at + 1 < l->n && (sum += l->c[at].p) <= u)
        at++;
    return l->c[at].token;
}

static struct list naive_list(const float *logits, uint32_t n)
{
    struct list l = {mem_new(n, sizeof *l.c), n};
    for (uint32_t i = 0; i < n; i++)
        l.c[i] = (struct naive){.logit = (double)logits[i], .token = i};
    return l;
}

static float one_of(struct prng *r, const float *values, size_t n)
{
    return values[prng_below(r, n)];
}
#define ONE_OF(r, ...) \
    one_of(r, (const float[]){__VA_ARGS__}, sizeof((const float[]){__VA_ARGS__}) / sizeof(float))

static struct filter_order random_order(struct prng *r)
{
    struct filter_order o = {.is_given = true};
    uint8_t left[] = {FILTER_TOP_N_SIGMA, FILTER_TOP_K, FILTER_TYPICAL_P,  FILTER_TOP_P,
                      FILTER_MIN_P,       FILTER_XTC,   FILTER_TEMPERATURE};
    for (size_t n = sizeof left; n > 0; n--) {
        const size_t i = prng_below(r, n);
        if (prng_below(r, 8) > 0)
            o.at[o.n++] = left[i];
        left[i] = left[n - 1];
    }
    return o;
}

static void random_logits(struct prng *r, float *logits, uint32_t n, double spread)
{
    for (uint32_t i = 0; i < n; i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++)
            sum += (double)(prng_next(r) >> 11) * 0x1p-53;
        logits[i] = (float)(sum * spread);
    }
}

static void every_order_equals_the_model(void **state)
{
    (void)state;
    struct prng r = {.seed = 20261124};
    print_message("seed %llu\n", (unsigned long long)r.seed);
    float *logits = mem_new(3000, sizeof *logits);
    for (uint32_t i = 0; i < 6000; i++) {
        const uint32_t n = (uint32_t)(1 + prng_below(&r, i % 20 == 0 ? 3000 : 60));
        random_logits(&r, logits, n, i % 3 ? 3 : 0.5);
        struct sampler_params p = all_off();
        p.order = random_order(&r);
        p.temperature = ONE_OF(&r, 0, 0.1f, 0.8f, 1, 2, 50);
        p.dynatemp_range = ONE_OF(&r, 0, 0, 0.3f, 2);
        p.dynatemp_exponent = ONE_OF(&r, 1, 0.5f, 3);
        p.top_k = (int32_t)ONE_OF(&r, 0, -1, 2, 5, 40, 300, 1500);
        p.top_p = ONE_OF(&r, 1, 0.95f, 0.5f, 0);
        p.min_p = ONE_OF(&r, 0, 0.05f, 0.5f, 1);
        p.typical_p = ONE_OF(&r, 1, 0.95f, 0.3f, 0);
        p.top_n_sigma = ONE_OF(&r, 0, 0.5f, 1, 2);
        p.xtc_probability = ONE_OF(&r, 0, 0.5f, 1);
        p.xtc_threshold = ONE_OF(&r, 0.05f, 0.2f, 0.5f, 0.6f);
        p.min_keep = (uint32_t)ONE_OF(&r, 0, 0, 1, 3, 20);
        p.seed = prng_next(&r);
        p.choice = (uint32_t)prng_below(&r, 4);
        const uint64_t position = prng_below(&r, 1u << 20);
        struct list l = naive_list(logits, n);
        for (uint8_t f = 0; f < p.order.n; f++)
            naive_apply(&l, &p, p.order.at[f], position);
        const uint32_t want = naive_draw(&p, &l, position);
        struct sampler *s = sampler_of(&p, n);
        const struct sampled out = sample(s, logits, position);
        const size_t n_top = l.n < SAMPLER_TOP_LOGPROBS_MAX ? l.n : SAMPLER_TOP_LOGPROBS_MAX;
        if (out.token != want || out.n_top != n_top)
            fail_msg(
                "case %u: token %u of %u, expected %u of %zu; order %u %u %u %u %u %u %u of %u, "
                "temperature %g ± %g, top_k %d, top_p %g, min_p %g, typical_p %g, sigma %g, "
                "xtc %g %g, min_keep %u",
                i, out.token, out.n_top, want, n_top, p.order.at[0], p.order.at[1], p.order.at[2],
                p.order.at[3], p.order.at[4], p.order.at[5], p.order.at[6], p.order.n,
                (double)p.temperature, (double)p.dynatemp_range, p.top_k, (double)p.top_p,
                (double)p.min_p, (double)p.typical_p, (double)p.top_n_sigma,
                (double)p.xtc_probability, (double)p.xtc_threshold, p.min_keep);
        for (size_t k = 0; k < n_top; k++)
            assert_true(fabs(exp((double)out.top_logprobs[k]) - l.c[k].p) < NEAR);
        mem_free(l.c);
        sampler_free(s);
    }
    mem_free(logits);
}

/* Telling what was drawn from takes the chain for nothing, min_keep 2 with top_k 1 takes it. */
static void both_ways_draw_the_same(void **state)
{
    (void)state;
    struct prng r = {.seed = 3};
    float logits[500];
    for (uint32_t i = 0; i < 500; i++) {
        struct sampler_params plain = sampler_defaults(), chain;
        plain.seed = i;
        plain.repeat_penalty = ONE_OF(&r, 1, 1.3f);
        plain.presence_penalty = ONE_OF(&r, 0, 0.5f);
        plain.temperature = ONE_OF(&r, 0, 0.8f, 1.5f);
        plain.top_k = (int32_t)ONE_OF(&r, 0, 40, 1);
        chain = plain;
        chain.xtc_probability = 1e-30f; /* never happens */
        chain.order = order_of("edskypmxt");
        struct sampler *a = sampler_of(&plain, 500), *b = sampler_of(&chain, 500);
        for (uint32_t t = 0; t < 20; t++) {
            random_logits(&r, logits, 500, 3);
            const uint32_t token = sample(a, logits, t).token;
            assert_int_equal(sample(b, logits, t).token, token);
            sampler_accept(a, token, t % 2);
            sampler_accept(b, token, t % 2);
        }
        sampler_free(a);
        sampler_free(b);
    }
}

/* ---- draws that look back ---- */
static size_t naive_mirostat(struct list *l, int version, double mu)
{
    size_t n = 0;
    if (version == 2) {
        while (n < l->n && -log2(l->c[n].p) <= mu)
            n++;
        return n ? n : 1;
    }
    double products = 0, squares = 0;
    for (size_t i = 0; i < 99 && i + 1 < l->n; i++) {
        const double t = log((double)(i + 2) / (double)(i + 1));
        products += t * log(l->c[i].p / l->c[i + 1].p);
        squares += t * t;
    }
    const double s = products / squares, epsilon = s - 1;
    const double k = pow(epsilon * exp2(mu) / (1 - pow((double)l->n, -epsilon)), 1 / s);
    return k >= (double)l->n ? l->n : k < 1 ? 1 : (size_t)k;
}

static void check_mirostat(uint32_t version, float tau, float temperature)
{
    enum { N = 400, ROUNDS = 300 };
    struct prng r = {.seed = version};
    static float logits[N];
    struct sampler_params p = all_off();
    double mu = 2 * (double)tau, surprise = 0;
    p.mirostat = version;
    p.mirostat_tau = tau;
    p.temperature = temperature;
    p.top_k = 1; /* and other filters mean nothing to it */
    p.presence_penalty = 50;
    p.seed = 99;
    struct sampler *s = sampler_of(&p, N);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        random_logits(&r, logits, N, 2);
        struct list l = naive_list(logits, N);
        for (size_t k = 0; k < N; k++)
            l.c[k].logit /= (double)temperature;
        naive_softmax(&l, 1);
        l.n = naive_mirostat(&l, (int)version, mu);
        const uint32_t want = naive_draw(&p, &l, i);
        const struct sampled out = sample(s, logits, i);
        assert_int_equal(out.token, want);
        const double found = -(double)out.logprob / log(2);
        surprise += found / ROUNDS;
        mu -= (double)p.mirostat_eta * (found - (double)tau);
        (void)sample(s, logits, i + 1000); /* drawn in vain: it teaches nothing */
        assert_int_equal(sample(s, logits, i).token, want);
        sampler_accept(s, want, true);
        mem_free(l.c);
    }
    print_message("mirostat %u: %.2f bits a token, asked for %.2f\n", version, surprise,
                  (double)tau);
    assert_true(fabs(surprise - (double)tau) < 0.5);
    sampler_free(s);
}

static void mirostat_keeps_the_surprise(void **state)
{
    (void)state;
    check_mirostat(1, 3, 1);
    check_mirostat(1, 5, 0.8f);
    check_mirostat(2, 3, 1);
    check_mirostat(2, 5, 1.3f);
}

static void mirostat_at_temperature_0_is_greedy(void **state)
{
    (void)state;
    for (uint32_t version = 1; version <= 2; version++) {
        struct sampler_params p = all_off();
        p.mirostat = version;
        p.temperature = 0;
        EXPECT(&p, four, 1, 0, 0, 0);
        const float one[] = {3};
        p.temperature = 1;
        EXPECT(&p, one, 1);
    }
}

static void adaptive_p_nears_its_target(void **state)
{
    (void)state;
    enum { N = 300, ROUNDS = 400 };
    struct prng r = {.seed = 8};
    static float logits[N];
    struct sampler_params p = all_off();
    p.adaptive_target = 0.3f;
    p.order = order_of("at"); /* it draws, wherever it stands */
    p.seed = 1;
    double sum = 0.3 / 0.1, weight = 1 / 0.1;
    struct sampler *s = sampler_of(&p, N);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        random_logits(&r, logits, N, 3);
        struct list l = naive_list(logits, N);
        naive_softmax(&l, 1);
        const double target = fmin(1, fmax(0, 2 * (double)p.adaptive_target - sum / weight));
        double before[N];
        uint32_t ranks[N];
        for (size_t k = 0; k < N; k++) {
            const double d = fabs(l.c[k].p - target) / 0.3;
            ranks[k] = l.c[k].token;
            before[ranks[k]] = l.c[k].p;
            l.c[k].token = (uint32_t)k; /* of equals the likelier one comes first */
            l.c[k].logit = (double)(float)(5 - 10 * d * d / (1 + d));
        }
        const uint32_t want = ranks[naive_draw(&p, &l, i)];
        assert_int_equal(sample(s, logits, i).token, want);
        sampler_accept(s, want, true);
        sum = before[want] + (double)p.adaptive_decay * sum;
        weight = 1 + (double)p.adaptive_decay * weight;
        mem_free(l.c);
    }
    sampler_free(s);
}

/* The same seed, another sampler, other draws in between: the same tokens. */
static void seeds_decide(void **state)
{
    (void)state;
    enum { N = 200, ROUNDS = 60 };
    static float logits[ROUNDS][N];
    uint32_t said[ROUNDS];
    struct prng r = {.seed = 21};
    struct sampler_params p = all_off();
    p.xtc_probability = 0.5f;
    p.xtc_threshold = 0.1f;
    p.dry_multiplier = 0.8f;
    p.dynatemp_range = 0.4f;
    p.top_n_sigma = 2;
    p.seed = 4711;
    for (uint32_t i = 0; i < ROUNDS; i++)
        random_logits(&r, logits[i], N, 2);
    for (uint32_t round = 0; round < 3; round++) {
        struct sampler *s = sampler_of(&p, N);
        uint32_t n_equal = 0;
        for (uint32_t i = 0; i < ROUNDS; i++) {
            const uint32_t token = sample(s, logits[i], i).token;
            if (round == 0)
                said[i] = token;
            n_equal += said[i] == token;
            (void)sample(s, logits[(i + 7) % ROUNDS], i);
            sampler_accept(s, said[i], true);
        }
        assert_true(round == 2 ? n_equal < ROUNDS : n_equal == ROUNDS);
        p.seed += round; /* the third has another one */
        sampler_free(s);
    }
}

/* Masks and NaN reach the chain, too. */
static void masks_hold_in_chains(void **state)
{
    (void)state;
    const float logits[] = {5, NAN, 3, -INFINITY};
    const uint64_t allowed[] = {0xE};
    struct sampler_params p = all_off();
    p.top_n_sigma = 10;
    struct sampler *s = sampler_of(&p, 4);
    struct sampled out;
    sampler_sample(s, logits, NULL, allowed, 0, &out);
    assert_int_equal(out.token, 2);
    const uint64_t hopeless[] = {0x8};
    sampler_sample(s, logits, NULL, hopeless, 0, &out);
    assert_int_equal(out.token, 3);
    sampler_free(s);
}

static void parameters_out_of_range_are_named(void **state)
{
    (void)state;
    struct sampler_params p;
    struct err e = {0};
#define REFUSED(field, value)                               \
    p = all_off();                                          \
    p.field = value;                                        \
    assert_int_equal(sampler_check(&p, 10, &e), E_INVALID); \
    assert_non_null(strstr(e.msg, #field))
    REFUSED(mirostat, 3);
    REFUSED(mirostat_tau, -1);
    REFUSED(mirostat_eta, NAN);
    REFUSED(dynatemp_range, -1);
    REFUSED(dynatemp_exponent, -1);
    REFUSED(xtc_probability, 2);
    REFUSED(xtc_threshold, -1);
    REFUSED(dry_multiplier, -1);
    REFUSED(dry_base, 101);
    REFUSED(dry_allowed_length, -1);
    REFUSED(dry_penalty_last_n, -2);
    REFUSED(top_n_sigma, NAN);
    REFUSED(adaptive_target, 2);
    REFUSED(adaptive_decay, -1);
#undef REFUSED
}

/* A figure, not a bar: the machine is shared.  The bound only catches an accident of order n². */
static void a_large_vocabulary_is_fast(void **state)
{
    (void)state;
    enum { N = 262144, ROUNDS = 5 };
    float *logits = mem_new(N, sizeof *logits);
    struct prng r = {.seed = 11};
    random_logits(&r, logits, N, 3);
    struct {
        const char *name;
        struct sampler_params p;
    } cases[] = {{"xtc", sampler_defaults()},         {"dry", sampler_defaults()},
                 {"top_n_sigma", sampler_defaults()}, {"mirostat 1", sampler_defaults()},
                 {"mirostat 2", sampler_defaults()},  {"temperature first", sampler_defaults()}};
    cases[0].p.xtc_probability = 1;
    cases[1].p.dry_multiplier = 1;
    cases[1].p.n_context = 32768;
    cases[2].p.top_n_sigma = 1;
    cases[3].p.mirostat = 1;
    cases[4].p.mirostat = 2;
    cases[5].p.order = order_of("tkpm");
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct sampler *s = sampler_of(&cases[c].p, N);
        for (uint32_t i = 0; i < 32768; i++)
            sampler_accept(s, i % 5000, false);
        (void)sample(s, logits, 0); /* faults the memory in */
        const uint64_t start = clock_now_ns();
        for (uint64_t i = 0; i < ROUNDS; i++)
            (void)sample(s, logits, i);
        const double ms = clock_ms_since(start) / ROUNDS;
        print_message("262,144 tokens, %s: %.3f ms\n", cases[c].name, ms);
        assert_true(ms < 1000);
        sampler_free(s);
    }
    mem_free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_drawn_from_is_told),
        cmocka_unit_test(the_order_matters),
        cmocka_unit_test(min_keep_keeps_more),
        cmocka_unit_test(top_n_sigma_counts_deviations),
        cmocka_unit_test(xtc_excludes_top_choices),
        cmocka_unit_test(xtc_happens_as_often_as_asked),
        cmocka_unit_test(dynamic_temperature_follows_entropy),
        cmocka_unit_test(dry_punishes_what_goes_on_with_a_repeat),
        cmocka_unit_test(dry_stops_at_breakers),
        cmocka_unit_test(every_order_equals_the_model),
        cmocka_unit_test(both_ways_draw_the_same),
        cmocka_unit_test(mirostat_keeps_the_surprise),
        cmocka_unit_test(mirostat_at_temperature_0_is_greedy),
        cmocka_unit_test(adaptive_p_nears_its_target),
        cmocka_unit_test(seeds_decide),
        cmocka_unit_test(masks_hold_in_chains),
        cmocka_unit_test(parameters_out_of_range_are_named),
        cmocka_unit_test(a_large_vocabulary_is_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
