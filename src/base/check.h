/* SPDX-License-Identifier: MIT
 * check.h — assertions.  CHECK stays on in release and guards doors and invariants; DCHECK is for
 * hot loops.  Both are for bugs in this program, never for bytes from disk, net or model files. */
#ifndef KVASIR_BASE_CHECK_H
#define KVASIR_BASE_CHECK_H

_Noreturn void check_failed(const char *file, int line, const char *claim);

#define CHECK(x) ((x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))
#ifdef NDEBUG
#define DCHECK(x) ((void)sizeof(!(x)))
#else
#define DCHECK(x) CHECK(x)
#endif

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

#endif
