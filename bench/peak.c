/* SPDX-License-Identifier: MIT
 * peak.c — the loops.  Written as assembly, so that no compiler proves that a loop repeats itself,
 * regroups a sum or keeps a chain on the stack. */
#include "bench/peak.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"
#include "os/cpu.h"

#define STEPS           20000
#define CHAINS          12
#define SECONDS_PER_RUN 0.01
#define RUNS            9
#define MULTIPLY_TURNS  400u /* some 20 ms */

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double peak_time(void (*f)(void *), void *arg)
{
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        uint32_t n = 0;
        const double start = seconds(CLOCK_THREAD_CPUTIME_ID);
        double now;
        do {
            f(arg);
            n++;
            now = seconds(CLOCK_THREAD_CPUTIME_ID);
        } while (now - start < SECONDS_PER_RUN);
        const double each = (now - start) / n;
        best = each < best ? each : best;
    }
    return best;
}

/* ---- threads ---- */
struct together {
    pthread_barrier_t start;
    void (*f)(void *, unsigned);
    void *arg;
    int runs;
    double first[2], last[2]; /* of one run */
    double best;
};
struct member {
    struct together *all;
    unsigned i, n;
};

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct together *t = m->all;
    for (int run = 0; run < t->runs; run++) {
        pthread_barrier_wait(&t->start);
        t->first[m->i] = seconds(CLOCK_MONOTONIC);
        t->f(t->arg, m->i);
        t->last[m->i] = seconds(CLOCK_MONOTONIC);
        pthread_barrier_wait(&t->start);
        if (m->i != 0)
            continue;
        double first = t->first[0], last = t->last[0];
        for (unsigned i = 1; i < m->n; i++) {
            first = t->first[i] < first ? t->first[i] : first;
            last = t->last[i] > last ? t->last[i] : last;
        }
        t->best = last - first < t->best ? last - first : t->best;
    }
    return NULL;
}

double peak_together(void (*f)(void *arg, unsigned i), void *arg, unsigned n, int runs)
{
    CHECK(n == 1 || n == 2);
    struct together t = {.f = f, .arg = arg, .runs = runs, .best = 1e9};
    struct member members[2] = {{&t, 0, n}, {&t, 1, n}};
    pthread_t thread;
    CHECK(pthread_barrier_init(&t.start, NULL, n) == 0);
    if (n == 2)
        CHECK(pthread_create(&thread, NULL, member_main, &members[1]) == 0);
    member_main(&members[0]);
    if (n == 2)
        pthread_join(thread, NULL);
    pthread_barrier_destroy(&t.start);
    return t.best;
}

/* ---- registers only ---- */
#if defined(__x86_64__)
#define CLOBBERS                                                                             \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc"
/* `text` once for each chain, which it calls \i (0 … 11); 12 … 15 are its own.  Zeros count like
 * other numbers, except that floats must not become subnormal, which they do not from zero. */
#define LOOP(name, text)                                                       \
    static void name(void *arg)                                                \
    {                                                                          \
        long n = STEPS;                                                        \
        (void)arg;                                                             \
        __asm__ volatile("vzeroall\n"                                          \
                         "1:\n"                                                \
                         ".irp i,0,1,2,3,4,5,6,7,8,9,10,11\n" text "\n.endr\n" \
                         "dec %0\n"                                            \
                         "jnz 1b\n"                                            \
                         "vzeroupper\n"                                        \
                         : "+r"(n)                                             \
                         :                                                     \
                         : CLOBBERS);                                          \
    }
#define LOOPS(name, text_256, text_512) LOOP(name##_256, text_256) LOOP(name##_512, text_512)
#define ADDW(v)                                  \
    "vpmaddubsw %%" v "13,%%" v "14,%%" v "15\n" \
    "vpaddw %%" v "15,%%" v "\\i,%%" v "\\i\n"
#define MADD(v)                                  \
    "vpmaddubsw %%" v "13,%%" v "14,%%" v "15\n" \
    "vpmaddwd %%" v "15,%%" v "12,%%" v "15\n"   \
    "vpaddd %%" v "15,%%" v "\\i,%%" v "\\i\n"
#define PAIRS(v)                                 \
    "vpmaddubsw %%" v "13,%%" v "14,%%" v "15\n" \
    "vpmaddubsw %%" v "13,%%" v "14,%%" v "12\n" \
    "vpaddw %%" v "15,%%" v "12,%%" v "15\n"     \
    "vpmaddwd %%" v "15,%%" v "14,%%" v "15\n"   \
    "vpaddd %%" v "15,%%" v "\\i,%%" v "\\i\n"
LOOPS(addw, ADDW("ymm"), ADDW("zmm"))
LOOPS(madd, MADD("ymm"), MADD("zmm"))
LOOPS(pairs, PAIRS("ymm"), PAIRS("zmm"))
LOOP(sign_256, "vpsignb %%ymm13,%%ymm14,%%ymm15\n"
               "vpmaddubsw %%ymm15,%%ymm14,%%ymm15\n"
               "vpmaddwd %%ymm15,%%ymm12,%%ymm15\n"
               "vpaddd %%ymm15,%%ymm\\i,%%ymm\\i\n")
/* The mask is made once a code vector and serves all rows: left out. */
LOOP(sign_512, "vmovdqa64 %%zmm14,%%zmm15\n"
               "vpsubb %%zmm14,%%zmm13,%%zmm15%{%%k1%}\n"
               "vpmaddubsw %%zmm15,%%zmm14,%%zmm15\n"
               "vpmaddwd %%zmm15,%%zmm12,%%zmm15\n"
               "vpaddd %%zmm15,%%zmm\\i,%%zmm\\i\n")
/* A block of 32: dots of its halves, two sub-scales.  Register 12 is the second half's sum. */
#define DOT_HALVES(form, v)                                                                       \
    "vpxor %%xmm12,%%xmm12,%%xmm12\n"                                                             \
    ".rept 4\n" form " vpdpbusd %%" v "13,%%" v "14,%%" v "\\i\n" form " vpdpbusd %%" v "13,%%" v \
    "14,%%" v "12\n.endr\n"                                                                       \
    "vpmulld %%" v "15,%%" v "\\i,%%" v "\\i\n"                                                   \
    "vpmulld %%" v "15,%%" v "12,%%" v "12\n"                                                     \
    "vpaddd %%" v "12,%%" v "\\i,%%" v "\\i\n"
LOOP(halves_512, DOT_HALVES("", "zmm"))
LOOP(halves_evex_256, DOT_HALVES("%{evex%}", "ymm"))
LOOP(halves_vex_256, DOT_HALVES("%{vex%}", "ymm"))
/* A block of 32 with what exactness asks: dw × da rounded once, the dot as a float, one fma. */
#define DOT_BLOCK(form, v)                                              \
    "vpxor %%xmm12,%%xmm12,%%xmm12\n"                                   \
    ".rept 8\n" form " vpdpbusd %%" v "13,%%" v "14,%%" v "12\n.endr\n" \
    "vcvtdq2ps %%" v "12,%%" v "12\n"                                   \
    "vmulps %%" v "13,%%" v "14,%%" v "15\n"                            \
    "vfmadd231ps %%" v "12,%%" v "15,%%" v "\\i\n"
LOOP(block_512, DOT_BLOCK("", "zmm"))
LOOP(block_evex_256, DOT_BLOCK("%{evex%}", "ymm"))
LOOP(block_vex_256, DOT_BLOCK("%{vex%}", "ymm"))
LOOP(dot_512, "vpdpbusd %%zmm13,%%zmm14,%%zmm\\i")
LOOP(dot_evex_256, "%{evex%} vpdpbusd %%ymm13,%%ymm14,%%ymm\\i")
LOOP(dot_vex_256, "%{vex%} vpdpbusd %%ymm13,%%ymm14,%%ymm\\i")
LOOPS(fma, "vfmadd231ps %%ymm13,%%ymm14,%%ymm\\i", "vfmadd231ps %%zmm13,%%zmm14,%%zmm\\i")

static void measure_mixes(struct peaks *p)
{
    const struct cpu_features *cpu = cpu_features();
    const bool has_256 = cpu->has_avx2, has_512 = cpu->has_avx512;
    const bool has_dot_256 = cpu->has_avx_vnni || cpu->has_avx512_vnni;
    const struct {
        enum peak_mix mix;
        enum peak_width width;
        bool is_here;
        double operations; /* of one chain's step */
        void (*loop)(void *);
    } loops[] = {
        {PEAK_ADDW, PEAK_256, has_256, 64, addw_256},
        {PEAK_ADDW, PEAK_512, has_512, 128, addw_512},
        {PEAK_PAIRS, PEAK_256, has_256, 128, pairs_256},
        {PEAK_PAIRS, PEAK_512, has_512, 256, pairs_512},
        {PEAK_MADD, PEAK_256, has_256, 64, madd_256},
        {PEAK_MADD, PEAK_512, has_512, 128, madd_512},
        {PEAK_SIGN, PEAK_256, has_256, 64, sign_256},
        {PEAK_SIGN, PEAK_512, has_512, 128, sign_512},
        {PEAK_HALVES, PEAK_256, has_dot_256, 512,
         cpu->has_avx_vnni ? halves_vex_256 : halves_evex_256},
        {PEAK_HALVES, PEAK_512, cpu->has_avx512_vnni, 1024, halves_512},
        {PEAK_BLOCK, PEAK_256, has_dot_256, 512,
         cpu->has_avx_vnni ? block_vex_256 : block_evex_256},
        {PEAK_BLOCK, PEAK_512, cpu->has_avx512_vnni, 1024, block_512},
        {PEAK_DOT, PEAK_256, has_dot_256, 64, cpu->has_avx_vnni ? dot_vex_256 : dot_evex_256},
        {PEAK_DOT, PEAK_512, cpu->has_avx512_vnni, 128, dot_512},
        {PEAK_FMA, PEAK_256, has_256, 16, fma_256},
        {PEAK_FMA, PEAK_512, has_512, 32, fma_512},
    };
    for (size_t i = 0; i < ARRAY_COUNT(loops); i++)
        if (loops[i].is_here)
            p->gops[loops[i].mix][loops[i].width] =
                1e-9 * loops[i].operations * CHAINS * STEPS / peak_time(loops[i].loop, NULL);
}

static void (*widest_int8(void))(void *)
{
    const struct cpu_features *cpu = cpu_features();
    if (cpu->has_avx512_vnni)
        return dot_512;
    if (cpu->has_avx512)
        return madd_512;
    return cpu->has_avx_vnni ? dot_vex_256 : cpu->has_avx2 ? madd_256 : NULL;
}

__attribute__((target("avx2"))) static void read_avx2(const void *p, size_t size)
{
    const char *at = p, *end = at + size;
    __asm__ volatile("1:\n"
                     "vpor (%0),%%ymm0,%%ymm0\n"
                     "vpor 32(%0),%%ymm1,%%ymm1\n"
                     "add $64,%0\n"
                     "cmp %1,%0\n"
                     "jne 1b\n"
                     "vzeroupper\n"
                     : "+r"(at)
                     : "r"(end)
                     : "xmm0", "xmm1", "cc", "memory");
}
#else
static void measure_mixes(struct peaks *p)
{
    (void)p;
}

static void (*widest_int8(void))(void *)
{
    return NULL;
}
#endif

/* ---- reading ---- */
static void read_plain(const void *p, size_t size)
{
    const volatile uint64_t *at = p;
    for (size_t i = 0; i < size / 8; i++)
        (void)at[i];
}

void peak_read(const void *p, size_t size)
{
    CHECK(size % 64 == 0 && size != 0);
#if defined(__x86_64__)
    if (cpu_features()->has_avx2) {
        read_avx2(p, size);
        return;
    }
#endif
    read_plain(p, size);
}

struct reading {
    const char *bytes;
    size_t size;
    unsigned n_threads;
};

static void read_share(void *arg, unsigned i)
{
    const struct reading *r = arg;
    const size_t share = r->size / r->n_threads;
    peak_read(r->bytes + i * share, share);
}

double peak_two_over_one_read(const void *bytes, size_t size, int runs)
{
    struct reading r = {.bytes = bytes, .size = size};
    double seconds_of[3] = {0};
    for (r.n_threads = 1; r.n_threads <= 2; r.n_threads++)
        seconds_of[r.n_threads] = peak_together(read_share, &r, r.n_threads, runs);
    return seconds_of[1] / seconds_of[2];
}

struct multiplying {
    void (*loop)(void *);
    unsigned n_threads;
};

static void multiply_share(void *arg, unsigned i)
{
    const struct multiplying *m = arg;
    (void)i;
    for (unsigned turn = 0; turn < MULTIPLY_TURNS / m->n_threads; turn++)
        m->loop(NULL);
}

double peak_two_over_one_int8(int runs)
{
    struct multiplying m = {.loop = widest_int8()};
    double seconds_of[3] = {0};
    if (!m.loop)
        return 0;
    for (m.n_threads = 1; m.n_threads <= 2; m.n_threads++)
        seconds_of[m.n_threads] = peak_together(multiply_share, &m, m.n_threads, runs);
    return seconds_of[1] / seconds_of[2];
}

void peaks_read(struct peaks *p)
{
    struct reading r = {.bytes = mem_try_large(PEAK_READ_BYTES), .size = PEAK_READ_BYTES};
    if (r.bytes == NULL)
        return;
    memset((void *)(uintptr_t)r.bytes, 1, PEAK_READ_BYTES);
    for (r.n_threads = 1; r.n_threads <= 2 && r.n_threads <= cpu_count_usable(); r.n_threads++)
        p->read_gbs[r.n_threads] =
            1e-9 * (double)PEAK_READ_BYTES / peak_together(read_share, &r, r.n_threads, 9);
    mem_free_large((void *)(uintptr_t)r.bytes, PEAK_READ_BYTES);
}

void peaks_measure(struct peaks *p)
{
    *p = (struct peaks){0};
    measure_mixes(p);
    peaks_read(p);
}

const char *peak_mix_name(enum peak_mix mix, enum peak_width width)
{
    static const char *const names[PEAK_MIXES][PEAK_WIDTHS] = {
        [PEAK_ADDW] = {"maddubs+paddw 256", "maddubs+paddw 512"},
        [PEAK_PAIRS] = {"2 maddubs+paddw+madd+paddd 256", "2 maddubs+paddw+madd+paddd 512"},
        [PEAK_MADD] = {"maddubs+madd+paddd 256", "maddubs+madd+paddd 512"},
        [PEAK_SIGN] = {"sign+maddubs+madd+paddd 256", "sign+maddubs+madd+paddd 512"},
        [PEAK_DOT] = {"vpdpbusd 256", "vpdpbusd 512"},
        [PEAK_HALVES] = {"8 vpdpbusd+2 pmulld+paddd 256", "8 vpdpbusd+2 pmulld+paddd 512"},
        [PEAK_BLOCK] = {"8 vpdpbusd+cvt+mul+fma 256", "8 vpdpbusd+cvt+mul+fma 512"},
        [PEAK_FMA] = {"f32 fma 256", "f32 fma 512"},
    };
    return names[mix][width];
}
