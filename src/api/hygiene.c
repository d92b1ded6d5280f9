/* SPDX-License-Identifier: MIT
 * hygiene.c — what some clients put at the very front of a prompt and change with every request, so
 * that no prefix would ever be found again.  Only what the table lists, exactly as listed, at the
 * head of the system prompt; each removal is named in the reply (kvasir.removed, X-KV-Removed). */
#include "api/messages.h"
#include "base/check.h"

#define NONCE_BYTES_MAX 256u

/* A line that begins like this and holds nothing but these characters. */
static const struct {
    const char *name; /* in replies */
    const char *prefix, *alphabet;
} nonces[] = {
    /* Claude Code: "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli;
     * cch=0e1f2;" (anthropics/claude-code#24168); the last value differs in each request. */
    {"anthropic billing header", "x-anthropic-billing-header: ",
     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=; "},
};

/* Bytes of the line at text's front that row i lists, its line feed included; 0: none. */
static size_t nonce_len(size_t i, struct slice text)
{
    size_t prefix = strlen(nonces[i].prefix);
    const char *feed = memchr(text.ptr, '\n', text.len);
    size_t len = feed ? (size_t)(feed - text.ptr) : text.len;
    if (len > NONCE_BYTES_MAX || len <= prefix || memcmp(text.ptr, nonces[i].prefix, prefix) != 0)
        return 0;
    for (size_t j = prefix; j < len; j++)
        if (!strchr(nonces[i].alphabet, text.ptr[j]) || !text.ptr[j])
            return 0;
    return len + (feed ? 1 : 0);
}

void clean_prompt(const struct api_context *context, struct api_call *c, struct engine_request *r)
{
    const struct json *all = r->messages;
    struct json *first = all && all->count ? &all->items[0] : NULL;
    struct json *content = first ? json_member(first, "content") : NULL;
    if (!context->cleans || !content || content->kind != JSON_STRING ||
        !json_is_text(json_get(first, "role"), "system"))
        return;
    for (size_t i = 0; i < ARRAY_COUNT(nonces); i++) {
        size_t n = nonce_len(i, content->text);
        if (n == 0)
            continue;
        content->text = (struct slice){content->text.ptr + n, content->text.len - n};
        c->removed = nonces[i].name;
    }
    struct json *rest = c->removed && content->text.len == 0 && all->count > 1
                            ? json_new_array(&r->arena, 0)
                            : NULL;
    if (rest) { /* nothing else was in that message */
        rest->items = all->items + 1;
        rest->count = all->count - 1;
        r->messages = rest;
    }
}
