/* SPDX-License-Identifier: MIT
 * tool_text.h — tool calls in the text that a model writes: content …<tool_call>{"name": …,
 * "arguments": …}</tool_call>… (Qwen, Hermes, skald), found while it streams.
 * Holds back what may become a call: blanks followed by a beginning of the tag, then the call
 * itself. A call that does not parse is content, byte for byte, tags and all. Order: tool_text_init
 * → (tool_text_feed → tool_text_next until TOOL_TEXT_NOTHING)* → the same once more with is_end →
 * tool_text_release. */
#ifndef KVASIR_API_TOOL_TEXT_H
#define KVASIR_API_TOOL_TEXT_H

#include "base/arena.h"
#include "base/buf.h"

#define TOOL_TEXT_CALL_BYTES_MAX (1u << 20)
#define TOOL_TEXT_BLANKS_MAX     256u /* held back before a tag */
#define TOOL_TEXT_TRIES_MAX      16u  /* closing tags tried for one call (strings may hold some) */

struct tool_text {
    struct buf held;
    struct arena arena; /* the call last returned */
    size_t done;        /* bytes of held that the item last returned covers */
    bool is_in_call;
    size_t call_at;     /* in held: behind the opening tag */
    size_t searched_at; /* no closing tag before */
    uint32_t n_tries;
    uint32_t n_calls;
};

enum tool_text_kind { TOOL_TEXT_NOTHING, TOOL_TEXT_CONTENT, TOOL_TEXT_CALL };
struct tool_text_item {
    enum tool_text_kind kind;
    struct slice content;         /* CONTENT */
    struct slice name, arguments; /* CALL; arguments: JSON as the model spelled it */
};

void tool_text_init(struct tool_text *t);
void tool_text_release(struct tool_text *t);
void tool_text_feed(struct tool_text *t, struct slice text);
/* The item's slices are valid until the next call. */
struct tool_text_item tool_text_next(struct tool_text *t, bool is_end);

/* The source text of a member's value; object_text has passed json_parse as an object and has the
 * key.  Empty when it has not. */
struct slice tool_text_member(struct slice object_text, const char *key);

#endif
