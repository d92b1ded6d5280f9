/* SPDX-License-Identifier: MIT
 * peak_main.c — prints what peak.h measures.   Use: peak [--read]     --read: reading alone */
#include <stdio.h>
#include <string.h>

#include "bench/peak.h"
#include "os/cpu.h"

int main(int argc, char **argv)
{
    struct peaks p = {0};
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "--read") != 0)) {
        fprintf(stderr, "usage: peak [--read]\n");
        return 2;
    }
    if (argc == 2)
        peaks_read(&p);
    else
        peaks_measure(&p);
    printf("%s, one core\n", cpu_features()->model);
    for (int mix = 0; mix < PEAK_MIXES; mix++)
        for (int width = 0; width < PEAK_WIDTHS; width++)
            if (p.gops[mix][width] > 0)
                printf("%-32s %6.1f GOP/s\n",
                       peak_mix_name((enum peak_mix)mix, (enum peak_width)width),
                       p.gops[mix][width]);
    for (int n = 1; n <= 2; n++)
        if (p.read_gbs[n] > 0)
            printf("reading 1 GiB, %d thread%s        %6.1f GB/s\n", n, n == 1 ? " " : "s",
                   p.read_gbs[n]);
    return 0;
}
