/* SPDX-License-Identifier: MIT
 * bench.c — `kvasir bench`: the comparison is a black box of its own (bench/compare); this hands it
 * the words, and this program as the kvasir to measure. */
#include <unistd.h>

#include "app/app_int.h"
#include "bench/compare/compare.h"

int command_bench(int argc, char **argv)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) {
        complain("bench: /proc/self/exe cannot be read; is /proc mounted?");
        return EXIT_FAILED;
    }
    self[n] = '\0';
    return compare_main(argc, argv, self);
}
