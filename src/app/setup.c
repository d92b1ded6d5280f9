/* SPDX-License-Identifier: MIT
 * setup.c — from options to an engine: which file, which store, and a line that says what was
 * opened. */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "app/app_int.h"
#include "base/check.h"
#include "base/mem.h"
#include "os/fs.h"

#define STORE_KEY_FILE_BYTES_MAX 256u

#define TAKE_OVER_MS 60000u /* a server drains within 10 s */

void complain(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "kvasir: %s\n", text);
}

int complain_err(const struct err *e)
{
    complain("%s", e->msg[0] ? e->msg : status_text(e->code));
    return EXIT_FAILED;
}

const char *store_dir_of(const struct config *c)
{
    const struct option_value *v = &c->values[OPTION_STORE];
    bool is_eval = strncmp(c->command->name, "eval ", 5) == 0;
    if ((is_eval && !v->is_given) || !v->text || strcmp(v->text, "none") == 0)
        return NULL;
    return v->text;
}

enum status store_key_of(const struct config *c, uint8_t key[STORE_FILE_KEY_BYTES], bool *has_key,
                         struct err *e)
{
    const char *path = c->values[OPTION_STORE_KEY_FILE].text;
    char *text = NULL;
    size_t len = 0;
    struct digest digits;
    *has_key = false;
    if (!path)
        return OK;
    enum status st = fs_read_file(os_fs_real(), path, STORE_KEY_FILE_BYTES_MAX, &text, &len, e);
    if (st != OK)
        return st;
    size_t n = len;
    while (n > 2 * STORE_FILE_KEY_BYTES && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    if (len == STORE_FILE_KEY_BYTES)
        memcpy(key, text, STORE_FILE_KEY_BYTES);
    else if (n == 2 * STORE_FILE_KEY_BYTES && digest_from_hex(&digits, text, n))
        memcpy(key, digits.b, STORE_FILE_KEY_BYTES);
    else
        st = err_set(e, E_INVALID, "%s: want 32 bytes, or 64 hexadecimal digits", path);
    *has_key = st == OK;
    mem_free(text);
    return st;
}

enum status model_path_of(const struct config *c, char *path, size_t size, const char **out,
                          struct err *e)
{
    const char *named = c->values[OPTION_MODEL].text;
    *out = named;
    if (!named || access(named, F_OK) == 0)
        return OK;
    char dir[FS_PATH_BYTES_MAX];
    config_models_dir(dir, sizeof dir);
    static const char *const endings[] = {"", ".gguf"};
    for (size_t i = 0; dir[0] && !strchr(named, '/') && i < ARRAY_COUNT(endings); i++) {
        int n = snprintf(path, size, "%s/%s%s", dir, named, endings[i]);
        if (n > 0 && (size_t)n < size && access(path, F_OK) == 0) {
            *out = path;
            return OK;
        }
    }
    return err_set(e, E_NOT_FOUND,
                   "%s: no such file, and no model of that name; give the path of a .gguf file "
                   "(kvasir models lists names, kvasir pull fetches)",
                   named);
}

/* engine/skald_embed.S */
extern const char kvasir_skald_begin[], kvasir_skald_end[];

struct slice embedded_model(void)
{
    return (struct slice){kvasir_skald_begin, (size_t)(kvasir_skald_end - kvasir_skald_begin)};
}

enum status gguf_of(const struct config *c, struct gguf **out, struct err *e)
{
    char storage[FS_PATH_BYTES_MAX];
    const char *path;
    enum status st = model_path_of(c, storage, sizeof storage, &path, e);
    if (st != OK)
        return st;
    if (path)
        return gguf_open(path, out, e);
    fprintf(stderr, "kvasir: no -m, so this is the embedded model skald\n");
    struct slice bytes = embedded_model();
    return gguf_open_memory(bytes.ptr, bytes.len, "embedded skald", out, e);
}

static void on_loading(void *arg, const char *what, double fraction)
{
    progress_show(arg, what, fraction);
}

/* The choices of --speculate in options.c: auto −1, off −2. */
static uint32_t speculate_of(int64_t number)
{
    return number == -1 ? 0 : number == -2 ? ENGINE_SPECULATE_OFF : (uint32_t)number;
}

/* In the order of the choices of --kv-type in options.c; the last is llama-server's name of q4. */
static const enum kv_type kv_choices[] = {KV_F16, KV_F32, KV_Q8_0, KV_Q4, KV_Q4};

static struct engine_options options_of(const struct config *c)
{
    const struct option_value *v = c->values;
    return (struct engine_options){
        .own = {.dir = store_dir_of(c),
                .max_bytes = (uint64_t)v[OPTION_STORE_MAX_BYTES].number,
                .max_write_per_day = (uint64_t)v[OPTION_STORE_MAX_WRITE_PER_DAY].number,
                .scrub_rate = (uint64_t)v[OPTION_STORE_SCRUB_RATE].number,
                .history_days = (uint32_t)v[OPTION_HISTORY_DAYS].number,
                .history_max_bytes = (uint64_t)v[OPTION_HISTORY_MAX_BYTES].number,
                .session_days = (uint32_t)v[OPTION_SESSION_DAYS].number,
                .is_read_only = v[OPTION_STORE_READ_ONLY].number != 0,
                .take_over_ms = v[OPTION_TAKE_OVER].number ? TAKE_OVER_MS : 0},
        .n_ctx = (uint32_t)v[OPTION_CTX].number,
        .n_threads = (uint32_t)v[OPTION_THREADS].number,
        .pin = (enum engine_pin)v[OPTION_PIN].number,
        .pooling = (enum engine_pooling)v[OPTION_POOLING].number,
        .n_parallel = (uint32_t)v[OPTION_PARALLEL].number,
        .n_queue = (uint32_t)v[OPTION_QUEUE].number,
        .stall_ms = (uint32_t)v[OPTION_STALL_MS].number,
        .chunk = (uint32_t)v[OPTION_CHUNK].number,
        .speculate = speculate_of(v[OPTION_SPECULATE].number),
        .kv_type = kv_choices[v[OPTION_KV_TYPE].number],
        .activations = v[OPTION_ACTIVATIONS].number == 0 ? ACTIVATIONS_Q8 : ACTIVATIONS_F32,
        .isa = (enum isa)v[OPTION_ISA].number,
        .no_replay = v[OPTION_REPLAY].number == 1,
        .cache_max_bytes = (uint64_t)v[OPTION_CACHE_MAX_BYTES].number,
    };
}
_Static_assert(ENGINE_PIN_AUTO == 0 && ENGINE_PIN_ON == 1 && ENGINE_PIN_OFF == 2,
               "the choices of --pin in options.c stand in this order");
_Static_assert(POOLING_FILE == 0 && POOLING_LAST == 1 && POOLING_MEAN == 2 && POOLING_CLS == 3,
               "the choices of --pooling in options.c stand in this order");
_Static_assert(ISA_AUTO == 0 && ISA_REF == 1 && ISA_AVX2 == 2 && ISA_AVX2_VNNI == 3 &&
                   ISA_AVX512 == 4 && ISA_AVX512_VNNI == 5 && ISA_COUNT == 6,
               "the choices of --isa in options.c stand in this order");

static void announce(const struct config *c, const struct engine *g)
{
    const struct engine_info *info = engine_info(g);
    const char *model = info->model_name;
    char name[256];
    if (!c->values[OPTION_MODEL].text) {
        snprintf(name, sizeof name, "%s (embedded; -m takes another)", model);
        model = name;
    }
    fprintf(stderr, "kvasir: model %s, context %u tokens, %u threads, %s%s\n", model, info->n_ctx,
            info->n_threads, info->store_dir ? "store " : "nothing is kept on disk",
            info->store_dir ? info->store_dir : "");
    if (strcmp(info->template_origin, "file") != 0)
        fprintf(stderr, "kvasir: the file has no chat template; using the one %s\n",
                info->template_origin);
}

/* What options say of an engine, and what its strings lie in. */
struct setup {
    struct engine_options options;
    struct progress progress;
    char path[FS_PATH_BYTES_MAX], packed_dir[FS_PATH_BYTES_MAX];
};

static enum status set_up(const struct config *c, bool is_quiet, struct setup *s, struct err *e)
{
    s->options = options_of(c);
    enum status st = model_path_of(c, s->path, sizeof s->path, &s->options.model_path, e);
    if (st != OK)
        return st;
    config_packed_dir(s->packed_dir, sizeof s->packed_dir);
    if ((s->options.model_path || c->values[OPTION_MODELS_DIR].text) && s->packed_dir[0])
        s->options.packed_dir = s->packed_dir;
    st = store_key_of(c, s->options.own.key, &s->options.own.has_key, e);
    if (st != OK)
        return st;
    if (!s->options.model_path && is_quiet) /* announce() would have said it */
        fprintf(stderr, "kvasir: no -m, so this is the embedded model skald\n");
    progress_begin(&s->progress);
    s->options.progress = on_loading;
    s->options.progress_arg = &s->progress;
    return OK;
}

static enum status explain_busy(enum status st, struct err *e)
{
    if (st != E_BUSY || e->code != E_BUSY)
        return st;
    struct err why = *e;
    return err_set(e, E_BUSY, "%.150s; stop that, or use --store-read-only or another --store",
                   why.msg);
}

enum status engine_of(const struct config *c, bool is_quiet, struct engine **out, struct err *e)
{
    struct setup s;
    enum status st = set_up(c, is_quiet, &s, e);
    if (st != OK)
        return st;
    st = engine_open(&s.options, out, e);
    progress_end(&s.progress);
    if (st == OK && !is_quiet)
        announce(c, *out);
    return explain_busy(st, e);
}

enum status fleet_of(const struct config *c, struct fleet **out, struct err *e)
{
    const struct option_value *v = c->values;
    struct setup s;
    enum status st = set_up(c, false, &s, e);
    if (st != OK)
        return st;
    const struct fleet_options options = {.engine = &s.options,
                                          .alias = v[OPTION_ALIAS].text,
                                          .dir = v[OPTION_MODELS_DIR].text,
                                          .ttl_s = (uint32_t)v[OPTION_MODEL_TTL].number,
                                          .max_bytes = (uint64_t)v[OPTION_MODELS_MAX_BYTES].number};
    st = fleet_open(&options, out, e);
    progress_end(&s.progress);
    if (st == OK)
        announce(c, fleet_engine(fleet_first(*out)));
    return explain_busy(st, e);
}

void sampling_of(const struct config *c, struct engine_request *r)
{
    const struct option_value *v = c->values;
    if (v[OPTION_TEMPERATURE].is_given)
        r->sampling.temperature = (float)v[OPTION_TEMPERATURE].real;
    if (v[OPTION_TOP_K].is_given)
        r->sampling.top_k = (int32_t)v[OPTION_TOP_K].number;
    if (v[OPTION_TOP_P].is_given)
        r->sampling.top_p = (float)v[OPTION_TOP_P].real;
    if (v[OPTION_MIN_P].is_given)
        r->sampling.min_p = (float)v[OPTION_MIN_P].real;
    if (v[OPTION_SEED].is_given) {
        r->sampling.seed = (uint64_t)v[OPTION_SEED].number;
        r->has_seed = true;
    }
    if (v[OPTION_MAX_TOKENS].is_given && v[OPTION_MAX_TOKENS].number >= 0)
        r->max_tokens = (uint32_t)v[OPTION_MAX_TOKENS].number;
}
