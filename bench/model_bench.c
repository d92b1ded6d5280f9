/* SPDX-License-Identifier: MIT
 * model_bench.c — what a second thread is worth, and where the rest of it goes.
 * Bars:   prefill: two threads over one at 0.92 or more of what two threads of this machine
 * multiply in registers over one; decode: 0.90 or more of what two read from memory over one.
 * Method: one process, one model, both ways by turns, the machine's own ratios in the same rounds.
 *         Of the tries of a round the fastest counts, of machine and model alike: the slower ones
 *         tell of neighbours.  Median of the rounds' shares.  Then, of the fastest step of each
 * way, per stage (forward.c): the time of one thread, of two, what the two were busy and waited,
 *         and what that stage lost against the machine's ratio.
 * Use: micro_threads [--rounds N] [--isa NAME] MODEL.gguf… */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/peak.h"
#include "model/model.h"
#include "os/clock.h"
#include "os/cpu.h"

#define PREFILL_BAR    0.92
#define DECODE_BAR     0.90
#define PREFILL_TOKENS MODEL_BATCH_TOKENS_MAX
#define DECODE_STEPS   24u
#define TRIES          3
#define PAGES          ((PREFILL_TOKENS + DECODE_STEPS) / KV_PAGE_TOKENS + 1)
#define ROUNDS_MAX     31u
#define READ_BYTES     ((size_t)256 << 20)

enum way { ONE, TWO, WAYS };
enum phase { PREFILL, DECODE, PHASES };

struct bench {
    struct gguf *gguf;
    struct team *team;
    struct model *model;
    struct model_workspace *workspace;
    const struct model_info *info;
    void *pages[MODEL_GROUPS_MAX][PAGES];
    uint32_t tokens[PREFILL_TOKENS + DECODE_STEPS];
    float *logits;
    void *memory;                              /* to read */
    struct model_times times[PHASES][WAYS][2]; /* of the fastest try */
    double fastest[PHASES][WAYS];
    uint32_t n_rounds;
    double seconds[PHASES][WAYS][ROUNDS_MAX], machine[PHASES][ROUNDS_MAX];
};

static void fail(const char *what, const struct err *e)
{
    fprintf(stderr, "micro_threads: %s: %s\n", what, e->msg);
    exit(1);
}

static void open_model(struct bench *b, const char *path, enum isa isa)
{
    struct err e = {0};
    const struct model_options options = {.isa = isa};
    if (gguf_open(path, &b->gguf, &e) != OK || team_new(2, &b->team, &e) != OK ||
        model_load(b->gguf, b->team, &options, &b->model, &e) != OK ||
        model_workspace_new(b->model, 2, &b->workspace, &e) != OK)
        fail(path, &e);
    b->info = model_info(b->model);
    for (uint32_t g = 0; g < b->info->n_groups; g++)
        for (uint32_t i = 0; i < PAGES; i++) {
            b->pages[g][i] = mem_try_aligned(64, model_kv_layout(b->model, g, KV_F16).page_bytes);
            CHECK(b->pages[g][i] != NULL);
        }
    for (uint32_t i = 0; i < ARRAY_COUNT(b->tokens); i++)
        b->tokens[i] = (i * 977 + 131) % b->info->n_vocab;
    b->logits = mem_try_new(b->info->n_vocab, sizeof *b->logits);
    b->memory = mem_try_large(READ_BYTES);
    CHECK(b->logits != NULL && b->memory != NULL);
    memset(b->memory, 1, READ_BYTES);
}

static void close_model(struct bench *b)
{
    for (uint32_t g = 0; g < b->info->n_groups; g++)
        for (uint32_t i = 0; i < PAGES; i++)
            mem_free(b->pages[g][i]);
    mem_free(b->logits);
    mem_free_large(b->memory, READ_BYTES);
    model_workspace_free(b->workspace);
    model_free(b->model);
    team_free(b->team);
    gguf_close(b->gguf);
}

/* The context is short of any window worth its name, or the windows see what is left of it. */
static void step(struct bench *b, uint32_t first, uint32_t n)
{
    struct model_sequence s = {
        .tokens = b->tokens + first, .n_tokens = n, .first_position = first, .n_logits = 1};
    for (uint32_t g = 0; g < b->info->n_groups; g++)
        s.groups[g] = (struct kv_pages){b->pages[g], 0, PAGES};
    const struct model_batch batch = {
        .sequences = &s, .n_sequences = 1, .kv_type = KV_F16, .logits = b->logits};
    struct err e = {0};
    if (model_forward(b->model, b->workspace, b->team, &batch, &e) != OK)
        fail("step", &e);
}

static double run_phase(struct bench *b, enum phase phase, enum way way)
{
    struct model_times times[2] = {0};
    model_workspace_set_pace(b->workspace, way == ONE ? PACE_ALONE : PACE_TOGETHER);
    model_workspace_time(b->workspace, times);
    const uint64_t start = clock_now_ns();
    if (phase == PREFILL)
        step(b, 0, PREFILL_TOKENS);
    else
        for (uint32_t i = 0; i < DECODE_STEPS; i++)
            step(b, PREFILL_TOKENS + i, 1);
    const double seconds = 1e-3 * clock_ms_since(start);
    if (b->fastest[phase][way] == 0 || seconds < b->fastest[phase][way]) {
        b->fastest[phase][way] = seconds;
        memcpy(b->times[phase][way], times, sizeof times);
    }
    return seconds;
}

static void run_round(struct bench *b, uint32_t round)
{
    for (uint32_t try = 0; try < TRIES; try++)
        for (uint32_t i = 0; i < PHASES * WAYS; i++) {
            const enum phase phase = (enum phase)(i / WAYS);
            const enum way way = (enum way)((i + try) % WAYS);
            const double seconds = run_phase(b, phase, way);
            double *best = &b->seconds[phase][way][round];
            *best = try == 0 || seconds < *best ? seconds : *best;
        }
    b->machine[PREFILL][round] = peak_two_over_one_int8(TRIES);
    b->machine[DECODE][round] = peak_two_over_one_read(b->memory, READ_BYTES, TRIES);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, uint32_t n)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, compare_doubles);
    return sorted[n / 2];
}

/* ---- the tables ---- */
static double ms_of(enum phase phase, uint64_t ns)
{
    return 1e-6 * (double)ns / (phase == PREFILL ? 1 : DECODE_STEPS);
}

static void print_stages(const struct bench *b, enum phase phase, double machine)
{
    const struct model_times *one = &b->times[phase][ONE][0], *two = b->times[phase][TWO];
    printf("  ms a step                        one     two    busy    wait   ratio    lost\n");
    double totals[5] = {0};
    for (int s = 0; s <= MODEL_STAGES; s++) {
        double row[5];
        if (s < MODEL_STAGES) {
            row[0] = ms_of(phase, one->busy_ns[s] + one->wait_ns[s]);
            row[2] = ms_of(phase, two[0].busy_ns[s] + two[1].busy_ns[s]) / 2;
            row[3] = ms_of(phase, two[0].wait_ns[s] + two[1].wait_ns[s]) / 2;
            row[1] = row[2] + row[3];
            row[4] = row[1] - row[0] / machine;
        } else {
            memcpy(row, totals, sizeof row);
        }
        if (row[1] > 0)
            printf("  %-30s %7.3f %7.3f %7.3f %7.3f %6.2fx %7.3f\n",
                   s < MODEL_STAGES ? model_stage_name((enum model_stage)s) : "all", row[0], row[1],
                   row[2], row[3], row[0] / row[1], row[4]);
        for (int i = 0; i < 5; i++)
            totals[i] += row[i];
    }
}

static void print_phase(const struct bench *b, enum phase phase, double bar)
{
    const double n = phase == PREFILL ? PREFILL_TOKENS : DECODE_STEPS;
    double shares[ROUNDS_MAX], ratios[ROUNDS_MAX];
    for (uint32_t i = 0; i < b->n_rounds; i++) {
        ratios[i] = b->seconds[phase][ONE][i] / b->seconds[phase][TWO][i];
        shares[i] = ratios[i] / b->machine[phase][i];
    }
    const double share = median(shares, b->n_rounds),
                 machine = median(b->machine[phase], b->n_rounds);
    printf("%s: %.1f/s on one thread, %.1f/s on two: %.2fx, the machine %.2fx; share %.2f, bar "
           "%.2f: %s\n",
           phase == PREFILL ? "prefill of 512" : "decode behind 512",
           n / median(b->seconds[phase][ONE], b->n_rounds),
           n / median(b->seconds[phase][TWO], b->n_rounds), median(ratios, b->n_rounds), machine,
           share, bar, share >= bar ? "met" : "NOT met");
    print_stages(b, phase, machine);
}

static void bench_model(const char *path, enum isa isa, uint32_t n_rounds)
{
    struct bench *b = mem_try_aligned(64, sizeof *b);
    CHECK(b != NULL);
    open_model(b, path, isa);
    (void)run_phase(b, PREFILL, TWO); /* touches all memory */
    (void)run_phase(b, DECODE, TWO);
    memset(b->fastest, 0, sizeof b->fastest);
    b->n_rounds = n_rounds;
    for (uint32_t i = 0; i < n_rounds; i++)
        run_round(b, i);
    printf("%s, %s, %u rounds\n", gguf_name(b->gguf), b->info->kernels, n_rounds);
    print_phase(b, PREFILL, PREFILL_BAR);
    print_phase(b, DECODE, DECODE_BAR);
    close_model(b);
    mem_free(b);
}

static int usage(void)
{
    fprintf(stderr, "usage: micro_threads [--rounds 1 to %u] [--isa NAME] MODEL.gguf...\n",
            ROUNDS_MAX);
    return 2;
}

int main(int argc, char **argv)
{
    uint32_t n_rounds = 5;
    enum isa isa = ISA_AUTO;
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--rounds") == 0) {
            n_rounds = (uint32_t)strtoul(argv[at + 1], NULL, 10);
        } else if (strcmp(argv[at], "--isa") == 0) {
            while (isa < ISA_COUNT && strcmp(argv[at + 1], isa_name(isa)) != 0)
                isa++;
        } else {
            return usage();
        }
    }
    if (at >= argc || n_rounds == 0 || n_rounds > ROUNDS_MAX || isa == ISA_COUNT)
        return usage();
    if (cpu_count_usable() < 2) {
        printf("one processor: nothing to compare\n");
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; at < argc; at++)
        bench_model(argv[at], isa, n_rounds);
    return 0;
}
