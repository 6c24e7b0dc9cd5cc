// What the kernels take from the machine: conversions, packed maxima, memory accesses, warp operations.
//
// Each has a body for the GPU and one for a CPU. A test compiles the same kernels as C++ (with
// NVFP4_ON_CPU, and a header that stands in for threads) and holds them to the format bit by bit.
#pragma once

#ifndef NVFP4_ON_CPU
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
using int32_t = int;
using int64_t = long long;
#endif

// The dtype of a compilation: 0 fp16, 1 bf16, 2 fp32.
#ifndef NVFP4_T
#error "NVFP4_T names the dtype: 0 fp16, 1 bf16, 2 fp32"
#endif

// The conversion to e2m1 exists on Blackwell, where it is compiled for one architecture (the names with an `a`).
#if defined(__CUDA_ARCH_SPECIFIC__) && __CUDA_ARCH__ >= 1000
#define NVFP4_NATIVE_E2M1
#endif

namespace nvfp4 {

constexpr int BLOCK = 16;                                        // elements that share a block scale
constexpr int ELEMENT_BYTES = NVFP4_T == 2 ? 4 : 2;
constexpr int WORDS = BLOCK * ELEMENT_BYTES / 4;                 // 32-bit words of a block
constexpr float FLOAT_MAX = 3.4028234663852886e38f;
constexpr uint32_t INFINITY_BITS = 0x7F800000u;

// One block as it lies in memory.
struct Raw {
  uint32_t word[WORDS];
};

#ifndef NVFP4_ON_CPU

// The four bytes of a and b (0 to 3 are a's, 4 to 7 are b's) that the nibbles of `which` name, the first lowest.
__device__ __forceinline__ uint32_t bytes_of(uint32_t a, uint32_t b, uint32_t which) { return __byte_perm(a, b, which); }

struct alignas(16) Quad {
  uint32_t x, y, z, w;
};

__device__ __forceinline__ uint32_t bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ float float_of(uint32_t x) { return __uint_as_float(x); }
__device__ __forceinline__ float divide(float a, float b) { return __fdiv_rn(a, b); }
__device__ __forceinline__ float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

__device__ __forceinline__ float approximate_inverse(float x) {  // within an ulp; x is no subnormal
  float d;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
  return d;
}

// |a| * b and |a| * b + c, clamped to [0, 1]; NaN becomes 0. One instruction each.
__device__ __forceinline__ float product_in_unit(float a, float b) { return __saturatef(__fmul_rn(fabsf(a), b)); }
__device__ __forceinline__ float fused_in_unit(float a, float b, float c) {
  return __saturatef(__fmaf_rn(fabsf(a), b, c));
}

// The e4m3 byte of a number that is not NaN: to nearest even, saturating at 448.
__device__ __forceinline__ uint32_t e4m3_of(float x) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(x));
  return pair;
}
__device__ __forceinline__ float half_bits_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ __forceinline__ float value_of_e4m3(uint32_t byte) {
  uint32_t pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<uint16_t>(byte)));
  return half_bits_to_float(static_cast<uint16_t>(pair));
}

// e^x within 2 ulp, and a / b within 2 ulp (0 where b is above 2^126, as it is where e^-x has overflowed).
__device__ __forceinline__ float fast_exponential(float x) { return __expf(x); }
__device__ __forceinline__ float fast_quotient(float a, float b) { return __fdividef(a, b); }

// Two numbers rounded to the 16-bit dtype, the first in the low half.
__device__ __forceinline__ uint32_t narrow_pair(float low, float high) {
  uint32_t pair;
#if NVFP4_T == 0
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#endif
  return pair;
}
__device__ __forceinline__ float widen(uint32_t bits) {  // the low 16 bits
#if NVFP4_T == 0
  return half_bits_to_float(static_cast<uint16_t>(bits));
#else
  return float_of(bits << 16);
#endif
}
__device__ __forceinline__ float widen_high(uint32_t pair) {
#if NVFP4_T == 0
  return half_bits_to_float(static_cast<uint16_t>(pair >> 16));
#else
  return float_of(pair & 0xFFFF0000u);
#endif
}
// The larger magnitude, half by half; the signs are whatever they come out as, NaN wins.
__device__ __forceinline__ uint32_t larger_pair(uint32_t a, uint32_t b) {
  uint32_t d;
#if NVFP4_T == 0
  asm("max.NaN.xorsign.abs.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
#else
  asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
#endif
  return d;
}

#ifdef NVFP4_NATIVE_E2M1
// Two e2m1 codes, the first in the low nibble.
__device__ __forceinline__ uint32_t e2m1_pair(float low, float high) {
  uint32_t byte;
  asm("{ .reg .b8 codes; cvt.rn.satfinite.e2m1x2.f32 codes, %1, %2; cvt.u32.u8 %0, codes; }"
      : "=r"(byte) : "f"(high), "f"(low));
  return byte;
}
#endif

// An intrinsic and no `asm`: the compiler may move an `asm` without side effects before the test of its pointer.
__device__ __forceinline__ Quad load_quad(const void* p) {
  const uint4 q = __ldg(static_cast<const uint4*>(p));
  return Quad{q.x, q.y, q.z, q.w};
}
__device__ __forceinline__ void store_quad(void* p, Quad q) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(q.x), "r"(q.y), "r"(q.z), "r"(q.w) : "memory");
}
// Codes are read by a later kernel: they need not stay near this one.
__device__ __forceinline__ void store_codes(uint8_t* p, uint32_t low, uint32_t high) {
  asm volatile("st.global.cs.v2.u32 [%0], {%1, %2};" ::"l"(p), "r"(low), "r"(high) : "memory");
}
__device__ __forceinline__ void store_word(uint8_t* p, uint32_t word) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(p), "r"(word) : "memory");
}

__device__ __forceinline__ uint64_t load_published(const uint64_t* p) {
  uint64_t v;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void store_published(uint64_t* p, uint64_t v) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}

// The largest of a number that each lane of a whole warp brings.
__device__ __forceinline__ uint32_t warp_max(uint32_t value) { return __reduce_max_sync(0xFFFFFFFFu, value); }
__device__ __forceinline__ uint32_t lane_xor(uint32_t value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}
__device__ __forceinline__ bool warp_any(bool value) { return __any_sync(0xFFFFFFFFu, value); }
__device__ __forceinline__ float lane_xor(float value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, mask);
}

#endif  // NVFP4_ON_CPU

__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ int larger_of(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ float smaller(float a, float b) { return fminf(a, b); }  // of a number and NaN, the number
__device__ __forceinline__ uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

__device__ __forceinline__ Raw load_block(const uint8_t* p) {
  Raw raw;
#pragma unroll
  for (int i = 0; i < WORDS / 4; ++i) {
    const Quad q = load_quad(p + 16 * i);
    raw.word[4 * i] = q.x, raw.word[4 * i + 1] = q.y, raw.word[4 * i + 2] = q.z, raw.word[4 * i + 3] = q.w;
  }
  return raw;
}

__device__ __forceinline__ void store_block(uint8_t* p, const Raw& raw) {
#pragma unroll
  for (int i = 0; i < WORDS / 4; ++i) {
    store_quad(p + 16 * i, Quad{raw.word[4 * i], raw.word[4 * i + 1], raw.word[4 * i + 2], raw.word[4 * i + 3]});
  }
}

__device__ __forceinline__ void widen_block(const Raw& raw, float (&value)[BLOCK]) {
#pragma unroll
  for (int i = 0; i < WORDS; ++i) {
#if NVFP4_T == 2
    value[i] = float_of(raw.word[i]);
#else
    value[2 * i] = widen(raw.word[i]);
    value[2 * i + 1] = widen_high(raw.word[i]);
#endif
  }
}

__device__ __forceinline__ Raw narrow_block(const float (&value)[BLOCK]) {
  Raw raw;
#pragma unroll
  for (int i = 0; i < WORDS; ++i) {
#if NVFP4_T == 2
    raw.word[i] = bits_of(value[i]);
#else
    raw.word[i] = narrow_pair(value[2 * i], value[2 * i + 1]);
#endif
  }
  return raw;
}

// The bits of the largest magnitude in fp32; INFINITY_BITS or more where the block holds infinity or NaN.
__device__ __forceinline__ uint32_t magnitude_bits(const Raw& raw) {
#if NVFP4_T == 2
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < WORDS; ++i) {
    largest = larger(largest, raw.word[i] & 0x7FFFFFFFu);
  }
  return largest;
#else
  uint32_t pair = raw.word[0];
#pragma unroll
  for (int i = 1; i < WORDS; ++i) pair = larger_pair(pair, raw.word[i]);
  pair = larger_pair(pair, pair >> 16);
  return bits_of(widen(pair & 0x7FFFu));
#endif
}

}  // namespace nvfp4
