/* SPDX-License-Identifier: MIT
 * kvasir.c — endpoints of our own: they read no chat; their bodies are commands of the session
 * room, described in docs/api/sessions.md; errors have OpenAI's shape. */
#include "api/api_int.h"

static const struct field_set *const no_fields[] = {NULL};

const struct api_dialect dialect_kvasir = {
    .name = "sessions", .family = "kvasir", .error = openai_error, .fields = no_fields};
