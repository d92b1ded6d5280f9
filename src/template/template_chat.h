/* SPDX-License-Identifier: MIT
 * template_chat.h — messages → prompt text: the variables a chat template expects, and what
 * transformers does around it (v5: render_jinja_template).
 * For:     the engine's prompts, `kvasir eval render`.
 * Differs from plain rendering in two things that are no Jinja:
 *   reasoning — a message's `reasoning_content`, `thinking` or `reasoning` (the first that is not
 *               null) is shown to the template as reasoning_content, and as thinking if that is
 * absent; continue_final_message — the text ends behind the last message's content, whatever the
 * template puts there (<|im_end|> …), so that the model goes on with it. Thread:  any. */
#ifndef KVASIR_TEMPLATE_TEMPLATE_CHAT_H
#define KVASIR_TEMPLATE_TEMPLATE_CHAT_H

#include "template/template.h"

struct template_chat {
    const struct json *messages;  /* array of objects */
    const struct json *tools;     /* array; NULL: the template sees null */
    const struct json *documents; /* array; NULL: null */
    const struct json *variables; /* object: bos_token, enable_thinking, …; NULL: none.  The names
                                     of the other fields are ignored here. */
    bool add_generation_prompt;
    bool continue_final_message;
    struct template_now now;
};

/* Appends the prompt to out.  E_INVALID: a message that is no object, nothing to continue, a final
 * message that the template left out, or what template_render() says; nothing is appended then. */
NODISCARD enum status template_render_chat(const struct template *t,
                                           const struct template_chat *chat, struct buf *out,
                                           struct err *e);

/* Does the vocabulary have this token? */
struct template_vocabulary {
    bool (*has)(const void *context, const char *token);
    const void *context;
};

/* Source of the built-in template for a model file that has none, or NULL when nothing fits (the
 * model was not made for chats).  arch: general.architecture; the vocabulary decides between the
 * formats that share one. */
const char *template_default(const char *arch, struct template_vocabulary v);

#endif
