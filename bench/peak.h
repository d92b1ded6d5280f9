/* SPDX-License-Identifier: MIT
 * peak.h — what this machine can do at most: loops that touch registers only, twelve independent
 * chains each, and bare reading.  micro_kernels holds the kernels against them; the program `peak`
 * prints them. */
#ifndef KVASIR_BENCH_PEAK_H
#define KVASIR_BENCH_PEAK_H

#include <stdbool.h>
#include <stddef.h>

/* Mixes of instructions by which products of bytes are made; an operation is a multiply or an add
 * of the product itself, 2 a weight, however many instructions it takes. */
enum peak_mix {
    PEAK_ADDW,   /* vpmaddubsw + vpaddw */
    PEAK_PAIRS,  /* 2 (vpmaddubsw), vpaddw, vpmaddwd, vpaddd: an int16 holds two products only */
    PEAK_MADD,   /* vpmaddubsw + vpmaddwd + vpaddd */
    PEAK_SIGN,   /* vpsignb + vpmaddubsw + vpmaddwd + vpaddd; 512 bits: a mask and a subtraction */
    PEAK_DOT,    /* vpdpbusd */
    PEAK_HALVES, /* of a block of 32: 8 vpdpbusd, 2 vpmulld, vpaddd: a sub-scale per 16 */
    PEAK_BLOCK,  /* of a block of 32: 8 vpdpbusd, vcvtdq2ps, vmulps, vfmadd: what exactness adds */
    PEAK_FMA,    /* vfmadd231ps, floats */
    PEAK_MIXES
};
enum peak_width { PEAK_256, PEAK_512, PEAK_WIDTHS };

struct peaks {
    double gops[PEAK_MIXES][PEAK_WIDTHS]; /* 10⁹ operations a second of one core; 0: not here */
    double read_gbs[3];                   /* [threads], 1 and 2; 0: no memory to measure with */
};

#define PEAK_READ_BYTES ((size_t)1 << 30)

const char *peak_mix_name(enum peak_mix mix, enum peak_width width);
/* Takes about four seconds. */
void peaks_measure(struct peaks *p);
void peaks_read(struct peaks *p); /* read_gbs alone; about one second */
/* Reads `size` bytes once in 64-byte steps (a multiple of them). */
void peak_read(const void *p, size_t size);
/* Seconds of the slowest of n threads (1, 2) that run f(arg, i) together; the best of `runs`. */
double peak_together(void (*f)(void *arg, unsigned i), void *arg, unsigned n, int runs);
/* What two threads of this machine do over what one does, the best of `runs` each: 8-bit products
 * in registers, of the widest mix that is here; reading `size` bytes (a multiple of 128).  0:
 * unknown. */
double peak_two_over_one_int8(int runs);
double peak_two_over_one_read(const void *bytes, size_t size, int runs);
/* Best seconds of CPU time of one call. */
double peak_time(void (*f)(void *), void *arg);

#endif
