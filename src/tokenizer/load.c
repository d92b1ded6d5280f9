/* SPDX-License-Identifier: MIT
 * load.c — a vocabulary out of the metadata of a GGUF, every count, kind and id checked.
 * Order: kind → texts → types → pieces → tables → special tokens → merges or scores → ids. */
#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "tokenizer/classes.h"
#include "tokenizer/load_int.h"

#define PREFETCH_IDS 16 /* a memory access apart */

/* ---- texts ---- */

static enum status get_tokens(struct loader *l, struct gguf_array *tokens)
{
    bool found;
    enum status st = gguf_get_array(l->g, "tokenizer.ggml.tokens", tokens, &found, l->e);
    if (st != OK)
        return st;
    if (!found)
        return load_error(l, E_INVALID, "no tokenizer.ggml.tokens");
    if (tokens->kind != GGUF_STRING)
        return load_error(l, E_INVALID, "tokenizer.ggml.tokens: not strings");
    if (tokens->count == 0 || tokens->count > TOKENIZER_VOCAB_MAX)
        return load_error(l, E_LIMIT, "tokenizer.ggml.tokens: %llu tokens, 1 to %u allowed",
                          (unsigned long long)tokens->count, TOKENIZER_VOCAB_MAX);
    return OK;
}

/* Sizes first, so that both blocks are allocated once. */
static enum status measure_texts(struct loader *l, const struct gguf_array *tokens, uint32_t *bytes)
{
    const uint8_t *at = tokens->data;
    uint64_t sum = 0;
    for (uint32_t id = 0; id < tokens->count; id++) {
        struct slice text = gguf_array_string(&at);
        if (text.len == 0)
            return load_error(l, E_INVALID, "token %u is empty", id);
        if (text.len > TOKENIZER_TOKEN_BYTES_MAX)
            return load_error(l, E_LIMIT, "token %u has %zu bytes, at most %u", id, text.len,
                              TOKENIZER_TOKEN_BYTES_MAX);
        sum += text.len;
    }
    if (sum > TEXTS_BYTES_MAX)
        return load_error(l, E_LIMIT, "tokens have %llu bytes in all, at most %u",
                          (unsigned long long)sum, TEXTS_BYTES_MAX);
    *bytes = (uint32_t)sum;
    return OK;
}

static bool strings_new(struct strings *s, uint32_t count, uint32_t bytes)
{
    s->count = count;
    s->bytes = mem_try_new(bytes, 1);
    s->at = mem_try_new((size_t)count + 1, sizeof *s->at);
    return s->bytes && s->at;
}

static enum status load_texts(struct loader *l)
{
    struct tokenizer *t = l->t;
    struct gguf_array tokens;
    uint32_t bytes;
    enum status st = get_tokens(l, &tokens);
    if (st == OK)
        st = measure_texts(l, &tokens, &bytes);
    if (st != OK)
        return st;
    uint32_t n = (uint32_t)tokens.count;
    /* A piece is never longer than its text. */
    if (!strings_new(&t->texts, n, bytes) || !strings_new(&t->pieces, n, bytes) ||
        !(t->types = mem_try_new(n, 1)) || !(t->is_end = mem_try_new(n, 1)) ||
        !(t->is_mergeable = mem_try_new(n, 1)) || !borders_init(&t->borders) ||
        !(t->self = mem_try_new(n, sizeof *t->self)))
        return load_error(l, E_NOMEM, "vocabulary of %u tokens", n);
    const uint8_t *at = tokens.data;
    for (uint32_t id = 0; id < n; id++) {
        struct slice text = gguf_array_string(&at);
        memcpy(t->texts.bytes + t->texts.at[id], text.ptr, text.len);
        t->texts.at[id + 1] = t->texts.at[id] + (uint32_t)text.len;
    }
    return OK;
}

static enum status load_types(struct loader *l)
{
    struct tokenizer *t = l->t;
    struct gguf_array types;
    bool found;
    enum status st = gguf_get_array(l->g, "tokenizer.ggml.token_type", &types, &found, l->e);
    if (st != OK)
        return st;
    if (!found) {
        memset(t->types, TOKEN_NORMAL, t->texts.count);
        return OK;
    }
    if (types.kind != GGUF_I32 && types.kind != GGUF_U32)
        return load_error(l, E_INVALID, "tokenizer.ggml.token_type: not 32-bit integers");
    if (types.count != t->texts.count)
        return load_error(l, E_INVALID, "%llu token types for %u tokens",
                          (unsigned long long)types.count, t->texts.count);
    for (uint32_t id = 0; id < t->texts.count; id++) {
        uint32_t type = get_le32(types.data + 4 * (size_t)id);
        if (type > TOKEN_BYTE)
            return load_error(l, E_INVALID, "token %u: type %u, 0 to %u known", id, type, TOKEN_BYTE);
        t->types[id] = type == TOKEN_UNDEFINED ? TOKEN_NORMAL : (uint8_t)type;
    }
    return OK;
}

/* ---- pieces: the bytes that a token stands for ---- */

/* GPT-2's alphabet: printable bytes stand for themselves, the other 68 for U+0100 and on. */
int byte_of_code_point(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF))
        return (int)cp;
    if (cp < 0x100 || cp >= 0x100 + 68)
        return -1;
    uint32_t n = cp - 0x100;
    if (n <= 0x20)
        return (int)n;             /* 00..20 */
    if (n <= 0x20 + 34)
        return (int)(n - 0x21 + 0x7F); /* 7F..A0 */
    return 0xAD;
}

/* Undoes the byte alphabet; false (out as it was) when a character is not of it. */
static bool undo_alphabet(struct slice text, char *out, uint32_t *n_out)
{
    const char *p = text.ptr, *end = p + text.len;
    uint32_t n = 0;
    while (p < end) {
        uint32_t cp;
        p += class_decode(p, end, &cp);
        int byte = byte_of_code_point(cp);
        if (byte < 0)
            return false;
        out[n++] = (char)byte;
    }
    *n_out = n;
    return true;
}

static uint32_t undo_blanks(struct slice text, char *out)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.len;) {
        if (text.len - i >= 3 && memcmp(text.ptr + i, "\xE2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text.ptr[i++];
        }
    }
    return n;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of a text <0x41>, or -1. */
static int byte_of_text(struct slice text)
{
    if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>')
        return -1;
    int high = hex_digit(text.ptr[3]), low = hex_digit(text.ptr[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static enum status make_piece(struct loader *l, uint32_t id)
{
    struct tokenizer *t = l->t;
    struct slice text = strings_at(&t->texts, id);
    char *out = t->pieces.bytes + t->pieces.at[id];
    uint32_t n = (uint32_t)text.len;
    int byte;
    switch (t->types[id]) {
    case TOKEN_BYTE:
        byte = byte_of_text(text);
        if (byte < 0)
            return load_error(l, E_INVALID, "token %u: of type byte, but not written <0x00>", id);
        if (t->is_spm)
            t->byte_ids[byte] = id;
        *out = (char)byte;
        n = 1;
        break;
    case TOKEN_NORMAL:
    case TOKEN_UNUSED:
        if (t->is_spm)
            n = undo_blanks(text, out);
        else if (!undo_alphabet(text, out, &n))
            memcpy(out, text.ptr, text.len);
        break;
    default:
        memcpy(out, text.ptr, text.len);
    }
    t->pieces.at[id + 1] = t->pieces.at[id] + n;
    return OK;
}

static enum status load_pieces(struct loader *l)
{
    struct tokenizer *t = l->t;
    memset(t->byte_ids, 0xFF, sizeof t->byte_ids);
    enum status st = OK;
    for (uint32_t id = 0; st == OK && id < t->texts.count; id++)
        st = make_piece(l, id);
    return st;
}

/* ---- tables ---- */

/* May merging make this token out of plain text?  Control, unknown and byte tokens never: text
 * that merely looks like one must not become one.  SPM: nor what is stored with real blanks, which
 * in the file's own spelling (U+2581 for a blank) cannot come up. */
static bool is_mergeable(const struct tokenizer *t, uint32_t id)
{
    uint8_t type = t->types[id];
    if (t->is_spm)
        return (type == TOKEN_NORMAL || type == TOKEN_USER_DEFINED || type == TOKEN_UNUSED) &&
               !memchr(t->texts.bytes + t->texts.at[id], ' ', t->texts.at[id + 1] - t->texts.at[id]);
    if (type != TOKEN_NORMAL && type != TOKEN_UNUSED)
        return false;
    char scratch[TOKENIZER_TOKEN_BYTES_MAX];
    uint32_t n;
    return undo_alphabet(strings_at(&t->texts, id), scratch, &n);
}

/* The slots that the insert of this id will look at, asked for ahead of time. */
static void prefetch_slots(const struct tokenizer *t, uint32_t id)
{
    if (id >= t->texts.count)
        return;
    struct slice text = strings_at(&t->texts, id), piece = strings_at(&t->pieces, id);
    words_prefetch(&t->by_text, words_hash(text.ptr, text.len));
    words_prefetch(&t->by_piece, words_hash(piece.ptr, piece.len));
}

static enum status load_tables(struct loader *l)
{
    struct tokenizer *t = l->t;
    uint32_t n = t->texts.count, other;
    enum status st = words_init(&t->by_text, &t->texts, n, l->e);
    if (st == OK)
        st = words_init(&t->by_piece, &t->pieces, n, l->e);
    for (uint32_t id = 0; st == OK && id < n; id++) {
        prefetch_slots(t, id + PREFETCH_IDS);
        st = words_add(&t->by_text, id, &other, l->e);
        if (st == OK && other != WORDS_NONE)
            return load_error(l, E_INVALID, "tokens %u and %u are the same text", other, id);
        if (st != OK || !is_mergeable(t, id))
            continue;
        t->is_mergeable[id] = true;
        borders_open(&t->borders, strings_at(&t->pieces, id));
        st = words_add(&t->by_piece, id, &other, l->e);
        uint32_t bytes = t->pieces.at[id + 1] - t->pieces.at[id];
        if (bytes > t->piece_bytes_max)
            t->piece_bytes_max = bytes;
    }
    return load_status(l, st);
}

static void find_short_pieces(struct tokenizer *t)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        uint32_t id = words_find(&t->by_piece, &c, 1);
        if (!t->is_spm)
            t->byte_ids[byte] = id;
        else if (byte < 128)
            t->ascii_ids[byte] = id;
    }
}

/* ---- special tokens ---- */

static enum status load_specials(struct loader *l)
{
    struct tokenizer *t = l->t;
    uint32_t n = 0;
    for (uint32_t id = 0; id < t->texts.count; id++)
        n += is_special(t->types[id]);
    uint32_t *ids = mem_try_new(n ? n : 1, sizeof *ids);
    bool *is_control = mem_try_new(n ? n : 1, sizeof *is_control);
    if (!ids || !is_control) {
        mem_free(ids);
        mem_free(is_control);
        return load_error(l, E_NOMEM, "%u special tokens", n);
    }
    n = 0;
    for (uint32_t id = 0; id < t->texts.count; id++) {
        if (!is_special(t->types[id]))
            continue;
        ids[n] = id;
        is_control[n++] = t->types[id] != TOKEN_USER_DEFINED;
    }
    return load_status(l, specials_init(&t->specials, &t->texts, ids, is_control, n, l->e));
}

/* ---- the whole ---- */

static enum status load_kind(struct loader *l)
{
    struct slice model, pre = {"", 0};
    bool found, pre_found;
    enum status st = gguf_get_string(l->g, "tokenizer.ggml.model", &model, &found, l->e);
    if (st == OK)
        st = gguf_get_string(l->g, "tokenizer.ggml.pre", &pre, &pre_found, l->e);
    if (st != OK)
        return st;
    if (!found)
        return load_error(l, E_INVALID, "no tokenizer.ggml.model: the file has no vocabulary");
    l->t->is_spm = slice_is(model, "llama");
    if (l->t->is_spm)
        return OK;
    if (!slice_is(model, "gpt2"))
        return load_error(l, E_UNSUPPORTED, "tokenizer.ggml.model \"" SLICE_FMT "\": only llama and gpt2",
                          slice_short(model), model.ptr);
    if (!pre_found || !split_named(pre, &l->t->split))
        return load_error(l, E_UNSUPPORTED,
                          "tokenizer.ggml.pre \"" SLICE_FMT "\": gpt-2, smollm, llama-bpe, qwen2, "
                          "deepseek-v3 and gpt-4o are known",
                          slice_short(pre), pre.ptr);
    /* As their tokenizer.json have it.  588 of Llama 3's words are tokens that merging does not reach;
     * of the other vocabularies that we hold (gpt-oss, Qwen 3, DeepSeek 3) none is. */
    l->t->ignore_merges = l->t->split == SPLIT_LLAMA3;
    l->t->normalizes = l->t->split == SPLIT_QWEN2;
    return OK;
}

enum status tokenizer_load(const struct gguf *g, struct tokenizer **out, struct err *e)
{
    struct tokenizer *t = mem_try_new(1, sizeof *t);
    if (!t)
        return err_set(e, E_NOMEM, "tokenizer");
    struct loader l = {g, t, e};
    t->classes = class_table();
    enum status st = load_kind(&l);
    if (st == OK)
        st = load_texts(&l);
    if (st == OK)
        st = load_types(&l);
    if (st == OK)
        st = load_pieces(&l);
    if (st == OK)
        st = load_ids(&l); /* may make an end token a control token */
    if (st == OK)
        st = load_tables(&l);
    if (st == OK) {
        find_short_pieces(t);
        st = t->is_spm ? load_scores(&l) : load_merges(&l);
    }
    if (st == OK)
        st = load_specials(&l);
    if (st != OK) {
        tokenizer_free(t);
        return st;
    }
    *out = t;
    return OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    struct strings *both[] = {&t->texts, &t->pieces};
    for (size_t i = 0; i < ARRAY_COUNT(both); i++) {
        mem_free(both[i]->bytes);
        mem_free(both[i]->at);
    }
    words_release(&t->by_text);
    words_release(&t->by_piece);
    specials_release(&t->specials);
    pairs_release(&t->merges);
    mem_free(t->merged);
    mem_free(t->ranks);
    mem_free(t->types);
    mem_free(t->is_end);
    mem_free(t->is_mergeable);
    borders_release(&t->borders);
    mem_free((void *)t->self);
    mem_free(t);
}
