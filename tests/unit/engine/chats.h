/* SPDX-License-Identifier: MIT
 * chats.h — chats with skald for tests of the engine: asked, waited for, greedily answered. */
#ifndef KVASIR_TESTS_ENGINE_CHATS_H
#define KVASIR_TESTS_ENGINE_CHATS_H

#include "rig.h"

struct ask {
    const char *messages, *session, *previous, *response;
    uint32_t tenant, max_tokens;
    bool is_replayed; /* the turn is kept as the model wrote it, under a key of the dialect's */
};

static inline bool chats_turn_key(void *arg, uint32_t choice, struct digest *key)
{
    (void)arg;
    *key = (struct digest){{(uint8_t)(choice + 1), 77}};
    return true;
}

static inline void put(struct engine_request *r, struct slice *to, const char *text)
{
    if (text)
        *to = (struct slice){arena_text(&r->arena, text, strlen(text)), strlen(text)};
}

static inline struct rig_answer *ask(struct engine *g, const struct ask *a)
{
    struct err e = {0};
    struct json *messages;
    struct engine_request *r = engine_request_new(g);
    if (json_parse(slice_of(a->messages), &r->arena, &messages, &e) != OK)
        fail_msg("%s", e.msg);
    r->kind = PROMPT_CHAT;
    r->messages = messages;
    r->tenant = a->tenant;
    r->sampling.temperature = 0;
    r->max_tokens = a->max_tokens ? a->max_tokens : 24;
    put(r, &r->session, a->session);
    put(r, &r->previous, a->previous);
    put(r, &r->response, a->response);
    if (a->is_replayed)
        r->turn_key = chats_turn_key;
    struct rig_answer *answer = rig_answer_new();
    rig_submit(g, r, answer);
    rig_wait(answer);
    return answer;
}

static inline void ask_well(struct engine *g, struct ask a, char *text, struct engine_usage *usage)
{
    struct rig_answer *answer = ask(g, &a);
    if (answer->error.code != OK)
        fail_msg("%s", answer->error.msg);
    if (text)
        snprintf(text, 8192, "%s", answer->text[0]);
    if (usage)
        *usage = answer->usage;
    rig_answer_free(answer);
}

static inline struct engine *open_at(const char *dir, uint64_t max_bytes)
{
    struct engine *g = NULL;
    struct err e = {0};
    struct engine_options o = {.own.dir = dir,
                               .n_threads = 2,
                               .n_ctx = 8192,
                               .cache_max_bytes = 1u << 30,
                               .own.max_bytes = max_bytes ? max_bytes : 1u << 30};
    if (engine_open(&o, &g, &e) != OK)
        fail_msg("engine_open: %s", e.msg);
    return g;
}

#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"

#endif
