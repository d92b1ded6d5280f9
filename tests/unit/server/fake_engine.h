/* SPDX-License-Identifier: MIT
 * fake_engine.h — an engine without a model: streams what the test's script says.
 * It takes the real one's place when linking, so that api and server are tested by themselves. */
#ifndef KVASIR_TESTS_FAKE_ENGINE_H
#define KVASIR_TESTS_FAKE_ENGINE_H

#include <stdatomic.h>

#include "engine/engine.h"

#define FAKE_PIECES_MAX  64u
#define FAKE_VOCAB       1000u
#define FAKE_MODEL_BYTES 1000u

struct fake_script {
    const char *pieces[FAKE_PIECES_MAX]; /* of every choice; token i is pieces[i] */
    uint32_t n_pieces;
    uint32_t repeat;         /* the pieces so often; 0: once */
    uint32_t step_us;        /* between events */
    bool is_synchronous;     /* all events before engine_submit returns */
    bool waits_before_start; /* neither starts nor ends until cancelled */
    bool waits_after_start;
    bool has_fill; /* the vocabulary has tokens for /infill */
    enum finish_reason finish;
    enum status submit; /* what engine_submit says */
    enum status fail;   /* EVENT_ERROR instead of EVENT_STARTED */
    uint32_t fail_done, fail_total;
    const char *fail_message;
};
extern struct fake_script fake_script;

/* What the last request asked for; valid until the next one. */
struct fake_seen {
    enum prompt_kind kind;
    size_t n_messages, n_tools;
    char last_role[32], last_content[256], text[256], session[256], variables[256];
    uint32_t tenant, n_tokens, first_token, max_tokens, n_choices, n_stops;
    char stop[64];
    struct sampler_params sampling;
    bool has_seed, ignore_eos, no_cache, add_generation_prompt, continue_final_message;
};
extern struct fake_seen fake_seen;
extern atomic_int fake_n_submitted, fake_n_cancelled, fake_n_running;
extern _Atomic uint64_t fake_kv_bytes; /* that each engine has in memory */
extern atomic_int fake_n_engines;      /* that engine_open opened and nobody has closed */

struct engine *fake_engine_new(void);

#endif
