/* SPDX-License-Identifier: MIT
 * record.c — heads of records and segments as bytes.  One row of docs/format-store.md is one
 * constant here; all numbers are little-endian. */
#include "store/record.h"

#include <string.h>

#include "base/check.h"
#include "base/endian.h"

static const char record_magic[8] = {'k', 'v', 'a', 's', 'i', 'r', 'R', 'C'};
static const char segment_magic[8] = {'k', 'v', 'a', 's', 'i', 'r', 'S', 'G'};

enum { /* docs/format-store.md, "Record" */
       AT_MAGIC = 0,
       AT_VERSION = 8,
       AT_KIND = 10,
       AT_HEAD_BYTES = 12,
       AT_STORE = 16,
       AT_SEGMENT = 32,
       AT_OFFSET = 40,
       AT_BYTES = 48,
       AT_SEQUENCE = 56,
       AT_SYNCED = 64,
       AT_PAYLOAD_AT = 72,
       AT_PAYLOAD_LEN = 80,
       AT_LAYOUT = 88,
       AT_DEPTH = 96,
       AT_COST = 100,
       AT_ORDER_LEN = 104,
       AT_META_LEN = 108,
       AT_N_CHUNKS = 112,
       AT_FLAGS = 116,
       AT_DATA_KEY = 120,
       AT_KEY = 128,
       AT_CHAIN = 160,
       AT_PARENT = 192,
       AT_FAMILY = 224,
       AT_META = 256,
};
_Static_assert(AT_META == RECORD_FIXED_BYTES, "format-store.md: meta follows the fixed part");
_Static_assert(AT_FAMILY + DIGEST_BYTES == AT_META, "format-store.md: no gap before meta");

enum { /* docs/format-store.md, "Segment" */
       SEG_VERSION = 8,
       SEG_HEAD_BYTES = 12,
       SEG_STORE = 16,
       SEG_NUMBER = 32,
       SEG_CAPACITY = 40,
       SEG_CREATED = 48,
       SEG_FAILED = 56,
       SEG_FAILED_GOOD = 64,
       SEG_BUDGET = 72,
       SEG_SEQUENCE = 80,
       SEG_SUM = 112,
       SEG_BYTES = 128,
       SEG_COPY = 2048,
};

#define SUM_BYTES 16u

enum { /* AT_FLAGS; the others are zero.  Version 1 had none */
       FLAG_ENCRYPTED = 1,
       FLAGS_REACH_SHIFT = 8,
};
#define FLAGS_KNOWN ((uint32_t)FLAG_ENCRYPTED | STORE_REACH_MAX << FLAGS_REACH_SHIFT)

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint32_t head_bytes_of(uint32_t order_len, uint32_t meta_len, uint32_t n_chunks)
{
    uint64_t n = RECORD_FIXED_BYTES + round_up(meta_len, 8) +
                 (uint64_t)n_chunks * RECORD_CHUNK_BYTES + round_up(order_len, 8) + SUM_BYTES;
    return (uint32_t)n;
}

static uint64_t payload_at_of(uint32_t head_bytes, uint64_t payload_len)
{
    return round_up(head_bytes,
                    payload_len >= RECORD_PAYLOAD_UNIT_MIN ? RECORD_UNIT : RECORD_CHUNK_ALIGN);
}

enum status record_shape(struct record *r, const struct store_chunk *chunks, struct err *e)
{
    if (r->meta_len > RECORD_META_MAX)
        return err_set(e, E_LIMIT, "%u bytes of meta, at most %u", r->meta_len, RECORD_META_MAX);
    if (r->order_len > STORE_ORDER_MAX)
        return err_set(e, E_LIMIT, "%u bytes of order, at most %u", r->order_len, STORE_ORDER_MAX);
    if (r->n_chunks > STORE_CHUNKS_MAX)
        return err_set(e, E_LIMIT, "%u chunks, at most %u", r->n_chunks, STORE_CHUNKS_MAX);
    uint64_t len = 0;
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        if (chunks[i].len > STORE_RECORD_MAX)
            return err_set(e, E_LIMIT, "a chunk of %llu bytes", (unsigned long long)chunks[i].len);
        len = round_up(len, RECORD_CHUNK_ALIGN) + chunks[i].len;
        if (len > STORE_RECORD_MAX)
            return err_set(e, E_LIMIT, "a payload of more than %u bytes", STORE_RECORD_MAX);
    }
    r->head_bytes = head_bytes_of(r->order_len, r->meta_len, r->n_chunks);
    r->payload_len = len;
    r->payload_at = payload_at_of(r->head_bytes, len);
    r->bytes = round_up(r->payload_at + len, RECORD_UNIT);
    return OK;
}

static void put_digest(uint8_t *dst, const struct digest *d)
{
    memcpy(dst, d->b, DIGEST_BYTES);
}

static void put_sum(uint8_t *dst, struct checksum sum)
{
    put_le64(dst, sum.low);
    put_le64(dst + 8, sum.high);
}

static struct checksum get_sum(const uint8_t *p)
{
    return (struct checksum){get_le64(p), get_le64(p + 8)};
}

void record_encode(const struct record *r, const struct record_chunk *rows, uint8_t *dst)
{
    CHECK(r->head_bytes == head_bytes_of(r->order_len, r->meta_len, r->n_chunks));
    memset(dst, 0, r->head_bytes);
    memcpy(dst + AT_MAGIC, record_magic, sizeof record_magic);
    put_le16(dst + AT_VERSION, RECORD_VERSION);
    put_le16(dst + AT_KIND, (uint16_t)r->kind);
    put_le32(dst + AT_HEAD_BYTES, r->head_bytes);
    memcpy(dst + AT_STORE, r->place.store.b, sizeof r->place.store.b);
    put_le64(dst + AT_SEGMENT, r->place.segment);
    put_le64(dst + AT_OFFSET, r->place.offset);
    put_le64(dst + AT_BYTES, r->bytes);
    put_le64(dst + AT_SEQUENCE, r->sequence);
    put_le64(dst + AT_SYNCED, r->synced);
    put_le64(dst + AT_PAYLOAD_AT, r->payload_at);
    put_le64(dst + AT_PAYLOAD_LEN, r->payload_len);
    put_le64(dst + AT_LAYOUT, r->layout);
    put_le32(dst + AT_DEPTH, r->depth);
    memcpy(dst + AT_COST, &r->cost_ms, sizeof r->cost_ms);
    put_le32(dst + AT_ORDER_LEN, r->order_len);
    put_le32(dst + AT_META_LEN, r->meta_len);
    put_le32(dst + AT_N_CHUNKS, r->n_chunks);
    put_le32(dst + AT_FLAGS, (r->data_key ? FLAG_ENCRYPTED : 0) | r->reach << FLAGS_REACH_SHIFT);
    put_le64(dst + AT_DATA_KEY, r->data_key);
    put_digest(dst + AT_KEY, &r->key);
    put_digest(dst + AT_CHAIN, &r->chain);
    put_digest(dst + AT_PARENT, &r->parent);
    put_digest(dst + AT_FAMILY, &r->family);
    if (r->meta_len > 0)
        memcpy(dst + AT_META, r->meta, r->meta_len);
    uint8_t *row = dst + AT_META + round_up(r->meta_len, 8);
    for (uint32_t i = 0; i < r->n_chunks; i++, row += RECORD_CHUNK_BYTES) {
        put_le64(row, rows[i].at);
        put_le64(row + 8, rows[i].len);
        put_sum(row + 16, rows[i].sum);
    }
    if (r->order_len > 0)
        memcpy(row, r->order, r->order_len);
    size_t checked = r->head_bytes - SUM_BYTES;
    put_sum(dst + checked, checksum_of(dst, checked));
}

uint32_t record_claimed_head(const uint8_t *p, size_t avail)
{
    if (avail < RECORD_FIXED_BYTES || memcmp(p, record_magic, sizeof record_magic) != 0)
        return 0;
    uint32_t n = get_le32(p + AT_HEAD_BYTES);
    return n >= RECORD_FIXED_BYTES + SUM_BYTES && n <= RECORD_HEAD_MAX ? n : 0;
}

struct record_chunk record_chunk_at(const uint8_t *table, uint32_t i, uint64_t payload_len)
{
    const uint8_t *row = table + (size_t)i * RECORD_CHUNK_BYTES;
    struct record_chunk c = {get_le64(row), get_le64(row + 8), get_sum(row + 16)};
    if (c.at > payload_len || c.len > payload_len - c.at)
        return (struct record_chunk){0};
    return c;
}

/* The numbers of a head whose checksum is right; they must still agree with each other, because a
 * newer or a hostile writer may have made them. */
static bool shape_is_consistent(const struct record *r)
{
    if (r->order_len > STORE_ORDER_MAX || r->meta_len > RECORD_META_MAX ||
        r->n_chunks > STORE_CHUNKS_MAX || r->payload_len > STORE_RECORD_MAX)
        return false;
    if (r->head_bytes != head_bytes_of(r->order_len, r->meta_len, r->n_chunks))
        return false;
    if (r->payload_at != payload_at_of(r->head_bytes, r->payload_len) ||
        r->bytes != round_up(r->payload_at + r->payload_len, RECORD_UNIT))
        return false;
    uint64_t end = 0;
    for (uint32_t i = 0; i < r->n_chunks; i++) {
        const uint8_t *row = r->table + (size_t)i * RECORD_CHUNK_BYTES;
        uint64_t at = get_le64(row), len = get_le64(row + 8);
        if (at != round_up(end, RECORD_CHUNK_ALIGN) || len > r->payload_len ||
            at > r->payload_len - len)
            return false;
        end = at + len;
    }
    return end == r->payload_len && r->synced <= r->place.offset;
}

static bool kind_is_known(unsigned kind)
{
    return (kind >= RECORD_PAGE && kind <= RECORD_KIND_LAST) || kind == RECORD_TOMBSTONE ||
           kind == RECORD_MARK;
}

enum status record_parse(const uint8_t *p, size_t avail, const struct record_place *place,
                         struct record *out, struct err *e)
{
    uint32_t head = record_claimed_head(p, avail);
    if (head == 0 || head > avail)
        return err_at(e, E_CORRUPT, place->offset, "no record starts here");
    size_t checked = head - SUM_BYTES;
    if (!checksum_equal(get_sum(p + checked), checksum_of(p, checked)))
        return err_at(e, E_CORRUPT, place->offset, "record head: checksum");
    unsigned version = get_le16(p + AT_VERSION);
    if (version < 1 || version > RECORD_VERSION)
        return err_at(
            e, E_UNSUPPORTED, place->offset,
            "a record of version %u; this program knows versions up to %u: use a newer one",
            version, RECORD_VERSION);
    if (memcmp(p + AT_STORE, place->store.b, sizeof place->store.b) != 0 ||
        get_le64(p + AT_SEGMENT) != place->segment || get_le64(p + AT_OFFSET) != place->offset)
        return err_at(e, E_CORRUPT, place->offset, "a record that belongs elsewhere");
    *out = (struct record){
        .place = *place,
        .kind = get_le16(p + AT_KIND),
        .sequence = get_le64(p + AT_SEQUENCE),
        .synced = get_le64(p + AT_SYNCED),
        .layout = get_le64(p + AT_LAYOUT),
        .depth = get_le32(p + AT_DEPTH),
        .order_len = get_le32(p + AT_ORDER_LEN),
        .meta_len = get_le32(p + AT_META_LEN),
        .n_chunks = get_le32(p + AT_N_CHUNKS),
        .head_bytes = head,
        .payload_at = get_le64(p + AT_PAYLOAD_AT),
        .payload_len = get_le64(p + AT_PAYLOAD_LEN),
        .bytes = get_le64(p + AT_BYTES),
    };
    memcpy(&out->cost_ms, p + AT_COST, sizeof out->cost_ms);
    memcpy(out->key.b, p + AT_KEY, DIGEST_BYTES);
    memcpy(out->chain.b, p + AT_CHAIN, DIGEST_BYTES);
    memcpy(out->parent.b, p + AT_PARENT, DIGEST_BYTES);
    memcpy(out->family.b, p + AT_FAMILY, DIGEST_BYTES);
    /* Lengths are checked against the head before the pointers made from them are followed. */
    if (out->order_len > STORE_ORDER_MAX || out->meta_len > RECORD_META_MAX ||
        out->n_chunks > STORE_CHUNKS_MAX ||
        head != head_bytes_of(out->order_len, out->meta_len, out->n_chunks))
        return err_at(e, E_CORRUPT, place->offset, "record head: lengths");
    out->meta = p + AT_META;
    out->table = record_table(out->meta, out->meta_len);
    out->order = out->table + (size_t)out->n_chunks * RECORD_CHUNK_BYTES;
    uint32_t flags = get_le32(p + AT_FLAGS);
    out->reach = flags >> FLAGS_REACH_SHIFT & STORE_REACH_MAX;
    out->data_key = get_le64(p + AT_DATA_KEY);
    bool has_flags = version == 1 ? flags == 0 && out->data_key == 0
                                  : (flags & ~FLAGS_KNOWN) == 0 &&
                                        !(flags & FLAG_ENCRYPTED) == (out->data_key == 0);
    if (!kind_is_known(out->kind) || !has_flags || !shape_is_consistent(out))
        return err_at(e, E_CORRUPT, place->offset, "record head: numbers that contradict");
    return OK;
}

/* ---- segment header ---- */
void segment_head_encode(const struct segment_head *h, uint8_t unit[RECORD_UNIT])
{
    memset(unit, 0, RECORD_UNIT);
    memcpy(unit, segment_magic, sizeof segment_magic);
    put_le32(unit + SEG_VERSION, SEGMENT_VERSION);
    put_le32(unit + SEG_HEAD_BYTES, SEG_BYTES);
    memcpy(unit + SEG_STORE, h->store.b, sizeof h->store.b);
    put_le64(unit + SEG_NUMBER, h->number);
    put_le64(unit + SEG_CAPACITY, h->capacity);
    put_le64(unit + SEG_CREATED, h->created_ms);
    put_le64(unit + SEG_FAILED, h->failed_number);
    put_le64(unit + SEG_FAILED_GOOD, h->failed_good);
    put_le64(unit + SEG_BUDGET, h->budget_bytes);
    put_le64(unit + SEG_SEQUENCE, h->next_sequence);
    put_sum(unit + SEG_SUM, checksum_of(unit, SEG_SUM));
    memcpy(unit + SEG_COPY, unit, SEG_BYTES);
}

static enum status parse_copy(const uint8_t *p, struct segment_head *out, struct err *e)
{
    if (memcmp(p, segment_magic, sizeof segment_magic) != 0)
        return err_at(e, E_CORRUPT, 0, "not a segment");
    if (!checksum_equal(get_sum(p + SEG_SUM), checksum_of(p, SEG_SUM)))
        return err_at(e, E_CORRUPT, 0, "segment header: checksum");
    if (get_le32(p + SEG_VERSION) != SEGMENT_VERSION)
        return err_at(e, E_UNSUPPORTED, SEG_VERSION,
                      "a segment of version %u; this program knows version %u: use a newer one",
                      get_le32(p + SEG_VERSION), SEGMENT_VERSION);
    *out = (struct segment_head){
        .number = get_le64(p + SEG_NUMBER),
        .capacity = get_le64(p + SEG_CAPACITY),
        .created_ms = get_le64(p + SEG_CREATED),
        .failed_number = get_le64(p + SEG_FAILED),
        .failed_good = get_le64(p + SEG_FAILED_GOOD),
        .budget_bytes = get_le64(p + SEG_BUDGET),
        .next_sequence = get_le64(p + SEG_SEQUENCE),
    };
    memcpy(out->store.b, p + SEG_STORE, sizeof out->store.b);
    if (out->number == 0 || out->capacity < RECORD_UNIT || out->capacity % RECORD_UNIT != 0)
        return err_at(e, E_CORRUPT, SEG_NUMBER, "segment header: numbers that contradict");
    return OK;
}

enum status segment_head_parse(const uint8_t *p, size_t avail, struct segment_head *out,
                               struct err *e)
{
    if (avail < RECORD_UNIT)
        return err_at(e, E_CORRUPT, avail, "a segment shorter than its header");
    enum status st = parse_copy(p, out, e);
    if (st == E_CORRUPT)
        st = parse_copy(p + SEG_COPY, out, e);
    return st;
}
