/* SPDX-License-Identifier: MIT
 * Goal:   attention of every instruction set equals ref bit for bit; a token's result depends on
 * the token alone, not on its tile; ref itself is right. Method: random pages of all KV types;
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
    const size_t k_bytes = s.n_kv_heads * kv_head_bytes(s.type, false, s.head_dim);
    const size_t v_bytes = s.n_kv_heads * kv_head_bytes(s.type, true, s.head_dim);
    c.k = mem_new(c.n_pages, sizeof *c.k);
    c.v = mem_new(c.n_pages, sizeof *c.v);
    for (uint32_t i = 0; i < c.n_pages; i++) {
        c.k[i] = mem_try_aligned(64, k_bytes);
        c.v[i] = mem_try_aligned(64, v_bytes);
        assert_true(c.k[i] != NULL && c.v[i] != NULL);
        memset(c.k[i], 0xff, k_bytes); /* NaN in all types */
        memset(c.v[i], 0xff, v_bytes);
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
    float *scratch = mem_new(attention_scratch_floats(s->head_dim), sizeof(float));
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

/* K or V of a token as stored, in double. */
static double stored(const struct scene *c, bool is_v, uint32_t token, uint32_t kv_head, uint32_t d)
{
    const struct setup *s = &c->s;
    const uint8_t *head = (const uint8_t *)(is_v ? c->v : c->k)[token / 64] +
                          kv_head * kv_head_bytes(s->type, is_v, s->head_dim);
    const uint32_t t = token % 64, dim = s->head_dim;
    const size_t at = is_v ? (size_t)t * dim + d : (size_t)d * 64 + t;
    if (s->type == KV_F32)
        return (double)((const float *)(const void *)head)[at];
    if (s->type == KV_F16)
        return (double)f16_to_f32(((const uint16_t *)(const void *)head)[at]);
    const bool is_half = is_v && s->type == KV_Q4;
    const uint16_t *scales =
        (const uint16_t *)(const void *)(head + (size_t)dim * 64 / (is_half ? 2 : 1));
    const double scale = (double)f16_to_f32(scales[(size_t)(d / 32) * 64 + t]);
    if (!is_half)
        return scale * (int8_t)head[at];
    const uint8_t two = head[(size_t)t * dim / 2 + d / 32 * 16 + d % 16];
    return scale * ((int8_t)(d % 32 < 16 ? two << 4 : two & 0xf0) / 16);
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
            for (uint32_t d = 0; d < s->head_dim; d++)
                score[t] += (double)q[d] * stored(c, false, t, h / s->group, d);
            max = score[t] > max ? score[t] : max;
        }
        for (uint32_t t = oldest; t <= token; t++)
            sum += score[t] = exp(score[t] - max);
        for (uint32_t d = 0; d < s->head_dim; d++) {
            double want = 0;
            for (uint32_t t = oldest; t <= token; t++)
                want += score[t] / sum * stored(c, true, t, h / s->group, d);
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
    for (int type = KV_F16; type <= KV_Q4; type++)
        for (uint32_t group = 1; group <= 8; group++) {
            static const uint32_t dims[] = {16, 32, 48, 64, 80, 128, 256, 24};
            static const uint32_t quantized[] = {32, 64, 96, 128, 160, 192, 256, 64};
            const uint32_t dim = kv_is_quantized((enum kv_type)type)
                                     ? quantized[group - 1]
                                     : dims[(group + (uint32_t)type * 3) % 8];
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
        struct scene c = scene_new(&p, (struct setup){(enum kv_type)((i + i / 4) % 4), 1,
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
        for (int type = KV_F16; type <= KV_Q4; type++) {
            if (type == KV_F32)
                continue;
            struct scene c =
                scene_new(&p, (struct setup){(enum kv_type)type, 1, 3, 64, 1200, window});
            check_tokens(&c, 500, 24);
            check_tokens(&c, 1023, 3);
            check_tokens(&c, 1199, 1);
            scene_release(&c);
        }
    }
}

/* Large scores, an infinite one, a query of NaN: the same everywhere, and a NaN stays in its row.
 */
static void special_scores_of(struct prng *p, enum kv_type type)
{
    struct scene c = scene_new(p, (struct setup){type, 1, 2, 32, 100, 0});
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

static void special_scores(void **state)
{
    (void)state;
    struct prng p = {SEED, 3};
    for (int type = KV_F32; type <= KV_Q4; type++)
        special_scores_of(&p, (enum kv_type)type);
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

/* Blocks from 1e-9 to 1e9, all zero, of one value, infinite, NaN: every instruction set writes the
 * same, and what ref writes is within half a step of the value. */
static void quantized_writes(void **state)
{
    (void)state;
    struct prng p = {SEED, 5};
    enum { DIM = 256, HEADS = 2, N = HEADS * DIM };
    float *k = random_floats(&p, N, 1.0f), *v = random_floats(&p, N, 1.0f);
    for (uint32_t d = 0; d < N; d++)
        k[d] *= powf(10.0f, (float)(int)(d / 32) - 9.0f + (d / 32 == 15 ? 3.0f : 0.0f));
    for (uint32_t d = 0; d < 32; d++) {
        v[d] = 0.0f;
        v[32 + d] = d == 7 ? -3.0f : 0.0f;
        v[64 + d] = d % 2 == 0 ? 1.0f : -1.0f;
        v[96 + d] = d == 31 ? INFINITY : 1.0f;
        v[128 + d] = d == 0 ? NAN : 1.0f;
    }
    for (int type = KV_Q8_0; type <= KV_Q4; type++) {
        const size_t bytes = HEADS * kv_head_bytes(KV_Q8_0, false, DIM); /* the most */
        uint8_t *want = mem_new(2, bytes), *got = mem_new(2, bytes);
        for (uint32_t slot = 0; slot < 64; slot += 21) {
            reference()->kv_write((enum kv_type)type, HEADS, DIM, want, want + bytes, slot, k, v);
            const struct kernels *other;
            for (int at = 0; (other = other_kernels(&at)) != NULL;) {
                other->kv_write((enum kv_type)type, HEADS, DIM, got, got + bytes, slot, k, v);
                assert_memory_equal(want, got, 2 * bytes);
            }
        }
        void *k_page[] = {want}, *v_page[] = {want + bytes};
        struct scene c = {
            .s = {(enum kv_type)type, HEADS, 1, DIM, 64, 0}, .k = k_page, .v = v_page};
        for (uint32_t d = 0; d < N; d++) {
            double amax = 0;
            for (uint32_t i = d / 32 * 32; i < d / 32 * 32 + 32; i++)
                amax = fmax(amax, (double)fabsf(k[i]));
            /* Half a step, and what f16 loses of the scale: 2^-11 of it, 2^-25 at least. */
            const double steps = 127;
            const double slack = amax * 0x1p-11 + 0x1p-25 * steps;
            const double got_k = stored(&c, false, 21, d / DIM, d % DIM);
            if (amax < 65504 * steps)
                assert_true(fabs(got_k - (double)k[d]) <= 0.5 * amax / steps + slack);
            else
                assert_true(fabs(got_k) <= 65504 * steps);
        }
        for (uint32_t d = 160; d < N; d++) {
            double amax = 0;
            for (uint32_t i = d / 32 * 32; i < d / 32 * 32 + 32; i++)
                amax = fmax(amax, (double)fabsf(v[i]));
            /* q4: the end opposite to the largest value is a step short. */
            const double step = type == KV_Q4 ? amax / 8 : amax / 127 / 2;
            assert_true(fabs(stored(&c, true, 42, d / DIM, d % DIM) - (double)v[d]) <=
                        step + amax * 0x1p-11);
        }
        for (uint32_t d = 0; d < 32; d++) {
            assert_true(stored(&c, true, 42, 0, d) == 0);
            assert_true(fabs(stored(&c, true, 42, 0, 32 + d) - (double)v[32 + d]) < 0.002);
            assert_true(!!isnan(stored(&c, true, 42, 0, 96 + d)));
            assert_true(!!isnan(stored(&c, true, 42, 0, 128 + d)));
            assert_true(!isnan(stored(&c, true, 42, 0, 160 + d)));
        }
        mem_free(want);
        mem_free(got);
    }
    mem_free(k);
    mem_free(v);
}

/* Its own inverse, keeps lengths, spreads one spike over all dimensions of its run. */
static void rotation(void **state)
{
    (void)state;
    struct prng p = {SEED, 6};
    static const uint32_t dims[] = {16, 24, 32, 64, 80, 96, 128, 160, 256};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        const uint32_t dim = dims[i], n = 3 * dim, run = kv_rotation_run(dim);
        float *x = random_floats(&p, n, 3.0f), *want = mem_new(n, sizeof *want),
              *got = mem_new(n, sizeof *got);
        memset(x + dim, 0, dim * sizeof *x);
        x[dim + 5] = 2.0f;
        memcpy(want, x, n * sizeof *x);
        reference()->rotate(want, 3, dim);
        const struct kernels *other;
        for (int at = 0; (other = other_kernels(&at)) != NULL;) {
            memcpy(got, x, n * sizeof *x);
            other->rotate(got, 3, dim);
            assert_same_floats(got, want, n, "rotated");
        }
        for (uint32_t d = 0; d < dim; d++)
            assert_true(fabsf(fabsf(want[dim + d]) - (d < run ? 2.0f / sqrtf((float)run) : 0.0f)) <
                        1e-6f);
        double before = 0, after = 0;
        for (uint32_t d = 0; d < n; d++) {
            before += (double)x[d] * (double)x[d];
            after += (double)want[d] * (double)want[d];
        }
        assert_true(fabs(after / before - 1) < 1e-6);
        reference()->rotate(want, 3, dim);
        for (uint32_t d = 0; d < n; d++)
            assert_true(fabsf(want[d] - x[d]) < 1e-5f);
        mem_free(x);
        mem_free(want);
        mem_free(got);
    }
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
        cmocka_unit_test(quantized_writes),
        cmocka_unit_test(rotation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
