/* SPDX-License-Identifier: MIT
 * nfc.h — Unicode normalization form C of text that need not be well-formed.
 * Linear but for sorting marks (n log n): utf8proc's own decomposition sorts marks by exchange, and
 * 1 MB of them would take hours.  Malformed bytes stay as they are. */
#ifndef KVASIR_TOKENIZER_NFC_H
#define KVASIR_TOKENIZER_NFC_H

#include "base/buf.h"

/* Position of the first character that NFC may change, or text.len: then text is in NFC. */
size_t nfc_first_change(const uint8_t *classes, struct slice text);
/* Appends NFC of text to out (sticky failure there).  E_NOMEM. */
NODISCARD enum status nfc_append(const uint8_t *classes, struct slice text, struct buf *out,
                                 struct err *e);

#endif
