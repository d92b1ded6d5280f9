/* SPDX-License-Identifier: MIT
 * wear_test.c — goal: a conversation costs the disk little more than its KV: at most 1.3 bytes a
 * byte of new KV in segments (tails and heads included), and 0.15 in index.db. Method: 50 turns of
 * some 200 tokens each on one server; its own counters, once all is durable, and the sizes of the
 * files, which the counter of segments must not fall short of. */
#include <stdio.h>

#include "base/mem.h"
#include "e2e.h"
#include "os/fs.h"

#define N_TURNS           50
#define TURN_CHARS        400
#define ANSWER_TOKENS     24
#define DURABLE_MS_MAX    60000u
#define SEGMENTS_BAR      1.3
#define INDEX_BAR         0.15
#define TURN_TOKENS_LEAST 150.0
#define TURN_TOKENS_MOST  250.0

static int64_t stat_of(struct serve *s, const char *path)
{
    int64_t v = 0;
    MUST(serve_stat(s, path, &v, e));
    return v;
}

/* Another piece of this project's own prose for each turn. */
static struct slice passage(const char *text, size_t len, uint32_t turn)
{
    size_t at = (size_t)turn * 397 % (len - TURN_CHARS);
    while (at > 0 && text[at - 1] != ' ' && text[at - 1] != '\n')
        at--;
    size_t end = at + TURN_CHARS;
    while (end > at && (text[end] & 0xc0) == 0x80)
        end--; /* whole characters */
    return (struct slice){text + at, end - at};
}

static void talk(struct serve *s, int64_t *n_tokens)
{
    char *text = NULL;
    size_t len = 0;
    struct buf messages;
    MUST(fs_read_file(os_fs_real(), "docs/crash-safety.md", 1u << 20, &text, &len, e));
    assert_true(len > 4 * TURN_CHARS);
    buf_init(&messages, 16u << 20);
    for (uint32_t i = 0; i < N_TURNS; i++) {
        struct chat_reply r;
        chat_add_message(&messages, "user", passage(text, len, i));
        struct chat_ask ask = {.messages = buf_slice(&messages), .max_tokens = ANSWER_TOKENS};
        e2e_ask(s, &ask, &r);
        assert_int_equal(r.http, 200);
        *n_tokens = r.prompt_tokens + r.completion_tokens;
        chat_add_message(&messages, "assistant", buf_slice(&r.choices[0].text));
        chat_reply_release(&r);
    }
    buf_release(&messages);
    mem_free(text);
}

static void a_conversation_wears_the_disk_little(void **state)
{
    struct serve s;
    int64_t n_tokens = 0;
    (void)state;
    e2e_serve(&s, e2e_path("store"), NULL);
    talk(&s, &n_tokens);
    MUST(serve_wait_durable(&s, DURABLE_MS_MAX, e));
    double kv = (double)stat_of(&s, "engine.new_kv_bytes");
    double segments = (double)stat_of(&s, "store.since_open.written_bytes");
    double index = (double)stat_of(&s, "store.since_open.index_written_bytes");
    double heads = (double)stat_of(&s, "store.since_open.head_bytes");
    double tokens = (double)n_tokens / N_TURNS;
    print_message(
        "%.0f tokens a turn; a byte of new KV: %.3f in segments (heads %.3f), %.3f in the "
        "index; bars %.2f and %.2f\n",
        tokens, segments / kv, heads / kv, index / kv, SEGMENTS_BAR, INDEX_BAR);
    assert_true(tokens >= TURN_TOKENS_LEAST && tokens <= TURN_TOKENS_MOST);
    assert_true(kv > 0 && index > 0);
    assert_true(segments >= kv * 0.9); /* or the counters do not count what they say */
    assert_true(segments <= SEGMENTS_BAR * kv);
    assert_true(index <= INDEX_BAR * kv);
    serve_kill(&s);
}

int main(int argc, char **argv)
{
    e2e_begin(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_conversation_wears_the_disk_little)};
    return e2e_end(cmocka_run_group_tests(tests, NULL, NULL));
}
