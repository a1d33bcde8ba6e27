/* The input pass of a quantized layer: factors, shift, Hadamard transform, scales, rounding, cast. It
 * reads its input once and writes its result once. Apart from the order of summation in the
 * transform, each operation is the one that PyTorch does, in the same order.
 */

#include "kernels.h"

enum { SCALE_FLOAT32, SCALE_UE5M3 }; /* storages of a scale that is chosen in the pass */

/* One half of a format (a format that is not dual has two equal halves). Its magnitudes are either
 * a minifloat's, whose step is the power of two below the value, kept within [lowest, highest],
 * times `fraction`, or a table: `thresholds[i]` is the least magnitude that rounds to `levels[i+1]`.
 */
typedef struct {
    float largest, lowest, highest, fraction;
    int32_t entries; /* of the table; 0 where the step is computed */
    float thresholds[127], levels[128];
} Half;

typedef struct {
    int64_t rows, channels, transform, group; /* `transform` is 1 where there is none */
    int32_t input_dtype, output_dtype, halves, scale_storage;
    float ratio;       /* of the amax that the largest level stands for */
    float normaliser;  /* of the transform */
    float quantum;       /* of which int8 results count the multiples */
    Half half[2];      /* negative, positive */
} Pass;

/* -- Rounding ------------------------------------------------------------------------------- */

INLINE float round_by_step(float x, float largest, float lowest, float highest, float fraction) {
    float t = x < -largest ? -largest : x > largest ? largest : x;
    float power = of_bits(bits_of(t) & EXPONENT);
    power = power < lowest ? lowest : power > highest ? highest : power;
    float step = power * fraction;
    float inverse = of_bits((254 << 23) - bits_of(step)); /* exact: a power of two */
    return rintf(t * inverse) * step;
}

static void round_steps(float *restrict x, int64_t n, const Half *half, const float *divisor) {
    const float largest0 = half[0].largest, lowest0 = half[0].lowest, highest0 = half[0].highest,
                fraction0 = half[0].fraction, divisor0 = divisor[0];
    const float largest1 = half[1].largest, lowest1 = half[1].lowest, highest1 = half[1].highest,
                fraction1 = half[1].fraction, divisor1 = divisor[1];
    for (int64_t i = 0; i < n; i++) {
        int below = bits_of(x[i]) < 0;
        float quotient = x[i] / (below ? divisor0 : divisor1);
        x[i] = round_by_step(quotient, below ? largest0 : largest1, below ? lowest0 : lowest1,
                             below ? highest0 : highest1, below ? fraction0 : fraction1);
    }
}

static void round_steps_alike(float *restrict x, int64_t n, const Half *half, float divisor) {
    const float largest = half->largest, lowest = half->lowest, highest = half->highest,
                fraction = half->fraction;
    for (int64_t i = 0; i < n; i++)
        x[i] = round_by_step(x[i] / divisor, largest, lowest, highest, fraction);
}

enum { BLOCK = 256 };

/* Magnitudes of at most BLOCK quotients, rounded. */
static void round_magnitudes(const float *restrict quotients, float *restrict out, int64_t n,
                             const Half *half) {
    if (!half->entries) {
        const float largest = half->largest, lowest = half->lowest, highest = half->highest,
                    fraction = half->fraction;
        for (int64_t i = 0; i < n; i++)
            out[i] = round_by_step(quotients[i], largest, lowest, highest, fraction);
        return;
    }
    const float first = half->levels[0];
    for (int64_t i = 0; i < n; i++) out[i] = first;
    for (int32_t k = 1; k < half->entries; k++) {
        const float threshold = half->thresholds[k - 1], level = half->levels[k];
        for (int64_t i = 0; i < n; i++) out[i] = quotients[i] >= threshold ? level : out[i];
    }
}

static void divide_magnitudes(const float *restrict x, float *restrict quotients, int64_t n,
                              float divisor) {
    for (int64_t i = 0; i < n; i++) quotients[i] = fabsf(x[i]) / divisor;
}

static void round_block(float *restrict x, int64_t n, const Pass *pass, const float *divisor) {
    float quotients[BLOCK], above[BLOCK], below[BLOCK];
    divide_magnitudes(x, quotients, n, divisor[1]);
    round_magnitudes(quotients, above, n, pass->half + 1);
    if (pass->halves == 1) {
        for (int64_t i = 0; i < n; i++) x[i] = bits_of(x[i]) < 0 ? -above[i] : above[i];
        return;
    }
    divide_magnitudes(x, quotients, n, divisor[0]);
    round_magnitudes(quotients, below, n, pass->half);
    for (int64_t i = 0; i < n; i++) x[i] = bits_of(x[i]) < 0 ? -below[i] : above[i];
}

/* The values of a group become levels, in place. */
static void round_group(float *x, int64_t n, const Pass *pass, const float *divisor) {
    int computed = !pass->half[0].entries && !pass->half[1].entries;
    if (computed && pass->halves == 1) {
        round_steps_alike(x, n, pass->half + 1, divisor[1]);
    } else if (computed) {
        round_steps(x, n, pass->half, divisor);
    } else {
        for (int64_t start = 0; start < n; start += BLOCK)
            round_block(x + start, n - start < BLOCK ? n - start : BLOCK, pass, divisor);
    }
}

/* -- Scales --------------------------------------------------------------------------------- */

/* The largest magnitudes below and above zero as bits; NaN and infinity show as at least
 * INFINITY_BITS. */
INLINE void group_amax(const float *x, int64_t n, int halves, int32_t *amax) {
    int32_t below = 0, above = 0;
    if (halves == 1) {
        for (int64_t i = 0; i < n; i++) {
            int32_t bits = bits_of(x[i]) & MAGNITUDE;
            above = bits > above ? bits : above;
        }
        below = above;
    } else {
        for (int64_t i = 0; i < n; i++) {
            int32_t bits = bits_of(x[i]), flipped = bits ^ INT32_MIN;
            above = bits > above ? bits : above;
            below = flipped > below ? flipped : below;
        }
    }
    amax[0] = below;
    amax[1] = above;
}

INLINE float choose_scale(float amax, const Half *half, const Pass *pass) {
    const float margin = 3.40282346638528859812e38f * (1 - 1.0f / 256); /* scales.LARGEST */
    float scale = amax * pass->ratio / half->largest;
    float limit = half->largest > 1 ? (float)((double)margin / half->largest) : margin;
    scale = scale > limit ? limit : scale;
    if (pass->scale_storage == SCALE_UE5M3)
        scale = round_by_step(scale, 114688.0f, 0x1p-14f, 0x1p16f, 0.125f);
    return scale;
}

/* -- The transform -------------------------------------------------------------------------- */

/* Sylvester's matrix, times a sign for each channel before it and a factor after it. */
INLINE void plain_hadamard(float *x, const float *signs, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] *= signs[i];
    for (int64_t half = 1; half < n; half *= 2)
        for (int64_t start = 0; start < n; start += 2 * half)
            for (int64_t i = start; i < start + half; i++) {
                float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

#if __has_builtin(__builtin_shufflevector)
typedef float Eight __attribute__((vector_size(32)));

/* The same sums in the same order, eight channels at a time: the first three steps lie within
 * vectors, the others between them. Unrolled where the compiler knows the length. */
INLINE void wide_hadamard(float *x, const float *signs, float factor, int64_t n) {
    const Eight one = {1, -1, 1, -1, 1, -1, 1, -1}, two = {1, 1, -1, -1, 1, 1, -1, -1},
                four = {1, 1, 1, 1, -1, -1, -1, -1};
    Eight v[32];
    for (int64_t i = 0; i < n / 8; i++) {
        Eight w, sign;
        memcpy(&w, x + 8 * i, sizeof w);
        memcpy(&sign, signs + 8 * i, sizeof sign);
        w *= sign;
        w = __builtin_shufflevector(w, w, 1, 0, 3, 2, 5, 4, 7, 6) + w * one;
        w = __builtin_shufflevector(w, w, 2, 3, 0, 1, 6, 7, 4, 5) + w * two;
        v[i] = __builtin_shufflevector(w, w, 4, 5, 6, 7, 0, 1, 2, 3) + w * four;
    }
    for (int64_t half = 1; half < n / 8; half *= 2)
        for (int64_t start = 0; start < n / 8; start += 2 * half)
            for (int64_t i = start; i < start + half; i++) {
                Eight a = v[i], b = v[i + half];
                v[i] = a + b;
                v[i + half] = a - b;
            }
    for (int64_t i = 0; i < n / 8; i++) {
        Eight w = v[i] * factor;
        memcpy(x + 8 * i, &w, sizeof w);
    }
}
#else
#define wide_hadamard plain_hadamard
#endif

static void hadamard(float *x, const float *signs, float factor, int64_t n) {
    switch (n) {
    case 16: wide_hadamard(x, signs, factor, 16); break;
    case 32: wide_hadamard(x, signs, factor, 32); break;
    case 64: wide_hadamard(x, signs, factor, 64); break;
    case 128: wide_hadamard(x, signs, factor, 128); break;
    case 256: wide_hadamard(x, signs, factor, 256); break;
    default: plain_hadamard(x, signs, factor, n);
    }
}

/* -- The input pass ------------------------------------------------------------------------- */

static void load(const Pass *pass, const void *input, const float *factors, const float *shift,
                 const float *signs, int64_t row, float *x) {
    int64_t n = pass->channels;
    if (pass->input_dtype == BFLOAT16) {
        const uint16_t *from = (const uint16_t *)input + row * n;
        for (int64_t i = 0; i < n; i++) x[i] = widen(from[i]);
    } else {
        memcpy(x, (const float *)input + row * n, n * sizeof(float));
    }
    if (factors) for (int64_t i = 0; i < n; i++) x[i] *= factors[i];
    if (shift) for (int64_t i = 0; i < n; i++) x[i] -= shift[i];
    if (pass->transform == 1) return;
    for (int64_t start = 0; start < n; start += pass->transform)
        hadamard(x + start, signs, pass->normaliser, pass->transform);
}

static void write_out(const Pass *pass, const float *levels, const float *multiplier, int64_t n,
                      void *output, int64_t start) {
    float below = multiplier[0], above = multiplier[1];
    if (pass->output_dtype == FLOAT32) {
        float *out = (float *)output + start;
        for (int64_t i = 0; i < n; i++)
            out[i] = levels[i] * (bits_of(levels[i]) < 0 ? below : above);
    } else if (pass->output_dtype == BFLOAT16) {
        uint16_t *out = (uint16_t *)output + start;
        for (int64_t i = 0; i < n; i++)
            out[i] = to_bfloat16(levels[i] * (bits_of(levels[i]) < 0 ? below : above));
    } else {
        int8_t *out = (int8_t *)output + start;
        float inverse = 1 / pass->quantum; /* exact: a power of two */
        for (int64_t i = 0; i < n; i++) out[i] = (int8_t)(int32_t)(levels[i] * inverse);
    }
}

/* One row (a token). Scales are chosen here, or given: then `given` holds the divisors below and
 * above zero and then the multipliers, four numbers for each group. */
static int do_row(const Pass *pass, float *x, const float *given, float *scales, void *output,
                  int64_t row) {
    int bad = 0;
    for (int64_t start = 0; start < pass->channels; start += pass->group) {
        int64_t index = (row * pass->channels + start) / pass->group;
        float divisor[2], multiplier[2];
        int32_t amax[2];
        group_amax(x + start, pass->group, pass->halves, amax);
        bad |= amax[0] >= INFINITY_BITS || amax[1] >= INFINITY_BITS;
        for (int side = 0; side < 2; side++) {
            const float *known = given ? given + 4 * index + side : 0;
            float chosen = known ? 0 : choose_scale(of_bits(amax[side]), pass->half + side, pass);
            divisor[side] = known ? known[0] : chosen;
            multiplier[side] = known ? known[2] : chosen;
            divisor[side] = divisor[side] > 0 ? divisor[side] : 1;
        }
        if (scales) {
            scales[2 * index] = multiplier[0];
            scales[2 * index + 1] = multiplier[1];
        }
        round_group(x + start, pass->group, pass, divisor);
        write_out(pass, x + start, multiplier, pass->group, output, row * pass->channels + start);
    }
    return bad;
}

/* Quantize `rows` rows; 1 where an element is not finite, -1 where memory is short. `factors`,
 * `shift`, `signs`, `given` and `scales` (the multipliers that were used, two a group) may be null.
 */
int quantize_rows(const Pass *pass, const void *input, const float *factors, const float *shift,
                  const float *signs, const float *given, float *scales, void *output) {
    int bad = 0, failed = 0;
#pragma omp parallel if (pass->rows * pass->channels > 32768) reduction(| : bad, failed)
    {
        float *x = malloc(pass->channels * sizeof(float));
        failed |= !x;
#pragma omp for schedule(static)
        for (int64_t row = 0; row < pass->rows; row++) {
            if (!x) continue;
            load(pass, input, factors, shift, signs, row, x);
            bad |= do_row(pass, x, given, scales, output, row);
        }
        free(x);
    }
    return failed ? -1 : bad;
}

/* The amax of each group below and above zero, (rows * channels / group, 2). */
int find_amax(const Pass *pass, const void *input, const float *factors, const float *shift,
              const float *signs, float *amax) {
    int failed = 0;
#pragma omp parallel if (pass->rows * pass->channels > 32768) reduction(| : failed)
    {
        float *x = malloc(pass->channels * sizeof(float));
        failed |= !x;
#pragma omp for schedule(static)
        for (int64_t row = 0; row < pass->rows; row++) {
            if (!x) continue;
            load(pass, input, factors, shift, signs, row, x);
            for (int64_t start = 0; start < pass->channels; start += pass->group) {
                int64_t index = (row * pass->channels + start) / pass->group;
                int32_t bits[2];
                group_amax(x + start, pass->group, pass->halves, bits);
                amax[2 * index] = of_bits(bits[0]);
                amax[2 * index + 1] = of_bits(bits[1]);
            }
        }
        free(x);
    }
    return failed ? -1 : 0;
}
