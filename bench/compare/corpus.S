/* SPDX-License-Identifier: MIT
 * corpus.S — the paragraphs that prompts are made of (bench/data/corpus.txt), inside the program.
 * They are this project's own: its documentation and its model's handbook as they once were. */
    .section .rodata.bench_corpus, "a", %progbits
    .global bench_corpus_begin
    .global bench_corpus_end
    .hidden bench_corpus_begin
    .hidden bench_corpus_end
    .type bench_corpus_begin, %object
bench_corpus_begin:
    .incbin BENCH_CORPUS
bench_corpus_end:
    .size bench_corpus_begin, bench_corpus_end - bench_corpus_begin
    .byte 0
    .section .note.GNU-stack, "", %progbits
