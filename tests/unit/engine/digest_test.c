/* SPDX-License-Identifier: MIT
 * Goal: a change of bits without a raised NUMERICS_VERSION fails here, since stored pages of the old
 * bits would be served as if they were the new ones.
 * Method: the digest of all logits of a fixed text, for each tiny model × KV type × activations, must
 * equal the committed one (tests/golden/numerics/digests.txt, one line each:
 * "version model kv activations digest").  After raising the version: run with --write, commit. */
#include "rig.h"

#define GOLDEN "tests/golden/numerics/digests.txt"
#define N 200u

static const char *const models[] = {"gemma3-F32", "gemma3-Q8_0", "llama-F32",
                                     "llama-Q4_0", "llama-KMIX",  "qwen2-F32",
                                     "qwen2-Q5_1", "qwen3-F32",   "qwen3-F16"};

static void line_of(const char *model, enum kv_type kv, enum activations activations, char out[256])
{
    char path[128], hex[DIGEST_HEX_BYTES];
    snprintf(path, sizeof path, TINY("%s"), model);
    struct engine *g = rig_engine(
        (struct engine_options){.model_path = path, .kv_type = kv, .activations = activations});
    uint32_t *t = rig_tokens(77, N, engine_info(g)->model->n_vocab);
    struct engine_usage u;
    struct digest d = rig_score(g, t, N, N - 1, 0, true, &u);
    digest_hex(&d, hex);
    snprintf(out, 256, "%u %s %s %s %s\n", NUMERICS_VERSION, model, kv == KV_F16 ? "f16" : "f32",
             activations == ACTIVATIONS_Q8 ? "q8" : "f32", hex);
    mem_free(t);
    engine_close(g);
}

static void each_line(void (*take)(void *arg, const char *line), void *arg)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        for (int kind = 0; kind < 4; kind++) {
            char line[256];
            line_of(models[i], kind & 1 ? KV_F32 : KV_F16,
                    kind & 2 ? ACTIVATIONS_F32 : ACTIVATIONS_Q8, line);
            take(arg, line);
        }
    }
}

static void expect_line(void *arg, const char *line)
{
    if (!strstr(arg, line))
        fail_msg("other bits, and NUMERICS_VERSION not raised: %s", line);
}

static void test_digests(void **state)
{
    (void)state;
    static char golden[65536];
    FILE *f = fopen(GOLDEN, "r");
    assert_non_null(f);
    size_t n = fread(golden, 1, sizeof golden - 1, f);
    fclose(f);
    assert_true(n > 0);
    each_line(expect_line, golden);
}

static void write_line(void *arg, const char *line)
{
    fputs(line, arg);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        FILE *f = fopen(GOLDEN, "w");
        if (!f)
            return 1;
        each_line(write_line, f);
        return fclose(f) == 0 ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_digests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
