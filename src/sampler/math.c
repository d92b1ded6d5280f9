/* SPDX-License-Identifier: MIT
 * math.c — exp and log that give the same bits on every machine; libm's differ between versions. */
#include <string.h>

#include "sampler/sampler_int.h"

/* ln 2 in two parts: the last 21 bits of the first are zero, so that n × LN2_HIGH is exact here
 * (Cody and Waite, "Software manual for the elementary functions", 1980). */
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW  0x1.a39ef35793c76p-33
#define LOG2_E   0x1.71547652b82fep+0

double sampler_exp(double x)
{
    if (!(x > -700.0))
        return 0.0;
    /* n = x / ln 2, rounded; truncation is towards zero and x ≤ 0 here. */
    int n = (int)(x * LOG2_E - 0.5);
    double r = x - n * LN2_HIGH - n * LN2_LOW;
    /* Taylor on |r| ≤ 0.35: the first term left out, r¹⁴/14!, is below 5e-18. */
    static const double inverse_factorial[] = {
        1.0 / 6227020800,
        1.0 / 479001600,
        1.0 / 39916800,
        1.0 / 3628800,
        1.0 / 362880,
        1.0 / 40320,
        1.0 / 5040,
        1.0 / 720,
        1.0 / 120,
        1.0 / 24,
        1.0 / 6,
        0.5,
        1.0,
        1.0,
    };
    double sum = 0;
    for (size_t i = 0; i < sizeof inverse_factorial / sizeof inverse_factorial[0]; i++)
        sum = sum * r + inverse_factorial[i];
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

double sampler_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int n = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        n++;
    }
    /* ln m = 2 artanh f = 2 (f + f³/3 + f⁵/5 …), |f| ≤ 0.1716: f²³/23 is below 2e-19. */
    double f = (m - 1) / (m + 1), f2 = f * f, sum = 0;
    for (int k = 21; k >= 1; k -= 2)
        sum = sum * f2 + 1.0 / k;
    return n * LN2_HIGH + (2 * f * sum + n * LN2_LOW);
}
