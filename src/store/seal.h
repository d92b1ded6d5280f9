/* SPDX-License-Identifier: MIT
 * seal.h — records of owners whose bytes are encrypted at rest.
 *
 *   the file's key (outside the store) ── wraps ──▶ data keys, one a segment, owner and run, each
 * in a record of kind RECORD_KEY ── AES-256-GCM ──▶ meta and each payload chunk of a record
 *
 * Nonce: the record's sequence number and the chunk's: neither repeats under one data key, because
 * a sequence is given once in a run, and a run never encrypts with a data key of another.
 * Associated data: what a copy of the record keeps of its head (not its place).
 * Not hidden: kinds, sizes, times, digests (salted by the owner's secret salt), which pages share a
 * beginning.  Order keys of siblings are replaced by a keyed digest of each prefix, which keeps
 * what neighbours are asked for: the longest common prefix. Format: docs/format-store.md,
 * "Encryption". Thread: the keyring under the store's lock; the rest are pure functions. */
#ifndef KVASIR_STORE_SEAL_H
#define KVASIR_STORE_SEAL_H

#include "store/record.h"

#define SEAL_TAG_BYTES  16u
#define SEAL_KEY_BYTES  32u
#define SEAL_META_CHUNK UINT32_MAX /* the chunk number of meta in nonces */
#define SEAL_KEYS_MAX   (1u << 20)

struct data_key {
    uint64_t number; /* random, not 0 */
    uint64_t owner;
    uint32_t n_live; /* records of the table that need it */
    bool is_open;    /* key is set */
    uint8_t key[SEAL_KEY_BYTES];
};

struct keyring {
    bool has_file_key;
    uint8_t file_key[SEAL_KEY_BYTES];
    struct data_key *keys;
    uint32_t n, cap;
    uint32_t *slots; /* hash of numbers: place in keys + 1; 0: free */
    uint32_t n_slots;
};

void keyring_release(struct keyring *k); /* wipes */
/* The place of a number in keys, added if it is not there; UINT32_MAX: out of memory. */
uint32_t keyring_place(struct keyring *k, uint64_t number);

/* The record that keeps a data key: its key, and its one chunk. */
#define SEAL_WRAPPED_BYTES (8u + 12u + SEAL_KEY_BYTES + SEAL_TAG_BYTES)
struct digest seal_record_key(uint64_t number);
NODISCARD enum status seal_wrap(const struct keyring *k, const struct store_id *store,
                                const struct data_key *key, uint8_t out[SEAL_WRAPPED_BYTES],
                                struct err *e);
/* E_DENIED: wrapped by another file key, or damaged. */
NODISCARD enum status seal_unwrap(const struct keyring *k, const struct store_id *store,
                                  const uint8_t wrapped[SEAL_WRAPPED_BYTES], uint64_t number,
                                  struct data_key *out, struct err *e);

/* dst gets len + SEAL_TAG_BYTES bytes.  r: sequence, kind, digests, layout, depth and n_chunks set.
 */
NODISCARD enum status seal_encrypt(const uint8_t key[SEAL_KEY_BYTES], const struct record *r,
                                   uint32_t chunk, const void *src, uint64_t len, uint8_t *dst,
                                   struct err *e);
/* src holds len + SEAL_TAG_BYTES bytes.  E_CORRUPT: not what was encrypted. */
NODISCARD enum status seal_decrypt(const uint8_t key[SEAL_KEY_BYTES], const struct record *r,
                                   uint32_t chunk, const uint8_t *src, uint64_t len, void *dst,
                                   struct err *e);
/* Replaces each four bytes of order by a digest of all up to them, keyed by file and family. */
void seal_order(const struct keyring *k, const struct digest *family, uint8_t *order,
                uint32_t order_len);

#endif
