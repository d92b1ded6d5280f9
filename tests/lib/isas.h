/* SPDX-License-Identifier: MIT
 * isas.h — the instruction sets that a test runs on, and the lines in its log that say which ran
 * and which this processor lacks. */
#ifndef KVASIR_TESTS_ISAS_H
#define KVASIR_TESTS_ISAS_H

#include <stdio.h>
#include <string.h>

#include "kernels/kernels.h"

/* Those from `first` on that are here; returns how many. */
static inline uint32_t isas_here(enum isa first, enum isa isas[ISA_COUNT])
{
    uint32_t n = 0;
    for (int isa = first; isa < ISA_COUNT; isa++) {
        const struct kernels *k;
        struct err e = {0};
        if (kernels_select((enum isa)isa, &k, &e) == OK) {
            printf("ran: %s\n", k->name);
            isas[n++] = (enum isa)isa;
        } else {
            printf("skipped: %s\n", e.msg);
        }
    }
    fflush(stdout);
    return n;
}

/* The one of that name; false with a line in the log when there is none or it is not here. */
static inline bool isa_here(const char *name, enum isa *isa)
{
    for (int i = 0; i < ISA_COUNT; i++) {
        const struct kernels *k;
        struct err e = {0};
        if (strcmp(name, isa_name((enum isa)i)) != 0)
            continue;
        const bool is_here = kernels_select((enum isa)i, &k, &e) == OK;
        printf("%s: %s\n", is_here ? "ran" : "skipped", is_here ? k->name : e.msg);
        fflush(stdout);
        *isa = (enum isa)i;
        return is_here;
    }
    printf("no instruction set is called %s\n", name);
    return false;
}

#endif
