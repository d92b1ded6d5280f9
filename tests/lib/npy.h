/* SPDX-License-Identifier: MIT
 * npy.h — reads the .npy arrays that golden data come in: little-endian f32 or i32, C order.
 * Source: NumPy format 1.0 and 2.0 (numpy/lib/format.py).  For tests: a bad file ends the test. */
#ifndef KVASIR_TESTS_LIB_NPY_H
#define KVASIR_TESTS_LIB_NPY_H

#include <stddef.h>
#include <stdint.h>

#define NPY_DIMS_MAX 4

struct npy {
    size_t n_dims, dims[NPY_DIMS_MAX]; /* unused ones are 1 */
    size_t count;
    const float *f32;   /* NULL unless dtype is <f4 */
    const int32_t *i32; /* NULL unless dtype is <i4 */
    void *file;
};

struct npy npy_load(const char *path);
void npy_release(struct npy *a);

#endif
