/* SPDX-License-Identifier: MIT
 * log.c — formats a line and writes it in one piece; control characters become '?', so that an event
 * stays one line. */
#include "base/log.h"

#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024

static enum log_level max_level = LOG_INFO;

void log_set_level(enum log_level level)
{
    max_level = level;
}

void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (level > max_level)
        return;
    char line[LINE_BYTES_MAX];
    int used = snprintf(line, sizeof line, "%s %s: ", names[level], room);
    va_list ap;
    va_start(ap, fmt);
    int more = vsnprintf(line + used, sizeof line - (size_t)used, fmt, ap);
    va_end(ap);
    size_t len = (size_t)used + (more > 0 ? (size_t)more : 0);
    if (len > sizeof line - 2)
        len = sizeof line - 2; /* a longer line is cut */
    for (size_t i = 0; i < len; i++) /* a file name may hold a line break or an escape */
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored; /* there is nowhere left to complain */
}
