// An activation function and the quantization of its result, in one pass where the scale allows.
#include "entries.cuh"

namespace {

enum Function { GELU, GELU_TANH, SILU, SILU_MUL, RELU };

// What is rounded to 16 bits anyway needs no last ulp.
__device__ __forceinline__ float sigmoid_of(float x, float numerator) {
#if NVFP4_T == 2
  return nvfp4::divide(numerator, 1.0f + expf(-x));
#else
  return nvfp4::fast_quotient(numerator, 1.0f + nvfp4::fast_exponential(-x));
#endif
}

__device__ __forceinline__ float silu(float x) { return sigmoid_of(x, x); }

__device__ __forceinline__ float activate(float x, int function) {
  switch (function) {
    case GELU:
      return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case GELU_TANH:  // x / 2 * (1 + tanh(u)) is x * sigmoid(2u)
      return sigmoid_of(1.5957691216057308f * (x + 0.044715f * x * x * x), x);
    case RELU:
      return x < 0.0f ? 0.0f : x;  // and NaN stays
    default:
      return silu(x);
  }
}

struct Activated {
  static constexpr int UNROLL = 1;
  static constexpr int LARGE_THREADS = 512, LARGE_HOLD = 1;
  static constexpr int SHORT_RESIDENT = 1, LONG_RESIDENT = 2, KNOWN_RESIDENT = 2;
  static __device__ __forceinline__ nvfp4::Raw load(const nvfp4::Args& args, const nvfp4::Place& place) {
    float value[nvfp4::BLOCK];
    nvfp4::widen_block(nvfp4::load_block(place.x), value);
    if (args.function == SILU_MUL) {
      float factor[nvfp4::BLOCK];
      nvfp4::widen_block(nvfp4::load_block(nvfp4::block_of(args.other, place.r, place.k, args.other_stride)), factor);
#pragma unroll
      for (int i = 0; i < nvfp4::BLOCK; ++i) value[i] = silu(value[i]) * factor[i];
    } else {
#pragma unroll
      for (int i = 0; i < nvfp4::BLOCK; ++i) value[i] = activate(value[i], args.function);
    }
    const nvfp4::Raw raw = nvfp4::narrow_block(value);
    if (args.values != nullptr) nvfp4::store_block(nvfp4::block_of(args.values, place.r, place.k, args.K), raw);
    return raw;
  }
};

}  // namespace

NVFP4_ENTRIES(Activated)
