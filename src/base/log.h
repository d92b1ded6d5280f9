/* SPDX-License-Identifier: MIT
 * log.h — one line an event on stderr: "LEVEL room: event key=value …", or the same as a JSON
 * object. For:    the floor that decides (engine, server, app).   Not for: libraries; they return
 * errors. No prompt text unless asked.  Thread: any; a line is one write(2). */
#ifndef KVASIR_BASE_LOG_H
#define KVASIR_BASE_LOG_H

#include "base/status.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_format { LOG_TEXT, LOG_JSON };

void log_set_level(enum log_level level); /* default LOG_INFO; any time, any thread */
/* LOG_JSON: {"time","level","room","event"} and a member for each key=value; what is neither is
 * "text".  Default LOG_TEXT; before threads start. */
void log_set_format(enum log_format format);
void log_line(enum log_level level, const char *room, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_error(room, ...) log_line(LOG_ERROR, room, __VA_ARGS__)
#define log_warn(room, ...)  log_line(LOG_WARN, room, __VA_ARGS__)
#define log_info(room, ...)  log_line(LOG_INFO, room, __VA_ARGS__)
#define log_debug(room, ...) log_line(LOG_DEBUG, room, __VA_ARGS__)

#endif
