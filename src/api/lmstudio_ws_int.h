/* SPDX-License-Identifier: MIT
 * lmstudio_ws_int.h — inner door: what requests and replies of LM Studio's SDK share. */
#ifndef KVASIR_API_LMSTUDIO_WS_INT_H
#define KVASIR_API_LMSTUDIO_WS_INT_H

#include "api/lmstudio_ws.h"
#include "api/messages.h"

/* lmstudio_ws_models.c */
/* A member that is a string, else NULL. */
const struct json *lms_text(const struct json *v, const char *key);
const struct json *lms_specifier_of(const struct json *parameter);
/* What there is to tell of a model, loaded or not. */
struct lms_model {
    const char *name, *title, *arch, *quantization;
    struct slice template_source;
    uint64_t n_parameters, bytes;
    uint32_t n_ctx_train;
    const struct engine_info *info; /* NULL: not loaded */
};
struct lms_model lms_model_loaded(const struct engine_info *info, const char *name);
struct lms_model lms_model_listed(const struct fleet_entry *m); /* it has a card */
bool lms_is_loaded(const struct fleet_entry *m);                /* NULL: false */
const char *lms_type_of(enum api_ws_space space);
/* The loaded model that f's specifier means; NULL: none is, or f has failed. */
const struct fleet_entry *lms_find_loaded(struct fields *f, const struct fleet_list *l);
void lms_not_found(struct fields *f);
void lms_want_loaded(struct fields *f, struct fleet *fleet, struct api_ws_want *want);
void lms_want_load(struct fields *f, const struct api_ws_message *m, struct fleet *fleet,
                   struct api_ws_want *want);
/* type: "llm" or "embedding".  is_instance: of one that is loaded. */
void lms_write_info(struct json_writer *w, const struct lms_model *m, const char *type,
                    bool is_instance);
void lms_write_load_config(struct json_writer *w, const struct engine_info *info);

/* lmstudio_ws.c */
/* "title", "rootTitle", "errorData" of the open object. */
void lms_write_error(struct json_writer *w, const struct api_error *error);

/* lmstudio_ws_request.c */
void lms_read_prediction(struct fields *f, const struct api_context *context, struct api_call *c,
                         struct engine_request *r);
/* The messages of {"history", "predictionConfigStack"} for the template. */
void lms_read_history(struct fields *f, const struct api_context *context,
                      struct engine_request *r);
/* The newest value of a key of "predictionConfigStack" or "loadConfigStack"; NULL: none. */
const struct json *lms_config(const struct json *stack, const char *key);
void lms_write_config(struct json_writer *w, const struct json *stack);
void lms_read_tools(struct fields *f, const struct json *tools, struct engine_request *r);

/* lmstudio_ws_reply.c */
extern const struct api_writer writer_lmstudio_ws;
extern const struct api_dialect dialect_lmstudio_ws_vector; /* embeddings_request.c */

#endif
