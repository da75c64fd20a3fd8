/* SPDX-License-Identifier: MIT
 * Rows of x as blocks of words (pack.h), from a tier's three functions over n values, a multiple of
 * 16: largest_of, which is tvlm_largest, norm_of and codes_of. Include it once, behind them. */

static float quantize(int16_t *q, const float *v, size_t n)
{
    float most = largest_of(v, n);
    if (!(most >= TVLM_WORDS_LEAST && most < INFINITY)) {
        memset(q, 0, n * sizeof *q);
        return most < INFINITY ? 0.0f : NAN;
    }
    float inverse = 1.0f / most, scale = TVLM_WORDS_NORM / norm_of(v, n, inverse);
    scale = scale < TVLM_WORDS_MOST ? scale : TVLM_WORDS_MOST;
    codes_of(q, v, n, inverse * scale);
    return most / scale;
}

/* A block whose last values do not fill a register. */
static float quantize_some(int16_t *q, const float *v, size_t n)
{
    float values[TVLM_WORDS] = {0};
    int16_t codes[TVLM_WORDS];
    memcpy(values, v, n * sizeof *v);
    float d = quantize(codes, values, (n + 15) / 16 * 16);
    memcpy(q, codes, (n + 1) / 2 * 4);
    return d;
}

static void pack_input(void *packed, const float *x, size_t k)
{
    unsigned char *block = packed;
    for (size_t k0 = 0; k0 < k; k0 += TVLM_WORDS) {
        size_t n = tvlm_words_at(k, k0);
        int16_t *q = (int16_t *)(void *)(block + sizeof(float));
        *(float *)(void *)block = (n % 16 ? quantize_some : quantize)(q, x + k0, n);
        block += tvlm_words_bytes(n);
    }
}
