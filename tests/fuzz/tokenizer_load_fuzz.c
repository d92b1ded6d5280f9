/* SPDX-License-Identifier: MIT
 * tokenizer_load_fuzz.c — any bytes as a GGUF with a vocabulary: loads or is refused with a reason;
 * what loads encodes its own tokens and a little text without harm. */
#include "base/check.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const struct tokenizer *t, struct slice text, bool special)
{
    struct token_list ids = {0};
    struct err e = {0};
    struct encode_flags flags = {.add_special = special, .parse_special = special};
    CHECK(tokenizer_encode(t, text, flags, &ids, &e) == OK);
    for (size_t i = 0; i < ids.count; i++)
        CHECK(ids.ids[i] < tokenizer_info(t).n_vocab);
    token_list_release(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "The quick <s>brown</s> fox's 1234 <|im_end|> \xE4\xB8\x80\xCC\x81 \xFF\n\n abab";
    struct gguf *g;
    struct tokenizer *t;
    struct err e = {0};
    if (gguf_open_memory(data, size, "fuzz.gguf", &g, &e) != OK)
        return 0;
    enum status st = tokenizer_load(g, &t, &e);
    gguf_close(g);
    if (st != OK) {
        CHECK(e.msg[0] != '\0');
        return 0;
    }
    encode(t, (struct slice){text, sizeof text - 1}, false);
    encode(t, (struct slice){text, sizeof text - 1}, true);
    for (uint32_t id = 0; id < tokenizer_info(t).n_vocab && id < 64; id++) {
        encode(t, tokenizer_piece(t, id, true), id % 2);
        (void)tokenizer_cuts_at(t, id);
        (void)tokenizer_is_end(t, id);
    }
    tokenizer_free(t);
    return 0;
}
