/* SPDX-License-Identifier: MIT
 * clock.h — time.  Thread: any. */
#ifndef KVASIR_OS_CLOCK_H
#define KVASIR_OS_CLOCK_H

#include <stdint.h>

uint64_t clock_now_ns(void);     /* monotonic */
int64_t clock_unix_s(void);      /* seconds since 1970, UTC */
int64_t clock_unix_ms(void);
int64_t clock_unix_ns(void);
void clock_sleep_ms(uint32_t ms);

static inline double clock_ms_since(uint64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) * 1e-6;
}

#endif
