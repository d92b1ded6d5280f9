/* SPDX-License-Identifier: MIT
 * bench_run.c — see bench_run.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "os/clock.h"
#include "tests/bench/bench_run.h"

#define RUN_MS_MAX 250000u

const char *program, *stub_program;
char place[PLACE_PATH_BYTES];

/* ---- a stub and a run ---- */
void stub_log(struct stub *s, struct buf *out)
{
    buf_init(out, 64u << 20);
    child_read(&s->child, CHILD_OUT, out);
}

void start_stub(struct stub *s, const char *const *words)
{
    const char *argv[24] = {stub_program};
    size_t n = 1;
    for (; *words; words++)
        argv[n++] = *words;
    MUST(child_start(&s->child, argv, NULL, e));
    for (unsigned i = 0; i < 2000; i++) {
        struct buf text;
        stub_log(s, &text);
        bool is_there = text.len && sscanf(text.ptr, "stub: listening on %u", &s->port) == 1;
        buf_release(&text);
        if (is_there)
            return;
        clock_sleep_ms(2);
    }
    fail_msg("the stub did not start");
}

void release(struct outcome *o)
{
    child_result_release(&o->result);
    arena_release(&o->arena);
}

void read_results(struct outcome *o)
{
    char path[PLACE_PATH_BYTES + 40];
    struct buf text;
    snprintf(path, sizeof path, "%s/out/results.json", place);
    arena_init(&o->arena, 1u << 30);
    buf_init(&text, 256u << 20);
    MUST(place_read(path, &text, e));
    MUST(json_parse(buf_slice(&text), &o->arena, &o->json, e));
    buf_release(&text);
}

void bench(struct outcome *o, const char *system, unsigned port, ...)
{
    char name[200], *percent, out[PLACE_PATH_BYTES + 8];
    const char *argv[60] = {program, "bench", "--out", out, "--system", name};
    size_t n = 6;
    va_list args;
    snprintf(name, sizeof name, "%s", system);
    percent = strstr(name, "PORT");
    if (percent) {
        const char *rest = strstr(system, "PORT") + 4;
        snprintf(percent, sizeof name - (size_t)(percent - name), "%u%s", port, rest);
    }
    snprintf(out, sizeof out, "%s/out", place);
    place_remove(out);
    va_start(args, port);
    for (const char *word; (word = va_arg(args, const char *)) != NULL;)
        argv[n++] = word;
    va_end(args);
    *o = (struct outcome){0};
    MUST(child_run(argv, NULL, RUN_MS_MAX, &o->result, e));
    if (o->result.code != 0)
        fail_msg("kvasir bench: code %d: %s", o->result.code, o->result.err.ptr);
    read_results(o);
}

/* ---- looking at samples ---- */
bool text_is(const struct json *v, const char *key, const char *text)
{
    const struct json *t = json_get(v, key);
    return t && t->kind == JSON_STRING && slice_is(t->text, text);
}

double number(const struct json *v, const char *key)
{
    const struct json *n = json_get(v, key);
    return n && (n->kind == JSON_INT || n->kind == JSON_REAL) ? n->real : -1;
}

bool has_flag(const struct json *v, const char *flag)
{
    const struct json *flags = json_get(v, "flags");
    for (size_t i = 0; flags && i < flags->count; i++)
        if (slice_is(flags->items[i].text, flag))
            return true;
    return false;
}

/* The i-th sample of a case (NULL: any) of a scenario. */
const struct json *sample(const struct outcome *o, const char *scenario, const char *kase,
                          size_t index)
{
    const struct json *list = json_get(o->json, "samples");
    for (size_t i = 0; list && i < list->count; i++)
        if (text_is(&list->items[i], "scenario", scenario) &&
            (!kase || text_is(&list->items[i], "case", kase)) && index-- == 0)
            return &list->items[i];
    return NULL;
}

const struct json *must_have(const struct outcome *o, const char *scenario, const char *kase,
                             size_t index)
{
    const struct json *s = sample(o, scenario, kase, index);
    if (!s)
        fail_msg("no sample %s \"%s\" %zu; stderr: %s; stdout: %s", scenario, kase ? kase : "",
                 index, o->result.err.ptr, o->result.out.ptr);
    return s;
}

bool note_has(const struct json *s, const char *text)
{
    const struct json *note = json_get(s, "note");
    return note && note->kind == JSON_STRING && strstr(note->text.ptr, text);
}
