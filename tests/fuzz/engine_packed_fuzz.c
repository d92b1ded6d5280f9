/* SPDX-License-Identifier: MIT
 * The head of a side file of repacked weights.  The first byte tells whether the head's checksum is
 * made right first (else nothing but the checksum would ever be tested), the next eight the length
 * that the file is said to have, XORed with the right one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/checksum.h"
#include "base/endian.h"
#include "engine/packed.h"

#define PREFIX 9u
#define FIXED  168u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct packed_head h;
    struct err e;
    if (size < PREFIX)
        return 0;
    bool is_sealed = data[0] & 1;
    uint64_t file_bytes = get_le64(data + 1);
    data += PREFIX;
    size -= PREFIX;
    uint8_t *bytes = malloc(size ? size : 1); /* exactly, so that a read past the end shows */
    if (!bytes)
        return 0;
    memcpy(bytes, data, size);
    if (size >= FIXED) {
        uint64_t summed = FIXED + (uint64_t)get_le32(bytes + 12) * 16;
        file_bytes ^= get_le64(bytes + 16) + get_le64(bytes + 24);
        if (is_sealed && summed + 16 <= size) {
            struct checksum sum = checksum_of(bytes, summed);
            put_le64(bytes + summed, sum.low);
            put_le64(bytes + summed + 8, sum.high);
        }
    }
    if (packed_parse(bytes, size, file_bytes, &h, &e) == OK) {
        CHECK(h.head_bytes <= size && file_bytes == h.head_bytes + h.payload_bytes);
        CHECK(h.n_chunks > 0 && strnlen(h.model, PACKED_NAME_MAX) < PACKED_NAME_MAX);
        CHECK(FIXED + (uint64_t)h.n_chunks * 16 + 16 <= h.head_bytes);
    }
    free(bytes);
    return 0;
}
