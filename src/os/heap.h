/* SPDX-License-Identifier: MIT
 * heap.h — what the heap keeps though nobody uses it.
 * A crowd of requests leaves an allocator with tens of megabytes in pieces: free, but the
 * process's. Thread: any.  Cost: some milliseconds, with the heap's locks held; for when nothing
 * runs. */
#ifndef KVASIR_OS_HEAP_H
#define KVASIR_OS_HEAP_H

/* Before there are threads: what a request of some megabytes frees stays for the next one, instead of
 * being unmapped and faulted in anew each time; heap_trim() is for giving it back. */
void heap_prepare(void);
/* Gives free pages of the heap back to the system, where the C library can. */
void heap_trim(void);

#endif
