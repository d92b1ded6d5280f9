/* SPDX-License-Identifier: MIT
 * packed.h — side files: a model's repacked weights, which a later start maps instead of
 * converting. For:    engine_open, and the commands that list and remove them.   Not for: what the
 * bytes mean (model, kernels). DIR/KEY.packed (docs/models.md):  head | checksums of the chunks |
 * zeros | weights KEY = SHA-256(model identity, layout of the packed weights): a file is never
 * changed, only replaced by one of equal content, so any number of processes may map it and any may
 * publish it. Errors: a file that is damaged, cut or of another version is E_CORRUPT or
 * E_UNSUPPORTED with the reason; the caller packs anew.   Memory: maps; nothing of a file is
 * copied. */
#ifndef KVASIR_ENGINE_PACKED_H
#define KVASIR_ENGINE_PACKED_H

#include "base/digest.h"
#include "os/fs.h"
#include "os/team.h"

#define PACKED_NAME_MAX    64u        /* bytes of the model's name, NUL included */
#define PACKED_CHUNK_BYTES (1u << 20) /* under one checksum */
#define PACKED_BYTES_MAX   (1ull << 40)

/* Beside the side files: which file on disk has which identity (identity.c). */
#define IDENTITY_FILE           "models.txt"
#define IDENTITY_FILE_BYTES_MAX (1u << 20)

struct packed_head {
    struct digest key;      /* what the file is named after */
    struct digest identity; /* of the model */
    char model[PACKED_NAME_MAX];
    int64_t made_unix_s;
    uint64_t payload_bytes;
    uint64_t head_bytes; /* the payload begins there: whole pages */
    uint32_t n_chunks;
};

/* bytes [len]: the beginning of a file of file_bytes, as much of the head as there is. */
NODISCARD enum status packed_parse(const uint8_t *bytes, size_t len, uint64_t file_bytes,
                                   struct packed_head *out, struct err *e);

struct packed_map {
    const uint8_t *payload; /* page-aligned */
    const void *map;
    uint64_t map_bytes;
};
/* Maps and verifies the file of key, all workers reading.  E_NOT_FOUND: there is none. */
NODISCARD enum status packed_open(const struct os_fs *fs, const char *dir, const struct digest *key,
                                  uint64_t payload_bytes, struct team *team, struct packed_map *out,
                                  struct err *e);
void packed_close(const struct os_fs *fs, struct packed_map *m); /* a zeroed one is fine */

/* A file in the making is mapped while it has no name that anybody looks for, filled in place, and
 * then published: so weights that are packed for it never lie in memory of this process alone.
 *   packed_begin → write map.payload → packed_finish or packed_abandon → … → packed_close(map) */
struct packed_making;
/* Space for all of it is reserved first, and what crashes left behind is removed.  *map: zeros to
 * be written over, open until packed_close.  E_FULL, E_DENIED, E_IO: there is no file. */
NODISCARD enum status packed_begin(const struct os_fs *fs, const char *dir, uint64_t payload_bytes,
                                   struct packed_map *map, struct packed_making **out,
                                   struct err *e);
/* Publishes the payload under head->key, atomically: after power loss the file is whole or absent.
 * Nobody writes to the payload any more; it may be read meanwhile.  Other than OK: nothing is
 * published, and what a failing disk keeps of the map is not to be relied upon.  Ends the making.
 */
NODISCARD enum status packed_finish(struct packed_making *making, const struct packed_head *head,
                                    struct err *e);
void packed_abandon(struct packed_making *making); /* NULL is fine */

/* Calls each for every side file of the folder, damaged ones with head NULL; no folder: none. */
NODISCARD enum status packed_each(const struct os_fs *fs, const char *dir,
                                  void (*each)(void *arg, const char *name, uint64_t bytes,
                                               const struct packed_head *head),
                                  void *arg, struct err *e);
/* What a side file was made of, for people. */
enum packed_origin {
    PACKED_CURRENT, /* of a model that is there as it was */
    PACKED_CHANGED, /* its model's file has other content now */
    PACKED_GONE,    /* no file of that content is known any more */
};
/* *path [FS_PATH_BYTES_MAX]: the model's file; "" where none is known. */
enum packed_origin packed_origin(const struct os_fs *fs, const char *dir,
                                 const struct packed_head *head, char *path);
NODISCARD enum status packed_remove(const struct os_fs *fs, const char *dir, const char *name,
                                    struct err *e);

#endif
