/* SPDX-License-Identifier: MIT
 * embeddings_reply.c — vectors of texts as JSON.  Each is spelled when it comes, between two steps;
 * at the end, on the same thread, they are only put together. */
#include <math.h>

#include "api/api_int.h"
#include "base/endian.h"
#include "text/base64.h"

/* What a vector's values are multiplied by; llama-server's embd_normalize. */
static double scale_of(const float *x, uint32_t n, int32_t normalize)
{
    double sum = 0;
    if (normalize < 0)
        return 1;
    for (uint32_t i = 0; i < n; i++) {
        double v = fabs((double)x[i]);
        if (normalize == 0)
            sum = v > sum ? v : sum;
        else
            sum += normalize == 2 ? v * v : pow(v, normalize);
    }
    if (normalize == 0)
        sum /= 32760.0;
    else
        sum = normalize == 2 ? sqrt(sum) : pow(sum, 1.0 / normalize);
    return sum > 0 ? 1 / sum : 0;
}

/* Nine digits give the same float back. */
static void add_number(struct buf *b, float v)
{
    if (isfinite(v))
        buf_printf(b, "%.9g", (double)v);
    else
        buf_add_text(b, "null");
}

void vector_add(const struct api_call *c, struct api_choice *choice, const struct engine_event *ev)
{
    const struct vector_form *form = &c->vectors;
    struct buf *b = &choice->vector, bytes;
    uint32_t n = ev->total;
    if (form->n_dimensions && form->n_dimensions < n)
        n = form->n_dimensions;
    const double scale = scale_of(ev->vector, n, form->normalize);
    buf_init(&bytes, (size_t)n * sizeof(float));
    if (!form->is_base64)
        buf_add_char(b, '[');
    for (uint32_t i = 0; i < n; i++) {
        const float v = (float)((double)ev->vector[i] * scale);
        if (form->is_base64) {
            buf_add(&bytes, &v, sizeof v); /* little-endian, as base/endian.h asserts */
            continue;
        }
        if (i > 0)
            buf_add_char(b, ',');
        add_number(b, v);
    }
    if (form->is_base64)
        buf_add_char(b, '"');
    base64_write(b, bytes.ptr, bytes.len);
    buf_add_char(b, form->is_base64 ? '"' : ']');
    b->failed |= bytes.failed;
    buf_release(&bytes);
}

/* A choice's vector; it is not needed any more. */
static void put_vector(struct json_writer *w, struct api_choice *choice)
{
    jw_raw(w, buf_slice(&choice->vector));
    buf_release(&choice->vector);
}

static void begin(struct api_call *c, struct json_writer *w, struct buf *out)
{
    (void)c;
    jw_init(w, out);
    jw_begin_object(w);
}

/* ---- OpenAI, LM Studio ---- */
static void openai_vectors(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin(c, &w, out);
    jw_key(&w, "object");
    jw_text(&w, "list");
    jw_key(&w, "data");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < c->n_choices; i++) {
        jw_begin_object(&w);
        jw_key(&w, "object");
        jw_text(&w, "embedding");
        jw_key(&w, "index");
        jw_int(&w, i);
        jw_key(&w, "embedding");
        put_vector(&w, &c->choices[i]);
        jw_end_object(&w);
    }
    jw_end_array(&w);
    jw_key(&w, "model");
    jw_string(&w, c->model);
    jw_key(&w, "usage");
    jw_begin_object(&w);
    jw_key(&w, "prompt_tokens");
    jw_int(&w, c->usage.prompt_tokens);
    jw_key(&w, "total_tokens");
    jw_int(&w, c->usage.prompt_tokens);
    jw_end_object(&w);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

/* ---- llama-server: a text's vectors, of which pooling leaves one ---- */
static void llama_vectors(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    jw_init(&w, out);
    jw_begin_array(&w);
    for (uint32_t i = 0; i < c->n_choices; i++) {
        jw_begin_object(&w);
        jw_key(&w, "index");
        jw_int(&w, i);
        jw_key(&w, "embedding");
        jw_begin_array(&w);
        put_vector(&w, &c->choices[i]);
        jw_end_array(&w);
        jw_end_object(&w);
    }
    jw_end_array(&w);
    buf_add_char(out, '\n');
}

/* ---- Ollama ---- */
static void ollama_embed(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin(c, &w, out);
    jw_key(&w, "model");
    jw_string(&w, c->model);
    jw_key(&w, "embeddings");
    jw_begin_array(&w);
    for (uint32_t i = 0; i < c->n_choices && !c->is_answered; i++)
        put_vector(&w, &c->choices[i]);
    jw_end_array(&w);
    if (!c->is_answered) {
        const struct engine_usage *u = &c->usage;
        write_ns(&w, "total_duration", u->queue_ms + u->prompt_ms + u->lookup_ms + u->prefill_ms);
        write_ns(&w, "load_duration", c->load_ms);
        jw_key(&w, "prompt_eval_count");
        jw_int(&w, u->prompt_tokens);
    }
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

static void ollama_embeddings(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin(c, &w, out);
    jw_key(&w, "embedding");
    if (c->is_answered) {
        jw_begin_array(&w);
        jw_end_array(&w);
    } else {
        put_vector(&w, &c->choices[0]);
    }
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

/* ---- LM Studio's SDK: the answer to a call ---- */
static void rpc_vector(struct api_call *c, struct buf *out)
{
    struct json_writer w;
    begin(c, &w, out);
    jw_key(&w, "type");
    jw_text(&w, "rpcResult");
    jw_key(&w, "callId");
    jw_int(&w, c->channel);
    jw_key(&w, "result");
    jw_begin_object(&w);
    jw_key(&w, "embedding");
    put_vector(&w, &c->choices[0]);
    jw_end_object(&w);
    jw_end_object(&w);
    buf_add_char(out, '\n');
}

const struct api_writer writer_rpc_vector = {.whole = rpc_vector};
const struct api_writer writer_openai_vectors = {.whole = openai_vectors};
const struct api_writer writer_llama_vectors = {.whole = llama_vectors};
const struct api_writer writer_ollama_embed = {.whole = ollama_embed, .answered = ollama_embed};
const struct api_writer writer_ollama_embeddings = {.whole = ollama_embeddings,
                                                    .answered = ollama_embeddings};
