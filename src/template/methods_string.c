/* SPDX-License-Identifier: MIT
 * methods_string.c — the methods of Python's str that templates use; all but encode, translate and
 * maketrans, which need types that are not here. */
#include "template/render.h"
#include "template/strings.h"
#include "template/unicode.h"

#define METHOD(name)                                                             \
    static bool name(struct render *r, struct value self, const struct value *p, \
                     const struct call *c, struct value *out)
#define UNUSED_PARAMETERS \
    (void)p;              \
    (void)c

static bool want_string(struct render *r, struct value v, const char *what, struct slice *out)
{
    if (v.kind == V_UNDEFINED)
        return render_fail_undefined(r, v);
    if (v.kind != V_STRING)
        return render_fail(r, E_INVALID, "%s must be str, not %s", what, value_type_name(v));
    *out = value_slice(v);
    return true;
}

/* ---- case ---- */

static bool mapped(struct render *r, struct value self, void (*map)(struct buf *, struct slice),
                   struct value *out)
{
    struct buf b;
    if (!render_steps(r, self.len / 8))
        return false;
    render_buf_init(r, &b);
    map(&b, value_slice(self));
    return render_buf(r, &b, out);
}

static void map_upper(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_UPPER);
}

static void map_lower(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_LOWER);
}

static void map_fold(struct buf *b, struct slice s)
{
    unicode_map(b, s, CASE_FOLD);
}

#define MAP_METHOD(name, map)             \
    METHOD(name)                          \
    {                                     \
        UNUSED_PARAMETERS;                \
        return mapped(r, self, map, out); \
    }

MAP_METHOD(method_upper, map_upper)
MAP_METHOD(method_lower, map_lower)
MAP_METHOD(method_casefold, map_fold)
MAP_METHOD(method_title, unicode_title)
MAP_METHOD(method_capitalize, unicode_capitalize)
MAP_METHOD(method_swapcase, unicode_swapcase)

/* ---- what all characters are ---- */

static bool all_are(struct render *r, struct value self, uint32_t class, bool when_empty,
                    struct value *out)
{
    struct slice s = value_slice(self);
    bool ok = s.len > 0 || when_empty;
    for (size_t at = 0; ok && at < s.len;)
        ok = unicode_class(unicode_next(s, &at, NULL)) & class;
    *out = value_bool(ok);
    return render_steps(r, s.len / 8);
}

#define CLASS_METHOD(name, class, when_empty)            \
    METHOD(name)                                         \
    {                                                    \
        UNUSED_PARAMETERS;                               \
        return all_are(r, self, class, when_empty, out); \
    }

CLASS_METHOD(method_isalpha, UNI_ALPHA, false)
CLASS_METHOD(method_isdecimal, UNI_DECIMAL, false)
CLASS_METHOD(method_isdigit, UNI_DIGIT, false)
CLASS_METHOD(method_isnumeric, UNI_NUMERIC, false)
CLASS_METHOD(method_isalnum, UNI_ALNUM, false)
CLASS_METHOD(method_isspace, UNI_SPACE, false)
CLASS_METHOD(method_isprintable, UNI_PRINTABLE, true)

METHOD(method_isascii)
{
    bool ok = true;
    UNUSED_PARAMETERS;
    for (size_t i = 0; ok && i < self.len; i++)
        ok = (unsigned char)self.text[i] < 128;
    *out = value_bool(ok);
    return render_steps(r, self.len / 64);
}

METHOD(method_islower)
{
    struct call none = {0};
    UNUSED_PARAMETERS;
    return builtin_run(r, builtin_test(SLICE_LIT("lower")), self, &none, out);
}

METHOD(method_isupper)
{
    struct call none = {0};
    UNUSED_PARAMETERS;
    return builtin_run(r, builtin_test(SLICE_LIT("upper")), self, &none, out);
}

METHOD(method_istitle)
{
    struct slice s = value_slice(self);
    bool any = false, previous_cased = false;
    UNUSED_PARAMETERS;
    *out = value_bool(false);
    for (size_t at = 0; at < s.len;) {
        uint32_t class = unicode_class(unicode_next(s, &at, NULL));
        bool is_start = class & (UNI_UPPER | UNI_TITLE), is_lower = class & UNI_LOWER;
        if ((is_start && previous_cased) || (is_lower && !previous_cased))
            return render_steps(r, s.len / 8);
        previous_cased = is_start || is_lower;
        any |= previous_cased;
    }
    *out = value_bool(any);
    return render_steps(r, s.len / 8);
}

/* ---- strip ---- */

static bool strip(struct render *r, struct value self, struct value chars, bool left, bool right,
                  struct value *out)
{
    struct slice s = value_slice(self), set;
    if (!is_given(chars) || chars.kind == V_NONE) {
        *out = value_text(unicode_strip(s, left, right));
        return render_steps(r, s.len / 64);
    }
    if (!want_string(r, chars, "strip arg", &set))
        return false;
    *out = value_text(unicode_strip_set(s, set, left, right));
    return render_steps(r, (s.len - out->len + 1) * (set.len + 1) / 64);
}

METHOD(method_strip)
{
    (void)c;
    return strip(r, self, p[0], true, true, out);
}

METHOD(method_lstrip)
{
    (void)c;
    return strip(r, self, p[0], true, false, out);
}

METHOD(method_rstrip)
{
    (void)c;
    return strip(r, self, p[0], false, true, out);
}

METHOD(method_removeprefix)
{
    struct slice s = value_slice(self), prefix;
    (void)c;
    if (!want_string(r, p[0], "removeprefix() argument", &prefix))
        return false;
    *out = slice_starts(s, prefix)
               ? value_text((struct slice){s.ptr + prefix.len, s.len - prefix.len})
               : self;
    return true;
}

static bool ends_with(struct slice s, struct slice end)
{
    return s.len >= end.len && memcmp(s.ptr + s.len - end.len, end.ptr, end.len) == 0;
}

METHOD(method_removesuffix)
{
    struct slice s = value_slice(self), suffix;
    (void)c;
    if (!want_string(r, p[0], "removesuffix() argument", &suffix))
        return false;
    *out = ends_with(s, suffix) ? value_text((struct slice){s.ptr, s.len - suffix.len}) : self;
    return true;
}

/* ---- find ---- */

/* s[start:end] by code points; *offset: bytes before it.  False: failed.  *is_empty_range: start
 * lies behind the end, where not even "" is found. */
static bool window(struct render *r, struct slice *s, struct value start, struct value end,
                   size_t *offset, bool *is_outside)
{
    int64_t from = 0, to, n;
    *offset = 0;
    *is_outside = false;
    if ((!is_given(start) || start.kind == V_NONE) && (!is_given(end) || end.kind == V_NONE))
        return true;
    n = to = (int64_t)unicode_count(*s);
    if ((is_given(start) && start.kind != V_NONE && !strings_index(r, start, &from)) ||
        (is_given(end) && end.kind != V_NONE && !strings_index(r, end, &to)))
        return false;
    from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
    to = to < 0 ? (to + n < 0 ? 0 : to + n) : to > n ? n : to;
    *is_outside = from > n || from > to;
    if (*is_outside)
        from = to;
    *offset = unicode_offset(*s, (size_t)from);
    size_t stop = unicode_offset(*s, (size_t)to);
    *s = (struct slice){s->ptr + *offset, stop - *offset};
    return render_steps(r, stop / 32);
}

static const char *find_last(struct slice s, struct slice what)
{
    if (what.len > s.len)
        return NULL;
    for (size_t at = s.len - what.len + 1; at-- > 0;)
        if (what.len == 0 ||
            (s.ptr[at] == what.ptr[0] && memcmp(s.ptr + at, what.ptr, what.len) == 0))
            return s.ptr + at;
    return NULL;
}

/* Code point index of the first or last occurrence, or -1. */
static bool find(struct render *r, struct value self, const struct value *p, bool is_last,
                 int64_t *out)
{
    struct slice s = value_slice(self), what;
    size_t offset;
    bool is_outside;
    *out = -1;
    if (!want_string(r, p[0], "argument", &what) ||
        !window(r, &s, p[1], p[2], &offset, &is_outside) ||
        !render_steps(r, s.len / 64 + (is_last ? s.len * (what.len / 64 + 1) / 64 : 0)))
        return false;
    if (is_outside)
        return true;
    const char *hit = is_last ? find_last(s, what) : memmem(s.ptr, s.len, what.ptr, what.len);
    if (hit)
        *out = (int64_t)unicode_count((struct slice){self.text, (size_t)(hit - self.text)});
    return true;
}

static bool find_value(struct render *r, struct value self, const struct value *p, bool is_last,
                       bool must_be_there, struct value *out)
{
    int64_t at;
    if (!find(r, self, p, is_last, &at))
        return false;
    if (at < 0 && must_be_there)
        return render_fail(r, E_INVALID, "substring not found");
    *out = value_int(at);
    return true;
}

METHOD(method_find)
{
    (void)c;
    return find_value(r, self, p, false, false, out);
}

METHOD(method_rfind)
{
    (void)c;
    return find_value(r, self, p, true, false, out);
}

METHOD(method_index)
{
    (void)c;
    return find_value(r, self, p, false, true, out);
}

METHOD(method_rindex)
{
    (void)c;
    return find_value(r, self, p, true, true, out);
}

METHOD(method_count)
{
    struct slice s = value_slice(self), what;
    size_t offset;
    bool is_outside;
    int64_t n = 0;
    (void)c;
    if (!want_string(r, p[0], "argument", &what) ||
        !window(r, &s, p[1], p[2], &offset, &is_outside) || !render_steps(r, s.len / 16))
        return false;
    if (what.len == 0) {
        *out = value_int(is_outside ? 0 : (int64_t)unicode_count(s) + 1);
        return true;
    }
    for (const char *hit; (hit = memmem(s.ptr, s.len, what.ptr, what.len)) != NULL; n++) {
        size_t behind = (size_t)(hit - s.ptr) + what.len;
        s = (struct slice){s.ptr + behind, s.len - behind};
    }
    *out = value_int(n);
    return true;
}

/* startswith and endswith: one string or a tuple of them. */
static bool affix(struct render *r, struct value self, const struct value *p, bool at_end,
                  struct value *out)
{
    struct slice s = value_slice(self), what;
    const struct value *options = &p[0];
    size_t n = 1, offset;
    bool is_outside, found = false;
    if (!window(r, &s, p[1], p[2], &offset, &is_outside))
        return false;
    if (p[0].kind == V_TUPLE) {
        options = p[0].items;
        n = p[0].len;
    }
    for (size_t i = 0; !found && i < n; i++) {
        if (!want_string(r, options[i], "startswith or endswith arg", &what) ||
            !render_steps(r, 1 + what.len / 64))
            return false;
        found = !is_outside && (at_end ? ends_with(s, what) : slice_starts(s, what));
    }
    *out = value_bool(found);
    return true;
}

METHOD(method_startswith)
{
    (void)c;
    return affix(r, self, p, false, out);
}

METHOD(method_endswith)
{
    (void)c;
    return affix(r, self, p, true, out);
}

/* ---- split ---- */

static bool add_piece(struct render *r, struct value_list *l, struct slice s, size_t from,
                      size_t to)
{
    return value_list_add(r, l, value_text((struct slice){s.ptr + from, to - from}));
}

/* At runs of blanks; no piece is empty. */
static bool split_blanks(struct render *r, struct slice s, int64_t most, struct value_list *l)
{
    for (s = unicode_strip(s, true, false); s.len > 0; s = unicode_strip(s, true, false)) {
        size_t end = 0, next = 0;
        if (most-- == 0)
            return add_piece(r, l, s, 0, s.len);
        while (next < s.len && !unicode_is_space(unicode_next(s, &next, NULL)))
            end = next;
        if (!add_piece(r, l, s, 0, end))
            return false;
        s = (struct slice){s.ptr + end, s.len - end};
    }
    return true;
}

static bool split_at(struct render *r, struct slice s, struct slice by, int64_t most,
                     struct value_list *l)
{
    size_t at = 0;
    for (; most != 0; most--) {
        const char *hit = memmem(s.ptr + at, s.len - at, by.ptr, by.len);
        if (!hit)
            break;
        size_t end = (size_t)(hit - s.ptr);
        if (!add_piece(r, l, s, at, end))
            return false;
        at = end + by.len;
    }
    return add_piece(r, l, s, at, s.len);
}

static void reverse_list(struct value_list *l)
{
    for (size_t i = 0; i < l->count / 2; i++) {
        struct value v = l->items[i];
        l->items[i] = l->items[l->count - 1 - i];
        l->items[l->count - 1 - i] = v;
    }
}

static bool rsplit_at(struct render *r, struct slice s, struct slice by, int64_t most,
                      struct value_list *l)
{
    for (; most != 0; most--) {
        const char *hit = find_last(s, by);
        if (!hit)
            break;
        size_t at = (size_t)(hit - s.ptr);
        if (!add_piece(r, l, s, at + by.len, s.len) || !render_steps(r, (s.len - at) / 16))
            return false;
        s.len = at;
    }
    if (!render_steps(r, s.len / 16) || !add_piece(r, l, s, 0, s.len))
        return false;
    reverse_list(l);
    return true;
}

/* The last character of s (not empty) is [*start, s.len). */
static bool last_is_blank(struct slice s, size_t *start)
{
    *start = s.len - 1;
    while (*start > 0 && s.len - *start < 4 && ((unsigned char)s.ptr[*start] & 0xC0) == 0x80)
        --*start;
    size_t at = *start;
    bool is_blank = unicode_is_space(unicode_next(s, &at, NULL));
    if (at != s.len)
        *start = s.len - 1;
    return is_blank && at == s.len;
}

static bool rsplit_blanks(struct render *r, struct slice s, int64_t most, struct value_list *l)
{
    for (s = unicode_strip(s, false, true); s.len > 0; s = unicode_strip(s, false, true)) {
        struct slice head = s;
        size_t start;
        if (most-- == 0) {
            if (!add_piece(r, l, s, 0, s.len))
                return false;
            break;
        }
        while (head.len > 0 && !last_is_blank(head, &start))
            head.len = start;
        if (!add_piece(r, l, s, head.len, s.len))
            return false;
        s = head;
    }
    reverse_list(l);
    return true;
}

static bool split(struct render *r, struct value self, const struct value *p, bool from_right,
                  struct value *out)
{
    struct value_list l = {0};
    struct slice by, s = value_slice(self);
    int64_t most = -1;
    bool ok;
    if (is_given(p[1]) && !strings_index(r, p[1], &most))
        return false;
    most = most < 0 ? -1 : most;
    if (!render_steps(r, s.len / 16))
        return false;
    if (!is_given(p[0]) || p[0].kind == V_NONE) {
        ok = from_right ? rsplit_blanks(r, s, most, &l) : split_blanks(r, s, most, &l);
    } else {
        if (!want_string(r, p[0], "separator", &by))
            return false;
        if (by.len == 0)
            return render_fail(r, E_INVALID, "empty separator");
        ok = from_right ? rsplit_at(r, s, by, most, &l) : split_at(r, s, by, most, &l);
    }
    *out = value_items(V_LIST, l.items, l.count);
    return ok;
}

METHOD(method_split)
{
    (void)c;
    return split(r, self, p, false, out);
}

METHOD(method_rsplit)
{
    (void)c;
    return split(r, self, p, true, out);
}

METHOD(method_splitlines)
{
    const struct value *items;
    size_t n;
    (void)c;
    if (!strings_lines(r, value_slice(self), is_given(p[0]) && value_truth(p[0]), &items, &n))
        return false;
    *out = value_items(V_LIST, items, n);
    return true;
}

static bool partition(struct render *r, struct value self, struct value by, bool from_right,
                      struct value *out)
{
    struct slice s = value_slice(self), separator;
    struct value *parts = render_alloc(r, 3, sizeof *parts);
    if (!parts || !want_string(r, by, "separator", &separator) || !render_steps(r, s.len / 16))
        return false;
    if (separator.len == 0)
        return render_fail(r, E_INVALID, "empty separator");
    const char *hit =
        from_right ? find_last(s, separator) : memmem(s.ptr, s.len, separator.ptr, separator.len);
    struct value empty = value_text((struct slice){"", 0});
    parts[0] = parts[1] = parts[2] = empty;
    if (!hit) {
        parts[from_right ? 2 : 0] = self;
    } else {
        size_t at = (size_t)(hit - s.ptr), behind = at + separator.len;
        parts[0] = value_text((struct slice){s.ptr, at});
        parts[1] = by;
        parts[2] = value_text((struct slice){s.ptr + behind, s.len - behind});
    }
    *out = value_items(V_TUPLE, parts, 3);
    return true;
}

METHOD(method_partition)
{
    (void)c;
    return partition(r, self, p[0], false, out);
}

METHOD(method_rpartition)
{
    (void)c;
    return partition(r, self, p[0], true, out);
}

/* ---- building ---- */

METHOD(method_join)
{
    const struct value *items;
    size_t n;
    struct buf b;
    (void)c;
    if (!value_iterate(r, p[0], &items, &n) || !render_steps(r, n))
        return false;
    render_buf_init(r, &b);
    for (size_t i = 0; i < n; i++) {
        if (items[i].kind != V_STRING) {
            buf_release(&b);
            return render_fail(r, E_INVALID, "sequence item %zu: expected str instance, %s found",
                               i, value_type_name(items[i]));
        }
        if (i > 0)
            buf_add_slice(&b, value_slice(self));
        buf_add_slice(&b, value_slice(items[i]));
    }
    return render_buf(r, &b, out);
}

METHOD(method_replace)
{
    struct slice old, new;
    int64_t count = -1;
    (void)c;
    return want_string(r, p[0], "replace() argument 1", &old) &&
           want_string(r, p[1], "replace() argument 2", &new) &&
           (!is_given(p[2]) || strings_index(r, p[2], &count)) &&
           strings_replace(r, value_slice(self), old, new, count, out);
}

static bool pad(struct render *r, struct value self, const struct value *p, enum pad where,
                struct value *out)
{
    struct slice fill = {" ", 1};
    int64_t width;
    if (!strings_index(r, p[0], &width) ||
        (is_given(p[1]) && !want_string(r, p[1], "the fill character", &fill)))
        return false;
    if (unicode_count(fill) != 1)
        return render_fail(r, E_INVALID, "the fill character must be exactly one character long");
    return strings_pad(r, value_slice(self), width, fill, where, out);
}

METHOD(method_center)
{
    (void)c;
    return pad(r, self, p, PAD_CENTER, out);
}

METHOD(method_ljust)
{
    (void)c;
    return pad(r, self, p, PAD_LEFT, out);
}

METHOD(method_rjust)
{
    (void)c;
    return pad(r, self, p, PAD_RIGHT, out);
}

METHOD(method_zfill)
{
    struct slice s = value_slice(self);
    struct value digits;
    int64_t width;
    (void)c;
    if (!strings_index(r, p[0], &width))
        return false;
    size_t sign = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+') ? 1 : 0;
    struct slice rest = {s.ptr + sign, s.len - sign};
    return strings_pad(r, rest, width - (int64_t)sign, SLICE_LIT("0"), PAD_RIGHT, &digits) &&
           text_concat(r, value_text((struct slice){s.ptr, sign}), value_slice(digits), out);
}

METHOD(method_expandtabs)
{
    struct slice s = value_slice(self);
    struct buf b;
    int64_t size = 8, column = 0;
    (void)c;
    if ((is_given(p[0]) && !strings_index(r, p[0], &size)) || !render_steps(r, s.len / 8))
        return false;
    render_buf_init(r, &b);
    for (size_t at = 0; at < s.len && !b.failed;) {
        size_t start = at;
        uint32_t cp = unicode_next(s, &at, NULL);
        int64_t blanks = cp == '\t' && size > 0 ? size - column % size : 0;
        for (int64_t i = 0; i < blanks && !b.failed; i++)
            buf_add_char(&b, ' ');
        if (cp != '\t')
            buf_add(&b, s.ptr + start, at - start);
        column = cp == '\n' || cp == '\r' ? 0 : cp == '\t' ? column + blanks : column + 1;
    }
    return render_buf(r, &b, out);
}

METHOD(method_format)
{
    (void)p;
    return format_braces(r, value_slice(self), c, out);
}

METHOD(method_format_map)
{
    (void)c;
    if (p[0].kind != V_DICT)
        return render_fail(r, E_INVALID, "format_map wants a dict");
    struct named_value *named = render_alloc(r, p[0].len, sizeof *named);
    size_t n = 0;
    if (!named)
        return false;
    for (size_t i = 0; i < p[0].len; i++)
        if (p[0].pairs[i].key.kind == V_STRING)
            named[n++] = (struct named_value){value_slice(p[0].pairs[i].key), p[0].pairs[i].value};
    struct call call = {.named = named, .n_named = n};
    return format_braces(r, value_slice(self), &call, out);
}

const struct builtin builtin_string_methods[] = {
    {"capitalize", method_capitalize, "/", 0},
    {"casefold", method_casefold, "/", 0},
    {"center", method_center, "/width fillchar", 1},
    {"count", method_count, "/sub start end", 1},
    {"endswith", method_endswith, "/suffix start end", 1},
    {"expandtabs", method_expandtabs, "tabsize", 0},
    {"find", method_find, "/sub start end", 1},
    {"format", method_format, "*", 0},
    {"format_map", method_format_map, "/mapping", 1},
    {"index", method_index, "/sub start end", 1},
    {"isalnum", method_isalnum, "/", 0},
    {"isalpha", method_isalpha, "/", 0},
    {"isascii", method_isascii, "/", 0},
    {"isdecimal", method_isdecimal, "/", 0},
    {"isdigit", method_isdigit, "/", 0},
    {"islower", method_islower, "/", 0},
    {"isnumeric", method_isnumeric, "/", 0},
    {"isprintable", method_isprintable, "/", 0},
    {"isspace", method_isspace, "/", 0},
    {"istitle", method_istitle, "/", 0},
    {"isupper", method_isupper, "/", 0},
    {"join", method_join, "/iterable", 1},
    {"ljust", method_ljust, "/width fillchar", 1},
    {"lower", method_lower, "/", 0},
    {"lstrip", method_lstrip, "/chars", 0},
    {"partition", method_partition, "/sep", 1},
    {"removeprefix", method_removeprefix, "/prefix", 1},
    {"removesuffix", method_removesuffix, "/suffix", 1},
    {"replace", method_replace, "/old new count", 2},
    {"rfind", method_rfind, "/sub start end", 1},
    {"rindex", method_rindex, "/sub start end", 1},
    {"rjust", method_rjust, "/width fillchar", 1},
    {"rpartition", method_rpartition, "/sep", 1},
    {"rsplit", method_rsplit, "sep maxsplit", 0},
    {"rstrip", method_rstrip, "/chars", 0},
    {"split", method_split, "sep maxsplit", 0},
    {"splitlines", method_splitlines, "keepends", 0},
    {"startswith", method_startswith, "/prefix start end", 1},
    {"strip", method_strip, "/chars", 0},
    {"swapcase", method_swapcase, "/", 0},
    {"title", method_title, "/", 0},
    {"upper", method_upper, "/", 0},
    {"zfill", method_zfill, "/width", 1},
    {NULL, NULL, NULL, 0},
};
