/* SPDX-License-Identifier: MIT
 * digest.h — SHA-256 over tagged, length-prefixed fields: identity that survives an adversary.
 * For:    page keys, model identity, salts.      Not for: detecting damage (checksum.h is 20× faster).
 * Source: FIPS 180-4, by OpenSSL's libcrypto.
 * Why tagged fields: untagged concatenation lets two different inputs collide (vLLM issue 44701). */
#ifndef KVASIR_BASE_DIGEST_H
#define KVASIR_BASE_DIGEST_H

#include "base/status.h"

#define DIGEST_BYTES 32
#define DIGEST_HEX_BYTES (2 * DIGEST_BYTES + 1)

struct digest {
    uint8_t b[DIGEST_BYTES];
};

struct digester {
    void *ctx; /* EVP_MD_CTX */
};

/* Order: digest_begin → (digest_bytes | digest_field | digest_u64)* → digest_end.  Reusable: begin
 * again after end.  digester_release frees; a zeroed digester is safe to release and to begin. */
void digest_begin(struct digester *d);
void digest_bytes(struct digester *d, const void *bytes, size_t len); /* raw, for streams */
/* One field: u32 tag length, tag, u64 value length, value; little-endian. */
void digest_field(struct digester *d, const char *tag, const void *value, size_t len);
void digest_u64(struct digester *d, const char *tag, uint64_t value);
struct digest digest_end(struct digester *d);
void digester_release(struct digester *d);

bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *a);
void digest_hex(const struct digest *a, char out[DIGEST_HEX_BYTES]);
bool digest_from_hex(struct digest *out, const char *hex, size_t len); /* len must be 64 */

#endif
