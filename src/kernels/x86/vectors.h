/* SPDX-License-Identifier: MIT
 * vectors.h — the vector instructions that the sets are written in: the processor's, or plain C
 * that computes the same (KVASIR_PLAIN_VECTORS), so that tests run every set's source on every
 * machine. NATIVE_NAME keeps the two apart when both are linked. */
#ifndef KVASIR_KERNELS_X86_VECTORS_H
#define KVASIR_KERNELS_X86_VECTORS_H

#ifdef KVASIR_PLAIN_VECTORS
#include "kernels/x86/plain.h"
#define NATIVE_NAME(x)                  plain_##x
#define SET_NAME(string)                string " in plain C"
#define VECTOR_STAYS(register_class, v) ((void)(v))
#else
#include <immintrin.h>
#define NATIVE_NAME(x)                  x
#define SET_NAME(string)                string
#define VECTOR_STAYS(register_class, v) __asm__("" : "+" #register_class(v))
#endif

#endif
