/* SPDX-License-Identifier: MIT
 * tokenizer_encode_fuzz.c — any bytes through the small vocabularies of all kinds and all splitters.
 * Input:  byte 0 chooses vocabulary and flags; the rest is text, in which bytes ≥ 0xF8 (never UTF-8)
 *         stand for the vocabulary's control tokens, so that those come up.
 * Claims: ids exist; pieces of SPM give the bytes back; no control token out of plain text; text may be
 *         cut at every control token that tokenizer_cuts_at() names; the stream is UTF-8. */
#include "base/buf.h"
#include "base/check.h"
#include "golden_vocab.h"
#include "text/utf8.h"
#include "tokenizer/classes.h"
#include "tokenizer/split.h"

#define TEXT_MAX 4096u
#define CONTROLS_MAX 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct golden_vocab vocab;
    uint32_t controls[CONTROLS_MAX], n_controls;
} kinds[3];

static void open_once(void)
{
    static const char *const paths[3] = {
        "tests/golden/tiny/tiny-llama-F32.gguf",
        "tests/golden/tiny/tiny-gemma3-F32.gguf",
        "tests/golden/tiny/tiny-qwen2-F32.gguf",
    };
    if (kinds[0].vocab.tokenizer)
        return;
    for (size_t k = 0; k < ARRAY_COUNT(paths); k++) {
        kinds[k].vocab = golden_vocab_open(paths[k]);
        const struct tokenizer *t = kinds[k].vocab.tokenizer;
        for (uint32_t id = 0; id < tokenizer_info(t).n_vocab; id++)
            if (kinds[k].n_controls < CONTROLS_MAX && tokenizer_is_control(t, id))
                kinds[k].controls[kinds[k].n_controls++] = id;
    }
}

static struct token_list encode(const struct tokenizer *t, const char *p, size_t len,
                                struct encode_flags flags)
{
    struct token_list ids = {0};
    struct err e = {0};
    CHECK(tokenizer_encode(t, (struct slice){p, len}, flags, &ids, &e) == OK);
    for (size_t i = 0; i < ids.count; i++)
        CHECK(ids.ids[i] < tokenizer_info(t).n_vocab);
    return ids;
}

static void check_cut(const struct tokenizer *t, struct slice text, size_t cut,
                      const struct token_list *all)
{
    struct encode_flags flags = {.parse_special = true};
    struct token_list left = encode(t, text.ptr, cut, flags);
    struct token_list right = encode(t, text.ptr + cut, text.len - cut, flags);
    CHECK(all->count == left.count + right.count);
    for (size_t i = 0; i < all->count; i++)
        CHECK(all->ids[i] == (i < left.count ? left.ids[i] : right.ids[i - left.count]));
    token_list_release(&left);
    token_list_release(&right);
}

static void check_stream(const struct tokenizer *t, const struct token_list *ids)
{
    struct detokenizer d;
    struct buf out;
    buf_init(&out, 64u << 20);
    detok_init(&d, t, true);
    for (size_t i = 0; i < ids->count; i++) {
        size_t before = out.len;
        detok_push(&d, ids->ids[i], &out);
        if (out.len > before)
            CHECK(utf8_valid_prefix(out.ptr + before, out.len - before) == out.len - before);
    }
    detok_flush(&d, &out);
    buf_release(&out);
}

/* SPM with all bytes and no prefix: the pieces are the text (a blank for each U+2581). */
static void check_bytes(const struct tokenizer *t, struct slice text, const struct token_list *ids)
{
    size_t at = 0;
    for (size_t i = 0; i < ids->count; i++) {
        struct slice piece = tokenizer_piece(t, ids->ids[i], true);
        for (size_t k = 0; k < piece.len; k++) {
            bool is_mark = text.len - at >= 3 && memcmp(text.ptr + at, "\xE2\x96\x81", 3) == 0;
            CHECK(at < text.len && (piece.ptr[k] == text.ptr[at] || (is_mark && piece.ptr[k] == ' ')));
            at += piece.ptr[k] == text.ptr[at] ? 1 : 3;
        }
    }
    CHECK(at == text.len);
}

static void check_splits(struct slice text)
{
    for (int kind = SPLIT_GPT2; kind <= SPLIT_O200K; kind++)
        for (size_t at = 0; at < text.len;) {
            size_t end = split_next((enum split_kind)kind, class_table(), text, at);
            CHECK(end > at && end <= text.len);
            at = end;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_MAX];
    size_t len = 0, cuts[2 * CONTROLS_MAX], n_cuts = 0;
    if (size == 0)
        return 0;
    open_once();
    unsigned k = data[0] % 3;
    const struct tokenizer *t = kinds[k].vocab.tokenizer;
    for (size_t i = 1; i < size && len + 64 < sizeof text; i++) {
        uint32_t control = data[i] >= 0xF8 ? data[i] - 0xF8u : CONTROLS_MAX;
        if (control >= kinds[k].n_controls) {
            text[len++] = (char)data[i];
            continue;
        }
        struct slice piece = tokenizer_piece(t, kinds[k].controls[control], true);
        CHECK(piece.len < 64);
        bool cuts_here = n_cuts + 2 <= ARRAY_COUNT(cuts) &&
                         tokenizer_cuts_at(t, kinds[k].controls[control]);
        if (cuts_here)
            cuts[n_cuts++] = len;
        memcpy(text + len, piece.ptr, piece.len);
        len += piece.len;
        if (cuts_here)
            cuts[n_cuts++] = len;
    }
    struct encode_flags flags = {.add_special = data[0] & 0x40, .parse_special = true};
    struct token_list parsed = encode(t, text, len, (struct encode_flags){.parse_special = true});
    struct token_list added = encode(t, text, len, flags);
    struct token_list plain = encode(t, text, len, (struct encode_flags){0});
    for (size_t i = 0; i < n_cuts; i++)
        check_cut(t, (struct slice){text, len}, cuts[i], &parsed);
    for (size_t i = 0; i < plain.count; i++)
        CHECK(!tokenizer_is_control(t, plain.ids[i]));
    check_stream(t, &parsed);
    if (k == 1) {
        check_bytes(t, (struct slice){text, len}, &parsed);
        check_bytes(t, (struct slice){text, len}, &plain);
    }
    check_splits((struct slice){text, len});
    token_list_release(&parsed);
    token_list_release(&added);
    token_list_release(&plain);
    return 0;
}
