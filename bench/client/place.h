/* SPDX-License-Identifier: MIT
 * place.h — folders that a run makes for itself, and the files in them.
 * Limits: paths of PLACE_PATH_BYTES; trees of plain files and folders, PLACE_DEPTH_MAX deep. */
#ifndef KVASIR_BENCH_CLIENT_PLACE_H
#define KVASIR_BENCH_CLIENT_PLACE_H

#include "base/buf.h"

#define PLACE_PATH_BYTES 1024u
#define PLACE_DEPTH_MAX  8u

/* path [PLACE_PATH_BYTES]: a new folder "NAME-XXXXXX" in parent (NULL: $TMPDIR, else /tmp). */
NODISCARD enum status place_make(const char *parent, const char *name, char *path, struct err *e);
/* Removes it with all it holds; one that is not there is fine. */
void place_remove(const char *path);
/* Copies a tree to a path that is not there yet. */
NODISCARD enum status place_copy(const char *from, const char *to, struct err *e);
/* Calls each(path, bytes, arg) for every plain file below. */
NODISCARD enum status place_walk(const char *path,
                                 void (*each)(const char *path, uint64_t bytes, void *arg),
                                 void *arg, struct err *e);
NODISCARD enum status place_read(const char *path, struct buf *out,
                                 struct err *e); /* a whole file */
NODISCARD enum status place_write(const char *path, struct slice bytes, struct err *e);

#endif
