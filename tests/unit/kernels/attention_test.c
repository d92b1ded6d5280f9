/* SPDX-License-Identifier: MIT
 * Goal:   attention of every instruction set equals ref bit for bit; a token's result depends on
 * the token alone, not on its tile; ref itself is right. Method: random pages of both KV types;
 * windows, partial pages, partitions, tiles of 1..16 tokens, 1..8 heads a group, head
 * dimensions 16..256, positions across pages of 64 and partitions of 512.  Slots beyond the last
 * token and pages outside the window hold NaN or nothing. ref against softmax in double. */
#include "kernel_test.h"

struct setup {
    enum kv_type type;
    uint32_t n_kv_heads, group, head_dim;
    uint32_t n_tokens_all; /* positions written */
    uint32_t window;
};

struct scene {
    struct setup s;
    uint32_t n_pages;
    void **k, **v;
    float *k_values, *v_values; /* [token][kv head][head_dim], as given */
    float *q;                   /* [token][head][head_dim] */
};

static struct scene scene_new(struct prng *p, struct setup s)
{
    struct scene c = {.s = s, .n_pages = (s.n_tokens_all + 63) / 64};
    const size_t row = (size_t)s.n_kv_heads * s.head_dim;
    const size_t element = s.type == KV_F16 ? 2 : 4;
    c.k = mem_new(c.n_pages, sizeof *c.k);
    c.v = mem_new(c.n_pages, sizeof *c.v);
    for (uint32_t i = 0; i < c.n_pages; i++) {
        c.k[i] = mem_try_aligned(64, row * 64 * element);
        c.v[i] = mem_try_aligned(64, row * 64 * element);
        assert_true(c.k[i] != NULL && c.v[i] != NULL);
        memset(c.k[i], 0xff, row * 64 * element); /* NaN in both types */
        memset(c.v[i], 0xff, row * 64 * element);
    }
    c.k_values = random_floats(p, row * s.n_tokens_all, 1.0f);
    c.v_values = random_floats(p, row * s.n_tokens_all, 1.0f);
    c.q = random_floats(p, row * s.group * s.n_tokens_all, 2.0f / sqrtf((float)s.head_dim));
    for (uint32_t t = 0; t < s.n_tokens_all; t++)
        reference()->kv_write(s.type, s.n_kv_heads, s.head_dim, c.k[t / 64], c.v[t / 64], t % 64,
                              c.k_values + t * row, c.v_values + t * row);
    return c;
}

static void scene_release(struct scene *c)
{
    for (uint32_t i = 0; i < c->n_pages; i++) {
        mem_free(c->k[i]);
        mem_free(c->v[i]);
    }
    mem_free(c->k);
    mem_free(c->v);
    mem_free(c->k_values);
    mem_free(c->v_values);
    mem_free(c->q);
}

/* Output of tokens [from, from + n) of the sequence; tiles of at most tile_max tokens. */
static void attend(float *out, const struct kernels *k, const struct scene *c, uint32_t from,
                   uint32_t n, uint32_t tile_max)
{
    const struct setup *s = &c->s;
    const size_t row = (size_t)s->n_kv_heads * s->group * s->head_dim;
    const struct attention_queries q = {c->q + from * row, row, s->n_kv_heads * s->group, from,
                                        s->window};
    const uint32_t oldest = s->window != 0 && from + 1 > s->window ? from + 1 - s->window : 0;
    const uint32_t first_page = oldest / 64;
    const struct attention_kv kv = {s->type,
                                    s->n_kv_heads,
                                    s->head_dim,
                                    (const void *const *)(c->k + first_page),
                                    (const void *const *)(c->v + first_page),
                                    first_page};
    float *state = mem_new(attention_state_floats(16, s->group, s->head_dim), sizeof(float));
    float *later = mem_new(attention_state_floats(16, s->group, s->head_dim), sizeof(float));
    float *scratch = mem_new(attention_scratch_floats(16, s->group, s->head_dim), sizeof(float));
    for (uint32_t h = 0; h < s->n_kv_heads; h++)
        for (uint32_t t = 0; t < n; t += tile_max) {
            const struct attention_tile tile = {h, t, n - t < tile_max ? n - t : tile_max};
            const uint32_t last = (from + t + tile.n_tokens - 1) / 512;
            k->attention_partial(state, &q, &kv, tile, first_page / 8, scratch);
            for (uint32_t part = first_page / 8 + 1; part <= last; part++) {
                k->attention_partial(later, &q, &kv, tile, part, scratch);
                k->attention_fold(state, later, tile.n_tokens * s->group, s->head_dim);
            }
            k->attention_finish(out, row, state, tile, s->group, s->head_dim);
        }
    mem_free(state);
    mem_free(later);
    mem_free(scratch);
}

/* ref against double; K and V as stored. */
static void check_truth(const struct scene *c, const float *out, uint32_t token)
{
    const struct setup *s = &c->s;
    const uint32_t oldest = s->window != 0 && token + 1 > s->window ? token + 1 - s->window : 0;
    for (uint32_t h = 0; h < s->n_kv_heads * s->group; h++) {
        const float *q = c->q + ((size_t)token * s->n_kv_heads * s->group + h) * s->head_dim;
        double *score = mem_new(s->n_tokens_all, sizeof(double)), max = -INFINITY, sum = 0;
        for (uint32_t t = oldest; t <= token; t++) {
            const float *k = c->k_values + ((size_t)t * s->n_kv_heads + h / s->group) * s->head_dim;
            for (uint32_t d = 0; d < s->head_dim; d++)
                score[t] += (double)q[d] *
                            (double)(s->type == KV_F16 ? f16_to_f32(f16_from_f32(k[d])) : k[d]);
            max = score[t] > max ? score[t] : max;
        }
        for (uint32_t t = oldest; t <= token; t++)
            sum += score[t] = exp(score[t] - max);
        for (uint32_t d = 0; d < s->head_dim; d++) {
            double want = 0;
            for (uint32_t t = oldest; t <= token; t++) {
                const float v =
                    c->v_values[((size_t)t * s->n_kv_heads + h / s->group) * s->head_dim + d];
                want +=
                    score[t] / sum * (double)(s->type == KV_F16 ? f16_to_f32(f16_from_f32(v)) : v);
            }
            assert_true(fabs((double)out[h * s->head_dim + d] - want) < 1e-5);
        }
        mem_free(score);
    }
}

/* Tokens [from, from + n) by ref in tiles of 16, by all others in tiles of 16, 5 and 1 (plain C:
 * 5). */
static void check_tokens(const struct scene *c, uint32_t from, uint32_t n)
{
    const struct setup *s = &c->s;
    const size_t row = (size_t)s->n_kv_heads * s->group * s->head_dim;
    float *want = mem_new(n * row, sizeof(float)), *got = mem_new(n * row, sizeof(float));
    static const uint32_t tiles[] = {16, 5, 1};
    attend(want, reference(), c, from, n, 16);
    check_truth(c, want + (n - 1) * row, from + n - 1);
    const struct kernels *k;
    for (int at = 0; (k = other_kernels(&at)) != NULL;)
        for (int i = 0; i < 3; i++) {
            if (is_plain(k) && tiles[i] != 5)
                continue;
            char what[128];
            snprintf(what, sizeof what,
                     "%s kv %d heads %ux%u dim %u window %u from %u n %u tile %u", k->name,
                     (int)s->type, s->n_kv_heads, s->group, s->head_dim, s->window, from, n,
                     tiles[i]);
            attend(got, k, c, from, n, tiles[i]);
            assert_same_floats(got, want, n * row, what);
        }
    mem_free(want);
    mem_free(got);
}

static void all_groups_and_dims(void **state)
{
    (void)state;
    struct prng p = {SEED, 0};
    print_message("seed %u\n", SEED);
    for (int type = KV_F16; type <= KV_F32; type++)
        for (uint32_t group = 1; group <= 8; group++) {
            static const uint32_t dims[] = {16, 32, 48, 64, 80, 128, 256, 24};
            const uint32_t dim = dims[(group + (uint32_t)type * 3) % 8];
            struct scene c =
                scene_new(&p, (struct setup){(enum kv_type)type, 2, group, dim, 150, 0});
            check_tokens(&c, 0, 33);
            check_tokens(&c, 57, 20);
            check_tokens(&c, 149, 1);
            scene_release(&c);
        }
}

static void windows(void **state)
{
    (void)state;
    struct prng p = {SEED, 1};
    static const uint32_t sizes[] = {1, 2, 16, 63, 64, 65, 100, 130};
    for (size_t i = 0; i < 8; i++) {
        struct scene c = scene_new(&p, (struct setup){i % 2 == 0 ? KV_F16 : KV_F32, 1,
                                                      1 + (uint32_t)i % 4, 32, 330, sizes[i]});
        check_tokens(&c, 0, 16);
        check_tokens(&c, 120, 40);
        check_tokens(&c, 250, 80);
        scene_release(&c);
    }
}

static void partitions(void **state)
{
    (void)state;
    struct prng p = {SEED, 2};
    for (uint32_t window = 0; window <= 512; window += 512) {
        struct scene c = scene_new(&p, (struct setup){KV_F16, 1, 3, 64, 1200, window});
        check_tokens(&c, 500, 24);
        check_tokens(&c, 1023, 3);
        check_tokens(&c, 1199, 1);
        scene_release(&c);
    }
}

/* Large scores, an infinite one, a query of NaN: the same everywhere, and a NaN stays in its row.
 */
static void special_scores(void **state)
{
    (void)state;
    struct prng p = {SEED, 3};
    struct scene c = scene_new(&p, (struct setup){KV_F32, 1, 2, 32, 100, 0});
    for (uint32_t d = 0; d < 32; d++) {
        c.q[(90 * 2 + 0) * 32 + d] *= 1e4f;
        c.q[(91 * 2 + 1) * 32 + d] = NAN;
        c.q[(92 * 2 + 0) * 32 + d] = 1e38f;
    }
    float want[16 * 64], got[16 * 64];
    attend(want, reference(), &c, 84, 16, 16);
    const struct kernels *k;
    for (int at = 0; (k = other_kernels(&at)) != NULL;)
        for (uint32_t tile = 1; tile <= 16; tile += 5) {
            attend(got, k, &c, 84, 16, tile);
            assert_same_floats(got, want, 16 * 64, "special");
        }
    assert_true(!!isnan(want[(7 * 2 + 1) * 32]));
    assert_true(!isnan(want[(7 * 2 + 0) * 32]));
    assert_true(!isnan(want[(6 * 2 + 0) * 32]));
    scene_release(&c);
}

static void writes(void **state)
{
    (void)state;
    struct prng p = {SEED, 4};
    static const uint32_t dims[] = {16, 64, 256, 24, 20};
    float *k = random_floats(&p, 512, 1.0f), *v = random_floats(&p, 512, 1.0f);
    const float special[] = {65504, 65519, 65520,   1e9f,   -1e9f, INFINITY, -INFINITY, NAN,
                             6e-8f, 3e-8f, 2.9e-8f, -1e-7f, 0,     -0.0f,    1e-40f,    2049};
    memcpy(k, special, sizeof special);
    memcpy(v, special, sizeof special);
    for (int type = KV_F16; type <= KV_F32; type++)
        for (int i = 0; i < 5; i++) {
            const size_t bytes = 2 * (size_t)dims[i] * 64 * (type == KV_F16 ? 2 : 4);
            uint8_t *want = mem_new(2, bytes), *got = mem_new(2, bytes);
            const struct kernels *other;
            for (int at = 0; (other = other_kernels(&at)) != NULL;)
                for (uint32_t slot = 0; slot < 64; slot += 21) {
                    reference()->kv_write((enum kv_type)type, 2, dims[i], want, want + bytes, slot,
                                          k, v);
                    other->kv_write((enum kv_type)type, 2, dims[i], got, got + bytes, slot, k, v);
                    assert_memory_equal(want, got, 2 * bytes);
                }
            mem_free(want);
            mem_free(got);
        }
    mem_free(k);
    mem_free(v);
}

int main(void)
{
    print_sets();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_groups_and_dims),
        cmocka_unit_test(windows),
        cmocka_unit_test(partitions),
        cmocka_unit_test(special_scores),
        cmocka_unit_test(writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
