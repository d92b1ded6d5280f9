/* SPDX-License-Identifier: MIT
 * frame.c — RFC 6455 §5: a frame is
 *
 *   byte 0   FIN RSV1 RSV2 RSV3 opcode(4)
 *   byte 1   MASK length(7)          126: 2 bytes of length follow, 127: 8 bytes
 *   mask     4 bytes, payload byte i is XORed with mask[i % 4]
 *   payload
 *
 * The reader keeps a frame's head until it is whole and unmasks the payload as it comes. */
#include <openssl/evp.h>

#include "base/check.h"
#include "http/frame.h"
#include "text/utf8.h"

#define FIN     0x80u
#define RSV     0x70u
#define MASKED  0x80u
#define LEN_16  126u
#define LEN_64  127u
#define KEY_LEN 24u /* base64 of 16 bytes */

enum opcode { OP_MORE = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

void frame_reader_init(struct frame_reader *r, size_t message_bytes_max)
{
    *r = (struct frame_reader){0};
    buf_init(&r->message, message_bytes_max);
}

void frame_reader_release(struct frame_reader *r)
{
    buf_release(&r->message);
}

static struct frame_event broken(struct frame_reader *r, uint16_t code)
{
    r->is_broken = true;
    return (struct frame_event){.kind = FRAME_BROKEN, .code = code};
}

static unsigned opcode_of(const struct frame_reader *r)
{
    return r->head[0] & 0x0Fu;
}

static bool is_control(const struct frame_reader *r)
{
    return opcode_of(r) >= OP_CLOSE;
}

static uint32_t head_bytes(const struct frame_reader *r)
{
    unsigned len = r->n_head < 2 ? 0 : r->head[1] & 0x7Fu;
    return 2 + (len == LEN_16 ? 2 : len == LEN_64 ? 8 : 0) + 4;
}

static uint64_t length_of(const struct frame_reader *r)
{
    uint64_t len = r->head[1] & 0x7Fu;
    uint32_t n = len == LEN_16 ? 2 : len == LEN_64 ? 8 : 0;
    if (n == 0)
        return len;
    len = 0;
    for (uint32_t i = 0; i < n; i++)
        len = len << 8 | r->head[2 + i];
    return len;
}

/* 0: the head is in order. */
static uint16_t check_head(const struct frame_reader *r)
{
    unsigned op = opcode_of(r);
    bool is_last = r->head[0] & FIN;
    uint64_t len = length_of(r);
    if ((r->head[0] & RSV) || !(r->head[1] & MASKED))
        return CLOSE_PROTOCOL;
    if (op == OP_BINARY)
        return CLOSE_UNSUPPORTED;
    if (op != OP_MORE && op != OP_TEXT && op != OP_CLOSE && op != OP_PING && op != OP_PONG)
        return CLOSE_PROTOCOL;
    if (is_control(r))
        return is_last && len <= FRAME_CONTROL_BYTES_MAX ? 0 : CLOSE_PROTOCOL;
    if ((op == OP_MORE) != r->is_text)
        return CLOSE_PROTOCOL;
    if (r->n_pieces == FRAME_PIECES_MAX || len > r->message.max_bytes - r->message.len)
        return CLOSE_TOO_BIG;
    return 0;
}

/* The two bytes that say how long the head is, then the rest of it. */
static bool read_head(struct frame_reader *r, struct slice *bytes)
{
    while (bytes->len > 0 && (r->n_head < 2 || r->n_head < head_bytes(r))) {
        r->head[r->n_head++] = (uint8_t)bytes->ptr[0];
        bytes->ptr++;
        bytes->len--;
    }
    return r->n_head >= 2 && r->n_head == head_bytes(r);
}

static void unmask(const struct frame_reader *r, char *to, const char *from, size_t n)
{
    const uint8_t *mask = r->head + r->n_head - 4;
    for (size_t i = 0; i < n; i++)
        to[i] = (char)((uint8_t)from[i] ^ mask[(r->at + i) & 3]);
}

/* False: no memory. */
static bool read_payload(struct frame_reader *r, struct slice *bytes)
{
    size_t n = bytes->len < r->left ? bytes->len : (size_t)r->left;
    if (is_control(r)) {
        unmask(r, (char *)r->control + r->at, bytes->ptr, n);
    } else if (n > 0) {
        char *to = buf_reserve(&r->message, n);
        if (!to)
            return false;
        unmask(r, to, bytes->ptr, n);
        r->message.len += n;
    }
    bytes->ptr += n;
    bytes->len -= n;
    r->at += n;
    r->left -= n;
    return true;
}

/* What is there so far begins a text; at its end, all of it. */
static bool check_text(struct frame_reader *r, bool is_end)
{
    struct slice text = {r->message.ptr ? r->message.ptr + r->seen : "", r->message.len - r->seen};
    size_t good = utf8_valid_prefix(text.ptr, text.len);
    size_t rest = text.len - good;
    r->seen += good;
    return rest == 0 || (!is_end && rest == utf8_incomplete_tail(text.ptr, text.len));
}

static bool is_close_code(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static struct frame_event close_event(struct frame_reader *r)
{
    struct slice reason = {(const char *)r->control + 2, r->at > 2 ? (size_t)r->at - 2 : 0};
    unsigned code = (unsigned)(r->control[0] << 8 | r->control[1]);
    if (r->at == 0)
        return (struct frame_event){.kind = FRAME_CLOSE, .code = CLOSE_NONE};
    if (r->at == 1 || !is_close_code(code))
        return broken(r, CLOSE_PROTOCOL);
    if (utf8_valid_prefix(reason.ptr, reason.len) != reason.len)
        return broken(r, CLOSE_NOT_UTF8);
    return (struct frame_event){.kind = FRAME_CLOSE, .code = (uint16_t)code, .payload = reason};
}

/* A frame is there as a whole. */
static struct frame_event end_frame(struct frame_reader *r)
{
    struct slice control = {(const char *)r->control, (size_t)r->at};
    r->has_head = false;
    r->n_head = 0;
    switch (opcode_of(r)) {
    case OP_PING:
        return (struct frame_event){.kind = FRAME_PING, .payload = control};
    case OP_PONG:
        return (struct frame_event){.kind = FRAME_PONG, .payload = control};
    case OP_CLOSE:
        return close_event(r);
    default:
        break;
    }
    bool is_last = r->head[0] & FIN;
    r->is_text = !is_last;
    r->n_pieces++;
    if (!check_text(r, is_last))
        return broken(r, CLOSE_NOT_UTF8);
    if (!is_last)
        return (struct frame_event){.kind = FRAME_NOTHING};
    r->is_given = true;
    return (struct frame_event){.kind = FRAME_TEXT, .payload = buf_slice(&r->message)};
}

void frame_reader_rest(struct frame_reader *r)
{
    if (!r->is_given)
        return;
    buf_clear(&r->message);
    if (r->message.cap > FRAME_KEEP_BYTES)
        buf_release(&r->message);
    r->seen = 0;
    r->n_pieces = 0;
    r->is_given = false;
}

struct frame_event frame_read(struct frame_reader *r, struct slice *bytes)
{
    frame_reader_rest(r);
    while (!r->is_broken) {
        if (!r->has_head) {
            if (!read_head(r, bytes))
                return (struct frame_event){.kind = FRAME_NOTHING};
            uint16_t code = check_head(r);
            if (code)
                return broken(r, code);
            r->has_head = true;
            r->left = length_of(r);
            r->at = 0;
        }
        if (!read_payload(r, bytes))
            return broken(r, CLOSE_TOO_BIG);
        if (r->left > 0)
            return (struct frame_event){.kind = FRAME_NOTHING};
        struct frame_event ev = end_frame(r);
        if (ev.kind != FRAME_NOTHING)
            return ev;
    }
    return broken(r, CLOSE_PROTOCOL);
}

/* ---- writing ---- */
static void write_frame(struct buf *out, enum opcode op, struct slice payload)
{
    uint8_t head[10] = {(uint8_t)(FIN | op)};
    size_t n = 2;
    if (payload.len < LEN_16) {
        head[1] = (uint8_t)payload.len;
    } else {
        head[1] = payload.len <= UINT16_MAX ? LEN_16 : LEN_64;
        size_t n_len = head[1] == LEN_16 ? 2 : 8;
        for (size_t i = 0; i < n_len; i++)
            head[n++] = (uint8_t)((uint64_t)payload.len >> 8 * (n_len - 1 - i));
    }
    if (!buf_reserve(out, n + payload.len)) /* whole frames or none */
        return;
    buf_add(out, head, n);
    buf_add_slice(out, payload);
}

void frame_write_text(struct buf *out, struct slice text)
{
    write_frame(out, OP_TEXT, text);
}

void frame_write_ping(struct buf *out)
{
    write_frame(out, OP_PING, (struct slice){"", 0});
}

void frame_write_pong(struct buf *out, struct slice payload)
{
    DCHECK(payload.len <= FRAME_CONTROL_BYTES_MAX);
    write_frame(out, OP_PONG, payload);
}

void frame_write_close(struct buf *out, uint16_t code, const char *reason)
{
    char payload[FRAME_CONTROL_BYTES_MAX] = {(char)(code >> 8), (char)(code & 0xFF)};
    size_t n = strlen(reason);
    if (n > sizeof payload - 2)
        n = sizeof payload - 2;
    n = utf8_valid_prefix(reason, n); /* not through the middle of a character */
    memcpy(payload + 2, reason, n);
    write_frame(out, OP_CLOSE,
                code == CLOSE_NONE ? (struct slice){"", 0} : (struct slice){payload, n + 2});
}

bool frame_accept(struct slice key, char out[FRAME_ACCEPT_BYTES])
{
    static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 §1.3 */
    unsigned char text[KEY_LEN + sizeof GUID], hash[EVP_MAX_MD_SIZE], raw[KEY_LEN];
    unsigned n = 0;
    if (key.len != KEY_LEN || key.ptr[KEY_LEN - 1] != '=' || key.ptr[KEY_LEN - 2] != '=')
        return false;
    if (EVP_DecodeBlock(raw, (const unsigned char *)key.ptr, (int)key.len) < 0)
        return false;
    memcpy(text, key.ptr, key.len);
    memcpy(text + key.len, GUID, sizeof GUID - 1);
    int ok = EVP_Digest(text, key.len + sizeof GUID - 1, hash, &n, EVP_sha1(), NULL);
    CHECK(ok == 1 && n == 20);
    EVP_EncodeBlock((unsigned char *)out, hash, (int)n);
    return true;
}
