/* SPDX-License-Identifier: MIT
 * drivers_int.h — the drivers there are. */
#ifndef KVASIR_BENCH_COMPARE_DRIVERS_INT_H
#define KVASIR_BENCH_COMPARE_DRIVERS_INT_H

#include "bench/compare/compare_int.h"
#include "os/fs.h"

extern const struct driver driver_kvasir, driver_llama, driver_mlx, driver_ollama, driver_lmstudio,
    driver_openai;

#endif
