/* SPDX-License-Identifier: MIT
 * schema_format.c — "format" as patterns.  Those that regular expressions can tell are kept; others
 * are annotations, as the specification allows.
 * Sources: RFC 3339 (dates and times), RFC 5321 (mailbox, without quoted forms), RFC 1123 (host),
 * RFC 4291 (IPv6), RFC 4122 (UUID), ISO 8601 appendix A of RFC 3339 (duration). */
#include "grammar/schema_int.h"

#define MONTH_DAY                                                                   \
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
    "02-(0[1-9]|[12][0-9]))"
#define DATE   "[0-9]{4}-" MONTH_DAY
#define CLOCK  "([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\\.[0-9]{1,9})?"
#define OFFSET "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL  "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define OCTET  "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4   OCTET "(\\." OCTET "){3}"
#define H16    "[0-9A-Fa-f]{1,4}"
#define LS32   "(" H16 ":" H16 "|" IPV4 ")"

const char *schema_format(struct slice name)
{
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date-time", "^" DATE "[Tt]" CLOCK OFFSET "$"},
        {"date", "^" DATE "$"},
        {"time", "^" CLOCK OFFSET "$"},
        {"duration", "^P([0-9]+W|([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)"
                     "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?|"
                     "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))$"},
        {"email", "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@" LABEL
                  "(\\." LABEL ")*$"},
        {"hostname", "^" LABEL "(\\." LABEL ")*$"},
        {"ipv4", "^" IPV4 "$"},
        {"ipv6",
         "^((" H16 ":){6}" LS32 "|::(" H16 ":){5}" LS32 "|(" H16 ")?::(" H16 ":){4}" LS32 "|((" H16
         ":){0,1}" H16 ")?::(" H16 ":){3}" LS32 "|((" H16 ":){0,2}" H16 ")?::(" H16 ":){2}" LS32
         "|((" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|((" H16 ":){0,4}" H16 ")?::" LS32 "|((" H16
         ":){0,5}" H16 ")?::" H16 "|((" H16 ":){0,6}" H16 ")?::)$"},
        {"uuid", "^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$"},
        {"json-pointer", "^(/([^~/]|~[01])*)*$"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (slice_is(name, formats[i].name))
            return formats[i].pattern;
    return NULL;
}
