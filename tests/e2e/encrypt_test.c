/* SPDX-License-Identifier: MIT
 * encrypt_test.c — goal: with --store-key-file a store tells nothing of a conversation, and resumes
 * it after kill -9 as an open one does; with another key the server does not start on it for
 * writing. Method: a conversation about something that occurs nowhere else, under a session's name;
 * all files of the store are searched for its words, in the clear and as token ids. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "e2e.h"
#include "os/fs.h"

#define DURABLE_MS_MAX 60000u
#define SECRET         "the periwinkle ledger of count Zwygart"

static void write_key(const char *path, char digit)
{
    char key[65];
    memset(key, digit, 64);
    key[64] = '\n';
    MUST(fs_write_file(os_fs_real(), path, key, sizeof key, e));
}

static bool is_in_folder(const char *folder, const char *what)
{
    bool is_found = false;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        char path[1200], *bytes = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            is_found |= is_in_folder(path, what);
        if (entry->d_type != DT_REG ||
            fs_read_file(os_fs_real(), path, 512u << 20, &bytes, &n, NULL) != OK)
            continue;
        is_found |= memmem(bytes, n, what, strlen(what)) != NULL;
        mem_free(bytes);
    }
    closedir(d);
    return is_found;
}

static void ask_secret(struct serve *s, struct chat_reply *r)
{
    struct buf messages;
    buf_init(&messages, 1u << 20);
    for (int i = 0; i < 12; i++) {
        chat_add(&messages, "user", "Remember " SECRET ", page after page, and say yes.");
        chat_add(&messages, "assistant", "Yes, " SECRET ".");
    }
    chat_add(&messages, "user", "who are you?");
    struct chat_ask ask = {.messages = buf_slice(&messages),
                           .max_tokens = 16,
                           .more = "\"session\":\"zwygart-session\""};
    e2e_ask(s, &ask, r);
    assert_int_equal(r->http, 200);
    buf_release(&messages);
}

static void a_store_that_tells_nothing(void **state)
{
    struct serve s;
    struct chat_reply first, again, plain;
    char key[PLACE_PATH_BYTES], other[PLACE_PATH_BYTES];
    (void)state;
    snprintf(key, sizeof key, "%s", e2e_path("key"));
    snprintf(other, sizeof other, "%s", e2e_path("other-key"));
    write_key(key, 'a');
    write_key(other, 'b');
    const char *store = e2e_path("sealed");
    e2e_serve(&s, store, "--store-key-file", key, NULL);
    ask_secret(&s, &first);
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    assert_false(is_in_folder(store, "periwinkle"));
    assert_false(is_in_folder(store, "Zwygart"));
    assert_false(is_in_folder(store, "zwygart"));
    serve_kill(&s);
    e2e_serve(&s, store, "--store-key-file", key, NULL);
    ask_secret(&s, &again);
    e2e_check_same(&first, &again, "resumed from an encrypted store");
    assert_int_equal(again.computed, 0);
    assert_true(again.disk > 0);
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    serve_kill(&s);
    assert_false(is_in_folder(store, "periwinkle"));
    struct child_result r;
    e2e_run(&r, "", "run", "--store", store, "--store-key-file", other, "hello", NULL);
    assert_int_not_equal(r.code, 0);
    child_result_release(&r);
    e2e_run(&r, "", "store", "verify", "--store", store, NULL); /* needs no key */
    assert_int_equal(r.code, 0);
    child_result_release(&r);
    e2e_serve(&s, e2e_path("open"), NULL);
    ask_secret(&s, &plain);
    e2e_check_same(&first, &plain, "the same without encryption");
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    serve_kill(&s);
    chat_reply_release(&first);
    chat_reply_release(&again);
    chat_reply_release(&plain);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_store_that_tells_nothing)};
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
