/* SPDX-License-Identifier: MIT */
#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

static void *read_whole(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fprintf(stderr, "cannot open %s\n", path);
    CHECK(f != NULL);
    CHECK(fseek(f, 0, SEEK_END) == 0);
    long size = ftell(f);
    CHECK(size > 0 && fseek(f, 0, SEEK_SET) == 0);
    *len = (size_t)size;
    char *bytes = mem_try_aligned(64, *len + 64);
    CHECK(bytes != NULL && fread(bytes, 1, *len, f) == *len);
    fclose(f);
    return bytes;
}

struct npy npy_load(const char *path)
{
    struct npy a = {.dims = {1, 1, 1, 1}, .count = 1};
    size_t len;
    unsigned char *bytes = read_whole(path, &len);
    a.file = bytes;
    CHECK(len > 12 && memcmp(bytes, "\x93NUMPY", 6) == 0);
    size_t header = bytes[8] | (size_t)bytes[9] << 8, at = 10;
    if (bytes[6] >= 2) {
        header |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
        at = 12;
    }
    CHECK(at + header < len);
    char text[512];
    CHECK(header < sizeof text);
    memcpy(text, bytes + at, header);
    text[header] = 0;
    CHECK(strstr(text, "'fortran_order': False") != NULL);
    const char *shape = strstr(text, "'shape': (");
    CHECK(shape != NULL);
    for (shape += strlen("'shape': ("); *shape && *shape != ')';) {
        char *end;
        unsigned long n = strtoul(shape, &end, 10);
        if (end == shape) {
            shape++; /* comma or blank */
            continue;
        }
        CHECK(a.n_dims < NPY_DIMS_MAX);
        a.dims[a.n_dims++] = n;
        a.count *= n;
        shape = end;
    }
    /* numpy pads the header so that the data start at a multiple of 64. */
    CHECK((at + header) % 4 == 0 && at + header + a.count * 4 == len);
    if (strstr(text, "'descr': '<f4'"))
        a.f32 = (const float *)(const void *)(bytes + at + header);
    else if (strstr(text, "'descr': '<i4'"))
        a.i32 = (const int32_t *)(const void *)(bytes + at + header);
    CHECK(a.f32 != NULL || a.i32 != NULL);
    return a;
}

void npy_release(struct npy *a)
{
    mem_free(a->file);
    *a = (struct npy){0};
}
