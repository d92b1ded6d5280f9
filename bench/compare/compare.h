/* SPDX-License-Identifier: MIT
 * compare.h — `kvasir bench`: kvasir and other local servers, the same work, timed on the wire.
 * For:     the kvasir program.   A black box: it starts servers as a user does and talks HTTP; it
 *          links base, os, text and http, never an engine.   Method: docs/benchmark.md.
 * Thread:  one run a process. */
#ifndef KVASIR_BENCH_COMPARE_COMPARE_H
#define KVASIR_BENCH_COMPARE_COMPARE_H

#include <stdio.h>

/* Words after "bench".  program: the kvasir to measure unless --system says otherwise.
 * Exit code: 0 done, 1 failed or nothing could be measured, 2 wrong usage. */
int compare_main(int argc, char **argv, const char *program);
void compare_help(FILE *out);
void compare_help_markdown(FILE *out);

#endif
