/* SPDX-License-Identifier: MIT
 * messages.h — making chat messages and tools in the form that templates know (OpenAI's). */
#ifndef KVASIR_API_MESSAGES_H
#define KVASIR_API_MESSAGES_H

#include "api/api_int.h"

#define MESSAGE_MEMBERS_MAX \
    6u /* role, content, reasoning_content, tool_calls, tool_call_id, name */

struct message_list {
    struct arena *arena;
    struct json *items;
    size_t n, cap;
};
struct json json_of_text(struct slice text);
/* NULL: no memory (the arena stays failed).  Valid until the next message_add. */
struct json *message_add(struct message_list *l, const char *role);
void message_set(struct json *message, const char *key,
                 struct json value); /* message may be NULL */
/* n_max: of all calls of this message. */
void message_add_call(struct arena *a, struct json *message, struct slice id, struct slice name,
                      struct json arguments, size_t n_max);
/* The array of all; NULL when the arena failed. */
struct json *message_list_end(struct message_list *l);

/* A copy of what b holds; b is empty again.  A failed b fails the arena. */
struct slice text_of_buf(struct arena *a, struct buf *b);
/* {"type": "function", "function": {…}}; the last three may be NULL. */
struct json tool_of(struct arena *a, const struct json *name, const struct json *description,
                    const struct json *parameters, const struct json *strict);

/* "messages[3].content[0]" */
struct place {
    char text[96];
};
struct place place(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
