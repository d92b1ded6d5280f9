/* SPDX-License-Identifier: MIT
 * embeddings.c — vectors of texts, in every dialect's path and shape of error.  The models that are
 * served here generate text; none of them pools its hidden vectors into one of a text, and a vector
 * that no training made useful would be worse than this refusal. */
#include "api/api_int.h"

static const struct field_set *const no_fields[] = {NULL};

static void refuse(struct fields *f, struct inquiry *a)
{
    (void)a;
    answer_refuse(f, 501, "unsupported", "this model makes no embeddings: it generates text");
}

#define EMBEDDINGS(variable, its_family, its_error)            \
    const struct api_dialect variable = {.name = "embeddings", \
                                         .family = its_family, \
                                         .answer = refuse,     \
                                         .error = its_error,   \
                                         .fields = no_fields}
EMBEDDINGS(dialect_openai_embeddings, "OpenAI", openai_error);
EMBEDDINGS(dialect_llama_embeddings, "llama-server", llama_error);
EMBEDDINGS(dialect_ollama_embeddings, "Ollama", ollama_error);
EMBEDDINGS(dialect_lmstudio_embeddings, "LM Studio", openai_error);
