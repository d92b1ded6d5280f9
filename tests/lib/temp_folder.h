/* SPDX-License-Identifier: MIT
 * temp_folder.h — one fresh folder under TMPDIR for the running test, as cmocka's set-up and
 * tear-down functions. */
#ifndef KVASIR_TESTS_TEMP_FOLDER_H
#define KVASIR_TESTS_TEMP_FOLDER_H

extern char temp_folder[256]; /* its path */

int temp_folder_make(void **state);
int temp_folder_remove(void **state); /* with all that is in it */
/* Path of NAME in the folder; from a ring of four. */
const char *temp_path(const char *name);
/* A file of this text, in place of what was there. */
void temp_put(const char *name, const char *text);

#endif
