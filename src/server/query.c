/* SPDX-License-Identifier: MIT
 * query.c — what stands behind the '?' of a target. */
#include "server/server_int.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* %xx and '+' undone, in the arena. */
static struct slice decoded(struct arena *a, struct slice text)
{
    char *out = arena_text(a, text.ptr, text.len);
    size_t n = 0;
    for (size_t i = 0; out && i < text.len; i++) {
        bool is_hex = text.ptr[i] == '%' && i + 2 < text.len && hex_digit(text.ptr[i + 1]) >= 0 &&
                      hex_digit(text.ptr[i + 2]) >= 0;
        out[n++] = is_hex ? (char)(hex_digit(text.ptr[i + 1]) * 16 + hex_digit(text.ptr[i + 2]))
                   : text.ptr[i] == '+' ? ' '
                                        : text.ptr[i];
        i += is_hex ? 2 : 0;
    }
    return (struct slice){out, n};
}

struct slice query_value(struct arena *a, struct slice query, const char *key)
{
    while (query.len > 0) {
        const char *amp = memchr(query.ptr, '&', query.len);
        struct slice pair = {query.ptr, amp ? (size_t)(amp - query.ptr) : query.len};
        size_t used = pair.len + (amp ? 1 : 0);
        query = (struct slice){query.ptr + used, query.len - used};
        const char *eq = memchr(pair.ptr, '=', pair.len);
        struct slice name = {pair.ptr, eq ? (size_t)(eq - pair.ptr) : pair.len};
        if (slice_is(name, key))
            return eq ? decoded(a, (struct slice){eq + 1, pair.len - name.len - 1})
                      : (struct slice){"", 0};
    }
    return (struct slice){0};
}
