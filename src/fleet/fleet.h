/* SPDX-License-Identifier: MIT
 * fleet.h — the models that one server has: the one it was started with, and the .gguf files of a
 * folder, which are loaded when a request names them and unloaded when nobody has for a while, or
 * when another one needs their memory.  What they computed stays in the store that all share, so a
 * model that comes back goes on where it was.
 * For:     server, and api's lists.   Not for: requests themselves; they go to a model's engine.
 * States:  OFF ─ a request names it ─▶ LOADING ─▶ LOADED ─ idle too long, or told to ─▶ CLOSING ─▶
 *          OFF.  A model with references is never unloaded.  One loads or closes at a time.
 * Names:   as clients write them: a file's name with or without .gguf, general.name, Ollama's
 *          name:tag, LM Studio's publisher/name@quant, in any case (names.c).
 * Thread:  any, but for fleet_open and fleet_close.  Waits are called back on the fleet's thread.
 */
#ifndef KVASIR_FLEET_FLEET_H
#define KVASIR_FLEET_FLEET_H

#include "engine/card.h"
#include "engine/engine.h"

#define FLEET_MODELS_MAX     4096u /* files of the folder; more are not seen */
#define FLEET_LOADED_MAX     32u
#define FLEET_WAITS_MAX      1024u /* requests that wait for models */
#define FLEET_WAIT_S_MAX     300u  /* for memory that others use */
#define FLEET_NAME_BYTES_MAX 256u
#define FLEET_KEEP_DEFAULT   INT64_MIN
#define FLEET_KEEP_FOREVER   INT64_MAX
#define FLEET_KEEP_AS_IS     (INT64_MIN + 1)

struct fleet;
struct fleet_model;

enum fleet_state { FLEET_OFF, FLEET_LOADING, FLEET_LOADED, FLEET_CLOSING };

struct fleet_options {
    /* Of the model that is there from the start and stays; those of the folder are opened alike.
     * With a folder, own becomes the home of all. */
    const struct engine_options *engine;
    const char *alias; /* of that model, for clients; NULL: its own name */
    const char *dir;   /* NULL: that model is all there is, and is what any name means */
    uint32_t ttl_s;    /* without a request for so long, a model of the folder goes; 0: never */
    uint64_t
        max_bytes; /* of weights and KV in memory of all that are loaded; 0: what memory allows */
};

/* Loads the first model, which may take long. */
NODISCARD enum status fleet_open(const struct fleet_options *options, struct fleet **out,
                                 struct err *e);
/* Of one engine, which stays the caller's. */
NODISCARD enum status fleet_of_engine(struct engine *g, const char *alias, struct fleet **out,
                                      struct err *e);
/* After the last reference was given back. */
void fleet_close(struct fleet *f);

/* There is a folder: names mean something. */
bool fleet_has_many(const struct fleet *f);
const char *fleet_dir(const struct fleet *f); /* NULL: none */
/* The one that stays; borrowed from the fleet. */
struct fleet_model *fleet_first(struct fleet *f);

/* ---- a model for a request ---- */
struct fleet_wait {
    /* m: a reference, the receiver's; NULL: *e says why it was not loaded. */
    void (*ready)(void *arg, struct fleet_model *m, const struct err *e);
    void *arg;
    /* the fleet's */
    struct fleet_wait *next;
    struct fleet_model *model;
    uint64_t since_ns;
    bool is_cancelled;
};
/* A reference to the model, if it is loaded, else NULL.  name: as in fleet_take. */
struct fleet_model *fleet_try(struct fleet *f, struct slice name);
/* name empty: the first model.  OK with *out: loaded, with a reference.  OK without: w->ready is
 * called, once; w stays until then.  E_NOT_FOUND: no such model.  E_BUSY: FLEET_WAITS_MAX wait. */
NODISCARD enum status fleet_take(struct fleet *f, struct slice name, struct fleet_wait *w,
                                 struct fleet_model **out, struct err *e);
/* ready comes soon, with E_CANCELLED.  From any thread; harmless when it has come already, as long
 * as w is there. */
void fleet_cancel(struct fleet *f, struct fleet_wait *w);
/* All waits end so, also those to come. */
void fleet_refuse(struct fleet *f);
void fleet_ref(struct fleet *f, struct fleet_model *m); /* one more, by who has one */
/* keep_s: how long it stays from now on without requests; 0: it goes; or FLEET_KEEP_*. */
void fleet_give(struct fleet *f, struct fleet_model *m, int64_t keep_s);

/* Of a model that one has a reference to. */
struct engine *fleet_engine(const struct fleet_model *m);
const char *fleet_name(const struct fleet_model *m); /* for clients */
bool fleet_stays(const struct fleet_model *m);
double fleet_load_ms(const struct fleet_model *m); /* that its last load took */

/* ---- changes ---- */
/* It goes when its requests have ended.  E_NOT_FOUND; E_UNSUPPORTED: it stays. */
NODISCARD enum status fleet_unload(struct fleet *f, struct slice name, struct err *e);
/* Removes its file, or the link that stands in the folder for it: nothing elsewhere is touched.
 * E_NOT_FOUND; E_UNSUPPORTED: it stays, or there is no folder. */
NODISCARD enum status fleet_remove(struct fleet *f, struct slice name, struct err *e);
/* The same bytes under another name in the folder, by a hard link.  E_EXISTS; E_INVALID: no name
 * for a file; E_NOT_FOUND; E_UNSUPPORTED. */
NODISCARD enum status fleet_copy(struct fleet *f, struct slice from, struct slice to,
                                 struct err *e);

/* ---- what is here ---- */
struct fleet_entry {
    const char *name;               /* for clients */
    const struct engine_card *card; /* NULL: the file can't be read, error says why */
    const char *error;              /* why it can't be read, or the last load failed; else "" */
    const char *path;               /* "embedded", or of the file */
    enum fleet_state state;
    const struct engine *engine; /* LOADED, else NULL */
    bool stays;
    uint64_t file_bytes;
    int64_t modified_unix_s;
    int64_t expires_unix_s; /* LOADED: INT64_MAX: not by itself */
    struct digest digest;   /* changes with the file */
};
struct fleet_list {
    struct fleet *fleet;
    struct fleet_entry *entries; /* by name, but the one that stays comes first */
    struct fleet_model **models; /* [n] held */
    uint32_t n;
};
/* Looks at the folder again. */
NODISCARD enum status fleet_list(struct fleet *f, struct fleet_list *out, struct err *e);
void fleet_list_release(struct fleet_list *l);
/* NULL: none.  name: as in fleet_take, but never empty. */
const struct fleet_entry *fleet_find(const struct fleet_list *l, struct slice name);

struct fleet_counts {
    uint32_t n_models, n_loaded, n_loading, n_waiting;
    uint64_t n_loads, n_unloads, n_failed, load_ns;
    uint64_t loaded_bytes, max_bytes; /* loaded: weights alone */
};
void fleet_counts(struct fleet *f, struct fleet_counts *out);
/* Of all models together; what those that are gone counted is in it. */
void fleet_stats(struct fleet *f, struct engine_stats *out);

/* names.c: how well a name that a client wrote fits one of a model's; 0: not at all. */
uint32_t fleet_name_fits(struct slice wanted, const char *name);

#endif
