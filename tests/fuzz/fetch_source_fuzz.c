/* SPDX-License-Identifier: MIT
 * fetch_source_fuzz.c — any words after "pull", any list of files from a hub: what comes out is a
 * file's name that stays in its folder, or a refusal with a reason.  First line: the words; behind
 * it: the list. */
#include <string.h>

#include "base/check.h"
#include "fetch/fetch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const struct fetch_source *s)
{
    const size_t n = strlen(s->name);
    CHECK(n > 5 && n < sizeof s->name && s->name[0] != '.' && !strchr(s->name, '/'));
    CHECK(strlen(s->url) > n || s->url[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char words[1024];
    struct fetch_source s, piece;
    struct err e = {0};
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    if (n >= sizeof words || (n && memchr(data, 0, n)))
        return 0;
    memcpy(words, data, n);
    words[n] = '\0';
    enum status st = fetch_source_of(&s, words, "http://hub", &e);
    if (st == OK && !s.url[0] && end)
        st =
            fetch_choose(&s, "http://hub", (struct slice){(const char *)end + 1, size - n - 1}, &e);
    CHECK(st == OK || e.msg[0]);
    if (st != OK || !s.url[0])
        return 0;
    check_name(&s);
    const uint32_t n_pieces = fetch_piece_count(&s);
    CHECK(n_pieces >= 1 && n_pieces <= FETCH_FILES_MAX);
    fetch_piece(&s, n_pieces - 1, &piece);
    check_name(&piece);
    CHECK(strlen(piece.name) == strlen(s.name));
    return 0;
}
