/* SPDX-License-Identifier: MIT
 * status.c — texts of statuses, and filling in a struct err. */
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *status_text(enum status code)
{
    static const char *const texts[STATUS_COUNT] = {
#define STATUS_TEXT(name, text) [name] = text,
        STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    };
    return (unsigned)code < STATUS_COUNT ? texts[code] : "unknown status";
}

const char *status_name(enum status code)
{
    static const char *const names[STATUS_COUNT] = {
#define STATUS_NAME(name, text) [name] = #name,
        STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    };
    return (unsigned)code < STATUS_COUNT ? names[code] : "E_UNKNOWN";
}

static enum status fill(struct err *e, enum status code, int sys, uint64_t pos, const char *fmt,
                        va_list ap)
{
    if (!e)
        return code;
    char text[sizeof e->msg];
    vsnprintf(text, sizeof text, fmt, ap); /* via a copy: an argument may be e->msg itself */
    e->code = code;
    e->sys = sys;
    e->pos = pos;
    memcpy(e->msg, text, sizeof text);
    return code;
}

enum status err_set(struct err *e, enum status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(e, code, 0, ERR_NO_POS, fmt, ap);
    va_end(ap);
    return code;
}

enum status err_at(struct err *e, enum status code, uint64_t pos, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(e, code, 0, pos, fmt, ap);
    va_end(ap);
    return code;
}

static enum status status_of_errno(int sys)
{
    switch (sys) {
    case ENOSPC:
    case EDQUOT:
        return E_FULL;
    case EACCES:
    case EPERM:
    case EROFS:
        return E_DENIED;
    case ENOENT:
        return E_NOT_FOUND;
    case EEXIST:
        return E_EXISTS;
    case ENOMEM:
        return E_NOMEM;
    case EAGAIN:
    case EADDRINUSE:
        return E_BUSY;
    default:
        return E_IO;
    }
}

enum status err_sys(struct err *e, int sys_errno, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    enum status code = fill(e, status_of_errno(sys_errno), sys_errno, ERR_NO_POS, fmt, ap);
    va_end(ap);
    if (e) {
        size_t used = strlen(e->msg);
        snprintf(e->msg + used, sizeof e->msg - used, ": %s", strerror(sys_errno));
    }
    return code;
}

enum status err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return E_INVALID;
    char text[sizeof e->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, ": %s", e->msg);
    memcpy(e->msg, text, sizeof text);
    return e->code;
}
