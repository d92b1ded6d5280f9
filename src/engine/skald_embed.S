/* SPDX-License-Identifier: MIT
 * skald_embed.S — the model that kvasir runs when none is named, inside the program.
 * Page-aligned, so that the engine may give pages back after repacking as it does with a mapped
 * file.  KVASIR_SKALD_GGUF: the file, set by src/CMakeLists.txt. */
    .section .rodata.kvasir_skald, "a", %progbits
    .global kvasir_skald_begin
    .global kvasir_skald_end
    .hidden kvasir_skald_begin
    .hidden kvasir_skald_end
    .type kvasir_skald_begin, %object
    .balign 4096
kvasir_skald_begin:
    .incbin KVASIR_SKALD_GGUF
kvasir_skald_end:
    .size kvasir_skald_begin, kvasir_skald_end - kvasir_skald_begin
    .byte 0
    .section .note.GNU-stack, "", %progbits
