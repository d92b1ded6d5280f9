/* SPDX-License-Identifier: MIT
 * exp.h — ref_exp in LANES lanes. */

/* Of x up to EXP_MAX or NaN. */
INLINE vf vf_exp_below(vf x)
{
    const vf round = vf_set1(EXP_ROUND);
    const vf n = vf_sub(vf_fma(x, vf_set1(EXP_LOG2E), round), round);
    vf r = vf_fnma(n, vf_set1(EXP_LN2_HIGH), x);
    r = vf_fnma(n, vf_set1(EXP_LN2_LOW), r);
    vf p = vf_set1(EXP_C6);
    p = vf_fma(p, r, vf_set1(EXP_C5));
    p = vf_fma(p, r, vf_set1(EXP_C4));
    p = vf_fma(p, r, vf_set1(EXP_C3));
    p = vf_fma(p, r, vf_set1(EXP_C2));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = (vf)vi_add32((vi)p, vi_slli32(vi_of_floats(n), 23));
    /* Out of range the lanes above hold rubbish; NaN stays one. */
    p = vf_blend(p, x, vf_is_nan(x));
    return vf_zero_where(vf_less(x, vf_set1(EXP_MIN)), p);
}

INLINE vf vf_exp(vf x)
{
    return vf_blend(vf_exp_below(x), vf_set1(__builtin_inff()), vf_less(vf_set1(EXP_MAX), x));
}
