/* SPDX-License-Identifier: MIT
 * model_load_fuzz.c — any bytes that open as a GGUF: loading ends in a model or in an error, and a
 * model that loads runs three tokens.  Corpus: a small right file of each family. */
#include <stdlib.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/model.h"

/* Of KV pages and logits: beyond it a model is loaded, but not run. */
#define RUN_BYTES_MAX (64u << 20)

static void run(const struct model *m, struct team *team)
{
    const struct model_info *info = model_info(m);
    uint32_t tokens[3] = {0, info->n_vocab - 1, info->n_vocab / 2};
    struct model_sequence s = {.tokens = tokens, .n_tokens = 3, .n_logits = 1};
    struct model_workspace *w = NULL;
    void *pages[MODEL_GROUPS_MAX] = {0};
    uint64_t bytes = (uint64_t)info->n_vocab * sizeof(float);
    for (uint32_t g = 0; g < info->n_groups; g++)
        bytes += model_kv_layout(m, g, KV_F16).page_bytes;
    if (bytes > RUN_BYTES_MAX || model_workspace_new(m, 1, &w, NULL) != OK)
        return;
    float *logits = mem_new(info->n_vocab, sizeof *logits);
    for (uint32_t g = 0; g < info->n_groups; g++) {
        pages[g] = mem_new(model_kv_layout(m, g, KV_F16).page_bytes, 1);
        s.groups[g] = (struct kv_pages){.pages = &pages[g], .n_pages = 1};
    }
    struct model_batch batch = {
        .sequences = &s, .n_sequences = 1, .kv_type = KV_F16, .logits = logits};
    CHECK(model_forward(m, w, team, &batch, NULL) == OK);
    for (uint32_t g = 0; g < info->n_groups; g++)
        mem_free(pages[g]);
    mem_free(logits);
    model_workspace_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct team *team;
    if (!team && team_new(1, &team, NULL) != OK)
        abort();
    struct gguf *g = NULL;
    struct model *m = NULL;
    struct err e = {0};
    if (gguf_open_memory(data, len, "fuzz.gguf", &g, &e) != OK)
        return 0;
    struct model_options options = {.activations = len % 2 ? ACTIVATIONS_F32 : ACTIVATIONS_Q8};
    if (model_load(g, team, &options, &m, &e) == OK) {
        run(m, team);
        model_free(m);
    } else {
        CHECK(e.msg[0] != '\0');
    }
    gguf_close(g);
    return 0;
}
