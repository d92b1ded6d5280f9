/* SPDX-License-Identifier: MIT
 * side_test.c — goal: with a side file of repacked weights the logits are the same, bit for bit, as
 * without: made by this start, mapped by the next, damaged, cut while in use, on a folder that
 * cannot be written.
 * Method: a tiny model in engines on a fresh folder; digests of all logits. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "rig.h"

#include "engine/packed.h"
#include "temp_folder.h"

#define N_TOKENS 100u
#define HEAD     4096u /* bytes before the weights of a file so small */

static uint32_t *tokens;
static struct digest expected;

static struct engine *open_engine(bool has_folder)
{
    return rig_engine((struct engine_options){.model_path = TINY("llama-KMIX"),
                                              .packed_dir = has_folder ? temp_folder : NULL});
}

static struct digest score(struct engine *g)
{
    struct engine_usage usage;
    return rig_score(g, tokens, N_TOKENS, N_TOKENS, 0, true, &usage);
}

static int set_up(void **state)
{
    (void)state;
    struct engine *g = open_engine(false);
    tokens = rig_tokens(1, N_TOKENS, engine_info(g)->model->n_vocab);
    expected = score(g);
    engine_close(g);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(tokens);
    return 0;
}

static void check_scores(struct engine *g)
{
    struct digest d = score(g);
    assert_memory_equal(&d, &expected, sizeof d);
}

static void scores_once(void)
{
    struct engine *g = open_engine(true);
    check_scores(g);
    engine_close(g);
}

struct found {
    char path[600];
    uint64_t bytes;
    uint32_t n;
    struct packed_head head;
};

static void take_file(void *arg, const char *name, uint64_t bytes, const struct packed_head *head)
{
    struct found *f = arg;
    assert_non_null(head);
    snprintf(f->path, sizeof f->path, "%s/%s", temp_folder, name);
    f->bytes = bytes;
    f->head = *head;
    f->n++;
}

static struct found the_file(void)
{
    struct found f = {0};
    struct err e;
    assert_int_equal(packed_each(os_fs_real(), temp_folder, take_file, &f, &e), OK);
    assert_int_equal(f.n, 1);
    return f;
}

static ino_t inode_of(const char *path)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    return s.st_ino;
}

static void the_next_start_maps_it(void **state)
{
    (void)state;
    char path[FS_PATH_BYTES_MAX];
    scores_once();
    struct found f = the_file();
    ino_t first = inode_of(f.path);
    assert_int_equal(packed_origin(os_fs_real(), temp_folder, &f.head, path), PACKED_CURRENT);
    assert_non_null(strstr(path, "tiny-llama-KMIX.gguf"));
    scores_once();
    f = the_file();
    assert_int_equal(inode_of(f.path), first); /* not made again */
}

static void damage_is_made_good(void **state)
{
    (void)state;
    scores_once();
    struct found f = the_file();
    for (uint64_t at = 20; at < f.bytes; at += f.bytes / 5) {
        int fd = open(f.path, O_RDWR);
        uint8_t byte;
        assert_true(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
        ino_t bad = inode_of(f.path);
        scores_once();
        if (at < 168 || at >= f.head.head_bytes) {
            f = the_file();
            assert_int_not_equal(inode_of(f.path), bad);
        }
    }
    assert_int_equal(truncate(f.path, (off_t)f.bytes / 2), 0);
    scores_once();
    assert_int_equal(the_file().bytes, f.bytes);
}

/* Bytes of files named so in this process. */
static uint64_t mapped_bytes(const char *ending)
{
    char line[1024];
    uint64_t start, end, n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strstr(line, ending) && sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2)
            n += end - start;
    fclose(f);
    return n;
}

/* Cut under the engine that maps it, and under the one that made it. */
static void a_cut_in_use_is_mended(void **state)
{
    (void)state;
    for (uint32_t is_maker = 0; is_maker < 2; is_maker++) {
        scores_once();
        if (is_maker)
            assert_int_equal(unlink(the_file().path), 0);
        struct engine *g = open_engine(true);
        for (uint32_t ms = 0; mapped_bytes(".packed") == 0 && ms < 10000; ms++)
            usleep(1000); /* the maker's has another name until it is on disk */
        assert_true(mapped_bytes(".packed") > 0);
        check_scores(g);
        struct found f = the_file();
        assert_int_equal(truncate(f.path, (off_t)(f.head.head_bytes + 5000)), 0);
        check_scores(g);
        assert_int_equal(truncate(f.path, 0), 0);
        check_scores(g);
        engine_close(g);
        scores_once();
    }
}

static void a_folder_that_cannot_be_is_done_without(void **state)
{
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s/file", temp_folder);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
    snprintf(path, sizeof path, "%s/file/packed", temp_folder);
    struct engine *g =
        rig_engine((struct engine_options){.model_path = TINY("llama-KMIX"), .packed_dir = path});
    check_scores(g);
    engine_close(g);
}

static void take_part(void *arg, const char *name, uint64_t bytes, const struct packed_head *head)
{
    char path[600];
    (void)bytes;
    assert_null(head);
    snprintf(path, sizeof path, "%s/%s", temp_folder, name);
    *(uint32_t *)arg += unlink(path) == 0;
}

static void remove_part(void *arg, const char *what, double fraction)
{
    struct err e;
    (void)what, (void)fraction;
    assert_int_equal(packed_each(os_fs_real(), temp_folder, take_part, arg, &e), OK);
}

/* The file under the weights loses its name while they are packed: what lies in it counts no
 * longer, they are packed again, into memory, and no answer shows any of it. */
static void a_file_that_comes_to_nothing_is_replaced(void **state)
{
    (void)state;
    uint32_t n = 0;
    struct engine *g = rig_engine((struct engine_options){.model_path = TINY("llama-KMIX"),
                                                          .packed_dir = temp_folder,
                                                          .progress = remove_part,
                                                          .progress_arg = &n});
    assert_int_equal(n, 1);
    assert_true(mapped_bytes(".part") > HEAD);
    for (uint32_t ms = 0; mapped_bytes(".part") > HEAD && ms < 10000; ms++) {
        check_scores(g);
        usleep(1000);
    }
    assert_int_equal(mapped_bytes(".part"), HEAD); /* nothing but the file's head */
    check_scores(g);
    engine_close(g);
    scores_once();
    the_file();
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, temp_folder_make, temp_folder_remove)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(the_next_start_maps_it),
        IN_FOLDER(damage_is_made_good),
        IN_FOLDER(a_cut_in_use_is_mended),
        IN_FOLDER(a_file_that_comes_to_nothing_is_replaced),
        IN_FOLDER(a_folder_that_cannot_be_is_done_without),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
