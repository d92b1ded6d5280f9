/* SPDX-License-Identifier: MIT
 * table_test.c — goal: the table of endpoints and fields says what is so.  Method: every path is
 * found, every field that it calls read or refused is sent with a value that it can't have and must
 * be refused by its name; every field without meaning must change nothing; no cell of the written
 * table is empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/api_int.h"
#include "fake_engine.h"

static struct engine *engine;
static struct fleet *fleet;

static int set_up(void **state)
{
    (void)state;
    fake_script = (struct fake_script){.pieces = {"a"}, .n_pieces = 1, .has_fill = true};
    engine = fake_engine_new();
    struct err e = {0};
    if (fleet_of_engine(engine, "m", &fleet, &e) != OK)
        return -1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fleet_close(fleet);
    engine_close(engine);
    return 0;
}

/* A body that each endpoint takes, its closing brace left out. */
static const struct {
    const char *path, *body;
} bodies[] = {
    {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"/v1/chat/completions/input_tokens", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"/v1/responses", "{\"input\":\"hi\""},
    {"/v1/responses/input_tokens", "{\"input\":\"hi\""},
    {"/v1/completions", "{\"prompt\":\"hi\""},
    {"/v1/messages", "{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"/v1/messages/count_tokens", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"/completion", "{\"prompt\":\"hi\""},
    {"/infill", "{\"input_suffix\":\"hi\""},
    {"/tokenize", "{\"content\":\"hi\""},
    {"/api/chat", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"/api/generate", "{\"prompt\":\"hi\""},
    {"/api/show", "{\"model\":\"m\""},
    {"/api/pull", "{\"model\":\"m\""},
    {"/api/v0/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {"/api/v0/completions", "{\"prompt\":\"hi\""},
    {"/api/v1/chat", "{\"input\":\"hi\""},
    {"/api/v1/models/load", "{\"model\":\"m\""},
    {"/api/v1/models/download", "{\"model\":\"m\""},
    {"/v1/embeddings", "{\"input\":\"hi\""},
    {"/api/v0/embeddings", "{\"input\":\"hi\""},
    {"/embedding", "{\"input\":\"hi\""},
    {"/api/embed", "{\"input\":\"hi\""},
    {"/api/embeddings", "{\"prompt\":\"hi\""},
    {"/detokenize", "{\"tokens\":[1]"},
    {"/apply-template", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
};

static const struct api_endpoint *find(const char *path)
{
    struct slice id;
    const char *allow;
    return api_endpoint_find(SLICE_LIT("POST"), slice_of(path), &id, &allow);
}

static enum status read_body(const struct api_dialect *dialect, const char *body,
                             struct api_error *error)
{
    struct api_context context = {.model_name = "m",
                                  .n_vocab = FAKE_VOCAB,
                                  .n_ctx = 2048,
                                  .info = engine_info(engine),
                                  .tokenizer = engine_tokenizer(engine),
                                  .keeps = true,
                                  .now_unix_s = 1};
    if (dialect->answer) {
        struct api_ask ask = {.fleet = fleet,
                              .engine = engine,
                              .info = engine_info(engine),
                              .context = context,
                              .body = slice_of(body),
                              .is_admin = true};
        struct buf out;
        buf_init(&out, 1 << 20);
        enum status answered = api_answer(dialect, &ask, &out, error);
        buf_release(&out);
        return answered;
    }
    struct engine_request *r = engine_request_new(engine);
    struct api_call *call = NULL;
    enum status st =
        api_call_new(dialect, slice_of(body), (struct slice){"", 0}, &context, r, &call, error);
    api_call_free(call);
    engine_request_free(r);
    return st;
}

/* The body with the field put in, in the place of one that it has already. */
static void with_field(char *out, size_t size, const char *body, const char *name,
                       const char *value)
{
    char key[80], inner[512];
    const char *dot = strchr(name, '.');
    if (dot) { /* a field within a field */
        char outer[64];
        snprintf(outer, sizeof outer, "%.*s", (int)(dot - name), name);
        snprintf(inner, sizeof inner, "{\"%s\":%s}", dot + 1, value);
        with_field(out, size, body, outer, inner);
        return;
    }
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(body, key);
    if (!at || (at[-1] != '{' && at[-1] != ',') || at - body > 20) {
        snprintf(out, size, "%s,%s%s}", body, key, value);
        return;
    }
    const char *rest = strstr(at, ",\"messages\""); /* of max_tokens */
    snprintf(out, size, "%.*s%s%s%s}", (int)(at - body), body, key, value,
             rest && rest != at - 1 ? rest : "");
}

static void check_field(const struct api_dialect *dialect, const char *body,
                        const struct api_field *field)
{
    char text[1024];
    struct api_error error = {0};
    if (field->verdict == FIELD_NONE) {
        assert_null(field->wrong);
        with_field(text, sizeof text, body, field->name, "\"x\"");
        assert_int_equal(read_body(dialect, text, &error), OK);
        return;
    }
    if (!field->wrong)
        fail_msg("%s has no value to be refused", field->name);
    with_field(text, sizeof text, body, field->name, field->wrong);
    if (read_body(dialect, text, &error) == OK)
        fail_msg("taken: %s", text);
    if (strncmp(error.param, field->name, strlen(field->name)) != 0 || error.http != 400)
        fail_msg("%s: %d param=%s: %s", text, error.http, error.param, error.message);
    if (field->neutral) {
        with_field(text, sizeof text, body, field->name, field->neutral);
        if (read_body(dialect, text, &error) != OK)
            fail_msg("%s: %s", text, error.message);
    }
}

static void each_field_is_as_the_table_says(void **state)
{
    (void)state;
    size_t n = 0;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        const struct api_endpoint *at = find(bodies[i].path);
        char whole[1024];
        struct api_error error = {0};
        assert_non_null(at);
        snprintf(whole, sizeof whole, "%s}", bodies[i].body);
        if (read_body(at->dialect, whole, &error) != OK)
            fail_msg("%s: %s", whole, error.message);
        for (size_t j = 0; at->dialect->fields[j]; j++)
            for (size_t k = 0; k < at->dialect->fields[j]->n; k++, n++)
                check_field(at->dialect, bodies[i].body, &at->dialect->fields[j]->fields[k]);
    }
    assert_true(n > 80);
}

static void the_written_table_has_no_empty_cell(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    api_conformance_write(&b);
    assert_false(b.failed);
    size_t n_rows = 0;
    for (char *line = b.ptr; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *end = strchr(line, '\n');
        if (strncmp(line, "| `", 3) != 0)
            continue;
        n_rows++;
        /* The last cell holds notes, which may lack. */
        for (char *cell = strchr(line + 1, '|'); cell && cell < end; cell = strchr(cell + 1, '|')) {
            const char *next = strchr(cell + 1, '|');
            if (!next || next > end || next + 1 == end)
                break;
            assert_true(strncmp(cell, "| yes ", 6) == 0 || strncmp(cell, "| refused ", 10) == 0 ||
                        strncmp(cell, "| not applicable ", 17) == 0);
        }
    }
    assert_true(n_rows > 40);
    buf_release(&b);
}

static void finds_paths(void **state)
{
    (void)state;
    struct slice id;
    const char *allow;
    const struct api_endpoint *at =
        api_endpoint_find(SLICE_LIT("GET"), SLICE_LIT("/v1/models/a/b"), &id, &allow);
    assert_non_null(at);
    assert_int_equal(at->serves, API_MODEL);
    assert_true(slice_is(id, "a/b"));
    assert_null(api_endpoint_find(SLICE_LIT("GET"), SLICE_LIT("/v1/models/"), &id, &allow));
    assert_null(allow);
    assert_null(api_endpoint_find(SLICE_LIT("PUT"), SLICE_LIT("/v1/models"), &id, &allow));
    assert_string_equal(allow, "GET");
    assert_null(api_endpoint_find(SLICE_LIT("GET"), SLICE_LIT("/v1"), &id, &allow));
    assert_null(allow);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(each_field_is_as_the_table_says),
        T(the_written_table_has_no_empty_cell),
        T(finds_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
