/* SPDX-License-Identifier: MIT
 * serve.c — the server, from options. */
#include <string.h>

#include "app/app_int.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/server.h"

/* "a,b" is two keys, as llama-server has it.  keys [SERVER_KEYS_MAX] point into *copy. */
static enum status split_keys(const char *text, char **copy, const char **keys, uint32_t *n_keys,
                              struct err *e)
{
    if (!text)
        return OK;
    *copy = mem_text(text, strlen(text));
    for (char *at = *copy; at;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma = '\0';
        if (*n_keys == SERVER_KEYS_MAX)
            return err_set(e, E_LIMIT, "--api-key: more than %u keys", SERVER_KEYS_MAX);
        if (*at == '\0')
            return err_set(e, E_INVALID, "--api-key: an empty key; leave the option out for none");
        keys[(*n_keys)++] = at;
        at = comma ? comma + 1 : NULL;
    }
    return OK;
}

/* What may change while it runs: the log's level, by the file. */
static void on_reload(void *arg)
{
    const struct config *old = arg;
    struct config c;
    struct err e = {0};
    bool wants_help;
    if (config_read(&c, old->command, old->n_words, old->words, &wants_help, &e) == OK)
        config_set_log(&c);
    else
        log_error("app", "options are not read again: %s", e.msg);
    config_release(&c);
}

int command_serve(const struct config *c)
{
    const struct option_value *v = c->values;
    const char *keys[SERVER_KEYS_MAX];
    char *copy = NULL;
    struct hub hub;
    struct fleet *f = NULL;
    struct engine *g = NULL;
    struct err e = {0};
    struct server_options options = server_defaults();
    options.host = v[OPTION_HOST].text;
    options.port = (uint16_t)v[OPTION_PORT].number;
    options.api_keys = keys;
    options.api_key_file = v[OPTION_API_KEY_FILE].text;
    options.keeps_nonces = v[OPTION_PROMPT_HYGIENE].number == 1;
    options.reload = on_reload;
    options.reload_arg = (void *)(uintptr_t)c;
    options.allow_origin = v[OPTION_ALLOW_ORIGIN].text;
    enum status st = split_keys(v[OPTION_API_KEY].text, &copy, keys, &options.n_api_keys, &e);
    if (st == OK)
        st = hub_of(c, &hub, &e);
    options.hub_url = hub.base_url;
    options.hub_authorization = hub.authorization[0] ? hub.authorization : NULL;
    if (st == OK)
        st = fleet_of(c, &f, &e);
    if (st == OK) {
        options.fleet = f;
        g = fleet_engine(fleet_first(f));
        int fd = engine_take_socket(g);
        options.listen_fd = fd >= 0 ? fd : 0;
    }
    if (st == OK)
        st = server_run(&options, g, &e);
    fleet_close(f);
    mem_free(copy);
    return st == OK ? EXIT_DONE : complain_err(&e);
}
