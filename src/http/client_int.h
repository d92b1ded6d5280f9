/* SPDX-License-Identifier: MIT
 * client_int.h — inner door: one transfer by libcurl, for the blocking client and the swarm. */
#ifndef KVASIR_HTTP_CLIENT_INT_H
#define KVASIR_HTTP_CLIENT_INT_H

#include <curl/curl.h>

#include "http/http_client.h"

struct transfer {
    const struct http_call *call;
    struct http_answer *answer;
    CURL *curl;
    struct curl_slist *headers;
    uint64_t start_ns;
    curl_socket_t fd;    /* its connection; CURL_SOCKET_BAD: none yet */
    uint64_t arrived_ns; /* when what is about to be read reached this machine; 0: not known */
    bool is_refused;     /* by the caller's chunk() */
    char error[CURL_ERROR_SIZE];
};

/* t->curl is the caller's.  Times count from now. */
NODISCARD enum status transfer_begin(struct transfer *t, const struct http_call *call,
                                     struct http_answer *answer, struct err *e);
/* Fills the answer's end, frees what begin made. */
NODISCARD enum status transfer_end(struct transfer *t, CURLcode rc, struct err *e);
void client_once(void); /* libcurl's own beginning, once a process */
/* Before libcurl reads: asks the kernel when the bytes that wait were received, so that a time does
 * not depend on when this thread is woken. */
void transfer_look(struct transfer *t);

#endif
