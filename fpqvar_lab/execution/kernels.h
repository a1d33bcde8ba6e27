/* What the kernels share: dtypes, the bits of numbers. Compile without -ffast-math and with
 * -ffp-contract=off: every operation is then the IEEE one that PyTorch does.
 */

#pragma once

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __has_builtin
#define __has_builtin(name) 0
#endif

#define INLINE static inline __attribute__((always_inline))

enum { INFINITY_BITS = 0x7F800000, EXPONENT = 0x7F800000, MAGNITUDE = 0x7FFFFFFF };
enum { FLOAT32, BFLOAT16, INT8 };           /* dtypes of inputs and results */

INLINE int32_t bits_of(float x) { int32_t bits; memcpy(&bits, &x, 4); return bits; }
INLINE float of_bits(int32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
INLINE float widen(uint16_t x) { return of_bits((int32_t)((uint32_t)x << 16)); }

INLINE uint16_t to_bfloat16(float x) { /* ties to even; finite numbers */
    uint32_t bits = (uint32_t)bits_of(x);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
