/* SPDX-License-Identifier: MIT
 * thread_int.h — inner door: a pthread that takes no signals meant for the process. */
#ifndef KVASIR_OS_THREAD_INT_H
#define KVASIR_OS_THREAD_INT_H

#include <pthread.h>

/* 0 or an errno, as pthread_create(). */
int thread_create_quiet(pthread_t *id, const char *name, void *(*fn)(void *), void *arg);

#endif
