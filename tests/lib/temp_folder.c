/* SPDX-License-Identifier: MIT
 * temp_folder.c — a fresh folder for a test, and its removal. */
#include "temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "os/fs.h"

char temp_folder[256];

int temp_folder_make(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(temp_folder, sizeof temp_folder, "%s/kvasir-test.XXXXXX", base ? base : "/tmp");
    return mkdtemp(temp_folder) ? 0 : -1;
}

static enum status remove_entry(const char *name, void *arg)
{
    const struct os_fs *fs = os_fs_real();
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    if (unlink(path) == 0)
        return OK;
    fs->list(fs, path, remove_entry, path, NULL);
    return rmdir(path) == 0 ? OK : E_IO;
}

int temp_folder_remove(void **state)
{
    (void)state;
    const struct os_fs *fs = os_fs_real();
    fs->list(fs, temp_folder, remove_entry, temp_folder, NULL);
    return rmdir(temp_folder);
}

const char *temp_path(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", temp_folder, name);
    return path;
}

void temp_put(const char *name, const char *text)
{
    FILE *f = fopen(temp_path(name), "we");
    CHECK(f);
    CHECK(fputs(text, f) >= 0);
    CHECK(fclose(f) == 0);
}
