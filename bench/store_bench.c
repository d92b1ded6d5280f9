/* SPDX-License-Identifier: MIT
 * store_bench.c — what the store costs, in process, on the disk under DIR.
 *   store-bench DIR [records [again|reclaim]]
 * records: pages of 4 KiB, default 100,000; the bars are for 1,000,000.  again: the store in DIR is
 * what an earlier run with as many made.  reclaim: only waiting beside reclamation. Prints:
 * throughput of large pages and rate of small acknowledged puts, look-ups of chains and of
 * neighbours among many siblings, also beneath one public prompt, listing of sessions, opening,
 * memory, reading back from disk, and what encryption costs.  A figure that a bar was set for is
 * followed by "met" or "MISSED" and the bar. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/prng.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "store/store.h"

#define PAGE_BYTES (1u << 20)
#define N_PAGES    1024u
#define N_SMALL    200u
#define CHAIN      300u
#define CHAINS     200u
#define SESSIONS   100000u
#define SEALED     256u /* pages of 1 MiB, with and without a key */
#define ROUNDS     3u

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->msg);
    exit(1);
}

static uint32_t n_met, n_bars;

/* A figure with a bar behind it: is it at most (or at least) that? */
static const char *verdict(double value, double bar, bool is_least, char text[64])
{
    bool is_met = is_least ? value >= bar : value <= bar;
    n_bars++;
    n_met += is_met;
    snprintf(text, 64, "%s (bar: %s %g)", is_met ? "met" : "MISSED",
             is_least ? "at least" : "at most", bar);
    return text;
}

static struct digest key_of(uint64_t a, uint64_t b)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "a", a);
    digest_u64(&d, "b", b);
    struct digest k = digest_end(&d);
    digester_release(&d);
    return k;
}

static void put(struct store *s, const struct store_put *p)
{
    struct err e;
    enum status st;
    while ((st = store_put(s, p, &e)) == E_BUSY)
        clock_sleep_ms(1);
    if (st != OK)
        die("put", &e);
}

static void bench_pages(struct store *s)
{
    uint8_t *bytes = mem_new(1, PAGE_BYTES);
    struct prng r = {1, 0};
    for (uint32_t i = 0; i < PAGE_BYTES; i += 8) {
        uint64_t x = prng_next(&r);
        memcpy(bytes + i, &x, 8);
    }
    struct store_chunk chunks[16];
    for (uint32_t i = 0; i < 16; i++)
        chunks[i] = (struct store_chunk){bytes + i * (PAGE_BYTES / 16), PAGE_BYTES / 16};
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < N_PAGES; i++) {
        struct store_put p = {.kind = RECORD_PAGE,
                              .key = key_of(1, i),
                              .chunks = chunks,
                              .n_chunks = 16,
                              .meta = bytes,
                              .meta_len = 300};
        put(s, &p);
    }
    store_flush(s);
    double ms = clock_ms_since(start);
    printf("put pages            %7.0f MiB/s  (%u of 1 MiB, durable)\n", N_PAGES / ms * 1000,
           N_PAGES);
    start = clock_now_ns();
    struct err e;
    for (uint32_t i = 0; i < N_PAGES; i++) {
        struct store_pin pin;
        struct digest k = key_of(1, i);
        if (store_get(s, &k, &pin, &e) != OK)
            die("get", &e);
        for (uint32_t c = 0; c < pin.n_chunks; c++)
            if (store_verify_chunk(&pin, c, &e) != OK)
                die("verify", &e);
        store_unpin(s, &pin);
    }
    printf("get + verify pages   %7.0f MiB/s  (page cache warm)\n",
           N_PAGES / clock_ms_since(start) * 1000);
    mem_free(bytes);
}

static void bench_small(struct store *s)
{
    char bytes[500] = "";
    struct store_chunk chunk = {bytes, sizeof bytes};
    struct err e;
    double most = 0;
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < N_SMALL; i++) {
        struct store_put p = {
            .kind = RECORD_SESSION, .key = key_of(2, i), .chunks = &chunk, .n_chunks = 1};
        uint64_t one = clock_now_ns();
        if (store_put_wait(s, &p, &e) != OK)
            die("put", &e);
        double ms = clock_ms_since(one);
        most = ms > most ? ms : most;
    }
    printf("acknowledged puts    %7.2f ms each, %.1f ms at most  (one fdatasync)\n",
           clock_ms_since(start) / N_SMALL, most);
}

/* Records of 64 tokens' worth of nothing: what matters is their number. */
static void fill(struct store *s, uint32_t n)
{
    uint8_t meta[280] = {0};
    uint64_t start = clock_now_ns();
    struct digest family = key_of(4, 0);
    for (uint32_t i = 0; i < n; i++) {
        struct store_put p = {.kind = RECORD_PAGE,
                              .key = key_of(3, i),
                              .meta = meta,
                              .meta_len = sizeof meta,
                              .depth = i % CHAIN,
                              .family = key_of(5, i)};
        if (i % 2 == 0) { /* half of them siblings of each other */
            p.family = family;
            uint64_t order = i * 0x9e3779b97f4a7c15ull;
            memcpy(p.order, &order, 8);
            p.order_len = 256;
        }
        put(s, &p);
    }
    store_flush(s);
    double ms = clock_ms_since(start);
    printf("put records          %7.0f /s     (%u of 4 KiB with siblings, durable)\n",
           n / ms * 1000, n);
}

static void bench_lookups(struct store *s, uint32_t n)
{
    struct digest *keys = mem_new(CHAIN, sizeof *keys);
    struct store_pin *pins = mem_new(CHAIN, sizeof *pins);
    struct prng r = {9, 0};
    struct err e;
    double first = 0, rest = 0;
    for (uint32_t c = 0; c < CHAINS; c++) {
        uint32_t base = (uint32_t)prng_below(&r, n - CHAIN);
        for (uint32_t i = 0; i < CHAIN; i++)
            keys[i] = key_of(3, base + i);
        for (int again = 0; again < 2; again++) {
            uint64_t start = clock_now_ns();
            for (uint32_t i = 0; i < CHAIN; i++)
                if (store_get(s, &keys[i], &pins[i], &e) != OK)
                    die("get", &e);
            *(again ? &rest : &first) += clock_ms_since(start);
            for (uint32_t i = 0; i < CHAIN; i++)
                store_unpin(s, &pins[i]);
        }
    }
    char text[64];
    printf("get chain of %u     %7.3f ms first, %.3f ms again  (%.2f us a record)  %s\n", CHAIN,
           first / CHAINS, rest / CHAINS, rest / CHAINS / CHAIN * 1000,
           verdict(rest / CHAINS, 1.5, false, text));
    struct digest family = key_of(4, 0), found[2];
    uint64_t start = clock_now_ns(), n_found = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        uint64_t order = prng_next(&r);
        n_found += store_neighbours(s, &family, (const uint8_t *)&order, 8, found);
    }
    printf("neighbours           %7.1f us     (among %u siblings, %.2f found)\n",
           clock_ms_since(start) / 10, n / 2, (double)n_found / 10000);
    mem_free(keys);
    mem_free(pins);
}

/* Small records under names, as sessions are kept. */
static void fill_sessions(struct store *s)
{
    char meta[300];
    uint64_t start = clock_now_ns();
    memset(meta, 's', sizeof meta);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct store_put p = {
            .kind = RECORD_SESSION, .key = key_of(7, i), .meta = meta, .meta_len = sizeof meta};
        put(s, &p);
    }
    store_flush(s);
    printf("put sessions         %7.0f /s     (%u)\n", SESSIONS / clock_ms_since(start) * 1000,
           SESSIONS);
}

/* ---- many conversations beneath one public prompt ---- */
static uint32_t order_of(uint64_t child, uint8_t out[STORE_ORDER_MAX])
{
    struct prng r = {child, 0};
    for (uint32_t i = 0; i < STORE_ORDER_MAX; i += 8) {
        uint64_t x = i < 32 ? 0x0101010101010101ull : prng_next(&r); /* they begin alike */
        memcpy(out + i, &x, 8);
    }
    return STORE_ORDER_MAX;
}

/* SESSIONS first pages, each a conversation's, under the end of the first chain of fill(). */
static void fill_beneath(struct store *s)
{
    uint8_t meta[264] = {0};
    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct store_put p = {.kind = RECORD_PAGE,
                              .key = key_of(8, i),
                              .parent = key_of(3, CHAIN - 1),
                              .family = key_of(9, 0),
                              .depth = CHAIN,
                              .meta = meta,
                              .meta_len = sizeof meta};
        p.order_len = order_of(i, p.order);
        put(s, &p);
    }
    store_flush(s);
}

/* The public prompt's pages, then a conversation's own: found by its key, or, where it diverges
 * within its first page, by its neighbours, of which one is read. */
static void bench_beneath(struct store *s)
{
    struct prng r = {11, 0};
    struct err e;
    struct digest family = key_of(9, 0), found[2], *keys = mem_new(CHAIN, sizeof *keys);
    struct store_pin *pins = mem_new(CHAIN + 2, sizeof *pins);
    char text[64];
    for (uint32_t i = 0; i < CHAIN; i++)
        keys[i] = key_of(3, i);
    uint64_t start = clock_now_ns();
    for (uint32_t c = 0; c < CHAINS; c++) {
        uint8_t order[STORE_ORDER_MAX];
        uint64_t child = prng_below(&r, SESSIONS);
        uint32_t order_len = order_of(child, order), n = 0;
        struct digest key = key_of(8, child);
        for (; n < CHAIN; n++)
            if (store_get(s, &keys[n], &pins[n], &e) != OK)
                die("get", &e);
        if (store_get(s, &key, &pins[n++], &e) != OK)
            die("get", &e);
        order[200] ^= 1; /* another one, which begins as this one does */
        uint32_t n_found = store_neighbours(s, &family, order, order_len, found);
        bool is_near = n_found > 0 && (digest_equal(&found[0], &key) ||
                                       (n_found > 1 && digest_equal(&found[1], &key)));
        if (!is_near || store_get(s, &found[0], &pins[n++], &e) != OK)
            die("neighbours", &e);
        while (n > 0)
            store_unpin(s, &pins[--n]);
    }
    double ms = clock_ms_since(start) / CHAINS;
    printf("beneath one prompt   %7.3f ms     (%u pages and one of %u children)  %s\n", ms, CHAIN,
           SESSIONS, verdict(ms, 1.5, false, text));
    mem_free(pins);
    mem_free(keys);
}

static bool count_one(const struct store_pin *pin, void *arg)
{
    *(uint64_t *)arg += pin->meta_len > 0;
    return true;
}

static bool stop_at_fifty(const struct store_pin *pin, void *arg)
{
    (void)pin;
    return ++*(uint64_t *)arg < 50;
}

static void bench_listing(struct store *s)
{
    struct err e;
    uint64_t n = 0, start = clock_now_ns();
    if (store_each(s, RECORD_SESSION, stop_at_fifty, &n, &e) != OK)
        die("list", &e);
    double page = clock_ms_since(start);
    n = 0;
    start = clock_now_ns();
    if (store_each(s, RECORD_SESSION, count_one, &n, &e) != OK)
        die("list", &e);
    printf("list sessions        %7.1f ms the newest 50, %.1f ms all %llu\n", page,
           clock_ms_since(start), (unsigned long long)n);
}

/* ---- reading back ---- */
/* The page cache gives up what nobody has mapped. */
static void drop_cache(const char *dir)
{
    char path[600];
    snprintf(path, sizeof path, "%s/segments", dir);
    DIR *d = opendir(path);
    for (struct dirent *entry; d && (entry = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/segments/%s", dir, entry->d_name);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        (void)!fdatasync(fd);
        (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    if (d)
        closedir(d);
}

/* MiB/s of the first segments read one after the other, 4 MiB at a time. */
static double read_files(const char *dir, uint64_t bytes_max)
{
    static uint8_t buffer[4u << 20];
    uint64_t total = 0, start = clock_now_ns();
    for (unsigned number = 1; total < bytes_max; number++) {
        char path[600];
        snprintf(path, sizeof path, "%s/segments/%016x.seg", dir, number);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            break;
        (void)!posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        for (ssize_t n; total < bytes_max && (n = read(fd, buffer, sizeof buffer)) > 0;)
            total += (uint64_t)n;
        close(fd);
    }
    return (double)total / 1048576 / clock_ms_since(start) * 1000;
}

/* MiB/s of the pages of bench_pages() as a resumed chain reads them: look-up, read-ahead, and each
 * page faulted in and checked in its order; *first_ms: until the first one was there. */
static double read_chain(const char *dir, const struct store_options *options, double *first_ms)
{
    static struct store_pin pins[N_PAGES];
    static const struct store_pin *list[N_PAGES];
    struct err e;
    struct store *s;
    if (store_open(os_fs_real(), dir, options, &s, &e) != OK)
        die("open", &e);
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < N_PAGES; i++) {
        struct digest k = key_of(1, i);
        if (store_get_unread(s, &k, PAGE_BYTES, &pins[i], &e) != OK)
            die("get", &e);
        list[i] = &pins[i];
    }
    store_read_ahead(s, list, N_PAGES);
    for (uint32_t i = 0; i < N_PAGES; i++) {
        if (store_fault_in(&pins[i], &e) != OK)
            die("fault in", &e);
        for (uint32_t c = 0; c < pins[i].n_chunks; c++)
            if (store_check_chunk(&pins[i], c, &e) != OK)
                die("check", &e);
        if (i == 0)
            *first_ms = clock_ms_since(start);
    }
    double ms = clock_ms_since(start);
    for (uint32_t i = 0; i < N_PAGES; i++)
        store_unpin(s, &pins[i]);
    store_close(s);
    return N_PAGES / ms * 1000;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void bench_reading_back(const char *dir, const struct store_options *options)
{
    double file[ROUNDS], chain[ROUNDS], first[ROUNDS];
    char text[64];
    for (uint32_t i = 0; i < ROUNDS; i++) { /* in turns: the disk is shared */
        drop_cache(dir);
        file[i] = read_files(dir, (uint64_t)N_PAGES * PAGE_BYTES);
        drop_cache(dir);
        chain[i] = read_chain(dir, options, &first[i]);
    }
    qsort(file, ROUNDS, sizeof file[0], ascending);
    qsort(chain, ROUNDS, sizeof chain[0], ascending);
    qsort(first, ROUNDS, sizeof first[0], ascending);
    double share = 100 * chain[ROUNDS / 2] / file[ROUNDS / 2];
    printf("read back            %7.0f MiB/s  of %.0f that the files give: %.0f %%  %s\n",
           chain[ROUNDS / 2], file[ROUNDS / 2], share, verdict(share, 80, true, text));
    printf("  first page after   %7.2f ms     (of %.0f ms for all %u)\n", first[ROUNDS / 2],
           N_PAGES / chain[ROUNDS / 2] * 1000, N_PAGES);
}

/* Opens, measures, and looks one chain up that the page cache has forgotten. */
static void bench_open(const char *dir, const struct store_options *options, uint32_t n)
{
    double ms[ROUNDS], bytes[ROUNDS];
    char text[64], text2[64];
    struct store_stat stat = {0};
    struct err e;
    struct store *s;
    double cold = 0;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        drop_cache(dir);
        uint64_t rss = cpu_rss_now().anon_bytes, start = clock_now_ns();
        if (store_open(os_fs_real(), dir, options, &s, &e) != OK)
            die("open", &e);
        ms[i] = clock_ms_since(start);
        store_stat(s, &stat);
        uint64_t records = 0;
        for (int kind = 0; kind <= RECORD_KIND_LAST; kind++)
            records += stat.n_records[kind];
        bytes[i] = ((double)cpu_rss_now().anon_bytes - (double)rss) / (double)records;
        start = clock_now_ns();
        for (uint32_t k = 0; k < CHAIN; k++) {
            struct store_pin pin;
            struct digest key = key_of(3, n / 2 + k);
            if (store_get(s, &key, &pin, &e) != OK)
                die("get", &e);
            store_unpin(s, &pin);
        }
        cold += clock_ms_since(start);
        store_close(s);
    }
    qsort(ms, ROUNDS, sizeof ms[0], ascending);
    qsort(bytes, ROUNDS, sizeof bytes[0], ascending);
    printf("open                 %7.1f ms     (%llu pages, %llu sessions, index %.1f MiB)  %s\n",
           ms[ROUNDS / 2], (unsigned long long)stat.n_records[RECORD_PAGE],
           (unsigned long long)stat.n_records[RECORD_SESSION], (double)stat.index_bytes / 1048576,
           verdict(ms[ROUNDS / 2], 1000, false, text));
    printf("memory               %7.0f bytes a record  %s\n", bytes[ROUNDS - 1],
           verdict(bytes[ROUNDS - 1], 200, false, text2));
    printf("get chain, cold      %7.2f ms     (page cache dropped)\n", cold / ROUNDS);
}

/* ---- encryption ---- */
struct sealed_cost {
    double put_ms, read_ms, small_ms;
};

/* SEALED pages of 1 MiB written, read back verified (decrypted, with a key), and small records. */
static struct sealed_cost run_sealed(const char *dir, const uint8_t *file_key, const uint8_t *bytes)
{
    struct sealed_cost cost;
    char path[600], remove[700];
    struct err e;
    struct store *s;
    struct store_options options = {
        .max_bytes = 4ull << 30, .keep_free_bytes = 1, .file_key = file_key};
    snprintf(path, sizeof path, "%s/sealed", dir);
    if (store_open(os_fs_real(), path, &options, &s, &e) != OK)
        die("open", &e);
    struct store_chunk chunks[16], small = {bytes, 500};
    for (uint32_t i = 0; i < 16; i++)
        chunks[i] = (struct store_chunk){bytes + i * (PAGE_BYTES / 16), PAGE_BYTES / 16};
    uint64_t start = clock_now_ns();
    for (uint32_t i = 0; i < SEALED; i++) {
        struct store_put p = {.kind = RECORD_PAGE,
                              .key = key_of(1, i),
                              .chunks = chunks,
                              .n_chunks = 16,
                              .meta = bytes,
                              .meta_len = 264};
        put(s, &p);
    }
    store_flush(s);
    cost.put_ms = clock_ms_since(start);
    start = clock_now_ns();
    for (uint32_t i = 0; i < SEALED; i++) {
        struct store_pin pin;
        struct digest k = key_of(1, i);
        if (store_get(s, &k, &pin, &e) != OK || store_fault_in(&pin, &e) != OK)
            die("get", &e);
        for (uint32_t c = 0; c < pin.n_chunks; c++)
            if (store_check_chunk(&pin, c, &e) != OK)
                die("check", &e);
        store_unpin(s, &pin);
    }
    cost.read_ms = clock_ms_since(start);
    start = clock_now_ns();
    for (uint32_t i = 0; i < N_SMALL; i++) {
        struct store_put p = {
            .kind = RECORD_SESSION, .key = key_of(2, i), .chunks = &small, .n_chunks = 1};
        if (store_put_wait(s, &p, &e) != OK)
            die("put", &e);
    }
    cost.small_ms = clock_ms_since(start) / N_SMALL;
    store_close(s);
    snprintf(remove, sizeof remove, "rm -rf '%s'", path);
    if (system(remove) != 0)
        fprintf(stderr, "%s is left\n", path);
    return cost;
}

static void bench_sealed(const char *dir)
{
    static const uint8_t file_key[STORE_FILE_KEY_BYTES] = {1, 2, 3};
    double put_ms[2][ROUNDS], read_ms[2][ROUNDS], small_ms[2][ROUNDS];
    uint8_t *bytes = mem_new(1, PAGE_BYTES);
    struct prng r = {4, 0};
    for (uint32_t i = 0; i < PAGE_BYTES; i += 8) {
        uint64_t x = prng_next(&r);
        memcpy(bytes + i, &x, 8);
    }
    for (uint32_t i = 0; i < ROUNDS; i++) { /* in turns */
        for (int is_sealed = 0; is_sealed < 2; is_sealed++) {
            struct sealed_cost c = run_sealed(dir, is_sealed ? file_key : NULL, bytes);
            put_ms[is_sealed][i] = c.put_ms;
            read_ms[is_sealed][i] = c.read_ms;
            small_ms[is_sealed][i] = c.small_ms;
        }
    }
    for (int i = 0; i < 2; i++) {
        qsort(put_ms[i], ROUNDS, sizeof(double), ascending);
        qsort(read_ms[i], ROUNDS, sizeof(double), ascending);
        qsort(small_ms[i], ROUNDS, sizeof(double), ascending);
    }
    uint32_t m = ROUNDS / 2;
    printf("encrypted, put       %7.0f MiB/s  (in the clear %.0f)\n", SEALED / put_ms[1][m] * 1000,
           SEALED / put_ms[0][m] * 1000);
    printf("  read and checked   %7.0f MiB/s  (in the clear %.0f; page cache warm, one thread)\n",
           SEALED / read_ms[1][m] * 1000, SEALED / read_ms[0][m] * 1000);
    printf("  acknowledged put   %7.2f ms     (in the clear %.2f)\n", small_ms[1][m],
           small_ms[0][m]);
    mem_free(bytes);
}

/* ---- reclamation beside work ---- */
#define WAITS_MAX 20000u

/* What somebody waits who puts small records and reads pages every 2 ms, for `ms` or,
 * is_until_done, until nothing half-empty is left. */
static void wait_beside(struct store *s, double ms, bool is_until_done, const char *what)
{
    static double queue_ms[WAITS_MAX], put_ms[WAITS_MAX], get_ms[WAITS_MAX];
    static uint32_t n_names;
    char bytes[500] = "";
    struct store_chunk small = {bytes, sizeof bytes};
    struct store_stat before, stat;
    struct err e;
    uint32_t n = 0;
    store_stat(s, &before);
    uint64_t start = clock_now_ns();
    do {
        struct store_pin pin;
        struct digest key = key_of(1, n * 3 % N_PAGES / 3 * 3);
        struct store_put p = {
            .kind = RECORD_SESSION, .key = key_of(2, n_names++), .chunks = &small, .n_chunks = 1};
        uint64_t one = clock_now_ns();
        put(s, &p); /* all that the engine's thread ever does */
        queue_ms[n] = clock_ms_since(one);
        one = clock_now_ns();
        p.key = key_of(2, n_names++);
        if (store_put_wait(s, &p, &e) != OK)
            die("put", &e);
        put_ms[n] = clock_ms_since(one);
        one = clock_now_ns();
        if (store_get(s, &key, &pin, &e) != OK || store_verify_chunk(&pin, 0, &e) != OK)
            die("get", &e);
        get_ms[n++] = clock_ms_since(one);
        store_unpin(s, &pin);
        clock_sleep_ms(2);
        store_stat(s, &stat);
    } while (n < WAITS_MAX && clock_ms_since(start) < ms &&
             !(is_until_done && stat.n_compacted >= 3));
    double took = clock_ms_since(start);
    qsort(queue_ms, n, sizeof queue_ms[0], ascending);
    qsort(put_ms, n, sizeof put_ms[0], ascending);
    qsort(get_ms, n, sizeof get_ms[0], ascending);
    uint32_t p99 = n * 99 / 100;
    printf(
        "%-20s %7.3f ms queued (p99; %.3f at most), acknowledged %.2f p50 %.2f p99 %.1f at most, "
        "1 MiB read %.2f p50 %.2f p99 %.1f at most\n",
        what, queue_ms[p99], queue_ms[n - 1], put_ms[n / 2], put_ms[p99], put_ms[n - 1],
        get_ms[n / 2], get_ms[p99], get_ms[n - 1]);
    printf("                     (%u of each in %.0f ms; %llu MiB copied, %llu segments gone)\n", n,
           took, (unsigned long long)((stat.compacted_bytes - before.compacted_bytes) >> 20),
           (unsigned long long)(stat.n_compacted - before.n_compacted));
}

/* The same work beside nothing, and, when two of three pages were deleted, while the store moves
 * what lives out of their segments. */
static void bench_reclaim(const char *dir)
{
    char path[600], remove[700];
    struct err e;
    struct store *s;
    struct store_options options = {.max_bytes = 4ull << 30, .keep_free_bytes = 1};
    uint8_t *page = mem_new(1, PAGE_BYTES);
    struct store_chunk chunk = {page, PAGE_BYTES};
    snprintf(path, sizeof path, "%s/reclaim", dir);
    if (store_open(os_fs_real(), path, &options, &s, &e) != OK)
        die("open", &e);
    for (uint32_t i = 0; i < N_PAGES; i++)
        put(s, &(struct store_put){
                   .kind = RECORD_PAGE, .key = key_of(1, i), .chunks = &chunk, .n_chunks = 1});
    store_flush(s);
    wait_beside(s, 5000, false, "beside nothing");
    for (uint32_t i = 0; i < N_PAGES; i++) {
        struct digest key = key_of(1, i);
        if (i % 3 != 0 && store_delete(s, &key, &e) != OK)
            die("delete", &e);
    }
    store_flush(s);
    wait_beside(s, 20000, true, "beside reclamation");
    store_close(s);
    snprintf(remove, sizeof remove, "rm -rf '%s'", path);
    if (system(remove) != 0)
        fprintf(stderr, "%s is left\n", path);
    mem_free(page);
}

int main(int argc, char **argv)
{
    struct err e;
    struct store *s;
    struct store_options options = {.max_bytes = 16ull << 30, .keep_free_bytes = 1};
    uint32_t n = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100000;
    if (argc < 2 || n <= CHAIN * 2) {
        fprintf(stderr, "usage: store-bench DIR [records [again|reclaim]]\n");
        return 2;
    }
    log_set_level(LOG_ERROR);
    setlinebuf(stdout);
    if (argc > 3 && strcmp(argv[3], "reclaim") == 0) {
        bench_reclaim(argv[1]);
        return 0;
    }
    if (store_open(os_fs_real(), argv[1], &options, &s, &e) != OK)
        die("open", &e);
    bool is_again = argc > 3 && strcmp(argv[3], "again") == 0;
    if (is_again) {
        printf("the store is as an earlier run left it\n");
    } else {
        bench_pages(s);
        bench_small(s);
        fill(s, n);
        fill_beneath(s);
        fill_sessions(s);
    }
    bench_lookups(s, n);
    bench_beneath(s);
    bench_listing(s);
    uint64_t start = clock_now_ns();
    store_close(s);
    printf("close                %7.1f ms\n", clock_ms_since(start));
    bench_open(argv[1], &options, n);
    bench_reading_back(argv[1], &options);
    bench_sealed(argv[1]);
    bench_reclaim(argv[1]);
    start = clock_now_ns();
    if (!is_again && store_rebuild(os_fs_real(), argv[1], &e) != OK)
        die("rebuild", &e);
    if (!is_again)
        printf("rebuild              %7.0f ms\n", clock_ms_since(start));
    printf("\n%u of %u bars are met.\n", n_met, n_bars);
    return 0;
}
