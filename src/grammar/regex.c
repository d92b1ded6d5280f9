/* SPDX-License-Identifier: MIT
 * regex.c — a recursive-descent parser that builds the automaton as it reads (Thompson, 1968).
 * A counted atom is parsed again for each copy that {m,n} asks for, so no tree is needed. */
#include "grammar/regex.h"

#include "base/mem.h"
#include "text/utf8.h"

#define RANGES_MAX 512u

struct parser {
    struct nfa n;
    struct slice text;
    size_t at;
    uint32_t depth;
    struct err *e;
};

static enum status parse_choice(struct parser *p, uint32_t from, uint32_t to);

static bool is_at(const struct parser *p, char c)
{
    return p->at < p->text.len && p->text.ptr[p->at] == c;
}

static bool take(struct parser *p, char c)
{
    if (!is_at(p, c))
        return false;
    p->at++;
    return true;
}

static bool take_text(struct parser *p, const char *text)
{
    struct slice rest = {p->text.ptr + p->at, p->text.len - p->at};
    if (!slice_starts(rest, slice_of(text)))
        return false;
    p->at += strlen(text);
    return true;
}

static uint32_t take_code_point(struct parser *p)
{
    uint32_t cp;
    p->at += utf8_decode(p->text.ptr + p->at, p->text.len - p->at, &cp);
    return cp;
}

static enum status fail(struct parser *p, enum status st, const char *what)
{
    return err_at(p->e, st, p->at, "pattern: %s at byte %zu", what, p->at);
}

/* ---- sets of code points ---- */
struct set {
    struct code_range r[RANGES_MAX];
    uint32_t n;
};

static bool set_add(struct set *s, uint32_t lo, uint32_t hi)
{
    if (s->n == RANGES_MAX)
        return false;
    s->r[s->n++] = (struct code_range){lo, hi};
    return true;
}

static bool set_invert(struct set *s)
{
    struct code_range gaps[RANGES_MAX + 1];
    uint32_t n = ranges_invert(s->r, s->n, gaps);
    if (n > RANGES_MAX)
        return false;
    memcpy(s->r, gaps, n * sizeof *gaps);
    s->n = n;
    return true;
}

static bool set_join(struct set *s, const struct set *other)
{
    for (uint32_t i = 0; i < other->n; i++)
        if (!set_add(s, other->r[i].lo, other->r[i].hi))
            return false;
    return true;
}

/* \d \w \s and their complements; ECMA-262: ASCII for the first two, Unicode space for the last. */
static bool class_of_letter(char letter, struct set *s)
{
    static const struct code_range space[] = {
        {9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
        {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    s->n = 0;
    switch (letter) {
    case 'd':
    case 'D':
        set_add(s, '0', '9');
        break;
    case 'w':
    case 'W':
        set_add(s, '0', '9');
        set_add(s, 'A', 'Z');
        set_add(s, '_', '_');
        set_add(s, 'a', 'z');
        break;
    case 's':
    case 'S':
        for (size_t i = 0; i < sizeof space / sizeof *space; i++)
            set_add(s, space[i].lo, space[i].hi);
        break;
    default:
        return false;
    }
    return letter >= 'a' || set_invert(s);
}

/* ---- escapes ---- */
static bool take_hex(struct parser *p, uint32_t digits, uint32_t *value)
{
    *value = 0;
    for (uint32_t i = 0; i < digits; i++) {
        if (p->at >= p->text.len)
            return false;
        int d = hex_value(p->text.ptr[p->at++]);
        if (d < 0)
            return false;
        *value = *value * 16 + (uint32_t)d;
    }
    return true;
}

static enum status unicode_escape(struct parser *p, uint32_t *cp)
{
    uint32_t digits = 0, low;
    if (take(p, '{')) {
        while (p->at + digits < p->text.len && p->text.ptr[p->at + digits] != '}')
            digits++;
        if (digits == 0 || digits > 6 || !take_hex(p, digits, cp) || !take(p, '}'))
            return fail(p, E_SYNTAX, "\\u{…} wants one to six hex digits");
    } else if (!take_hex(p, 4, cp)) {
        return fail(p, E_SYNTAX, "\\u wants four hex digits");
    }
    if (*cp >= 0xD800 && *cp < 0xDC00 && take_text(p, "\\u")) {
        if (!take_hex(p, 4, &low) || low < 0xDC00 || low > 0xDFFF)
            return fail(p, E_SYNTAX, "half a surrogate pair");
        *cp = 0x10000 + ((*cp - 0xD800) << 10) + (low - 0xDC00);
    }
    return *cp <= CODE_POINT_MAX ? OK : fail(p, E_SYNTAX, "no such code point");
}

/* Behind the backslash: one code point. */
static enum status escaped_code_point(struct parser *p, uint32_t *cp)
{
    if (p->at >= p->text.len)
        return fail(p, E_SYNTAX, "a backslash at the end");
    static const char letters[] = "nrtfv0", values[] = "\n\r\t\f\v"; /* and NUL */
    char c = p->text.ptr[p->at];
    const char *known = c ? strchr(letters, c) : NULL;
    if (known) {
        p->at++;
        *cp = (uint8_t)values[known - letters];
        return OK;
    }
    if (take(p, 'x'))
        return take_hex(p, 2, cp) ? OK : fail(p, E_SYNTAX, "\\x wants two hex digits");
    if (take(p, 'u'))
        return unicode_escape(p, cp);
    if (take(p, 'c')) {
        c = p->at < p->text.len ? p->text.ptr[p->at] : '\0';
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return fail(p, E_SYNTAX, "\\c wants a letter");
        p->at++;
        *cp = (uint32_t)c % 32;
        return OK;
    }
    if (c == 'p' || c == 'P')
        return fail(p, E_UNSUPPORTED, "\\p{…} is not supported");
    if (c == 'b' || c == 'B')
        return fail(p, E_UNSUPPORTED, "word boundaries are not supported");
    if (c >= '1' && c <= '9')
        return fail(p, E_UNSUPPORTED, "back references are not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return fail(p, E_SYNTAX, "unknown escape");
    *cp = take_code_point(p);
    return OK;
}

/* ---- classes ---- */
/* One member of [...]: *is_set when it was \d or its like, which then lies in *s. */
static enum status class_member(struct parser *p, struct set *s, bool *is_set, uint32_t *cp)
{
    *is_set = false;
    if (!take(p, '\\')) {
        *cp = take_code_point(p);
        return OK;
    }
    if (p->at < p->text.len && class_of_letter(p->text.ptr[p->at], s)) {
        p->at++;
        *is_set = true;
        return OK;
    }
    if (take(p, 'b')) { /* inside a class it is a backspace */
        *cp = 8;
        return OK;
    }
    if (take(p, '-')) {
        *cp = '-';
        return OK;
    }
    return escaped_code_point(p, cp);
}

static enum status parse_class(struct parser *p, struct set *s)
{
    bool is_inverted = take(p, '^'), is_set, is_set2;
    s->n = 0;
    while (!take(p, ']')) {
        struct set part;
        uint32_t lo = 0, hi = 0;
        if (p->at >= p->text.len)
            return fail(p, E_SYNTAX, "a class without its ]");
        enum status st = class_member(p, &part, &is_set, &lo);
        if (st != OK)
            return st;
        hi = lo;
        bool is_range =
            !is_set && is_at(p, '-') && p->at + 1 < p->text.len && p->text.ptr[p->at + 1] != ']';
        if (is_range) {
            p->at++;
            st = class_member(p, &part, &is_set2, &hi);
            if (st != OK)
                return st;
            if (is_set2 || hi < lo)
                return fail(p, E_SYNTAX, "a range out of order");
        }
        if (is_set ? !set_join(s, &part) : !set_add(s, lo, hi))
            return fail(p, E_LIMIT, "too many ranges in a class");
    }
    if (is_inverted && !set_invert(s))
        return fail(p, E_LIMIT, "too many ranges in a class");
    return OK;
}

static void set_edges(struct parser *p, const struct set *s, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < s->n; i++)
        nfa_range(&p->n, from, to, s->r[i].lo, s->r[i].hi);
}

/* ---- atoms ---- */
static enum status parse_group(struct parser *p, uint32_t from, uint32_t to)
{
    if (take_text(p, "?=") || take_text(p, "?!") || take_text(p, "?<=") || take_text(p, "?<!"))
        return fail(p, E_UNSUPPORTED, "look-around is not supported");
    if (take_text(p, "?<")) {
        while (p->at < p->text.len && p->text.ptr[p->at] != '>')
            p->at++;
        if (!take(p, '>'))
            return fail(p, E_SYNTAX, "a group's name without its >");
    } else if (is_at(p, '?') && !take_text(p, "?:")) {
        return fail(p, E_SYNTAX, "unknown kind of group");
    }
    if (++p->depth > REGEX_DEPTH_MAX)
        return fail(p, E_LIMIT, "groups too deep");
    enum status st = parse_choice(p, from, to);
    p->depth--;
    if (st == OK && !take(p, ')'))
        st = fail(p, E_SYNTAX, "a group without its )");
    return st;
}

static enum status parse_atom(struct parser *p, uint32_t from, uint32_t to)
{
    struct set s = {.n = 0};
    uint32_t cp;
    if (take(p, '('))
        return parse_group(p, from, to);
    if (take(p, '[')) {
        enum status st = parse_class(p, &s);
        if (st == OK)
            set_edges(p, &s, from, to);
        return st;
    }
    if (take(p, '.')) { /* all but line ends */
        set_add(&s, '\n', '\n');
        set_add(&s, '\r', '\r');
        set_add(&s, 0x2028, 0x2029);
        set_invert(&s);
        set_edges(p, &s, from, to);
        return OK;
    }
    if (take(p, '^')) {
        nfa_empty(&p->n, from, to, NFA_AT_START);
        return OK;
    }
    if (take(p, '$')) {
        nfa_empty(&p->n, from, to, NFA_AT_END);
        return OK;
    }
    if (is_at(p, '*') || is_at(p, '+') || is_at(p, '?'))
        return fail(p, E_SYNTAX, "nothing to repeat");
    if (take(p, '\\')) {
        if (p->at < p->text.len && class_of_letter(p->text.ptr[p->at], &s)) {
            p->at++;
            set_edges(p, &s, from, to);
            return OK;
        }
        enum status st = escaped_code_point(p, &cp);
        if (st != OK)
            return st;
    } else {
        cp = take_code_point(p);
    }
    nfa_range(&p->n, from, to, cp, cp);
    return OK;
}

/* ---- quantifiers ---- */
static bool take_count(struct parser *p, uint32_t *count)
{
    size_t begun = p->at;
    *count = 0;
    while (p->at < p->text.len && p->text.ptr[p->at] >= '0' && p->text.ptr[p->at] <= '9') {
        if (*count <= REGEX_REPEAT_MAX)
            *count = *count * 10 + (uint32_t)(p->text.ptr[p->at] - '0');
        p->at++;
    }
    return p->at > begun;
}

/* {m}, {m,}, {m,n}; anything else that begins with a brace is plain text, as browsers take it. */
static bool take_braces(struct parser *p, uint32_t *least, uint32_t *most)
{
    size_t begun = p->at;
    if (take(p, '{') && take_count(p, least)) {
        *most = *least;
        if (take(p, ',') && !take_count(p, most))
            *most = UINT32_MAX;
        if (take(p, '}'))
            return true;
    }
    p->at = begun;
    return false;
}

static enum status take_quantifier(struct parser *p, uint32_t *least, uint32_t *most)
{
    *least = *most = 1;
    if (take(p, '*')) {
        *least = 0;
        *most = UINT32_MAX;
    } else if (take(p, '+')) {
        *most = UINT32_MAX;
    } else if (take(p, '?')) {
        *least = 0;
    } else if (!take_braces(p, least, most)) {
        return OK;
    }
    take(p, '?'); /* lazy: another order of trying, the same texts */
    if (*least > REGEX_REPEAT_MAX || (*most != UINT32_MAX && *most > REGEX_REPEAT_MAX))
        return fail(p, E_LIMIT, "repeated too often");
    return *least <= *most ? OK : fail(p, E_SYNTAX, "a count out of order");
}

/* The atom at `begun` once more, leaving the position where it was. */
static enum status copy_atom(struct parser *p, size_t begun, uint32_t from, uint32_t to)
{
    size_t here = p->at;
    p->at = begun;
    enum status st = p->n.failed == OK ? parse_atom(p, from, to) : OK;
    p->at = here;
    return st;
}

/* The first copy is the one that was parsed to find out where the atom ends: nested groups cost one
 * pass each unless they are counted. */
static enum status parse_term(struct parser *p, uint32_t from, uint32_t to)
{
    size_t begun = p->at;
    uint32_t least, most, head = nfa_state(&p->n), tail = nfa_state(&p->n), at = from;
    enum status st = parse_atom(p, head, tail);
    if (st == OK)
        st = take_quantifier(p, &least, &most);
    if (st != OK)
        return st;
    uint32_t copies = most != UINT32_MAX ? most : least ? least : 1;
    for (uint32_t i = 0; i < copies && st == OK && p->n.failed == OK; i++) {
        if (i > 0) {
            head = nfa_state(&p->n);
            tail = nfa_state(&p->n);
            st = copy_atom(p, begun, head, tail);
        }
        if (i >= least)
            nfa_empty(&p->n, at, to, NFA_EMPTY);
        nfa_empty(&p->n, at, head, NFA_EMPTY);
        at = tail;
    }
    if (most == UINT32_MAX)
        nfa_empty(&p->n, tail, head, NFA_EMPTY);
    nfa_empty(&p->n, at, to, NFA_EMPTY);
    return st;
}

static enum status parse_sequence(struct parser *p, uint32_t from, uint32_t to)
{
    enum status st = OK;
    while (st == OK && p->at < p->text.len && !is_at(p, '|') && !is_at(p, ')')) {
        uint32_t next = nfa_state(&p->n);
        st = parse_term(p, from, next);
        from = next;
    }
    nfa_empty(&p->n, from, to, NFA_EMPTY);
    return st;
}

static enum status parse_choice(struct parser *p, uint32_t from, uint32_t to)
{
    enum status st;
    do {
        st = parse_sequence(p, from, to);
    } while (st == OK && take(p, '|'));
    return st;
}

enum status regex_search(struct slice pattern, struct dfa *out, struct err *e)
{
    struct parser p = {.text = pattern, .e = e};
    if (pattern.len > REGEX_BYTES_MAX)
        return err_set(e, E_LIMIT, "pattern: longer than %u bytes", REGEX_BYTES_MAX);
    uint32_t before = nfa_state(&p.n), start = nfa_state(&p.n);
    uint32_t end = nfa_state(&p.n), after = nfa_state(&p.n);
    nfa_empty(&p.n, before, start, NFA_EMPTY);
    nfa_range(&p.n, before, before, 0, CODE_POINT_MAX);
    nfa_empty(&p.n, end, after, NFA_EMPTY);
    nfa_range(&p.n, after, after, 0, CODE_POINT_MAX);
    enum status st = parse_choice(&p, start, end);
    if (st == OK && p.at < pattern.len)
        st = fail(&p, E_SYNTAX, "a ) without its group");
    if (st == OK)
        st = nfa_to_dfa(&p.n, before, after, out, e);
    nfa_release(&p.n);
    return st;
}
