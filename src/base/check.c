/* SPDX-License-Identifier: MIT
 * check.c — the one place where a broken invariant ends the program. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *file, int line, const char *claim)
{
    fprintf(stderr, "kvasir: bug at %s:%d: %s does not hold\n", file, line, claim);
    abort();
}
