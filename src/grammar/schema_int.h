/* SPDX-License-Identifier: MIT
 * schema_int.h — inner door of the JSON schema reader.
 *
 * The unit is a conjunction: a set of schemas that one value must satisfy together.  $ref and allOf
 * add members, anyOf and oneOf split it into several, and each conjunction becomes one rule, so a
 * recursive schema is a recursive rule.  What a conjunction means for each type of value is put
 * together from all its members (schema_*.c). */
#ifndef KVASIR_GRAMMAR_SCHEMA_INT_H
#define KVASIR_GRAMMAR_SCHEMA_INT_H

#include "grammar/expr.h"
#include "text/json.h"

#define SCHEMA_MEMBERS_MAX    64u   /* of one conjunction */
#define SCHEMA_BRANCHES_MAX   512u  /* ways through the anyOf and oneOf of one conjunction */
#define SCHEMA_PROPERTIES_MAX 1024u /* named in one conjunction */
#define SCHEMA_PATTERNS_MAX   5u    /* patternProperties of one conjunction: 2^n kinds of keys */
#define SCHEMA_COUNT_MAX      4096u /* minItems, maxLength and their like */
#define SCHEMA_DEPTH_MAX      96u   /* rules being made inside each other */
#define SCHEMA_MEMORY_MAX     (256u << 20)

enum type_bits {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_FRACTION = 8, /* a number that is no integer */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};

struct conjunction {
    const struct json *members[SCHEMA_MEMBERS_MAX]; /* objects, each once */
    uint32_t n;
    bool is_never; /* false is among them */
};

struct schema_rule {
    struct conjunction *key; /* sorted by address */
    uint32_t rule;
};
struct schema {
    struct rules rules;
    const struct json *root;
    bool old_refs; /* draft 7 and before: what stands beside $ref is ignored */
    uint32_t depth;
    struct schema_rule *made;
    uint32_t n_made, made_cap;
    bool no_values; /* enum and const are left out: see schema_value.c */
    struct err *e;
};

/* schema.c */
/* *out: a value of the schema; rules gets what it needs.  On failure rules may have unfinished ones
 * behind those that it had. */
NODISCARD enum status schema_add(struct rules *rules, const struct json *schema,
                                 const struct expr **out, struct err *e);
NODISCARD enum status conjunction_add(struct schema *s, struct conjunction *c,
                                      const struct json *schema);
/* A call of the rule for c.  NULL in *out only with a status. */
NODISCARD enum status conjunction_expr(struct schema *s, const struct conjunction *c,
                                       const struct expr **out);
NODISCARD enum status schema_nomem(struct schema *s);
/* The keyword's value as a count 0..SCHEMA_COUNT_MAX, or `absent`. */
NODISCARD enum status schema_count(struct schema *s, const struct json *member, const char *key,
                                   uint32_t absent, uint32_t *out);

/* Shared rules, each with what it reads. */
const struct expr *schema_space(struct schema *s);  /* at most one line end and its indent */
const struct expr *schema_string(struct schema *s); /* any string, quotes and all */
const struct expr *schema_value(struct schema *s);  /* any value */

/* schema_value.c: values that are listed */
/* types: those that the conjunction allows. */
NODISCARD enum status schema_listed(struct schema *s, const struct conjunction *c, uint32_t types,
                                    const struct expr **out, bool *is_listed);
bool json_equal(const struct json *a, const struct json *b);
uint32_t type_of_value(const struct json *v);

/* schema_number.c */
NODISCARD enum status schema_number(struct schema *s, const struct conjunction *c, uint32_t types,
                                    const struct expr **out);

/* schema_string.c */
NODISCARD enum status schema_text(struct schema *s, const struct conjunction *c,
                                  const struct expr **out);
/* What strings the conjunction allows; *is_any: all of them, and *out is not made. */
NODISCARD enum status schema_text_dfa(struct schema *s, const struct conjunction *c,
                                      struct dfa *out, bool *is_any);
/* schema_format.c: the pattern of a format; NULL: unknown, an annotation only. */
const char *schema_format(struct slice name);

/* schema_array.c, schema_object.c */
NODISCARD enum status schema_array(struct schema *s, const struct conjunction *c,
                                   const struct expr **out);
NODISCARD enum status schema_object(struct schema *s, const struct conjunction *c,
                                    const struct expr **out);

#endif
