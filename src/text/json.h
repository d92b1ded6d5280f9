/* SPDX-License-Identifier: MIT
 * json.h — JSON values: strict reading into an arena, and writing.
 * For:    request bodies, template variables, JSON lines.   Not for: choosing what a field means.
 * Reading is strict: NaN, Infinity, duplicate keys, NUL in keys and control characters in strings
 *         are refused, UTF-8 is validated, numbers keep their source text.  One thing is changed:
 *         half a surrogate pair (\ud83d alone) becomes U+FFFD, because UTF-8 has no such character
 *         and clients that cut text by UTF-16 units send them.
 * Writing is our own, equal to Python's json.dumps(ensure_ascii=False) where separators agree.
 * Thread: values are immutable after parsing. */
#ifndef KVASIR_TEXT_JSON_H
#define KVASIR_TEXT_JSON_H

#include "base/arena.h"
#include "base/buf.h"

#define JSON_DEPTH_MAX 128
#define JSON_BYTES_MAX (64u << 20)
/* A value costs 72 bytes for two of input: these ceilings keep a hostile 64 MiB below half a GiB. */
#define JSON_CONTAINERS_MAX (1u << 18)
#define JSON_VALUES_MAX     (1u << 22)

enum json_kind { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_kind kind;
    size_t count;       /* of items or members */
    bool boolean;       /* JSON_BOOL */
    int64_t integer;    /* JSON_INT */
    double real;        /* JSON_INT and JSON_REAL */
    struct slice text;  /* JSON_STRING: the string, NUL-terminated too; numbers: as written */
    struct json *items; /* JSON_ARRAY [count] */
    struct json_member *members; /* JSON_OBJECT [count], in source order, keys unique */
};

struct json_member {
    struct slice key;
    struct json value;
};

/* Parses one value; only white space may follow.  *out lives in the arena (text is copied).
 * E_SYNTAX with a byte position, E_LIMIT (depth, size), E_NOMEM.  An integer beyond int64 becomes
 * JSON_REAL whose text is exact. */
NODISCARD enum status json_parse(struct slice text, struct arena *a, struct json **out,
                                 struct err *e);

/* A compact object of plain strings (printable ASCII without escapes), integers and booleans, as
 * our own writer makes it: true, and *out uses members [cap] and points into text, whose strings
 * end without NUL.  False: anything else, good JSON or not; json_parse knows. */
bool json_read_flat(struct slice text, struct json_member *members, size_t cap, struct json *out);

/* The member's value, or NULL when v is NULL, not an object, or has no such key. */
const struct json *json_get(const struct json *v, const char *key);

/* Making values by hand, in an arena. NULL when the arena failed. */
struct json *json_new_string(struct arena *a, struct slice text);
struct json *json_new_array(struct arena *a, size_t count);  /* items are JSON_NULL */
struct json *json_new_object(struct arena *a, size_t count); /* set members yourself */

/* ---- writing ---- */
/* A quoted, escaped string; invalid UTF-8 becomes U+FFFD. */
void json_write_string(struct buf *b, struct slice text);
void json_write_double(struct buf *b, double v); /* shortest text that reads back equal (repr) */
/* compact: "," ":"; otherwise Python's ", " ": ".  indent > 0: as json.dumps(indent=…). */
struct json_style {
    bool is_compact;
    int indent;
    bool sort_keys;
};
void json_write(struct buf *b, const struct json *v, struct json_style style);

/* A writer that puts the commas: json_begin_object … json_key … json_int … json_end_object.
 * Depth ≤ JSON_WRITER_DEPTH_MAX (CHECKed: it is our own code that nests). */
#define JSON_WRITER_DEPTH_MAX 32
struct json_writer {
    struct buf *out;
    uint32_t depth;
    bool has_item[JSON_WRITER_DEPTH_MAX];
    bool after_key;
};
void jw_init(struct json_writer *w, struct buf *out);
void jw_begin_object(struct json_writer *w);
void jw_end_object(struct json_writer *w);
void jw_begin_array(struct json_writer *w);
void jw_end_array(struct json_writer *w);
void jw_key(struct json_writer *w, const char *key);
void jw_key_slice(struct json_writer *w, struct slice key);
void jw_string(struct json_writer *w, struct slice text);
void jw_text(struct json_writer *w, const char *text); /* NULL writes null */
void jw_int(struct json_writer *w, int64_t v);
void jw_double(struct json_writer *w, double v); /* not finite writes null */
void jw_bool(struct json_writer *w, bool v);
void jw_null(struct json_writer *w);
void jw_value(struct json_writer *w, const struct json *v);
void jw_raw(struct json_writer *w, struct slice json_text); /* an already written value */

#endif
