/* SPDX-License-Identifier: MIT
 * fault.c — the SIGBUS handler of fault.h.  Ranges live in a fixed table; a slot is published by
 * storing its start last and withdrawn by clearing it first, so the handler needs no lock. */
#include "os/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

struct range {
    _Atomic uintptr_t start; /* 0: free */
    _Atomic uintptr_t end;
    atomic_bool is_writable;
    atomic_ullong n_faults; /* since it was added */
};

static struct range ranges[OS_FAULT_RANGES_MAX];
static atomic_uint n_ranges; /* slots ever used */
static atomic_ullong n_faults;
static struct sigaction before;
static uintptr_t page_bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards adding and removing */

static struct range *range_of(uintptr_t at)
{
    unsigned n = atomic_load_explicit(&n_ranges, memory_order_acquire);
    for (unsigned i = 0; i < n; i++) {
        uintptr_t start = atomic_load_explicit(&ranges[i].start, memory_order_acquire);
        if (start != 0 && at >= start &&
            at < atomic_load_explicit(&ranges[i].end, memory_order_acquire))
            return &ranges[i];
    }
    return NULL;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    struct range *range = range_of(at);
    if (range) {
        void *page = (void *)(at & ~(page_bytes - 1));
        int protection = atomic_load(&range->is_writable) ? PROT_READ | PROT_WRITE : PROT_READ;
        void *zeros =
            mmap(page, page_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros == page) {
            atomic_fetch_add(&n_faults, 1);
            atomic_fetch_add(&range->n_faults, 1);
            return;
        }
    }
    if ((before.sa_flags & SA_SIGINFO) && before.sa_sigaction) {
        before.sa_sigaction(number, info, context);
        return;
    }
    /* The faulting instruction runs again and meets the old disposition. */
    sigaction(SIGBUS, &before, NULL);
}

/* Asked at each guard: someone (a test runner, a library) may have put its own handler over ours.
 */
static enum status install(struct err *e)
{
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
        now.sa_sigaction == on_bus_error)
        return OK;
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &before) != 0)
        return err_set(e, E_IO, "cannot catch SIGBUS");
    return OK;
}

static enum status add_range(const void *p, uint64_t bytes, bool is_writable, struct err *e)
{
    CHECK(p);
    pthread_mutex_lock(&lock);
    enum status st = install(e);
    unsigned n = atomic_load(&n_ranges), i = 0;
    while (st == OK && i < n && atomic_load(&ranges[i].start) != 0)
        i++;
    if (st == OK && i == OS_FAULT_RANGES_MAX)
        st = err_set(e, E_LIMIT, "more than %u guarded maps", OS_FAULT_RANGES_MAX);
    if (st == OK) {
        atomic_store(&ranges[i].end, (uintptr_t)p + (uintptr_t)bytes);
        atomic_store(&ranges[i].n_faults, 0);
        atomic_store(&ranges[i].is_writable, is_writable);
        atomic_store_explicit(&ranges[i].start, (uintptr_t)p, memory_order_release);
        if (i == n)
            atomic_store_explicit(&n_ranges, n + 1, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return st;
}

enum status os_fault_guard_add(const void *p, uint64_t bytes, struct err *e)
{
    return add_range(p, bytes, false, e);
}

enum status os_fault_guard_add_writable(void *p, uint64_t bytes, struct err *e)
{
    return add_range(p, bytes, true, e);
}

void os_fault_guard_remove(const void *p)
{
    pthread_mutex_lock(&lock);
    unsigned n = atomic_load(&n_ranges);
    for (unsigned i = 0; i < n; i++) {
        if (atomic_load(&ranges[i].start) == (uintptr_t)p) {
            atomic_store(&ranges[i].start, 0);
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

uint64_t os_fault_count(void)
{
    return atomic_load(&n_faults);
}

uint64_t os_fault_count_in(const void *p)
{
    const struct range *range = range_of((uintptr_t)p);
    return range ? atomic_load(&range->n_faults) : 0;
}
