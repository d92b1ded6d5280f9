/* SPDX-License-Identifier: MIT
 * source.c — which file is meant by the words after "kvasir pull". */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "fetch/fetch.h"
#include "text/json.h"

#define LISTED_MAX        6           /* names in an error */
#define ANSWER_MEMORY_MAX (16u << 20) /* of a parsed list of files */
#define PIECE_TAIL        20          /* characters of "-00001-of-00003.gguf" */

static bool is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n > k && strcasecmp(text + n - k, end) == 0;
}

/* The last part of a path, as a name for a file of ours. */
static enum status take_name(struct fetch_source *s, const char *path, size_t len, struct err *e)
{
    size_t from = len, n = 0;
    while (from > 0 && path[from - 1] != '/')
        from--;
    for (size_t i = from; i < len && n < sizeof s->name - 1; i++) {
        unsigned byte;
        if (path[i] == '%' && i + 2 < len && isxdigit((unsigned char)path[i + 1]) &&
            isxdigit((unsigned char)path[i + 2]) && sscanf(path + i + 1, "%2x", &byte) == 1) {
            s->name[n++] = (char)byte;
            i += 2;
        } else {
            s->name[n++] = path[i];
        }
    }
    s->name[n] = '\0';
    bool is_safe = ends_in(s->name, ".gguf") && s->name[0] != '.';
    for (size_t i = 0; i < n; i++)
        is_safe &= (unsigned char)s->name[i] >= 0x20 && s->name[i] != '/' && s->name[i] != 0x7f;
    if (!is_safe)
        return err_set(e, E_INVALID, "\"%.100s\" is no name of a .gguf file", s->name);
    return OK;
}

/* owner/repo, both of the letters that such names have. */
static bool is_owner_repo(const char *text, size_t len)
{
    size_t slashes = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        slashes += c == '/';
        if (!isalnum(c) && !strchr("/-_.", c))
            return false;
    }
    return slashes == 1 && text[0] != '/' && text[len - 1] != '/' && text[0] != '.' &&
           !strstr(text, "/.");
}

static void add_encoded(struct buf *b, const char *path)
{
    for (const char *p = path; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (isalnum(c) || strchr("/-_.~", c))
            buf_add_char(b, *p);
        else
            buf_printf(b, "%%%02X", c);
    }
}

/* wanted is a file's path in the repository: url and name follow. */
static enum status settle(struct fetch_source *s, const char *base_url, struct err *e)
{
    struct buf b;
    enum status st = take_name(s, s->wanted, strlen(s->wanted), e);
    if (st != OK)
        return st;
    buf_init(&b, sizeof s->url - 1);
    buf_printf(&b, "%s/%s/resolve/main/", base_url, s->owner_repo);
    add_encoded(&b, s->wanted);
    if (b.failed)
        st = err_set(e, E_LIMIT, "the address is longer than %u bytes", FETCH_URL_MAX);
    else
        snprintf(s->url, sizeof s->url, "%s", b.ptr);
    buf_release(&b);
    return st;
}

enum status fetch_source_of(struct fetch_source *s, const char *text, const char *base_url,
                            struct err *e)
{
    *s = (struct fetch_source){0};
    if (strlen(text) >= sizeof s->url)
        return err_set(e, E_LIMIT, "the address is longer than %u bytes", FETCH_URL_MAX);
    if (is_url(text)) {
        snprintf(s->url, sizeof s->url, "%s", text);
        return take_name(s, text, strcspn(text, "?#"), e);
    }
    const char *colon = strchr(text, ':');
    const size_t repo = colon ? (size_t)(colon - text) : strlen(text);
    if (repo == 0 || repo >= sizeof s->owner_repo || !is_owner_repo(text, repo))
        return err_set(e, E_INVALID,
                       "want https://HOST/PATH.gguf, OWNER/REPO:FILE.gguf or OWNER/REPO:QUANT, "
                       "not \"%.100s\"",
                       text);
    memcpy(s->owner_repo, text, repo);
    if (colon && strlen(colon + 1) >= sizeof s->wanted)
        return err_set(e, E_LIMIT, "a file's name is longer than %u bytes", FETCH_NAME_MAX);
    snprintf(s->wanted, sizeof s->wanted, "%s", colon ? colon + 1 : "");
    return ends_in(s->wanted, ".gguf") ? settle(s, base_url, e) : OK;
}

void fetch_list_url(const struct fetch_source *s, const char *base_url, char url[FETCH_URL_MAX])
{
    snprintf(url, FETCH_URL_MAX, "%s/api/models/%s", base_url, s->owner_repo);
}

static bool contains(const char *text, const char *part)
{
    const size_t n = strlen(part);
    for (; *text; text++)
        if (strncasecmp(text, part, n) == 0)
            return true;
    return n == 0;
}

/* Where the digits of "-00001-of-00003.gguf" begin; NULL: no such name. */
static const char *piece_digits(const char *name)
{
    const size_t n = strlen(name);
    const char *at = n > PIECE_TAIL ? name + n - PIECE_TAIL : NULL;
    if (!at || at[0] != '-' || memcmp(at + 6, "-of-", 4) != 0)
        return NULL;
    for (int i = 0; i < 5; i++)
        if (!isdigit((unsigned char)at[1 + i]) || !isdigit((unsigned char)at[10 + i]))
            return NULL;
    return at + 1;
}

/* Pieces after the first come with it; a projector for pictures (mmproj) is no model. */
static bool is_candidate(const char *file, const char *wanted)
{
    const char *digits = piece_digits(file);
    bool is_later = digits && strncmp(digits, "00001", 5) != 0;
    return ends_in(file, ".gguf") && !is_later && !contains(file, "mmproj") &&
           contains(file, wanted);
}

/* The next candidate at or behind files[*at]; NULL: no more. */
static const char *next_candidate(const struct json *files, size_t *at, const char *wanted)
{
    while (*at < files->count) {
        const struct json *name = json_get(&files->items[(*at)++], "rfilename");
        if (name && name->kind == JSON_STRING && name->text.len < FETCH_NAME_MAX &&
            strlen(name->text.ptr) == name->text.len && is_candidate(name->text.ptr, wanted))
            return name->text.ptr;
    }
    return NULL;
}

static enum status choose(struct fetch_source *s, const char *base_url, const struct json *files,
                          struct err *e)
{
    size_t at = 0;
    uint32_t n = 0;
    const char *only = NULL;
    struct buf names;
    buf_init(&names, 1 << 20);
    for (const char *file; (file = next_candidate(files, &at, s->wanted)) != NULL; n++) {
        only = file;
        if (n < LISTED_MAX)
            buf_printf(&names, "%s%s", n ? ", " : "", file);
    }
    if (n > LISTED_MAX)
        buf_printf(&names, " and %u more", n - LISTED_MAX);
    enum status st = OK;
    if (n == 0)
        st = err_set(e, E_NOT_FOUND, "%s has no .gguf file%s%s", s->owner_repo,
                     s->wanted[0] ? " named like " : "", s->wanted);
    else if (n > 1)
        st = err_set(e, E_INVALID, "which one? %s:FILE with one of %.150s", s->owner_repo,
                     names.ptr ? names.ptr : "");
    else
        snprintf(s->wanted, sizeof s->wanted, "%s", only);
    buf_release(&names);
    return st == OK ? settle(s, base_url, e) : st;
}

enum status fetch_choose(struct fetch_source *s, const char *base_url, struct slice answer,
                         struct err *e)
{
    struct arena a;
    struct json *v;
    arena_init(&a, ANSWER_MEMORY_MAX);
    enum status st = json_parse(answer, &a, &v, e);
    const struct json *files = st == OK ? json_get(v, "siblings") : NULL;
    if (st != OK)
        st = err_prefix(e, "the list of %s's files", s->owner_repo);
    else if (!files || files->kind != JSON_ARRAY || files->count > FETCH_FILES_MAX)
        st = err_set(e, E_UNSUPPORTED,
                     "%s/api/models/%s does not list files; name one: %s:FILE.gguf", base_url,
                     s->owner_repo, s->owner_repo);
    else
        st = choose(s, base_url, files, e);
    arena_release(&a);
    return st;
}

/* ---- models in pieces ---- */

uint32_t fetch_piece_count(const struct fetch_source *s)
{
    const char *digits = piece_digits(s->name);
    unsigned first = 0, n = 0;
    if (!digits || sscanf(digits, "%5u-of-%5u", &first, &n) != 2 || first != 1 || n == 0 ||
        n > FETCH_FILES_MAX)
        return 1;
    return n;
}

static void put_number(char *text, uint32_t number)
{
    char *at = NULL;
    for (char *p = text; (p = strstr(p, "-00001-of-")) != NULL; p++)
        at = p;
    for (int i = 5; at && i >= 1; i--, number /= 10)
        at[i] = (char)('0' + number % 10);
}

void fetch_piece(const struct fetch_source *first, uint32_t i, struct fetch_source *piece)
{
    *piece = *first;
    if (fetch_piece_count(first) == 1)
        return;
    put_number(piece->url, i + 1);
    put_number(piece->name, i + 1);
}
