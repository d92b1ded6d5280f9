/* SPDX-License-Identifier: MIT
 * manual.c — what is written from the tables of commands and options to be read elsewhere:
 * docs/cli.md, the man page, the completion of words in a shell. */
#include <ctype.h>
#include <string.h>

#include "app/app_int.h"
#include "bench/compare/compare.h"
#include "text/utf8.h"

/* "KVASIR_API_KEY"; "" for an option of the command line only. */
static void environment_of(const struct option_row *row, char *text, size_t size)
{
    text[0] = '\0';
    if (row->key)
        snprintf(text, size, "KVASIR_%s", row->key);
    for (char *p = text; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

/* ---- docs/cli.md ---- */
static void markdown_row(FILE *out, const struct option_row *row)
{
    char left[160], doc[400], environment[64];
    help_spelling(row, left, sizeof left);
    help_notes(row, doc, sizeof doc);
    environment_of(row, environment, sizeof environment);
    fprintf(out, "| `%s` | %s%s%s | %s |\n", left, environment[0] ? "`" : "", environment,
            environment[0] ? "`" : "", doc);
}

void help_markdown(FILE *out)
{
    fputs("# The command line\n\n"
          "Written by `kvasir help --markdown`; a test compares. An option is read from the "
          "command line, else\n"
          "from the environment, else from the file of `--config` (lines of `key = value`, the key "
          "being the\n"
          "environment's name in lower case with dashes and without `KVASIR_`).\n\n"
          "Exit codes: 0 done; 1 failed, with the reason on stderr in one line; 2 wrong usage.\n",
          out);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &commands[i];
        fprintf(out, "\n## kvasir %s\n\n%s.\n\n```\nkvasir %s [options]%s%s\n\n%s```\n",
                command->name, command->summary, command->name, command->arguments[0] ? " " : "",
                command->arguments, command->about);
        bool has_options = false;
        for (int k = 0; k < OPTION_COUNT; k++) {
            if (!config_uses(command, (enum option_id)k))
                continue;
            if (!has_options)
                fputs("\n| option | environment | what |\n|---|---|---|\n", out);
            has_options = true;
            markdown_row(out, &option_rows[k]);
        }
        if (command->run_words) {
            fputc('\n', out);
            compare_help_markdown(out);
        }
    }
}

/* ---- the man page: man-pages(7), groff_man(7) ---- */
/* roff's input is Latin-1.  Returns the bytes of the character. */
static size_t roff_character(FILE *out, const char *text, size_t len)
{
    uint32_t c;
    const size_t n = utf8_decode(text, len, &c);
    fprintf(out, "\\[u%04X]", c);
    return n;
}

/* Text for roff: a backslash, and a point or quote at the start of a line, mean something there;
 * a plain dash would become a hyphen that nobody can copy. */
static void roff(FILE *out, const char *text, size_t len)
{
    bool is_start = true;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (is_start && (c == '.' || c == '\''))
            fputs("\\&", out);
        if (c == '\\')
            fputs("\\e", out);
        else if (c == '-')
            fputs("\\-", out);
        else if (c & 0x80)
            i += roff_character(out, text + i, len - i) - 1;
        else
            fputc(c, out);
        is_start = c == '\n';
    }
}

static void roff_text(FILE *out, const char *text)
{
    roff(out, text, strlen(text));
}

/* Paragraphs are filled, indented lines (examples) stay as they are. */
static void roff_about(FILE *out, const char *about)
{
    bool is_example = false;
    while (*about) {
        const size_t len = strcspn(about, "\n");
        const bool is_indented = about[0] == ' ';
        if (is_indented != is_example)
            fputs(is_indented ? ".PP\n.EX\n" : ".EE\n", out);
        is_example = is_indented;
        if (len == 0) {
            fputs(is_example ? "\n" : ".PP\n", out);
        } else {
            roff(out, about, len);
            fputc('\n', out);
        }
        about += len + (about[len] == '\n');
    }
    if (is_example)
        fputs(".EE\n", out);
}

static void roff_option(FILE *out, const struct option_row *row)
{
    char left[160], doc[400], environment[64];
    help_spelling(row, left, sizeof left);
    help_notes(row, doc, sizeof doc);
    environment_of(row, environment, sizeof environment);
    fputs(".TP\n.B ", out);
    roff_text(out, left);
    fputc('\n', out);
    roff_text(out, doc);
    if (environment[0])
        fprintf(out, "; %s", environment);
    fputc('\n', out);
}

static void roff_command(FILE *out, const struct command *command)
{
    fprintf(out, ".SH \"KVASIR ");
    for (const char *p = command->name; *p; p++)
        fputc(toupper((unsigned char)*p), out);
    fputs("\"\n", out);
    roff_text(out, command->summary);
    fprintf(out, ".\n.PP\n.B kvasir %s\n[options] ", command->name);
    roff_text(out, command->arguments);
    fputs("\n.PP\n", out);
    roff_about(out, command->about);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (config_uses(command, (enum option_id)i))
            roff_option(out, &option_rows[i]);
}

void help_man(FILE *out)
{
    fputs(".TH KVASIR 1 \"\" \"kvasir " KVASIR_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nkvasir \\- a local LLM server in which no prompt is computed twice\n"
          ".SH SYNOPSIS\n.B kvasir\n.I COMMAND\n[options]\n"
          ".SH DESCRIPTION\n"
          "The KV cache is a database on disk that outlives every process: a session goes on after "
          "a restart\nwithout its prompt being computed again.\n"
          ".PP\n"
          "An option is read from the command line, else from the environment, else from the file "
          "of\n.BR \\-\\-config .\n"
          ".SH EXIT STATUS\n"
          "0: done; 1: failed, the reason on stderr in one line; 2: wrong usage.\n",
          out);
    for (int i = 0; i < COMMAND_COUNT; i++)
        roff_command(out, &commands[i]);
    fputs(".SH FILES\n.TP\n.I $XDG_DATA_HOME/kvasir\nthe store: prompts' KV, sessions\n"
          ".TP\n.I $XDG_CACHE_HOME/kvasir\nfetched models, repacked weights\n"
          ".TP\n.I $XDG_CONFIG_HOME/kvasir/config\noptions, lines of \"key = value\"\n",
          out);
}

/* ---- bash ---- */
/* The commands' second words, or those that stand alone. */
static void bash_words(FILE *out, const char *group)
{
    char last[32] = "";
    const size_t n = strlen(group);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const char *name = commands[i].name;
        if (n && (strncmp(name, group, n) != 0 || name[n] != ' '))
            continue;
        const char *word = n ? name + n + 1 : name;
        const int len = (int)strcspn(word, " ");
        if (strlen(last) == (size_t)len && strncmp(last, word, (size_t)len) == 0)
            continue; /* the group's name was said with its first command */
        snprintf(last, sizeof last, "%.*s", len, word);
        fprintf(out, "%s ", last);
    }
}

static void bash_options(FILE *out, const struct command *command)
{
    fprintf(out, "    \"%s\") words=\"--help", command->name);
    for (int i = 0; i < OPTION_COUNT; i++)
        if (config_uses(command, (enum option_id)i))
            fprintf(out, " %s", option_rows[i].names);
    fputs("\" ;;\n", out);
}

/* "-np|--parallel": a case pattern of the spellings. */
static void bash_pattern(FILE *out, const struct option_row *row)
{
    fputs("    ", out);
    for (const char *p = row->names; *p; p++)
        fputc(*p == ' ' ? '|' : *p, out);
}

void help_bash(FILE *out)
{
    fputs("# Completion of kvasir's words in bash, and in zsh after \"autoload bashcompinit; "
          "bashcompinit\".\n"
          "# Written by kvasir help --bash.  Use: source <(kvasir help --bash)\n"
          "_kvasir() {\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local command=${COMP_WORDS[1]} words=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          out);
    bash_words(out, "");
    fputs("help --help --version\" -- \"$current\"))\n        return\n    fi\n"
          "    if [ \"$command\" = store ] || [ \"$command\" = eval ]; then\n"
          "        if [ \"$COMP_CWORD\" = 2 ]; then\n"
          "            [ \"$command\" = store ] && words=\"",
          out);
    bash_words(out, "store");
    fputs("\" || words=\"", out);
    bash_words(out, "eval");
    fputs("\"\n            COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
          "            return\n        fi\n"
          "        command=\"$command ${COMP_WORDS[2]}\"\n    fi\n"
          "    case $previous in\n",
          out);
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->kind == KIND_FLAG)
            continue;
        bash_pattern(out, row);
        if (row->choices)
            fprintf(out, ") COMPREPLY=($(compgen -W \"%s\" -- \"$current\")); return ;;\n",
                    row->choices);
        else
            fputs(") COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n", out);
    }
    fputs("    esac\n    case $command in\n", out);
    for (int i = 0; i < COMMAND_COUNT; i++)
        bash_options(out, &commands[i]);
    fputs("    esac\n"
          "    if [[ $current == -* ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
          "    else\n"
          "        COMPREPLY=($(compgen -f -- \"$current\"))\n"
          "    fi\n"
          "}\n"
          "complete -o filenames -F _kvasir kvasir\n",
          out);
}
