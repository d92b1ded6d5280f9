/* SPDX-License-Identifier: MIT
 * suite_test.c — goal: schemas mean what the JSON Schema test suite (draft 7, Debian's package
 * json-schema-test-suite) says.
 * Method: each schema of the suite becomes a grammar or is refused by name.  Where it is not
 * refused, each valid instance can be written in some order of its members, each invalid one in
 * none.  What may be refused, and the few texts that are never written (1.0 for an integer), are
 * listed here: anything else that is refused or differs fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grammar/grammar.h"
#include "text/json.h"

#define FOLDER     "/usr/share/json-schema-test-suite/tests/draft7/"
#define ORDERS_MAX 2000

static uint32_t n_schemas, n_refused, n_valid, n_invalid, n_wrong;

static char *read_all(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    char *text = malloc(1 << 20);
    *len = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

/* Files whose keyword is refused somewhere in them. */
static bool may_refuse(const char *file)
{
    static const char *const names[] = {"contains", "dependencies", "if-then-else", "not",
                                        "oneOf",    "uniqueItems",  "refRemote",    "definitions",
                                        "ref",      "allOf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(file, names[i]) == 0)
            return true;
    return false;
}

/* Draft 6 lets a number with a zero fraction be an integer; none is written that way. */
static bool is_never_written(const char *what)
{
    return strstr(what, "a float with zero fractional part is an integer") != NULL ||
           strstr(what, "a bignum is an integer") != NULL ||
           strcmp(what, "ref valid, maxItems ignored") == 0; /* with a $schema of draft 7 only */
}

static void swap_members(struct json *v, size_t i, size_t j)
{
    struct json_member m = v->members[i];
    v->members[i] = v->members[j];
    v->members[j] = m;
}

static bool matches(const struct grammar *g, const struct json *instance)
{
    struct buf b;
    struct err e;
    bool yes;
    buf_init(&b, 1 << 20);
    json_write(&b, instance, (struct json_style){.is_compact = true});
    assert_int_equal(grammar_matches(g, buf_slice(&b), &yes, &e), OK);
    buf_release(&b);
    return yes;
}

/* Some order of the members of all objects in list [n], from the i-th on, place k on. */
static bool some_order(const struct grammar *g, const struct json *instance, struct json **list,
                       size_t n, size_t i, size_t k, uint32_t *tried)
{
    if (*tried >= ORDERS_MAX)
        return false;
    if (i == n) {
        ++*tried;
        return matches(g, instance);
    }
    if (k + 1 >= list[i]->count)
        return some_order(g, instance, list, n, i + 1, 0, tried);
    for (size_t j = k; j < list[i]->count; j++) {
        swap_members(list[i], k, j);
        bool yes = some_order(g, instance, list, n, i, k + 1, tried);
        swap_members(list[i], k, j);
        if (yes)
            return true;
    }
    return false;
}

static void collect(struct json *v, struct json **list, size_t *n)
{
    if (v->kind == JSON_OBJECT && *n < 64)
        list[(*n)++] = v;
    for (size_t i = 0; i < v->count; i++)
        if (v->kind == JSON_OBJECT)
            collect(&v->members[i].value, list, n);
        else if (v->kind == JSON_ARRAY)
            collect(&v->items[i], list, n);
}

static void check_instance(const struct grammar *g, const struct json *test, const char *where)
{
    const struct json *data = json_get(test, "data"), *what = json_get(test, "description");
    bool valid = json_get(test, "valid")->boolean;
    struct json *list[64];
    size_t n = 0;
    uint32_t tried = 0;
    collect((struct json *)(uintptr_t)data, list, &n);
    bool yes = some_order(g, data, list, n, 0, 0, &tried);
    *(valid ? &n_valid : &n_invalid) += 1;
    if (yes == valid || (valid && is_never_written(what->text.ptr)))
        return;
    n_wrong++;
    fprintf(stderr, "%s: \"%s\" should be %s\n", where, what->text.ptr,
            valid ? "valid" : "invalid");
}

static void check_file(const char *file)
{
    char path[256], where[512];
    size_t len = 0;
    struct arena a;
    struct json *groups;
    struct err e;
    snprintf(path, sizeof path, FOLDER "%s.json", file);
    char *text = read_all(path, &len);
    assert_non_null(text);
    arena_init(&a, 64 << 20);
    assert_int_equal(json_parse((struct slice){text, len}, &a, &groups, &e), OK);
    for (size_t i = 0; i < groups->count; i++) {
        const struct json *group = &groups->items[i], *tests = json_get(group, "tests");
        struct grammar *g = NULL;
        n_schemas++;
        enum status st = grammar_from_schema(json_get(group, "schema"), &g, &e);
        snprintf(where, sizeof where, "%s: %s", file, json_get(group, "description")->text.ptr);
        if (st != OK) {
            bool nothing = st == E_INVALID && strstr(e.msg, "nothing can satisfy");
            for (size_t j = 0; nothing && j < tests->count; j++)
                assert_false(json_get(&tests->items[j], "valid")->boolean);
            if (!nothing && (st != E_UNSUPPORTED || !may_refuse(file))) {
                n_wrong++;
                fprintf(stderr, "%s: %s\n", where, e.msg);
            }
            n_refused += !nothing;
            continue;
        }
        for (size_t j = 0; j < tests->count; j++)
            check_instance(g, &tests->items[j], where);
        grammar_free(g);
    }
    arena_release(&a);
    free(text);
}

static void all_files(void **state)
{
    (void)state;
    static const char *const files[] = {"additionalItems",
                                        "additionalProperties",
                                        "allOf",
                                        "anyOf",
                                        "boolean_schema",
                                        "const",
                                        "contains",
                                        "default",
                                        "definitions",
                                        "dependencies",
                                        "enum",
                                        "exclusiveMaximum",
                                        "exclusiveMinimum",
                                        "if-then-else",
                                        "items",
                                        "maxItems",
                                        "maxLength",
                                        "maxProperties",
                                        "maximum",
                                        "minItems",
                                        "minLength",
                                        "minProperties",
                                        "minimum",
                                        "multipleOf",
                                        "not",
                                        "oneOf",
                                        "pattern",
                                        "patternProperties",
                                        "properties",
                                        "propertyNames",
                                        "ref",
                                        "refRemote",
                                        "required",
                                        "type",
                                        "uniqueItems"};
    FILE *there = fopen(FOLDER "type.json", "rb");
    if (!there) {
        print_message("json-schema-test-suite is not installed: nothing compared\n");
        skip();
    }
    fclose(there);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        check_file(files[i]);
    print_message("%u schemas, %u refused by name, %u valid and %u invalid instances, %u wrong\n",
                  n_schemas, n_refused, n_valid, n_invalid, n_wrong);
    assert_int_equal(n_wrong, 0);
    assert_true(n_schemas - n_refused >= 92);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
