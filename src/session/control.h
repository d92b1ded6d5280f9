/* SPDX-License-Identifier: MIT
 * control.h — the socket in the store's folder by which other processes ask its writer.
 * For:      `kvasir store pin`, `rm`, `fork`, `gc`, `import` … while a server runs.
 * Protocol: the client connects to DIR/control (0600, of one's own user), writes one line of JSON:
 *           {"op": …, "tenant": name, …}, and for an import the file behind it; then shuts its
 *           sending side down.  The server answers with one line, {"ok": true, "answer": {…}} or
 *           {"ok": false, "status": "E_NOT_FOUND", "message": "…"}, and closes.
 * Thread:   CONTROL_THREADS of its own, one connection each; more wait. */
#ifndef KVASIR_SESSION_CONTROL_H
#define KVASIR_SESSION_CONTROL_H

#include "session/session.h"

#define CONTROL_LINE_MAX   (1u << 20)
#define CONTROL_ANSWER_MAX (128u << 20)
#define CONTROL_THREADS    4u
#define CONTROL_LINE_MS    10000u /* for a request's line to come */
#define CONTROL_BODY_MS    60000u /* without a byte of what follows it */
#define CONTROL_ANSWER_MS  600000u

/* What a connection has besides its line: bytes to read, and maybe a descriptor to hand over. */
struct control_peer {
    int fd;               /* −1: none (a fuzz target) */
    struct slice started; /* bytes behind the line that were read with it */
    int give_fd;          /* set by an extra op: sent along with the answer; −1: none */
};

struct control_options {
    const char *dir;
    struct sessions *sessions;
    struct store *store;
    /* Ops that this room does not know.  E_UNSUPPORTED: nor does it.  May be NULL. */
    enum status (*extra)(void *arg, uint32_t tenant, const struct json *request,
                         struct control_peer *peer, struct buf *answer, struct err *e);
    void *arg;
};
struct control;
NODISCARD enum status control_start(const struct control_options *options, struct control **out,
                                    struct err *e);
void control_stop(struct control *c); /* cuts open connections, waits for what runs */
/* One request's line to one answer's line; never fails: what goes wrong is the answer. */
void control_answer(const struct control_options *options, struct slice line,
                    struct control_peer *peer, struct buf *out);

/* ---- the other side ---- */
/* Asks the writer of dir.  in_fd ≥ 0: its bytes follow the line.  answer: of {"ok": true}.  got_fd
 * may be NULL: a descriptor that came along, −1 if none.
 * E_NOT_FOUND with e->sys == 0 and text "nobody…": no server has this store. */
NODISCARD enum status control_call(const char *dir, struct slice request, int in_fd,
                                   struct buf *answer, int *got_fd, bool *is_nobody, struct err *e);

#endif
