/* SPDX-License-Identifier: MIT
 * stream.h — generated tokens → text that may be shown: whole characters, no partial stop string.
 * Text that may be the beginning of a stop string is held back until it is or is not one. */
#ifndef KVASIR_ENGINE_STREAM_H
#define KVASIR_ENGINE_STREAM_H

#include "base/buf.h"
#include "engine/engine.h"

struct stream {
    struct detokenizer detok;
    const struct slice *stops;
    uint32_t n_stops;
    struct buf text;   /* all text of the choice so far */
    size_t n_emitted;  /* bytes of it that were handed out */
    struct slice stop; /* the stop string that matched */
    uint32_t n_indent; /* a line behind the first with fewer blanks ends the text before what stands
                          behind them; 0: none does */
    size_t line;       /* where the line begins that was looked at last; 0: the first */
};

void stream_init(struct stream *s, const struct tokenizer *t, const struct engine_request *r);
void stream_release(struct stream *s);
/* Adds a token; the text that may be shown now, valid until the next call.  *is_stopped: a stop
 * string is complete (stop names it), or a line is not indented; text ends before it. */
struct slice stream_push(struct stream *s, uint32_t token, bool *is_stopped);
/* The end without a stop string: what was held back. */
struct slice stream_flush(struct stream *s);

#endif
