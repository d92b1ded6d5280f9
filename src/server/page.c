/* SPDX-License-Identifier: MIT
 * page.c — web/index.html inside the program (gcc 12 has no #embed; the build gives the path). */
#include "server/server_int.h"

__asm__(".section .rodata.kvasir_page, \"a\", %progbits\n"
        ".global kvasir_page_begin\n"
        ".hidden kvasir_page_begin\n"
        ".global kvasir_page_end\n"
        ".hidden kvasir_page_end\n"
        "kvasir_page_begin:\n"
        ".incbin \"" KVASIR_PAGE "\"\n"
        "kvasir_page_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char kvasir_page_begin[] __attribute__((visibility("hidden")));
extern const char kvasir_page_end[] __attribute__((visibility("hidden")));

struct slice page_html(void)
{
    return (struct slice){kvasir_page_begin, (size_t)(kvasir_page_end - kvasir_page_begin)};
}
