/* SPDX-License-Identifier: MIT
 * status.h — what an operation that can fail returns, and where the reason goes.
 * For:     every door in the house.          Not for: bugs; those are CHECK()s (check.h).
 * Thread:  a struct err belongs to its caller; nothing here is shared. */
#ifndef KVASIR_BASE_STATUS_H
#define KVASIR_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* One line a status: name, and the text status_text() gives. */
#define STATUS_MAP(X)                                                                              \
    X(OK, "ok")                                                                                    \
    X(E_INVALID, "invalid input")               /* well formed, but means nothing here */          \
    X(E_SYNTAX, "malformed input")              /* bytes that do not parse; err.pos says where */  \
    X(E_UNSUPPORTED, "not supported")           /* known, and refused by name */                   \
    X(E_LIMIT, "limit exceeded")                /* a named ceiling */                              \
    X(E_CONTEXT, "context length exceeded")     /* a prompt longer than the context */             \
    X(E_NOT_FOUND, "not found")                                                                    \
    X(E_EXISTS, "already exists")                                                                  \
    X(E_BUSY, "busy")                           /* try again later: queue full, lock held */       \
    X(E_CANCELLED, "cancelled")                                                                    \
    X(E_TIMEOUT, "deadline passed")                                                                \
    X(E_CORRUPT, "corrupt data")                /* bytes on disk that fail their checksum */       \
    X(E_IO, "input/output error")                                                                  \
    X(E_FULL, "no space left")                                                                     \
    X(E_NOMEM, "out of memory")                                                                    \
    X(E_DENIED, "permission denied")

enum status {
#define STATUS_ENUM(name, text) name,
    STATUS_MAP(STATUS_ENUM)
#undef STATUS_ENUM
        STATUS_COUNT
};

#define ERR_NO_POS UINT64_MAX

/* The reason of a failure.  Touched only on failure, never allocated; {0} is a fine start. */
struct err {
    enum status code;
    int sys;      /* errno, or 0 */
    uint64_t pos; /* byte position in the input, or ERR_NO_POS */
    char msg[240];
};

/* Never NULL, also for values outside the enum. */
const char *status_text(enum status code);
const char *status_name(enum status code);

/* Each fills *e (e may be NULL: the caller does not care why) and returns code, so that a failing
 * function can end with `return err_set(e, …)`. */
enum status err_set(struct err *e, enum status code, const char *fmt, ...) PRINTF_LIKE(3, 4);
enum status err_at(struct err *e, enum status code, uint64_t pos, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Maps errno to a status (ENOSPC → E_FULL, EACCES → E_DENIED, ENOENT → E_NOT_FOUND, …, else E_IO)
 * and appends strerror to the text. */
enum status err_sys(struct err *e, int sys_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "what: " before the message that is already there; returns e->code. */
enum status err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
