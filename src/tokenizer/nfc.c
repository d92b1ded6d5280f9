/* SPDX-License-Identifier: MIT
 * nfc.c — copies what is NFC already; takes apart, sorts and composes the stretches that may not be.
 * A stretch runs from a starter to before the next starter that nothing joins to from the left
 * (UAX #15 §9): normalization never reaches across such a border. */
#include "tokenizer/nfc.h"

#include "base/mem.h"
#include "tokenizer/classes.h"

#include <utf8proc.h>

/* The longest canonical decomposition has 4 code points; utf8proc asks for room for what it finds. */
#define DECOMPOSED_MAX 18

struct parts {
    utf8proc_int32_t *list, *spare; /* [cap] each */
    size_t count, cap;
};

size_t nfc_first_change(const uint8_t *classes, struct slice text)
{
    const char *p = text.ptr, *end = text.ptr + text.len;
    while (p < end) {
        uint32_t cp;
        size_t n = class_decode(p, end, &cp);
        if (classes[cp] & CLASS_COMPOSES)
            break;
        p += n;
    }
    return (size_t)(p - text.ptr);
}

static enum status reserve(struct parts *d, struct err *e)
{
    if (d->cap - d->count >= DECOMPOSED_MAX)
        return OK;
    size_t cap = d->cap * 2 + 4 * DECOMPOSED_MAX;
    utf8proc_int32_t *list = mem_try_resize(d->list, cap, sizeof *list);
    if (list)
        d->list = list;
    utf8proc_int32_t *spare = list ? mem_try_resize(d->spare, cap, sizeof *spare) : NULL;
    if (!spare)
        return err_set(e, E_NOMEM, "normalizing %zu code points", cap);
    d->spare = spare;
    d->cap = cap;
    return OK;
}

/* All code points of the stretch, taken apart. */
static enum status take_apart(struct parts *d, struct slice stretch, struct err *e)
{
    const char *p = stretch.ptr, *end = p + stretch.len;
    d->count = 0;
    while (p < end) {
        uint32_t cp;
        int boundary = 0;
        enum status st = reserve(d, e);
        if (st != OK)
            return st;
        p += class_decode(p, end, &cp);
        utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)cp, d->list + d->count, DECOMPOSED_MAX,
                                    UTF8PROC_DECOMPOSE, &boundary);
        if (n < 1 || n > DECOMPOSED_MAX) { /* never for a code point; kept as it is */
            d->list[d->count] = (utf8proc_int32_t)cp;
            n = 1;
        }
        d->count += (size_t)n;
    }
    return OK;
}

static unsigned combining_class(utf8proc_int32_t cp)
{
    return (unsigned)utf8proc_get_property(cp)->combining_class & 0xFFu;
}

/* Stable counting sort of a run of marks by combining class. */
static void sort_run(utf8proc_int32_t *run, utf8proc_int32_t *spare, size_t n)
{
    size_t place[257] = {0};
    for (size_t i = 0; i < n; i++)
        place[combining_class(run[i]) + 1]++;
    for (size_t c = 1; c <= 256; c++)
        place[c] += place[c - 1];
    for (size_t i = 0; i < n; i++)
        spare[place[combining_class(run[i])]++] = run[i];
    memcpy(run, spare, n * sizeof *run);
}

static void sort_marks(struct parts *d)
{
    size_t i = 0;
    while (i < d->count) {
        size_t start = i;
        unsigned before = 0, now;
        bool is_sorted = true;
        for (; i < d->count && (now = combining_class(d->list[i])) != 0; i++) {
            is_sorted &= before <= now;
            before = now;
        }
        if (!is_sorted)
            sort_run(d->list + start, d->spare + start, i - start);
        if (i == start)
            i++;
    }
}

static enum status normalize(struct parts *d, struct slice stretch, struct buf *out, struct err *e)
{
    enum status st = take_apart(d, stretch, e);
    if (st != OK)
        return st;
    sort_marks(d);
    utf8proc_ssize_t n = utf8proc_normalize_utf32(d->list, (utf8proc_ssize_t)d->count,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        buf_add(out, bytes, utf8_encode((uint32_t)d->list[i], bytes));
    }
    return OK;
}

static bool is_malformed(uint32_t cp, const char *p, size_t n)
{
    return cp == 0xFFFD && !(n == 3 && memcmp(p, "\xEF\xBF\xBD", 3) == 0);
}

enum status nfc_append(const uint8_t *classes, struct slice text, struct buf *out, struct err *e)
{
    const char *p = text.ptr, *end = text.ptr + text.len;
    const char *copied = p; /* all before it is in out */
    const char *border = p; /* the last character that starts a stretch, or past a malformed one */
    struct parts d = {0};
    enum status st = OK;
    while (st == OK && p < end) {
        uint32_t cp;
        size_t n = class_decode(p, end, &cp);
        if (!(classes[cp] & CLASS_COMPOSES)) {
            border = is_malformed(cp, p, n) ? p + n : p;
            p += n;
            continue;
        }
        buf_add(out, copied, (size_t)(border - copied));
        do {
            p += n;
            n = p < end ? class_decode(p, end, &cp) : 0;
        } while (n > 0 && (classes[cp] & CLASS_COMPOSES));
        st = normalize(&d, (struct slice){border, (size_t)(p - border)}, out, e);
        copied = border = p;
    }
    buf_add(out, copied, (size_t)(end - copied));
    mem_free(d.list);
    mem_free(d.spare);
    if (st == OK && out->failed)
        st = err_set(e, E_NOMEM, "normalized text of %zu bytes", text.len);
    return st;
}
