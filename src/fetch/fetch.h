/* SPDX-License-Identifier: MIT
 * fetch.h — a file from the web onto the disk, in ranges over several connections; what arrived
 * stays when the line, the process or the machine dies, and is not asked for again.
 * For:     kvasir pull, Ollama's /api/pull.   Inside: http_client.h, os/fs.h.
 * Files:   PATH.part holds the bytes, PATH.part.state which ranges of it are there (written after
 *          they are synced).  PATH itself appears at the end, whole and checked.
 * Thread:  blocking; one fetch of a path at a time, others are E_BUSY.
 * Source:  RFC 9110 §14 (ranges), §13.1.5 (If-Range). */
#ifndef KVASIR_FETCH_FETCH_H
#define KVASIR_FETCH_FETCH_H

#include "base/digest.h"
#include "base/slice.h"
#include "os/fs.h"

#define FETCH_URL_MAX         4096u
#define FETCH_NAME_MAX        256u
#define FETCH_CONNECTIONS_MAX 16u
#define FETCH_RANGE_BYTES     (8u << 20)
#define FETCH_BYTES_MAX       (4ull << 40)
#define FETCH_TRIES_MAX       8u    /* in a row without a byte */
#define FETCH_FILES_MAX       1024u /* of a repository, and parts of a model */

/* ---- what is meant ---- */
/* "https://host/path/model.gguf", "owner/repo:file.gguf", "owner/repo:Q4_K_M", "owner/repo". */
struct fetch_source {
    char owner_repo[FETCH_NAME_MAX]; /* "" for a URL */
    char wanted[FETCH_NAME_MAX];     /* behind the colon; "" where there was none */
    char url[FETCH_URL_MAX];         /* "" until the file is known */
    char name[FETCH_NAME_MAX];       /* of the file here: no '/', not hidden, ends in .gguf */
};
/* base_url: of owner/repo sources, without a '/' at its end.  E_INVALID says what would be right.
 */
NODISCARD enum status fetch_source_of(struct fetch_source *s, const char *text,
                                      const char *base_url, struct err *e);
/* Settles which of a repository's files is meant: answer is the JSON of fetch_list_url, an object
 * with "siblings": [{"rfilename"}].  E_NOT_FOUND names the files there are. */
void fetch_list_url(const struct fetch_source *s, const char *base_url, char url[FETCH_URL_MAX]);
NODISCARD enum status fetch_choose(struct fetch_source *s, const char *base_url,
                                   struct slice answer, struct err *e);
/* Models come in pieces, NAME-00001-of-00003.gguf: the number of them, 1 for a whole one; and piece
 * i (from 0) of the first. */
uint32_t fetch_piece_count(const struct fetch_source *s);
void fetch_piece(const struct fetch_source *first, uint32_t i, struct fetch_source *piece);

/* ---- getting it ---- */
struct fetch_job {
    const struct os_fs *fs;
    const char *url;
    const char *path;          /* a file there is replaced */
    const char *authorization; /* "Authorization: Bearer …", sent to url's host only; NULL: none */
    uint32_t connections;      /* 1 … FETCH_CONNECTIONS_MAX */
    uint32_t retry_ms;         /* before the first retry; doubles, to 64 times */
    uint32_t idle_s_max;       /* a connection that brings nothing for so long is given up; ≥ 1 */
    const struct digest *sha256; /* NULL: what the server says of it, if it does */
    /* Called now and then, total 0 while unknown; false ends the fetch with E_CANCELLED. */
    bool (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
    /* Looks at the whole file under its temporary name; not OK: it is thrown away. */
    enum status (*check)(void *arg, const char *path, struct err *e);
    void *arg;
};
struct fetch_result {
    uint64_t bytes;         /* of the file */
    uint64_t fetched_bytes; /* by this call */
    struct digest sha256;
    bool is_verified; /* against job->sha256 or the server's word */
};
/* E_NOT_FOUND, E_DENIED: the server's word; E_IO: it failed too often (what arrived is kept);
 * E_CORRUPT: another digest, or the file changed under way (nothing is kept); E_FULL; E_BUSY. */
NODISCARD enum status fetch_file(const struct fetch_job *job, struct fetch_result *out,
                                 struct err *e);

/* ---- a model by its name ---- */
struct fetch_model {
    const char *source;        /* as fetch_source_of reads it */
    const char *base_url;      /* of the hub, without a '/' at its end */
    const char *dir;           /* where it goes */
    const char *authorization; /* as of a job, for the hub alone; NULL: none */
    uint32_t connections;
    const struct digest *sha256; /* of a model in one file; NULL: see struct fetch_job */
    bool (*progress)(void *arg, const char *name, const char *what, uint64_t done, uint64_t total);
    /* Of a model in one file: is it one? */
    enum status (*check)(void *arg, const char *path, struct err *e);
    void (*fetched)(void *arg, const char *path, const struct fetch_result *r); /* of each file */
    void *arg;
};
/* As fetch_file; E_INVALID: no such name can be. */
NODISCARD enum status fetch_model(const struct fetch_model *m, struct err *e);

#endif
