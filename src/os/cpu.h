/* SPDX-License-Identifier: MIT
 * cpu.h — what this machine gives us: instruction sets, processors, memory. */
#ifndef KVASIR_OS_CPU_H
#define KVASIR_OS_CPU_H

#include "base/status.h"

struct cpu_features {
    bool has_avx2;        /* with FMA, F16C and BMI2: the avx2 kernels need all four */
    bool has_avx512;      /* F, BW, VL, DQ */
    bool has_avx512_vnni;
    bool has_avx_vnni;
    char model[64];       /* as /proc/cpuinfo names it */
};

const struct cpu_features *cpu_features(void);
/* Processors this process may use: affinity mask and cgroup quota (v1 and v2), at least 1. */
uint32_t cpu_count_usable(void);
/* Bytes that may still be allocated: MemAvailable, and the cgroup's limit less its use. */
uint64_t cpu_memory_available(void);
/* This process, from /proc/self: anonymous and file-backed resident bytes. */
struct cpu_rss {
    uint64_t anon_bytes, file_bytes;
};
struct cpu_rss cpu_rss_now(void);

#endif
