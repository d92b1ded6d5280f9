/* SPDX-License-Identifier: MIT
 * digest.c — SHA-256 through EVP; the algorithm is fetched once, since a fetch costs more than
 * hashing a page key does. */
#include "base/digest.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "base/endian.h"

static const EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    CHECK(sha256 != NULL);
}

void digest_begin(struct digester *d)
{
    pthread_once(&sha256_once, fetch_sha256);
    if (!d->ctx) {
        d->ctx = EVP_MD_CTX_new();
        CHECK(d->ctx != NULL);
    }
    CHECK(EVP_DigestInit_ex2(d->ctx, sha256, NULL) == 1);
}

void digest_bytes(struct digester *d, const void *bytes, size_t len)
{
    CHECK(EVP_DigestUpdate(d->ctx, bytes, len) == 1);
}

void digest_field(struct digester *d, const char *tag, const void *value, size_t len)
{
    /* Small fields are joined first: one call to EVP instead of four. */
    uint8_t joined[320];
    size_t tag_len = strlen(tag);
    CHECK(tag_len < 64);
    put_le32(joined, (uint32_t)tag_len);
    memcpy(joined + 4, tag, tag_len);
    put_le64(joined + 4 + tag_len, len);
    size_t used = 12 + tag_len;
    if (len <= sizeof joined - used) {
        if (len)
            memcpy(joined + used, value, len);
        digest_bytes(d, joined, used + len);
        return;
    }
    digest_bytes(d, joined, used);
    digest_bytes(d, value, len);
}

void digest_u64(struct digester *d, const char *tag, uint64_t value)
{
    uint8_t le[8];
    put_le64(le, value);
    digest_field(d, tag, le, sizeof le);
}

struct digest digest_end(struct digester *d)
{
    struct digest out;
    unsigned len = 0;
    CHECK(EVP_DigestFinal_ex(d->ctx, out.b, &len) == 1 && len == DIGEST_BYTES);
    return out;
}

void digester_release(struct digester *d)
{
    EVP_MD_CTX_free(d->ctx);
    d->ctx = NULL;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a->b, b->b, DIGEST_BYTES) == 0;
}

bool digest_is_zero(const struct digest *a)
{
    static const struct digest zero;
    return digest_equal(a, &zero);
}

void digest_hex(const struct digest *a, char out[DIGEST_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[a->b[i] >> 4];
        out[2 * i + 1] = digits[a->b[i] & 15];
    }
    out[2 * DIGEST_BYTES] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool digest_from_hex(struct digest *out, const char *hex, size_t len)
{
    if (len != 2 * DIGEST_BYTES)
        return false;
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out->b[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
