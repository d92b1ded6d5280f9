/* SPDX-License-Identifier: MIT
 * names.c — is this the model that a client means?
 *   3  the name as it is, with or without .gguf or :latest
 *   2  the same but for case and for what stands between words: "Gemma 3 270M", "gemma-3-270m"
 *   1  without the name of its quantization; or, of publisher/name@quant and
 *      owner/repo-GGUF:quant, the part behind the last slash, likewise
 * Among several models the best fit is meant, and of equal ones the first by name. */
#include "base/check.h"
#include "fleet/fleet.h"

static struct slice without(struct slice s, struct slice ending)
{
    if (s.len > ending.len && memcmp(s.ptr + s.len - ending.len, ending.ptr, ending.len) == 0)
        s.len -= ending.len;
    return s;
}

static struct slice bare(struct slice s)
{
    return without(without(s, SLICE_LIT(":latest")), SLICE_LIT(".gguf"));
}

/* Letters and digits in lower case, one '-' for whatever stands between; "gguf" is no word. */
struct plain {
    char text[FLEET_NAME_BYTES_MAX];
    size_t len;
};

static void end_word(struct plain *p, size_t begin)
{
    if (p->len - begin == 4 && memcmp(p->text + begin, "gguf", 4) == 0)
        p->len = begin > 0 ? begin - 1 : 0;
}

static struct plain plain_of(struct slice s)
{
    struct plain p = {.len = 0};
    size_t begin = 0;
    for (size_t i = 0; i < s.len && p.len + 1 < sizeof p.text; i++) {
        char c = s.ptr[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       (unsigned char)c >= 0x80;
        if (is_word) {
            p.text[p.len++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        } else if (p.len > begin) {
            end_word(&p, begin);
            if (p.len > 0 && p.text[p.len - 1] != '-')
                p.text[p.len++] = '-';
            begin = p.len;
        }
    }
    end_word(&p, begin);
    if (p.len > 0 && p.text[p.len - 1] == '-')
        p.len--;
    return p;
}

static bool is_same(struct slice a, struct slice b)
{
    if (a.len >= FLEET_NAME_BYTES_MAX || b.len >= FLEET_NAME_BYTES_MAX)
        return false;
    struct plain x = plain_of(a), y = plain_of(b);
    return x.len > 0 && x.len == y.len && memcmp(x.text, y.text, x.len) == 0;
}

uint32_t fleet_name_fits(struct slice wanted, const char *name)
{
    struct slice a = bare(wanted), b = bare(slice_of(name));
    const char *slash = a.len ? memrchr(a.ptr, '/', a.len) : NULL;
    if (a.len == 0 || b.len == 0)
        return 0;
    if (slice_equal(a, b))
        return 3;
    if (is_same(a, b))
        return 2;
    struct slice last =
        slash ? (struct slice){slash + 1, a.len - (size_t)(slash + 1 - a.ptr)} : (struct slice){0};
    return last.len && is_same(last, b) ? 1 : 0;
}
