/* SPDX-License-Identifier: MIT
 * endian.h — little-endian numbers in byte arrays, at any alignment. */
#ifndef KVASIR_BASE_ENDIAN_H
#define KVASIR_BASE_ENDIAN_H

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and kernels are little-endian");

#define ENDIAN_PAIR(bits)                                                                          \
    static inline uint##bits##_t get_le##bits(const void *p)                                       \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, p, sizeof v);                                                                   \
        return v;                                                                                  \
    }                                                                                              \
    static inline void put_le##bits(void *p, uint##bits##_t v)                                     \
    {                                                                                              \
        memcpy(p, &v, sizeof v);                                                                   \
    }
ENDIAN_PAIR(16)
ENDIAN_PAIR(32)
ENDIAN_PAIR(64)
#undef ENDIAN_PAIR

#endif
