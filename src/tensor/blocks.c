/* SPDX-License-Identifier: MIT
 * blocks.c — the parts of blocks that take more than a shift to read. */
#include "tensor/blocks.h"

#include <string.h>

const int8_t block_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

const int8_t block_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float block_mxfp4_scale(uint8_t e)
{
    uint32_t bits = e < 2 ? UINT32_C(0x00200000) << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Bytes 0–3 hold scales 0–3 in their low six bits, bytes 4–7 the minima 0–3; the spare two bits of
 * each are the top of the same quantity of group j + 4, whose low nibbles lie in bytes 8–11. */
void block_k_scale_min(const uint8_t scales[12], uint32_t j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = scales[j] & 63;
        *min = scales[j + 4] & 63;
    } else {
        *scale = (uint8_t)((scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4);
        *min = (uint8_t)((scales[j + 4] >> 4) | (scales[j] >> 6) << 4);
    }
}

/* Scale i: four low bits in byte i % 8 (upper nibble from i = 8 on), two high bits in byte 8 + i %
 * 4 at bit 2 × (i / 4). */
void block_q3_k_scales(const uint8_t packed[12], int8_t out[16])
{
    for (uint32_t i = 0; i < 16; i++) {
        int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
        int high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        out[i] = (int8_t)((low | high << 4) - 32);
    }
}

int block_iq4_xs_scale(const struct block_iq4_xs *b, uint32_t j)
{
    int low = b->scales_l[j / 2] >> (4 * (j % 2)) & 15;
    int high = b->scales_h >> (2 * j) & 3;
    return (low | high << 4) - 32;
}
