/* SPDX-License-Identifier: MIT
 * unicode.c — character classes and case. */
#include "template/unicode.h"

#include <utf8proc.h>

#include "template/unicode_int.h"

struct span {
    uint32_t first, last;
};

static bool in_spans(const struct span *s, size_t n, uint32_t cp)
{
    for (size_t i = 0; i < n; i++)
        if (cp >= s[i].first && cp <= s[i].last)
            return true;
    return false;
}
#define IN_SPANS(s, cp) in_spans(s, sizeof(s) / sizeof *(s), cp)

/* str.isspace(): bidirectional class WS, B or S, or category Zs. */
bool unicode_is_space(uint32_t cp)
{
    static const struct span spaces[] = {
        {9, 13},          {28, 32},         {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
        {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
    return IN_SPANS(spaces, cp);
}

/* Numeric_Type=Digit outside of Nd (UnicodeData.txt, field 7 without field 6). */
static bool is_other_digit(uint32_t cp)
{
    static const struct span digits[] = {
        {0xB2, 0xB3},       {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},
        {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
        {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
        {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
        {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};
    return IN_SPANS(digits, cp);
}

/* Other_Lowercase and Other_Uppercase of PropList.txt: no letters by category, yet cased. */
static uint32_t other_case(uint32_t cp)
{
    static const struct span lower[] = {
        {0xAA, 0xAA},     {0xBA, 0xBA},     {0x2B0, 0x2B8},   {0x2C0, 0x2C1},   {0x2E0, 0x2E4},
        {0x345, 0x345},   {0x37A, 0x37A},   {0x1D2C, 0x1D6A}, {0x1D78, 0x1D78}, {0x1D9B, 0x1DBF},
        {0x2071, 0x2071}, {0x207F, 0x207F}, {0x2090, 0x209C}, {0x2170, 0x217F}, {0x24D0, 0x24E9},
        {0x2C7C, 0x2C7D}, {0xA69C, 0xA69D}, {0xA770, 0xA770}, {0xA7F8, 0xA7F9}, {0xAB5C, 0xAB5F}};
    static const struct span upper[] = {{0x2160, 0x216F},
                                        {0x24B6, 0x24CF},
                                        {0x1F130, 0x1F149},
                                        {0x1F150, 0x1F169},
                                        {0x1F170, 0x1F189}};
    if (IN_SPANS(lower, cp))
        return UNI_LOWER;
    return IN_SPANS(upper, cp) ? UNI_UPPER : 0;
}

static uint32_t class_of_category(utf8proc_category_t category)
{
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
        return UNI_ALPHA | UNI_UPPER | UNI_PRINTABLE;
    case UTF8PROC_CATEGORY_LL:
        return UNI_ALPHA | UNI_LOWER | UNI_PRINTABLE;
    case UTF8PROC_CATEGORY_LT:
        return UNI_ALPHA | UNI_TITLE | UNI_PRINTABLE;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return UNI_ALPHA | UNI_PRINTABLE;
    case UTF8PROC_CATEGORY_ND:
        return UNI_DECIMAL | UNI_DIGIT | UNI_NUMERIC | UNI_PRINTABLE;
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return UNI_NUMERIC | UNI_PRINTABLE;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return 0;
    default:
        return UNI_PRINTABLE;
    }
}

uint32_t unicode_class(uint32_t cp)
{
    uint32_t class = class_of_category(utf8proc_category((utf8proc_int32_t)cp));
    if (unicode_is_space(cp))
        class |= UNI_SPACE;
    if (cp == ' ')
        class |= UNI_PRINTABLE;
    if (is_other_digit(cp))
        class |= UNI_DIGIT | UNI_NUMERIC;
    return class | other_case(cp);
}

/* ---- walking ---- */

uint32_t unicode_next(struct slice s, size_t *at, bool *bad)
{
    uint32_t cp;
    size_t n = utf8_decode(s.ptr + *at, s.len - *at, &cp);
    bool is_bad = cp == 0xFFFD && !(n == 3 && memcmp(s.ptr + *at, "\xEF\xBF\xBD", 3) == 0);
    if (is_bad)
        n = 1; /* each malformed byte is a character of its own */
    *at += n;
    if (bad)
        *bad = is_bad;
    return cp;
}

size_t unicode_count(struct slice s)
{
    size_t n = 0;
    for (size_t at = 0; at < s.len; n++)
        (void)unicode_next(s, &at, NULL);
    return n;
}

size_t unicode_offset(struct slice s, size_t index)
{
    size_t at = 0;
    while (index > 0 && at < s.len) {
        (void)unicode_next(s, &at, NULL);
        index--;
    }
    return at;
}

/* ---- case ---- */

static const struct unicode_special *find_special(uint32_t cp)
{
    size_t low = 0, high = UNICODE_SPECIALS;
    if (cp < unicode_specials[0].cp)
        return NULL;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unicode_specials[middle].cp == cp)
            return &unicode_specials[middle];
        if (unicode_specials[middle].cp < cp)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void add_cp(struct buf *out, uint32_t cp)
{
    char text[4];
    buf_add(out, text, utf8_encode(cp, text));
}

static void add_folded(struct buf *out, uint32_t cp)
{
    utf8proc_int32_t folded[8];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, folded, 8, UTF8PROC_CASEFOLD, &boundary);
    if (n < 1 || n > 8) {
        add_cp(out, cp);
        return;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++)
        add_cp(out, (uint32_t)folded[i]);
}

static void add_mapped(struct buf *out, uint32_t cp, enum unicode_case to)
{
    const struct unicode_special *special = to == CASE_FOLD ? NULL : find_special(cp);
    if (special) {
        buf_add_text(out, to == CASE_UPPER   ? special->upper
                          : to == CASE_LOWER ? special->lower
                                             : special->title);
        return;
    }
    switch (to) {
    case CASE_LOWER:
        add_cp(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
        break;
    case CASE_UPPER:
        add_cp(out, (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp));
        break;
    case CASE_TITLE:
        add_cp(out, (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp));
        break;
    case CASE_FOLD:
        add_folded(out, cp);
        break;
    }
}

static bool is_case_ignorable(uint32_t cp)
{
    static const struct span word_middle[] = {
        {0x27, 0x27},   {0x2E, 0x2E},     {0x3A, 0x3A},     {0x5E, 0x5E},     {0x60, 0x60},
        {0xA8, 0xA8},   {0xAD, 0xAD},     {0xAF, 0xAF},     {0xB4, 0xB4},     {0xB7, 0xB8},
        {0x387, 0x387}, {0x2018, 0x2019}, {0x2024, 0x2024}, {0x2027, 0x2027}, {0xFE13, 0xFE13}};
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return IN_SPANS(word_middle, cp);
    }
}

/* Σ is ς at the end of a word (SpecialCasing.txt, Final_Sigma): a cased letter before it, none
 * behind it, ignorable characters left out of account.  has_cased_before is kept by the caller. */
static bool is_final_sigma(struct slice s, size_t after, bool has_cased_before)
{
    if (!has_cased_before)
        return false;
    while (after < s.len) {
        uint32_t cp = unicode_next(s, &after, NULL);
        if (!is_case_ignorable(cp))
            return !(unicode_class(cp) & UNI_CASED);
    }
    return true;
}

/* Lower case of the character that ends at `after`. */
static void add_lower(struct buf *out, struct slice s, size_t after, uint32_t cp, bool cased_before)
{
    if (cp == 0x3A3)
        add_cp(out, is_final_sigma(s, after, cased_before) ? 0x3C2 : 0x3C3);
    else
        add_mapped(out, cp, CASE_LOWER);
}

enum mapping { MAP_PLAIN, MAP_CAPITALIZE, MAP_TITLE, MAP_SWAP };

static void map_text(struct buf *out, struct slice s, enum mapping mode, enum unicode_case to)
{
    bool cased_before = false; /* not counting ignorable characters: for the sigma */
    bool previous_cased = false;
    for (size_t at = 0; at < s.len;) {
        size_t start = at;
        bool bad;
        uint32_t cp = unicode_next(s, &at, &bad);
        if (bad) {
            buf_add_char(out, s.ptr[start]);
            cased_before = previous_cased = false;
            continue;
        }
        uint32_t class = unicode_class(cp);
        enum unicode_case how = to;
        if (mode == MAP_CAPITALIZE)
            how = start == 0 ? CASE_TITLE : CASE_LOWER;
        else if (mode == MAP_TITLE)
            how = previous_cased ? CASE_LOWER : CASE_TITLE;
        else if (mode == MAP_SWAP)
            how = class & UNI_UPPER ? CASE_LOWER : class & UNI_LOWER ? CASE_UPPER : CASE_FOLD;
        if (how == CASE_LOWER)
            add_lower(out, s, at, cp, cased_before);
        else if (mode == MAP_SWAP && how == CASE_FOLD)
            add_cp(out, cp);
        else
            add_mapped(out, cp, how);
        previous_cased = class & UNI_CASED;
        if (!is_case_ignorable(cp))
            cased_before = previous_cased;
    }
}

void unicode_map(struct buf *out, struct slice s, enum unicode_case to)
{
    map_text(out, s, MAP_PLAIN, to);
}

void unicode_capitalize(struct buf *out, struct slice s)
{
    map_text(out, s, MAP_CAPITALIZE, CASE_LOWER);
}

void unicode_title(struct buf *out, struct slice s)
{
    map_text(out, s, MAP_TITLE, CASE_LOWER);
}

void unicode_swapcase(struct buf *out, struct slice s)
{
    map_text(out, s, MAP_SWAP, CASE_LOWER);
}

/* ---- strip ---- */

/* Start of the character that ends at `end`. */
static size_t previous_start(struct slice s, size_t end)
{
    size_t least = end > 4 ? end - 4 : 0;
    for (size_t start = end - 1;; start--) {
        size_t at = start;
        bool bad;
        if (((unsigned char)s.ptr[start] & 0xC0) != 0x80) {
            (void)unicode_next((struct slice){s.ptr, end}, &at, &bad);
            return at == end && !bad ? start : end - 1;
        }
        if (start == least)
            return end - 1;
    }
}

static bool is_in_set(struct slice set, const char *p, size_t len)
{
    for (size_t at = 0; at < set.len;) {
        size_t start = at;
        (void)unicode_next(set, &at, NULL);
        if (at - start == len && memcmp(set.ptr + start, p, len) == 0)
            return true;
    }
    return false;
}

static bool is_stripped(struct slice s, size_t start, size_t end, const struct slice *set)
{
    size_t at = start;
    bool bad;
    if (set)
        return is_in_set(*set, s.ptr + start, end - start);
    uint32_t cp = unicode_next(s, &at, &bad);
    return !bad && unicode_is_space(cp);
}

static struct slice strip(struct slice s, const struct slice *set, bool left, bool right)
{
    size_t start = 0, end = s.len;
    while (left && start < end) {
        size_t next = start;
        (void)unicode_next(s, &next, NULL);
        if (!is_stripped(s, start, next, set))
            break;
        start = next;
    }
    while (right && end > start) {
        size_t previous = previous_start(s, end);
        if (!is_stripped(s, previous, end, set))
            break;
        end = previous;
    }
    return (struct slice){s.ptr + start, end - start};
}

struct slice unicode_strip(struct slice s, bool left, bool right)
{
    return strip(s, NULL, left, right);
}

struct slice unicode_strip_set(struct slice s, struct slice set, bool left, bool right)
{
    return strip(s, &set, left, right);
}
