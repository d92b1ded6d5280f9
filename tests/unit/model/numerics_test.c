/* SPDX-License-Identifier: MIT
 * numerics_test.c — no bit of any logit changes without a raised NUMERICS_VERSION.
 * Goal:   pages stored by an older version must not be continued with other bits.
 * Method: SHA-256 of the logits of 80 tokens for each tiny model × activations × KV type ×
 * instruction set of this machine, against tests/golden/numerics/logits.txt ("version model
 * activations kv digest", one a line). After a deliberate change: raise NUMERICS_VERSION and put
 * the lines printed here there. */
#include "isas.h"
#include "rig.h"

#define TOKENS    80u
#define VOCAB_MAX 1024u

static const char *const models[] = {
    "tiny-gemma3-F32", "tiny-gemma3-Q8_0", "tiny-llama-F32", "tiny-llama-Q4_0", "tiny-llama-KMIX",
    "tiny-qwen2-F32",  "tiny-qwen2-Q5_1",  "tiny-qwen3-F32", "tiny-qwen3-F16",
};

/* "": heads of this model cannot be kept in this KV type. */
static void line_of(enum isa isa, const char *name, bool is_f32, enum kv_type type, char *line,
                    size_t size)
{
    static float logits[TOKENS * VOCAB_MAX];
    char path[256], hex[DIGEST_HEX_BYTES];
    snprintf(path, sizeof path, "tests/golden/tiny/%s.gguf", name);
    struct rig_options o = {
        .activations = is_f32 ? ACTIVATIONS_F32 : ACTIVATIONS_Q8, .isa = isa, .n_workers = 2};
    struct rig r = rig_open(path, o);
    line[0] = 0;
    if (!kv_type_fits(type, r.info->head_dim)) {
        rig_close(&r);
        return;
    }
    uint32_t tokens[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (i * 53 + 17) % r.info->n_vocab;
    struct rig_kv kv;
    rig_kv_init(&kv, &r, type, TOKENS);
    CHECK(r.info->n_vocab <= VOCAB_MAX);
    rig_run(&r, &kv, tokens, 0, TOKENS, 33, logits);
    struct digester d = {0};
    digest_begin(&d);
    digest_bytes(&d, logits, (size_t)TOKENS * r.info->n_vocab * sizeof logits[0]);
    struct digest digest = digest_end(&d);
    digester_release(&d);
    digest_hex(&digest, hex);
    snprintf(line, size, "%u %s %s %s %s\n", NUMERICS_VERSION, name, is_f32 ? "f32" : "q8",
             kv_type_name(type), hex);
    rig_kv_release(&kv);
    rig_close(&r);
}

static void test_digests(void **state)
{
    (void)state;
    static const char path[] = "tests/golden/numerics/logits.txt";
    static char golden[1 << 16];
    FILE *f = fopen(path, "rb");
    if (f) {
        golden[fread(golden, 1, sizeof golden - 1, f)] = 0;
        fclose(f);
    }
    enum isa isas[ISA_COUNT];
    const uint32_t n_isas = isas_here(ISA_REF, isas);
    uint32_t n_missing = 0;
    for (size_t j = 0; j < ARRAY_COUNT(models) * 8 * n_isas; j++) {
        const size_t i = j / n_isas;
        char line[256];
        line_of(isas[j % n_isas], models[i / 8], (i & 1) != 0, (enum kv_type)(i / 2 % 4), line,
                sizeof line);
        if (!strstr(golden, line)) {
            n_missing++;
            fputs(line, stdout);
        }
    }
    if (n_missing > 0)
        fprintf(stderr, "%u digests are not in %s\n", n_missing, path);
    assert_int_equal(n_missing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_digests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
