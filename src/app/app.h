/* SPDX-License-Identifier: MIT
 * app.h — the kvasir program: one table of options, one of commands, and what each command does.
 * For:     main().   May use: every room.   Nobody includes it but app and main.
 * Exit:    0 done; 1 failed, the reason on stderr in one line that says what to do; 2 wrong usage.
 */
#ifndef KVASIR_APP_APP_H
#define KVASIR_APP_APP_H

/* Runs the command that argv names; returns the exit code of the process. */
int app_main(int argc, char **argv);

#endif
