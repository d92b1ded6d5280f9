/* SPDX-License-Identifier: MIT
 * fields.c — typed reading of a request's fields; each refusal names the field. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "api/messages.h"

enum status field_fail(struct fields *f, enum status st, const char *name, const char *fmt, ...)
{
    if (f->status != OK)
        return f->status;
    char message[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    struct place at = place("%s%s", f->prefix ? f->prefix : "", name);
    f->status = api_error_set(f->error, st, at.text, "%s: %s", at.text, message);
    return st;
}

const struct json *field(struct fields *f, const char *name)
{
    if (f->status != OK)
        return NULL;
    const struct json *v = json_get(f->object, name);
    return v && v->kind != JSON_NULL ? v : NULL;
}

bool field_bool(struct fields *f, const char *name, bool *out)
{
    const struct json *v = field(f, name);
    if (!v)
        return false;
    if (v->kind != JSON_BOOL) {
        field_fail(f, E_INVALID, name, "must be true or false");
        return false;
    }
    *out = v->boolean;
    return true;
}

bool field_int(struct fields *f, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const struct json *v = field(f, name);
    if (!v)
        return false;
    int64_t value = v->integer;
    /* 40.0 is an integer to JavaScript and to JSON schema. */
    bool is_whole = v->kind == JSON_INT;
    if (v->kind == JSON_REAL && fabs(v->real) < 9e15 && v->real == floor(v->real)) {
        value = (int64_t)v->real;
        is_whole = true;
    }
    if (!is_whole) {
        field_fail(f, E_INVALID, name, "must be an integer");
        return false;
    }
    if (value < min || value > max) {
        field_fail(f, E_INVALID, name, "%" PRId64 " is not in %" PRId64 "…%" PRId64, value, min,
                   max);
        return false;
    }
    *out = value;
    return true;
}

bool field_float(struct fields *f, const char *name, double min, double max, float *out)
{
    const struct json *v = field(f, name);
    if (!v)
        return false;
    if (v->kind != JSON_INT && v->kind != JSON_REAL) {
        field_fail(f, E_INVALID, name, "must be a number");
        return false;
    }
    if (!(v->real >= min && v->real <= max)) {
        field_fail(f, E_INVALID, name, "%g is not in %g…%g", v->real, min, max);
        return false;
    }
    *out = (float)v->real;
    return true;
}

bool field_string(struct fields *f, const char *name, struct slice *out)
{
    const struct json *v = field(f, name);
    if (!v)
        return false;
    if (v->kind != JSON_STRING) {
        field_fail(f, E_INVALID, name, "must be a string");
        return false;
    }
    *out = v->text;
    return true;
}

bool json_is_text(const struct json *v, const char *text)
{
    return v && v->kind == JSON_STRING && slice_is(v->text, text);
}

struct json *json_member(struct json *object, const char *key)
{
    for (size_t i = 0; i < object->count; i++)
        if (slice_is(object->members[i].key, key))
            return &object->members[i].value;
    return NULL;
}
