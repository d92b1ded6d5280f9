/* SPDX-License-Identifier: MIT
 * gguf_make.c — keys, tensor infos and data grow in three buffers and are joined at the end. */
#include "gguf_make.h"

#include <string.h>

#include "base/check.h"
#include "base/endian.h"

#define BUFFER_BYTES_MAX (64u << 20)

enum { KIND_U8, KIND_I8, KIND_U16, KIND_I16, KIND_U32, KIND_I32, KIND_F32, KIND_BOOL };
enum { KIND_STRING = 8, KIND_ARRAY, KIND_U64, KIND_I64, KIND_F64 };

static void add_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof v);
}

static void add_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof v);
}

static void add_string(struct buf *b, const char *text)
{
    add_u64(b, strlen(text));
    buf_add_text(b, text);
}

static void pad(struct buf *b, uint32_t alignment)
{
    while (b->len % alignment != 0)
        buf_add_char(b, '\0');
}

void gguf_make_begin(struct gguf_make *m, uint32_t version, uint32_t alignment)
{
    *m = (struct gguf_make){.version = version, .alignment = alignment ? alignment : 32};
    buf_init(&m->keys, BUFFER_BYTES_MAX);
    buf_init(&m->infos, BUFFER_BYTES_MAX);
    buf_init(&m->data, BUFFER_BYTES_MAX);
    buf_init(&m->file, BUFFER_BYTES_MAX);
    if (alignment)
        gguf_make_key_u32(m, "general.alignment", alignment);
}

void gguf_make_key(struct gguf_make *m, const char *name, uint32_t kind, const void *value,
                   size_t len)
{
    add_string(&m->keys, name);
    add_u32(&m->keys, kind);
    buf_add(&m->keys, value, len);
    m->n_keys++;
}

void gguf_make_key_u32(struct gguf_make *m, const char *name, uint32_t value)
{
    gguf_make_key(m, name, KIND_U32, &value, sizeof value);
}

void gguf_make_key_u16(struct gguf_make *m, const char *name, uint16_t value)
{
    gguf_make_key(m, name, KIND_U16, &value, sizeof value);
}

void gguf_make_key_i32(struct gguf_make *m, const char *name, int32_t value)
{
    gguf_make_key(m, name, KIND_I32, &value, sizeof value);
}

void gguf_make_key_f32(struct gguf_make *m, const char *name, float value)
{
    gguf_make_key(m, name, KIND_F32, &value, sizeof value);
}

void gguf_make_key_bool(struct gguf_make *m, const char *name, bool value)
{
    uint8_t byte = value;
    gguf_make_key(m, name, KIND_BOOL, &byte, 1);
}

void gguf_make_key_string(struct gguf_make *m, const char *name, const char *value)
{
    gguf_make_key(m, name, KIND_STRING, NULL, 0);
    add_string(&m->keys, value);
}

void gguf_make_key_array(struct gguf_make *m, const char *name, uint32_t kind, uint64_t count,
                         const void *elements, size_t len)
{
    gguf_make_key(m, name, KIND_ARRAY, NULL, 0);
    add_u32(&m->keys, kind);
    add_u64(&m->keys, count);
    buf_add(&m->keys, elements, len);
}

void gguf_make_key_strings(struct gguf_make *m, const char *name, const char *const *values,
                           uint64_t count)
{
    gguf_make_key_array(m, name, KIND_STRING, count, NULL, 0);
    for (uint64_t i = 0; i < count; i++)
        add_string(&m->keys, values[i]);
}

void gguf_make_tensor_at(struct gguf_make *m, const char *name, uint32_t type, const uint64_t *dims,
                         uint32_t n_dims, uint64_t offset)
{
    add_string(&m->infos, name);
    add_u32(&m->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        add_u64(&m->infos, dims[i]);
    add_u32(&m->infos, type);
    add_u64(&m->infos, offset);
    m->n_tensors++;
}

void gguf_make_tensor(struct gguf_make *m, const char *name, uint32_t type, const uint64_t *dims,
                      uint32_t n_dims, const void *data, size_t len)
{
    pad(&m->data, m->alignment);
    gguf_make_tensor_at(m, name, type, dims, n_dims, m->data.len);
    buf_add(&m->data, data, len);
}

struct slice gguf_make_end(struct gguf_make *m)
{
    buf_clear(&m->file);
    buf_add_text(&m->file, "GGUF");
    add_u32(&m->file, m->version);
    add_u64(&m->file, m->n_tensors);
    add_u64(&m->file, m->n_keys);
    buf_add_slice(&m->file, buf_slice(&m->keys));
    buf_add_slice(&m->file, buf_slice(&m->infos));
    if (m->n_tensors > 0)
        pad(&m->file, m->alignment ? m->alignment : 1);
    buf_add_slice(&m->file, buf_slice(&m->data));
    CHECK(!m->file.failed && !m->keys.failed && !m->infos.failed && !m->data.failed);
    return buf_slice(&m->file);
}

void gguf_make_release(struct gguf_make *m)
{
    buf_release(&m->keys);
    buf_release(&m->infos);
    buf_release(&m->data);
    buf_release(&m->file);
}

void gguf_make_split_keys(struct gguf_make *m, uint16_t number, uint16_t count, int32_t n_tensors)
{
    gguf_make_key_u16(m, "split.no", number);
    gguf_make_key_u16(m, "split.count", count);
    gguf_make_key_i32(m, "split.tensors.count", n_tensors);
}

void gguf_make_sample(struct gguf_make *m)
{
    static const char *const words[] = {"one", "", "three"};
    static const int32_t numbers[] = {1, -2, 3};
    static const uint64_t row[] = {8}, matrix[] = {32, 2}, cube[] = {2, 3, 2};
    float ones[8];
    uint8_t blocks[2 * 18] = {0}, halves[12 * 2] = {0};
    uint8_t u8 = 200;
    int8_t i8 = -100;
    int16_t i16 = -30000;
    uint64_t u64 = UINT64_MAX;
    int64_t i64 = INT64_MIN;
    double f64 = 2.5;
    for (int i = 0; i < 8; i++)
        ones[i] = (float)(i + 1);

    gguf_make_begin(m, 3, 32);
    gguf_make_key_string(m, "general.architecture", "sample");
    gguf_make_key(m, "a.u8", KIND_U8, &u8, sizeof u8);
    gguf_make_key(m, "a.i8", KIND_I8, &i8, sizeof i8);
    gguf_make_key_u16(m, "a.u16", 60000);
    gguf_make_key(m, "a.i16", KIND_I16, &i16, sizeof i16);
    gguf_make_key_u32(m, "a.u32", 4000000000u);
    gguf_make_key_i32(m, "a.i32", -2000000000);
    gguf_make_key_f32(m, "a.f32", 1.5f);
    gguf_make_key_bool(m, "a.bool", true);
    gguf_make_key(m, "a.u64", KIND_U64, &u64, sizeof u64);
    gguf_make_key(m, "a.i64", KIND_I64, &i64, sizeof i64);
    gguf_make_key(m, "a.f64", KIND_F64, &f64, sizeof f64);
    gguf_make_key_strings(m, "a.words", words, 3);
    gguf_make_key_array(m, "a.numbers", KIND_I32, 3, numbers, sizeof numbers);
    gguf_make_tensor(m, "ones", 0, row, 1, ones, sizeof ones);
    gguf_make_tensor(m, "blocks", 2, matrix, 2, blocks, sizeof blocks);
    gguf_make_tensor(m, "halves", 1, cube, 3, halves, sizeof halves);
}
