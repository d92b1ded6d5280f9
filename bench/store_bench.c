/* SPDX-License-Identifier: MIT
 * store_bench.c — what the store costs, in process, on the disk under DIR.
 *   store-bench DIR [records]
 * Prints: throughput of large pages and rate of small acknowledged puts, get and chain look-ups,
 * verification, opening with many records (default 100,000), neighbours among many siblings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->msg);
    exit(1);
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
    printf("get chain of %u     %7.3f ms first, %.3f ms again  (%.2f us a record)\n", CHAIN,
           first / CHAINS, rest / CHAINS, rest / CHAINS / CHAIN * 1000);
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

int main(int argc, char **argv)
{
    struct err e;
    struct store *s;
    struct store_options options = {.max_bytes = 16ull << 30, .keep_free_bytes = 1};
    uint32_t n = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100000;
    if (argc < 2 || n <= CHAIN) {
        fprintf(stderr, "usage: store-bench DIR [records]\n");
        return 2;
    }
    log_set_level(LOG_ERROR);
    if (store_open(os_fs_real(), argv[1], &options, &s, &e) != OK)
        die("open", &e);
    bench_pages(s);
    bench_small(s);
    fill(s, n);
    bench_lookups(s, n);
    uint64_t start = clock_now_ns();
    store_close(s);
    printf("close                %7.1f ms\n", clock_ms_since(start));
    for (int i = 0; i < 3; i++) {
        uint64_t rss = cpu_rss_now().anon_bytes;
        start = clock_now_ns();
        if (store_open(os_fs_real(), argv[1], &options, &s, &e) != OK)
            die("open", &e);
        struct store_stat stat;
        double ms = clock_ms_since(start);
        store_stat(s, &stat);
        uint64_t records = stat.n_records[RECORD_PAGE] + stat.n_records[RECORD_SESSION];
        printf("open                 %7.1f ms     (%llu records, %llu segments, index %.1f MiB, "
               "%.0f bytes of memory a record)\n",
               ms, (unsigned long long)records, (unsigned long long)stat.n_segments,
               (double)stat.index_bytes / 1048576,
               ((double)cpu_rss_now().anon_bytes - (double)rss) / (double)records);
        store_close(s);
    }
    start = clock_now_ns();
    if (store_rebuild(os_fs_real(), argv[1], &e) != OK)
        die("rebuild", &e);
    printf("rebuild              %7.0f ms\n", clock_ms_since(start));
    return 0;
}
