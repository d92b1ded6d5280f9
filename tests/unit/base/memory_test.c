/* SPDX-License-Identifier: MIT
 * memory_test.c — goal: mem, arena and buf give zeroed, aligned memory up to their ceilings, refuse
 * what is beyond, and stay refused until cleared.
 * Method: sizes around the limits, up to those that overflow; ASan watches the edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"

/* Under sanitizers a size that malloc refuses gives NULL, as it does without, not an abort. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static bool is_zero(const void *p, size_t n)
{
    const char *c = p;
    for (size_t i = 0; i < n; i++)
        if (c[i] != 0)
            return false;
    return true;
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    /* volatile: the compiler would warn about these sizes. */
    volatile size_t half = SIZE_MAX / 2 + 1;
    assert_null(mem_try_new(half, 2));
    char *p = mem_try_new(0, 8);
    assert_non_null(p);
    assert_null(mem_try_resize(p, half, 2));
    p = mem_try_resize(p, 100, 3);
    assert_non_null(p);
    memset(p, 1, 300);
    mem_free(p);
    p = mem_try_aligned(4096, 5000);
    assert_true((uintptr_t)p % 4096 == 0 && is_zero(p, 5000));
    mem_free(p);
    assert_null(mem_try_aligned(64, half));
    p = mem_text("abc", 2);
    assert_string_equal(p, "ab");
    mem_free(p);
    mem_free(NULL);
}

static void arena_memory_is_zero_aligned_and_separate(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 8 << 20);
    for (int round = 0; round < 3; round++) {
        unsigned char *pieces[300];
        for (size_t i = 0; i < 300; i++) {
            pieces[i] = arena_alloc(&a, i, 37);
            assert_non_null(pieces[i]);
            assert_true((uintptr_t)pieces[i] % 16 == 0 && is_zero(pieces[i], i * 37));
            memset(pieces[i], (int)(i & 0xff), i * 37);
        }
        for (size_t i = 0; i < 300; i++)
            for (size_t j = 0; j < i * 37; j++)
                assert_true(pieces[i][j] == (i & 0xff));
        arena_clear(&a); /* the next round reuses a block that is full of values */
        assert_int_equal(a.used_bytes, 0);
    }
    arena_release(&a);
    arena_release(&a);
}

static void the_ceiling_of_an_arena_is_sticky(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a, 1000);
    assert_non_null(arena_alloc(&a, 1, 900));
    assert_null(arena_alloc(&a, 1, 200));
    assert_true(a.failed);
    assert_null(arena_alloc(&a, 1, 1));
    assert_null(arena_text(&a, "x", 1));
    assert_null(arena_printf(&a, "%d", 1));
    arena_clear(&a);
    assert_string_equal(arena_text(&a, "hello", 3), "hel");
    assert_string_equal(arena_text(&a, NULL, 0), "");
    assert_string_equal(arena_printf(&a, "%s-%d", "n", 42), "n-42");
    arena_release(&a);

    struct arena zero = {0};
    assert_null(arena_alloc(&zero, 1, 1));
    arena_release(&zero);
}

static void no_size_overflows_an_arena(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4096, SIZE_MAX / 2,
                                   (size_t)PTRDIFF_MAX - 100};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct arena a;
        arena_init(&a, SIZE_MAX);
        assert_null(arena_alloc(&a, sizes[i], 1));
        assert_null(arena_alloc(&a, 1, 1));
        arena_clear(&a);
        assert_null(arena_alloc(&a, sizes[i], 3));
        arena_clear(&a);
        assert_non_null(arena_alloc(&a, 1, 1));
        arena_release(&a);
    }
}

static void a_buffer_grows_and_ends_in_nul(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(buf_slice(&b).len, 0);
    assert_non_null(buf_slice(&b).ptr);
    for (int i = 0; i < 1000; i++) {
        buf_printf(&b, "%d,", i);
        assert_int_equal(strlen(b.ptr), b.len);
    }
    buf_add_text(&b, "end");
    buf_add_char(&b, '.');
    buf_add_slice(&b, SLICE_LIT("!"));
    buf_add(&b, NULL, 0);
    assert_int_equal(strncmp(b.ptr, "0,1,2,", 6), 0);
    assert_string_equal(b.ptr + b.len - 9, "999,end.!");
    buf_consume(&b, b.len - 5);
    assert_string_equal(b.ptr, "end.!");
    buf_consume(&b, 0);
    char *room = buf_reserve(&b, 3);
    memcpy(room, "abc", 3);
    b.len += 3;
    size_t len;
    char *taken = buf_take(&b, &len);
    assert_int_equal(len, 8);
    assert_memory_equal(taken, "end.!abc", 8);
    mem_free(taken);
    taken = buf_take(&b, NULL); /* of an empty one: an empty text */
    assert_string_equal(taken, "");
    mem_free(taken);
    buf_release(&b);
}

static void the_ceiling_of_a_buffer_is_sticky(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_add_text(&b, "0123456789");
    assert_false(b.failed);
    buf_add_char(&b, 'x');
    assert_true(b.failed);
    assert_string_equal(b.ptr, "0123456789");
    assert_null(buf_reserve(&b, 0));
    buf_clear(&b);
    assert_string_equal(b.ptr, "");
    assert_false(b.failed);
    assert_null(buf_reserve(&b, SIZE_MAX));
    buf_clear(&b);
    buf_printf(&b, "%s", "12345678901");
    assert_true(b.failed && b.len == 0);
    buf_release(&b);
    assert_int_equal(b.max_bytes, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(arena_memory_is_zero_aligned_and_separate),
        cmocka_unit_test(the_ceiling_of_an_arena_is_sticky),
        cmocka_unit_test(no_size_overflows_an_arena),
        cmocka_unit_test(a_buffer_grows_and_ends_in_nul),
        cmocka_unit_test(the_ceiling_of_a_buffer_is_sticky),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
