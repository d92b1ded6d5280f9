/* SPDX-License-Identifier: MIT
 * json_stream.c — RFC 8259 as a machine of bytes. */
#include "text/json_stream.h"

enum state {
    VALUE,        /* a value must come */
    VALUE_OR_END, /* behind [ */
    KEY_OR_END,   /* behind { */
    KEY,          /* behind , in an object */
    COLON,
    STRING,
    ESCAPE,
    HEX,
    LITERAL,
    MINUS,
    ZERO,
    DIGITS,
    POINT,
    FRACTION,
    EXPONENT,
    EXPONENT_SIGN,
    EXPONENT_DIGITS,
    AFTER, /* , or a closer */
    END
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    char low = (char)(c | 0x20);
    return is_digit(c) || (low >= 'a' && low <= 'f');
}

static void value_ended(struct json_stream *s)
{
    s->state = s->depth ? AFTER : END;
}

static bool open(struct json_stream *s, char closer)
{
    if (s->depth == JSON_DEPTH_MAX)
        return false;
    s->closers[s->depth++] = closer;
    s->state = closer == '}' ? KEY_OR_END : VALUE_OR_END;
    return true;
}

static bool begin_literal(struct json_stream *s, const char *rest)
{
    s->literal = rest;
    s->state = LITERAL;
    return true;
}

static bool begin_value(struct json_stream *s, char c)
{
    switch (c) {
    case '{':
        return open(s, '}');
    case '[':
        return open(s, ']');
    case '"':
        s->is_key = false;
        s->state = STRING;
        return true;
    case 't':
        return begin_literal(s, "rue");
    case 'f':
        return begin_literal(s, "alse");
    case 'n':
        return begin_literal(s, "ull");
    case '-':
        s->state = MINUS;
        return true;
    case '0':
        s->state = ZERO;
        return true;
    default:
        s->state = DIGITS;
        return c >= '1' && c <= '9';
    }
}

static bool close_with(struct json_stream *s, char c)
{
    if (s->depth == 0 || s->closers[s->depth - 1] != c)
        return false;
    s->depth--;
    value_ended(s);
    return true;
}

static bool after_value(struct json_stream *s, char c)
{
    if (c != ',')
        return close_with(s, c);
    s->state = s->closers[s->depth - 1] == '}' ? KEY : VALUE;
    return true;
}

static bool begin_key(struct json_stream *s, char c)
{
    s->is_key = true;
    s->state = STRING;
    return c == '"';
}

static bool in_string(struct json_stream *s, char c)
{
    if (c == '\\')
        s->state = ESCAPE;
    else if (c == '"' && s->is_key)
        s->state = COLON;
    else if (c == '"')
        value_ended(s);
    return true;
}

static bool in_escape(struct json_stream *s, char c)
{
    s->n_hex = 0;
    s->state = c == 'u' ? HEX : STRING;
    return c && strchr("\"\\/bfnrtu", c);
}

static bool in_hex(struct json_stream *s, char c)
{
    if (++s->n_hex == 4)
        s->state = STRING;
    return is_hex(c);
}

static bool in_literal(struct json_stream *s, char c)
{
    if (*s->literal != c)
        return false;
    if (*++s->literal == '\0')
        value_ended(s);
    return true;
}

/* *is_behind: the number was complete before c. */
static bool in_number(struct json_stream *s, char c, bool *is_behind)
{
    bool may_end = s->state == ZERO || s->state == DIGITS || s->state == FRACTION ||
                   s->state == EXPONENT_DIGITS;
    if (is_digit(c) && s->state != ZERO) {
        s->state = s->state == MINUS      ? (c == '0' ? ZERO : DIGITS)
                   : s->state == POINT    ? FRACTION
                   : s->state >= EXPONENT ? EXPONENT_DIGITS
                                          : s->state;
        return true;
    }
    if (c == '.' && (s->state == ZERO || s->state == DIGITS)) {
        s->state = POINT;
        return true;
    }
    if ((c == 'e' || c == 'E') && may_end && s->state != EXPONENT_DIGITS) {
        s->state = EXPONENT;
        return true;
    }
    if ((c == '+' || c == '-') && s->state == EXPONENT) {
        s->state = EXPONENT_SIGN;
        return true;
    }
    if (!may_end)
        return false;
    *is_behind = true;
    value_ended(s);
    return true;
}

static bool step(struct json_stream *s, char c, bool *is_behind)
{
    *is_behind = false;
    if (s->state >= MINUS && s->state <= EXPONENT_DIGITS) {
        if (!in_number(s, c, is_behind))
            return false;
        if (!*is_behind || s->state == END)
            return true;
        *is_behind = false;
    }
    bool is_between = s->state <= COLON || s->state == AFTER;
    if (is_between && is_blank(c))
        return true;
    switch ((enum state)s->state) {
    case VALUE:
        return begin_value(s, c);
    case VALUE_OR_END:
        return c == ']' ? close_with(s, c) : begin_value(s, c);
    case KEY_OR_END:
        return c == '}' ? close_with(s, c) : begin_key(s, c);
    case KEY:
        return begin_key(s, c);
    case COLON:
        s->state = VALUE;
        return c == ':';
    case STRING:
        return in_string(s, c);
    case ESCAPE:
        return in_escape(s, c);
    case HEX:
        return in_hex(s, c);
    case LITERAL:
        return in_literal(s, c);
    case AFTER:
        return after_value(s, c);
    default:
        return false;
    }
}

enum json_stream_result json_stream_feed(struct json_stream *s, struct slice text, size_t *used,
                                         struct buf *out)
{
    for (*used = 0; *used < text.len && s->state != END; (*used)++) {
        char c = text.ptr[*used];
        bool is_behind = false, was_string = s->state == STRING;
        struct json_stream before = *s;
        if (!step(s, c, &is_behind)) {
            *s = before; /* so that json_stream_close knows what is open */
            return JSON_STREAM_BAD;
        }
        if (is_behind)
            break;
        if (was_string && (unsigned char)c < 0x20)
            buf_printf(out, "\\u%04x", (unsigned)(unsigned char)c);
        else
            buf_add_char(out, c);
    }
    return s->state == END ? JSON_STREAM_DONE : JSON_STREAM_MORE;
}

/* What is missing until the innermost value or key is whole. */
static void close_token(struct json_stream *s, struct buf *out)
{
    switch ((enum state)s->state) {
    case HEX:
        for (; s->n_hex < 4; s->n_hex++)
            buf_add_char(out, '0');
        buf_add_char(out, '"');
        break;
    case ESCAPE:
        buf_add_text(out, "\\\"");
        break;
    case STRING:
        buf_add_char(out, '"');
        break;
    case LITERAL:
        buf_add_text(out, s->literal);
        break;
    case MINUS:
    case POINT:
    case EXPONENT:
    case EXPONENT_SIGN:
        buf_add_char(out, '0');
        break;
    case KEY:
        buf_add_text(out, "\"\":null");
        break;
    case COLON:
        buf_add_text(out, ":null");
        break;
    case VALUE:
        buf_add_text(out, "null");
        break;
    default:
        break;
    }
    bool is_string = s->state == STRING || s->state == ESCAPE || s->state == HEX;
    if (is_string && s->is_key)
        buf_add_text(out, ":null");
}

void json_stream_close(struct json_stream *s, struct buf *out)
{
    if (s->state == END)
        return;
    close_token(s, out);
    while (s->depth > 0)
        buf_add_char(out, s->closers[--s->depth]);
    s->state = END;
}
