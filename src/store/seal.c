/* SPDX-License-Identifier: MIT
 * seal.c — AES-256-GCM through OpenSSL, and the ring of data keys. */
#include "store/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/check.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/prng.h"

#define NONCE_BYTES 12u
#define SLOTS_MIN   64u
#define PIECE_BYTES (1u << 30) /* OpenSSL counts in int */

/* ---- the ring ---- */
void keyring_release(struct keyring *k)
{
    if (k->keys)
        OPENSSL_cleanse(k->keys, k->n * sizeof *k->keys);
    mem_free(k->keys);
    mem_free(k->slots);
    OPENSSL_cleanse(k->file_key, sizeof k->file_key);
    *k = (struct keyring){0};
}

static uint32_t *slot_of(const struct keyring *k, uint64_t number)
{
    uint32_t i = (uint32_t)(number >> 16) & (k->n_slots - 1); /* numbers are random */
    while (k->slots[i] != 0 && k->keys[k->slots[i] - 1].number != number)
        i = (i + 1) & (k->n_slots - 1);
    return &k->slots[i];
}

static bool grow(struct keyring *k)
{
    uint32_t cap = k->cap ? k->cap * 2 : SLOTS_MIN / 2;
    struct data_key *keys = cap <= SEAL_KEYS_MAX ? mem_try_new(cap, sizeof *keys) : NULL;
    uint32_t *slots = mem_try_new((size_t)cap * 2, sizeof *slots);
    if (!keys || !slots) {
        mem_free(keys);
        mem_free(slots);
        return false;
    }
    if (k->n > 0) {
        memcpy(keys, k->keys, k->n * sizeof *keys);
        OPENSSL_cleanse(k->keys, k->n * sizeof *k->keys);
    }
    mem_free(k->keys);
    mem_free(k->slots);
    k->keys = keys;
    k->slots = slots;
    k->cap = cap;
    k->n_slots = cap * 2;
    for (uint32_t i = 0; i < k->n; i++)
        *slot_of(k, keys[i].number) = i + 1;
    return true;
}

uint32_t keyring_place(struct keyring *k, uint64_t number)
{
    if (k->n > 0) {
        uint32_t found = *slot_of(k, number);
        if (found != 0)
            return found - 1;
    }
    if (k->n == k->cap && !grow(k))
        return UINT32_MAX;
    k->keys[k->n] = (struct data_key){.number = number};
    *slot_of(k, number) = k->n + 1;
    return k->n++;
}

/* ---- AES-256-GCM ---- */
struct cipher_args {
    const uint8_t *key, *nonce;
    const uint8_t *aad;
    size_t aad_len;
};

/* OpenSSL's one-call use; is_encrypting: tag is written behind dst, else it is read behind src. */
static bool run_cipher(const struct cipher_args *a, bool is_encrypting, const uint8_t *src,
                       uint64_t len, uint8_t *dst)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    bool ok = ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, a->key, a->nonce,
                                       is_encrypting ? 1 : 0) == 1;
    ok = ok && EVP_CipherUpdate(ctx, NULL, &n, a->aad, (int)a->aad_len) == 1;
    for (uint64_t at = 0; ok && at < len; at += PIECE_BYTES) {
        uint64_t piece = len - at < PIECE_BYTES ? len - at : PIECE_BYTES;
        ok = EVP_CipherUpdate(ctx, dst + at, &n, src + at, (int)piece) == 1;
    }
    uint8_t tag[SEAL_TAG_BYTES];
    if (ok && !is_encrypting) {
        memcpy(tag, src + len, sizeof tag);
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, sizeof tag, tag) == 1;
    }
    ok = ok && EVP_CipherFinal_ex(ctx, tag, &n) == 1;
    if (ok && is_encrypting)
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_BYTES, dst + len) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

/* ---- data keys ---- */
struct digest seal_record_key(uint64_t number)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_u64(&d, "kvasir data key", number);
    struct digest out = digest_end(&d);
    digester_release(&d);
    return out;
}

#define WRAP_AAD_BYTES 40u

static void wrap_aad(const struct store_id *store, uint64_t number, uint64_t owner,
                     uint8_t out[WRAP_AAD_BYTES])
{
    memcpy(out, "kvasirDK", 8);
    memcpy(out + 8, store->b, sizeof store->b);
    put_le64(out + 24, number);
    put_le64(out + 32, owner);
}

enum status seal_wrap(const struct keyring *k, const struct store_id *store,
                      const struct data_key *key, uint8_t out[SEAL_WRAPPED_BYTES], struct err *e)
{
    uint8_t aad[WRAP_AAD_BYTES];
    put_le64(out, key->owner);
    prng_entropy(out + 8, NONCE_BYTES);
    wrap_aad(store, key->number, key->owner, aad);
    struct cipher_args a = {k->file_key, out + 8, aad, sizeof aad};
    if (!run_cipher(&a, true, key->key, SEAL_KEY_BYTES, out + 8 + NONCE_BYTES))
        return err_set(e, E_NOMEM, "a data key cannot be wrapped");
    return OK;
}

enum status seal_unwrap(const struct keyring *k, const struct store_id *store,
                        const uint8_t wrapped[SEAL_WRAPPED_BYTES], uint64_t number,
                        struct data_key *out, struct err *e)
{
    uint8_t aad[WRAP_AAD_BYTES];
    out->number = number;
    out->owner = get_le64(wrapped);
    wrap_aad(store, number, out->owner, aad);
    struct cipher_args a = {k->file_key, wrapped + 8, aad, sizeof aad};
    if (!k->has_file_key ||
        !run_cipher(&a, false, wrapped + 8 + NONCE_BYTES, SEAL_KEY_BYTES, out->key))
        return err_set(e, E_DENIED, "its data key is not wrapped by the key that was given");
    out->is_open = true;
    return OK;
}

/* ---- records ---- */
#define AAD_BYTES 176u

static void record_aad(const struct record *r, uint32_t chunk, uint64_t len, uint8_t out[AAD_BYTES])
{
    memcpy(out, r->key.b, DIGEST_BYTES);
    memcpy(out + 32, r->chain.b, DIGEST_BYTES);
    memcpy(out + 64, r->parent.b, DIGEST_BYTES);
    memcpy(out + 96, r->family.b, DIGEST_BYTES);
    put_le64(out + 128, r->layout);
    put_le64(out + 136, r->sequence);
    put_le64(out + 144, r->data_key);
    put_le32(out + 152, (uint32_t)r->kind);
    put_le32(out + 156, r->depth);
    put_le32(out + 160, r->n_chunks);
    put_le32(out + 164, chunk);
    put_le64(out + 168, len);
}

static void record_nonce(const struct record *r, uint32_t chunk, uint8_t out[NONCE_BYTES])
{
    put_le64(out, r->sequence);
    put_le32(out + 8, chunk);
}

enum status seal_encrypt(const uint8_t key[SEAL_KEY_BYTES], const struct record *r, uint32_t chunk,
                         const void *src, uint64_t len, uint8_t *dst, struct err *e)
{
    uint8_t aad[AAD_BYTES], nonce[NONCE_BYTES];
    CHECK(r->sequence != 0 && r->data_key != 0);
    record_aad(r, chunk, len, aad);
    record_nonce(r, chunk, nonce);
    struct cipher_args a = {key, nonce, aad, sizeof aad};
    return run_cipher(&a, true, src, len, dst)
               ? OK
               : err_set(e, E_NOMEM, "a record cannot be encrypted");
}

enum status seal_decrypt(const uint8_t key[SEAL_KEY_BYTES], const struct record *r, uint32_t chunk,
                         const uint8_t *src, uint64_t len, void *dst, struct err *e)
{
    uint8_t aad[AAD_BYTES], nonce[NONCE_BYTES];
    record_aad(r, chunk, len, aad);
    record_nonce(r, chunk, nonce);
    struct cipher_args a = {key, nonce, aad, sizeof aad};
    return run_cipher(&a, false, src, len, dst)
               ? OK
               : err_set(e, E_CORRUPT, "chunk %u: not what was encrypted", chunk);
}

void seal_order(const struct keyring *k, const struct digest *family, uint8_t *order,
                uint32_t order_len)
{
    struct digester d = {0};
    digest_begin(&d);
    digest_field(&d, "kvasir order key", k->file_key, sizeof k->file_key);
    digest_field(&d, "family", family->b, sizeof family->b);
    struct digest h = digest_end(&d);
    for (uint32_t at = 0; at < order_len; at += 4) {
        uint32_t n = order_len - at < 4 ? order_len - at : 4;
        digest_begin(&d);
        digest_field(&d, "prefix", h.b, sizeof h.b);
        digest_field(&d, "word", order + at, n);
        h = digest_end(&d);
        memcpy(order + at, h.b + 16, n); /* bytes that the state's first half does not give away */
    }
    digester_release(&d);
}
