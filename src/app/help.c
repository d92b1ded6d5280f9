/* SPDX-License-Identifier: MIT
 * help.c — help that teaches, written from the tables of commands and options. */
#include <ctype.h>
#include <string.h>

#include "api/api.h"
#include "app/app_int.h"
#include "bench/compare/compare.h"

#define DOC_COLUMN 32
#define LINE_WIDTH 100

void help_spelling(const struct option_row *row, char *text, size_t size)
{
    size_t n = 0;
    for (const char *p = row->names; *p && n + 3 < size; p++) {
        if (*p == ' ')
            text[n++] = ',';
        text[n++] = *p;
    }
    text[n] = '\0';
    if (row->value)
        snprintf(text + n, size - n, " %s", row->value);
}

void help_notes(const struct option_row *row, char *text, size_t size)
{
    int n = snprintf(text, size, "%s", row->doc);
    if (row->kind == KIND_CHOICE)
        n += snprintf(text + n, size - (size_t)n, "; one of: %s", row->choices);
    if (row->initial && strcmp(row->initial, "0") != 0)
        snprintf(text + n, size - (size_t)n, " [%s]", row->initial);
}

static void wrapped(FILE *out, const char *text, size_t column)
{
    size_t at = column;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at > column && at + 1 + word > LINE_WIDTH) {
            fprintf(out, "\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, word, out);
        at += word;
        text += word + (text[word] == ' ');
    }
    fputc('\n', out);
}

static void option_help(FILE *out, const struct option_row *row)
{
    char left[160], doc[400];
    help_spelling(row, left, sizeof left);
    help_notes(row, doc, sizeof doc);
    int n = fprintf(out, "  %s", left);
    if (n + 2 > DOC_COLUMN) {
        fputc('\n', out);
        n = 0;
    }
    fprintf(out, "%*s", DOC_COLUMN - n, "");
    wrapped(out, doc, DOC_COLUMN);
}

void help_command(FILE *out, const struct command *command)
{
    if (command->run_words) {
        compare_help(out);
        return;
    }
    fprintf(out, "kvasir %s: %s\n\nusage: kvasir %s [options]%s%s\n\n%s\n", command->name,
            command->summary, command->name, command->arguments[0] ? " " : "", command->arguments,
            command->about);
    bool has_options = false;
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (!config_uses(command, (enum option_id)i))
            continue;
        fputs(has_options ? ""
                          : "options (of two the last holds; also in the environment as "
                            "KVASIR_NAME, and in the file of --config):\n",
              out);
        has_options = true;
        option_help(out, &option_rows[i]);
    }
}

static bool is_of_group(const struct command *command, const char *group)
{
    size_t n = strlen(group);
    return strncmp(command->name, group, n) == 0 && command->name[n] == ' ';
}

void help_group(FILE *out, const char *group)
{
    fprintf(out, "usage: kvasir %s COMMAND [options]\n\n", group);
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (is_of_group(&commands[i], group))
            fprintf(out, "  kvasir %-18s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\nkvasir %s COMMAND --help says more, with examples.\n", group);
}

void help_overview(FILE *out)
{
    fputs("kvasir " KVASIR_VERSION ": a local LLM server in which no prompt is computed twice\n\n"
          "usage: kvasir COMMAND [options]\n\n",
          out);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-18s %s\n", commands[i].name, commands[i].summary);
    fputs("\nexamples:\n"
          "  kvasir serve -m model.gguf           an OpenAI-compatible server on 127.0.0.1:8080\n"
          "  kvasir run \"who are you?\"            one answer of the embedded model\n"
          "  kvasir chat -m model.gguf            a conversation in the terminal\n"
          "\nkvasir COMMAND --help says more, with examples.\n",
          out);
}

void help_api(FILE *out)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    api_conformance_write(&b);
    fwrite(b.ptr, 1, b.len, out);
    buf_release(&b);
}
