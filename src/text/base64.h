/* SPDX-License-Identifier: MIT
 * base64.h — bytes as text, RFC 4648 §4, with padding. */
#ifndef KVASIR_TEXT_BASE64_H
#define KVASIR_TEXT_BASE64_H

#include "base/buf.h"

void base64_write(struct buf *out, const void *bytes, size_t n);

#endif
