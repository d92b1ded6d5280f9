/* SPDX-License-Identifier: MIT
 * base64.c — three bytes are four letters. */
#include "text/base64.h"

void base64_write(struct buf *out, const void *bytes, size_t n)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0) |
                           (left > 2 ? (unsigned)p[i + 2] : 0);
        const char text[4] = {letters[v >> 18], letters[v >> 12 & 63],
                              left > 1 ? letters[v >> 6 & 63] : '=',
                              left > 2 ? letters[v & 63] : '='};
        buf_add(out, text, sizeof text);
    }
}
