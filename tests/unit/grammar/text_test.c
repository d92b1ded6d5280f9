/* SPDX-License-Identifier: MIT
 * text_test.c — goal: grammars and schemas allow the texts they should, and no others; what can't
 * be kept is refused by name. Method: a table of grammar, text, verdict; numbers against
 * arithmetic; characters of strings by random classes against the classes; hostile grammars end in
 * a status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "grammar/grammar.h"
#include "text/json.h"
#include "text/utf8.h"

static enum status make(const char *text, bool is_schema, struct grammar **g, struct err *e)
{
    struct arena a;
    struct json *schema;
    if (!is_schema)
        return grammar_from_gbnf(slice_of(text), g, e);
    arena_init(&a, 64 << 20);
    assert_int_equal(json_parse(slice_of(text), &a, &schema, e), OK);
    enum status st = grammar_from_schema(schema, g, e);
    arena_release(&a);
    return st;
}

static bool allows(const struct grammar *g, const char *text)
{
    bool yes;
    struct err e;
    assert_int_equal(grammar_matches(g, slice_of(text), &yes, &e), OK);
    return yes;
}

struct verdict {
    const char *grammar, *yes[8], *no[10];
};

static void check(const struct verdict *v, size_t n, bool is_schema)
{
    for (size_t i = 0; i < n; i++) {
        struct grammar *g;
        struct err e = {0};
        if (make(v[i].grammar, is_schema, &g, &e) != OK)
            fail_msg("%s: %s", v[i].grammar, e.msg);
        for (size_t j = 0; j < 8 && v[i].yes[j]; j++)
            if (!allows(g, v[i].yes[j]))
                fail_msg("%s should allow %s", v[i].grammar, v[i].yes[j]);
        for (size_t j = 0; j < 10 && v[i].no[j]; j++)
            if (allows(g, v[i].no[j]))
                fail_msg("%s should not allow %s", v[i].grammar, v[i].no[j]);
        grammar_free(g);
    }
}

static void gbnf(void **state)
{
    (void)state;
    static const struct verdict rows[] = {
        {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "ye", "yesno", "YES"}},
        {"root ::= [a-c]+ [^0-9]{2,3}\n", {"aXY", "abcaXYZ", "cé✓"}, {"XY", "a1b", "a"}},
        {"# a list\nroot ::= item (\",\" item)*\nitem ::= [0-9]+ # digits\n",
         {"1", "1,22,333"},
         {"", ",", "1,", "a"}},
        {"root ::= \"(\" root \")\" | \"x\"", {"x", "(x)", "(((x)))"}, {"(x", "x)", "()"}},
        {"root ::= \"a\" root | \"\"", {"", "a", "aaaaaaaaaaaa"}, {"b", "ab"}},
        {"root ::= . . \"\\n\" [\\x41\\u00e9\\]]", {"éx\nA", "..\né", "ab\n]"}, {"a\nA", "ab\nB"}},
        {"root ::= (\n  \"a\" |\n  \"b\"\n)? \"c\"", {"c", "ac", "bc"}, {"abc", "a"}},
        {"root ::= x{3} y{,2} z{2,}\nx ::= \"x\"\ny ::= \"y\"\nz ::= \"z\"", {NULL}, {NULL}},
        {"root ::= a b\na ::= \"x\"?\nb ::= a \"y\"", {"y", "xy", "xxy"}, {"xxxy", "x"}},
    };
    check(rows, 7, false);
    check(rows + 8, 1, false);
    struct grammar *g;
    struct err e;
    assert_int_equal(make(rows[7].grammar, false, &g, &e), E_SYNTAX); /* {,2}: a count is missing */
}

static void gbnf_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status st;
        const char *says;
    } rows[] = {
        {"root ::= root \"a\" | \"b\"", E_INVALID, "left-recursive"},
        {"root ::= a \"x\"\na ::= b\nb ::= \"\" a | \"y\"", E_INVALID, "left-recursive"},
        {"root ::= missing", E_INVALID, "not defined"},
        {"start ::= \"a\"", E_INVALID, "root"},
        {"root ::= \"a", E_SYNTAX, "ends inside"},
        {"root ::= (\"a\"", E_SYNTAX, ")"},
        {"root ::= \"a\"\nroot ::= \"b\"", E_INVALID, "defined before"},
        {"root ::= [z-a]", E_SYNTAX, "out of order"},
        {"root ::= \"a\"{5000}", E_LIMIT, "too often"},
        {"root ::= <think>", E_UNSUPPORTED, "tokens"},
        {"root ::= a\na ::= \"x\" a", E_INVALID, "no text"},
        {"root ::= ((((.{4096}){4096}){4096}){4096})", E_LIMIT, ""},
        {"", E_INVALID, "root"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g;
        struct err e = {0};
        assert_int_equal(make(rows[i].text, false, &g, &e), rows[i].st);
        assert_non_null(strstr(e.msg, rows[i].says));
    }
}

static void schemas(void **state)
{
    (void)state;
    static const struct verdict rows[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
         "\"string\"}},"
         "\"required\":[\"a\"],\"additionalProperties\":false}",
         {"{\"a\":1}", "{ \"a\": 1, \"b\": \"x\" }",
          "{\n  \"a\": -20,\n  \"b\": \"\\u00e9\\n\"\n}"},
         {"{}", "{\"b\":\"x\"}", "{\"a\":01}", "{\"a\":1,}", "{\"a\":1,\"c\":2}", "{\"a\":1.5}",
          "{\"a\":1,\"b\":\"\\ud800\"}"}},
        {"{\"type\":\"string\",\"pattern\":\"^a+b?$\"}",
         {"\"a\"", "\"aab\""},
         {"\"b\"", "\"abb\"", "aab", "\"\""}},
        {"{\"type\":\"string\",\"pattern\":\"x|^y\",\"maxLength\":3}",
         {"\"axb\"", "\"y12\"", "\"x\""},
         {"\"ay\"", "\"axbc\""}},
        {"{\"type\":\"string\",\"pattern\":\"\\\"\\\\\\\\\"}", /* a quote, then a backslash */
         {"\"\\\"\\\\\"", "\"é\\\"\\\\z\""},
         {"\"\\\\\\\"\"", "\"\"\\\"\""}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":2}",
         {"\"éé\"", "\"\\n\\u0001\"", "\"\\u001F \""},
         {"\"a\"", "\"abc\"", "\"\\n\""}},
        {"{\"format\":\"date\",\"type\":\"string\"}",
         {"\"2026-11-23\"", "\"2024-02-29\""},
         {"\"2026-13-01\"", "\"2026-04-31\"", "\"26-01-01\""}},
        {"{\"format\":\"ipv6\",\"type\":\"string\"}",
         {"\"::\"", "\"::1\"", "\"2001:db8::8a2e:370:7334\"", "\"1:2:3:4:5:6:7:8\"",
          "\"::ffff:10.0.0.1\""},
         {"\":::\"", "\"1:2:3:4:5:6:7\"", "\"1::2::3\"", "\"12345::\"", "\"1:2:3:4:5:6:7:8:9\""}},
        {"{\"format\":\"duration\",\"type\":\"string\"}",
         {"\"P3Y6M4DT12H30M5S\"", "\"PT36H\"", "\"P2W\""},
         {"\"P\"", "\"PT\"", "\"P1Y2W\"", "\"P1D2H\""}},
        {"{\"enum\":[1,\"a\",null,{\"k\":[1,2]}]}",
         {"1", "\"a\"", "null", "{\"k\": [1, 2]}", "{\"k\":[1,2]}"},
         {"2", "a", "{}", "{\"k\":[1]}"}},
        {"{\"enum\":[1,2,3,\"x\"],\"minimum\":2,\"type\":\"integer\"}",
         {"2", "3"},
         {"1", "\"x\"", "4"}},
        {"{\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"l\":{\"anyOf\":[{\"$ref\":\"#/"
         "$defs/t\"},"
         "{\"type\":\"null\"}]}},\"required\":[\"l\"],\"additionalProperties\":false}},\"$ref\":\"#"
         "/$defs/t\"}",
         {"{\"l\":null}", "{\"l\":{\"l\":{\"l\":null}}}"},
         {"null", "{\"l\":{}}", "{}"}},
        {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"},\"n\":{\"type\":"
         "\"integer\"}},"
         "\"required\":[\"k\",\"n\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"}}"
         ","
         "\"required\":[\"k\"]}]}",
         {"{\"k\":\"a\",\"n\":3}", "{\"k\":\"b\"}", "{\"k\":\"b\",\"n\":\"free\"}"},
         {"{\"k\":\"a\"}", "{\"k\":\"c\"}", "{\"n\":3}"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"boolean\"}],"
         "\"items\":{\"type\":\"null\"},\"minItems\":2,\"maxItems\":4}",
         {"[\"a\",true]", "[ \"a\", false, null, null ]"},
         {"[]", "[\"a\"]", "[\"a\",1]", "[\"a\",true,null,null,null]", "[\"a\",true,1]"}},
        {"{\"type\":\"object\",\"patternProperties\":{\"^n\":{\"type\":\"integer\"},\"s$\":{"
         "\"minimum\":5}},"
         "\"additionalProperties\":false,\"minProperties\":1,\"maxProperties\":2}",
         {"{\"n\":1}", "{\"ns\":7}", "{\"xs\":\"any\",\"n\":0}"},
         {"{}", "{\"x\":1}", "{\"n\":\"a\"}", "{\"ns\":4}", "{\"xs\":4}",
          "{\"n\":1,\"n1\":1,\"n2\":2}"}},
        {"{\"type\":\"object\"}",
         {"{}", "{\"x\":[1,{\"y\":null}]}"},
         {"[]", "1", "{\"x\"}", "{x:1}"}},
        {"true",
         {"1.5e-3", "[[],{}]", "\"\\ud83d\\ude00\""},
         {"\"\\ud83d\"", "01", "nul", "\"\t\""}},
        {"{\"not\":{\"type\":[\"object\",\"array\"]}}", {"1", "\"a\"", "null"}, {"{}", "[]"}},
        {"{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":-20,\"exclusiveMaximum\":21}",
         {"-14", "0", "14", "7"},
         {"-21", "21", "1", "-1", "28"}},
        {"{\"allOf\":[{\"type\":\"number\",\"minimum\":0.5},{\"maximum\":1.25}],\"multipleOf\":0."
         "25}",
         {"0.5", "1", "1.25", "1.0", "0.75"},
         {"0.25", "1.26", "0.6", "1.5", "-0.5"}},
    };
    check(rows, sizeof rows / sizeof *rows, true);
}

static void schemas_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status st;
        const char *says;
    } rows[] = {
        {"{\"uniqueItems\":true}", E_UNSUPPORTED, "uniqueItems"},
        {"{\"if\":{},\"then\":{}}", E_UNSUPPORTED, "\"if\""},
        {"{\"contains\":{}}", E_UNSUPPORTED, "contains"},
        {"{\"oneOf\":[{\"minimum\":1},{\"maximum\":5}]}", E_UNSUPPORTED, "oneOf"},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)b\"}", E_UNSUPPORTED, "look-around"},
        {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", E_UNSUPPORTED, "back references"},
        {"{\"type\":\"string\",\"pattern\":\"a{2,1}\"}", E_SYNTAX, "order"},
        {"{\"type\":\"string\",\"pattern\":\"[a\"}", E_SYNTAX, "]"},
        {"{\"type\":\"text\"}", E_INVALID, "type"},
        {"{\"$ref\":\"#/nowhere\"}", E_INVALID, "nowhere"},
        {"{\"$ref\":\"http://x/y\"}", E_UNSUPPORTED, "another document"},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", E_INVALID, "nothing"},
        {"{\"type\":\"string\",\"maxLength\":1000000}", E_LIMIT, "maxLength"},
        {"{\"type\":\"integer\",\"minimum\":1,\"maximum\":0}", E_INVALID, "nothing"},
        {"{\"not\":{\"const\":1}}", E_UNSUPPORTED, "not"},
        {"false", E_INVALID, "nothing"},
        {"3", E_INVALID, "schema"},
        {"{\"type\":\"number\",\"multipleOf\":0}", E_UNSUPPORTED, "multipleOf"},
        {"{\"required\":[1]}", E_INVALID, "required"},
        {"{\"type\":\"string\",\"pattern\":\"((((a{4000}){4000}){4000}){4000})\"}", E_LIMIT, ""},
        {"{\"anyOf\":[{\"anyOf\":[]}]}", E_INVALID, "anyOf"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g;
        struct err e = {0};
        enum status st = make(rows[i].text, true, &g, &e);
        if (st != rows[i].st || !strstr(e.msg, rows[i].says))
            fail_msg("%s: %s %s", rows[i].text, status_name(st), st == OK ? "" : e.msg);
    }
}

/* All decimals with up to two digits behind the point, between −130 and 130, for some bounds. */
static void numbers(void **state)
{
    (void)state;
    static const int bounds[] = {-12000, -10000, -999, -105, -100, -1,   0,   1,
                                 9,      10,     99,   100,  105,  1250, 9999};
    size_t n = sizeof bounds / sizeof *bounds;
    for (size_t lo = 0; lo < n; lo += 2)
        for (size_t hi = lo; hi < n; hi += 3)
            for (int exclusive = 0; exclusive < 2; exclusive++) {
                char schema[256], text[32];
                struct grammar *g;
                struct err e;
                snprintf(schema, sizeof schema,
                         exclusive ? "{\"type\":\"number\",\"exclusiveMinimum\":%.2f,"
                                     "\"exclusiveMaximum\":%.2f}"
                                   : "{\"type\":\"number\",\"minimum\":%.2f,\"maximum\":%.2f}",
                         bounds[lo] / 100.0, bounds[hi] / 100.0);
                if (exclusive && bounds[hi] == bounds[lo])
                    continue;
                assert_int_equal(make(schema, true, &g, &e), OK);
                for (int v = -13000; v <= 13000; v += v % 100 == 0 ? 1 : 7) {
                    bool want = exclusive ? v > bounds[lo] && v < bounds[hi]
                                          : v >= bounds[lo] && v <= bounds[hi];
                    for (int digits = v % 100 == 0 ? 0 : 2; digits <= 3; digits++) {
                        snprintf(text, sizeof text, "%.*f", digits, v / 100.0);
                        if (allows(g, text) != want)
                            fail_msg("%s: %s", schema, text);
                    }
                }
                grammar_free(g);
            }
}

/* ---- characters ---- */
/* Where UTF-8 changes its length or a byte carries, and what JSON escapes. */
static const uint32_t edges[] = {
    0x00,   0x07,   0x08,   0x0B,    0x0D,    0x0F,    0x10,    0x1F,     0x20,    0x22,   0x2F,
    0x5C,   0x5D,   0x7F,   0x80,    0xBF,    0xC0,    0x7FF,   0x800,    0xFFF,   0x1000, 0xCFFF,
    0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFF};
#define N_EDGES (sizeof edges / sizeof *edges)

static uint32_t near_edge(struct prng *r)
{
    int64_t cp = (int64_t)edges[prng_next(r) % N_EDGES] + (int64_t)(prng_next(r) % 5) - 2;
    cp = cp < 0 ? 0 : cp > 0x10FFFF ? 0x10FFFF : cp;
    return cp >= 0xD800 && cp <= 0xDFFF ? 0xE000 : (uint32_t)cp;
}

static void add_code(struct buf *b, uint32_t cp)
{
    char bytes[4];
    if (cp < 0x20 || cp == ']' || cp == '\\' || cp == '^' || cp == '-')
        buf_printf(b, "\\x%02x", cp);
    else
        buf_add(b, bytes, utf8_encode(cp, bytes));
}

/* "^[a-bc-d]{1,2}$" for two ranges of code points. */
static struct grammar *class_grammar(const uint32_t ranges[4])
{
    struct buf pattern, schema;
    struct grammar *g;
    struct err e;
    buf_init(&pattern, 256);
    buf_init(&schema, 1024);
    buf_add_text(&pattern, "^[");
    for (int i = 0; i < 4; i++) {
        add_code(&pattern, ranges[i]);
        buf_add_text(&pattern, i % 2 ? "" : "-");
    }
    buf_add_text(&pattern, "]{1,2}$");
    buf_add_text(&schema, "{\"type\":\"string\",\"pattern\":");
    json_write_string(&schema, buf_slice(&pattern));
    buf_add(&schema, "}", 2);
    if (make(schema.ptr, true, &g, &e) != OK)
        fail_msg("%s: %s", schema.ptr, e.msg);
    buf_release(&pattern);
    buf_release(&schema);
    return g;
}

static void characters(void **state)
{
    struct prng r = {.seed = 5};
    uint32_t n_in = 0, n_out = 0;
    (void)state;
    for (int round = 0; round < 300; round++) {
        uint32_t a[4];
        for (int i = 0; i < 4; i += 2) {
            uint32_t x = near_edge(&r), y = near_edge(&r);
            a[i] = x < y ? x : y;
            a[i + 1] = x < y ? y : x;
        }
        struct grammar *g = class_grammar(a);
        for (size_t i = 0; i < N_EDGES * 5; i++) {
            char bytes[4];
            struct buf text;
            uint32_t cp = near_edge(&r);
            bool is_in = (cp >= a[0] && cp <= a[1]) || (cp >= a[2] && cp <= a[3]);
            buf_init(&text, 64);
            json_write_string(&text, (struct slice){bytes, utf8_encode(cp, bytes)});
            buf_add_char(&text, '\0');
            if (allows(g, text.ptr) != is_in)
                fail_msg("[%x-%x%x-%x] %s %s", a[0], a[1], a[2], a[3],
                         is_in ? "should allow" : "should not allow", text.ptr);
            n_in += is_in;
            n_out += !is_in;
            buf_release(&text);
        }
        assert_false(allows(g, "\"\""));
        assert_false(allows(g, "\"\xC3\"") || allows(g, "\"\xED\xA0\x80\""));
        grammar_free(g);
    }
    print_message("%u characters in their class, %u out\n", n_in, n_out);
    assert_true(n_in > 1000 && n_out > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gbnf),    cmocka_unit_test(gbnf_refused),
        cmocka_unit_test(schemas), cmocka_unit_test(schemas_refused),
        cmocka_unit_test(numbers), cmocka_unit_test(characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
