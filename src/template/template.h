/* SPDX-License-Identifier: MIT
 * template.h — the Jinja that chat templates use.
 * For:     messages → prompt text, with templates from untrusted GGUF files.
 * Not for: HTML, files, includes, inheritance; such constructs are refused when compiling.
 * Limits:  source TEMPLATE_SOURCE_MAX, nesting TEMPLATE_DEPTH_MAX, steps TEMPLATE_STEPS_MAX,
 *          output TEMPLATE_OUTPUT_MAX, memory TEMPLATE_MEMORY_MAX; beyond any: E_LIMIT.
 * Dialect: jinja2 3.1 as transformers sets it up: trim_blocks, lstrip_blocks, immutable sandbox,
 *          loop controls, the generation tag, tojson(ensure_ascii=False), raise_exception,
 *          strftime_now.
 * Thread:  a compiled template is immutable; render from any thread. */
#ifndef KVASIR_TEMPLATE_TEMPLATE_H
#define KVASIR_TEMPLATE_TEMPLATE_H

#include "base/buf.h"
#include "text/json.h"

#define TEMPLATE_SOURCE_MAX (1u << 20)
#define TEMPLATE_DEPTH_MAX  200
#define TEMPLATE_STEPS_MAX  20000000u
#define TEMPLATE_OUTPUT_MAX (64u << 20)
#define TEMPLATE_MEMORY_MAX (256u << 20)

struct template;

/* E_SYNTAX: malformed; E_UNSUPPORTED: a construct (tag, filter, test, …) that is not there.  Both
 * say "line L, column C: what".  The source is copied. */
NODISCARD enum status template_compile(struct slice source, struct template **out, struct err *e);
void template_free(struct template *t);

/* What strftime_now() sees: broken-down local time.  Fixed by tests and by `eval render`. */
struct template_now {
    int year, month, day, hour, minute, second; /* month 1..12 */
};

/* Appends the rendered text to out.  variables: a JSON object of the names the template sees.
 * E_INVALID: raise_exception or a run-time error (undefined use, wrong types), message with line.
 */
NODISCARD enum status template_render(const struct template *t, const struct json *variables,
                                      struct template_now now, struct buf *out, struct err *e);

/* The same with other ceilings, for tests and for callers that trust a template less. */
struct template_limits {
    uint64_t steps;      /* nodes evaluated, items visited, bytes/64 copied */
    size_t output_bytes; /* text put out, that of macros included */
    size_t memory_bytes;
};
NODISCARD enum status template_render_within(const struct template *t, const struct json *variables,
                                             struct template_now now, struct template_limits limits,
                                             struct buf *out, struct err *e);

#endif
