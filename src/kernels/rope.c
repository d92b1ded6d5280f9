/* SPDX-License-Identifier: MIT
 * rope.c — angles of rotary embeddings: own sine, cosine, logarithm and exponential in double with
 * fma, the same bits on every machine (libm's are not).
 * Error: sin, cos below 1e-15 + 2^-53 × angle; frequencies below 4e-15 relative
 * (tests/unit/kernels/math_test.c compares with long double libm). */
#include "kernels/kernels_int.h"

#include <math.h>

/* π/2 in three parts; the products n × part are exact enough for n < 2^30 by fma. */
#define PI_2_A      0x1.921fb54442d18p+0
#define PI_2_B      0x1.1a62633145c07p-54
#define PI_2_C      (-0x1.f1976b7ed8fbcp-110)
#define TWO_OVER_PI 0x1.45f306dc9c883p-1

/* Taylor series on |r| ≤ π/4; the first term left out is below 1e-19. */
static double sine_near_zero(double r)
{
    static const double c[] = {
        1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0,
        1.0 / 362880.0,          -1.0 / 5040.0,          1.0 / 120.0,        -1.0 / 6.0};
    const double z = r * r;
    double p = c[0];
    for (size_t i = 1; i < ARRAY_COUNT(c); i++)
        p = fma(p, z, c[i]);
    return fma(p * z, r, r);
}

static double cosine_near_zero(double r)
{
    static const double c[] = {
        -1.0 / 6402373705728000.0, 1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0,
        -1.0 / 3628800.0,          1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0};
    const double z = r * r;
    double p = c[0];
    for (size_t i = 1; i < ARRAY_COUNT(c); i++)
        p = fma(p, z, c[i]);
    return fma(p * z, z, fma(z, -0.5, 1.0));
}

static void sine_cosine(double angle, double *sine, double *cosine)
{
    const double n = rint(angle * TWO_OVER_PI);
    double r = fma(-n, PI_2_A, angle);
    r = fma(-n, PI_2_B, r);
    r = fma(-n, PI_2_C, r);
    const double s = sine_near_zero(r), c = cosine_near_zero(r);
    switch ((int64_t)n & 3) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
    }
}

/* ln 2 in two parts: n × the first is exact for |n| < 2^11. */
#define LN2_HIGH 0x1.62e42fefa38p-1
#define LN2_LOW  0x1.ef35793c7673p-45

/* ln x = e ln 2 + 2 atanh((m − 1) / (m + 1)), m in [√½, √2); x positive and normal. */
static double natural_log(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        e--;
    }
    const double s = (m - 1) / (m + 1), z = s * s;
    double p = 1.0 / 25;
    for (int i = 23; i >= 3; i -= 2)
        p = fma(p, z, 1.0 / i);
    const double tail = 2 * s * z * p;
    return fma((double)e, LN2_HIGH, 2 * s + fma((double)e, LN2_LOW, tail));
}

static double exponential(double x)
{
    const double n = rint(x * 0x1.71547652b82fep+0);
    double r = fma(-n, LN2_HIGH, x);
    r = fma(-n, LN2_LOW, r);
    double p = 1.0 / 6227020800.0;
    double factorial = 6227020800.0;
    for (int i = 12; i >= 0; i--) {
        factorial /= i + 1;
        p = fma(p, r, 1.0 / factorial);
    }
    return ldexp(p, (int)n);
}

void kernels_rope_freqs(double *freqs, uint32_t n_rot, double base, const float *factors,
                        double scale)
{
    CHECK(base > 0);
    const double log_base = natural_log(base);
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        const double power = exponential(log_base * (-2.0 * i / n_rot));
        freqs[i] = power / (factors != NULL ? (double)factors[i] : 1.0) * scale;
    }
}

void kernels_rope_angles(float *cos_sin, const double *freqs, uint32_t n_rot, uint32_t position)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double s, c;
        sine_cosine((double)position * freqs[i], &s, &c);
        cos_sin[2 * i] = (float)c;
        cos_sin[2 * i + 1] = (float)s;
    }
}
