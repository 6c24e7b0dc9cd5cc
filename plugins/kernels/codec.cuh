// NVFP4's arithmetic for one block of 16: from its largest magnitude to a block scale and eight bytes of codes.
//
// The order of operations is that of `nvfp4_trt.format` under the rule `spec` (with `floor`, `torchao`):
//   s_t = amax / 2688, or 1 where that is below 2^-117;   s_b = e4m3((amax_b / 6) / s_t);
//   code = e2m1(x * ((1 / s_t) / s_b)).
// A block with NaN has the scale NaN and codes 0; infinity counts as the largest fp32.
#pragma once

#include "device.cuh"

namespace nvfp4 {

struct Scale {
  float value, inverse;  // s_t and 1 / s_t
};

struct Coded {
  uint32_t low, high;  // the codes of elements 0..7 and 8..15, the first in the lowest nibble
  uint32_t scale;      // the e4m3 byte
};

__device__ __forceinline__ Scale scale_from(float value) { return Scale{value, divide(1.0f, value)}; }

__device__ __forceinline__ Scale scale_from_amax(float amax) {
  const float quotient = divide(amax, 2688.0f);
  return scale_from(quotient < 6.018531076210112e-36f ? 1.0f : quotient);
}

// The largest magnitude of a block that holds NaN or infinity: they count as 0 and as the largest fp32.
__device__ __forceinline__ float finite_amax(const Raw& raw, uint32_t bits) {
  if (bits < INFINITY_BITS) return float_of(bits);
  float value[BLOCK], amax = 0.0f;
  widen_block(raw, value);
#pragma unroll
  for (int i = 0; i < BLOCK; ++i) {
    const uint32_t magnitude = bits_of(value[i]) & 0x7FFFFFFFu;
    amax = larger(amax, magnitude > INFINITY_BITS ? 0.0f : smaller(float_of(magnitude), FLOAT_MAX));
  }
  return amax;
}

// a / b, correctly rounded, where `inverse` is 1 / b correctly rounded and nothing comes near the ends of
// fp32's range (Markstein's last step of a division).
__device__ __forceinline__ float divide_with(float a, float b, float inverse) {
  const float quotient = a * inverse;
  return fused(fused(-b, quotient, a), inverse, quotient);
}

// 1 / b, correctly rounded, for an e4m3 number.
__device__ __forceinline__ float inverse_of_e4m3(float b) {
  const float guess = approximate_inverse(b);
  return fused(guess, fused(-b, guess, 1.0f), guess);
}

// From here down a residue of `divide_with` could fall below fp32's smallest number.
constexpr float TINY = 1.2621774483536189e-29f;   // 2^-96
constexpr float EXTREME = 1.2676506002282294e30f;  // 2^100

struct BlockScale {
  uint32_t byte;
  float factor;  // (1 / s_t) / s_b; of no use where the byte is 0
};

__device__ __forceinline__ BlockScale block_scale(float amax, Scale scale, float floor) {
  const bool ordinary = (amax == 0.0f || amax >= TINY) && scale.value < EXTREME && scale.inverse < EXTREME;
  BlockScale result;
  if (ordinary) {
    const float sixth = divide_with(amax, 6.0f, 0.16666667163372040f);
    // An overflow becomes NaN here and then 1024, which saturates as infinity would.
    const float wanted = larger(smaller(divide_with(sixth, scale.value, scale.inverse), 1024.0f), floor);
    result.byte = e4m3_of(wanted);
    const float value = value_of_e4m3(result.byte);
    result.factor = divide_with(scale.inverse, value, inverse_of_e4m3(value));
  } else {
    result.byte = e4m3_of(larger(divide(divide(amax, 6.0f), scale.value), floor));
    result.factor = divide(scale.inverse, value_of_e4m3(result.byte));
  }
  return result;
}

#ifdef NVFP4_NATIVE_E2M1

// The codes of half a block, in units of 1 / factor.
__device__ __forceinline__ uint32_t encode_eight(const float* value, const uint32_t*, float factor) {
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    codes |= e2m1_pair(value[2 * i] * factor, value[2 * i + 1] * factor) << (8 * i);
  }
  return codes;
}

#else

// 1.5 * 2^23: a float near it has an ulp of 1, so that adding to it rounds to an integer (ties to even).
constexpr float ROUNDER = 12582912.0f;

// ROUNDER plus the code of |y|. The code is 4a + 2b + c, each term rounded, where a, b and c are the parts of
// |y| / 2 in [0, 1], [1, 2] and [2, 3]: there e2m1 is spaced 1/4, 1/2 and 1 in units of 2. A later term
// is above 0 only where the earlier ones are full, which keeps ties even. Six fp32 instructions.
__device__ __forceinline__ uint32_t rounded(float y) {
  const float a = product_in_unit(y, 0.5f);
  const float b = fused_in_unit(y, 0.5f, -1.0f);
  const float c = fused_in_unit(y, 0.5f, -2.0f);
  return bits_of(fused(b, 2.0f, fused(a, 4.0f, ROUNDER)) + c);
}

// The sign bits of eight elements as they lie in memory, each where its nibble's highest bit is.
__device__ __forceinline__ uint32_t signs_of(const uint32_t* word) {
#if NVFP4_T == 2
  const uint32_t even = bytes_of(bytes_of(word[0], word[2], 0x0073), bytes_of(word[4], word[6], 0x0073), 0x5410);
  const uint32_t odd = bytes_of(bytes_of(word[1], word[3], 0x0073), bytes_of(word[5], word[7], 0x0073), 0x5410);
#else
  const uint32_t first = bytes_of(word[0], word[1], 0x7351), second = bytes_of(word[2], word[3], 0x7351);
  const uint32_t even = bytes_of(first, second, 0x5410), odd = bytes_of(first, second, 0x7632);
#endif
  return (odd & 0x80808080u) | (even >> 4 & 0x08080808u);
}

// The codes of half a block, in units of 1 / factor.
__device__ __forceinline__ uint32_t encode_eight(const float* value, const uint32_t* word, float factor) {
  uint32_t codes = 0;
#pragma unroll
  for (int i = 7; i >= 0; --i) codes = codes * 16u + rounded(value[i] * factor);
  // Eight times ROUNDER's bits (0x4B400000), shifted nibble by nibble, came along.
  return (codes - 0x4B400000u * 0x11111111u) | signs_of(word);
}

#endif

// Quantizes a block, given `magnitude_bits` of it.
//
// Infinity needs no clamping: its code is 7, and so is that of the largest fp32 in a block whose amax it is.
__device__ __forceinline__ Coded encode(const Raw& raw, uint32_t bits, Scale scale, float floor) {
  float value[BLOCK];
  widen_block(raw, value);
  const BlockScale block = block_scale(smaller(float_of(bits), FLOAT_MAX), scale, floor);
  const bool poisoned = bits > INFINITY_BITS, blank = poisoned || block.byte == 0;
  const uint32_t low = encode_eight(value, raw.word, block.factor),
                 high = encode_eight(value + 8, raw.word + WORDS / 2, block.factor);
  return Coded{blank ? 0 : low, blank ? 0 : high, poisoned ? 0x7Fu : block.byte};
}

// The values of a block: e2m1 * s_b * s_t, in this order, in fp32, rounded once to the dtype.
__device__ __forceinline__ Raw decode(const Coded& coded, float scale) {
  float value[BLOCK];
  const float block_scale = (coded.scale & 0x7Fu) == 0x7Fu ? float_of(0x7FC00000u) : value_of_e4m3(coded.scale);
#pragma unroll
  for (int i = 0; i < BLOCK; ++i) {
    const uint32_t code = ((i < 8 ? coded.low : coded.high) >> (4 * (i % 8))) & 0xFu;
    // The three bits of the magnitude are the low end of fp16's exponent and the high end of its mantissa.
    const float magnitude = half_bits_to_float(static_cast<uint16_t>((code & 7u) << 9)) * 16384.0f;
    const float e2m1 = float_of(bits_of(magnitude) | (code & 8u) << 28);
    value[i] = (e2m1 * block_scale) * scale;
  }
  return narrow_block(value);
}

}  // namespace nvfp4
