/* SPDX-License-Identifier: MIT
 * weights.c — tensors of the file into the form that kernels read.
 * In two passes: the first finds every tensor and checks its shape, so that a bad file is refused
 * before any memory is taken; the second repacks, matrix by matrix, all workers on one.
 * A tensor that nothing here uses is refused by name: weights that are silently left out make a
 * wrong model. */
#include <stdio.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/model_int.h"
#include "os/fs.h"

#define ALIGNMENT      64u
#define TILES_PER_TASK 4u
#define PAGE_BYTES     4096u /* of memory maps */

struct loader {
    struct model *m;
    const struct gguf *g;
    struct err *e;
    enum status st; /* sticky */
    bool *is_used;  /* [n_tensors] */
    uint64_t packed_bytes;
    uint64_t vector_floats;
};

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint32_t dim_size(const struct model_spec *s, enum model_dim dim)
{
    switch (dim) {
    case DIM_EMBD:
        return s->n_embd;
    case DIM_Q:
        return s->n_heads * s->head_dim;
    case DIM_KV:
        return s->n_kv_heads * s->head_dim;
    case DIM_FF:
        return s->n_ff;
    case DIM_HEAD:
        return s->head_dim;
    }
    CHECK(dim <= DIM_HEAD);
    return 0;
}

/* NULL when it is not there, or when an earlier step failed. */
static const struct gguf_tensor *take(struct loader *l, const char *name)
{
    if (l->st != OK)
        return NULL;
    const struct gguf_tensor *t = gguf_find_tensor(l->g, name);
    if (t) {
        for (uint32_t i = 0; i < gguf_tensor_count(l->g); i++)
            if (gguf_tensor_at(l->g, i) == t)
                l->is_used[i] = true;
    }
    return t;
}

static void check_shape(struct loader *l, const struct gguf_tensor *t, uint64_t columns,
                        uint64_t rows)
{
    if (t->dims[0] == columns && t->dims[1] == rows && t->dims[2] == 1 && t->dims[3] == 1)
        return;
    l->st = err_set(l->e, E_INVALID,
                    "%s: tensor " SLICE_FMT " is %llu x %llu x %llu x %llu, expected %llu x %llu",
                    gguf_name(l->g), SLICE_ARG(t->name), (unsigned long long)t->dims[0],
                    (unsigned long long)t->dims[1], (unsigned long long)t->dims[2],
                    (unsigned long long)t->dims[3], (unsigned long long)columns,
                    (unsigned long long)rows);
}

static void missing(struct loader *l, const char *name)
{
    if (l->st == OK)
        l->st = err_set(l->e, E_INVALID, "%s: tensor %s is missing", gguf_name(l->g), name);
}

static void add_matrix(struct loader *l, const struct gguf_tensor *t, struct packed *target,
                       uint32_t rows, uint32_t columns, bool is_tied)
{
    check_shape(l, t, columns, rows);
    if (l->st != OK)
        return;
    enum activations activations = l->m->info.activations;
    uint64_t bytes = packed_bytes(t->type, activations, rows, columns);
    if (bytes == 0) {
        l->st =
            err_set(l->e, E_UNSUPPORTED,
                    "%s: tensor " SLICE_FMT " of type %s and %u columns cannot be packed",
                    gguf_name(l->g), SLICE_ARG(t->name), tensor_type_info(t->type)->name, columns);
        return;
    }
    *target = (struct packed){
        .type = t->type, .activations = activations, .n_out = rows, .n_in = columns};
    l->m->jobs[l->m->n_jobs++] = (struct pack_job){
        .source = t,
        .target = target,
        .offset = l->packed_bytes,
        .bytes = bytes,
    };
    l->packed_bytes += round_up(bytes, ALIGNMENT);
    if (!is_tied) /* else the embedding counted it */
        l->m->info.n_parameters += (uint64_t)rows * columns;
}

/* ---- first pass: find and check ---- */
static void find_layer(struct loader *l, uint32_t layer)
{
    static const struct {
        const char *text;
        enum model_dim rows, columns;
    } matrices[MATRIX_COUNT] = {
#define MATRIX_ROW(name, text, rows, columns) {text, rows, columns},
        MODEL_MATRICES(MATRIX_ROW)
#undef MATRIX_ROW
    };
    const struct model_spec *s = &l->m->spec;
    char name[GGUF_NAME_MAX];
    for (uint32_t i = 0; i < MATRIX_COUNT; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, matrices[i].text);
        const struct gguf_tensor *t = take(l, name);
        if (t)
            add_matrix(l, t, &l->m->layers[layer].matrix[i], dim_size(s, matrices[i].rows),
                       dim_size(s, matrices[i].columns), false);
        else
            missing(l, name);
    }
}

static const struct {
    const char *text;
    enum model_dim dim;
} vector_names[VECTOR_COUNT] = {
#define VECTOR_ROW(name, text, dim) {text, dim},
    MODEL_VECTORS(VECTOR_ROW)
#undef VECTOR_ROW
};

static const struct gguf_tensor *layer_vector(struct loader *l, uint32_t layer, uint32_t vector)
{
    if (!(l->m->spec.vectors_allowed & VECTOR_BIT(vector)))
        return NULL;
    char name[GGUF_NAME_MAX];
    snprintf(name, sizeof name, "blk.%u.%s", layer, vector_names[vector].text);
    const struct gguf_tensor *t = take(l, name);
    if (!t && (l->m->spec.vectors_required & VECTOR_BIT(vector)))
        missing(l, name);
    return t;
}

/* Vectors become f32, each at a multiple of 64 bytes. */
static uint64_t vector_stride(uint64_t n)
{
    return round_up(n, ALIGNMENT / sizeof(float));
}

static void measure_vector(struct loader *l, const struct gguf_tensor *t, uint32_t n)
{
    if (!t || l->st != OK)
        return;
    check_shape(l, t, n, 1);
    if (l->st == OK && tensor_type_info(t->type)->is_quantized)
        l->st = err_set(l->e, E_UNSUPPORTED, "%s: vector " SLICE_FMT " is quantized (%s)",
                        gguf_name(l->g), SLICE_ARG(t->name), tensor_type_info(t->type)->name);
    l->vector_floats += vector_stride(n);
    l->m->info.n_parameters += n;
}

static void find_globals(struct loader *l)
{
    struct model *m = l->m;
    const struct model_spec *s = &m->spec;
    const struct gguf_tensor *t = take(l, "token_embd.weight");
    if (!t) {
        missing(l, "token_embd.weight");
        return;
    }
    if (t->dims[1] == 0 || t->dims[1] > UINT32_MAX / 2) {
        check_shape(l, t, s->n_embd, 1);
        return;
    }
    check_shape(l, t, s->n_embd, t->dims[1]);
    m->embedding = t;
    m->info.n_vocab = (uint32_t)t->dims[1];
    m->info.n_parameters += t->dims[0] * t->dims[1];
    const struct gguf_tensor *output = take(l, "output.weight");
    bool is_tied = output == NULL;
    if (l->st == OK)
        add_matrix(l, is_tied ? t : output, &m->output, m->info.n_vocab, s->n_embd, is_tied);
}

static void refuse_unused(struct loader *l)
{
    for (uint32_t i = 0; l->st == OK && i < gguf_tensor_count(l->g); i++)
        if (!l->is_used[i])
            l->st =
                err_set(l->e, E_UNSUPPORTED,
                        "%s: tensor " SLICE_FMT " is not part of a %s model as known here",
                        gguf_name(l->g), SLICE_ARG(gguf_tensor_at(l->g, i)->name), l->m->spec.arch);
}

static void find_all(struct loader *l)
{
    const struct model_spec *s = &l->m->spec;
    find_globals(l);
    for (uint32_t layer = 0; layer < s->n_layers && l->st == OK; layer++) {
        find_layer(l, layer);
        for (uint32_t i = 0; i < VECTOR_COUNT; i++)
            measure_vector(l, layer_vector(l, layer, i), dim_size(s, vector_names[i].dim));
    }
    const struct gguf_tensor *norm = take(l, "output_norm.weight");
    if (!norm)
        missing(l, "output_norm.weight");
    measure_vector(l, norm, s->n_embd);
    if (s->may_have_rope_factors)
        measure_vector(l, take(l, "rope_freqs.weight"), s->n_rot / 2);
    refuse_unused(l);
}

/* ---- second pass: fill ---- */
static const float *place_vector(struct loader *l, const struct gguf_tensor *t, uint64_t *used)
{
    if (!t)
        return NULL;
    float *to = l->m->vector_memory + *used;
    *used += vector_stride(t->dims[0]);
    CHECK(*used <= l->vector_floats);
    tensor_dequantize(t->type, t->data, to, t->dims[0]);
    return to;
}

static void fill_vectors(struct loader *l)
{
    struct model *m = l->m;
    uint64_t used = 0;
    for (uint32_t layer = 0; layer < m->spec.n_layers; layer++)
        for (uint32_t i = 0; i < VECTOR_COUNT; i++)
            m->layers[layer].vector[i] = place_vector(l, layer_vector(l, layer, i), &used);
    m->output_norm = place_vector(l, take(l, "output_norm.weight"), &used);
    if (m->spec.may_have_rope_factors)
        m->rope_factors = place_vector(l, take(l, "rope_freqs.weight"), &used);
    CHECK(used == l->vector_floats);
}

struct pack_run {
    const struct pack_job *job;
    struct team *team;
    uint8_t *target;
};

static void pack_worker(void *arg, uint32_t worker, uint32_t n_workers)
{
    (void)worker, (void)n_workers;
    const struct pack_run *run = arg;
    const struct packed *p = run->job->target;
    uint32_t n_tiles = packed_tiles(p->n_out);
    for (uint32_t tile; (tile = team_next(run->team, TILES_PER_TASK)) < n_tiles;) {
        uint32_t end = tile + TILES_PER_TASK < n_tiles ? tile + TILES_PER_TASK : n_tiles;
        packed_fill(run->target, run->job->source->data, p->type, p->activations, p->n_out, p->n_in,
                    tile, end);
    }
}

static void fill_matrices(struct model *m, const struct gguf *g, struct team *team,
                          const struct model_options *options)
{
    uint64_t total = 0, done = 0;
    for (uint32_t i = 0; i < m->n_jobs; i++)
        total += m->jobs[i].source->bytes;
    for (uint32_t i = 0; i < m->n_jobs; i++) {
        const struct pack_job *job = &m->jobs[i];
        struct pack_run run = {
            .job = job, .team = team, .target = (uint8_t *)m->packed_memory + job->offset};
        if (options && options->progress)
            options->progress(options->progress_arg, (double)done / (double)total);
        team_run(team, pack_worker, &run);
        gguf_forget(g, job->source->data, job->source->bytes);
        done += job->source->bytes;
    }
    if (options && options->progress)
        options->progress(options->progress_arg, 1);
}

/* The weights from a file of an earlier load, or repacked now: into a new file, or into memory. */
static enum status place_matrices(struct model *m, const struct gguf *g, struct team *team,
                                  const struct model_options *options, struct err *e)
{
    const void *found = NULL;
    if (options->find_packed)
        found = options->find_packed(options->packed_arg, m, m->info.packed_bytes);
    m->packed_memory = (void *)(uintptr_t)found;
    if (!found && options->place_packed)
        m->packed_memory = options->place_packed(options->packed_arg, m->info.packed_bytes);
    m->is_packed_borrowed = m->packed_memory != NULL;
    if (!m->packed_memory)
        m->packed_memory = mem_try_large((size_t)m->info.packed_bytes);
    if (!m->packed_memory)
        return err_set(e, E_NOMEM, "%s: %llu MiB for repacked weights", gguf_name(g),
                       (unsigned long long)(m->info.packed_bytes >> 20));
    for (uint32_t i = 0; i < m->n_jobs; i++)
        m->jobs[i].target->data = (const uint8_t *)m->packed_memory + m->jobs[i].offset;
    if (!found)
        fill_matrices(m, g, team, options);
    return OK;
}

enum status model_repack(struct model *m, const struct gguf *g, struct team *team, struct err *e)
{
    enum status st = os_map_memory_over(m->packed_memory, (size_t)m->info.packed_bytes, e);
    if (st == OK)
        fill_matrices(m, g, team, NULL);
    return st;
}

struct model_packed model_packed(const struct model *m)
{
    struct model_packed out = {.bytes = m->packed_memory, .n = m->info.packed_bytes};
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "kvasir packed", PACKED_VERSION);
    for (uint32_t i = 0; i < m->n_jobs; i++) {
        const struct pack_job *job = &m->jobs[i];
        digest_field(&d, "tensor", job->source->name.ptr, job->source->name.len);
        digest_u64(&d, "type", (uint64_t)job->target->type);
        digest_u64(&d, "activations", (uint64_t)job->target->activations);
        digest_u64(&d, "rows", job->target->n_out);
        digest_u64(&d, "columns", job->target->n_in);
        digest_u64(&d, "offset", job->offset);
        digest_u64(&d, "bytes", job->bytes);
    }
    out.layout = digest_end(&d);
    digester_release(&d);
    return out;
}

enum status weights_load(struct model *m, const struct gguf *g, struct team *team,
                         const struct model_options *options, struct err *e)
{
    struct loader l = {.m = m, .g = g, .e = e, .st = OK};
    l.is_used = mem_try_new(gguf_tensor_count(g), sizeof *l.is_used);
    m->jobs = mem_try_new((size_t)m->spec.n_layers * MATRIX_COUNT + 1, sizeof *m->jobs);
    m->layers = mem_try_new(m->spec.n_layers, sizeof *m->layers);
    if (!l.is_used || !m->jobs || !m->layers) {
        l.st = err_set(e, E_NOMEM, "%s: tables of %u layers", gguf_name(g), m->spec.n_layers);
        goto out;
    }
    find_all(&l);
    if (l.st != OK)
        goto out;
    m->info.packed_bytes = round_up(l.packed_bytes, PAGE_BYTES) + PAGE_BYTES;
    m->vector_memory = mem_try_aligned(ALIGNMENT, l.vector_floats * sizeof(float));
    if (!m->vector_memory) {
        l.st = err_set(e, E_NOMEM, "%s: vectors", gguf_name(g));
        goto out;
    }
    fill_vectors(&l);
    l.st = place_matrices(m, g, team, options, e);
out:
    mem_free(l.is_used);
    return l.st;
}
