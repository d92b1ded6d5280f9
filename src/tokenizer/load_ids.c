/* SPDX-License-Identifier: MIT
 * load_ids.c — the tokens that have a role (BOS, EOS, end of turn, …) and what add_special does. */
#include "base/check.h"
#include "base/mem.h"
#include "tokenizer/load_int.h"

static enum status get_id(struct loader *l, const char *key, uint32_t *id)
{
    uint64_t value;
    bool found;
    *id = TOKEN_NONE;
    enum status st = gguf_get_u64(l->g, key, &value, &found, l->e);
    if (st != OK || !found)
        return st;
    if (value >= l->t->texts.count)
        return load_error(l, E_INVALID, "%s is %llu, but there are %u tokens", key,
                          (unsigned long long)value, l->t->texts.count);
    *id = (uint32_t)value;
    return OK;
}

static enum status get_flag(struct loader *l, const char *key, bool otherwise, bool *flag)
{
    bool found;
    enum status st = gguf_get_bool(l->g, key, flag, &found, l->e);
    if (st == OK && !found)
        *flag = otherwise;
    return st;
}

static bool is_end_name(struct slice text)
{
    static const char *const names[] = {
        "<|eot_id|>",  "<|im_end|>",     "<|end|>",        "<|return|>",
        "<|call|>",    "<end_of_turn>",  "<|endoftext|>",  "</s>",
        "<|eom_id|>",  "<EOT>",          "_<EOT>",         "[EOT]",
        "[EOS]",       "<|end_of_text|>", "<end_of_utterance>", "<eos>",
        "<｜end▁of▁sentence｜>",
    };
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (slice_is(text, names[i]))
            return true;
    return false;
}

/* Every token of a well-known name becomes a control token, as llama.cpp does it (files were
 * converted with wrong types); it ends generation only where the file itself called it control:
 * Gemma's user-defined </s> is the HTML tag. */
static void find_ends(struct tokenizer *t)
{
    bool is_harmony = false; /* gpt-oss: <|end|> only ends a message, more follow */
    uint32_t end_of_message = TOKEN_NONE;
    for (uint32_t id = 0; id < t->texts.count; id++) {
        struct slice text = strings_at(&t->texts, id);
        char first = text.ptr[0];
        if ((first != '<' && first != '[' && first != '_') || !is_end_name(text))
            continue;
        t->is_end[id] = t->types[id] == TOKEN_CONTROL;
        if (t->types[id] == TOKEN_USER_DEFINED)
            t->types[id] = TOKEN_CONTROL;
        is_harmony |= slice_is(text, "<|return|>");
        if (slice_is(text, "<|end|>"))
            end_of_message = id;
    }
    const uint32_t named[] = {t->eos, t->eot, t->eom};
    if (is_harmony && end_of_message != TOKEN_NONE)
        t->is_end[end_of_message] = false;
    for (size_t i = 0; i < ARRAY_COUNT(named); i++)
        if (named[i] != TOKEN_NONE)
            t->is_end[named[i]] = true;
}

enum status load_ids(struct loader *l)
{
    struct tokenizer *t = l->t;
    const struct {
        const char *key;
        uint32_t *id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &t->bos},     {"tokenizer.ggml.eos_token_id", &t->eos},
        {"tokenizer.ggml.eot_token_id", &t->eot},     {"tokenizer.ggml.eom_token_id", &t->eom},
        {"tokenizer.ggml.unknown_token_id", &t->unk}, {"tokenizer.ggml.padding_token_id", &t->pad},
    };
    /* Where a file is silent: SPM adds BOS and a blank before text, of BPE only Llama 3 adds BOS. */
    const struct {
        const char *key;
        bool otherwise;
        bool *flag;
    } flags[] = {
        {"tokenizer.ggml.add_bos_token", t->is_spm || t->ignore_merges, &t->add_bos},
        {"tokenizer.ggml.add_eos_token", false, &t->add_eos},
        {"tokenizer.ggml.add_space_prefix", t->is_spm, &t->add_space_prefix},
    };
    enum status st = OK;
    for (size_t i = 0; st == OK && i < ARRAY_COUNT(ids); i++)
        st = get_id(l, ids[i].key, ids[i].id);
    for (size_t i = 0; st == OK && i < ARRAY_COUNT(flags); i++)
        st = get_flag(l, flags[i].key, flags[i].otherwise, flags[i].flag);
    for (uint32_t id = 0; t->is_spm && t->unk == TOKEN_NONE && id < t->texts.count; id++)
        if (t->types[id] == TOKEN_UNKNOWN)
            t->unk = id;
    if (st == OK)
        find_ends(t);
    return st;
}
