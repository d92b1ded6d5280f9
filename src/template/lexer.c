/* SPDX-License-Identifier: MIT
 * lexer.c — a state machine that equals jinja2's regular expressions (lexer.py, 3.1.6):
 *   root: text up to "{%", "{{" or "{#"; "-" strips blanks before it, "+" keeps them, otherwise
 * blanks between a line start and "{%" or "{#" go (lstrip_blocks) tag:  tokens up to "%}" or "}}";
 * "-%}" strips blanks behind it, "%}" one line end (trim_blocks); an end inside open brackets is no
 * end. */
#include "template/lexer.h"

#include <stdio.h>

#include "template/ast.h"
#include "template/unicode.h"

void lexer_init(struct lexer *l, struct slice source, struct arena *a, struct err *e)
{
    *l = (struct lexer){
        .source = source, .arena = a, .err = e, .line_starting = true, .queued = T_END};
}

struct template_place template_place_of(struct slice source, size_t at)
{
    struct template_place place = {1, 1};
    for (size_t i = 0; i < at && i < source.len; i++) {
        place.column++;
        if (source.ptr[i] == '\n') {
            place.line++;
            place.column = 1;
        }
    }
    return place;
}

enum status lexer_fail(struct lexer *l, enum status st, size_t at, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct template_place p = template_place_of(l->source, at);
    return err_at(l->err, st, at, "line %u, column %u: %s", p.line, p.column, text);
}

static char peek(const struct lexer *l, size_t ahead)
{
    return ahead < l->source.len - l->at ? l->source.ptr[l->at + ahead] : '\0';
}

static bool has(const struct lexer *l, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at <= l->source.len && l->source.len - at >= n &&
           memcmp(l->source.ptr + at, text, n) == 0;
}

static size_t skip_space(const struct lexer *l, size_t at)
{
    while (at < l->source.len) {
        size_t next = at;
        if (!unicode_is_space(unicode_next(l->source, &next, NULL)))
            break;
        at = next;
    }
    return at;
}

/* ---- text between tags ---- */

/* What begins a tag: its kind, the sign behind the two braces, and where the tag's inside starts.
 */
struct opening {
    char kind; /* '%', '{', '#', 'r' for {% raw %}, 0: none */
    char sign; /* '-', '+' or 0 */
    size_t at, inside;
};

/* {%-? raw -?%}: where the raw text begins, or 0. */
static size_t raw_inside(const struct lexer *l, size_t at)
{
    size_t p = skip_space(l, at);
    if (!has(l, p, "raw"))
        return 0;
    p = skip_space(l, p + 3);
    if (has(l, p, "-%}"))
        return skip_space(l, p + 3);
    return has(l, p, "%}") ? p + 2 : 0;
}

static struct opening find_opening(const struct lexer *l)
{
    for (size_t at = l->at; at + 1 < l->source.len; at++) {
        const char *p = memchr(l->source.ptr + at, '{', l->source.len - 1 - at);
        if (!p)
            break;
        at = (size_t)(p - l->source.ptr);
        char kind = p[1];
        if (kind != '%' && kind != '{' && kind != '#')
            continue;
        struct opening o = {.kind = kind, .at = at, .inside = at + 2};
        if (has(l, o.inside, "-") || has(l, o.inside, "+"))
            o.sign = l->source.ptr[o.inside++];
        size_t raw = kind == '%' ? raw_inside(l, o.inside) : 0;
        if (raw) {
            o.kind = 'r';
            o.inside = raw;
        }
        return o;
    }
    return (struct opening){.at = l->source.len, .inside = l->source.len};
}

/* The text before a tag after its sign or lstrip_blocks have had their way. */
static struct slice before_tag(const struct lexer *l, size_t start, size_t end, char sign,
                               bool is_variable)
{
    struct slice text = {l->source.ptr + start, end - start};
    if (sign == '-')
        return unicode_strip(text, false, true);
    if (sign == '+' || is_variable)
        return text;
    size_t line = text.len;
    while (line > 0 && text.ptr[line - 1] != '\n')
        line--;
    if (line == 0 && !l->line_starting)
        return text;
    struct slice tail = {text.ptr + line, text.len - line};
    if (tail.len > 0 && unicode_strip(tail, true, true).len == 0)
        text.len = line;
    return text;
}

/* Behind "%}" or "#}" (its end at `at`): "-" strips blanks, "+" keeps, else one line end goes. */
static size_t after_tag(const struct lexer *l, size_t at, char sign)
{
    if (sign == '-')
        return skip_space(l, at);
    return sign != '+' && has(l, at, "\n") ? at + 1 : at;
}

static void move_to(struct lexer *l, size_t at)
{
    l->line_starting = at > 0 && l->source.ptr[at - 1] == '\n';
    l->at = at;
}

static enum status skip_comment(struct lexer *l, struct opening o)
{
    const char *end = memmem(l->source.ptr + o.inside, l->source.len - o.inside, "#}", 2);
    if (!end)
        return lexer_fail(l, E_SYNTAX, o.at, "comment without end");
    size_t at = (size_t)(end - l->source.ptr);
    char before = at > o.inside ? end[-1] : 0;
    move_to(l, after_tag(l, at + 2, before == '-' || before == '+' ? before : 0));
    return OK;
}

/* Raw text up to {% endraw %}, as a T_DATA. */
static enum status take_raw(struct lexer *l, struct opening o, struct token *out)
{
    for (size_t at = o.inside; at + 1 < l->source.len; at++) {
        if (!has(l, at, "{%"))
            continue;
        size_t p = at + 2;
        char sign = has(l, p, "-") ? '-' : has(l, p, "+") ? '+' : 0;
        p = skip_space(l, sign ? p + 1 : p);
        if (!has(l, p, "endraw"))
            continue;
        p = skip_space(l, p + 6);
        char end_sign = has(l, p, "-") ? '-' : has(l, p, "+") ? '+' : 0;
        if (!has(l, end_sign ? p + 1 : p, "%}"))
            continue;
        l->line_starting = o.inside > 0 && l->source.ptr[o.inside - 1] == '\n';
        *out = (struct token){T_DATA, (uint32_t)o.inside, before_tag(l, o.inside, at, sign, false)};
        move_to(l, after_tag(l, p + (end_sign ? 3 : 2), end_sign));
        return OK;
    }
    return lexer_fail(l, E_SYNTAX, o.at, "raw block without end");
}

/* One T_DATA (maybe empty) and what follows it. */
static enum status next_root(struct lexer *l, struct token *out)
{
    size_t start = l->at;
    struct opening o = find_opening(l);
    struct slice text = {l->source.ptr + start, o.at - start};
    if (o.kind)
        text = before_tag(l, start, o.at, o.sign, o.kind == '{');
    *out = (struct token){T_DATA, (uint32_t)start, text};
    switch (o.kind) {
    case 0:
        l->at = l->source.len;
        if (text.len == 0)
            out->kind = T_END;
        return OK;
    case '#':
        return skip_comment(l, o);
    case 'r':
        if (text.len > 0) { /* come back for the raw text, with an opening right here */
            l->at = o.at;
            l->line_starting = false;
            return OK;
        }
        return take_raw(l, o, out);
    default:
        move_to(l, o.inside);
        l->state = o.kind == '{' ? LEX_VARIABLE : LEX_BLOCK;
        l->queued = o.kind == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN;
        l->queued_at = (uint32_t)o.at;
        return OK;
    }
}

/* ---- inside tags ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_base_digit(char c, int base)
{
    int v = is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
    return v < base;
}

/* (_?digit)* from `at`. */
static size_t digits_end(const struct lexer *l, size_t at, int base)
{
    struct slice s = l->source;
    for (;;) {
        size_t p = at < s.len && s.ptr[at] == '_' ? at + 1 : at;
        if (p >= s.len || !is_base_digit(s.ptr[p], base))
            return at;
        at = p + 1;
    }
}

/* Digits, then a fraction or an exponent or both; 0 when the number is no float. */
static size_t float_end(const struct lexer *l)
{
    struct slice s = l->source;
    size_t at = digits_end(l, l->at, 10);
    bool is_float = false;
    if (l->at > 0 && s.ptr[l->at - 1] == '.')
        return 0; /* x.0.1: indices, no number */
    if (at + 1 < s.len && s.ptr[at] == '.' && is_digit(s.ptr[at + 1])) {
        at = digits_end(l, at + 1, 10);
        is_float = true;
    }
    if (at + 1 < s.len && (s.ptr[at] | 32) == 'e') {
        size_t p = at + 1;
        if (s.ptr[p] == '+' || s.ptr[p] == '-')
            p++;
        if (p < s.len && is_digit(s.ptr[p]))
            return digits_end(l, p, 10);
    }
    return is_float ? at : 0;
}

static size_t integer_end(const struct lexer *l)
{
    char prefix = (char)(peek(l, 1) | 32);
    if (peek(l, 0) == '0') {
        int base = prefix == 'b' ? 2 : prefix == 'o' ? 8 : prefix == 'x' ? 16 : 0;
        size_t end = base ? digits_end(l, l->at + 2, base) : 0;
        if (end > l->at + 2)
            return end;
        return digits_end(l, l->at + 1,
                          1); /* zeros only: 01 is two numbers, which no rule allows */
    }
    return digits_end(l, l->at, 10);
}

static struct slice without_underscores(struct lexer *l, size_t end)
{
    struct slice s = {l->source.ptr + l->at, end - l->at};
    if (!memchr(s.ptr, '_', s.len))
        return s;
    char *copy = arena_alloc(l->arena, s.len, 1);
    size_t n = 0;
    for (size_t i = 0; copy && i < s.len; i++)
        if (s.ptr[i] != '_')
            copy[n++] = s.ptr[i];
    return (struct slice){copy ? copy : "", n};
}

static size_t name_end(const struct lexer *l)
{
    size_t at = l->at;
    while (at < l->source.len) {
        size_t next = at;
        uint32_t cp = unicode_next(l->source, &next, NULL);
        bool is_word =
            cp < 128 ? is_digit((char)cp) || cp == '_' || ((cp | 32) >= 'a' && (cp | 32) <= 'z')
                     : (unicode_class(cp) & UNI_ALNUM) != 0;
        if (!is_word)
            break;
        at = next;
    }
    return at;
}

/* Closing quote of the string at l->at, or 0. */
static size_t string_end(const struct lexer *l)
{
    char quote = l->source.ptr[l->at];
    for (size_t p = l->at + 1; p < l->source.len; p++) {
        if (l->source.ptr[p] == quote)
            return p;
        if (l->source.ptr[p] == '\\')
            p++;
    }
    return 0;
}

/* Value of n hexadecimal digits, or -1. */
static int64_t hex_value(struct slice s, size_t at, size_t n)
{
    int64_t v = 0;
    if (s.len - at < n || at > s.len)
        return -1;
    for (size_t i = at; i < at + n; i++) {
        if (!is_base_digit(s.ptr[i], 16))
            return -1;
        v = v * 16 + (is_digit(s.ptr[i]) ? s.ptr[i] - '0' : (s.ptr[i] | 32) - 'a' + 10);
    }
    return v;
}

/* Octal escape: up to three digits. */
static uint32_t octal(struct slice s, size_t *at)
{
    uint32_t v = 0;
    size_t end = *at + 3;
    while (*at < end && *at < s.len && s.ptr[*at] >= '0' && s.ptr[*at] <= '7')
        v = v * 8 + (uint32_t)(s.ptr[(*at)++] - '0');
    return v;
}

/* \xHH, \uHHHH, \UHHHHHHHH behind the letter; surrogate pairs are put together. */
static bool hex_escape(struct slice s, size_t *at, size_t n, uint32_t *cp)
{
    int64_t v = hex_value(s, *at, n);
    if (v < 0 || v > 0x10FFFF)
        return false;
    *at += n;
    if (v >= 0xD800 && v <= 0xDBFF && s.len - *at >= 6 && s.ptr[*at] == '\\' &&
        s.ptr[*at + 1] == 'u') {
        int64_t low = hex_value(s, *at + 2, 4);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
            *at += 6;
        }
    }
    *cp = (uint32_t)v;
    return true;
}

/* One escape; s.ptr[*at] is the character behind the backslash.  Writes at most 4 bytes, never more
 * than the escape took. */
static enum status decode_escape(struct lexer *l, struct slice s, size_t *at, char *out, size_t *n)
{
    static const char plain[] = "n\nt\tr\rb\bf\fv\va\a\\\\''\"\"";
    char c = s.ptr[*at];
    uint32_t cp;
    for (size_t i = 0; i + 1 < sizeof plain; i += 2) {
        if (plain[i] == c) {
            out[(*n)++] = plain[i + 1];
            ++*at;
            return OK;
        }
    }
    if (c == '\n') { /* a line that goes on */
        ++*at;
        return OK;
    }
    if (c >= '0' && c <= '7') {
        *n += utf8_encode(octal(s, at), out + *n);
        return OK;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (c == 'N')
        return lexer_fail(l, E_UNSUPPORTED, l->at, "\\N{…} in a string");
    if (!digits) {
        out[(*n)++] = '\\'; /* no escape: the backslash stays */
        return OK;
    }
    ++*at;
    if (!hex_escape(s, at, digits, &cp))
        return lexer_fail(l, E_SYNTAX, l->at, "malformed \\%c escape in a string", c);
    *n += utf8_encode(cp, out + *n);
    return OK;
}

static enum status decode_string(struct lexer *l, size_t end, struct slice *out)
{
    struct slice s = {l->source.ptr + l->at + 1, end - l->at - 1};
    *out = s;
    if (!memchr(s.ptr, '\\', s.len))
        return OK;
    char *text = arena_alloc(l->arena, s.len + 4, 1);
    size_t n = 0;
    if (!text)
        return lexer_fail(l, E_LIMIT, l->at, "the template is too large");
    for (size_t at = 0; at < s.len;) {
        if (s.ptr[at] != '\\') {
            text[n++] = s.ptr[at++];
            continue;
        }
        at++;
        enum status st = decode_escape(l, s, &at, text, &n);
        if (st != OK)
            return st;
    }
    *out = (struct slice){text, n};
    return OK;
}

static enum status take_bracket(struct lexer *l, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (l->brackets == LEXER_BRACKETS_MAX)
            return lexer_fail(l, E_LIMIT, l->at, "more than %d open brackets", LEXER_BRACKETS_MAX);
        l->expected[l->brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->brackets == 0)
            return lexer_fail(l, E_SYNTAX, l->at, "unexpected '%c'", c);
        if (l->expected[--l->brackets] != c)
            return lexer_fail(l, E_SYNTAX, l->at, "unexpected '%c', expected '%c'", c,
                              l->expected[l->brackets]);
    }
    return OK;
}

static enum status take_operator(struct lexer *l, struct token *out)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (has(l, l->at, operators[i])) {
            *out = (struct token){T_OPERATOR, (uint32_t)l->at, slice_of(operators[i])};
            enum status st = take_bracket(l, *operators[i]);
            move_to(l, l->at + out->text.len);
            return st;
        }
    }
    return lexer_fail(l, E_SYNTAX, l->at, "unexpected character '%c'",
                      peek(l, 0) >= ' ' && peek(l, 0) < 127 ? peek(l, 0) : '?');
}

/* End of the tag here?  Moves behind it. */
static bool take_end(struct lexer *l, struct token *out)
{
    bool is_block = l->state == LEX_BLOCK;
    char first = peek(l, 0);
    char sign = first == '-' || (is_block && first == '+') ? first : 0;
    size_t at = l->at + (sign ? 1 : 0);
    if (l->brackets > 0 || !has(l, at, is_block ? "%}" : "}}"))
        return false;
    *out = (struct token){is_block ? T_BLOCK_END : T_VARIABLE_END, (uint32_t)l->at, {"", 0}};
    at += 2;
    if (is_block)
        move_to(l, after_tag(l, at, sign));
    else
        move_to(l, sign ? skip_space(l, at) : at);
    l->state = LEX_ROOT;
    return true;
}

static enum status take_word(struct lexer *l, struct token *out)
{
    size_t end;
    *out = (struct token){.at = (uint32_t)l->at};
    if (is_digit(peek(l, 0))) {
        end = float_end(l);
        out->kind = end ? T_FLOAT : T_INTEGER;
        end = end ? end : integer_end(l);
        out->text = without_underscores(l, end);
        move_to(l, end);
        return OK;
    }
    if (peek(l, 0) == '\'' || peek(l, 0) == '"') {
        end = string_end(l);
        if (!end)
            return lexer_fail(l, E_SYNTAX, l->at, "string without end");
        out->kind = T_STRING;
        enum status st = decode_string(l, end, &out->text);
        move_to(l, end + 1);
        return st;
    }
    end = name_end(l);
    if (end == l->at)
        return take_operator(l, out);
    out->kind = T_NAME;
    out->text = (struct slice){l->source.ptr + l->at, end - l->at};
    move_to(l, end);
    return OK;
}

enum status lexer_next(struct lexer *l, struct token *out)
{
    if (l->queued != T_END) {
        *out = (struct token){l->queued, l->queued_at, {"", 0}};
        l->queued = T_END;
        return OK;
    }
    if (l->state == LEX_ROOT) {
        if (l->at < l->source.len)
            return next_root(l, out);
        *out = (struct token){T_END, (uint32_t)l->source.len, {"", 0}};
        return OK;
    }
    for (;;) {
        if (l->at >= l->source.len) {
            *out = (struct token){T_END, (uint32_t)l->source.len, {"", 0}};
            return OK;
        }
        if (take_end(l, out))
            return OK;
        size_t next = skip_space(l, l->at);
        if (next == l->at)
            return take_word(l, out);
        move_to(l, next);
    }
}
