/* SPDX-License-Identifier: MIT
 * cpu.c — CPUID, the affinity mask, /proc.  CPUID is read by hand: __builtin_cpu_supports of
 * clang 14 does not know f16c. */
#include "os/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/mem.h"
#include "os/cgroup.h"
#include "os/fs.h"

#define PROC_FILE_BYTES_MAX (16u << 20) /* cpuinfo of a thousand processors is about 2 MB */
#define CPUS_MAX            (1 << 16)

static struct cpu_features features;
static pthread_once_t features_once = PTHREAD_ONCE_INIT;

/* The text after "key" + blanks + optional ':' of the first such line; NULL if there is none. */
static const char *proc_value(const char *text, const char *key)
{
    size_t key_len = strlen(key);
    for (const char *line = text; line && *line;) {
        if (strncmp(line, key, key_len) == 0 && strchr(" \t:", line[key_len]) != NULL) {
            const char *value = line + key_len;
            return value + strspn(value, " \t:");
        }
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

static char *proc_read(const char *path)
{
    char *text = NULL;
    size_t len;
    if (fs_read_file(os_fs_real(), path, PROC_FILE_BYTES_MAX, &text, &len, NULL) != OK)
        return NULL;
    return text;
}

static uint64_t proc_kib(const char *text, const char *key)
{
    const char *value = text ? proc_value(text, key) : NULL;
    return value ? strtoull(value, NULL, 10) * 1024 : 0;
}

#if defined(__x86_64__)
static uint64_t xgetbv0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* An instruction set counts only if the kernel saves its registers (XCR0). */
static void read_cpuid(struct cpu_features *f)
{
    enum { OSXSAVE = 1 << 27, FMA = 1 << 12, F16C = 1 << 29, AVX = 1 << 28 };
    enum { AVX2 = 1 << 5, BMI2 = 1 << 8, AVX512F = 1 << 16, AVX512DQ = 1 << 17 };
    enum { AVX512BW = 1 << 30, AVX512_VNNI = 1 << 11, AVX_VNNI = 1 << 4 };
    const uint32_t AVX512VL = 1u << 31;
    const uint64_t ymm = 0x6, zmm = 0xe6;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE) || !(c & AVX))
        return;
    uint64_t saved = xgetbv0();
    bool has_fma_f16c = (c & FMA) && (c & F16C);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (saved & ymm) != ymm)
        return;
    uint32_t subleaves = a;
    f->has_avx2 = (b & AVX2) && (b & BMI2) && has_fma_f16c;
    f->has_avx512 = f->has_avx2 && (saved & zmm) == zmm && (b & AVX512F) && (b & AVX512BW) &&
                    (b & AVX512VL) && (b & AVX512DQ);
    f->has_avx512_vnni = f->has_avx512 && (c & AVX512_VNNI);
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        f->has_avx_vnni = f->has_avx2 && (a & AVX_VNNI);
}
#else
static void read_cpuid(struct cpu_features *f)
{
    (void)f;
}
#endif

static void read_features(void)
{
    read_cpuid(&features);
    char *text = proc_read("/proc/cpuinfo");
    const char *model = text ? proc_value(text, "model name") : NULL;
    if (!model)
        model = "unknown";
    snprintf(features.model, sizeof features.model, "%.*s", (int)strcspn(model, "\n"), model);
    mem_free(text);
}

const struct cpu_features *cpu_features(void)
{
    pthread_once(&features_once, read_features);
    return &features;
}

/* A mask larger than the kernel's is needed, and how large that is cannot be asked: doubled until
 * it fits. */
static uint32_t affinity_count(void)
{
    for (int cpus = 1024; cpus <= CPUS_MAX; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int rc = sched_getaffinity(0, size, set), sys = errno;
        int count = rc == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0)
            return (uint32_t)count;
        if (rc == 0 || sys != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

uint32_t cpu_count_usable(void)
{
    uint32_t count = affinity_count(), quota = cgroup_cpu_count("");
    return quota > 0 && quota < count ? quota : count;
}

uint64_t cpu_memory_available(void)
{
    char *text = proc_read("/proc/meminfo");
    uint64_t machine = proc_kib(text, "MemAvailable"), group = cgroup_memory_available("");
    mem_free(text);
    return group < machine ? group : machine;
}

struct cpu_rss cpu_rss_now(void)
{
    char *text = proc_read("/proc/self/status");
    struct cpu_rss rss = {
        .anon_bytes = proc_kib(text, "RssAnon"),
        .file_bytes = proc_kib(text, "RssFile"),
    };
    mem_free(text);
    return rss;
}
