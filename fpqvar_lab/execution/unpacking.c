/* Weights unpacked by table look-up: packed codes and scales become float32 or bfloat16 values. */

#include "kernels.h"

/* -- Unpacking ------------------------------------------------------------------------------ */

/* The value of each code of a group: the lower half of the codes are not negative. */
INLINE void fill_table(float *table, const float *levels, int codes, const float *scale) {
    for (int code = 0; code < codes / 2; code++) table[code] = levels[code] * scale[1];
    for (int code = codes / 2; code < codes; code++) table[code] = levels[code] * scale[0];
}

#if defined(__GNUC__) && !defined(__clang__)
typedef uint8_t Bytes __attribute__((vector_size(16)));

/* 16 bytes, 32 codes, at a time: the two bytes of a value are looked up apart, then interleaved. */
INLINE int64_t unpack_by_shuffle(const uint8_t *packed, const float *table, int64_t n,
                                 uint16_t *out) {
    Bytes low, high;
    for (int code = 0; code < 16; code++) {
        uint16_t value = to_bfloat16(table[code]);
        low[code] = (uint8_t)value;
        high[code] = (uint8_t)(value >> 8);
    }
    const Bytes first = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23},
                second = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        Bytes pairs;
        memcpy(&pairs, packed + i / 2, 16);
        Bytes even = pairs & 15, odd = pairs >> 4;
        Bytes codes[2] = {__builtin_shuffle(even, odd, first), __builtin_shuffle(even, odd, second)};
        for (int part = 0; part < 2; part++) {
            Bytes below = __builtin_shuffle(low, codes[part]), above = __builtin_shuffle(high, codes[part]);
            Bytes result[2] = {__builtin_shuffle(below, above, first), __builtin_shuffle(below, above, second)};
            memcpy(out + i + 16 * part, result, 32);
        }
    }
    return i;
}

typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Integers __attribute__((vector_size(32)));

INLINE int64_t look_up_by_shuffle(const uint8_t *packed, const float *table, int64_t n, float *out) {
    Floats above, below;
    memcpy(&above, table, 32);
    memcpy(&below, table + 8, 32);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint32_t word;
        memcpy(&word, packed + i / 2, 4);
        Integers codes = {0, 4, 8, 12, 16, 20, 24, 28};
        codes = ((Integers){} + (int32_t)word) >> codes & 15;
        Floats values = __builtin_shuffle(above, below, codes);
        memcpy(out + i, &values, 32);
    }
    return i;
}
#else
#define unpack_by_shuffle(packed, table, n, out) 0
#define look_up_by_shuffle(packed, table, n, out) 0
#endif

INLINE int code_at(const uint8_t *packed, int64_t index, int bits) {
    int64_t position = index * bits, byte = position >> 3;
    int shift = position & 7;
    int word = packed[byte];
    if (shift + bits > 8) word |= packed[byte + 1] << 8;
    return word >> shift & ((1 << bits) - 1);
}

static void unpack_group(const uint8_t *packed, int64_t first, int64_t n, int bits,
                         const float *table, int dtype, void *output) {
    int64_t i = 0;
    if (dtype == FLOAT32) {
        float *out = (float *)output + first;
        if (bits == 4 && first % 2 == 0) i = look_up_by_shuffle(packed + first / 2, table, n, out);
        for (; i < n; i++) out[i] = table[code_at(packed, first + i, bits)];
        return;
    }
    uint16_t *out = (uint16_t *)output + first;
    if (bits == 4 && first % 2 == 0) i = unpack_by_shuffle(packed + first / 2, table, n, out);
    for (; i < n; i++) out[i] = to_bfloat16(table[code_at(packed, first + i, bits)]);
}

/* Groups of `n` codes, packed side by side from a byte's lowest bit on, times the groups' scales
 * (two each, below and above zero), as float32 or bfloat16. */
void unpack_groups(const uint8_t *packed, int64_t groups, int64_t n, int32_t bits,
                   const float *levels, const float *scales, int32_t dtype, void *output) {
#pragma omp parallel for schedule(static) if (groups * n > 32768)
    for (int64_t group = 0; group < groups; group++) {
        float table[256];
        fill_table(table, levels, 1 << bits, scales + 2 * group);
        unpack_group(packed, group * n, n, bits, table, dtype, output);
    }
}
