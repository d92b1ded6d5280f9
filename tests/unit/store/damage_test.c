/* SPDX-License-Identifier: MIT
 * Goal: whatever happens to the files, a read gives the right bytes or a miss.
 * Method: a small store on a real folder; flip one random bit of a segment or of index.db (500
 * times), or cut, empty or remove a file; open it, read everything, write something, close, open
 * again.  Damage of index.db alone must not cost a single record.  --rounds N. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "os/fault.h"
#include "store_kit.h"

#define ROUNDS 500
#define PAGES  30
#define SMALL  40

static int rounds = ROUNDS;

static const struct store_options options = {
    .max_bytes = 64u << 20, .segment_bytes = 192u << 10, .keep_free_bytes = 1};

static struct kit_record page_of(uint32_t number)
{
    return (struct kit_record){.kind = RECORD_PAGE,
                               .number = number,
                               .n_chunks = 4,
                               .chunk_bytes = 700 + 300 * number,
                               .depth = number};
}

static struct kit_record small_of(uint32_t number)
{
    return (struct kit_record){.kind = number % 3 == 0   ? RECORD_TENANT
                                       : number % 3 == 1 ? RECORD_SESSION
                                                         : RECORD_TOKENS,
                               .number = number,
                               .n_chunks = 1 + number % 2,
                               .chunk_bytes = 50 + 40 * number};
}

static void make_store(const char *dir)
{
    struct err e;
    for (int part = 0; part < 3; part++) {
        struct store *s = kit_open(dir, &options);
        for (uint32_t i = 0; i < PAGES; i++) {
            struct kit_record k = page_of(i);
            if (i % 3 == (uint32_t)part)
                kit_must_put(s, &k);
        }
        for (uint32_t i = 0; i < SMALL; i++) {
            struct kit_record k = small_of(i), doomed = small_of(i + 1000);
            if (i % 3 != (uint32_t)part)
                continue;
            kit_must_put(s, &k);
            kit_must_put(s, &doomed);
            struct digest key = kit_key(&doomed);
            assert_int_equal(store_delete_wait(s, &key, &e), OK);
        }
        store_close(s);
    }
    assert_int_equal(kit_verify(dir), 0);
}

struct counts {
    uint32_t pages, small, deleted; /* that are there */
};

static struct counts read_all(struct store *s, const char *when)
{
    struct counts n = {0};
    for (uint32_t i = 0; i < PAGES; i++) {
        struct kit_record k = page_of(i);
        enum kit_answer answer = kit_get(s, &k, NULL);
        if (answer == KIT_WRONG)
            fail_msg("%s: page %u: wrong bytes", when, i);
        n.pages += answer == KIT_RIGHT;
    }
    for (uint32_t i = 0; i < SMALL; i++) {
        struct kit_record k = small_of(i), doomed = small_of(i + 1000);
        enum kit_answer answer = kit_get(s, &k, NULL);
        if (answer == KIT_WRONG)
            fail_msg("%s: record %u: wrong bytes", when, i);
        n.deleted += kit_get(s, &doomed, NULL) != KIT_MISS;
        n.small += answer == KIT_RIGHT;
    }
    return n;
}

struct files {
    char path[64][300];
    uint64_t size[64];
    uint32_t n;
};

static void add_file(struct files *f, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || info.st_size == 0)
        return;
    snprintf(f->path[f->n], sizeof f->path[0], "%s", path);
    f->size[f->n++] = (uint64_t)info.st_size;
}

static void list_files(const char *dir, struct files *f)
{
    char path[600];
    f->n = 0;
    snprintf(path, sizeof path, "%s/index.db", dir);
    add_file(f, path);
    snprintf(path, sizeof path, "%s/segments", dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d)) != NULL && f->n < 64;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/segments/%s", dir, entry->d_name);
        add_file(f, path);
    }
    closedir(d);
}

static void flip(const char *path, uint64_t offset, unsigned bit)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static void copy_dir(const char *from, const char *to)
{
    char command[1200];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

/* Bytes that hold something: half of the flips go to the used start of a file. */
static uint64_t choose_offset(struct prng *r, uint64_t size)
{
    uint64_t within = prng_below(r, 2) ? size : size / 2;
    return prng_below(r, within ? within : 1);
}

static struct counts open_and_read(const char *dir, const char *when)
{
    struct store *s = NULL;
    struct err e = {0};
    if (store_open(os_fs_real(), dir, &options, &s, &e) != OK)
        fail_msg("%s: does not open: %s", when, e.msg);
    struct counts n = read_all(s, when);
    struct kit_record more = {
        .kind = RECORD_SESSION, .number = 5000, .n_chunks = 1, .chunk_bytes = 10};
    kit_must_put(s, &more);
    store_close(s);
    s = kit_open(dir, &options);
    kit_must_have(s, &more);
    struct counts again = read_all(s, when);
    if (again.small < n.small || again.pages < n.pages)
        fail_msg("%s: the second open has less", when);
    store_close(s);
    return n;
}

static void test_bit_flips(void **state)
{
    (void)state;
    char good[256], bad[300], when[700];
    struct files f;
    uint32_t n_missed = 0, n_index = 0;
    kit_dir(good);
    make_store(good);
    snprintf(bad, sizeof bad, "%s-bad", good);
    for (int round = 0; round < rounds; round++) {
        struct prng r = {4711, (uint64_t)round * 100};
        copy_dir(good, bad);
        list_files(bad, &f);
        /* A third of the flips into the index; it is much smaller than the segments. */
        uint32_t file = prng_below(&r, 3) == 0 ? 0 : (uint32_t)prng_below(&r, f.n);
        uint64_t offset = choose_offset(&r, f.size[file]);
        unsigned bit = (unsigned)prng_below(&r, 8);
        snprintf(when, sizeof when, "round %d: bit %u of byte %llu of %s", round, bit,
                 (unsigned long long)offset, f.path[file]);
        flip(f.path[file], offset, bit);
        struct counts n = open_and_read(bad, when);
        if (file == 0) {
            n_index++;
            if (n.pages != PAGES || n.small != SMALL || n.deleted != 0)
                fail_msg("%s: %u pages, %u small records, %u deleted ones", when, n.pages, n.small,
                         n.deleted);
        } else {
            n_missed += n.pages != PAGES || n.small != SMALL;
            if (n.pages + 1 < PAGES || n.small + 1 < SMALL)
                fail_msg("%s: one bit cost %u pages and %u small records", when, PAGES - n.pages,
                         SMALL - n.small);
        }
    }
    print_message("%d flips, %u in the index, %u cost a record\n", rounds, n_index, n_missed);
    assert_true(n_missed > 0);
    kit_remove(bad);
    kit_remove(good);
}

/* Verify finds what a flip did, and says so before anything is repaired. */
static void test_verify_finds_flips(void **state)
{
    (void)state;
    char dir[256], path[300];
    struct err e;
    struct store_pin pin;
    kit_dir(dir);
    make_store(dir);
    struct store *s = kit_open(dir, &options);
    struct kit_record k = page_of(12);
    struct digest key = kit_key(&k);
    assert_int_equal(store_get(s, &key, &pin, &e), OK);
    uint64_t sequence = pin.sequence;
    store_unpin(s, &pin);
    store_close(s);
    /* Find the record's third chunk in the files by its bytes. */
    struct kit_put *p = kit_put_new(&k);
    struct files f;
    list_files(dir, &f);
    bool is_found = false;
    for (uint32_t i = 1; i < f.n && !is_found; i++) {
        char *bytes = NULL;
        size_t len = 0;
        assert_int_equal(fs_read_file(os_fs_real(), f.path[i], 1u << 24, &bytes, &len, &e), OK);
        char *at = memmem(bytes, len, p->chunks[2].bytes, p->chunks[2].len);
        if (at) {
            flip(f.path[i], (uint64_t)(at - bytes) + 100, 3);
            snprintf(path, sizeof path, "%s", f.path[i]);
            is_found = true;
        }
        mem_free(bytes);
    }
    kit_put_free(p);
    assert_true(is_found);
    assert_int_equal(kit_verify(dir), 1);
    s = kit_open(dir, &options);
    assert_int_equal(store_get(s, &key, &pin, &e), OK);
    assert_int_equal(pin.sequence, sequence);
    assert_int_equal(store_verify_chunk(&pin, 1, &e), OK);
    assert_int_equal(store_verify_chunk(&pin, 2, &e), E_CORRUPT);
    uint8_t *copy = mem_new(1, k.chunk_bytes);
    assert_int_equal(store_read_chunk(s, &pin, 2, copy, &e), E_CORRUPT);
    mem_free(copy);
    store_unpin(s, &pin);
    store_quarantine(s, &key, "a test flipped a bit");
    assert_false(store_has(s, &key));
    store_flush(s);
    struct store_stat stat;
    store_stat(s, &stat);
    assert_int_equal(stat.n_quarantined, 1);
    assert_int_equal(stat.n_records[RECORD_PAGE], PAGES - 1);
    store_close(s);
    assert_int_equal(kit_verify(dir), 0);
    s = kit_open(dir, &options);
    store_stat(s, &stat);
    assert_int_equal(stat.n_quarantined, 1); /* reported until the segment is gone */
    kit_must_put(s, &k);                     /* computed again */
    kit_must_have(s, &k);
    store_close(s);
    kit_remove(dir);
}

enum harm { HARM_CUT, HARM_EMPTY, HARM_REMOVE, HARM_GARBAGE, HARM_COUNT };

static void do_harm(const char *path, uint64_t size, enum harm harm, struct prng *r)
{
    uint8_t garbage[4096];
    int fd;
    switch (harm) {
    case HARM_CUT:
        assert_int_equal(truncate(path, (off_t)prng_below(r, size)), 0);
        break;
    case HARM_EMPTY:
        assert_int_equal(truncate(path, 0), 0);
        break;
    case HARM_REMOVE:
        assert_int_equal(unlink(path), 0);
        break;
    default:
        for (size_t i = 0; i < sizeof garbage; i++)
            garbage[i] = (uint8_t)prng_next(r);
        fd = open(path, O_WRONLY);
        assert_int_equal(
            pwrite(fd, garbage, sizeof garbage, (off_t)(prng_below(r, size) / 4096 * 4096)),
            (ssize_t)sizeof garbage);
        close(fd);
    }
}

static void test_files_cut_and_lost(void **state)
{
    (void)state;
    char good[256], bad[300], when[700];
    struct files f;
    kit_dir(good);
    make_store(good);
    snprintf(bad, sizeof bad, "%s-bad", good);
    for (int round = 0; round < 80; round++) {
        struct prng r = {99, (uint64_t)round * 100000};
        copy_dir(good, bad);
        list_files(bad, &f);
        uint32_t file = (uint32_t)round % f.n;
        enum harm harm = (enum harm)((uint32_t)round / f.n % HARM_COUNT);
        snprintf(when, sizeof when, "round %d: harm %d to %s", round, harm, f.path[file]);
        do_harm(f.path[file], f.size[file], harm, &r);
        struct counts n = open_and_read(bad, when);
        if (file == 0 && (n.pages != PAGES || n.small != SMALL || n.deleted != 0))
            fail_msg("%s: %u pages, %u small records, %u deleted ones", when, n.pages, n.small,
                     n.deleted);
    }
    kit_remove(bad);
    kit_remove(good);
}

/* A segment cut under an open store: reads fault, the guard gives zeros, checksums say no. */
static void test_cut_while_open(void **state)
{
    (void)state;
    char dir[256];
    struct err e;
    struct files f;
    struct store_pin pin;
    kit_dir(dir);
    make_store(dir);
    struct store *s = kit_open(dir, &options);
    struct kit_record k = page_of(20);
    struct digest key = kit_key(&k);
    assert_int_equal(store_get(s, &key, &pin, &e), OK);
    assert_int_equal(store_verify_chunk(&pin, 0, &e), OK);
    list_files(dir, &f);
    for (uint32_t i = 1; i < f.n; i++)
        assert_int_equal(truncate(f.path[i], 4096), 0);
    uint64_t faults = os_fault_count();
    /* First by populate, which says so; then as a kernel that just reads would. */
    assert_int_not_equal(store_verify_chunk(&pin, 1, &e), OK);
    volatile uint8_t sum = 0;
    for (uint64_t i = 0; i < pin.payload_len; i += 64)
        sum = (uint8_t)(sum + pin.payload[i]);
    assert_true(os_fault_count() > faults);
    for (uint32_t i = 0; i < pin.n_chunks; i++)
        assert_int_not_equal(store_verify_chunk(&pin, i, &e), OK);
    store_unpin(s, &pin);
    struct counts n = read_all(s, "cut while open");
    assert_int_equal(n.pages, 0);
    /* New records go to what is left or to a new segment, and are there. */
    struct kit_record more = {
        .kind = RECORD_SESSION, .number = 7777, .n_chunks = 1, .chunk_bytes = 10};
    kit_must_put(s, &more);
    store_close(s);
    open_and_read(dir, "after the cut");
    kit_remove(dir);
}

static void test_read_only_folder(void **state)
{
    (void)state;
    char dir[256], path[300];
    struct err e;
    struct store *s;
    kit_dir(dir);
    make_store(dir);
    if (geteuid() == 0) { /* root writes where it likes: drop to nobody for a while */
        kit_run("chmod -R a+rX '%s'", dir);
        if (seteuid(65534) != 0)
            skip();
    }
    kit_run("chmod -R a-w '%s' 2>/dev/null || true", dir);
    assert_int_equal(store_open(os_fs_real(), dir, &options, &s, &e), E_DENIED);
    struct store_options reader = {.is_read_only = true};
    s = kit_open(dir, &reader);
    struct counts n = read_all(s, "read-only folder");
    assert_int_equal(n.pages, PAGES);
    assert_int_equal(n.small, SMALL);
    store_close(s);
    snprintf(path, sizeof path, "%s/none", dir);
    assert_int_equal(store_open(os_fs_real(), path, &options, &s, &e), E_DENIED);
    assert_int_equal(store_open(os_fs_real(), path, &reader, &s, &e), E_NOT_FOUND);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    kit_remove(dir);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
        rounds = (int)strtol(argv[2], NULL, 10);
    kit_quiet();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bit_flips),          cmocka_unit_test(test_verify_finds_flips),
        cmocka_unit_test(test_files_cut_and_lost), cmocka_unit_test(test_cut_while_open),
        cmocka_unit_test(test_read_only_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
